// Shows the hours of a camera, and lets them be moved, zoomed and selected: with a mouse, fingers, or keys.
import { drawTimeline, lanesOf } from "./timeline_draw.js";
import { $, say } from "./words.js";

const HANDLE_PX = 22; // how near a finger has to be to an end of the range
const STILL_PX = 5; // a pointer that moves less has clicked

export class Timeline {
  constructor() {
    this.track = $("track");
    this.canvas = $("hours");
    this.hours = null; // of the camera that is looked at
    this.letGo = () => {}; // ends a drag
    this.draw = this.draw.bind(this);
    new ResizeObserver(this.draw).observe(this.track);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.draw);
    this.takePointer();
    this.track.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.track.addEventListener("keydown", (event) => this.key(event));
    const button = (id, act) => $(id).addEventListener("click", () => { if (this.hours) act(this.hours); });
    button("zoom-in", (hours) => hours.zoom(0.5));
    button("zoom-out", (hours) => hours.zoom(2));
    button("zoom-all", (hours) => hours.showAll());
    button("zoom-now", (hours) => hours.showNow());
  }

  /** Look at these hours, or at none. A drag that has begun ends: it belongs to the hours before. */
  attach(hours) {
    this.letGo();
    if (this.hours) this.hours.removeEventListener("change", this.draw);
    this.hours = hours;
    if (hours) hours.addEventListener("change", this.draw);
    this.draw();
  }

  draw() {
    drawTimeline(this);
    say($("timeline-text"), this.hours ? this.hours.tell() : "");
    say($("moment"), this.hours ? this.hours.describe(Math.max(this.scale * 3, 0.5)) : "");
    this.legend();
  }

  legend() {
    const items = [];
    if (this.hours && this.hours.memory) {
      items.push(["", "Remembered"], ["watched", "Watched"]);
      if (this.hours.memory.coverage.gaps.length || this.hours.late) items.push(["gap", "Not watched, or forgotten"]);
      if (this.hours.activities.length) items.push(["activity", "Recognised activity"]);
      if (this.hours.spans.length) items.push(["answer-span", "Answer"]);
    }
    const said = items.map((one) => one[1]).join();
    if ($("legend").dataset.said === said) return;
    $("legend").dataset.said = said;
    $("legend").replaceChildren(...items.map(([key, words]) => {
      const item = document.createElement("li");
      const sign = document.createElement("span");
      sign.className = `key ${key}`;
      item.append(sign, words);
      return item;
    }));
  }

  // -- places and times --------------------------------------------------------------------------------------

  get view() { return this.hours ? this.hours.view : [0, 60]; }
  /** Seconds of a pixel. */
  get scale() { return (this.view[1] - this.view[0]) / Math.max(this.track.clientWidth, 1); }
  x(t) { return (t - this.view[0]) / this.scale; }
  time(x) { return this.view[0] + x * this.scale; }

  // -- hands -------------------------------------------------------------------------------------------------

  wheel(event) {
    if (!this.hours) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      this.hours.pan((event.deltaX || event.deltaY) * this.scale);
    } else this.hours.zoom(Math.exp(Math.max(Math.min(event.deltaY, 200), -200) / 400), this.time(event.offsetX));
  }

  key(event) {
    const { hours } = this;
    if (!hours) return;
    const [first, last] = hours.view;
    const wide = last - first;
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (way && event.shiftKey) {
      const [a, b] = hours.range || [first + wide * 0.45, first + wide * 0.5];
      hours.select([a, Math.max(b + way * Math.max(wide * 0.05, 1), a)]);
    } else if (way && event.altKey) hours.point(Math.min(Math.max((hours.moment ?? last) + way * wide / 100, first), last));
    else if (way && hours.range && event.ctrlKey) hours.select(hours.range.map((t) => t + way * wide * 0.05));
    else if (way) hours.pan(way * wide * 0.1);
    else if (event.key === "+" || event.key === "=") hours.zoom(0.5);
    else if (event.key === "-") hours.zoom(2);
    else if (event.key === "Home") hours.showAll();
    else if (event.key === "End") hours.showNow();
    else if (event.key === "Escape") { hours.select(null); hours.point(null); } else return;
    event.preventDefault();
  }

  takePointer() {
    const down = new Map(); // pointers by id: where each is now
    let drag = null; // with the hours that it belongs to
    const at = (event) => event.clientX - this.track.getBoundingClientRect().left;
    this.letGo = () => { down.clear(); drag = null; };
    this.track.addEventListener("pointerdown", (event) => {
      const { hours } = this;
      if (event.button !== 0 || !hours) return;
      down.set(event.pointerId, at(event));
      this.track.setPointerCapture(event.pointerId);
      const axis = event.offsetY > lanesOf(this.track.clientHeight).watched[0] + 12;
      if (down.size === 2) drag = { hours, mode: "pinch", view: hours.view, from: [...down.values()] };
      else drag = { hours, mode: axis || event.shiftKey ? "pan" : this.edge(at(event)), x: at(event), view: hours.view, range: hours.range };
    });
    this.track.addEventListener("pointermove", (event) => {
      if (!this.hours) return;
      if (!down.has(event.pointerId)) { this.hours.point(this.time(at(event))); return; }
      down.set(event.pointerId, at(event));
      if (drag) this.drag(drag, [...down.values()], at(event));
    });
    this.track.addEventListener("pointerup", (event) => {
      down.delete(event.pointerId);
      if (drag && drag.mode === "range" && Math.abs(at(event) - drag.x) < STILL_PX) {
        drag.hours.point(this.time(at(event)));
        if (drag.hours.range) drag.hours.select(null);
      }
      drag = null;
    });
    this.track.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); drag = null; });
    this.track.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && !drag && this.hours) this.hours.point(null);
    });
  }

  /** Which end of the range lies under a finger, else a new range begins. */
  edge(x) {
    if (!this.hours.range) return "range";
    const [start, end] = this.hours.range.map((t) => Math.abs(this.x(t) - x));
    if (Math.min(start, end) > HANDLE_PX) return "range";
    return start < end ? "start" : "end";
  }

  drag({ hours, mode, view, range, from, x: began }, points, x) {
    const [a, b] = view;
    const scale = (b - a) / this.track.clientWidth;
    if (mode === "pinch" && points.length === 2) {
      const [p, q] = from;
      const factor = Math.abs(p - q) / Math.max(Math.abs(points[0] - points[1]), 8);
      const middle = a + ((p + q) / 2) * scale;
      const start = middle - ((points[0] + points[1]) / 2) * scale * factor;
      hours.look(start, start + (b - a) * factor);
    } else if (mode === "pan") hours.look(a - (x - began) * scale, b - (x - began) * scale);
    else if (mode === "start") hours.select([this.time(x), range[1]]);
    else if (mode === "end") hours.select([range[0], this.time(x)]);
    else if (mode === "range" && Math.abs(x - began) >= STILL_PX) hours.select([this.time(began), this.time(x)]);
  }
}
