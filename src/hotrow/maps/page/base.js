"use strict";
/* What the other files are made of: elements, ids as text, numbers, files to save.
 *
 * Ids are whatever people have: markup, text that runs from right to left, control characters, ten thousand letters. They
 * reach the page as text nodes and attributes alone; no file here parses a string as HTML. */
globalThis.hotrow = globalThis.hotrow ?? {};

(function (hotrow) {
  const SVG = "http://www.w3.org/2000/svg";

  /** An element: attributes by name, functions as listeners ("click"), children as nodes or text. */
  function el(tag, attributes = {}, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }

  /** The same, of a drawing. */
  function svg(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node.addEventListener(name, value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const byId = (id) => document.getElementById(id);

  const CONTROL = /[\u0000-\u001f\u007f]/g;
  const UNSEEN = /[\u0080-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

  /** An id as it can be read: control characters by their pictures, what can't be seen as a dot, at most `most` characters. */
  function readable(id, most = 200) {
    const some = id.length > 2 * most ? id.slice(0, 2 * most) : id;
    const letters = Array.from(some);
    const text = letters.slice(0, most).join("");
    const shown = text
      .replace(CONTROL, (c) => (c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))))
      .replace(UNSEEN, "\u00b7");
    if (shown.trim() === "") return "\u201c" + shown + "\u201d";
    return letters.length > most || some.length < id.length ? shown + "…" : shown;
  }

  /** An id as an element: in its own direction, one line, all of it on demand. */
  function named(id, most = 200) {
    return el("bdi", { class: "id", title: id.length > 24 ? readable(id, 2000) : null }, readable(id, most));
  }

  const whole = (number) => Math.round(number).toLocaleString("en");

  /** A number with a true minus, of so many digits after the point. */
  function decimal(number, digits = 2) {
    const text = Number(number).toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
  }

  /** A field of CSV. A spreadsheet takes what begins with = + - @ for a formula: an apostrophe makes it text. */
  function csvField(value) {
    const text = /^[=+\-@\t\r]/.test(value) && !/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(value) ? "'" + value : value;
    return /[",\r\n']/.test(text) || text !== text.trim() ? '"' + text.replaceAll('"', '""') + '"' : text;
  }

  const csv = (rows) => rows.map((row) => row.map((value) => csvField(String(value))).join(",") + "\r\n").join("");

  /** Hand a file to the browser to be saved. */
  function save(name, type, text) {
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  /** What went wrong, in words for a person; `status` is that of HTTP, 0 where nobody answered. */
  class Trouble extends Error {
    constructor(message, status = 0, alike = []) {
      super(message);
      this.status = status;
      this.alike = alike;
    }
  }

  /** `call`, but only once the calls for it have stopped for so many milliseconds, or what a function says; `.cancel()` takes
   *  the last one back. */
  function later(call, milliseconds) {
    let timer = 0;
    const soon = (...given) => {
      clearTimeout(timer);
      timer = setTimeout(() => call(...given), typeof milliseconds === "function" ? milliseconds() : milliseconds);
    };
    soon.cancel = () => clearTimeout(timer);
    return soon;
  }

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  Object.assign(hotrow, { el, svg, byId, readable, named, whole, decimal, csv, save, Trouble, later, calm });
})(globalThis.hotrow);
