"use strict";
/* Mouse, fingers and keys over the map, told as: move(px, py), zoom(factor, px, py), click(px, py), hover(px, py),
 * leave(), path(pixels), area(pixels), done(), key(name). Pixels count from the middle. */
(function (hotrow) {
  const CLICK = 5; // pixels that a hand shakes within a click
  const STEP = 60; // pixels of an arrow key

  /** Listen on `surface`; `tool()` is "move", "lasso" or "box". Returns a function: is it held by a hand right now? */
  function listen(surface, tool, tell) {
    const down = new Map(); // pointer → where it is
    let start = null;
    let last = null;
    let path = null;
    let far = false;

    const at = (event) => {
      const box = surface.getBoundingClientRect();
      return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    };
    const centre = () => {
      const places = Array.from(down.values());
      const sum = places.reduce(([x, y], [px, py]) => [x + px, y + py], [0, 0]);
      return sum.map((total) => total / places.length);
    };
    const apart = () => {
      const [a, b] = down.values();
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };

    function pressed(event) {
      if (event.button > 0) return;
      surface.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      if (down.size === 1) {
        start = last = at(event);
        far = false;
        const drawn = tool() !== "move" || event.shiftKey;
        path = drawn ? [start] : null;
      } else {
        path = null;
        far = true;
        tell.path(null);
        last = [...centre(), apart()];
      }
      tell.leave();
    }

    function pointed(event) {
      if (!down.has(event.pointerId)) {
        if (event.pointerType === "mouse") tell.hover(...at(event));
        return;
      }
      down.set(event.pointerId, at(event));
      if (down.size === 1) dragged(at(event));
      else if (down.size === 2) pinched();
    }

    function dragged(now) {
      if (!far && Math.hypot(now[0] - start[0], now[1] - start[1]) < CLICK) return;
      far = true;
      if (path) {
        path = tool() === "box" ? corners(start, now) : [...path, now];
        tell.path(path);
      } else {
        tell.move(now[0] - last[0], now[1] - last[1]);
      }
      last = now;
    }

    function pinched() {
      const [x, y, wide] = [...centre(), apart()];
      tell.move(x - last[0], y - last[1]);
      if (last[2] > 0 && wide > 0) tell.zoom(wide / last[2], x, y);
      last = [x, y, wide];
    }

    function released(event) {
      if (!down.delete(event.pointerId)) return;
      if (down.size) {
        last = centre();
        return;
      }
      const ended = event.type === "pointerup";
      if (ended && !far) tell.click(...at(event));
      if (ended && far && path && path.length > 2) tell.area(path);
      path = null;
      tell.path(null);
      tell.done();
    }

    surface.addEventListener("pointerdown", pressed);
    surface.addEventListener("pointermove", pointed);
    surface.addEventListener("pointerup", released);
    surface.addEventListener("pointercancel", released);
    surface.addEventListener("pointerleave", () => down.size || tell.leave());
    surface.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? 300 : 1;
      tell.zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) / 400), ...at(event));
    }, { passive: false });
    surface.addEventListener("keydown", (event) => key(event, tell));
    return () => down.size > 0;
  }

  const corners = ([left, top], [right, bottom]) => [[left, top], [right, top], [right, bottom], [left, bottom]];

  const KEYS = {
    ArrowLeft: (tell) => tell.move(STEP, 0),
    ArrowRight: (tell) => tell.move(-STEP, 0),
    ArrowUp: (tell) => tell.move(0, STEP),
    ArrowDown: (tell) => tell.move(0, -STEP),
    "+": (tell) => tell.zoom(1.5, 0, 0),
    "=": (tell) => tell.zoom(1.5, 0, 0),
    "-": (tell) => tell.zoom(1 / 1.5, 0, 0),
    0: (tell) => tell.key("whole"),
    Enter: (tell) => tell.key("choose"),
    Escape: (tell) => tell.key("escape"),
    m: (tell) => tell.key("move"),
    l: (tell) => tell.key("lasso"),
    b: (tell) => tell.key("box"),
  };

  function key(event, tell) {
    const what = KEYS[event.key];
    if (!what || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    what(tell);
  }

  hotrow.listen = listen;
})(globalThis.hotrow);
