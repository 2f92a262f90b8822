"use strict";
/* The picture of what an embedding is, with the real numbers of an id: a vector of zeros with a single one, times the
 * weights, is one of their rows. */
(function (hotrow) {
  const { svg, decimal, whole, readable } = hotrow;
  const [WIDE, LINE, TOP] = [340, 24, 24];
  const [NAMES, ONE, SIGN, CELLS] = [112, 120, 158, 170];
  const SHOWN = 4;
  const CELL = (WIDE - CELLS - 14) / SHOWN;

  const word = (x, y, text, kind, anchor = "middle") => svg("text", { x, y, class: kind, "text-anchor": anchor }, text);

  /** A cell: blue for what is positive, orange for what is negative, the stronger the farther from 0. */
  function cell(x, y, width, height, value, most, kind = "") {
    return svg("rect", {
      x, y, width, height,
      class: `cell ${value < 0 ? "minus" : "plus"} ${kind}`,
      "fill-opacity": (0.75 * Math.min(1, Math.abs(value) / most)).toFixed(3),
    });
  }

  /** The whole picture of an answer of /v1/explain. */
  function oneHot(told) {
    const { shown, vector } = told;
    const most = Math.max(1e-9, ...vector.map(Math.abs));
    const columns = Math.min(SHOWN, vector.length);
    const lines = linesOf(told);
    const foot = TOP + lines.length * LINE;
    const hot = lines.findIndex((line) => line && line.hot);
    const parts = [
      word(NAMES - 8, 14, "id", "faint", "end"),
      word(ONE + 13, 14, "one-hot", "faint"),
      word((CELLS + WIDE) / 2, 14, `weights: ${whole(told.rows)} rows`, "faint"),
    ];
    lines.forEach((line, i) => parts.push(...lineOf(line, TOP + i * LINE, shown, columns, told.dim, most)));
    parts.push(word(SIGN, TOP + hot * LINE + 17, "×", "sign"));
    parts.push(...resultOf(told, foot, columns, most));
    const label = `The one-hot vector of ${readable(told.id, 60)}, ${whole(told.rows)} numbers of which one is 1, times the weights is row ${whole(told.row)}: `
      + vector.slice(0, SHOWN).map((x) => decimal(x)).join(", ") + (told.dim > SHOWN ? ", …" : "");
    return svg("svg", { viewBox: `0 0 ${WIDE} ${foot + 104}`, class: "one-hot", role: "img", "aria-label": label }, ...parts);
  }

  /** The rows shown, with null where some are left out. */
  function linesOf({ shown, rows, row }) {
    const lines = [];
    shown.rows.forEach((one, i) => {
      const before = i ? shown.rows[i - 1] + 1 : 0;
      if (one !== before) lines.push(null);
      lines.push({ i, hot: one === row });
    });
    if (shown.rows.at(-1) !== rows - 1) lines.push(null);
    return lines;
  }

  function lineOf(line, y, shown, columns, dim, most) {
    if (!line) return [NAMES - 4, ONE + 13, (CELLS + WIDE) / 2].map((x, i) => word(x, y + 16, "⋮", "faint", i ? "middle" : "end"));
    const { i, hot } = line;
    const kind = hot ? "hot" : "";
    const parts = [
      word(NAMES, y + 16, readable(String(shown.ids[i]), 15), hot ? "strong" : "ink", "end"),
      svg("rect", { x: ONE, y, width: 26, height: LINE, class: hot ? "one" : "zero" }),
      word(ONE + 13, y + 16, hot ? "1" : "0", hot ? "white" : "faint"),
    ];
    for (let j = 0; j < columns; j++) parts.push(...numberOf(CELLS + j * CELL, y, shown.weights[i][j], most, kind));
    if (dim > columns) parts.push(word(WIDE - 6, y + 16, "⋯", "faint"));
    return parts;
  }

  function numberOf(x, y, value, most, kind) {
    return [cell(x, y, CELL, LINE, value, most, kind), word(x + CELL / 2, y + 16, decimal(value), kind ? "strong small" : "ink small")];
  }

  /** Below: the row that comes out, as numbers and, all of it, as colours. */
  function resultOf({ vector, dim }, foot, columns, most) {
    const y = foot + 22;
    const middle = CELLS + (columns * CELL) / 2;
    const parts = [
      svg("path", { d: `M${middle} ${foot + 4}V${y - 5}m-4 -5l4 5l4 -5`, class: "arrow" }),
      word(SIGN, y + 17, "=", "sign"),
      word(NAMES + 32, y + 16, "its vector", "strong", "end"),
    ];
    for (let j = 0; j < columns; j++) parts.push(...numberOf(CELLS + j * CELL, y, vector[j], most, "hot"));
    if (dim > columns) parts.push(word(WIDE - 6, y + 16, "⋯", "faint"));
    const width = WIDE / vector.length;
    vector.forEach((value, j) => parts.push(cell(j * width, y + 34, width, 18, value, most, "bare")));
    parts.push(svg("rect", { x: 0.5, y: y + 34, width: WIDE - 1, height: 18, class: "frame" }));
    const all = vector.length === dim ? `all ${dim} numbers of it` : `the first ${vector.length} of its ${dim} numbers`;
    parts.push(word(0, y + 70, `${all}: blue above 0, orange below`, "faint", "start"));
    return parts;
  }

  hotrow.oneHot = oneHot;
})(globalThis.hotrow);
