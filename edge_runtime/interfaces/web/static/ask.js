// The question: what kind, which object, which activity, which time.
import { maybe } from "./api.js";
import { $, clock, el, plain, toast } from "./words.js";

const SIDE_PX = 1024; // photos are shrunk to this: the network sees a quarter of it
const MOST = 8;
const KINDS = {
  activity: "What happened to the object that you choose.",
  object: "Where in the picture the activity that you choose took place.",
  time: "At what times the object that you choose was handled.",
};

export class Question {
  /** `state` has camera, memory and timeline; `ask(question, words)` sends it. */
  constructor(state, ask) {
    this.state = state;
    this.objects = []; // { canvas } or { product }
    this.activities = [];
    this.keep = null; // keeps what is chosen in the catalogue
    $("question").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(ask);
    });
    $("question").addEventListener("change", () => this.update());
    $("add-photo").addEventListener("click", () => $("photo").click());
    $("photo").addEventListener("change", () => this.photos());
    $("catalogue").addEventListener("change", () => {
      const name = $("catalogue").value;
      if (name) this.choose([{ product: name }]);
      $("catalogue").value = "";
    });
    state.timeline.addEventListener("range", () => this.range());
    this.update();
  }

  get kind() { return $("question").elements.kind.value; }

  /** Activities that this device knows, and what it says of its bundle. */
  async load() {
    const bundle = await maybe("/api/v1/bundle");
    this.activities = (bundle && bundle.activities) || [];
    const options = this.activities.map((one) => el("option", { value: one.name }, named(one)));
    $("activity").replaceChildren(el("option", { value: "" }, "Any activity"), ...options);
    this.update();
    return bundle;
  }

  /** Products of the catalogue, which others may change. */
  async products() {
    const catalogue = await maybe("/api/v1/catalogue");
    const names = ((catalogue && catalogue.products) || []).map((one) => one.name);
    const key = names.join("\n");
    if ($("catalogue").dataset.names === key) return;
    $("catalogue").dataset.names = key;
    $("catalogue-field").hidden = names.length === 0;
    $("catalogue").replaceChildren(
      el("option", { value: "" }, "Choose from the catalogue"),
      ...names.map((name) => el("option", { value: name }, plain(name))),
    );
  }

  describe(name) {
    const found = this.activities.find((one) => one.name === name);
    return found ? named(found) : plain(name);
  }

  // -- the object --------------------------------------------------------------------------------------------

  choose(objects) {
    this.objects = objects.slice(-MOST);
    // Coded now, so that the question does not wait for it.
    for (const one of this.objects) if (one.canvas) one.coded = one.coded || base64(one.canvas);
    $("chosen").replaceChildren(...this.objects.map((one) => this.chip(one)));
    this.update();
  }

  chip(one) {
    const words = one.product ? plain(one.product) : one.label;
    if (one.canvas) one.canvas.setAttribute("role", "img");
    if (one.canvas) one.canvas.setAttribute("aria-label", words);
    const remove = el("button", {
      type: "button", "aria-label": `Remove ${words}`,
      onclick: () => this.choose(this.objects.filter((other) => other !== one)),
    }, "×");
    const shown = one.canvas || el("img", { src: `/api/v1/catalogue/${encodeURIComponent(one.product)}/photo.jpg`, alt: "" });
    return el("div", { class: "chip" }, shown, one.canvas && !one.product ? el("span", {}, one.short) : words, remove);
  }

  /** The part of the picture that was chosen there. */
  cut({ canvas, t }) {
    const short = clock(t, this.state.memory);
    this.choose([{ canvas, label: `Object in the picture of ${short}`, short }]);
  }

  async photos() {
    const read = [];
    for (const file of $("photo").files) {
      try {
        read.push({ canvas: shrunk(await createImageBitmap(file)), label: `Photo ${file.name}`, short: "Photo" });
      } catch {
        toast(`${file.name} is no picture that this browser can read.`);
      }
    }
    $("photo").value = "";
    if (read.length) this.choose([...this.objects.filter((one) => one.canvas), ...read]);
  }

  // -- the time ----------------------------------------------------------------------------------------------

  range() {
    const { timeline } = this.state;
    const choices = $("question").elements.when;
    $("range-choice").hidden = !timeline.range;
    if (timeline.range) {
      $("range-text").textContent = timeline.rangeText();
      choices.value = "range";
    } else if (choices.value === "range") choices.value = "all";
    this.update();
  }

  window() {
    const { timeline, memory } = this.state;
    const when = $("question").elements.when.value;
    if (when === "all") return {};
    if (when === "range") return { from: timeline.range[0], to: timeline.range[1] };
    const end = memory ? timeline.now : 0;
    return { from: end - Number(when), to: end };
  }

  // -- sending -----------------------------------------------------------------------------------------------

  update() {
    const { kind } = this;
    $("kind-hint").textContent = KINDS[kind];
    $("object-field").hidden = kind === "object";
    $("activity-field").hidden = kind === "activity";
    const any = $("activity").options[0];
    if (any) any.hidden = any.disabled = kind === "object";
    if (kind === "object" && !$("activity").value && this.activities.length) $("activity").value = this.activities[0].name;
    if (this.keep) this.keep.update();
    const missing = this.missing();
    $("missing").textContent = missing;
    $("send").disabled = Boolean(missing);
  }

  missing() {
    if (!this.state.camera) return "No camera is watched yet.";
    if (this.kind !== "object" && !this.objects.length) return "Choose an object first: tap it in the picture, or take a photo.";
    if (this.kind === "object" && !this.activities.length) return "This device does not tell which activities it knows.";
    return "";
  }

  async submit(ask) {
    if (this.missing()) return;
    const { kind, objects } = this;
    const activity = kind === "activity" ? null : $("activity").value || null;
    const question = { type: kind, ...this.window() };
    if (activity) question.activity = activity;
    if (kind !== "object") {
      question.object = objects[0].product
        ? { product: objects[0].product }
        : { photos: await Promise.all(objects.map((one) => one.coded)) };
    }
    await ask(question, this.words(question));
  }

  /** A question as a person would say it; also of one that came without its photos. */
  words(question) {
    const product = question.object && question.object.product;
    const thing = product ? plain(product) : "this object";
    const done = question.activity ? this.describe(question.activity) : null;
    const what = {
      activity: `What was done with ${thing}?`,
      object: `${done}: where?`,
      time: done ? `${done}, with ${thing}: when?` : `When was ${thing} handled?`,
    }[question.type];
    const { from = null, to = null } = question;
    if (from === null && to === null) return what;
    const at = (t) => clock(Math.max(t, 0), this.state.memory);
    return `${what} ${[from === null ? null : `From ${at(from)}`, to === null ? null : `to ${at(to)}`].filter(Boolean).join(" ")}`;
  }
}

function named(one) {
  const words = one.description || plain(one.name);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function shrunk(bitmap) {
  const scale = Math.min(1, SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { ".width": Math.round(bitmap.width * scale), ".height": Math.round(bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** A canvas as PNG: what was cut out of a picture is not coded a second time. */
function base64(canvas) {
  return new Promise((done) => {
    canvas.toBlob((blob) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
      reader.readAsDataURL(blob);
    }, "image/png");
  });
}
