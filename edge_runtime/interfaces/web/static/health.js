// How cameras and engines fare: small curves of the last minutes.
import { $, conditionOf, el, percent } from "./words.js";

const WIDTH = 120;
const HEIGHT = 40;
const SVG = "http://www.w3.org/2000/svg";

export function showHealth(history, cameras, bundle) {
  const parts = [];
  for (const camera of cameras) {
    const curves = history.cameras[camera.camera];
    const [dot, words] = conditionOf(camera);
    const faults = camera.engine_faults ? `, the network failed ${camera.engine_faults} times` : "";
    const facts = `${words}, ${camera.frames} pictures watched, memory ${percent(camera.tokens / camera.slots)} full${faults}`;
    parts.push(el("h3", {}, el("span", { class: `dot ${dot}` }), el("span", { class: "name", title: camera.title }, camera.title), el("small", {}, facts)));
    for (const problem of [camera.error, ...camera.problems]) {
      if (problem) parts.push(el("p", { class: "problem" }, problem));
    }
    if (!curves) continue;
    parts.push(
      curve("Pictures a second", curves.fps, (v) => v.toFixed(1)),
      curve("Pictures lost", curves.lost, (v) => String(v)),
      curve("Network takes", curves.engine_ms, (v) => `${v.toFixed(v < 10 ? 1 : 0)} ms`),
      curve("An answer takes", curves.query_ms, (v) => `${v.toFixed(0)} ms`),
    );
  }
  const about = bundle ? [bundle.backend, bundle.precision, bundle.trained === false ? "untrained" : null].filter(Boolean).join(", ") : "";
  parts.push(el("h3", {}, "This program", el("small", {}, about)));
  parts.push(curve("Main memory", history.resident_bytes, (v) => `${Math.round(v / 1e6)} MB`));
  $("curves").replaceChildren(...parts);
}

/** One curve with its newest value; null leaves a value out. */
function curve(name, values, shown) {
  const known = values.filter((value) => value !== null);
  const last = known.length ? shown(known[known.length - 1]) : "none yet";
  const most = Math.max(...known, 1e-9);
  const points = values
    .map((value, k) => (value === null ? null : `${(k / Math.max(values.length - 1, 1)) * WIDTH},${HEIGHT - 2 - (value / most) * (HEIGHT - 6)}`))
    .filter(Boolean);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}, last ten minutes, now ${last}`);
  svg.append(line);
  return el("div", { class: "curve" }, el("p", {}, name, el("b", {}, last)), svg);
}
