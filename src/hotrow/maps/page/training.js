"use strict";
/* What is known of the model: its sizes, its metrics beside popularity's with their intervals, the course of its training. */
(function (hotrow) {
  const { el, svg, whole } = hotrow;

  /** The pane of the model; `source.said` are sentences on what a file has left out. */
  function training(pane, info, source) {
    const report = info.report ?? {};
    const parts = [el("h2", {}, hotrow.named(info.name, 80)), el("dl", { class: "facts" }, ...facts(info, report))];
    for (const sentence of source.said ?? []) parts.push(el("p", { class: "note" }, sentence));
    const shown = metrics(report);
    if (shown) parts.push(el("h3", {}, "How good it is"), el("p", { class: "note" }, noteOf(report)), shown);
    const curves = courses(report.course ?? []);
    if (curves.length) parts.push(el("h3", {}, "How it was trained"), ...curves);
    if (!shown && !curves.length) parts.push(el("p", { class: "note" }, "No report was kept with this model."));
    if (!source.saved) parts.push(el("p", { class: "note foot" }, "For programs: ", el("a", { href: "docs" }, "what this server answers")));
    pane.replaceChildren(...parts);
  }

  function facts(info, report) {
    const pairs = info.sides.map((side) => [side.name, `${whole(side.rows)} ids × ${side.dim} numbers`]);
    if (report.data) pairs.push(["trained on", hotrow.readable(String(report.data), 200)]);
    if (report.rows?.training) pairs.push(["training rows", whole(report.rows.training)]);
    if (report.seconds) pairs.push(["training took", duration(report.seconds)]);
    return pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  }

  const duration = (s) => (s < 90 ? `${Math.round(s)} seconds` : s < 5400 ? `${Math.round(s / 60)} minutes` : `${(s / 3600).toFixed(1)} hours`);

  const noteOf = (report) =>
    "On held-out data." + (report.popularity ? " The grey bar is what mere popularity reaches." : "")
    + (report.intervals ? " Thin lines are 95 % intervals." : "");

  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const digits = (x) => (Math.abs(x) >= 100 ? whole(x) : x.toFixed(3).replace("-", "\u2212"));

  /** A line a metric; those that aren't shares of 1 are numbers without a bar. */
  function metrics(report) {
    const names = Object.keys(report.model ?? {}).filter((name) => isNumber(report.model[name]));
    if (!names.length) return null;
    const rows = names.map((name) => {
      const value = report.model[name];
      const beside = report.popularity?.[name];
      const bar = value >= 0 && value <= 1 ? barOf(value, beside, report.intervals?.model?.[name]) : "";
      return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, bar), el("td", { class: "number" }, digits(value)),
        el("td", { class: "number faint" }, isNumber(beside) ? digits(beside) : ""));
    });
    const head = el("tr", {}, el("th", { scope: "col" }, "metric"), el("td"), el("th", { scope: "col", class: "number" }, "model"),
      el("th", { scope: "col", class: "number" }, report.popularity ? "popularity" : ""));
    return el("table", { class: "metrics" }, el("thead", {}, head), el("tbody", {}, ...rows));
  }

  function barOf(value, beside, interval) {
    const parts = [
      svg("rect", { x: 0, y: 1, width: 100 * value, height: 8, class: "model" }),
      isNumber(beside) && svg("rect", { x: 0, y: 11, width: 100 * Math.max(0, Math.min(1, beside)), height: 4, class: "beside" }),
      Array.isArray(interval) && svg("path", { d: `M${100 * interval[0]} 5H${100 * interval[1]}`, class: "interval" }),
    ];
    return svg("svg", { viewBox: "0 0 100 16", class: "bar", preserveAspectRatio: "none", "aria-hidden": "true" }, ...parts.filter(Boolean));
  }

  /** A small chart for each number that was told on the way. */
  function courses(course) {
    const names = [...new Set(course.flatMap(Object.keys))].filter((name) => !["done", "epoch", "step", "total"].includes(name));
    return names.map((name) => curve(name, course.filter((one) => isNumber(one[name])))).filter(Boolean);
  }

  function curve(name, course) {
    if (course.length < 2) return null;
    const xs = course.map((one, i) => one.done ?? one.epoch ?? i);
    const ys = course.map((one) => one[name]);
    const [left, right] = [Math.min(...xs), Math.max(...xs)];
    const [bottom, top] = [Math.min(...ys), Math.max(...ys)];
    const at = (x, y) => [42 + (290 * (x - left)) / (right - left || 1), 78 - (66 * (y - bottom)) / (top - bottom || 1)];
    const path = xs.map((x, i) => at(x, ys[i]).map((v) => v.toFixed(1)).join(" ")).join("L");
    const epochs = course.at(-1).epoch;
    const [endX, endY] = at(xs.at(-1), ys.at(-1));
    return el("figure", {}, el("figcaption", {}, name.replaceAll("_", " ")),
      svg("svg", { viewBox: "0 0 340 98", class: "curve", role: "img", "aria-label": `${name}: from ${digits(ys[0])} to ${digits(ys.at(-1))}` },
        svg("path", { d: "M42 12H332M42 78H332", class: "grid" }),
        svg("path", { d: `M${path}`, class: "line" }),
        svg("circle", { cx: endX, cy: endY, r: 3, class: "end" }),
        svg("text", { x: 36, y: 16, "text-anchor": "end", class: "faint" }, digits(top)),
        svg("text", { x: 36, y: 82, "text-anchor": "end", class: "faint" }, digits(bottom)),
        svg("text", { x: 42, y: 94, class: "faint" }, "begin"),
        svg("text", { x: 332, y: 94, "text-anchor": "end", class: "faint" }, isNumber(epochs) ? `epoch ${whole(epochs)}` : "end")));
  }

  hotrow.training = training;
})(globalThis.hotrow);
