"use strict";
/* What lies over the points: the chosen one and lines to its neighbours, what is selected, names. A canvas knows no HTML, so
 * an id is letters to it, whatever these are. */
(function (hotrow) {
  const { pixel } = hotrow.view;
  const MOST_SELECTED = 20_000;
  const FAR = 0.1; // of the width: so much may come bare at an edge, for as long as the view moves
  const FONT = "system-ui, sans-serif";

  class Marks {
    constructor(canvas) {
      this._canvas = canvas;
      this._pen = canvas.getContext("2d");
      this.chosen = null; // {point, id}
      this.near = []; // [{point, id, score}], best first
      this.hovered = -1;
      this.selected = [];
      this.path = null; // of a lasso, in pixels
      this.titles = []; // [{x, y, name}]: of groups
      this.names = []; // [{point, id}]: of single points
      this.cross = false;
    }

    resize(width, height) {
      const ratio = devicePixelRatio || 1;
      Object.assign(this, { width, height });
      this._canvas.width = Math.round(width * ratio);
      this._canvas.height = Math.round(height * ratio);
      this._pen.setTransform(ratio, 0, 0, ratio, (width * ratio) / 2, (height * ratio) / 2);
    }

    /** Follow a view that has moved a little and not zoomed, without drawing; no, if that can't be. */
    follow(view) {
      if (!this._view || this._view.scale !== view.scale) return false;
      const [x, y] = pixel(view, this._view.x, this._view.y);
      if (Math.abs(x) > FAR * this.width || Math.abs(y) > FAR * this.height) return false;
      this._canvas.style.transform = `translate(${x}px, ${y}px)`;
      return true;
    }

    /** Draw all of it, but for the names of single points while somebody zooms; `colours` are those of the page's style. */
    draw(view, points, colours, zooming) {
      const pen = this._pen;
      this._view = view;
      this._canvas.style.transform = "";
      pen.clearRect(-this.width / 2, -this.height / 2, this.width, this.height);
      const at = (point) => pixel(view, points[2 * point], points[2 * point + 1]);
      this._taken = [];
      this._selection(at, colours);
      this._neighbours(at, colours);
      if (this.hovered >= 0) this._ring(at(this.hovered), 5, colours.ink, 1.5);
      if (this.chosen) this._label(at(this.chosen.point), this.chosen.id, colours, true);
      for (const { point, id } of this.near.slice(0, 10)) this._label(at(point), id, colours, false);
      if (!this.chosen) {
        this._titles(view, colours);
        for (const { point, id } of zooming ? [] : this.names) this._label(at(point), id, colours, false, true);
      }
      if (this.path) this._lasso(colours);
      if (this.cross) this._crosshair(colours);
    }

    _selection(at, colours) {
      const pen = this._pen;
      const step = Math.ceil(this.selected.length / MOST_SELECTED) || 1;
      pen.fillStyle = colours.accent;
      for (let i = 0; i < this.selected.length; i += step) {
        const [x, y] = at(this.selected[i]);
        pen.fillRect(x - 1.5, y - 1.5, 3, 3);
      }
    }

    _neighbours(at, colours) {
      if (!this.chosen) return;
      const pen = this._pen;
      const [x, y] = at(this.chosen.point);
      pen.strokeStyle = colours.accent;
      for (const { point } of this.near) {
        const [nx, ny] = at(point);
        pen.globalAlpha = 0.55;
        pen.lineWidth = 1.2;
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(nx, ny);
        pen.stroke();
        pen.globalAlpha = 1;
        this._dot([nx, ny], 4, colours.paper, colours.accent);
      }
      this._dot([x, y], 7, colours.accent, colours.paper);
    }

    _dot([x, y], radius, inside, border) {
      const pen = this._pen;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fillStyle = inside;
      pen.fill();
      pen.lineWidth = 2;
      pen.strokeStyle = border;
      pen.stroke();
    }

    _ring([x, y], radius, colour, width) {
      const pen = this._pen;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.stroke();
    }

    /** Is there room for a box? If so it is taken from now on. */
    _room(left, top, width, height) {
      const [right, bottom] = [left + width, top + height];
      if (right < -this.width / 2 || left > this.width / 2 || bottom < -this.height / 2 || top > this.height / 2) return false;
      const free = this._taken.every(([l, t, r, b]) => right < l || left > r || bottom < t || top > b);
      if (free) this._taken.push([left, top, right, bottom]);
      return free;
    }

    _label([x, y], id, colours, strong, quiet = false) {
      const pen = this._pen;
      const text = hotrow.readable(id, 28);
      pen.font = `${strong ? "600 14px" : quiet ? "11px" : "12px"} ${FONT}`;
      const width = pen.measureText(text).width;
      const sides = x + 10 + width < this.width / 2 ? [x + 10, x - 10 - width] : [x - 10 - width];
      const left = sides.find((side) => this._room(side - 2, y - 8, width + 4, 16));
      if (left !== undefined) this._words(text, left, y, quiet ? colours.faint : colours.ink, colours.paper);
    }

    _titles(view, colours) {
      const pen = this._pen;
      pen.font = `600 13px ${FONT}`;
      for (const { x, y, name } of this.titles) {
        const [px, py] = pixel(view, x, y);
        const text = hotrow.readable(name, 28);
        const width = pen.measureText(text).width;
        if (this._room(px - width / 2 - 4, py - 10, width + 8, 20)) this._words(text, px - width / 2, py, colours.ink, colours.paper);
      }
    }

    _words(text, left, middle, colour, halo) {
      const pen = this._pen;
      pen.textBaseline = "middle";
      pen.textAlign = "left";
      pen.direction = "ltr";
      pen.lineJoin = "round";
      pen.lineWidth = 3.5;
      pen.strokeStyle = halo;
      pen.strokeText(text, left, middle);
      pen.fillStyle = colour;
      pen.fillText(text, left, middle);
    }

    _lasso(colours) {
      const pen = this._pen;
      pen.beginPath();
      this.path.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.globalAlpha = 0.12;
      pen.fillStyle = colours.accent;
      pen.fill();
      pen.globalAlpha = 1;
      pen.lineWidth = 1.5;
      pen.strokeStyle = colours.accent;
      pen.stroke();
    }

    _crosshair(colours) {
      const pen = this._pen;
      pen.beginPath();
      for (const [x, y, toX, toY] of [[-9, 0, -3, 0], [3, 0, 9, 0], [0, -9, 0, -3], [0, 3, 0, 9]]) {
        pen.moveTo(x, y);
        pen.lineTo(toX, toY);
      }
      pen.lineWidth = 1.5;
      pen.strokeStyle = colours.ink;
      pen.stroke();
    }
  }

  hotrow.Marks = Marks;
})(globalThis.hotrow);
