// The picture of one camera: what it shows, what stands still, and the object that is chosen in it. Tells "change",
// and "area", "moment" and "live" where these begin.
import { el } from "./words.js";

const WAITING = ["Waiting for the first picture"];
const LEAST = 0.03; // of a box, each way

export class Picture extends EventTarget {
  constructor() {
    super();
    this.shown = null; // { bitmap, t } of the newest live picture
    this.held = null; // the same, while it stands still
    this.moment = null; // { t, cells: Map cell -> weight, boxes, image } while an answer is looked at
    this.zones = {};
    this.side = 7; // cells of the grid, each way
    this.counts = null; // of remembered pieces in each cell
    this.area = null;
    this.picking = false;
    this.badge = "";
    this.veil = WAITING; // sentences instead of a picture; null while there is one
    this.fps = 0;
  }

  changed(kind = "change") {
    this.dispatchEvent(new Event(kind));
    if (kind !== "change") this.dispatchEvent(new Event("change"));
  }

  /** What is painted: a bitmap or null. */
  get image() {
    if (this.moment) return this.moment.image;
    const one = this.held || this.shown;
    return one ? one.bitmap : null;
  }

  get still() { return Boolean(this.held || this.moment); }

  show(bitmap, t, fps) {
    this.shown = { bitmap, t };
    this.fps = fps;
    this.veil = null;
    this.changed();
  }

  /** Sentences instead of the live picture; what stands still stays. */
  cover(...sentences) {
    if (!this.shown && String(this.veil) === String(sentences)) return;
    this.fps = 0;
    this.shown = null;
    this.veil = sentences;
    this.changed();
  }

  /** The same for a pause, in which only a remembered moment may be seen. */
  hide(...sentences) {
    if (this.held) { this.held = null; this.letGo(); }
    this.cover(...sentences);
  }

  /** No new pictures come; what stands still stays. */
  rest() {
    this.shown = null;
    this.fps = 0;
    this.veil = WAITING;
    this.changed();
  }

  /** Back to what the camera shows now. */
  live() {
    this.held = this.moment = null;
    this.badge = "";
    if (!this.shown && !this.veil) this.veil = WAITING;
    this.letGo();
    this.changed("live");
  }

  /** A remembered moment: its `image` is a bitmap or null, then it stands on an empty ground. */
  remember(moment, badge) {
    this.letGo();
    this.held = null;
    this.moment = moment;
    this.badge = badge;
    this.changed("moment");
  }

  // -- choosing an object ------------------------------------------------------------------------------------

  /** Stop the picture and let a box be drawn; false where there is no picture. */
  pick() {
    if (this.moment) this.live();
    if (!this.shown) return false;
    this.held = this.held || this.shown;
    this.picking = true;
    this.changed();
    return true;
  }

  letGo() {
    this.area = null;
    this.picking = false;
  }

  select(area) {
    this.area = area;
    this.changed("area");
  }

  /** A box of the usual size around a point. `ratio` is that of the picture. */
  around([x, y], ratio) {
    const half = 0.09;
    const tall = half * Math.min(ratio, 2);
    this.select(moved([0.5 - half, 0.5 - tall, 0.5 + half, 0.5 + tall], x - 0.5, y - 0.5));
  }

  /** The chosen part of the standing picture: its time, box, and pixels as a canvas. */
  cut() {
    const { bitmap, t } = this.held;
    const [x1, y1, x2, y2] = this.area;
    const left = Math.round(x1 * bitmap.width);
    const top = Math.round(y1 * bitmap.height);
    const width = Math.max(Math.round(x2 * bitmap.width) - left, 1);
    const height = Math.max(Math.round(y2 * bitmap.height) - top, 1);
    const canvas = el("canvas", { ".width": width, ".height": height });
    canvas.getContext("2d").drawImage(bitmap, left, top, width, height, 0, 0, width, height);
    return { t, box: this.area, canvas };
  }
}

const inside = (value) => Math.min(Math.max(value, 0), 1);

/** Corners in order, inside the picture, not smaller than a finger can tell. */
export function ordered([xa, ya, xb, yb]) {
  let [x1, x2] = [inside(Math.min(xa, xb)), inside(Math.max(xa, xb))];
  let [y1, y2] = [inside(Math.min(ya, yb)), inside(Math.max(ya, yb))];
  if (x2 - x1 < LEAST) { x1 = Math.min(x1, 1 - LEAST); x2 = x1 + LEAST; }
  if (y2 - y1 < LEAST) { y1 = Math.min(y1, 1 - LEAST); y2 = y1 + LEAST; }
  return [x1, y1, x2, y2];
}

export function moved([x1, y1, x2, y2], dx, dy) {
  const x = Math.min(Math.max(dx, -x1), 1 - x2);
  const y = Math.min(Math.max(dy, -y1), 1 - y2);
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}
