// An answer: a sentence, how sure it is, where it lies in time, and the moments behind it, to be looked at.
import { cameraPath, picture } from "./api.js";
import { $, activityName, capital, clock, duration, el, percent, reasonOf, spanText, sureness, watchedOf } from "./words.js";

const NEAR_S = 0.35; // evidence this close to a moment is shown with it
const FRAME_MS = 350;
const BEST = 4; // moments that have buttons

/** One answer of one camera, and how far one has gone through its moments. Tells "change". All that it shows it
    shows on the picture and the hours of its own camera. */
export class Answer extends EventTarget {
  constructor(camera, answer, words) {
    super();
    this.camera = camera;
    this.answer = answer;
    this.words = words;
    this.moments = momentsOf(answer); // { t, boxes, cells }
    this.place = 0;
    this.playing = 0;
    this.pictures = new Map(); // thumbnails by time
  }

  /** What the hours show of it. */
  get spans() {
    const { abstained, spans, boxes, confidence } = this.answer;
    if (abstained || !(spans.length || boxes.length)) return [];
    return spans.length ? spans : [{ from: boxes[0].t, to: boxes[boxes.length - 1].t, confidence }];
  }

  changed() { this.dispatchEvent(new Event("change")); }

  play() {
    if (this.place >= this.moments.length - 1) this.place = -1;
    this.playing = setInterval(() => {
      if (this.place >= this.moments.length - 1) this.pause();
      else this.go(this.place + 1);
    }, FRAME_MS);
    this.go(this.place + 1);
  }

  pause() {
    if (!this.playing) return;
    clearInterval(this.playing);
    this.playing = 0;
    this.changed();
  }

  nearest(t) {
    this.pause();
    let best = 0;
    this.moments.forEach((one, place) => {
      if (Math.abs(one.t - t) < Math.abs(this.moments[best].t - t)) best = place;
    });
    return this.go(best);
  }

  async go(place) {
    const { camera } = this;
    const moment = this.moments[place];
    this.place = place;
    this.changed();
    const image = await this.thumbnail(moment.t);
    if (this.place !== place || camera.answer !== this) return;
    camera.picture.remember({ ...moment, image }, `Remembered at ${clock(moment.t, camera.memory)}${image ? "" : " · no picture is kept"}`);
    camera.hours.reveal(moment.t);
    camera.hours.point(moment.t);
  }

  /** The kept picture of a moment, or of the evidence nearest to it; null where none is kept. */
  async thumbnail(t) {
    if (!this.camera.thumbnails) return null;
    const near = this.answer.evidence.reduce(
      (best, one) => (Math.abs(one.t - t) < Math.abs(best - t) ? one.t : best), Infinity);
    if (!this.pictures.has(near)) {
      const reply = await picture(cameraPath(this.camera.name, `/thumbnail.jpg?t=${near}`));
      this.pictures.set(near, reply.ok ? await createImageBitmap(await reply.blob()) : null);
    }
    return this.pictures.get(near);
  }
}

/** A sentence instead of an answer. */
export class Refusal {
  constructor(words) { this.words = words; }
  get spans() { return []; }
  pause() { /* nothing plays */ }
}

/** Shows the answer of the camera that is looked at. */
export class AnswerView {
  constructor() {
    this.root = $("answer");
    this.shown = null;
    this.update = this.update.bind(this);
  }

  /** Show this answer, a refusal, or none. */
  attach(answer) {
    if (this.shown instanceof Answer) this.shown.removeEventListener("change", this.update);
    this.shown = answer;
    this.slider = this.button = null;
    this.root.hidden = !answer;
    if (answer instanceof Refusal) {
      this.root.className = "answer wrong";
      this.root.replaceChildren(el("p", { class: "said" }, answer.words));
    } else if (answer) {
      answer.addEventListener("change", this.update);
      this.render(answer);
      this.update();
    }
  }

  render({ answer, words, moments, camera }) {
    const unwatched = answer.abstained && watched(answer.coverage) <= 0;
    const { kind, words: sure, share } = sureness(answer);
    this.root.className = `answer ${unwatched ? "unwatched" : answer.abstained ? "unseen" : kind}`;
    const mark = (text) => el("p", { class: "mark" }, text);
    const parts = [el("p", { class: "kind" }, words)];
    if (!answer.trained) parts.push(mark("Untrained bundle: this answer has no meaning"));
    if (answer.familiar === false) {
      parts.push(mark("This camera shows nothing like what the bundle was trained on: found by looks alone"));
    }
    parts.push(el("p", { class: "said" }, sentence(answer, camera)));
    if (!answer.abstained) {
      parts.push(el("p", { class: `sureness ${kind}` }, el("b", {}, sure), ` · ${percent(share)} confidence`), ...ranked(answer, camera));
      if (moments.length) parts.push(this.player(this.shown));
    }
    parts.push(el("p", { class: "hint" }, footing(answer, camera)));
    this.root.replaceChildren(...parts);
  }

