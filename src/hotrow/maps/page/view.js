"use strict";
/* Places: which part of the map is in view, and which point lies where. Nothing here draws.
 *
 * A view is {x, y, scale}: the place in the middle, and pixels per unit. Pixels count from the middle of the map, y down. */
(function (hotrow) {
  const CELLS = 512;

  /** The points in a grid of cells, so that a place or an area finds its own without a look at all others. */
  class Places {
    constructor(points) {
      this.points = points;
      this.n = points.length / 2;
      let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
      for (let i = 0; i < points.length; i += 2) {
        const [x, y] = [points[i], points[i + 1]];
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < bottom) bottom = y;
        if (y > top) top = y;
      }
      if (!this.n) [left, right, bottom, top] = [-1, 1, -1, 1];
      Object.assign(this, { left, right, bottom, top });
      this.size = Math.max(right - left, top - bottom, 1e-6) / CELLS;
      this._sort();
    }

    _column(x) {
      return Math.max(0, Math.min(CELLS - 1, Math.floor((x - this.left) / this.size)));
    }

    _line(y) {
      return Math.max(0, Math.min(CELLS - 1, Math.floor((y - this.bottom) / this.size)));
    }

    /** A counting sort: `starts[c]` to `starts[c + 1]` in `order` are the points of cell c. */
    _sort() {
      const cells = new Uint32Array(this.n);
      const starts = new Uint32Array(CELLS * CELLS + 1);
      for (let i = 0; i < this.n; i++) {
        cells[i] = this._line(this.points[2 * i + 1]) * CELLS + this._column(this.points[2 * i]);
        starts[cells[i] + 1]++;
      }
      for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
      const next = starts.slice();
      this.order = new Uint32Array(this.n);
      for (let i = 0; i < this.n; i++) this.order[next[cells[i]]++] = i;
      this.starts = starts;
    }

    /** Call `each` with every point whose cell touches the box. */
    within(left, right, bottom, top, each) {
      if (left > this.right || right < this.left || bottom > this.top || top < this.bottom) return;
      const [from, to] = [this._column(left), this._column(right)];
      for (let line = this._line(bottom); line <= this._line(top); line++) {
        const first = this.starts[line * CELLS + from];
        const last = this.starts[line * CELLS + to + 1];
        for (let i = first; i < last; i++) each(this.order[i]);
      }
    }

    /** The point nearest to a place and at most `reach` away, of those that `shown` says yes to; −1 for none. */
    nearest(x, y, reach, shown) {
      let [best, least] = [-1, reach * reach];
      this.within(x - reach, x + reach, y - reach, y + reach, (point) => {
        const [dx, dy] = [this.points[2 * point] - x, this.points[2 * point + 1] - y];
        const far = dx * dx + dy * dy;
        if (far <= least && shown(point)) [best, least] = [point, far];
      });
      return best;
    }

    /** The points inside of a polygon [[x, y], …], in their order; a box is one of four corners. */
    inside(polygon, shown) {
      const [xs, ys] = [polygon.map(([x]) => x), polygon.map(([, y]) => y)];
      const found = [];
      this.within(Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys), (point) => {
        if (shown(point) && within(polygon, this.points[2 * point], this.points[2 * point + 1])) found.push(point);
      });
      return found.sort((a, b) => a - b);
    }
  }

  /** Is a place inside of a polygon? A ray to the right crosses its border an odd number of times. */
  function within(polygon, x, y) {
    let inside = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [[ax, ay], [bx, by]] = [polygon[i], polygon[j]];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  }

  /** The view that shows all, but for the farthest thousandth: one stray point shouldn't make a dot of the rest. */
  function wholeOf(places, room) {
    const [[left, right], [bottom, top]] = [0, 1].map((axis) => spread(places.points, axis));
    return fitting({ left, right, bottom, top }, room, 0.92);
  }

  /** The view that shows a box in `share` of the room {width, height, left}, of which `left` pixels are covered; its scale
   *  from `least` to `most`. */
  function fitting({ left, right, bottom, top }, room, share, least = 0, most = Infinity) {
    const fits = Math.min((room.width - room.left) / Math.max(right - left, 1e-6), room.height / Math.max(top - bottom, 1e-6));
    const scale = Math.max(least, Math.min(most, share * fits));
    return { x: (left + right) / 2 - room.left / 2 / scale, y: (bottom + top) / 2, scale };
  }

  function spread(points, axis) {
    const step = Math.max(1, Math.floor(points.length / 2 / 20_000));
    const some = [];
    for (let i = axis; i < points.length; i += 2 * step) some.push(points[i]);
    if (!some.length) return [-1, 1];
    some.sort((a, b) => a - b);
    const cut = Math.floor(some.length / 1000);
    return [some[cut], some[some.length - 1 - cut]];
  }

  const pixel = (view, x, y) => [(x - view.x) * view.scale, (view.y - y) * view.scale];
  const place = (view, px, py) => [view.x + px / view.scale, view.y - py / view.scale];

  /** A view moved by pixels, and one made larger by `factor` so that what is at the pixel stays there. */
  const moved = (view, px, py) => ({ ...view, x: view.x - px / view.scale, y: view.y + py / view.scale });

  function zoomed(view, factor, px, py) {
    const [x, y] = place(view, px, py);
    const scale = view.scale * factor;
    return { scale, x: x - px / scale, y: y + py / scale };
  }

  /** The way from a view to another: `at` 0 to 1. The scale goes by ratio, so that the speed looks even. */
  function between(from, to, at) {
    const ease = at < 0.5 ? 2 * at * at : 1 - 2 * (1 - at) * (1 - at);
    const scale = from.scale * (to.scale / from.scale) ** ease;
    const share = Math.abs(to.scale - from.scale) < 1e-9 * to.scale ? ease : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
    return { scale, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
  }

  hotrow.view = { Places, wholeOf, fitting, pixel, place, moved, zoomed, between };
})(globalThis.hotrow);
