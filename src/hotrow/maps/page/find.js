"use strict";
/* The search box: ids that begin with what is typed, then those that contain it. A combobox as ARIA describes it: arrows,
 * Enter, Escape; the list is told of by aria-activedescendant, and the focus stays in the box. */
(function (hotrow) {
  const { el, byId, readable } = hotrow;
  const MOST = 12;

  /** Wire the box. complete(q, k, signal) → {ids}; chosen(id) is called with what was picked. */
  function find(complete, chosen) {
    const box = byId("find");
    const list = byId("found");
    let ids = [];
    let active = -1;
    let asking = null;

    function close() {
      list.hidden = true;
      box.setAttribute("aria-expanded", "false");
      box.removeAttribute("aria-activedescendant");
      active = -1;
    }

    function open(children) {
      list.replaceChildren(...children);
      list.hidden = false;
      box.setAttribute("aria-expanded", "true");
      list.scrollTop = 0;
    }

    function activate(next) {
      list.children[active]?.setAttribute("aria-selected", "false");
      active = next;
      const option = list.children[active];
      if (!option) {
        box.removeAttribute("aria-activedescendant");
        return;
      }
      option.setAttribute("aria-selected", "true");
      option.scrollIntoView({ block: "nearest" });
      box.setAttribute("aria-activedescendant", option.id);
    }

    function pick(id) {
      soon.cancel();
      asking?.abort();
      close();
      box.value = readable(id, 100);
      box.select();
      chosen(id);
    }

    async function ask() {
      asking?.abort();
      const q = box.value;
      if (!q) {
        ids = [];
        close();
        return [];
      }
      asking = new AbortController();
      try {
        ids = (await complete(q, MOST, asking.signal)).ids;
      } catch (error) {
        if (error.name === "AbortError") return null;
        ids = [];
        open([el("li", { class: "none" }, error.message)]);
        return [];
      }
      active = -1;
      box.removeAttribute("aria-activedescendant");
      open(ids.length ? ids.map((id, i) => option(id, q, i)) : [el("li", { class: "none" }, "No id has this in it")]);
      return ids;
    }

    function option(id, q, i) {
      return el("li", { role: "option", id: `found-${i}`, "aria-selected": "false", pointerdown: (event) => {
        event.preventDefault(); // the focus stays in the box
        pick(id);
      } }, el("bdi", { class: "id" }, ...parts(readable(id, 80), q)));
    }

    async function entered() {
      soon.cancel(); // it would take the answer away that is waited for here
      if (active >= 0) {
        pick(ids[active]);
        return;
      }
      const found = await ask();
      if (found?.length) pick(found.includes(box.value) ? box.value : found[0]);
    }

    const soon = hotrow.later(ask, 50);
    box.addEventListener("input", () => {
      active = -1;
      soon();
    });
    box.addEventListener("blur", close);
    box.addEventListener("focus", () => box.select());
    box.addEventListener("keydown", (event) => {
      const count = list.hidden ? 0 : ids.length;
      if (event.key === "ArrowDown" && !count) ask();
      else if (event.key === "ArrowDown") activate(active + 1 < count ? active + 1 : 0);
      else if (event.key === "ArrowUp" && count) activate(active > 0 ? active - 1 : count - 1);
      else if (event.key === "Enter") entered();
      else if (event.key === "Escape" && !list.hidden) close();
      else if (event.key === "Escape") box.value = "";
      else return;
      event.preventDefault();
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      box.focus();
    });
    return { clear: () => ((box.value = ""), close()), enable: () => (box.disabled = false) };
  }

  /** The text with what was typed marked in it. */
  function parts(text, q) {
    const place = text.toLowerCase().indexOf(q.toLowerCase());
    if (place < 0) return [text];
    return [text.slice(0, place), el("mark", {}, text.slice(place, place + q.length)), text.slice(place + q.length)];
  }

  hotrow.find = find;
})(globalThis.hotrow);
