// Attention around the cursor: which stream looks where, in the window of the head that holds the frame. Asked for when
// it is open, one window at a time; a window is drawn again, and not asked for again, while the cursor moves within it.

import { colour, fresh } from "./palette.js";
import { clockText } from "./traces.js";

const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const [PROFILE, GAP, AXIS, STRIP] = [30, 6, 16, 14]; // pixels
const ALL = "all streams";

const percent = (share) => `${(100 * share).toPrecision(share < 0.0995 ? 2 : 3).replace(/\.0+$/, "")}\u00a0%`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const element = (name, given = {}, ...inside) => {
  const made = Object.assign(document.createElement(name), given);
  made.append(...inside);
  return made;
};

/** 256 colours, RGBA in a row, of the stops that the sheet has under a name. */
function ramp(name) {
  const stops = colour(name).split(",").map((hex) => [1, 3, 5].map((i) => parseInt(hex.trim().slice(i, i + 2), 16)));
  const found = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    const at = (Math.max(0, i - 1) / 254) * (stops.length - 1);
    const [low, part] = [Math.min(stops.length - 2, Math.floor(at)), at - Math.min(stops.length - 2, Math.floor(at))];
    for (let c = 0; c < 3; c++) found[i * 4 + c] = stops[low][c] * (1 - part) + stops[low + 1][c] * part;
    found[i * 4 + 3] = 255;
  }
  return found;
}

export class Maps {
  /** root: the section; got(path): its JSON; onseek(frame): a row of a map was pressed. */
  constructor(root, got, onseek) {
    Object.assign(this, { root, got, onseek, frame: 0, answer: null, busy: false, figures: [] });
    [this.button, this.run, this.body, this.note] = ["button", "select", ".body", ".note"].map((s) => root.querySelector(s));
    this.run.addEventListener("change", () => this.#forget());
    this.button.addEventListener("click", () => this.toggle());
    new ResizeObserver(() => this.draw()).observe(this.body);
  }

  get open() { return this.button.getAttribute("aria-expanded") === "true"; }

  toggle() {
    const open = !this.open;
    this.button.setAttribute("aria-expanded", open);
    this.root.querySelector(".inside").hidden = this.run.hidden = !open;
    this.#forget();
  }

  /** Another recording. runs: the names of all runs. */
  load(number, data, runs) {
    if (this.run.options.length !== runs.length) this.run.replaceChildren(...runs.map((name, i) => new Option(name, i)));
    if (this.data !== data) Object.assign(this, { number, data, frame: 0 });
    this.#forget();
  }

  show(frame) {
    this.frame = frame;
    if (!this.open || !this.data) return;
    if (this.answer && (this.answer.note || this.answer.shows.has(frame))) this.#move();
    else this.#ask();
  }

  /** All of it anew, as after a change of colours or width. */
  draw() {
    if (!this.open || !this.answer || this.answer.note) return;
    for (const figure of this.figures) figure.picture = null;
    this.#move();
  }

  #forget() {
    this.answer = null;
    if (this.open && this.data) this.#ask();
  }

