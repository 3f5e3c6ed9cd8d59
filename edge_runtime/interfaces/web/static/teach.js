// Teaching a camera what an activity is called: from a time that is selected, or by saying whether a row is right.
import { maybe, query, send } from "./api.js";
import { $, activityName, duration, el, percent, say, spanText, toast } from "./words.js";

const LONGEST_S = 120;

export class Teach {
  /** `changed()` is told when a camera was taught something. */
  constructor(changed) {
    this.changed = changed;
    this.camera = null; // of the dialog
    $("teach").addEventListener("click", () => this.open());
    $("teach-form").addEventListener("input", () => this.update());
    $("teach-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  /** Of this camera from the next opening on. */
  attach(camera, allowed) {
    this.next = camera;
    this.allowed = allowed;
    $("teach").hidden = !allowed;
    $("teach").disabled = !camera;
  }

  async open() {
    this.camera = this.next;
    say($("teach-title"), `Teach what ${this.camera.title} sees`);
    say($("teach-wrong"), "");
    $("teach-dialog").showModal();
    this.update();
    await this.load(this.camera);
  }

  /** Read what a camera was taught; null where it cannot be. */
  async load(camera) {
    const found = await maybe(`api/v1/taught?${query({ camera: camera.name })}`);
    camera.taught = found ? found.classes : [];
    if (camera !== this.camera) return;
    $("teach-names").replaceChildren(...camera.taught.map((one) => el("option", { value: one.name })));
    $("teach-rows").replaceChildren(...camera.taught.map((one) => this.row(camera, one)));
    const { waiting, alone } = found || { waiting: [], alone: [] };
    say($("teach-waiting"), [waiting.length ? `Taught with another bundle: ${waiting.join(", ")}.` : "",
      alone.length ? `Nothing to tell it from: ${alone.join(", ")}.` : ""].filter(Boolean).join(" "));
  }

  row(camera, one) {
    const remove = async () => {
      try {
        await send("DELETE", `api/v1/taught/${encodeURIComponent(one.name)}?${query({ camera: camera.name })}`, null);
        await this.load(camera);
        this.changed(camera);
      } catch (error) { if (error.status !== 401) say($("teach-wrong"), error.message); }
    };
    return el("li", {}, el("b", {}, activityName(one.name)), el("span", { class: "hint" }, howSure(one)),
      el("button", { type: "button", onclick: remove, "aria-label": `Remove ${one.name}` }, "Remove"));
  }

  update() {
    if (!this.camera) return;
    const { range } = this.camera.hours;
    const long = range && range[1] - range[0] > LONGEST_S;
    say($("teach-span"), range ? `${spanText(...range, this.camera.memory)} (${duration(range[1] - range[0])})` : "");
    say($("teach-hint"), !range ? "Drag over the timeline where it happens, then open this again."
      : long ? `One example lasts up to ${duration(LONGEST_S)}: select one time that it happens.`
        : "Select one time that it happens, from its beginning to its end. Three examples are a start, ten are good.");
    $("teach-send").disabled = !range || long || !$("teach-name").value.trim();
  }

  async submit() {
    const { camera } = this;
    const shows = $("teach-form").elements.shows.value === "yes";
    $("teach-send").disabled = true;
    try {
      await this.add(camera, $("teach-name").value.trim(), camera.hours.range, shows);
      $("teach-dialog").close();
      camera.hours.select(null);
    } catch (error) {
      if (error.status !== 401) say($("teach-wrong"), error.message);
    }
    this.update();
  }

  /** Teach a camera that a time shows an activity, or does not. */
  async add(camera, name, [from, to], shows) {
    const added = await send("POST", "api/v1/taught", { camera: camera.name, name, from, to, shows });
    toast(`${activityName(name)}: ${howSure(added.class)}.`);
    await this.load(camera);
    this.changed(camera);
  }

  /** Buttons that say whether a row of the log is right; none for what the camera was not taught. */
  judge(camera, row) {
    if (!this.allowed || row.ongoing || row.to - row.from > LONGEST_S || !(camera.taught || []).some((one) => one.name === row.activity)) return null;
    const button = (words, shows) => el("button", {
      type: "button",
      onclick: () => this.add(camera, row.activity, [row.from, row.to], shows).catch((error) => toast(error.message)),
      "aria-label": `${activityName(row.activity)}: ${words.toLowerCase()}`,
    }, words);
    return el("span", { class: "judge" }, button("Right", true), button("Wrong", false));
  }
}

/** What is known of a taught activity, in words. */
export function howSure(one) {
  const examples = one.examples === 1 ? "1 example" : `${one.examples} examples`;
  if (one.recall === null) return `${examples}, too few to say how sure; ${one.missing} more`;
  const more = one.missing ? `; ${one.missing} more would make it sure` : "";
  const confused = one.confused ? "; mark what it takes for it with “Wrong”" : "";
  return `${examples}, right with ${percent(one.recall)} of them when left out, wrong with ${percent(one.false_rate)} of what is not it${more}${confused}`;
}
