"use strict";
/* The points, drawn by plotly's scattergl: a trace a group, so that a colour is said once and not a million times.
 *
 * Plotly draws when the view has come to rest; while it moves, what is drawn is moved and scaled by the compositor, at the
 * screen's own rate however many points there are. So that an edge doesn't come bare, more than the view is drawn. */
(function (hotrow) {
  const OVER = 0.25; // of the width and height, drawn on each side beyond the view

  class Drawing {
    /** `settled()` is called after each drawing. */
    constructor(node, settled) {
      this._node = node;
      this._settled = settled;
      this.took = 0; // milliseconds, until it could be seen
      this._wanted = 0; // 0 nothing, 1 from another place, 2 all anew
      this.drawn = null; // the view that is drawn, once one is
    }

    /** The size of the map, in pixels. */
    resize(width, height) {
      Object.assign(this, { width, height });
      Object.assign(this._node.style, {
        left: `${-OVER * width}px`,
        top: `${-OVER * height}px`,
        width: `${(1 + 2 * OVER) * width}px`,
        height: `${(1 + 2 * OVER) * height}px`,
      });
    }

    /** Has the view moved to where nothing is drawn? */
    bare(view) {
      const [x, y] = hotrow.view.pixel(view, this.drawn.x, this.drawn.y).map(Math.abs);
      const edge = (1 + 2 * OVER) * (view.scale / this.drawn.scale);
      return 2 * x > (edge - 1) * this.width || 2 * y > (edge - 1) * this.height;
    }

    /** What to draw: places [{x, y}] of the groups, their colours, which are shown; then `draw(true)`. */
    take(traced, groups, shown) {
      Object.assign(this, { traced, groups, shown });
      this.n = traced.reduce((sum, { x }) => sum + x.length, 0);
    }

    /** Draw the view of the moment: `now()` → {view, whole}. Done when all is drawn that was asked for meanwhile. */
    draw(anew, now) {
      this._wanted = Math.max(this._wanted, anew ? 2 : 1);
      this._working ??= this._work(now).finally(() => (this._working = null));
      return this._working;
    }

    async _work(now) {
      while (this._wanted) {
        const anew = this._wanted === 2;
        this._wanted = 0;
        const { view, whole } = now();
        const begin = performance.now();
        await this._drawn(anew, view, whole);
        this.drawn = view;
        this._settled();
        await new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)));
        this.took = performance.now() - begin;
      }
    }

    _drawn(anew, view, whole) {
      const size = this._size(view.scale / whole.scale);
      const same = size === this._last;
      this._last = size;
      const [w, h] = [((0.5 + OVER) * this.width) / view.scale, ((0.5 + OVER) * this.height) / view.scale];
      const [x, y] = [[view.x - w, view.x + w], [view.y - h, view.y + h]];
      if (anew) return Plotly.react(this._node, this._traces(size), this._layout(x, y), CONFIG());
      const ranges = { "xaxis.range": x, "yaxis.range": y };
      return same ? Plotly.relayout(this._node, ranges) : Plotly.update(this._node, { "marker.size": size }, ranges);
    }

    /** The width of a point: the fewer there are and the closer one looks, the wider. */
    _size(closer) {
      const { n } = this;
      const least = n < 500 ? 9 : n < 5000 ? 6 : n < 50_000 ? 4 : n < 200_000 ? 3 : 2;
      return Math.round(Math.max(least, Math.min(9, least * closer ** 0.35)));
    }

    _layout(x, y) {
      const axis = { visible: false, showgrid: false, zeroline: false, fixedrange: true, autorange: false };
      return {
        width: (1 + 2 * OVER) * this.width,
        height: (1 + 2 * OVER) * this.height,
        margin: { l: 0, r: 0, t: 0, b: 0, pad: 0 },
        xaxis: { ...axis, range: x },
        yaxis: { ...axis, range: y },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        showlegend: false,
        hovermode: false,
      };
    }

    /** The largest groups first, so that the small ones lie on top. */
    _traces(size) {
      const dark = hotrow.dark() ? "dark" : "light";
      const opacity = this.n < 5000 ? 0.9 : this.n < 200_000 ? 0.75 : 0.5;
      const order = Array.from(this.traced.keys()).filter((i) => this.shown[i]);
      order.sort((a, b) => this.traced[b].x.length - this.traced[a].x.length);
      return order.map((i) => ({
        type: "scattergl",
        mode: "markers",
        x: this.traced[i].x,
        y: this.traced[i].y,
        hoverinfo: "skip",
        marker: { size, opacity, color: this.groups[i].colour[dark] },
      }));
    }
  }

  const CONFIG = () => ({ staticPlot: true, displayModeBar: false, plotGlPixelRatio: Math.min(2, devicePixelRatio || 1) });

  /** The points of each group as plotly takes them, and where most of them are. */
  function traced(points, { groups, of }) {
    const counts = new Uint32Array(groups.length);
    for (const group of of) counts[group]++;
    const traces = Array.from(counts, (count) => ({ x: new Float32Array(count), y: new Float32Array(count) }));
    counts.fill(0);
    for (let i = 0; i < of.length; i++) {
      const at = counts[of[i]]++;
      traces[of[i]].x[at] = points[2 * i];
      traces[of[i]].y[at] = points[2 * i + 1];
    }
    for (const trace of traces) trace.middle = densest(trace.x, trace.y);
    return traces;
  }

  /** The middle of the fullest cell of a coarse grid. */
  function densest(xs, ys) {
    if (!xs.length) return { x: 0, y: 0 };
    const side = 24;
    const along = (values) => {
      const [low, high] = values.reduce(([least, most], v) => [Math.min(least, v), Math.max(most, v)], [Infinity, -Infinity]);
      return (v) => Math.min(side - 1, Math.floor((side * (v - low)) / (high - low || 1)));
    };
    const [column, line] = [along(xs), along(ys)];
    const counts = new Uint32Array(side * side);
    for (let i = 0; i < xs.length; i++) counts[line(ys[i]) * side + column(xs[i])]++;
    const fullest = counts.indexOf(Math.max(...counts));
    let [x, y, n] = [0, 0, 0];
    for (let i = 0; i < xs.length; i++) {
      if (line(ys[i]) * side + column(xs[i]) !== fullest) continue;
      [x, y, n] = [x + xs[i], y + ys[i], n + 1];
    }
    return { x: x / n, y: y / n };
  }

  hotrow.Drawing = Drawing;
  hotrow.traced = traced;
})(globalThis.hotrow);
