// What was recognised: a list that is searched by words and by the range of the timeline, and taken away as a file.
import { maybe, query } from "./api.js";
import { $, activityName, dayOf, duration, el, percent, say, time } from "./words.js";

const SHOWN = 100;
const MOST = 10000; // of one file
const TYPED_MS = 250;

export class ActivityLog {
  /** `judge(camera, row)` gives the buttons of a row that can be judged. */
  constructor(judge) {
    this.judge = judge;
    this.camera = null;
    this.look = this.look.bind(this);
    $("log-text").addEventListener("input", () => {
      const { camera } = this;
      if (!camera) return;
      camera.search = $("log-text").value.trim();
      clearTimeout(this.typed);
      this.typed = setTimeout(() => this.search(camera), TYPED_MS);
    });
  }

  /** Show the activities of this camera. */
  attach(camera) {
    if (this.camera) this.camera.hours.removeEventListener("range", this.look);
    this.camera = camera;
    if (camera) camera.hours.addEventListener("range", this.look);
    $("log-text").value = camera ? camera.search : "";
    this.render();
  }

  /** The newest rows of a camera have changed; null where no log is kept. */
  take(camera, rows) {
    camera.searches += 1; // what is still being searched is of before
    if (rows === null) camera.found = null;
    else if (camera.search || camera.hours.range) {
      camera.found = camera.found || { rows: [], more: false };
      this.search(camera);
    } else camera.found = { rows: rows.slice(0, SHOWN), more: rows.length > SHOWN };
    if (camera === this.camera) this.render();
  }

  look() { if (this.camera) this.search(this.camera); }

  async search(camera) {
    if (!camera.found) return;
    const number = (camera.searches += 1);
    const found = await maybe(`api/v1/activities?${query({ ...wanted(camera), limit: SHOWN })}`);
    if (!found || number !== camera.searches) return;
    camera.found = { rows: found.activities, more: found.more };
    if (camera === this.camera) this.render();
  }

  render() {
    const { camera } = this;
    $("log").hidden = !camera || !camera.found;
    if ($("log").hidden) return;
    const { rows, more } = camera.found;
    for (const format of ["csv", "json"]) {
      $(`log-${format}`).href = `api/v1/activities?${query({ ...wanted(camera), limit: MOST, format })}`;
    }
    const { range } = camera.hours;
    const none = camera.search || range ? "Nothing of the kind was recognised."
      : camera.memory && camera.memory.familiar === false ? "Withheld: this camera shows nothing like what the bundle was trained on."
        : "Nothing was recognised yet.";
    const within = range ? `In the selected time, ${camera.hours.rangeText()}. ` : "";
    say($("log-said"), within + (rows.length ? (more ? `The newest ${rows.length} are shown; the files have more.` : "") : none));
    const taught = (camera.taught || []).map((one) => one.name);
    const key = JSON.stringify([camera.name, rows, Boolean(camera.memory), taught]);
    if ($("rows").dataset.key === key) return;
    $("rows").dataset.key = key;
    $("rows").replaceChildren(...withDays(rows, (one) => dayOf(one.from, camera.memory), (one) => row(camera, one, this.judge(camera, one))));
  }
}

/** Rows of a list, with a row where another day begins. */
export function withDays(items, dayOfItem, rowOf) {
  const parts = [];
  let before = "";
  for (const item of items) {
    const day = dayOfItem(item);
    if (day && day !== before) parts.push(el("li", { class: "day" }, day));
    before = day;
    parts.push(rowOf(item));
  }
  return parts;
}

/** What is asked of the log: of this camera, the words, and the time that is selected. */
function wanted({ name, search, hours }) {
  const [from, to] = hours.range || [];
  return { camera: name, ...(search ? { text: search } : {}), ...(hours.range ? { from, to } : {}) };
}

function row(camera, one, judging) {
  const to = one.ongoing ? null : one.to;
  const others = one.alternatives.length ? `, or ${one.alternatives.map((name) => activityName(name).toLowerCase()).join(", or ")}` : "";
  const lasted = to === null ? "going on" : duration(to - one.from);
  const see = () => { // on the timeline
    const until = one.to ?? camera.hours.now;
    camera.hours.bring(one.from, until);
    camera.hours.point((one.from + until) / 2);
    $("track").scrollIntoView({ block: "nearest" });
  };
  return el("li", {}, el("button", { type: "button", onclick: see },
    el("time", {}, time(one.from, camera.memory)), el("b", {}, `${activityName(one.activity)}${others}`),
    el("span", { class: "number" }, percent(one.confidence)), el("span", { class: "asked" }, lasted)), judging);
}
