"use strict";
/* The map: the points by drawing.js, what lies over them by marks.js, hands and keys by gestures.js.
 *
 * Hover and selection are ours: plotly would look at every point, and make markup of ids. */
(function (hotrow) {
  const { Places, wholeOf, fitting, pixel, place, moved, zoomed, between } = hotrow.view;
  const REST = 140; // milliseconds without a movement
  const REACH = 9; // pixels from a point that still mean it

  class Atlas {
    /** tell: chosen(point), letGo(), selected(points), hovered(point) → text, ids(points) → ids, tool(name). */
    constructor(tell) {
      this._tell = tell;
      this._box = hotrow.byId("map");
      this._plot = hotrow.byId("plot");
      this._surface = hotrow.byId("surface");
      this._tip = hotrow.byId("tip");
      this.marks = new hotrow.Marks(hotrow.byId("marks"));
      this.tool = "move";
      this.points = new Float32Array(0);
      this._known = new Map(); // point → id
      this._drawing = new hotrow.Drawing(this._plot, () => this._settled());
      this._soon = hotrow.later(() => this._render(), () => Math.min(600, Math.max(REST, 1.5 * this._drawing.took)));
      this._names = hotrow.later(() => this._name(), 2 * REST);
      this._ask = hotrow.later((point) => this._hover(point), 40);
      this._held = hotrow.listen(this._surface, () => this.tool, this._heard());
      this._surface.addEventListener("focus", () => this._cross(this._surface.matches(":focus-visible")));
      this._surface.addEventListener("blur", () => this._cross(false));
      new ResizeObserver(hotrow.later(() => this._resized(), 60)).observe(this._box);
      this._measure();
    }

    /** Show points, float32 x, y, x, y, …, in these colours; the view stays if `keep`. */
    async show(points, colouring, keep = false) {
      this.points = points;
      this.places = new Places(points);
      this._known.clear();
      Object.assign(this.marks, { selected: [], hovered: -1, names: [] });
      this.letGo();
      this.whole = wholeOf(this.places, this._room());
      if (!keep || !this.view) this.view = this.whole;
      await this.colour(colouring);
    }

    /** Colour the points anew; all groups are shown. */
    colour(colouring) {
      this.colouring = colouring;
      this.shown = colouring.groups.map(() => true);
      this._traced = hotrow.traced(this.points, colouring);
      this._titles();
      return this._draw();
    }

    /** Show these groups only. */
    only(shown) {
      this.shown = shown;
      this._titles();
      return this._draw();
    }

    /** The page's style has changed: light, dark. */
    restyled() {
      return this.places ? this._draw() : undefined;
    }

    /** Mark a point and its neighbours [{point, id, score}], and go there if they can't be seen well from here. */
    choose(point, id, near) {
      this._known.set(point, id);
      this.marks.chosen = { point, id };
      this.marks.near = near.filter((one) => one.point >= 0);
      this._plot.classList.add("dim");
      this._go([point, ...this.marks.near.map((one) => one.point)]);
      this._paint();
    }

    select(points) {
      this.marks.selected = points;
      this._paint();
    }

    /** Nothing is chosen any more. */
    letGo() {
      Object.assign(this.marks, { chosen: null, near: [] });
      this._plot.classList.remove("dim");
      this._paint();
      this._names();
    }

    zoom(factor, px = 0, py = 0) {
      if (!this.places) return;
      const least = (0.5 * this.whole.scale) / this.view.scale;
      const most = (2000 * this.whole.scale) / this.view.scale;
      this._view(zoomed(this.view, Math.min(most, Math.max(least, factor)), px, py));
    }

    showWhole() {
      if (this.places) this._fly(this.whole);
    }

    /** The shown points within the view, and those of a polygon in pixels. */
    inView() {
      const [w, h] = [this.width / 2, this.height / 2];
      return this._area([[-w, -h], [w, -h], [w, h], [-w, h]]);
    }

    _area(path) {
      const polygon = path.map(([x, y]) => place(this.view, x, y));
      return this.places.inside(polygon, (point) => this.shown[this.colouring.of[point]]);
    }

    _heard() {
      const ready = (call) => (...given) => (this.places ? call(...given) : undefined);
      return {
        move: ready((px, py) => this._view(moved(this.view, px, py))),
        zoom: ready((factor, px, py) => this.zoom(factor, px, py)),
        hover: ready((px, py) => this._over(px, py)),
        leave: () => this._over(NaN, NaN),
        click: ready((px, py) => this._click(px, py)),
        path: (path) => {
          this.marks.path = path;
          this._paint();
        },
        area: ready((path) => this._tell.selected(this._area(path))),
        done: ready(() => this._soon()),
        key: ready((name) => this._key(name)),
      };
    }

    _key(name) {
      if (name === "whole") this.showWhole();
      else if (name === "choose") this._click(0, 0, 8 * REACH);
      else if (name === "escape") this._tell.letGo();
      else this._tell.tool(name);
    }

    _at(px, py, reach) {
      return this.places.nearest(...place(this.view, px, py), reach / this.view.scale, (point) => this.shown[this.colouring.of[point]]);
    }

    _click(px, py, reach = REACH) {
      const point = this._at(px, py, reach);
      if (point >= 0) this._tell.chosen(point);
    }

    _over(px, py) {
      const point = this.places && !Number.isNaN(px) ? this._at(px, py, REACH) : -1;
      this._surface.style.cursor = this.tool !== "move" ? "crosshair" : point >= 0 ? "pointer" : "grab";
      if (point === this.marks.hovered) return;
      this.marks.hovered = point;
      this._tip.hidden = true;
      this._paint();
      if (point >= 0) this._ask(point);
    }

    async _hover(point) {
      const [id] = await this.idsOf([point]);
      if (this.marks.hovered !== point || id === undefined) return;
      const more = this._tell.hovered(point);
      this._tip.replaceChildren(hotrow.named(id, 120), ...(more ? [hotrow.el("span", {}, hotrow.readable(more, 60))] : []));
      this._tip.hidden = false;
      const [x, y] = pixel(this.view, this.points[2 * point], this.points[2 * point + 1]);
      const [w, h] = [this._tip.offsetWidth, this._tip.offsetHeight];
      const left = Math.max(4, Math.min(this.width - w - 4, x + this.width / 2 - w / 2));
      const top = y + this.height / 2 - h - 12;
      this._tip.style.transform = `translate(${left}px, ${top < 4 ? top + h + 26 : top}px)`;
    }

    /** Ids of points; those asked for before are remembered. */
    async idsOf(points) {
      const unknown = points.filter((point) => !this._known.has(point));
      const of = this.points;
      if (unknown.length) {
        const ids = await this._tell.ids(unknown);
        if (of !== this.points) return []; // another map by now
        unknown.forEach((point, i) => this._known.set(point, ids[i]));
      }
      return points.map((point) => this._known.get(point));
    }

    // --- the view -----------------------------------------------------------------------------------------------------

    _view(view) {
      cancelAnimationFrame(this._flight);
      this.view = view;
      this._placed();
      const drawing = this._drawing; // while a hand holds the map, only what comes bare is worth drawing anew
      if (!this._held() || !drawing.drawn || drawing.bare(view)) this._soon();
    }

    /** Go to where these points can be seen, unless they can be seen well from here. */
    _go(points) {
      const [xs, ys] = [0, 1].map((axis) => points.map((point) => this.points[2 * point + axis]));
      const [left, right] = [Math.min(...xs), Math.max(...xs)];
      const [bottom, top] = [Math.min(...ys), Math.max(...ys)];
      const room = this._room();
      const to = fitting({ left, right, bottom, top }, room, 0.6, this.whole.scale, 40 * this.whole.scale);
      const [lx, ty] = pixel(this.view, left, top);
      const [rx, by] = pixel(this.view, right, bottom);
      const seen = -lx < 0.46 * this.width - room.left && rx < 0.46 * this.width && Math.max(-ty, by) < 0.46 * this.height;
      const well = this.view.scale > 0.3 * to.scale && this.view.scale < 4 * to.scale;
      if (!(seen && well)) this._fly(to);
    }

    /** The size of the map, and how much of its left is covered by the legend. */
    _room() {
      const legend = hotrow.byId("legend");
      const covered = legend.hidden || !legend.open ? 0 : legend.offsetLeft + legend.offsetWidth;
      return { width: this.width, height: this.height, left: covered < 0.4 * this.width ? covered : 0 };
    }

    _fly(to) {
      cancelAnimationFrame(this._flight);
      if (hotrow.calm()) {
        this._view(to);
        return;
      }
      const from = this.view;
      let began = null;
      const frame = (now) => {
        began ??= now;
        const at = Math.min(1, (now - began) / 650);
        this.view = at < 1 ? between(from, to, at) : to;
        this._placed();
        if (at < 1) this._flight = requestAnimationFrame(frame);
        else this._render();
      };
      this._flight = requestAnimationFrame(frame);
    }

    /** Put what is drawn to where it belongs in the view of now. */
    _placed() {
      const { drawn } = this._drawing;
      if (drawn) {
        const [x, y] = pixel(this.view, drawn.x, drawn.y);
        const factor = this.view.scale / drawn.scale;
        this._plot.style.transform = `translate(${x}px, ${y}px) scale(${factor})`;
      }
      this._tip.hidden = true;
      if (!this.marks.follow(this.view)) this._paint();
    }

    _paint() {
      if (this._painting) return;
      this._painting = requestAnimationFrame(() => {
        this._painting = 0;
        const zooming = this._drawing.drawn?.scale !== this.view?.scale;
        if (this.view) this.marks.draw(this.view, this.points, this._colours(), zooming);
      });
    }

    _colours() {
      const style = getComputedStyle(document.documentElement);
      return Object.fromEntries(["ink", "faint", "paper", "accent"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    }

    _cross(there) {
      this.marks.cross = there;
      this._paint();
    }

    _measure() {
      [this.width, this.height] = [this._box.clientWidth, this._box.clientHeight];
      this.marks.resize(this.width, this.height);
      this._drawing.resize(this.width, this.height);
    }

    _resized() {
      if (this.width === this._box.clientWidth && this.height === this._box.clientHeight) return;
      this._measure();
      if (!this.places) return;
      const was = this.view === this.whole;
      this.whole = wholeOf(this.places, this._room());
      if (was) this.view = this.whole;
      this._draw();
    }

    // --- drawing ------------------------------------------------------------------------------------------------------

    /** Names of groups, each where most of its points are. */
    _titles() {
      const titles = this.colouring.kind === "category" ? this.colouring.groups.slice(0, 14) : [];
      this.marks.titles = titles
        .map((group, i) => ({ ...this._traced[i].middle, name: group.name, group, i }))
        .filter(({ group, i }) => !group.rest && this.shown[i]);
    }

    /** Names of single points, spread over the view: those that come first in the table. */
    async _name() {
      if (!this.places || this.marks.chosen) return;
      const [wide, high] = [170, 64];
      const first = new Map();
      const [left, top] = place(this.view, -this.width / 2, -this.height / 2);
      const [right, bottom] = place(this.view, this.width / 2, this.height / 2);
      this.places.within(left, right, bottom, top, (point) => {
        if (!this.shown[this.colouring.of[point]]) return;
        const [x, y] = pixel(this.view, this.points[2 * point], this.points[2 * point + 1]);
        const cell = Math.floor(y / high) * 1000 + Math.floor(x / wide);
        if (!(first.get(cell) <= point)) first.set(cell, point);
      });
      const some = Array.from(first.values()).sort((a, b) => a - b).slice(0, 40);
      const ids = await this.idsOf(some).catch(() => []); // the banner tells of a server that is gone
      if (ids.length) this.marks.names = some.map((point, i) => ({ point, id: ids[i] }));
      this._paint();
    }

    _draw() {
      this._drawing.take(this._traced, this.colouring.groups, this.shown);
      return this._render(true);
    }

    _render(anew = false) {
      return this._drawing.draw(anew, () => ({ view: this.view, whole: this.whole }));
    }

    _settled() {
      this._placed();
      this._paint();
      this._names();
    }
  }

  hotrow.Atlas = Atlas;
})(globalThis.hotrow);
