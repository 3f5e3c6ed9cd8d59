// The answer: a sentence, how sure it is, where it lies in time, and what it rests on, to be looked at.
import { cameraPath, picture } from "./api.js";
import { $, clock, duration, el, percent, reasonOf, shareOf } from "./words.js";

const NEAR_S = 0.35; // evidence this close to a moment is shown with it
const FRAME_MS = 350;

export class AnswerView {
  constructor(state, question) {
    this.state = state;
    this.question = question;
    this.root = $("answer");
    this.moments = []; // { t, boxes, cells }
    this.place = 0;
    this.playing = 0;
    this.pictures = new Map(); // thumbnails by time
    state.stage.addEventListener("live", () => this.pause());
  }

  /** One sentence instead of an answer. */
  refuse(sentence) {
    this.pause();
    this.root.className = "answer wrong";
    this.root.replaceChildren(el("p", { class: "said" }, sentence));
    this.root.hidden = false;
  }

  show(answer, words) {
    this.pause();
    this.answer = answer;
    this.pictures.clear();
    const unwatched = answer.abstained && watched(answer.coverage) <= 0;
    this.root.className = `answer${unwatched ? " unwatched" : answer.abstained ? " unseen" : ""}`;
    this.moments = momentsOf(answer);
    this.place = 0;
    const parts = [el("p", { class: "kind" }, words)];
    if (!answer.trained) parts.push(el("p", { class: "mark" }, "Untrained bundle: this answer has no meaning"));
    if (answer.familiar === false) {
      parts.push(el("p", { class: "mark" }, "This camera shows nothing like what the bundle was trained on: found by looks alone"));
    }
    parts.push(el("p", { class: "said" }, this.sentence(answer)));
    if (!answer.abstained) parts.push(...this.ranked(answer));
    if (this.moments.length && !answer.abstained) parts.push(this.player());
    parts.push(el("p", { class: "hint" }, this.footing(answer)));
    this.root.replaceChildren(...parts);
    this.root.hidden = false;
    this.state.timeline.showSpans(answer.abstained ? [] : spansOf(answer));
  }

  sentence(answer) {
    const at = (t) => clock(t, this.state.memory);
    if (answer.abstained) {
      return answer.reason === "what was asked was not seen" ? "It was not seen." : `${capital(answer.reason || answer.answer)}.`;
    }
    if (answer.type === "activity") return this.question.describe(answer.activities[0].activity);
    if (answer.type === "time") return `${at(answer.spans[0].from)} to ${at(answer.spans[0].to)}`;
    return placesOf(answer, at);
  }

  /** The candidates with their confidences, or the one confidence of boxes. */
  ranked(answer) {
    const meter = (words, share, onclick) => el("div", { class: "meter" },
      onclick ? el("button", { type: "button", onclick }, words) : el("span", {}, words),
      el("span", {}, percent(share)),
      el("progress", { max: "1", ".value": share, "aria-label": `${words}: confidence` }));
    if (answer.type === "activity") {
      return answer.activities.slice(0, 3).map((one) => meter(this.question.describe(one.activity), one.confidence));
    }
    if (answer.type === "time") {
      const spans = answer.spans.map((one) => {
        const words = `${clock(one.from, this.state.memory)} to ${clock(one.to, this.state.memory)}`;
        return meter(words, one.confidence, () => this.state.timeline.bring(one.from, one.to));
      });
      return [meter("Seen at all", answer.confidence), ...spans];
    }
    return [meter("Seen at all", answer.confidence)];
  }

  footing(answer) {
    const { from, to, gaps, watched_share: share } = answer.coverage;
    const at = (t) => clock(t, this.state.memory);
    const took = `Answered in ${answer.milliseconds.toFixed(answer.milliseconds < 10 ? 1 : 0)} ms.`;
    if (watched(answer.coverage) <= 0) return `Nothing of the asked time was watched. ${took}`;
    if (!gaps.length) return `Watched from ${at(from)} to ${at(to)}, without a gap. ${took}`;
    const missing = gaps.length > 2 ? `${gaps.length} gaps`
      : gaps.map((gap) => `${reasonOf(gap)} from ${at(gap.from)} to ${at(gap.to)}`).join("; ");
    return `Watched ${shareOf(share)} of ${duration(to - from)}, from ${at(from)} to ${at(to)}: ${missing}. ${took}`;
  }