  player(shown) {
    const { answer, camera, moments } = shown;
    this.slider = el("input", {
      type: "range", min: "0", max: String(moments.length - 1), step: "1", ".value": String(Math.max(shown.place, 0)),
      "aria-label": answer.boxes.length ? "Places in time" : "Moments in time",
      oninput: () => { shown.pause(); shown.go(Number(this.slider.value)); },
    });
    this.button = el("button", { type: "button", onclick: () => (shown.playing ? shown.pause() : shown.play()) }, "Play");
    const best = [...new Set(answer.evidence.map((one) => one.t.toFixed(1)))].slice(0, BEST).map(Number);
    const buttons = best.map((t) => el("button", {
      type: "button", "aria-label": `Show the moment ${clock(t, camera.memory)}`, onclick: () => shown.nearest(t),
    }, clock(t, camera.memory)));
    return el("div", { class: "field" }, el("p", { class: "label" }, "Moments that led to this answer"),
      el("div", { class: "moments" }, ...buttons),
      el("div", { class: "play" }, this.button, moments.length > 1 ? this.slider : null));
  }

  /** How far one has gone. */
  update() {
    if (!this.slider) return;
    const { shown } = this;
    const place = Math.max(shown.place, 0);
    this.button.textContent = shown.playing ? "Stop" : "Play";
    this.slider.value = String(place);
    this.slider.setAttribute("aria-valuetext", clock(shown.moments[place].t, shown.camera.memory));
  }
}

// -- words ---------------------------------------------------------------------------------------------------

function sentence(answer, { memory }) {
  if (answer.abstained) {
    return answer.reason === "what was asked was not seen" ? "It was not seen." : `${capital(answer.reason || answer.answer)}.`;
  }
  if (answer.type === "activity") return activityName(answer.activities[0].activity);
  if (answer.type === "time") return spanText(answer.spans[0].from, answer.spans[0].to, memory);
  return placesOf(answer, memory);
}

/** The candidates with their confidences, where there are several. */
function ranked(answer, camera) {
  const meter = (words, share, onclick) => el("div", { class: "meter" },
    onclick ? el("button", { type: "button", onclick }, words) : el("span", {}, words),
    el("span", { class: "number" }, percent(share)),
    el("progress", { max: "1", ".value": share, "aria-label": `${words}: confidence` }));
  if (answer.type === "activity") {
    return answer.activities.slice(0, 3).map((one) => meter(activityName(one.activity), one.confidence));
  }
  const seen = meter("Seen at all", answer.confidence);
  if (answer.type === "object") return [seen];
  return [seen, ...answer.spans.map((one) => meter(
    spanText(one.from, one.to, camera.memory), one.confidence, () => camera.hours.bring(one.from, one.to)))];
}

function footing(answer, { memory }) {
  const { from, to, gaps, watched_share: share } = answer.coverage;
  const took = `Answered in ${answer.milliseconds.toFixed(answer.milliseconds < 10 ? 1 : 0)} ms.`;
  if (watched(answer.coverage) <= 0) return `Nothing of the asked time was watched. ${took}`;
  if (!gaps.length) return `Watched from ${spanText(from, to, memory)}, without a gap. ${took}`;
  const missing = gaps.length > 2 ? `${gaps.length} gaps`
    : gaps.map((gap) => `${reasonOf(gap)} from ${spanText(gap.from, gap.to, memory)}`).join("; ");
  return `${watchedOf(share)} ${duration(to - from)}, from ${spanText(from, to, memory)}: ${missing}. ${took}`;
}

/** Seconds that were watched, at most, of what an answer covers. */
function watched({ from, to, watched_share: share }) {
  return from === null ? 0 : (to - from) * share[1];
}

/** Moments to go through: those of the boxes, else those of the evidence. */
function momentsOf(answer) {
  const cellsAt = (t) => {
    const cells = new Map();
    for (const one of answer.evidence) {
      if (Math.abs(one.t - t) <= NEAR_S) cells.set(one.cell, (cells.get(one.cell) || 0) + one.weight);
    }
    return cells;
  };
  if (answer.boxes.length) return answer.boxes.map((one) => ({ t: one.t, boxes: [one], cells: cellsAt(one.t) }));
  const times = [...new Set(answer.evidence.map((one) => one.t))].sort((a, b) => a - b);
  return times.map((t) => ({ t, boxes: [], cells: cellsAt(t) }));
}

/** How often and between when something was seen somewhere. */
function placesOf({ boxes }, memory) {
  const [first, last] = [boxes[0].t, boxes[boxes.length - 1].t];
  if (boxes.length === 1 || first === last) return `Seen at ${clock(first, memory)}`;
  return `Seen at ${boxes.length} moments from ${spanText(first, last, memory)}`;
}

/** A line of the list of earlier answers. */
export function line(answer, memory) {
  if (answer.abstained) return watched(answer.coverage) <= 0 ? "Nobody was watching" : "Not seen";
  if (answer.type === "activity") return activityName(answer.activities[0].activity);
  if (answer.type === "object") return placesOf(answer, memory);
  const more = answer.spans.length > 1 ? `, or ${answer.spans.length - 1} more` : "";
  return `${spanText(answer.spans[0].from, answer.spans[0].to, memory)}${more}`;
}
