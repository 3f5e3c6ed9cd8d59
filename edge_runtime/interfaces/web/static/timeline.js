// The hours: what is remembered of them, when nobody watched, what was recognised, and where answers lie.
import { drawTimeline, lanesOf } from "./timeline_draw.js";
import { $, clock, duration, plain, reasonOf } from "./words.js";

const LEAST_S = 4;
const LATE_S = 5; // a camera of which nothing newer is known is not being watched

/** Tells "range" when one was selected or cleared, "moment" when a moment is pointed at. */
export class Timeline extends EventTarget {
  constructor() {
    super();
    this.track = $("track");
    this.canvas = $("hours");
    this.memory = null;
    this.activities = [];
    this.spans = [];
    this.range = null;
    this.moment = null;
    this.view = [0, 60];
    this.following = true; // the view ends now, until somebody moves it
    this.all = true; // and begins where watching began
    this.late = false; // nothing is watched now
    new ResizeObserver(() => this.draw()).observe(this.track);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.takePointer();
    this.track.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.track.addEventListener("keydown", (event) => this.key(event));
    $("zoom-in").addEventListener("click", () => this.zoom(0.5));
    $("zoom-out").addEventListener("click", () => this.zoom(2));
    $("zoom-all").addEventListener("click", () => this.showAll());
    $("zoom-now").addEventListener("click", () => this.showNow());
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
    if (this.memory && memory && this.memory.camera !== memory.camera) {
      this.range = this.moment = null;
      this.spans = [];
      this.showAll();
    }
    const before = this.extent[1];
    const fresh = memory !== this.memory;
    this.memory = memory;
    // Judged when it was asked for: what has happened since is not known yet.
    if (fresh) this.late = Boolean(memory) && this.now - memory.coverage.to > LATE_S;
    this.activities = activities || [];
    if (this.following) {
      if (this.all) this.view = this.extent;
      else this.view = this.view.map((t) => t + this.extent[1] - before);
    }
    this.tell();
    this.draw();
  }

  /** Spans of an answer, most confident first; the first of them is brought into view. */
  showSpans(spans, bring = true) {
    this.spans = spans;
    if (bring && spans.length) this.bring(spans[0].from, spans[0].to);
    this.draw();
  }

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

  /** In words, for those who do not see it. */
  tell() {
    if (!this.memory) { $("timeline-text").textContent = ""; return; }
    const { coverage, tokens, clip_s: clip, clip_frames: frames } = this.memory;
    const at = (t) => clock(t, this.memory);
    const parts = [coverage.from === null ? "Nothing was watched yet." : `Watched from ${at(coverage.from)} to ${at(coverage.to)}.`];
    parts.push(tokens.length ? `${tokens.length} of ${this.memory.slots} places of the memory are filled.`
      : `Nothing is remembered yet: the first ${Math.round(clip)} seconds are being watched, ${frames} frames so far.`);
    for (const gap of coverage.gaps) parts.push(`Gap from ${at(gap.from)} to ${at(gap.to)}: ${reasonOf(gap)}.`);
    for (const one of this.activities.slice(0, 8)) parts.push(`${plain(one.activity)} at ${at(one.from)}.`);
    const said = parts.join(" ");
    if ($("timeline-text").textContent !== said) $("timeline-text").textContent = said;
  }

  // -- looking -----------------------------------------------------------------------------------------------

  look(from, to) {
    const [first, last] = this.extent;
    const room = Math.max(last - first, 30);
    const wide = Math.min(Math.max(to - from, LEAST_S), room * 1.1);
    const start = Math.min(Math.max(from + (to - from - wide) / 2, first - room * 0.05), last + room * 0.05 - wide);
    this.view = [start, start + wide];
    this.all = false;
    this.following = start + wide >= last;
    this.draw();
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
    this.draw();
  }

  showNow() {
    const wide = Math.min(this.view[1] - this.view[0], 300);
    this.look(this.extent[1] - wide, this.extent[1]);
    this.following = true;
  }

  select(range) {
    // Whole seconds, as they are shown: what is asked is what is read.
    const [a, b] = range ? [Math.min(...range), Math.max(...range)].map((t) => this.whole(t)) : [];
    this.range = range && [a, Math.max(b, a + 1)];
    this.draw();
    this.dispatchEvent(new Event("range"));
  }

  point(t) {
    this.moment = t;
    this.draw();
    this.dispatchEvent(new Event("moment"));
  }

