// The page: opens recordings, and joins the list, the clock, the traces, the circumplex and the maps. All text is set as text.

import { Circle } from "./circle.js";
import { Clock } from "./clock.js";
import { listen } from "./keys.js";
import { List, score } from "./list.js";
import { Maps } from "./maps.js";
import { mark, penOf, themes } from "./palette.js";
import { clockText, Traces } from "./traces.js";

const $ = (id) => document.getElementById(id);
const AROUND = 6; // seconds of words before and after

const page = { listing: null, shown: [], data: null, lines: [], cells: [], asked: 0 };
const clock = new Clock($("film"), $("sound"), { onframe: show, onstate: playing, onfail: unplayable });
const traces = new Traces($("traces"), (t) => clock.seekTime(t));
const circle = new Circle($("circle"));
const list = new List($("list"), go);
const maps = new Maps($("maps"), got, (frame) => clock.seek(frame));

async function got(path) {
  const answer = await fetch(path);
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error ?? `${path}: ${answer.status}`);
  return told;
}

function say(text) {
  $("state").textContent = text;
  $("state").hidden = !text;
}

async function start() {
  page.listing = await got("recordings");
  page.shown = page.listing.runs.map((_, i) => i < 4);
  $("dataset").textContent = page.listing.dataset;
  list.load(page.listing, page.shown);
  addEventListener("hashchange", () => open(fromHash()));
  await open(fromHash());
}

function fromHash() {
  const number = Number(location.hash.slice(1));
  return page.listing.recordings[number] ? number : list.order[0] ?? 0;
}

function go(number) {
  document.body.classList.remove("listing");
  $("menu").setAttribute("aria-expanded", "false");
  if (number !== list.current) location.hash = number;
}

async function open(number) {
  const asked = ++page.asked;
  clock.pause();
  list.mark(number);
  try {
    const data = await got(`recordings/${number}`);
    if (asked !== page.asked) return; // another one was opened meanwhile
    say("");
    fill(data, number);
  } catch (error) {
    $("main").hidden = true;
    if (asked === page.asked) say(`This recording cannot be shown: ${error.message}`);
  }
}

function fill(data, number) {
  page.data = data;
  $("main").hidden = false;
  $("name").textContent = data.id;
  document.title = `${data.id} · Affuse`;
  const { partition, seconds } = page.listing.recordings[number];
  const rate = data.pts.length > 1 ? (data.pts.length - 1) / (data.pts.at(-1) - data.pts[0]) : 0;
  const about = [partition, clockText(seconds), `${data.pts.length.toLocaleString("en")} frames`];
  if (rate) about.push(`${rate.toFixed(rate % 1 < 0.05 || rate % 1 > 0.95 ? 0 : 1)} a second`);
  $("about").textContent = about.filter(Boolean).join(" · ");
  $("traces").setAttribute("aria-valuemin", data.pts[0]);
  $("traces").setAttribute("aria-valuemax", data.pts.at(-1));
  tell(data);
  maps.load(number, data, page.listing.runs);
  noFilm(data.media ? "" : "No media: give the corpus with --root.");
  draw();
  clock.load(data.pts, data.end, data.media ? `media/${number}` : null, data.sound ? `sound/${number}` : null);
}

