// Colours and marks of traces, light and dark. Read from the sheet, so that both have one source.

const DASHES = [[], [6, 3], [2, 2]];
const KINDS = ["run1", "run2", "run3", "run4"];

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** How run number i is drawn. The first has each panel's own colour; later ones one colour, dashed where it repeats. */
export function penOf(i) {
  if (i === 0) return { valence: colour("valence"), arousal: colour("arousal"), dash: [] };
  const own = colour(KINDS[(i - 1) % KINDS.length]);
  return { valence: own, arousal: own, dash: DASHES[Math.floor((i - 1) / KINDS.length) % DASHES.length] };
}

/** A small picture of how a trace looks; pen null is the annotation. */
export function mark(pen) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "mark");
  svg.setAttribute("viewBox", "0 0 18 14");
  svg.setAttribute("aria-hidden", "true");
  const line = (x1, x2, stroke, width, dash) => {
    const one = document.createElementNS(svg.namespaceURI, "line");
    const given = { x1, x2, y1: 7, y2: 7, stroke, "stroke-width": width, "stroke-dasharray": dash.join(" ") };
    for (const [key, value] of Object.entries(given)) one.setAttribute(key, value);
    svg.append(one);
  };
  if (pen === null) line(0, 18, "currentColor", 2, []);
  else {
    line(0, 9, pen.valence, 4, pen.dash);
    line(9, 18, pen.arousal, 4, pen.dash);
  }
  return svg;
}

/** Light, dark, or as the system has it; asks for a new drawing at each change. */
export function themes(button, redraw) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    document.documentElement.dataset.theme = localStorage.getItem("theme") ?? (system.matches ? "dark" : "light");
    redraw();
  };
  const toggle = () => {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    apply();
  };
  system.addEventListener("change", apply);
  button.addEventListener("click", toggle);
  apply();
  return toggle;
}

/** A canvas sized for the screen's own pixels; returns its context in CSS pixels, cleared. */
export function fresh(canvas, width, height) {
  const scale = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, width, height);
  return g;
}
