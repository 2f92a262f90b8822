"use strict";
/* Where the page has its data from: a hotrow server. file_source.js has the same methods over data within the page.
 *
 * Ids are text here, whatever their kind: JavaScript's numbers are whole only up to 2^53. */
(function (hotrow) {
  const NUMBERS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

  /** JSON, with whole numbers that JavaScript would round as text. */
  function parse(text) {
    return JSON.parse(text.replace(NUMBERS, (token) => (/^-?\d{16,}$/.test(token) ? `"${token}"` : token)));
  }

  class ServerSource {
    /** Calls `troubled(true)` where nobody answers, `troubled(false)` when somebody does again. */
    constructor(troubled = () => {}) {
      this._troubled = troubled;
      this._kinds = {};
      this.saved = false;
    }

    async _fetch(path, query = {}, options = {}) {
      const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
      const address = path + (pairs.length ? "?" + new URLSearchParams(pairs) : "");
      let answer;
      try {
        answer = await fetch(address, { credentials: "same-origin", ...options });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        this._troubled(true);
        throw new hotrow.Trouble("The server doesn't answer.");
      }
      this._troubled(false);
      if (answer.ok) return answer;
      let told = {};
      try {
        told = parse(await answer.text()).error ?? {};
      } catch {
        // no JSON: whatever stands between the server and us has answered, and its status is all there is
      }
      throw new hotrow.Trouble(told.message ?? `The server answered ${answer.status}.`, answer.status, (told.alike ?? []).map(String));
    }

    async _json(path, query, options) {
      return parse(await (await this._fetch(path, query, options)).text());
    }

    _post(path, body) {
      return this._json(path, {}, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    }

    /** Ids as JSON: text of a string side, numbers as they are written of others. */
    _written(side, ids) {
      return "[" + ids.map((id) => (this._kinds[side] === "string" ? JSON.stringify(id) : id)).join(",") + "]";
    }

    async info() {
      const info = await this._json("v1/info");
      for (const side of info.sides) this._kinds[side.name] = side.kind;
      return info;
    }

    map(side) {
      return this._json("v1/map", { side });
    }

    better(side) {
      return this._json("v1/map/better", { side }, { method: "POST" });
    }

    async points(side, stamp) {
      return new Float32Array(await (await this._fetch("v1/map/points", { side, stamp })).arrayBuffer());
    }

    async column(side, column, stamp) {
      const bytes = await (await this._fetch("v1/map/column", { side, name: column.name, stamp })).arrayBuffer();
      return column.kind === "category" ? new Int32Array(bytes) : new Float32Array(bytes);
    }

    async ids(side, points, stamp) {
      const ids = [];
      for (let at = 0; at < points.length; at += 1000) {
        const rows = points.slice(at, at + 1000).join(",");
        ids.push(...(await this._json("v1/map/ids", { side, rows, stamp })).ids);
      }
      return ids;
    }

    async rows(side, ids) {
      if (!ids.length) return [];
      return (await this._post("v1/map/rows", JSON.stringify({ side, ids }))).rows;
    }

    complete(side, q, k, signal) {
      return this._json("v1/complete", { side, q, k }, { signal });
    }

    async similar(side, id, k) {
      const body = `{"side":${JSON.stringify(side)},"ids":${this._written(side, [id])},"k":${k}}`;
      const answer = await this._post("v1/similar", body);
      const similar = answer.similar[0] ?? [];
      const found = Array.isArray(similar) ? similar : similar.similar;
      return { metric: answer.metric, similar: found.map((one) => ({ id: String(one.id), score: one.score })) };
    }

    async explain(side, id) {
      const query = { side, id };
      const told = await this._json("v1/explain", query);
      told.shown.ids = told.shown.ids.map(String);
      return told;
    }

    async recommend(user, k) {
      const answer = await this._json("v1/recommend", { user, k });
      return answer.recommended.map((one) => ({ id: String(one.id), score: one.score }));
    }

    async recommendFor(side, items, k) {
      const answer = await this._post("v1/recommend", `{"items":${this._written(side, items)},"k":${k}}`);
      return answer.recommended.map((one) => ({ id: String(one.id), score: one.score }));
    }
  }

  hotrow.parse = parse;
  hotrow.ServerSource = ServerSource;
})(globalThis.hotrow);
