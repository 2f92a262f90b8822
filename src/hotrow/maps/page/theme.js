"use strict";
/* Light and dark: as the system has it, until the button says otherwise; that is remembered where the browser allows it. */
(function (hotrow) {
  const KEY = "hotrow-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");

  function kept() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a file may not be allowed to remember
    }
  }

  function keep(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // it holds as long as the page is open
    }
  }

  let chosen = kept();
  const dark = () => (chosen ? chosen === "dark" : system.matches);

  function apply() {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    hotrow.byId("theme").setAttribute("aria-pressed", String(dark()));
  }

  /** Wire the button; `changed()` is called when another theme holds. */
  function theme(changed) {
    hotrow.byId("theme").addEventListener("click", () => {
      chosen = dark() ? "light" : "dark";
      keep(chosen);
      apply();
      changed();
    });
    system.addEventListener("change", () => {
      apply();
      changed();
    });
  }

  apply();
  Object.assign(hotrow, { dark, theme });
})(globalThis.hotrow);
