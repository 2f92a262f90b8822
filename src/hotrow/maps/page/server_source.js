"use strict";
/* Where the page has its data from: a hotrow server. file_source.js has the same methods over data within the page.
 *
 * Ids are text here, whatever their kind: JavaScript's numbers are whole only up to 2^53. */
(function (hotrow) {
  const PATIENCE = 60; // times that a busy server is asked, a second apart
  const NUMBERS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

  /** JSON, with whole numbers that JavaScript would round as text. */
  function parse(text) {
    return JSON.parse(text.replace(NUMBERS, (token) => (/^-?\d{16,}$/.test(token) ? `"${token}"` : token)));
  }

  const scored = (found) => found.map((one) => ({ id: String(one.id), score: one.score }));

  class ServerSource {
    /** Calls `troubled(true)` where nobody answers, `troubled(false)` when somebody does again; `token(wrong)` resolves to
     *  what a server that wants a token is to be shown; `busy(message)` is called while one that is busy is asked again. */
    constructor(troubled, token, busy) {
      this._troubled = troubled;
      this._busy = busy;
      this._ask = token;
      this._token = null;
      this._kinds = {};
      this.saved = false;
    }

    async _fetch(path, query = {}, options = {}, tries = PATIENCE) {
      const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
      const address = path + (pairs.length ? "?" + new URLSearchParams(pairs) : "");
      const headers = { ...options.headers, ...(this._token ? { Authorization: `Bearer ${this._token}` } : {}) };
      const shown = this._token;
      let answer;
      try {
        answer = await fetch(address, { ...options, headers });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        this._troubled(true);
        throw new hotrow.Trouble("The server doesn't answer.");
      }
      this._troubled(false);
      if (answer.ok) return answer;
      if (answer.status === 401) {
        if (shown === this._token) {
          this._asking ??= this._ask(Boolean(shown)).finally(() => (this._asking = null));
          this._token = await this._asking;
        }
        return this._fetch(path, query, options);
      }
      let told = {};
      try {
        told = parse(await answer.text()).error ?? {};
      } catch {
        // no JSON: whatever stands between the server and us has answered, and its status is all there is
      }
      if (answer.status === 503 && tries > 1) {
        this._busy(told.message ?? "The server is busy.");
        await new Promise((done) => setTimeout(done, 1000));
        return this._fetch(path, query, options, tries - 1);
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
      return { metric: answer.metric, similar: scored(answer.results[0].similar) };
    }

    async explain(side, id) {
      const told = await this._json("v1/explain", { side, id });
      told.id = String(told.id);
      told.shown.ids = told.shown.ids.map(String);
      return told;
    }

    async recommend(user, k) {
      const answer = await this._json("v1/recommend", { user, k });
      return scored(answer.recommended);
    }

    async recommendFor(side, items, k) {
      const answer = await this._post("v1/recommend", `{"items":${this._written(side, items)},"k":${k}}`);
      return scored(answer.recommended);
    }
  }

  hotrow.parse = parse;
  hotrow.ServerSource = ServerSource;
})(globalThis.hotrow);
