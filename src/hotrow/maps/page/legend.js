"use strict";
/* The groups of the map with their colours and counts: a click shows only this one, the small button hides or shows it. */
(function (hotrow) {
  const { el, byId, whole, readable } = hotrow;

  /** Fill the legend; `changed(shown)` is called with a yes or no a group. */
  function legend(title, colouring, changed) {
    const box = byId("legend");
    const all = byId("legend-all");
    box.hidden = colouring.kind === "all";
    if (box.hidden) return;
    byId("legend-title").textContent = readable(title, 40);
    let shown = colouring.groups.map(() => true);

    function set(next) {
      shown = next.some(Boolean) ? next : next.map(() => true);
      items.forEach(({ only, hide, item }, i) => {
        item.classList.toggle("away", !shown[i]);
        only.setAttribute("aria-pressed", String(shown[i] && shown.filter(Boolean).length === 1));
        hide.setAttribute("aria-pressed", String(!shown[i]));
      });
      all.hidden = shown.every(Boolean);
      changed(shown);
    }

    const items = colouring.groups.map((group, i) => {
      const alone = () => set(shown[i] && shown.filter(Boolean).length === 1 ? shown.map(() => true) : shown.map((_, j) => j === i));
      const name = readable(group.name, 40);
      const only = el("button", { type: "button", class: "only", "aria-pressed": "false", title: `Only ${name}`, click: alone },
        el("span", { class: "swatch" }), el("bdi", {}, name), el("span", { class: "count" }, whole(group.count)));
      const hide = el("button", {
        type: "button",
        class: "hide",
        "aria-pressed": "false",
        "aria-label": `Hide ${name}`,
        click: () => set(shown.map((there, j) => (j === i ? !there : there))),
      });
      return { only, hide, item: el("li", {}, only, hide) };
    });
    byId("legend-list").replaceChildren(...items.map(({ item }) => item));
    all.hidden = true;
    all.onclick = () => set(shown.map(() => true));
    paint(colouring);
  }

  /** The swatches in the colours of the theme that holds. */
  function paint(colouring) {
    const swatches = byId("legend-list").querySelectorAll(".swatch");
    swatches.forEach((swatch, i) => (swatch.style.backgroundColor = colouring.groups[i].colour[hotrow.dark() ? "dark" : "light"]));
  }

  hotrow.legend = legend;
  hotrow.paintLegend = paint;
})(globalThis.hotrow);
