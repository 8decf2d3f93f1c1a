// Valence, arousal, words and presence over one axis of time. Lines are drawn once a view, as the least and the
// greatest value of every pixel; the cursor lies on a canvas of its own, so scrubbing redraws no line.

import { colour, fresh } from "./palette.js";
import { frameAt } from "./clock.js";

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const DIMS = ["valence", "arousal"];

export function clockText(t, digits = 0) {
  const sign = t < 0 ? "−" : "";
  const whole = Math.abs(t).toFixed(digits);
  const minutes = Math.floor(whole / 60);
  const rest = (whole - minutes * 60).toFixed(digits);
  return `${sign}${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

export class Traces {
  /** root: the element with two canvases; onseek(t) is called while the user points at a time. */
  constructor(root, onseek) {
    this.root = root;
    [this.still, this.moving] = root.querySelectorAll("canvas");
    this.data = null;
    this.frame = 0;
    new ResizeObserver(() => this.draw()).observe(root);
    const point = (event) => onseek(this.timeAt(event.clientX - root.getBoundingClientRect().left));
    root.addEventListener("pointerdown", (event) => {
      if (event.button || !this.data) return;
      root.setPointerCapture(event.pointerId);
      this.dragging = true;
      point(event);
    });
    root.addEventListener("pointermove", (event) => this.dragging && point(event));
    for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, () => (this.dragging = false));
  }

  /** data: a recording; lines: [{valence, arousal, pen, width, shown}], the annotation among them. */
  load(data, lines) {
    Object.assign(this, { data, lines, frame: 0, from: data.pts[0], to: data.end });
    this.draw();
  }

  /** factor < 1 shows less, around the cursor; 0 the whole. */
  zoom(factor) {
    const { pts, end } = this.data;
    const span = factor ? Math.min(end - pts[0], Math.max(0.5, (this.to - this.from) * factor)) : end - pts[0];
    this.#around(span);
    this.draw();
  }

  #around(span) {
    const { pts, end } = this.data;
    this.from = Math.max(pts[0], Math.min(end - span, pts[this.frame] - span / 2));
    this.to = this.from + span;
  }

  /** Only the cursor, but where it has left the view. */
  show(frame) {
    this.frame = frame;
    const t = this.data.pts[frame];
    if (!this.dragging && (t < this.from || t > this.to)) {
      this.#around(this.to - this.from);
      this.draw();
    } else this.#cursor();
  }

  timeAt(x) {
    const { left, right } = this.place;
    const share = Math.max(0, Math.min(1, (x - left) / (right - left)));
    return this.from + share * (this.to - this.from);
  }

  x(t) { return this.place.left + ((t - this.from) / (this.to - this.from)) * (this.place.right - this.place.left); }

  #measure() {
    const width = this.root.clientWidth;
    const [left, height, gap] = width < 560 ? [58, 104, 24] : [68, 138, 26];
    const place = { width, left, right: width - 12, height, tops: [10, 10 + height + gap] };
    let y = place.tops[1] + height + 14;
    place.words = this.data.words.length ? y : null;
    if (this.data.words.length) y += 26;
    place.strips = this.data.streams.map((_, i) => y + i * 16);
    y += this.data.streams.length * 16;
    place.axis = y + 4;
    place.total = y + 26;
    this.place = place;
  }

  draw() {
    if (!this.data || !this.root.clientWidth) return;
    this.#measure();
    const p = this.place;
    this.root.style.height = `${p.total}px`;
    const g = fresh(this.still, p.width, p.total);
    g.font = FONT;
    this.#axis(g);
    DIMS.forEach((name, i) => this.#panel(g, name, p.tops[i]));
    if (p.words !== null) this.#words(g);
    this.data.streams.forEach((stream, i) => this.#strip(g, stream, p.strips[i]));
    this.#cursor();
  }

  #axis(g) {
    const p = this.place;
    const wanted = (this.to - this.from) / Math.max(2, (p.right - p.left) / 90);
    const step = STEPS.find((s) => s >= wanted) ?? STEPS.at(-1);
    g.fillStyle = colour("dim");
    g.strokeStyle = colour("line");
    g.lineWidth = 1;
    g.textAlign = "center";
    g.textBaseline = "top";
    for (let k = Math.ceil(this.from / step - 1e-9); k * step <= this.to; k++) {
      const x = Math.round(this.x(k * step)) + 0.5;
      g.beginPath();
      g.moveTo(x, p.tops[0]);
      g.lineTo(x, p.axis);
      g.stroke();
      if (x < p.right - 10 || x > p.right - 2) g.fillText(clockText(k * step, step < 1 ? 1 : 0), x, p.axis + 5);
    }
  }

  #panel(g, name, top) {
    const p = this.place;
    g.textAlign = "right";
    g.textBaseline = "middle";
    g.strokeStyle = colour("line");
    for (const value of [1, 0, -1]) {
      const y = Math.round(this.#y(top, value)) + 0.5;
      g.beginPath();
      g.moveTo(p.left, y);
      g.lineTo(p.right, y);
      g.stroke();
      g.fillStyle = colour("dim");
      g.fillText(value > 0 ? "+1" : value < 0 ? "−1" : "0", p.left - 8, y);
    }
    g.save();
    g.translate(12, top + p.height / 2);
    g.rotate(-Math.PI / 2);
    g.textAlign = "center";
    g.font = `600 ${FONT}`;
    g.fillStyle = colour(`${name}-text`);
    g.fillText(name, 0, 0);
    g.restore();
    g.save();
    g.beginPath();
    g.rect(p.left, top - 4, p.right - p.left, p.height + 8);
    g.clip();
    g.lineJoin = "round";
    for (const line of this.lines) if (line.shown && line[name]) this.#line(g, line[name], line, name, top);
    g.restore();
  }

  #y(top, value) { return top + ((1 - Math.max(-1, Math.min(1, value))) / 2) * this.place.height; }

  /** values may hold null: there the line has a gap. */
  #line(g, values, line, name, top) {
    const { pts } = this.data;
    const first = Math.max(0, frameAt(pts, this.from) - 1);
    const last = Math.min(pts.length - 1, frameAt(pts, this.to) + 1);
    g.strokeStyle = line.pen ? line.pen[name] : colour("ink");
    g.lineWidth = line.width;
    g.setLineDash(line.pen?.dash ?? []);
    g.beginPath();
    let [column, low, high, end, open] = [-1, 0, 0, 0, false];
    const close = () => { // of a pixel: from its least to its greatest value, on to its last
      if (column < 0) return;
      if (high > low) [low, high, end].forEach((v) => g.lineTo(column, this.#y(top, v)));
      column = -1;
    };
    for (let i = first; i <= last; i++) {
      const value = values[i];
      if (value === null) {
        close();
        if (open && (i < 2 || values[i - 2] === null)) this.#dot(g, i - 1, values[i - 1], top);
        open = false;
        continue;
      }
      const x = this.x(pts[i]);
      if (Math.abs(x - column) < 0.5 && column >= 0) {
        [low, high, end] = [Math.min(low, value), Math.max(high, value), value];
        continue;
      }
      close();
      [column, low, high, end] = [x, value, value, value];
      open ? g.lineTo(x, this.#y(top, value)) : g.moveTo(x, this.#y(top, value));
      open = true;
    }
    close();
    g.stroke();
    g.setLineDash([]);
  }

  /** A frame that is labelled alone is no line, but is seen. */
  #dot(g, i, value, top) {
    const [x, y] = [this.x(this.data.pts[i]), this.#y(top, value)];
    g.moveTo(x, y);
    g.lineTo(x + 1, y);
  }

  #words(g) {
    const p = this.place;
    g.save();
    g.beginPath();
    g.rect(p.left, p.words - 4, p.right - p.left, 26);
    g.clip();
    g.textAlign = "left";
    g.textBaseline = "top";
    let free = -Infinity;
    for (const [text, start, end] of this.data.words) {
      if (end < this.from || start > this.to) continue;
      const [a, b] = [this.x(start), this.x(end)];
      g.fillStyle = colour("dim");
      g.globalAlpha = 0.45;
      g.fillRect(a, p.words + 16, Math.max(1, b - a - 1), 2);
      g.globalAlpha = 1;
      const width = g.measureText(text.slice(0, 80)).width;
      if (a < free || (width > Math.max(b - a, 12) * 2.4 && width > 60)) continue;
      g.fillText(text.slice(0, 80), a, p.words);
      free = a + width + 6;
    }
    g.restore();
    this.#label(g, "words", p.words + 8);
  }

  #strip(g, stream, top) {
    const { pts, end } = this.data;
    const p = this.place;
    g.fillStyle = colour("line");
    g.fillRect(p.left, top + 4, p.right - p.left, 6);
    g.fillStyle = colour("dim");
    for (const [a, b] of stream.spans) {
      const x1 = Math.max(p.left, this.x(pts[a]));
      const x2 = Math.min(p.right, this.x(b < pts.length ? pts[b] : end));
      if (x2 > x1) g.fillRect(x1, top + 4, Math.max(0.5, x2 - x1), 6);
    }
    this.#label(g, stream.name, top + 7);
  }

  #label(g, text, y) {
    let shown = text;
    while (shown.length > 1 && g.measureText(shown).width > this.place.left - 10) shown = `${shown.slice(0, -2)}…`;
    g.fillStyle = colour("dim");
    g.textAlign = "right";
    g.textBaseline = "middle";
    g.fillText(shown, this.place.left - 8, y);
  }

  #cursor() {
    const p = this.place;
    const g = fresh(this.moving, p.width, p.total);
    const x = this.x(this.data.pts[this.frame]);
    if (x < p.left - 1 || x > p.right + 1) return;
    g.strokeStyle = colour("ink");
    g.lineWidth = 1;
    g.beginPath();
    g.moveTo(Math.round(x) + 0.5, p.tops[0] - 8);
    g.lineTo(Math.round(x) + 0.5, p.axis);
    g.stroke();
    DIMS.forEach((name, i) => {
      for (const line of this.lines) {
        const value = line.shown && line[name]?.[this.frame];
        if (typeof value !== "number") continue;
        g.beginPath();
        g.arc(x, this.#y(p.tops[i], value), 4, 0, 2 * Math.PI);
        g.fillStyle = line.pen ? line.pen[name] : colour("ink");
        g.fill();
        g.strokeStyle = colour("paper");
        g.lineWidth = 1.5;
        g.stroke();
      }
    });
  }
}
