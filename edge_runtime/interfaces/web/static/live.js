// The live picture: JPEG after JPEG of one stream, each with its time; single pictures where there is no stream.
import { cameraPath, picture } from "./api.js";

const HEAD_END = [13, 10, 13, 10];
const text = new TextDecoder();

/** Calls `show(bitmap, t, fps)` for each picture of `camera` and `none(sentence)` while there is none, until
    `stop`. `condition()` says how the camera is: what is paused is not asked for pictures. */
export class Live {
  constructor(camera, width, condition, show, none) {
    this.condition = condition;
    this.camera = camera;
    this.width = width;
    this.show = show;
    this.none = none;
    this.fps = 0;
    this.came = [];
    this.ending = new AbortController();
    this.run();
  }

  stop() { this.ending.abort(); }

  async run() {
    while (!this.ending.signal.aborted) {
      const condition = this.condition();
      if (document.hidden || condition === "paused" || condition === "failed") { await this.wait(500); continue; }
      try {
        if (condition === "ended" || condition === "stopped") { await this.single(404); await this.wait(2000); continue; }
        const reply = await picture(cameraPath(this.camera, `/live.mjpg?fps=12&width=${this.width}`), this.ending.signal);
        if (reply.ok) await this.read(reply.body.getReader());
        else await this.single(reply.status);
      } catch (error) {
        if (this.ending.signal.aborted) return;
        this.none(error.message === "Failed to fetch" ? "The device does not answer." : error.message);
      }
      await this.wait(1000);
    }
  }

  /** Without a stream (four others watch, a recording has ended): the newest sampled picture. */
  async single(status) {
    const reply = await picture(cameraPath(this.camera, `/latest.jpg?width=${this.width}`), this.ending.signal);
    if (reply.ok) {
      this.fps = 0;
      await this.draw(await reply.blob(), Number(reply.headers.get("X-LVM-T")));
    } else if (status !== 401) this.none((await reply.json()).error);
  }

  async read(reader) {
    let held = new Uint8Array(0);
    try {
      while (true) {
        const { done, value } = await reader.read();
        if (done || document.hidden) return;
        const more = new Uint8Array(held.length + value.length);
        more.set(held);
        more.set(value, held.length);
        held = await this.parts(more);
      }
    } finally {
      reader.cancel().catch(() => {}); // it is over already, however it ended
    }
  }

  /** Shows the newest whole picture in `data` and returns what comes after it. */
  async parts(data) {
    let at = 0;
    let newest = null;
    while (true) {
      const head = find(data, at);
      if (head < 0) break;
      const said = text.decode(data.subarray(at, head));
      const end = head + 4 + Number(/Content-Length: (\d+)/.exec(said)[1]);
      if (data.length < end + 2) break;
      newest = [data.slice(head + 4, end), Number(/X-LVM-T: ([-\d.]+)/.exec(said)[1])];
      at = end + 2;
    }
    if (newest) await this.draw(new Blob([newest[0]], { type: "image/jpeg" }), newest[1], true);
    return data.subarray(at);
  }

  async draw(blob, t, streamed = false) {
    const bitmap = await createImageBitmap(blob);
    if (this.ending.signal.aborted) return;
    if (streamed) {
      const now = performance.now();
      this.came = [...this.came.filter((one) => now - one < 3000), now];
      // Not of the first few, which have waited for one another.
      this.fps = this.came.length > 4 ? (this.came.length - 1) / ((now - this.came[0]) / 1000) : 0;
    }
    this.show(bitmap, t, this.fps);
  }

  wait(ms) { return new Promise((done) => { setTimeout(done, ms); }); }
}

function find(data, from) {
  for (let i = from; i + 3 < data.length; i += 1) {
    if (HEAD_END.every((byte, k) => data[i + k] === byte)) return i;
  }
  return -1;
}