/** What is missing, in words. */
function tell(data) {
  const notes = [...data.notes];
  if (!data.annotation) notes.push("No frame is annotated here.");
  data.runs.forEach((run, i) => run?.note && notes.push(`Run ${i + 1} (${page.listing.runs[i]}) is not drawn: ${run.note}`));
  $("notes").replaceChildren(...notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function noFilm(text) {
  $("nofilm").textContent = text;
  $("nofilm").hidden = !text;
  $("film").hidden = Boolean(text);
}

/** Lines in the order they are drawn; the annotation lies on top. */
function draw() {
  const { data } = page;
  if (!data) return;
  page.lines = data.runs.map((run, i) => ({ ...(run?.valence ? run : {}), pen: penOf(i), width: 1.5, shown: page.shown[i] }));
  page.lines.push({ ...(data.annotation ?? {}), pen: null, width: 2, shown: true });
  const { from, to, data: same } = traces;
  traces.load(data, page.lines);
  if (same === data) Object.assign(traces, { from, to });
  circle.load(data, page.lines);
  legend();
  traces.draw();
  show(clock.pts === data.pts ? clock.frame : 0);
}

function legend() {
  const { data, listing } = page;
  page.cells = [];
  const buttons = () => [...$("legend").querySelectorAll("button")];
  const focused = buttons().indexOf(document.activeElement);
  const rows = [["annotation", null, data.annotation, null], ...data.runs.map((run, i) => [listing.runs[i], penOf(i), run, i])];
  $("legend").tBodies[0].replaceChildren(...rows.map(([name, pen, values, run]) => {
    const row = document.createElement("tr");
    const who = Object.assign(document.createElement("span"), { className: "who", textContent: name, title: name });
    const label = document.createElement(run === null ? "span" : "button");
    if (run === null) label.className = "plain";
    else {
      label.setAttribute("aria-pressed", page.shown[run]);
      label.addEventListener("click", () => toggle(run));
    }
    const key = document.createElement(run === null || run > 8 ? "span" : "kbd");
    if (run === null || run > 8) key.className = "blank";
    else key.textContent = run + 1;
    label.append(key, mark(pen), who);
    row.insertCell().append(label);
    page.cells.push({ values: values?.valence ? values : null, valence: row.insertCell(), arousal: row.insertCell() });
    for (const dim of [0, 1]) row.insertCell().textContent = score(values?.ccc?.[dim]);
    return row;
  }));
  buttons()[focused]?.focus();
}

/** Everything that depends on the frame. */
function show(frame) {
  const { data } = page;
  if (!data || clock.pts !== data.pts && frame) return;
  const t = data.pts[frame];
  traces.show(frame);
  circle.show(frame);
  const [time, place] = $("clock").children;
  time.textContent = `${clockText(t, 2)} / ${clockText(data.end, 2)}`;
  place.textContent = `frame ${frame.toLocaleString("en")}`;
  const slider = $("traces");
  slider.setAttribute("aria-valuenow", t);
  slider.setAttribute("aria-valuetext", `${clockText(t, 2)}, frame ${frame}`);
  slider.dataset.frame = frame;
  for (const { values, valence, arousal } of page.cells) {
    valence.textContent = score(values?.valence[frame]);
    arousal.textContent = score(values?.arousal[frame]);
  }
  words(t);
  maps.show(frame);
}

/** What is said now, in the middle, between what was and what will be. */
function words(t) {
  const near = page.data.words.filter(([, start, end]) => end > t - AROUND && start < t + AROUND);
  const parts = [
    near.filter(([, , end]) => end <= t),
    near.filter(([, start, end]) => start <= t && t < end),
    near.filter(([, start]) => start > t),
  ];
  parts.forEach((some, i) => {
    const text = some.map(([word]) => word).join(" ");
    const place = $("words").children[i];
    if (place.textContent !== text) place.textContent = text;
  });
}

function toggle(run) {
  if (run >= page.shown.length) return;
  page.shown[run] = !page.shown[run];
  list.draw();
  draw();
}

function playing(is) {
  $("play").textContent = is ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", is ? "Pause" : "Play");
}

function unplayable(why) {
  noFilm(`This browser cannot play the file${why ? ` (${why})` : ""}. Everything else works without it.`);
}

const toggleTheme = themes($("theme"), () => { if (page.data) list.draw(), draw(), maps.draw(); });
const ask = () => $("help").showModal();
const second = (way) => clock.seekTime(clock.time + way);
$("ask").addEventListener("click", ask);
$("play").addEventListener("click", () => clock.toggle());
$("in").addEventListener("click", () => traces.zoom(0.5));
$("out").addEventListener("click", () => traces.zoom(2));
$("whole").addEventListener("click", () => traces.zoom(0));
$("film").addEventListener("click", () => clock.toggle());
$("menu").addEventListener("click", () => {
  const is = document.body.classList.toggle("listing");
  $("menu").setAttribute("aria-expanded", is);
});
listen({
  " ": () => clock.toggle(),
  ArrowLeft: (shift) => (shift ? second(-1) : clock.seek(clock.frame - 1)),
  ArrowRight: (shift) => (shift ? second(1) : clock.seek(clock.frame + 1)),
  Home: () => clock.seek(0),
  End: () => clock.seek(Infinity),
  j: () => go(list.beside(1)),
  k: () => go(list.beside(-1)),
  run: toggle,
  "+": () => traces.zoom(0.5),
  "=": () => traces.zoom(0.5),
  "-": () => traces.zoom(2),
  0: () => traces.zoom(0),
  a: () => maps.toggle(),
  m: () => clock.mute(!clock.muted),
  "/": () => {
    document.body.classList.add("listing");
    list.filter.focus();
  },
  t: toggleTheme,
  "?": ask,
}, $("help"));

start().catch((error) => say(`The list cannot be read (${error.message}). Is the command still running?`));
