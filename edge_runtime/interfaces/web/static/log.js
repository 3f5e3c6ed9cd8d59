// What was recognised: a list that is searched by words and by the range of the timeline, and taken away as a file.
import { maybe, query } from "./api.js";
import { $, clock, duration, el, percent } from "./words.js";

const SHOWN = 100;
const MOST = 10000; // of one file
const TYPED_MS = 250;

export class ActivityLog {
  /** `state` has camera, memory and timeline; `describe(name)` gives an activity's words. */
  constructor(state, describe) {
    this.state = state;
    this.describe = describe;
    this.asked = 0;
    $("log-text").addEventListener("input", () => {
      clearTimeout(this.typed);
      this.typed = setTimeout(() => this.look(), TYPED_MS);
    });
    state.timeline.addEventListener("range", () => this.look());
  }

  /** What is wanted of the log: of this camera, the words, and the time that is selected. */
  wanted() {
    const { camera, timeline } = this.state;
    const text = $("log-text").value.trim();
    const [from, to] = timeline.range || [];
    return { camera, ...(text ? { text } : {}), ...(timeline.range ? { from, to } : {}) };
  }

  /** The newest rows of this camera have changed; null where no log is kept. */
  update(rows) {
    this.asked += 1; // what is still being searched is of before, perhaps of another camera
    $("log").hidden = rows === null;
    if (rows === null) return;
    const { text, from } = this.wanted();
    if (text || from !== undefined) this.look();
    else this.show(rows.slice(0, SHOWN), rows.length > SHOWN);
  }

  async look() {
    if ($("log").hidden) return;
    const number = (this.asked += 1);
    const found = await maybe(`/api/v1/activities?${query({ ...this.wanted(), limit: SHOWN })}`);
    if (found && number === this.asked) this.show(found.activities, found.more);
  }

  show(rows, more) {
    const wanted = this.wanted();
    for (const format of ["csv", "json"]) {
      $(`log-${format}`).href = `/api/v1/activities?${query({ ...wanted, limit: MOST, format })}`;
    }
    const searched = wanted.text || wanted.from !== undefined;
    const foreign = this.state.memory && this.state.memory.familiar === false;
    const none = searched ? "Nothing of the kind was recognised."
      : foreign ? "Withheld: this camera shows nothing like what the bundle was trained on."
        : "Nothing was recognised yet.";
    const within = wanted.from === undefined ? "" : `In the selected time, ${this.state.timeline.rangeText()}. `;
    $("log-said").textContent = within + (rows.length ? (more ? `The newest ${rows.length} are shown; the files have more.` : "") : none);
    const key = JSON.stringify(rows);
    if ($("rows").dataset.key === key) return;
    $("rows").dataset.key = key;
    $("rows").replaceChildren(...rows.map((one) => this.row(one)));
  }

  row(one) {
    const to = one.ongoing ? null : one.to;
    const others = one.alternatives.length ? `, or ${one.alternatives.map((name) => this.describe(name).toLowerCase()).join(", or ")}` : "";
    const lasted = to === null ? "going on" : duration(to - one.from);
    return el("li", {}, el("button", { type: "button", onclick: () => this.see(one) },
      el("time", {}, clock(one.from, this.state.memory)), el("b", {}, `${this.describe(one.activity)}${others}`),
      el("span", { class: "number" }, percent(one.confidence)), el("span", { class: "asked" }, lasted)));
  }

  /** On the timeline. */
  see(one) {
    const { timeline } = this.state;
    const to = one.to ?? timeline.now;
    timeline.bring(one.from, to);
    timeline.point((one.from + to) / 2);
    $("track").scrollIntoView({ block: "nearest" });
  }
}