  wheel(event) {
    event.preventDefault();
    const wide = this.view[1] - this.view[0];
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      this.pan((event.deltaX || event.deltaY) / this.track.clientWidth * wide);
    } else this.zoom(Math.exp(Math.max(Math.min(event.deltaY, 200), -200) / 400), this.time(event.offsetX));
  }

  key(event) {
    const wide = this.view[1] - this.view[0];
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (way && event.shiftKey) {
      const [a, b] = this.range || [this.view[0] + wide * 0.45, this.view[0] + wide * 0.5];
      this.select([a, Math.max(b + way * Math.max(wide * 0.05, 1), a)]);
    } else if (way && event.altKey) this.point(Math.min(Math.max((this.moment ?? this.view[1]) + way * wide / 100, this.view[0]), this.view[1]));
    else if (way && this.range && event.ctrlKey) this.select(this.range.map((t) => t + way * wide * 0.05));
    else if (way) this.pan(way * wide * 0.1);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "Home") this.showAll();
    else if (event.key === "End") this.showNow();
    else if (event.key === "Escape") { this.select(null); this.point(null); } else return;
    event.preventDefault();
  }

  takePointer() {
    const down = new Map(); // pointers by id: where each is now
    let drag = null;
    const at = (event) => event.clientX - this.track.getBoundingClientRect().left;
    this.track.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      down.set(event.pointerId, at(event));
      this.track.setPointerCapture(event.pointerId);
      const axis = event.offsetY > lanesOf(this.track.clientHeight).watched[0] + 12;
      if (down.size === 2) drag = { mode: "pinch", view: this.view, from: [...down.values()] };
      else drag = { mode: axis || event.shiftKey ? "pan" : this.edge(at(event)), x: at(event), view: this.view, range: this.range };
    });
    this.track.addEventListener("pointermove", (event) => {
      if (!down.has(event.pointerId)) { this.point(this.time(at(event))); return; }
      down.set(event.pointerId, at(event));
      this.drag(drag, [...down.values()], at(event));
    });
    const end = (event) => {
      down.delete(event.pointerId);
      if (drag && drag.mode === "range" && Math.abs(at(event) - drag.x) < 5) {
        this.point(this.time(at(event)));
        if (this.range) this.select(null);
      }
      drag = null;
    };
    this.track.addEventListener("pointerup", end);
    this.track.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); drag = null; });
    this.track.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !drag) this.point(null); });
  }

  /** Which end of the range lies under a finger, else a new range begins. */
  edge(x) {
    if (!this.range) return "range";
    const [a, b] = this.range.map((t) => this.x(t));
    if (Math.abs(x - a) < 12) return "start";
    return Math.abs(x - b) < 12 ? "end" : "range";
  }

  drag(drag, points, x) {
    if (!drag) return;
    const [a, b] = drag.view;
    const scale = (b - a) / this.track.clientWidth;
    if (drag.mode === "pinch" && points.length === 2) {
      const [p, q] = drag.from;
      const factor = Math.abs(p - q) / Math.max(Math.abs(points[0] - points[1]), 8);
      const middle = a + ((p + q) / 2) * scale;
      const start = middle - ((points[0] + points[1]) / 2) * scale * factor;
      this.look(start, start + (b - a) * factor);
    } else if (drag.mode === "pan") this.look(a - (x - drag.x) * scale, b - (x - drag.x) * scale);
    else if (drag.mode === "start") this.select([this.time(x), drag.range[1]]);
    else if (drag.mode === "end") this.select([drag.range[0], this.time(x)]);
    else if (drag.mode === "range" && Math.abs(x - drag.x) >= 5) this.select([this.time(drag.x), this.time(x)]);
  }

  x(t) { return ((t - this.view[0]) / (this.view[1] - this.view[0])) * this.track.clientWidth; }
  /** The nearest second of the clock that is shown. */
  whole(t) {
    const { live, coverage } = this.memory || {};
    const shift = live && coverage.epoch ? coverage.epoch : 0;
    return Number((Math.round(t + shift) - shift).toFixed(3));
  }

  time(x) { return this.view[0] + (x / Math.max(this.track.clientWidth, 1)) * (this.view[1] - this.view[0]); }

  draw() { drawTimeline(this); }

  /** For a line of text: what lies at the moment that is pointed at. */
  momentText() {
    if (!this.memory || this.moment === null) return this.range ? `Selected: ${this.rangeText()}` : "";
    const t = this.moment;
    const near = Math.max((this.view[1] - this.view[0]) / this.track.clientWidth * 3, 0.5);
    const count = this.memory.tokens.filter((one) => Math.abs(one.t - t) <= near).length;
    const gap = this.memory.coverage.gaps.find((one) => t >= one.from && t < one.to);
    const done = this.activities.find((one) => t >= one.from && t <= (one.to ?? this.now));
    const what = gap ? reasonOf(gap) : `${count} remembered`;
    return [clock(t, this.memory), what, done ? done.description || plain(done.activity) : null].filter(Boolean).join(" · ");
  }

  rangeText() {
    const [a, b] = this.range;
    return `${clock(a, this.memory)} to ${clock(b, this.memory)} (${duration(b - a)})`;
  }
}
