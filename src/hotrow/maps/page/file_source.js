"use strict";
/* Where the page has its data from: an element of its own, as maps/embedding.py writes it. server_source.js has the same
 * methods over HTTP. Points are a side's ids in the order of the map; `rows` says which rows these are. */
(function (hotrow) {
  const ARRAYS = { float32: Float32Array, int32: Int32Array, int16: Int16Array };

  async function opened(blob) {
    const packed = Uint8Array.from(atob(blob.data), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = await new Response(stream).arrayBuffer();
    return blob.dtype === "json" ? JSON.parse(new TextDecoder().decode(bytes)) : new ARRAYS[blob.dtype](bytes);
  }

  class FileSource {
    constructor(element) {
      this._data = JSON.parse(element.textContent);
      element.remove(); // some megabytes that nobody reads again
      this._opened = {};
      this.saved = true;
    }

    /** A blob, read when it is first asked for; null where the page has none of this name. */
    _blob(name) {
      const blob = this._data.blobs[name];
      if (!blob) return null;
      this._opened[name] ??= opened(blob).then((values) => {
        blob.data = null;
        return values;
      });
      return this._opened[name];
    }

    async _places() {
      this._place ??= new Map((await this._blob("ids")).map((id, point) => [id, point]));
      return this._place;
    }

    async _pointOf(id) {
      const point = (await this._places()).get(id);
      if (point === undefined) throw new hotrow.Trouble("This id is not in the map.", 404, await this._alike(id));
      return point;
    }

    async _alike(id) {
      return (await this.complete("", id.slice(0, 4), 3)).ids;
    }

    async info() {
      this.said = this._data.said ?? [];
      return this._data.info;
    }

    async map() {
      return this._data.map;
    }

    points() {
      return this._blob("points");
    }

    column(side, column) {
      return this._blob(`column ${this._data.map.columns.findIndex((one) => one.name === column.name)}`);
    }

    async ids(side, points) {
      const ids = await this._blob("ids");
      return points.map((point) => ids[point]);
    }

    async rows(side, ids) {
      const places = await this._places();
      return ids.map((id) => places.get(id) ?? -1);
    }

    async complete(side, q, k) {
      const ids = await this._blob("ids");
      this._small ??= ids.map((id) => id.toLowerCase());
      const wanted = q.toLowerCase();
      const begin = [];
      const within = [];
      for (let point = 0; point < ids.length && begin.length < k; point++) {
        const place = this._small[point].indexOf(wanted);
        if (place === 0) begin.push(point);
        else if (place > 0 && within.length < k) within.push(point);
      }
      const exact = (await this._places()).get(q);
      const first = exact === undefined ? [] : [exact];
      const rows = [...first, ...begin.filter((row) => row !== exact), ...within.filter((row) => row !== exact)].slice(0, k);
      return { ids: rows.map((row) => ids[row]), rows };
    }

    async similar(side, id, k) {
      const point = await this._pointOf(id);
      const [near, scores, ids] = await Promise.all(["neighbours", "scores", "ids"].map((name) => this._blob(name)));
      if (!near || !scores) throw new hotrow.Trouble("This file has no neighbours inside, for it has very many points.");
      const width = this._data.blobs.neighbours.shape[1];
      const similar = [];
      for (let j = point * width; j < point * width + Math.min(k, width); j++)
        if (near[j] >= 0) similar.push({ id: ids[near[j]], score: scores[j] / 32767 });
      return { metric: this._data.metric, similar };
    }

    /** The one-hot picture's numbers; of each vector the page has the first columns only. */
    async explain(side, id) {
      const point = await this._pointOf(id);
      const [weights, rows, ids] = await Promise.all(["weights", "rows", "ids"].map((name) => this._blob(name)));
      if (!weights) throw new hotrow.Trouble("This file has no vectors inside, for it has very many points.");
      const width = this._data.blobs.weights.shape[1];
      const first = Math.max(0, Math.min(point - 2, ids.length - 5));
      const shown = Array.from({ length: Math.min(5, ids.length) }, (_, i) => first + i);
      const row = (one) => Array.from(weights.subarray(one * width, (one + 1) * width));
      return {
        id,
        side,
        row: rows ? rows[point] : point,
        rows: this._data.rows,
        dim: this._data.info.sides[0].dim,
        shown: {
          ids: shown.map((one) => ids[one]),
          rows: shown.map((one) => (rows ? rows[one] : one)),
          one_hot: shown.map((one) => (one === point ? 1 : 0)),
          weights: shown.map(row),
          columns: Array.from({ length: width }, (_, j) => j),
        },
        vector: row(point),
      };
    }
  }

  hotrow.FileSource = FileSource;
})(globalThis.hotrow);
