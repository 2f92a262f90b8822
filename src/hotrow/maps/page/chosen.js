"use strict";
/* The pane of an id: what it is, its neighbours, what a user would like, and the one-hot picture. */
(function (hotrow) {
  const { el, byId, named, readable, decimal, whole } = hotrow;
  const LONG = 200;

  /** Ids with scores, as buttons with bars; `act.choose(id)` for the id, `act.add(id)` for its plus. */
  function scored(found, metric, act) {
    const most = Math.max(...found.map((one) => Math.abs(one.score)), 1e-9);
    const share = (score, i) => {
      if (metric === "cosine") return Math.max(0, score);
      if (metric === "euclidean") return found[0].score === score && i === 0 ? 1 : Math.min(1, found[0].score / (score || 1));
      return Math.max(0, score / most);
    };
    return el("ol", { class: "scored" }, ...found.map(({ id, score }, i) => {
      const bar = el("span", { class: "share" });
      bar.style.width = `${(100 * share(score, i)).toFixed(1)}%`;
      return el("li", {}, el("button", { type: "button", class: "choose", click: () => act.choose(id) },
        named(id, 80), el("span", { class: "score" }, decimal(score)), el("span", { class: "bar", "aria-hidden": "true" }, bar)),
      act.add ? el("button", { type: "button", class: "add", "aria-label": `Add ${readable(id, 60)} to the selection`, title: "Add to the selection", click: () => act.add(id) }, "+") : null);
    }));
  }

  const METRICS = { cosine: "cosine of the vectors", dot: "product of the vectors", euclidean: "distance of the vectors" };

  /** The id's pane. told: {id, side, value, column, metric, similar, liked (or null), act: {choose, add, close, explain}}. */
  function chosen(pane, told) {
    const { id, act } = told;
    const picture = el("div", { class: "picture" }, el("p", { class: "note" }, "…"));
    const parts = [heading(told)];
    if (id.length > LONG) parts.push(inFull(id));
    parts.push(el("h3", {}, `Nearest ${whole(told.similar.length)}`), el("p", { class: "note" }, `By the ${METRICS[told.metric] ?? told.metric}.`));
    parts.push(told.similar.length ? scored(told.similar, told.metric, act) : el("p", {}, "It is the only one."));
    if (told.liked) parts.push(liked(told.liked));
    parts.push(el("h3", {}, "What its vector is"), el("p", { class: "note" },
      "The id is a list of zeros with a single 1. Times the weights, that is one row of them."), picture);
    pane.replaceChildren(...parts);
    act.explain().then(
      (numbers) => picture.replaceChildren(hotrow.oneHot(numbers)),
      (error) => picture.replaceChildren(el("p", { class: "note" }, error.message)),
    );
  }

  function heading({ id, side, value, column, act }) {
    const copy = el("button", { type: "button", click: async () => {
      await navigator.clipboard?.writeText(id);
      copy.textContent = "Copied";
    } }, "Copy");
    return el("div", { class: "heading" },
      el("h2", {}, named(id, LONG)),
      el("p", { class: "note" }, side, ...(value ? [` · ${readable(column, 40)}: `, el("bdi", {}, readable(value, 60))] : [])),
      el("p", { class: "buttons" }, copy,
        act.add ? el("button", { type: "button", click: () => act.add(id) }, "Add to selection") : null,
        el("button", { type: "button", click: act.close, "aria-label": "Let go of this id" }, "Close")));
  }

  const inFull = (id) => el("details", { class: "full" }, el("summary", {}, `All ${whole(Array.from(id).length)} characters`), el("pre", {}, el("bdi", {}, readable(id, Infinity))));

  /** A place for recommendations that are on their way. */
  function liked({ title, promise, act }) {
    const box = el("div", {}, el("p", { class: "note" }, "…"));
    promise.then(
      (found) => box.replaceChildren(scored(found, "product", act)),
      (error) => box.replaceChildren(el("p", { class: "note" }, error.message)),
    );
    return el("section", {}, el("h3", {}, title), box);
  }

  /** Nothing is chosen: what this is, and some ids to begin with. */
  function welcome(pane, info, side, examples, choose) {
    const size = info.sides.find((one) => one.name === side);
    pane.replaceChildren(
      el("h2", {}, "A map of ids"),
      el("p", {}, `Each point is one of ${whole(size.rows)} ids, which a model has learned ${size.dim} numbers for. Ids with similar numbers lie near each other: they occur in similar company.`),
      el("p", {}, "Click a point, or find an id by its name."),
      examples.length ? el("p", { class: "examples" }, ...examples.map((id) => el("button", { type: "button", click: () => choose(id) }, named(id, 40)))) : null,
      el("ul", { class: "note hints" },
        el("li", {}, "Drag to move, scroll or pinch to zoom."),
        el("li", {}, "Hold Shift and drag, or take the lasso, to select many."),
        el("li", {}, el("kbd", {}, "/"), " goes to the search.")));
  }

  /** An id that isn't there, and some that are written like it. */
  function unknown(pane, id, error, choose) {
    const alike = error.alike ?? [];
    pane.replaceChildren(...[
      el("h2", {}, named(id, LONG)),
      el("p", { class: "trouble" }, error.status === 404 ? "There is no such id." : readable(error.message, 300)),
      alike.length ? el("p", {}, "Written like it:") : null,
      alike.length ? el("p", { class: "examples" }, ...alike.map((one) => el("button", { type: "button", click: () => choose(one) }, named(one, 80)))) : null,
    ].filter(Boolean));
  }

  /** Show one of the panes; focus it if somebody asked for it. */
  function tabs() {
    const names = ["id", "set", "model"];
    const show = (name, focus = false) => names.forEach((one) => {
      const tab = byId(`tab-${one}`);
      tab.setAttribute("aria-selected", String(one === name));
      tab.tabIndex = one === name ? 0 : -1;
      byId(`pane-${one}`).hidden = one !== name;
      if (one === name && focus) tab.focus();
    });
    names.forEach((name, i) => {
      const tab = byId(`tab-${name}`);
      tab.addEventListener("click", () => show(name));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) show(names[(i + step + names.length) % names.length], true);
      });
    });
    return show;
  }

  hotrow.panes = { chosen, welcome, unknown, scored, tabs };
})(globalThis.hotrow);
