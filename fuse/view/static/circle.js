// The circumplex: where each trace is now, and where it came from in the last two seconds.

import { colour, fresh } from "./palette.js";

const TRAIL = 2; // seconds

export class Circle {
  constructor(canvas) {
    this.canvas = canvas;
    this.data = null;
    new ResizeObserver(() => this.show(this.frame)).observe(canvas);
  }

  load(data, lines) {
    Object.assign(this, { data, lines, frame: 0 });
  }

  show(frame) {
    if (!this.data) return;
    this.frame = frame;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const g = fresh(this.canvas, width, height);
    const radius = Math.max(10, Math.min(width / 2 - 20, height / 2 - 22));
    const within = (value) => Math.max(-1, Math.min(1, value));
    const at = (v, a) => [width / 2 + within(v) * radius, height / 2 - within(a) * radius];
    this.#ground(g, at, radius);
    for (const line of this.lines) if (line.shown && line.valence) this.#trail(g, line, at);
  }

  #ground(g, at, radius) {
    g.strokeStyle = colour("line");
    g.lineWidth = 1;
    for (const r of [0.5, 1]) {
      g.beginPath();
      g.arc(...at(0, 0), r * radius, 0, 2 * Math.PI);
      g.stroke();
    }
    for (const [a, b] of [[at(-1, 0), at(1, 0)], [at(0, -1), at(0, 1)]]) {
      g.beginPath();
      g.moveTo(...a);
      g.lineTo(...b);
      g.stroke();
    }
    g.font = "600 12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
    g.textAlign = "center";
    g.fillStyle = colour("arousal-text");
    g.fillText("arousal", at(0, 1)[0], at(0, 1)[1] - 8);
    g.fillStyle = colour("valence-text");
    g.save();
    g.translate(at(1, 0)[0] + 14, at(1, 0)[1]);
    g.rotate(Math.PI / 2);
    g.fillText("valence", 0, 3);
    g.restore();
  }

  #trail(g, line, at) {
    const { pts } = this.data;
    const now = pts[this.frame];
    const tint = line.pen ? line.pen.valence : colour("ink");
    g.strokeStyle = tint;
    g.lineWidth = line.pen ? 1.5 : 2;
    let before = null;
    for (let i = this.frame; i >= 0 && now - pts[i] <= TRAIL; i--) {
      const here = line.valence[i] === null ? null : at(line.valence[i], line.arousal[i]);
      if (before && here) {
        g.globalAlpha = 0.75 * (1 - (now - pts[i]) / TRAIL) + 0.05;
        g.beginPath();
        g.moveTo(...before);
        g.lineTo(...here);
        g.stroke();
      }
      before = here;
    }
    g.globalAlpha = 1;
    if (line.valence[this.frame] !== null) this.#head(g, line, at(line.valence[this.frame], line.arousal[this.frame]));
  }

  #head(g, line, [x, y]) {
    const halves = line.pen ? [line.pen.valence, line.pen.arousal] : [colour("ink"), colour("ink")];
    halves.forEach((fill, i) => {
      g.beginPath();
      g.arc(x, y, 5.5, (i ? -1 : 1) * Math.PI / 2, (i ? 1 : 3) * Math.PI / 2);
      g.fillStyle = fill;
      g.fill();
    });
    g.beginPath();
    g.arc(x, y, 5.5, 0, 2 * Math.PI);
    g.strokeStyle = colour("paper");
    g.lineWidth = 1.5;
    g.stroke();
  }
}
