// Times, names, shares and elements, the same everywhere on the page.

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
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Put a text only where it has changed: a screen reader reads what is put. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// -- activities ----------------------------------------------------------------------------------------------

const activities = new Map(); // words of the bundle by name

/** Learn what the bundle calls its activities. */
export function learnActivities(known) {
  activities.clear();
  for (const one of known) activities.set(one.name, one.description);
}

/** An activity in words, everywhere the same. */
export const activityName = (name) => capital(activities.get(name) || name.replaceAll("_", " "));

// -- shares --------------------------------------------------------------------------------------------------

/** A share in percent; a part is neither 0 nor 100 %. */
export function percent(share) {
  if (share > 0 && share < 0.01) return "under 1 %";
  return share > 0.99 && share < 1 ? "over 99 %" : `${Math.round(100 * share)} %`;
}

/** A share known from and to. */
export function shareOf([low, high]) {
  const [a, b] = [percent(low), percent(high)];
  return a === b ? a : low === 0 ? `at most ${high < 1 ? b : "all"}` : `${a} to ${b}`;
}

/** How much was watched, as the beginning of a sentence. */
export function watchedOf(share) {
  const unknown = share[0] === 0 && share[1] > 0;
  return `${unknown ? "It is not known whether anybody watched:" : "Watched"} ${shareOf(share)} of`;
}

const SURE = [[0.9, "sure", "Sure"], [0.7, "likely", "Likely"], [0.4, "unsure", "Unsure"], [0, "guess", "Only a guess"]];
/** How sure an answer is: a class and words. */
export function sureness(answer) {
  const best = answer.type === "time" && answer.spans.length ? answer.spans[0].confidence : 1;
  const share = Math.min(answer.confidence, best);
  const [, kind, words] = SURE.find(([least]) => share >= least) || SURE[SURE.length - 1];
  return { kind, words, share };
}

// -- times ---------------------------------------------------------------------------------------------------

const two = (n) => String(Math.floor(n)).padStart(2, "0");
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Whether the times of a stream are those of a clock. */
export const onClock = (memory) => Boolean(memory && memory.on_clock && memory.coverage.epoch);

/** Seconds that the clock of the device is ahead of UTC; the browser's own before that is known. */
export function offsetOf(memory) {
  const said = /([+-])(\d\d):?(\d\d)$/.exec((memory && memory.coverage.clock_to) || "");
  if (!said) return -60 * new Date().getTimezoneOffset();
  return (said[1] === "-" ? -60 : 60) * (60 * Number(said[2]) + Number(said[3]));
}

/** Seconds since 1970 as a date whose UTC parts are those of the device's clock. */
const onDevice = (at, memory) => new Date((at + offsetOf(memory)) * 1000);
const day = (date) => `${DAYS[date.getUTCDay()]} ${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;

/** The day of a moment since 1970, with its year: "Wed 25 Nov 2026". */
export function dayAt(at, memory) {
  const date = onDevice(at, memory);
  return `${day(date)} ${date.getUTCFullYear()}`;
}

/** The day of a moment of a stream; empty for a recording. */
export const dayOf = (t, memory) => (onClock(memory) ? dayAt(memory.coverage.epoch + t, memory) : "");

/** The time of day of a moment since 1970. */
export function timeAt(at, memory, seconds = true) {
  const date = onDevice(at, memory);
  const rest = seconds ? `:${two(date.getUTCSeconds())}` : "";
  return `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}${rest}`;
}

/** A moment since 1970: the time of day, with the day where that is not today. */
export function momentAt(at, memory = null) {
  const today = dayAt(Date.now() / 1000, memory) === dayAt(at, memory);
  return today ? timeAt(at, memory) : `${day(onDevice(at, memory))}, ${timeAt(at, memory)}`;
}

/** A moment of a stream without its day: a time of day, or hours, minutes and seconds of a recording. */
export function time(t, memory, seconds = true) {
  if (onClock(memory)) return timeAt(memory.coverage.epoch + t, memory, seconds);
  const s = Math.max(Math.round(t), 0);
  const rest = `${two((s % 3600) / 60)}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}

/** A moment of a stream, with its day where that is not today. */
export const clock = (t, memory) => (onClock(memory) ? momentAt(memory.coverage.epoch + t, memory) : time(t, memory));

/** From one moment of a stream to another; a day that both have is said once. */
export function spanText(from, to, memory) {
  const same = dayOf(from, memory) === dayOf(to, memory);
  return `${clock(from, memory)} to ${same ? time(to, memory) : clock(to, memory)}`;
}

export function duration(s) {
  const whole = Math.round(s);
  if (whole < 90) return `${whole} s`;
  if (whole >= 172800) return `${(s / 86400).toFixed(1)} days`;
  if (whole >= 5400) return `${(s / 3600).toFixed(1)} h`;
  return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
}

export const REASONS = { paused: "paused for privacy", forgotten: "forgotten on request" };
export const reasonOf = (gap) => REASONS[gap.reason] || gap.reason
  || (gap.watched_share ? `${shareOf(gap.watched_share)} was watched` : "nobody was watching");

// -- cameras -------------------------------------------------------------------------------------------------

const CONDITIONS = {
  waiting: ["warn", "waiting"], starting: ["warn", "starting"], running: ["good", "watching"],
  paused: ["warn", "paused for privacy"], ended: ["", "ended"], stopped: ["", "stopped"], failed: ["bad", "failed"],
};
const SOURCES = { connecting: "no picture", stalled: "no picture", failed: "no picture" };

/** Class of the dot and words for how a camera is. */
export function conditionOf(status) {
  const source = status.source_status;
  if (status.condition === "running" && source && source.state && source.state !== "live") {
    return [source.why ? "bad" : "warn", source.why ? SOURCES[source.state] || source.state : "connecting"];
  }
  return CONDITIONS[status.condition] || ["", status.condition];
}

const tried = (tries) => (tries === 1 ? "tried once" : `tried ${tries} times`);
const since = (at) => (at ? ` since ${momentAt(at)} (${duration(Math.max(Date.now() / 1000 - at, 0))})` : "");
/** With a capital, unless it begins with an address or a name of a file, and a full stop. */
const sentence = (text) => `${/^[a-z]+[ ,]/.test(text) ? capital(text) : text}${/[.!?…]$/.test(text) ? "" : "."}`;

/** Why a camera shows nothing, since when, and how often it was tried: [headline, sentences]; null while it shows. */
export function troubleOf(status) {
  const source = status.source_status;
  if (status.condition === "failed") {
    return [`This camera has failed${since(status.condition_at)}`, sentence(status.error || "its log says why")];
  }
  if (status.condition === "running" && source && source.why && source.state !== "live" && source.state !== "ended") {
    const again = `${capital(tried(source.reconnects + 1))}; it is tried again.`;
    return [`No picture${since(source.outage_at)}`, `${sentence(source.why)} ${again}`];
  }
  return null;
}

/** The same for a camera that could not be added yet. */
export const troubleOfAwaited = (one) => [
  `${one.title} is not watched yet`,
  `${sentence(one.error)} ${capital(tried(one.tries))}${since(one.since_at)}; it is tried again.`,
];

let toastTimer = 0;
export function toast(words) {
  const one = $("toast");
  one.textContent = words;
  one.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { one.hidden = true; }, 6000);
}
