"use strict";
/* The page as a whole: which side, colour and id are looked at, kept in the address; and what follows from each choice. */
(function (hotrow) {
  const { byId, el, readable, svg } = hotrow;
  const NEAR = 10;
  const POLL = 10_000; // milliseconds between two looks for a newer model

  class Page {
    constructor() {
      const data = byId("hotrow-data");
      this.source = data ? new hotrow.FileSource(data) : new hotrow.ServerSource((gone) => this._gone(gone), tokenFrom, (message) => this._state(message));
      this.tab = hotrow.panes.tabs();
      this.atlas = new hotrow.Atlas({
        chosen: (point) => this._picked(point),
        letGo: () => this.choose(null),
        selected: (points) => {
          this.selection.set(points);
          this.tab("set");
        },
        hovered: (point) => this._value(point),
        ids: (points) => this._ids(points),
        tool: (name) => this._tool(name),
      });
      this.selection = new hotrow.Selection(byId("pane-set"), {
        ids: (points) => this._ids(points),
        choose: (id) => this.choose(id),
        inView: () => this.atlas.inView(),
        changed: (points) => this.atlas.select(points),
        value: (point) => this._value(point),
        column: () => this.column?.name,
        colouring: () => this.colouring,
      });
      this.find = hotrow.find((q, k, signal) => this.source.complete(this.side, q, k, signal), (id) => this.choose(id));
      this._wire();
    }

    async start() {
      try {
        this.info = await this.source.info();
        const asked = askedFor();
        await this._enter(asked.side, asked.colour, asked.id);
        hotrow.training(byId("pane-model"), this.info, this.source);
      } catch (error) {
        this._state(error.message);
        if (!error.status) setTimeout(() => this.start(), 2000);
        return;
      }
      this.find.enable();
      if (!this.source.saved) setInterval(() => document.hidden || this._newer(), POLL);
    }

    /** Go to a side, its colour and an id, as far as they are there. */
    async _enter(side, colour, id, keep = false) {
      const sides = this.info.sides;
      this.side = (sides.find((one) => one.name === side) ?? sides[0]).name;
      this._state("Loading the map …");
      this.map = await this.source.map(this.side);
      this.column = this.map.columns.find((one) => one.name === colour) ?? (colour === "" ? null : this.map.columns[0] ?? null);
      const [points, colouring] = await Promise.all([this.source.points(this.side, this.map.stamp), this._colouring()]);
      this.colouring = colouring;
      this._choices();
      this.selection.set([]);
      this.selection.offer(this._recommends("set") ? (ids) => this.source.recommendFor(this.side, ids, NEAR) : null);
      hotrow.legend(this.column?.name ?? "", colouring, (shown) => this.atlas.only(shown));
      await this.atlas.show(points, colouring, keep);
      this._state(hasWebGL() ? this._title() : "This browser has no WebGL, which the map is drawn with. The search works.");
      this._better();
      await this.choose(id ?? null, false);
      this.ready = true;
    }

    _title() {
      const { n, method, stale } = this.map;
      const rows = this.info.sides.find((one) => one.name === this.side).rows;
      const shown = n < rows ? `${hotrow.whole(n)} of ${hotrow.whole(rows)}` : hotrow.whole(n);
      const old = stale > 0.2 ? ` · ${Math.round(100 * stale)} % have come or changed since it was drawn` : "";
      return `${shown} ids, placed by ${method.toUpperCase()}${old}`;
    }

    async _colouring() {
      if (!this.column) return hotrow.colours.all(this.map.n);
      const values = await this.source.column(this.side, this.column, this.map.stamp);
      return this.column.kind === "category" ? hotrow.colours.category(this.column.values, values) : hotrow.colours.number(values);
    }

    _value(point) {
      return this.colouring ? hotrow.colours.valueOf(this.colouring, point) : "";
    }

    async _ids(points) {
      try {
        return await this.source.ids(this.side, points, this.map.stamp);
      } catch (error) {
        if (error.status === 409) this._refresh();
        throw error;
      }
    }

    _recommends(what) {
      const { kind } = this.info;
      if (this.source.saved) return false;
      if (what === "user") return this.side === "user" && (kind === "retrieval" || kind === "ratings");
      return this.side === "item" && (kind === "retrieval" || kind === "next");
    }

    // --- an id --------------------------------------------------------------------------------------------------------

    async _picked(point) {
      try {
        const [id] = await this.atlas.idsOf([point]);
        if (id !== undefined) await this.choose(id);
      } catch (error) {
        this._state(error.message);
      }
    }

    /** Choose an id, or let go of what is chosen; the address keeps it if `push`. */
    async choose(id, push = true) {
      const turn = (this._turn = (this._turn ?? 0) + 1);
      if (push) this._remember(id);
      const pane = byId("pane-id");
      this.id = id;
      if (id === null) {
        this.atlas.letGo();
        this.find.clear();
        await this._welcome(pane);
        return;
      }
      this.tab("id");
      try {
        const [[point], { metric, similar }] = await Promise.all([this.source.rows(this.side, [id]), this.source.similar(this.side, id, NEAR)]);
        const rows = await this.source.rows(this.side, similar.map((one) => one.id));
        if (turn !== this._turn) return;
        const near = similar.map((one, i) => ({ ...one, point: rows[i] }));
        if (point >= 0) this.atlas.choose(point, id, near);
        else this.atlas.letGo();
        this._chosen(pane, id, point, metric, similar);
      } catch (error) {
        if (turn !== this._turn) return;
        this.atlas.letGo();
        hotrow.panes.unknown(pane, id, error, (one) => this.choose(one));
      }
    }

    _chosen(pane, id, point, metric, similar) {
      const { side } = this;
      const add = async (one) => {
        const [row] = await this.source.rows(side, [one]);
        if (row >= 0 && side === this.side) this.selection.add(row);
        byId("tab-set").textContent = `Selection (${hotrow.whole(this.selection.points.length)})`;
      };
      const act = { choose: (one) => this.choose(one), add, close: () => this.choose(null), explain: () => this.source.explain(side, id) };
      const other = this.info.sides.find((one) => one.name === "item");
      const liked = this._recommends("user") && other
        ? { title: "What it would like", promise: this.source.recommend(id, NEAR), act: { choose: (one) => this._switch(other.name, null, one) } }
        : null;
      hotrow.panes.chosen(pane, { id, side, value: point >= 0 ? this._value(point) : "", column: this.column?.name ?? "", metric, similar, liked, act });
      pane.scrollTop = 0;
    }

    async _welcome(pane) {
      const { n } = this.map;
      const some = [...new Set([0.02, 0.17, 0.33, 0.55, 0.8].map((share) => Math.floor(share * n)))].filter((point) => point < n);
      const ids = await this.atlas.idsOf(some).catch(() => []);
      if (this.id === null) hotrow.panes.welcome(pane, this.info, this.side, ids, (id) => this.choose(id));
    }

    // --- the address --------------------------------------------------------------------------------------------------

    _remember(id) {
      const told = new URLSearchParams({ side: this.side });
      if (this.column?.name !== this.map.columns[0]?.name) told.set("colour", this.column?.name ?? "");
      if (id !== null) told.set("id", id);
      const hash = `#${told}`;
      if (hash !== location.hash) history.pushState(null, "", hash);
    }

    async _switch(side, colour, id) {
      try {
        await this._enter(side, colour, id);
        this._remember(id);
      } catch (error) {
        this._state(error.message);
      }
    }

    /** The address has changed by the back button or by hand. */
    async _arrived() {
      const { side, colour, id } = askedFor();
      const there = (side ?? this.info.sides[0].name) === this.side && (colour ?? this.map.columns[0]?.name ?? "") === (this.column?.name ?? "");
      if (!there) await this._enter(side, colour, id).catch((error) => this._state(error.message));
      else if (id !== this.id) await this.choose(id, false);
    }

    // --- what the server has newer ------------------------------------------------------------------------------------

    async _newer() {
      const info = await this.source.info().catch(() => null); // the banner tells of a server that is gone
      if (info && info.stamp !== this.info.stamp) await this._refresh();
    }

    async _refresh() {
      if (this._refreshing) return;
      this._refreshing = true;
      try {
        this.info = await this.source.info();
        await this._enter(this.side, this.column?.name ?? "", this.id, true);
        hotrow.training(byId("pane-model"), this.info, this.source);
      } catch (error) {
        this._state(error.message);
      }
      this._refreshing = false;
    }

    _gone(gone) {
      const banner = byId("banner");
      if (gone && banner.hidden) this._retry = setInterval(() => this.source.info().catch(() => null), 2000);
      if (!gone) clearInterval(this._retry);
      banner.hidden = !gone;
      banner.textContent = gone ? "The server doesn't answer. Trying again …" : "";
    }

    /** The button for a better map: offered, under way, or why it can't be. */
    _better() {
      const button = byId("better");
      const { better, method } = this.map;
      const state = better?.state ?? "none";
      button.hidden = this.source.saved || (method === "umap" && state !== "running");
      button.disabled = state === "running" || state === "missing";
      const share = `${Math.round(100 * (better?.done ?? 0))} %`;
      const before = state === "running" || state === "failed" ? null : el("span", { class: "wide" }, "Clusters by ");
      const words = state === "running" ? `UMAP ${share}` : state === "failed" ? "UMAP failed: again" : "UMAP";
      button.replaceChildren(...[before, words].filter(Boolean));
      button.title = readable(better?.message ?? "A slower projection, which shows clusters; it is made in the background", 300);
      clearTimeout(this._watch);
      const made = state === "ready" && method !== "umap"; // quicker than the answer to whoever asked for it
      if (state === "running" || made) this._watch = setTimeout(() => this._watched(), made ? 0 : 1000);
    }

    async _watched() {
      const map = await this.source.map(this.side).catch(() => null);
      if (map && map.stamp !== this.map.stamp) {
        await this._refresh();
        this.atlas.showWhole();
        return;
      }
      this.map.better = map ? map.better : this.map.better;
      this._better();
    }

    // --- choices ------------------------------------------------------------------------------------------------------

    _choices() {
      const option = (name, chosen, words = name) => el("option", { value: name, selected: chosen }, readable(words, 40));
      byId("name").textContent = readable(this.info.name, 40);
      document.title = `${readable(this.info.name, 40)} · hotrow`;
      byId("side").replaceChildren(...this.info.sides.map(({ name }) => option(name, name === this.side)));
      byId("side-box").hidden = this.info.sides.length < 2;
      const columns = this.map.columns.map(({ name }) => option(name, name === this.column?.name));
      byId("colour").replaceChildren(...columns, option("", !this.column, "none"));
      byId("colour-box").hidden = !columns.length;
    }

    _tool(name) {
      this.atlas.tool = name;
      for (const button of byId("tools").querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
      byId("surface").style.cursor = name === "move" ? "grab" : "crosshair";
    }

    _state(words) {
      byId("state").textContent = words;
    }

    _wire() {
      for (const button of byId("tools").querySelectorAll("button")) button.append(icon(button.dataset.tool ?? button.id));
      byId("theme").append(icon("theme"));
      byId("legend").open = innerWidth > 780;
      for (const button of byId("tools").querySelectorAll("[data-tool]")) button.addEventListener("click", () => this._tool(button.dataset.tool));
      byId("closer").addEventListener("click", () => this.atlas.zoom(1.6));
      byId("farther").addEventListener("click", () => this.atlas.zoom(1 / 1.6));
      byId("whole").addEventListener("click", () => this.atlas.showWhole());
      byId("side").addEventListener("change", (event) => this._switch(event.target.value, null, null));
      byId("colour").addEventListener("change", (event) => this._switch(this.side, event.target.value, this.id));
      byId("better").addEventListener("click", async () => {
        try {
          this.map.better = await this.source.better(this.side);
        } catch (error) {
          this.map.better = { state: error.status === 501 ? "missing" : "failed", done: 0, message: error.message };
          this._state(error.message);
        }
        this._better();
      });
      byId("skip").addEventListener("click", (event) => {
        event.preventDefault();
        byId("find").focus();
      });
      hotrow.theme(() => {
        this.atlas.restyled();
        if (this.colouring) hotrow.paintLegend(this.colouring);
      });
      addEventListener("popstate", () => this.ready && this._arrived());
    }
  }

  /** What the address asks for; null for what it doesn't say. */
  function askedFor() {
    const told = new URLSearchParams(location.hash.slice(1));
    return { side: told.get("side"), colour: told.get("colour"), id: told.get("id") };
  }

  const ICONS = {
    move: "M10 3v14M3 10h14M10 3l-2 2M10 3l2 2M10 17l-2-2M10 17l2-2M3 10l2-2M3 10l2 2M17 10l-2-2M17 10l-2 2",
    lasso: "M10 4c4 0 7 1.800 7 4.500s-3 4.500-7 4.500-7-1.800-7-4.500 3-4.500 7-4.500M6 12.500c-1.500 1-1 3.500 1.500 4",
    box: "M4 7V4h3M13 4h3v3M16 13v3h-3M7 16H4v-3M9 4h2M9 16h2M4 9v2M16 9v2",
    closer: "M10 4v12M4 10h12",
    farther: "M4 10h12",
    whole: "M3 8V3h5M12 3h5v5M17 12v5h-5M8 17H3v-5",
    theme: "M10 3a7 7 0 1 0 7 7a5.500 5.500 0 0 1-7-7",
  };

  const icon = (name) => svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));

  function hasWebGL() {
    return Boolean(document.createElement("canvas").getContext("webgl"));
  }

  /** Ask for the server's token; it is kept as long as the page is open. */
  function tokenFrom(wrong) {
    return new Promise((given) => {
      const box = el("input", { type: "password", autocomplete: "off", "aria-label": "Token" });
      const form = el("form", { submit: (event) => {
        event.preventDefault();
        dialog.close();
        dialog.remove();
        given(box.value.trim());
      } }, el("p", {}, wrong ? "That isn't the token of this server." : "This server wants its token."), box, el("button", { type: "submit" }, "Go on"));
      const dialog = el("dialog", { cancel: (event) => event.preventDefault() }, form);
      document.body.append(dialog);
      dialog.showModal();
    });
  }

  hotrow.page = new Page();
  hotrow.page.start();
})(globalThis.hotrow);
