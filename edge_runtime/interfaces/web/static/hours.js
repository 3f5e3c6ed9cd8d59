// The hours of one camera: what is known of them, which part is looked at, and what is selected in them. Tells
// "change", "range" when one was selected or cleared, and "moment" when a moment is pointed at.
import { activityName, clock, duration, reasonOf, spanText } from "./words.js";

const LEAST_S = 4;
const LATE_S = 5; // a camera of which nothing newer is known is not being watched

export class Hours extends EventTarget {
  constructor() {
    super();
    this.memory = null;
    this.activities = [];
    this.spans = [];
    this.range = null;
    this.moment = null;
    this.view = [0, 60];
    this.following = true; // the view ends now, until somebody moves it
    this.all = true; // and begins where watching began
    this.late = false; // nothing is watched now
  }

  changed(kind = "change") {
    this.dispatchEvent(new Event(kind));
    if (kind !== "change") this.dispatchEvent(new Event("change"));
  }

  // -- what is known -----------------------------------------------------------------------------------------

  get extent() {
    const { from, to } = (this.memory && this.memory.coverage) || {};
    return from === null || from === undefined ? [0, 60] : [from, Math.max(this.now, to, from + 30)];
  }

  /** Seconds of the stream at this moment: a camera's clock goes on while nothing is remembered. */
  get now() {
    const { live, coverage } = this.memory || {};
    if (!coverage || coverage.to === null) return 0;
    return live && coverage.epoch ? Math.max(Date.now() / 1000 - coverage.epoch, coverage.to) : coverage.to;
  }

  update(memory, activities) {
    const before = this.extent[1];
    const fresh = memory !== this.memory;
    this.memory = memory;
    // Judged when it was asked for: what has happened since is not known yet.
    if (fresh) this.late = Boolean(memory) && memory.coverage.to !== null && this.now - memory.coverage.to > LATE_S;
    this.activities = activities;
    if (this.following) {
      if (this.all) this.view = this.extent;
      else this.view = this.view.map((t) => t + this.extent[1] - before);
    }
    this.changed();
  }

  /** Spans of an answer, the best first, which is brought into view. */
  showSpans(spans) {
    this.spans = spans;
    if (spans.length) this.bring(spans[0].from, spans[0].to);
    this.changed();
  }

  // -- looking -----------------------------------------------------------------------------------------------

  bring(from, to) {
    const [a, b] = this.view;
    if (from >= a && to <= b && to - from > (b - a) / 60) return;
    const wide = Math.max((to - from) * 8, 60);
    this.look((from + to) / 2 - wide / 2, (from + to) / 2 + wide / 2);
  }

  /** Bring one moment into view, without zooming. */
  reveal(t) {
    const [a, b] = this.view;
    if (t < a || t > b) this.look(t - (b - a) / 2, t + (b - a) / 2);
  }

  look(from, to) {
    const [first, last] = this.extent;
    const room = Math.max(last - first, 30);
    const wide = Math.min(Math.max(to - from, LEAST_S), room * 1.1);
    const start = Math.min(Math.max(from + (to - from - wide) / 2, first - room * 0.05), last + room * 0.05 - wide);
    this.view = [start, start + wide];
    this.all = false;
    this.following = start + wide >= last;
    this.changed();
  }

  zoom(factor, around = null) {
    const [a, b] = this.view;
    const t = around === null ? (this.following ? b : (a + b) / 2) : around;
    this.look(t - (t - a) * factor, t + (b - t) * factor);
  }

  pan(seconds) { this.look(this.view[0] + seconds, this.view[1] + seconds); }

  showAll() {
    this.all = this.following = true;
    this.view = this.extent;
    this.changed();
  }

  showNow() {
    const wide = Math.min(this.view[1] - this.view[0], 300);
    this.look(this.extent[1] - wide, this.extent[1]);
    this.following = true;
  }

  // -- selecting ---------------------------------------------------------------------------------------------

  /** Select whole seconds, as they are shown: what is asked is what is read. Null clears. */
  select(range) {
    const [a, b] = range ? [Math.min(...range), Math.max(...range)].map((t) => this.whole(t)) : [];
    this.range = range && [a, Math.max(b, a + 1)];
    this.changed("range");
  }

  point(t) {
    if (this.moment === t) return;
    this.moment = t;
    this.changed("moment");
  }

  /** The nearest second of the clock that is shown. */
  whole(t) {
    const { live, coverage } = this.memory || {};
    const shift = live && coverage.epoch ? coverage.epoch : 0;
    return Number((Math.round(t + shift) - shift).toFixed(3));
  }

  // -- in words ----------------------------------------------------------------------------------------------

  /** What lies at the moment that is pointed at, else what is selected. `near` seconds count as the moment. */
  describe(near) {
    if (!this.memory || this.moment === null) return this.range ? `Selected: ${this.rangeText()}` : "";
    const t = this.moment;
    const count = this.memory.tokens.filter((one) => Math.abs(one.t - t) <= near).length;
    const gap = this.memory.coverage.gaps.find((one) => t >= one.from && t < one.to);
    const done = this.activities.find((one) => t >= one.from && t <= (one.to ?? this.now));
    const what = gap ? reasonOf(gap) : count === 1 ? "1 detail remembered" : `${count} details remembered`;
    return [clock(t, this.memory), what, done ? activityName(done.activity) : null].filter(Boolean).join(" · ");
  }

  rangeText() {
    const [a, b] = this.range;
    return `${spanText(a, b, this.memory)} (${duration(b - a)})`;
  }

  /** All of it, for those who do not see it. */
  tell() {
    if (!this.memory) return "";
    const { coverage, tokens, clip_s: clip, clip_frames: frames } = this.memory;
    const at = (t) => clock(t, this.memory);
    const parts = [coverage.from === null ? "Nothing was watched yet." : `Watched from ${at(coverage.from)} to ${at(coverage.to)}.`];
    parts.push(tokens.length ? `${tokens.length} of ${this.memory.slots} places of the memory are filled.`
      : `Nothing is remembered yet: the first ${Math.round(clip)} seconds are being watched, ${frames} frames so far.`);
    for (const gap of coverage.gaps.slice(-20)) parts.push(`Gap from ${at(gap.from)} to ${at(gap.to)}: ${reasonOf(gap)}.`);
    for (const one of this.activities.slice(0, 8)) parts.push(`${activityName(one.activity)} at ${at(one.from)}.`);
    return parts.join(" ");
  }
}
