// Shows the picture of a camera and what lies over it: privacy zones, the grid of what is remembered, evidence,
// boxes, a chosen object. Tells "use" when the chosen object is to be used.
import { moved, ordered } from "./picture.js";
import { $, clock, colour, say } from "./words.js";

const STEP = 0.02;

export class Stage extends EventTarget {
  constructor() {
    super();
    this.root = $("stage");
    this.canvas = $("picture");
    this.overlay = $("overlay");
    this.box = $("box");
    this.camera = null; // that is looked at
    this.showsGrid = false;
    this.render = this.render.bind(this);
    new ResizeObserver(() => this.draw()).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.painted = undefined; this.render(); });
    this.takePointer();
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.render();
  }

  /** Look at this camera's picture, or at none. */
  attach(camera) {
    if (this.camera) this.picture.removeEventListener("change", this.render);
    this.camera = camera;
    if (camera) this.picture.addEventListener("change", this.render);
    this.render();
  }

  get picture() { return this.camera && this.camera.picture; }

  get ratio() { return this.root.clientWidth / Math.max(this.root.clientHeight, 1); }

  // -- showing -----------------------------------------------------------------------------------------------

  render() {
    const { picture } = this;
    const image = picture && picture.image;
    if (image !== this.painted) this.paint(image);
    if (image && !this.seen) this.seen = performance.mark("first-picture");
    if (picture) this.cover(picture.still ? null : picture.veil);
    this.showBox(picture && picture.area);
    const held = picture && picture.held && `${clock(picture.held.t, this.camera.memory)}, standing still: drag a box around the object`;
    const badge = held || (picture && picture.badge) || "";
    $("badge").hidden = !badge;
    say($("badge"), badge);
    this.root.classList.toggle("picking", Boolean(picture && picture.picking));
    this.draw();
  }

  paint(image) {
    const { canvas } = this;
    this.painted = image;
    if (image) {
      const { width, height } = image;
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
        this.root.style.setProperty("--ratio", String(width / height));
      }
      canvas.getContext("2d").drawImage(image, 0, 0);
    } else {
      const pen = canvas.getContext("2d");
      pen.fillStyle = colour("stage");
      pen.fillRect(0, 0, canvas.width, canvas.height);
    }
  }

  /** Sentences instead of a picture, the first of them large; null takes them away. */
  cover(sentences) {
    $("veil").hidden = !sentences;
    const [head, ...rest] = sentences || [""];
    say($("veil-head"), head);
    say($("veil-text"), rest.join(" "));
  }

  showBox(area) {
    this.box.hidden = !area;
    if (!area) return;
    const [x1, y1, x2, y2] = area;
    Object.assign(this.box.style, {
      left: `${x1 * 100}%`, top: `${y1 * 100}%`, width: `${(x2 - x1) * 100}%`, height: `${(y2 - y1) * 100}%`,
    });
  }

  // -- choosing an object ------------------------------------------------------------------------------------

  /** A box in the middle, for who has no pointer; the next tap draws it elsewhere. False without a picture. */
  pick() {
    if (!this.picture || !this.picture.pick()) return false;
    this.picture.around([0.5, 0.5], this.ratio);
    this.box.focus({ preventScroll: true });
    return true;
  }

  takePointer() {
    let from = null; // where the pointer went down, and the area then
    const at = (event) => {
      const frame = this.root.getBoundingClientRect();
      return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    };
    this.root.addEventListener("pointerdown", (event) => {
      const { picture } = this;
      if (event.button !== 0 || !picture || !$("veil").hidden) return;
      // A finger that is not choosing yet may be about to scroll: only a tap counts.
      if (event.pointerType === "touch" && !picture.picking) {
        from = { picture, point: at(event), mode: "tap" };
        return;
      }
      if (!picture.pick()) return;
      const corner = event.target.dataset.corner;
      from = { picture, point: at(event), mode: corner || (event.target === this.box ? "move" : "draw"), area: picture.area };
      this.root.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    this.root.addEventListener("pointermove", (event) => {
      if (from) drag(from, at(event));
    });
    const end = (event) => {
      if (!from) return;
      const { mode, point, picture } = from;
      from = null;
      const still = far(point, at(event)) < 0.02;
      if (mode === "tap" && !(still && picture.pick())) return;
      if ((still && (mode === "draw" || mode === "tap")) || !picture.area) picture.around(point, this.ratio);
      this.box.focus({ preventScroll: true });
    };
    this.root.addEventListener("pointerup", end);
    this.root.addEventListener("pointercancel", () => { from = null; });
  }

  key(event) {
    const { picture } = this;
    const ways = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const way = ways[event.key];
    if (way) {
      const [x1, y1, x2, y2] = picture.area;
      picture.select(event.shiftKey ? ordered([x1, y1, x2 + way[0], y2 + way[1]]) : moved(picture.area, ...way));
    } else if (event.key === "Enter" || event.key === " ") this.dispatchEvent(new Event("use"));
    else if (event.key === "Escape") picture.live();
    else return;
    event.preventDefault();
  }

  // -- what lies over it -------------------------------------------------------------------------------------

  draw() {
    const { overlay, picture } = this;
    const scale = devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = overlay;
    overlay.width = Math.round(w * scale);
    overlay.height = Math.round(h * scale);
    if (!picture) return;
    const pen = overlay.getContext("2d");
    pen.scale(scale, scale);
    this.drawZones(pen, w, h);
    const accent = "#7db4f0"; // over pictures, in both schemes
    const { moment } = picture;
    const { side } = picture;
    if (moment && !moment.image) grid(pen, w, h, side, "rgb(255 255 255 / 0.18)");
    if (!moment) {
      if (this.showsGrid && picture.counts) this.drawCounts(pen, w, h, side, picture.counts);
      return;
    }
    const most = Math.max(...moment.cells.values(), 1e-9);
    for (const [cell, weight] of moment.cells) {
      const [x, y, cw, ch] = [(cell % side) * w / side, Math.floor(cell / side) * h / side, w / side, h / side];
      pen.fillStyle = accent;
      pen.globalAlpha = 0.12 + 0.4 * (weight / most);
      pen.fillRect(x, y, cw, ch);
      pen.globalAlpha = 1;
      pen.strokeStyle = accent;
      pen.lineWidth = 1.5;
      pen.strokeRect(x + 1, y + 1, cw - 2, ch - 2);
    }
    for (const one of moment.boxes) {
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
    for (const [name, points] of Object.entries(this.picture.zones)) {
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

  drawCounts(pen, w, h, side, counts) {
    const most = Math.max(...counts, 1);
    grid(pen, w, h, side, "rgb(255 255 255 / 0.25)");
    pen.textAlign = "right";
    pen.font = "600 12px system-ui, sans-serif";
    counts.forEach((count, cell) => {
      if (!count) return;
      const [x, y] = [(cell % side) * w / side, Math.floor(cell / side) * h / side];
      pen.fillStyle = `rgb(60 140 230 / ${0.1 + 0.5 * (count / most)})`;
      pen.fillRect(x + 1, y + 1, w / side - 2, h / side - 2);
      if (w > 480) {
        pen.lineWidth = 3;
        pen.strokeStyle = "rgb(7 10 13 / 0.7)";
        pen.strokeText(String(count), x + w / side - 6, y + 16);
        pen.fillStyle = "#ffffff";
        pen.fillText(String(count), x + w / side - 6, y + 16);
      }
    });
    pen.textAlign = "left";
  }
}

function grid(pen, w, h, side, style) {
  pen.strokeStyle = style;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let k = 1; k < side; k += 1) {
    pen.moveTo((k * w) / side, 0);
    pen.lineTo((k * w) / side, h);
    pen.moveTo(0, (k * h) / side);
    pen.lineTo(w, (k * h) / side);
  }
  pen.stroke();
}

const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

function drag({ picture, point, mode, area }, [x, y]) {
  const [x0, y0] = point;
  if (mode === "tap") return;
  if (mode === "draw") {
    if (far(point, [x, y]) >= 0.02) picture.select(ordered([x0, y0, x, y]));
    return;
  }
  const [x1, y1, x2, y2] = area;
  const [dx, dy] = [x - x0, y - y0];
  if (mode === "move") picture.select(moved(area, dx, dy));
  else {
    picture.select(ordered([
      mode.includes("w") ? x1 + dx : x1, mode.includes("n") ? y1 + dy : y1,
      mode.includes("e") ? x2 + dx : x2, mode.includes("s") ? y2 + dy : y2,
    ]));
  }
}