  /** One question at a time; the cursor may have gone on meanwhile, and then the next one is for where it is. */
  async #ask() {
    if (this.busy) return;
    this.busy = true;
    const [asked, run, frame] = [this.data, this.run.value, this.frame];
    const late = setTimeout(() => (this.note.textContent = "Looking…"), 300);
    const answer = await this.got(`recordings/${this.number}/maps/${run}/${frame}`).catch((error) => ({ note: error.message }));
    clearTimeout(late);
    this.busy = false;
    if (!this.open) return;
    if (asked !== this.data || run !== this.run.value) return this.#ask();
    this.answer = answer;
    if (answer.shows) answer.shows = new Set(answer.shows);
    this.#fill();
    this.show(this.frame);
  }

  #fill() {
    const { answer } = this;
    this.note.textContent = answer.note ?? this.#about();
    const stages = answer.note ? [] : answer.stages;
    for (const legend of this.root.querySelectorAll(".legend")) {
      const kind = (map) => legend.classList.contains(map.over === "features" ? "signed" : "share");
      legend.hidden = !stages.some((s) => s.maps.some(kind));
    }
    const drawn = stages.map((s) => s.maps.map((m) => `${m.query}|${m.keys}|${m.over}`).join()).join(";");
    if (drawn !== this.drawn || !drawn) {
      this.drawn = drawn;
      this.figures = [];
      this.body.replaceChildren(...stages.map((stage) => this.#stage(stage)));
    }
    stages.flatMap((s) => s.maps).forEach((map, i) => {
      const values = Uint8Array.from(atob(map.values), (c) => c.charCodeAt(0));
      Object.assign(this.figures[i], { map, values, peak: values.indexOf(255), picture: null });
    });
  }

  #about() {
    const { pts } = this.data;
    const { frames, until, step } = this.answer;
    const cells = step > 1 ? `, ${step} tokens a cell` : "";
    return `Window of the head around the cursor: ${clockText(pts[frames[0]], 2)} to ${clockText(pts[until], 2)}${cells}.`;
  }

  #stage(stage) {
    const [{ over, query }] = stage.maps;
    const beside = stage.maps.filter((m) => m.query === query).length; // maps of one stream stay in a row
    const figures = element("div", { className: over === "streams" ? "strips" : `squares by${beside}` });
    for (const map of stage.maps) {
      const [canvas, told] = [element("canvas"), element("p", { className: "dim numbers" })];
      canvas.setAttribute("role", "img");
      const figure = { canvas, told, name: named(map) };
      canvas.addEventListener("click", (event) => this.#pressed(figure, event));
      figures.append(element("figure", {}, element("figcaption", { textContent: figure.name }), canvas, told));
      this.figures.push(figure);
    }
    const head = element("h3", { textContent: stage.name });
    const className = stage.maps.length === 1 && over !== "streams" ? "single" : "";
    return element("section", { className }, head, element("p", { className: "dim means", textContent: stage.means }), figures);
  }

  /** A moment that looks is gone to by a press on it. */
  #pressed({ canvas, map, place }, { clientX, clientY }) {
    const box = canvas.getBoundingClientRect();
    if (map.over === "features" || !place) return;
    const share = map.over === "time" ? (clientY - box.top) / place.side : (clientX - box.left - place.left) / place.side;
    if (share >= 0 && share < 1) this.onseek(this.answer.frames[Math.floor(share * map.rows)]);
  }

  #time(cell) { return clockText(this.data.pts[this.answer.frames[cell]], 2); }

  /** Only what the cursor changes, but for maps that are not drawn yet. */
  #move() {
    if (this.answer.note) return;
    const { frames } = this.answer;
    let row = 0;
    while (row + 1 < frames.length && frames[row + 1] <= this.frame) row++;
    const widths = this.figures.map(({ canvas }) => canvas.clientWidth); // all, before a height changes any
    for (const [i, figure] of this.figures.entries()) {
      if (!widths[i]) continue;
      figure.width = widths[i];
      const { over } = figure.map;
      figure.picture ??= this.#picture(figure);
      if (over === "time") this.#square(figure, row);
      else if (over === "streams") this.#strips(figure, row);
      else this.#features(figure);
    }
  }

  /** The cells of a map, one a pixel; of strips, streams from top to bottom and time to the right. */
  #picture({ map, values }) {
    const colours = ramp(map.over === "features" ? "both" : "scale");
    const lying = map.over === "streams";
    const canvas = new OffscreenCanvas(lying ? map.rows : map.columns, lying ? map.columns : map.rows);
    const g = canvas.getContext("2d");
    const image = g.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < values.length; i++) {
      if (values[i] === 0) continue; // nothing is there: the ground shows
      const at = lying ? (i % map.columns) * map.rows + Math.floor(i / map.columns) : i;
      image.data.set(colours.subarray(values[i] * 4, values[i] * 4 + 4), at * 4);
    }
    g.putImageData(image, 0, 0);
    return canvas;
  }

  #start(figure, height, left = 0) {
    const { width } = figure;
    figure.place = { left, side: width - left };
    figure.canvas.style.height = `${height}px`;
    const g = fresh(figure.canvas, width, height);
    g.imageSmoothingEnabled = figure.picture.width > (width - left) * (devicePixelRatio || 1);
    g.font = FONT;
    g.fillStyle = colour("dim");
    return g;
  }

  /** First and last time of the window below a map. */
  #axis(g, left, side, y) {
    g.fillStyle = colour("dim");
    g.textBaseline = "top";
    g.textAlign = "left";
    g.fillText(clockText(this.data.pts[this.answer.frames[0]], 1), left, y + 4);
    g.textAlign = "right";
    g.fillText(clockText(this.data.pts[this.answer.until], 1), left + side, y + 4);
  }

  #square(figure, row) {
    const { map, values, peak, canvas, told, width: side } = figure;
    const g = this.#start(figure, side + GAP + PROFILE + AXIS);
    g.fillStyle = colour("faint");
    g.fillRect(0, 0, side, side);
    g.drawImage(figure.picture, 0, 0, side, side);
    const [y, thick] = [(row / map.rows) * side, Math.max(1, side / map.rows)];
    g.strokeStyle = "#000";
    g.lineWidth = 1;
    g.strokeRect(-1, y - 1.5, side + 2, thick + 3);
    g.fillStyle = "#fff";
    for (const at of [y - 1, y + thick]) g.fillRect(0, at, side, 1);
    const now = values.subarray(row * map.columns, (row + 1) * map.columns);
    this.#profile(g, now, side, row);
    this.#axis(g, 0, side, side + GAP + PROFILE);
    const seen = now.filter((v) => v > 0).length;
    const most = now.indexOf(Math.max(...now));
    const share = (code) => ((code - 1) / 254) * map.top;
    const at = seen ? `now most at ${this.#time(most)}: ${percent(share(now[most]))}` : "now: nothing there";
    told.textContent = seen ? `${at} (evenly ${percent(1 / seen)})` : at;
    const [by, on] = [Math.floor(peak / map.columns), peak % map.columns];
    const whole = peak < 0 ? "" : ` Strongest in the window: at ${this.#time(by)} on ${this.#time(on)}, ${percent(map.top)}.`;
    canvas.setAttribute("aria-label", `${figure.name}. At ${this.#time(row)}, ${told.textContent}.${whole}`);
  }

  /** The row of the cursor as a curve, over the same columns; a mark where it is itself. */
  #profile(g, now, side, row) {
    const bottom = side + GAP + PROFILE;
    const step = side / now.length;
    g.fillStyle = colour("faint");
    g.fillRect(0, side + GAP, side, PROFILE);
    g.fillStyle = colour("dim");
    g.beginPath();
    g.moveTo(0, bottom);
    now.forEach((v, i) => {
      const y = bottom - (Math.max(0, v - 1) / 254) * (PROFILE - 1);
      g.lineTo(i * step, y);
      g.lineTo((i + 1) * step, y);
    });
    g.lineTo(side, bottom);
    g.fill();
    g.fillStyle = colour("ink");
    g.fillRect(Math.round((row + 0.5) * step), side + GAP, 1, PROFILE + 4);
  }

  #strips(figure, row) {
    const { map, values, canvas, told } = figure;
    const left = figure.width < 560 ? 58 : 68;
    const height = map.columns * STRIP;
    const g = this.#start(figure, height + AXIS, left);
    const { side } = figure.place;
    g.textAlign = "right";
    g.textBaseline = "middle";
    map.keys.forEach((name, i) => {
      g.fillStyle = colour("dim");
      g.fillText(name, left - 8, (i + 0.5) * STRIP, left - 10);
      g.fillStyle = colour("faint");
      g.fillRect(left, i * STRIP, side, STRIP - 2);
      g.drawImage(figure.picture, 0, i, map.rows, 1, left, i * STRIP, side, STRIP - 2);
    });
    this.#axis(g, left, side, height);
    const x = left + ((row + 0.5) / map.rows) * side;
    g.fillStyle = "#000a";
    g.fillRect(x - 1.5, 0, 3, height - 2);
    g.fillStyle = "#fff";
    g.fillRect(x - 0.5, 0, 1, height - 2);
    const now = values.subarray(row * map.columns, (row + 1) * map.columns);
    const parts = map.keys.map((name, i) => (now[i] ? `${name} ${percent(((now[i] - 1) / 254) * map.top)}` : null)).filter(Boolean);
    told.textContent = parts.length ? `now ${parts.join(", ")}` : "now: nothing there";
    canvas.setAttribute("aria-label", `${figure.name}. At ${this.#time(row)}, ${told.textContent}.`);
  }

  #features(figure) {
    const { map, values, canvas, told, width: side } = figure;
    const g = this.#start(figure, side);
    g.drawImage(figure.picture, 0, 0, side, side);
    const value = (code) => ((code - 128) / 127) * map.top;
    let [most, sum] = [128, 0];
    for (const code of values) {
      if (Math.abs(code - 128) > Math.abs(most - 128)) most = code;
      sum += Math.abs(value(code));
    }
    told.textContent = `strongest ${signed(value(most))}, mean size ${(sum / values.length).toFixed(2)}`;
    canvas.setAttribute("aria-label", `${figure.name}: ${told.textContent}. ${map.rows} by ${map.columns} features.`);
  }
}

function named({ query, keys, over }) {
  const [key] = keys;
  if (over === "features") return `${query} with ${key === query ? "itself" : key}`;
  if (over === "streams") return query;
  if (query === ALL) return ALL;
  return `${query} at ${key === query ? "itself" : key}`;
}
