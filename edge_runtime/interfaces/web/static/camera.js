// What belongs to one camera: what is known of it, its picture, its hours, its answer. The parts of the page show
// the camera that is looked at; what comes late lands in the camera that it belongs to, and is drawn if that is it.
import { Hours } from "./hours.js";
import { Picture } from "./picture.js";

export class Camera extends EventTarget {
  constructor(name) {
    super();
    this.name = name;
    this.status = null; // as the device describes it
    this.memory = null;
    this.thumbnails = false;
    this.picture = new Picture();
    this.hours = new Hours();
    this.answer = null; // an Answer that is looked at
    this.asking = false;
    this.when = "all"; // the time that a question is about
    this.search = ""; // words in the log of activities
    this.found = null; // { rows, more } of that log; null where there is none
    this.searches = 0;
    this.hours.addEventListener("range", () => {
      if (this.hours.range) this.when = "range";
      else if (this.when === "range") this.when = "all";
    });
    this.picture.addEventListener("live", () => { if (this.answer) this.answer.pause(); });
  }

  get title() { return (this.status && this.status.title) || this.name; }

  /** What a question asks about: nothing for all of the time. */
  get window() {
    if (this.when === "all") return {};
    if (this.when === "range" && this.hours.range) return { from: this.hours.range[0], to: this.hours.range[1] };
    const end = this.memory ? this.hours.now : 0;
    return { from: end - Number(this.when), to: end };
  }

  take(memory) {
    this.memory = memory;
    this.picture.zones = memory.zones;
    this.picture.side = memory.grid;
    this.hours.update(memory, this.hours.activities);
    this.count();
  }

  /** How many pieces are remembered in each cell: of the moment or range that is pointed at, else of all. */
  count() {
    const { moment, range, view } = this.hours;
    const near = Math.max((view[1] - view[0]) / 100, 0.5);
    const counted = ({ t }) => (moment !== null ? Math.abs(t - moment) <= near : !range || (t >= range[0] && t < range[1]));
    const counts = new Array(this.picture.side ** 2).fill(0);
    for (const token of this.memory ? this.memory.tokens : []) if (counted(token)) counts[token.cell] += 1;
    this.picture.counts = counts;
    this.picture.changed();
  }

  show(answer) {
    if (this.answer) this.answer.pause();
    this.answer = answer;
    this.hours.showSpans(answer ? answer.spans : []);
    this.dispatchEvent(new Event("answer"));
  }

  /** Nobody looks at it any more. What was asked, selected and chosen stays until somebody comes back. */
  leave() {
    if (this.answer) this.answer.pause();
    this.picture.rest();
  }
}
