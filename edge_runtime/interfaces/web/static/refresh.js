// What is asked for, and when: what the device tells of by its events at once, the rest now and then. While no
// events come (too many listen, a proxy that knows no WebSocket), everything is asked for again and again.

import { listen } from "./api.js";

/** Seconds between two looks at a part: while events come, while they do not. */
const EVERY_S = {
  cameras: [10, 2], memory: [10, 2], history: [6, 6], activities: [60, 6], privacy: [60, 6], answers: [60, 6],
  catalogue: [30, 30],
};
/** What an event of a kind makes stale. */
const STALE = {
  camera: ["cameras"], activity: ["activities"], answer: ["answers"],
  privacy: ["cameras", "memory", "privacy", "activities", "answers"],
};
const TICK_MS = 500;
const SOON_MS = 100; // events that come together are one look
const RETRY_S = [1, 30]; // first and longest wait between two tries to listen

export class Refresh {
  /** `parts` has a function for each name of EVERY_S, which may return a promise; `cameras` is called before the
      others. `failed(error)` is told what a look raises. */
  constructor(parts, failed) {
    this.parts = parts;
    this.failed = failed;
    this.looked = {}; // when, by name
    this.looking = new Map(); // the look that is under way, by name: a part that is slow delays no other
    this.listening = false;
    this.socket = null;
    this.wait = RETRY_S[0];
    this.began = this.ready = false;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.deaf();
      else if (this.began) { this.stale(); this.listen(); }
    });
  }

  begin() {
    this.stale();
    this.listen();
    if (!this.began) setInterval(() => this.look(), TICK_MS);
    this.began = true;
  }

  /** Ask for these parts, or all, as soon as may be. */
  stale(names = Object.keys(EVERY_S)) {
    for (const name of names) this.looked[name] = -Infinity;
    setTimeout(() => this.look(), this.began ? SOON_MS : 0);
  }

  /** Ask for all parts of another camera now: what is still being asked for is of the one before. */
  restart() {
    this.looking.clear();
    this.stale();
  }

  due(name) { return performance.now() - this.looked[name] >= 1000 * EVERY_S[name][this.listening ? 0 : 1]; }

  async look() {
    if (document.hidden || this.idle()) return;
    await this.one("cameras");
    if (this.ready) for (const name of Object.keys(EVERY_S)) this.one(name);
  }

  /** Whether nothing may be asked for now, as before somebody has signed in. */
  idle() { return false; }

  async one(name) {
    if (!this.due(name) || this.looking.has(name)) return;
    const look = {};
    this.looking.set(name, look);
    this.looked[name] = performance.now(); // an event that comes meanwhile makes it stale again
    try {
      await this.parts[name]();
      this.ready = this.ready || name === "cameras";
    } catch (error) {
      this.failed(error);
    }
    if (this.looking.get(name) === look) this.looking.delete(name);
  }

  // -- events ------------------------------------------------------------------------------------------------

  listen() {
    clearTimeout(this.again);
    if (this.socket || document.hidden || this.idle()) return;
    const socket = listen(`api/v1/events?kinds=${Object.keys(STALE).join()}`);
    this.socket = socket;
    socket.addEventListener("open", () => {
      this.hears(true);
      this.wait = RETRY_S[0];
      this.stale(Object.values(STALE).flat()); // what happened before it listened
    });
    socket.addEventListener("message", ({ data }) => this.stale(STALE[JSON.parse(data).kind] || []));
    socket.addEventListener("close", () => {
      if (this.socket !== socket) return;
      this.deaf();
      this.again = setTimeout(() => this.listen(), 1000 * this.wait);
      this.wait = Math.min(2 * this.wait, RETRY_S[1]);
    });
  }

  deaf() {
    const { socket } = this;
    this.socket = null;
    this.hears(false);
    if (socket) socket.close();
  }

  hears(now) {
    this.listening = now;
    document.documentElement.dataset.events = now ? "listening" : "asking";
  }
}
