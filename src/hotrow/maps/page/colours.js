"use strict";
/* Which points have which colour: groups of points, each with a name, a count and a colour for light and for dark.
 *
 * The first eight colours are those of Okabe and Ito, made for people who see fewer of them; twenty can't all be told apart by
 * anybody, so each group can also be shown alone. Numbers are in sixteen steps of cividis, which has the same property. */
(function (hotrow) {
  const LIGHT = [
    "#0072b2", "#d55e00", "#009e73", "#b5579a", "#3f9fdc", "#b87f00", "#332288", "#7a7a12", "#882255", "#2f9c8c",
    "#aa4499", "#117733", "#e0653a", "#5b7fc7", "#9a6324", "#6a3d9a", "#4c8c2b", "#c2405f", "#2a6f97",
  ];
  const DARK = [
    "#4aa8ea", "#ff8a3d", "#2cc99a", "#e39ccb", "#8fd0ff", "#f2b83b", "#a091ff", "#cfcf4a", "#ea7fae", "#63d6c4",
    "#d98ad0", "#62c27c", "#ffa98a", "#9ab4f2", "#d3a06b", "#b99be8", "#a3d977", "#ff8fa6", "#7cc0de",
  ];
  const OTHER = { light: "#9aa2ab", dark: "#69727c" };
  const ONE = { light: "#3b6ea5", dark: "#7fb2e5" };
  const CIVIDIS = [
    "#00224e", "#01306a", "#213d6b", "#35486c", "#45546d", "#545f6f", "#626a72", "#707676", "#7e8278", "#8d8e78",
    "#9d9b75", "#aea871", "#c0b66a", "#d2c460", "#e4d353", "#fde737",
  ];
  const MOST = LIGHT.length;
  const STEPS = CIVIDIS.length;

  /** One group for all: {kind, groups: [{name, count, colour: {light, dark}}], of: the group of each point}. */
  function all(n) {
    return { kind: "all", groups: [{ name: "", count: n, colour: ONE }], of: new Uint8Array(n) };
  }

  /** A category: the most frequent values have a colour each, the rest is "other", and what has none is grey too. */
  function category(values, codes) {
    const counts = new Float64Array(values.length);
    let none = 0;
    for (const code of codes) {
      if (code < 0) none++;
      else counts[code]++;
    }
    const order = Array.from(counts.keys()).filter((code) => counts[code] > 0);
    order.sort((a, b) => counts[b] - counts[a] || a - b);
    const shown = order.slice(0, order.length === MOST + 1 ? MOST + 1 : MOST);
    const rest = order.slice(shown.length);
    const groups = shown.map((code, i) => ({
      name: values[code],
      count: counts[code],
      colour: { light: LIGHT[i % MOST], dark: DARK[i % MOST] },
    }));
    const group = new Uint8Array(values.length);
    shown.forEach((code, i) => (group[code] = i));
    const other = groups.length;
    if (rest.length) {
      const count = rest.reduce((sum, code) => sum + counts[code], 0);
      groups.push({ name: `${rest.length} others`, count, colour: OTHER, rest: true });
      rest.forEach((code) => (group[code] = other));
    }
    const missing = groups.length;
    if (none) groups.push({ name: "none", count: none, colour: OTHER, rest: true });
    const of = Uint8Array.from(codes, (code) => (code < 0 ? missing : group[code]));
    return { kind: "category", groups, of, values, codes };
  }

  /** Numbers: sixteen groups of about as many points each, so that a few huge numbers don't make all others one colour. */
  function number(numbers) {
    const there = numbers.filter((x) => !Number.isNaN(x)).sort();
    const edges = [];
    for (let step = 1; step < STEPS; step++) {
      const edge = there[Math.floor((step * there.length) / STEPS)];
      if (edge !== undefined && edge > (edges.at(-1) ?? there[0])) edges.push(edge);
    }
    const counts = new Float64Array(edges.length + 2);
    const of = new Uint8Array(numbers.length);
    numbers.forEach((x, i) => {
      let group = edges.length + 1;
      if (!Number.isNaN(x)) for (group = 0; group < edges.length && x >= edges[group]; ) group++;
      of[i] = group;
      counts[group]++;
    });
    const from = [there[0], ...edges];
    const groups = from.map((low, i) => {
      const high = edges[i] ?? there.at(-1);
      const colour = CIVIDIS[Math.round((i * (STEPS - 1)) / Math.max(1, edges.length))];
      return { name: span(low, high), count: counts[i], colour: { light: colour, dark: colour } };
    });
    if (counts.at(-1)) groups.push({ name: "none", count: counts.at(-1), colour: OTHER, rest: true });
    return { kind: "number", groups, of, numbers };
  }

  const short = (x) => (x === undefined ? "" : Number(x.toPrecision(4)).toString().replace("-", "\u2212"));
  const span = (low, high) => (low === high ? short(low) : `${short(low)} to ${short(high)}`);

  /** What a column says of a point, as text. */
  function valueOf(colouring, point) {
    if (colouring.kind === "category") return colouring.codes[point] < 0 ? "" : colouring.values[colouring.codes[point]];
    if (colouring.kind === "number") return Number.isNaN(colouring.numbers[point]) ? "" : short(colouring.numbers[point]);
    return "";
  }

  hotrow.colours = { all, category, number, valueOf };
})(globalThis.hotrow);
