// The picture and what lies over it: privacy zones, the grid of what is remembered, evidence, boxes, a chosen object.
import { $, colour, el } from "./words.js";

const SIDE = 7; // cells of the grid, each way
const STEP = 0.02;
const LEAST = 0.03;

export class Stage extends EventTarget {
  constructor() {
    super();
    this.root = $("stage");
    this.picture = $("picture");
    this.overlay = $("overlay");
    this.box = $("box");
    this.shown = null; // { bitmap, t } of the newest live picture
    this.held = null; // the same, while it stands still
    this.moment = null; // { t, cells: Map cell -> weight, boxes, image } while an answer is looked at
    this.zones = {};
    this.counts = null; // Float array of 49, or null while the memory is not shown
    this.area = null;
    new ResizeObserver(() => this.draw()).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.takePointer();
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  // -- pictures ----------------------------------------------------------------------------------------------

  show(bitmap, t) {
    if (!this.seen) this.seen = performance.mark("first-picture");
    this.shown = { bitmap, t };
    this.veil(null);
    if (!this.held && !this.moment) this.paint(bitmap);
  }

  paint(image) {
    const { picture } = this;
    if (image) {
      const { width, height } = image;
      if (picture.width !== width || picture.height !== height) {
        picture.width = width;
        picture.height = height;
        this.root.style.setProperty("--ratio", String(width / height));
      }
      picture.getContext("2d").drawImage(image, 0, 0);
    } else {
      const pen = picture.getContext("2d");
      pen.fillStyle = colour("stage");
      pen.fillRect(0, 0, picture.width, picture.height);
    }
  }

  /** A sentence instead of a picture; null takes it away. */
  veil(sentence) {
    const veil = $("veil");
    veil.hidden = sentence === null;
    veil.textContent = sentence || "";
    if (sentence !== null) this.shown = null;
  }

  clear() {
    this.shown = this.held = this.moment = null;
    this.letGo();
    this.paint(null);
    this.draw();
  }

  badge(text) {
    $("badge").hidden = !text;
    $("badge").textContent = text || "";
  }

  /** Back to what the camera shows now. */
  live() {
    this.held = this.moment = null;
    this.letGo();
    if (this.shown) this.paint(this.shown.bitmap);
    this.badge("");
    this.draw();
    this.dispatchEvent(new Event("live"));
  }

  /** A remembered moment: `image` is a bitmap or null, then it stands on an empty ground. */
  remember(moment) {
    this.letGo();
    this.held = null;
    this.moment = moment;
    this.paint(moment.image);
    this.draw();
    this.dispatchEvent(new Event("moment"));
  }

  // -- choosing an object ------------------------------------------------------------------------------------

  /** Stop the picture and let a box be drawn; false where there is no picture. */
  pick() {
    if (this.moment) this.live();
    if (!this.shown) return false;
    this.held = this.held || this.shown;
    this.paint(this.held.bitmap);
    this.root.classList.add("picking");
    return true;
  }

  letGo() {
    this.area = null;
    this.box.hidden = true;
    this.root.classList.remove("picking");
  }

  select(area, focus = false) {
    const [x1, y1, x2, y2] = area;
    this.area = area;
    Object.assign(this.box.style, {
      left: `${x1 * 100}%`, top: `${y1 * 100}%`, width: `${(x2 - x1) * 100}%`, height: `${(y2 - y1) * 100}%`,
    });
    this.box.hidden = false;
    if (focus) this.box.focus({ preventScroll: true });
    this.dispatchEvent(new Event("area"));
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

  takePointer() {
    let from = null; // where the pointer went down, and the area then
    const at = (event) => {
      const frame = this.root.getBoundingClientRect();
      return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    };
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !$("veil").hidden) return;
      // A finger that is not choosing yet may be about to scroll: only a tap counts.
      if (event.pointerType === "touch" && !this.root.classList.contains("picking")) {
        from = { point: at(event), mode: "tap" };
        return;
      }
      if (!this.pick()) return;
      const corner = event.target.dataset.corner;
      from = { point: at(event), mode: corner || (event.target === this.box ? "move" : "draw"), area: this.area };
      this.root.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    this.root.addEventListener("pointermove", (event) => {
      if (from) this.drag(from, at(event));
    });
    const end = (event) => {
      if (!from) return;
      const { mode, point } = from;
      from = null;
      const still = far(point, at(event)) < 0.02;
      if (mode === "tap" && !(still && this.pick())) return;
      if (still && (mode === "draw" || mode === "tap")) this.around(point);
      if (!this.area) this.around(point);
      this.box.focus({ preventScroll: true });
    };
    this.root.addEventListener("pointerup", end);
    this.root.addEventListener("pointercancel", () => { from = null; });
  }

  drag(from, [x, y]) {
    const [x0, y0] = from.point;
    if (from.mode === "tap") return;
    if (from.mode === "draw") {
      if (far(from.point, [x, y]) >= 0.02) this.select(ordered([x0, y0, x, y]));
      return;
    }
    const [x1, y1, x2, y2] = from.area;
    const [dx, dy] = [x - x0, y - y0];
    if (from.mode === "move") this.select(moved(from.area, dx, dy));
    else {
      this.select(ordered([
        from.mode.includes("w") ? x1 + dx : x1, from.mode.includes("n") ? y1 + dy : y1,
        from.mode.includes("e") ? x2 + dx : x2, from.mode.includes("s") ? y2 + dy : y2,
      ]));
    }
  }

  /** A box of the usual size around a point. */
  around([x, y], focus = false) {
    const frame = this.root.getBoundingClientRect();
    const half = 0.09;
    const tall = half * Math.min(frame.width / frame.height, 2);
    this.select(moved([0.5 - half, 0.5 - tall, 0.5 + half, 0.5 + tall], x - 0.5, y - 0.5), focus);
  }

  key(event) {
    const ways = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const way = ways[event.key];
    if (way) {
      const [x1, y1, x2, y2] = this.area;
      this.select(event.shiftKey ? ordered([x1, y1, x2 + way[0], y2 + way[1]]) : moved(this.area, ...way));
    } else if (event.key === "Enter" || event.key === " ") this.dispatchEvent(new Event("use"));
    else if (event.key === "Escape") this.live();
    else return;
    event.preventDefault();
  }

  // -- what lies over it -------------------------------------------------------------------------------------

  draw() {
    const { overlay } = this;
    const scale = devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = overlay;
    overlay.width = Math.round(w * scale);
    overlay.height = Math.round(h * scale);
    const pen = overlay.getContext("2d");
    pen.scale(scale, scale);
    this.drawZones(pen, w, h);
    const accent = "#7db4f0"; // over pictures, in both schemes
    const cells = this.moment ? this.moment.cells : null;
    if (this.moment && !this.moment.image) grid(pen, w, h, "rgb(255 255 255 / 0.18)");
    if (this.counts && !cells) this.drawCounts(pen, w, h);
    if (!cells) return;
    const most = Math.max(...cells.values(), 1e-9);
    for (const [cell, weight] of cells) {
      const [x, y, cw, ch] = [(cell % SIDE) * w / SIDE, Math.floor(cell / SIDE) * h / SIDE, w / SIDE, h / SIDE];
      pen.fillStyle = accent;
      pen.globalAlpha = 0.12 + 0.4 * (weight / most);
      pen.fillRect(x, y, cw, ch);
      pen.globalAlpha = 1;
      pen.strokeStyle = accent;
      pen.lineWidth = 1.5;
      pen.strokeRect(x + 1, y + 1, cw - 2, ch - 2);
    }
    for (const one of this.moment.boxes) {
      const [x1, y1, x2, y2] = one.box;
      pen.strokeStyle = "#ffffff";
      pen.lineWidth = 3;
      pen.setLineDash(one.interpolated ? [8, 6] : []);
      pen.strokeRect(x1 * w, y1 * h, (x2 - x1) * w, (y2 - y1) * h);
      pen.setLineDash([]);
    }
  }

  drawZones(pen, w, h) {
    pen.font = "14px system-ui, sans-serif";
    for (const [name, points] of Object.entries(this.zones)) {
      pen.beginPath();
      for (const [x, y] of points) pen.lineTo(x * w, y * h);
      pen.closePath();
      pen.strokeStyle = "rgb(255 255 255 / 0.7)";
      pen.setLineDash([6, 4]);
      pen.lineWidth = 1.5;
      pen.stroke();
      pen.setLineDash([]);
      pen.save();
      pen.clip();
      pen.strokeStyle = "rgb(255 255 255 / 0.14)";
      for (let x = -h; x < w; x += 12) {
        pen.beginPath();
        pen.moveTo(x, 0);
        pen.lineTo(x + h, h);
        pen.stroke();
      }
      pen.restore();
      const x = Math.min(...points.map((one) => one[0])) * w;
      const y = Math.min(...points.map((one) => one[1])) * h;
      const wide = Math.max(...points.map((one) => one[0])) * w - x - 16;
      const whole = `Privacy zone: ${name}`;
      pen.fillStyle = "rgb(255 255 255 / 0.85)";
      if (pen.measureText(whole).width <= wide) pen.fillText(whole, x + 8, y + 22);
      else if (pen.measureText(name).width <= wide) pen.fillText(name, x + 8, y + 22);
    }
  }

  drawCounts(pen, w, h) {
    const most = Math.max(...this.counts, 1);
    grid(pen, w, h, "rgb(255 255 255 / 0.25)");
    pen.textAlign = "right";
    pen.font = "600 12px system-ui, sans-serif";
    this.counts.forEach((count, cell) => {
      if (!count) return;
      const [x, y] = [(cell % SIDE) * w / SIDE, Math.floor(cell / SIDE) * h / SIDE];
      pen.fillStyle = `rgb(60 140 230 / ${0.1 + 0.5 * (count / most)})`;
      pen.fillRect(x + 1, y + 1, w / SIDE - 2, h / SIDE - 2);
      if (w > 480) {
        pen.lineWidth = 3;
        pen.strokeStyle = "rgb(7 10 13 / 0.7)";
        pen.strokeText(String(count), x + w / SIDE - 6, y + 16);
        pen.fillStyle = "#ffffff";
        pen.fillText(String(count), x + w / SIDE - 6, y + 16);
      }
    });
    pen.textAlign = "left";
  }
}

function grid(pen, w, h, style) {
  pen.strokeStyle = style;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let k = 1; k < SIDE; k += 1) {
    pen.moveTo((k * w) / SIDE, 0);
    pen.lineTo((k * w) / SIDE, h);
    pen.moveTo(0, (k * h) / SIDE);
    pen.lineTo(w, (k * h) / SIDE);
  }
  pen.stroke();
}

const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const inside = (value) => Math.min(Math.max(value, 0), 1);

/** Corners in order, inside the picture, not smaller than a finger can tell. */
function ordered([xa, ya, xb, yb]) {
  let [x1, x2] = [inside(Math.min(xa, xb)), inside(Math.max(xa, xb))];
  let [y1, y2] = [inside(Math.min(ya, yb)), inside(Math.max(ya, yb))];
  if (x2 - x1 < LEAST) { x1 = Math.min(x1, 1 - LEAST); x2 = x1 + LEAST; }
  if (y2 - y1 < LEAST) { y1 = Math.min(y1, 1 - LEAST); y2 = y1 + LEAST; }
  return [x1, y1, x2, y2];
}

function moved([x1, y1, x2, y2], dx, dy) {
  const x = Math.min(Math.max(dx, -x1), 1 - x2);
  const y = Math.min(Math.max(dy, -y1), 1 - y2);
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}
