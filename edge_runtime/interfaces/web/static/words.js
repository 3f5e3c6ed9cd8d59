// Times, names and elements, the same everywhere on the page.

/** An element with attributes, properties that start with "." and children; text is never read as HTML. */
export function el(name, attributes = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) one.addEventListener(key.slice(2), value);
    else if (key.startsWith(".")) one[key.slice(1)] = value;
    else if (value !== null && value !== false) one.setAttribute(key, value === true ? "" : value);
  }
  one.append(...children.filter((child) => child !== null && child !== undefined));
  return one;
}

export const $ = (id) => document.getElementById(id);
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const percent = (share) => `${Math.round(100 * share)} %`;
export const plain = (name) => name.replaceAll("_", " ");

const two = (n) => String(Math.floor(n)).padStart(2, "0");

/** A moment of a stream: the time of day for a camera, hours, minutes and seconds for a recording. */
export function clock(t, memory, seconds = true) {
  if (memory && memory.live && memory.coverage.epoch) {
    const at = new Date((memory.coverage.epoch + t) * 1000);
    return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
  }
  const s = Math.max(Math.round(t), 0);
  const rest = `${two((s % 3600) / 60)}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}

export function duration(s) {
  const whole = Math.round(s);
  if (whole < 90) return `${whole} s`;
  if (whole >= 5400) return `${(s / 3600).toFixed(1)} h`;
  return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
}

export const REASONS = { paused: "paused for privacy", forgotten: "forgotten on request" };
export const reasonOf = (gap) => REASONS[gap.reason] || gap.reason
  || (gap.watched_share ? `${shareOf(gap.watched_share)} was watched` : "nobody was watching");

/** A share known from and to; a part is neither 0 nor 100 %. */
export function shareOf([low, high]) {
  const [a, b] = [low, high].map((share) => (share > 0 && share < 0.01 ? "under 1 %"
    : share > 0.99 && share < 1 ? "over 99 %" : percent(share)));
  return a === b ? a : low === 0 ? `at most ${b}` : `${a} to ${b}`;
}

const CONDITIONS = {
  waiting: ["warn", "waiting"], starting: ["warn", "starting"], running: ["good", "watching"],
  paused: ["warn", "paused for privacy"], ended: ["", "ended"], stopped: ["", "stopped"], failed: ["bad", "failed"],
};
/** Class of the dot and words for how a camera is. */
export function conditionOf(camera) {
  const source = camera.source_status;
  if (camera.condition === "running" && source && source.state && source.state !== "live") {
    return ["warn", source.state];
  }
  return CONDITIONS[camera.condition] || ["", camera.condition];
}

let toastTimer = 0;
export function toast(sentence) {
  const one = $("toast");
  one.textContent = sentence;
  one.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { one.hidden = true; }, 6000);
}