  // -- looking at what it rests on ---------------------------------------------------------------------------

  player() {
    const boxes = this.answer.boxes.length > 0;
    this.slider = el("input", {
      type: "range", min: "0", max: String(this.moments.length - 1), step: "1", ".value": "0",
      "aria-label": boxes ? "Places in time" : "Evidence in time",
      oninput: () => { this.pause(); this.go(Number(this.slider.value)); },
    });
    this.button = el("button", { type: "button", onclick: () => (this.playing ? this.pause() : this.play()) }, "Play");
    const row = el("div", { class: "play" }, this.button, this.moments.length > 1 ? this.slider : null);
    const times = this.answer.evidence.map((one) => one.t);
    const best = [...new Set(times.map((t) => t.toFixed(1)))].slice(0, 4).map(Number);
    const buttons = best.map((t) => el("button", {
      type: "button", "aria-label": `Show evidence at ${clock(t, this.state.memory)}`, onclick: () => this.nearest(t),
    }, clock(t, this.state.memory)));
    return el("div", { class: "field" }, row, el("p", { class: "label" }, "Rests on"), el("div", { class: "moments" }, ...buttons));
  }

  nearest(t) {
    this.pause();
    let best = 0;
    this.moments.forEach((one, place) => {
      if (Math.abs(one.t - t) < Math.abs(this.moments[best].t - t)) best = place;
    });
    this.go(best);
  }

  play() {
    if (this.place >= this.moments.length - 1) this.place = -1;
    this.button.textContent = "Stop";
    this.playing = setInterval(() => {
      if (this.place >= this.moments.length - 1) this.pause();
      else this.go(this.place + 1);
    }, FRAME_MS);
    this.go(this.place + 1);
  }

  pause() {
    clearInterval(this.playing);
    this.playing = 0;
    if (this.button) this.button.textContent = "Play";
  }

  async go(place) {
    const moment = this.moments[place];
    this.place = place;
    this.slider.value = String(place);
    const when = clock(moment.t, this.state.memory);
    this.slider.setAttribute("aria-valuetext", when);
    const image = await this.thumbnail(moment.t);
    if (this.place !== place) return;
    this.state.stage.remember({ ...moment, image });
    this.state.stage.badge(`Remembered at ${when}${image ? "" : " · no picture is kept"}`);
    this.state.timeline.reveal(moment.t);
    this.state.timeline.point(moment.t);
  }

  /** The kept picture of a moment, or of the evidence nearest to it; null where none is kept. */
  async thumbnail(t) {
    if (!this.state.thumbnails) return null;
    const near = this.answer.evidence.reduce(
      (best, one) => (Math.abs(one.t - t) < Math.abs(best - t) ? one.t : best), Infinity);
    if (!this.pictures.has(near)) {
      const reply = await picture(cameraPath(this.state.camera, `/thumbnail.jpg?t=${near}`));
      this.pictures.set(near, reply.ok ? await createImageBitmap(await reply.blob()) : null);
    }
    return this.pictures.get(near);
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Seconds that were watched, at most, of what an answer covers. */
export function watched({ from, to, watched_share: share }) {
  return from === null ? 0 : (to - from) * share[1];
}

/** What the timeline shows of an answer. */
function spansOf(answer) {
  if (answer.spans.length) return answer.spans;
  if (!answer.boxes.length) return [];
  return [{ from: answer.boxes[0].t, to: answer.boxes[answer.boxes.length - 1].t, confidence: answer.confidence }];
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
function placesOf({ boxes }, at) {
  const [first, last] = [boxes[0].t, boxes[boxes.length - 1].t];
  return boxes.length === 1 || first === last ? `Seen at ${at(first)}` : `Seen at ${boxes.length} moments from ${at(first)} to ${at(last)}`;
}

/** A line of the list of earlier answers; `describe` gives an activity's words, `memory` its clock. */
export function line(answer, describe, memory) {
  const at = (t) => clock(t, memory);
  if (answer.abstained) return watched(answer.coverage) <= 0 ? "Nobody was watching" : "Not seen";
  if (answer.type === "activity") return describe(answer.activities[0].activity);
  if (answer.type === "object") return placesOf(answer, at);
  const more = answer.spans.length > 1 ? `, or ${answer.spans.length - 1} more` : "";
  return `${at(answer.spans[0].from)} to ${at(answer.spans[0].to)}${more}`;
}
