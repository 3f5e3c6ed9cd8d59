// Forgetting a span of time of one camera, after it was said what that is.
import { send } from "./api.js";
import { $, duration, say, spanText, toast } from "./words.js";

export class Forget {
  /** `forgotten(camera)` is told. */
  constructor(forgotten) {
    this.camera = null;
    $("forget").addEventListener("click", () => this.open());
    $("forget-form").addEventListener("change", () => this.update());
    $("forget-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(forgotten);
    });
  }

  /** Of this camera from the next opening on. */
  attach(camera, allowed) {
    this.next = camera;
    $("forget").hidden = !allowed;
    $("forget").disabled = !camera;
  }

  open() {
    this.camera = this.next;
    const { range } = this.camera.hours;
    say($("forget-title"), `Forget what ${this.camera.title} saw`);
    $("forget-range").hidden = !range;
    $("forget-form").elements.span.value = range ? "range" : "300";
    $("forget-background").checked = false;
    say($("forget-wrong"), "");
    this.update();
    $("forget-dialog").showModal();
  }

  /** Seconds of the stream, from and to; null where nothing was watched. */
  span() {
    const { hours } = this.camera;
    const chosen = $("forget-form").elements.span.value;
    const [first] = hours.extent;
    if (!hours.memory || hours.memory.coverage.from === null) return null;
    if (chosen === "range") return hours.range;
    const now = Math.ceil(hours.now);
    return chosen === "all" ? [Math.floor(first), now] : [Math.max(now - Number(chosen), Math.floor(first)), now];
  }

  update() {
    const span = this.span();
    $("forget-send").disabled = !span;
    say($("forget-span"), span ? `${spanText(...span, this.camera.memory)} (${duration(span[1] - span[0])})` : "Nothing was watched yet.");
  }

  async send(forgotten) {
    const { camera } = this;
    const span = this.span();
    if (!span) return;
    $("forget-send").disabled = true;
    try {
      const result = await send("POST", "api/v1/forget", {
        camera: camera.name, from: span[0], to: span[1], reset_background: $("forget-background").checked,
      });
      $("forget-dialog").close();
      camera.hours.select(null);
      camera.show(null);
      forgotten(camera);
      toast(`Forgotten: ${duration(result.watched_s)} of what was watched, with ${result.tokens} details, ${result.thumbnails} pictures and ${result.activities} activities.`);
    } catch (error) {
      if (error.status !== 401) say($("forget-wrong"), error.message);
    }
    $("forget-send").disabled = false;
  }
}
