"use strict";
/* The pane of what is selected: how many there are of what, their ids, and the list as a file. */
(function (hotrow) {
  const { el, named, whole, readable } = hotrow;
  const LISTED = 100;
  const ASKED = 50; // ids that a recommendation goes by, at most

  class Selection {
    /** act: ids(points) → ids, choose(id), inView() → points, changed(points), goes(ids) → scored ids or null, value(point) → text,
     *  column() → name, colouring(). */
    constructor(pane, act) {
      this._pane = pane;
      this._act = act;
      this.points = [];
      this.show();
    }

    /** Select these points, and no others. */
    set(points) {
      this.points = points;
      this._act.changed(points);
      return this.show();
    }

    /** What goes with ids, from now on: a function that recommends, or null where nothing does. */
    offer(goes) {
      this._act.goes = goes;
    }

    add(point) {
      if (!this.points.includes(point)) this.set([...this.points, point]);
    }

    /** Fill the pane. */
    async show() {
      const { points } = this;
      if (!points.length) {
        this._pane.replaceChildren(...this._nothing());
        return;
      }
      const list = el("ul", { class: "list" });
      const more = points.length > LISTED ? el("p", { class: "note" }, `The first ${LISTED} of ${whole(points.length)}; a file has all.`) : null;
      const goes = el("div", {});
      this._pane.replaceChildren(...[
        el("h2", {}, `${whole(points.length)} selected`),
        this._buttons(),
        this._counts(),
        goes,
        el("h3", {}, "Ids"),
        more,
        list,
      ].filter(Boolean));
      this._recommended(goes);
      const some = points.slice(0, LISTED);
      try {
        const ids = await this._act.ids(some);
        if (this.points !== points) return;
        list.replaceChildren(...ids.map((id) => el("li", {}, el("button", { type: "button", class: "choose", click: () => this._act.choose(id) }, named(id, 80)))));
      } catch (error) {
        list.replaceChildren(el("li", { class: "note" }, error.message));
      }
    }

    _nothing() {
      return [
        el("h2", {}, "Nothing selected"),
        el("p", {}, "Draw around points with the lasso or the box, or hold Shift and drag."),
        el("p", { class: "buttons" }, this._viewed()),
      ];
    }

    _viewed() {
      return el("button", { type: "button", click: () => this.set(this._act.inView()) }, "Select all in view");
    }

    _buttons() {
      const file = (name, type, write) => {
        const button = el("button", { type: "button", click: async () => {
          button.disabled = true;
          try {
            hotrow.save(name, type, await write());
          } catch (error) {
            button.textContent = error.message;
          }
          button.disabled = false;
        } }, name.endsWith("csv") ? "CSV" : "JSON");
        return button;
      };
      return el("p", { class: "buttons" },
        file("selection.csv", "text/csv;charset=utf-8", async () => this._csv()),
        file("selection.json", "application/json", async () => this._json()),
        this._viewed(),
        el("button", { type: "button", click: () => this.set([]) }, "Clear"));
    }

    /** Ids, and what colours them. */
    async _csv() {
      const ids = await this._act.ids(this.points);
      const column = this._act.column();
      const rows = this.points.map((point, i) => (column ? [ids[i], this._act.value(point)] : [ids[i]]));
      return hotrow.csv([column ? ["id", column] : ["id"], ...rows]);
    }

    async _json() {
      const ids = await this._act.ids(this.points);
      const column = this._act.column();
      const rows = this.points.map((point, i) => ({ id: ids[i], ...(column ? { [column]: this._act.value(point) } : {}) }));
      return JSON.stringify(rows, null, 1) + "\n";
    }

    /** How many of each group, the most first. */
    _counts() {
      const colouring = this._act.colouring();
      if (!colouring || colouring.kind === "all") return null;
      const counts = new Map();
      for (const point of this.points) {
        const name = colouring.kind === "category" ? this._act.value(point) || "none" : colouring.groups[colouring.of[point]].name;
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
      const order = Array.from(counts).sort(([, a], [, b]) => b - a);
      const lines = order.slice(0, 8).map(([name, count]) => {
        const bar = el("span", { class: "share" });
        bar.style.width = `${(100 * count) / this.points.length}%`;
        return el("li", {}, el("span", { class: "choose" }, el("bdi", {}, readable(name, 40)), el("span", { class: "score" }, whole(count)), el("span", { class: "bar", "aria-hidden": "true" }, bar)));
      });
      const more = order.length > 8 ? el("p", { class: "note" }, `and ${order.length - 8} more`) : null;
      return el("section", {}, el("h3", {}, readable(this._act.column(), 40)), el("ul", { class: "scored" }, ...lines), more);
    }

    _recommended(box) {
      if (!this._act.goes || this.points.length > ASKED) return;
      const button = el("button", { type: "button", click: async () => {
        button.disabled = true;
        try {
          const found = await this._act.goes(await this._act.ids(this.points));
          const act = { choose: this._act.choose };
          box.replaceChildren(el("h3", {}, "What goes with them"), hotrow.panes.scored(found, "product", act));
        } catch (error) {
          box.replaceChildren(el("p", { class: "trouble" }, readable(error.message, 300)));
        }
      } }, "What goes with these?");
      box.replaceChildren(el("p", { class: "buttons" }, button));
    }
  }

  hotrow.Selection = Selection;
})(globalThis.hotrow);
