// The list of recordings: CCC of valence and arousal of each run that is shown, sorted and filtered in place.

import { mark, penOf } from "./palette.js";
import { clockText } from "./traces.js";

export function score(value) {
  if (value === null || value === undefined) return "";
  const text = Math.abs(value).toFixed(2).replace(/^0/, "");
  return (value < 0 && text !== ".00" ? "−" : "") + text;
}

export class List {
  /** root: the nav; onopen(number): a recording was chosen. */
  constructor(root, onopen) {
    Object.assign(this, { root, onopen, sorted: { key: null, down: true }, current: null });
    this.filter = root.querySelector("input");
    this.filter.addEventListener("input", () => this.draw());
    this.filter.addEventListener("keydown", (event) => {
      if (event.key === "Escape") [this.filter.value] = [""], this.draw(), this.filter.blur();
      else if (event.key === "Enter" && this.order.length) this.onopen(this.order[0]), this.filter.blur();
    });
  }

  load(listing, shown) {
    this.rows = listing.recordings.map((row, number) => ({ ...row, number }));
    this.runs = listing.runs;
    this.shown = shown;
    this.draw();
  }

  mark(number) {
    this.current = number;
    for (const row of this.root.querySelectorAll("tbody tr")) {
      const here = Number(row.dataset.number) === number;
      here ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current");
      if (here) row.scrollIntoView({ block: "nearest" });
    }
  }

  /** The next recording of the list as it is sorted and filtered, by so many places. */
  beside(step) {
    const at = this.order.indexOf(this.current);
    return this.order[Math.max(0, Math.min(this.order.length - 1, at + step))] ?? this.current;
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const rows = this.rows.filter((r) => `${r.id} ${r.partition}`.toLowerCase().includes(wanted));
    rows.sort((a, b) => this.#before(a, b));
    this.order = rows.map((r) => r.number);
    const heads = () => [...this.root.querySelectorAll("thead button")];
    const focused = heads().indexOf(document.activeElement);
    this.root.querySelector("thead").replaceChildren(this.#head());
    heads()[focused]?.focus();
    this.root.querySelector("tbody").replaceChildren(...rows.map((r) => this.#row(r)));
    this.root.querySelector("#none").hidden = rows.length > 0;
    if (this.current !== null) this.mark(this.current);
  }

  #before(a, b) {
    const { key, down } = this.sorted;
    if (key === null) return a.number - b.number;
    if (key === "name") return (down ? 1 : -1) * a.id.localeCompare(b.id, undefined, { numeric: true });
    const [x, y] = [a, b].map((r) => r.ccc[key[0]]?.[key[1]] ?? null);
    if (x === null || y === null) return (x === null) - (y === null) || a.number - b.number;
    return (down ? y - x : x - y) || a.number - b.number;
  }

  #columns() {
    return this.runs.flatMap((_, i) => (this.shown[i] ? [[i, 0], [i, 1]] : []));
  }

  #head() {
    const row = document.createElement("tr");
    const cell = (key, text, label, pen) => {
      const th = document.createElement("th");
      th.scope = "col";
      const button = document.createElement("button");
      button.setAttribute("aria-label", label);
      button.title = label;
      if (pen) button.append(mark(pen));
      button.append(text);
      const same = JSON.stringify(this.sorted.key) === JSON.stringify(key);
      if (same) th.setAttribute("aria-sort", this.sorted.down === (key === "name") ? "ascending" : "descending");
      if (same) button.append(this.sorted.down ? " ↓" : " ↑");
      button.addEventListener("click", () => {
        this.sorted = { key, down: same ? !this.sorted.down : true };
        this.draw();
      });
      th.append(button);
      row.append(th);
    };
    cell("name", "Recording", "Sort by recording");
    for (const [run, dim] of this.#columns()) {
      const what = dim ? "arousal" : "valence";
      cell([run, dim], dim ? "A" : "V", `Sort by CCC of ${what}, run ${run + 1}: ${this.runs[run]}`, dim ? null : penOf(run));
    }
    return row;
  }

  #row(r) {
    const row = document.createElement("tr");
    row.dataset.number = r.number;
    const name = document.createElement("button");
    name.textContent = r.id;
    name.title = r.traces ? r.id : `${r.id}, predicted by none of the runs`;
    if (!r.traces) name.className = "bare";
    const small = document.createElement("small");
    small.textContent = [r.partition, r.seconds === null ? "damaged" : clockText(r.seconds)].filter(Boolean).join(" · ");
    name.append(small);
    const cells = [name, ...this.#columns().map(([run, dim]) => score(r.ccc[run]?.[dim]))];
    for (const content of cells) {
      const td = document.createElement("td");
      td.append(content);
      row.append(td);
    }
    row.addEventListener("click", () => this.onopen(r.number));
    return row;
  }
}
