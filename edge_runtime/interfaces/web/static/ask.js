// The question: what kind, which object, which activity, which time. The time belongs to the camera that is looked
// at; an object that was chosen stays, so that the same can be asked of another camera.
import { maybe, productPath } from "./api.js";
import { $, activityName, clock, el, learnActivities, say, toast } from "./words.js";

const SIDE_PX = 1024; // photos are shrunk to this: the network sees a quarter of it
const MOST = 8;
const KINDS = {
  activity: "What happened to the object that you choose.",
  object: "Where in the picture the activity that you choose took place.",
  time: "At what times the object that you choose was handled, or an activity was seen.",
};

/** Tells "objects" when other objects are chosen. */
export class Question extends EventTarget {
  /** `ask(camera, question, words)` sends it. */
  constructor(ask) {
    super();
    this.camera = null;
    this.objects = []; // { canvas } or { product }
    this.activities = [];
    this.update = this.update.bind(this);
    $("question").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(ask);
    });
    $("question").addEventListener("change", (event) => {
      if (event.target.name === "when" && this.camera) this.camera.when = event.target.value;
      this.update();
    });
    $("add-photo").addEventListener("click", () => $("photo").click());
    $("photo").addEventListener("change", () => this.photos());
    this.update();
  }

  /** Ask this camera from now on. */
  attach(camera) {
    if (this.camera) this.camera.hours.removeEventListener("range", this.update);
    this.camera = camera;
    if (camera) camera.hours.addEventListener("range", this.update);
    this.update();
  }

  get kind() { return $("question").elements.kind.value; }

  /** Activities that this device knows, and what it says of its bundle. */
  async load() {
    const bundle = await maybe("api/v1/bundle");
    this.activities = (bundle && bundle.activities) || [];
    learnActivities(this.activities);
    this.options();
    this.update();
    return bundle;
  }

  /** What can be asked about: what the bundle knows, and for a question about time what the camera was taught. */
  options() {
    const taught = this.kind === "time" && this.camera ? this.camera.taught || [] : [];
    const names = [...this.activities, ...taught].map((one) => one.name);
    if ($("activity").dataset.names === names.join("\n")) return;
    $("activity").dataset.names = names.join("\n");
    const { value } = $("activity");
    $("activity").replaceChildren(el("option", { value: "" }, "Any activity"),
      ...names.map((name) => el("option", { value: name }, activityName(name))));
    $("activity").value = names.includes(value) ? value : "";
  }

  // -- the object --------------------------------------------------------------------------------------------

  choose(objects) {
    this.objects = objects.slice(-MOST);
    // Coded now, so that the question does not wait for it.
    for (const one of this.objects) if (one.canvas) one.coded = one.coded || base64(one.canvas);
    $("chosen").replaceChildren(...this.objects.map((one) => this.chip(one)));
    this.dispatchEvent(new Event("objects"));
    this.update();
  }

  chip(one) {
    const words = one.product || one.label;
    if (one.canvas) {
      one.canvas.setAttribute("role", "img");
      one.canvas.setAttribute("aria-label", words);
    }
    const remove = el("button", {
      type: "button", "aria-label": `Remove ${words}`,
      onclick: () => this.choose(this.objects.filter((other) => other !== one)),
    }, "×");
    const shown = one.canvas || el("img", { src: productPath(one.product, "/photo.jpg"), alt: "" });
    return el("div", { class: "chip" }, shown, el("span", { class: "name", title: words }, one.product || one.short), remove);
  }

  /** The part of a camera's picture that was chosen there. */
  cut(camera) {
    const { canvas, t } = camera.picture.cut();
    const short = clock(t, camera.memory);
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

  // -- sending -----------------------------------------------------------------------------------------------

  update() {
    const { kind, camera } = this;
    say($("kind-hint"), KINDS[kind]);
    this.options();
    $("object-field").hidden = kind === "object";
    $("activity-field").hidden = kind === "activity";
    const any = $("activity").options[0];
    if (any) any.hidden = any.disabled = kind === "object";
    if (kind === "object" && !$("activity").value && this.activities.length) $("activity").value = this.activities[0].name;
    const range = camera && camera.hours.range;
    $("range-choice").hidden = !range;
    if (range) say($("range-text"), camera.hours.rangeText());
    $("question").elements.when.value = camera ? camera.when : "all";
    const missing = this.missing();
    say($("missing"), missing);
    $("send").disabled = Boolean(missing) || camera.asking;
    say($("send"), camera && camera.asking ? "Asking" : "Ask");
  }

  missing() {
    if (!this.camera) return "No camera is watched yet.";
    if (this.kind === "time" && !this.objects.length && $("activity").value) return ""; // when was it done at all?
    if (this.kind !== "object" && !this.objects.length) return "Choose an object first: tap it in the picture, or take a photo.";
    if (this.kind === "object" && !this.activities.length) return "This device does not tell which activities it knows.";
    return "";
  }

  async submit(ask) {
    if ($("send").disabled) return;
    const { camera, kind, objects } = this;
    const activity = kind === "activity" ? null : $("activity").value || null;
    const question = { type: kind, ...camera.window };
    if (activity) question.activity = activity;
    if (kind !== "object" && objects.length) {
      question.object = objects[0].product
        ? { product: objects[0].product }
        : { photos: await Promise.all(objects.map((one) => one.coded)) };
    }
    await ask(camera, question, questionWords(question, camera.memory));
  }
}

/** A question as a person would say it; also of one that came without its photos. */
export function questionWords(question, memory) {
  const thing = (question.object && question.object.product) || "this object";
  const done = question.activity ? activityName(question.activity) : null;
  const what = {
    activity: `What was done with ${thing}?`,
    object: `${done}: where?`,
    time: done ? `${done}${question.object ? `, with ${thing}` : ""}: when?` : `When was ${thing} handled?`,
  }[question.type];
  const { from = null, to = null } = question;
  if (from === null && to === null) return what;
  const at = (t) => (typeof t === "number" ? clock(Math.max(t, 0), memory) : t);
  return `${what} ${[from === null ? null : `From ${at(from)}`, to === null ? null : `to ${at(to)}`].filter(Boolean).join(" ")}`;
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
