// The page: one camera at a time is looked at, and everything that is known of it is kept up to date. What belongs
// to a camera is in its Camera; the parts of the page are shown another one with `attach`.
import { About } from "./about.js";
import { Answer, AnswerView, line, Refusal } from "./answer.js";
import { cameraPath, get, maybe, query, Refused, send, signedOut } from "./api.js";
import { Question, questionWords } from "./ask.js";
import { Camera } from "./camera.js";
import { Forget } from "./forget.js";
import { Teach } from "./teach.js";
import { showHealth } from "./health.js";
import { Live } from "./live.js";
import { ActivityLog, withDays } from "./log.js";
import { Catalogue, Keep, ProductManager, ProductSearch } from "./products.js";
import { Refresh } from "./refresh.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import {
  $, capital, conditionOf, dayAt, el, percent, say, sureness, timeAt, toast, troubleOf, troubleOfAwaited,
} from "./words.js";

const CLOCK_MS = 2000;
const GONE_S = 5; // without a picture: the last one is no live picture any more
const PAST = 50; // answers that are listed
const NARROW = matchMedia("(max-width: 1120px)");

const cameras = new Map(); // Camera by name
const device = { awaited: [], bundle: null, role: "admin", logs: true, past: [], remembers: true };
let camera = null; // that is looked at
let live = null; // its pictures

const stage = new Stage();
const timeline = new Timeline();
const view = new AnswerView();
const question = new Question(ask);
const log = new ActivityLog((one, row) => teach.judge(one, row));
const catalogue = new Catalogue();
const keep = new Keep(question, catalogue, () => device.role);
const forget = new Forget(() => refresh.stale());
const teach = new Teach((one) => { refresh.stale(); question.update(); log.attach(one === camera ? one : camera); });
const about = new About();
new ProductSearch(catalogue, (name) => question.choose([{ product: name }]));
new ProductManager(catalogue, (before, after) => {
  question.choose(question.objects.map((one) => (one.product === before ? { product: after } : one)));
}, (name) => question.choose(question.objects.filter((one) => one.product !== name)));

// -- cameras -------------------------------------------------------------------------------------------------

function showCameras() {
  const bar = $("cameras");
  const all = [...cameras.values()];
  const said = JSON.stringify([all.map((one) => [one.name, one.title]), device.awaited]);
  if (bar.dataset.said !== said) {
    bar.dataset.said = said;
    const button = (title, dot, words, more) => el("button", { type: "button", title, ...more },
      el("span", { class: `dot ${dot}` }), el("span", { class: "name" }, title), el("span", { class: "sr" }, words));
    bar.replaceChildren(
      ...all.map((one) => button(one.title, "", "", { "data-name": one.name, onclick: () => look(one) })),
      ...device.awaited.map((one) => button(one.title, "bad", ", not watched yet", {
        onclick: () => toast(troubleOfAwaited(one).join(": ")),
      })));
  }
  all.forEach((one, place) => {
    const [dot, words] = conditionOf(one.status);
    const [sign, , spoken] = bar.children[place].children;
    bar.children[place].setAttribute("aria-pressed", String(one === camera));
    sign.className = `dot ${dot}`;
    say(spoken, `, ${words}`);
  });
}

/** How the camera is: in a line, on the button, and instead of a picture that there is not. */
function showStatus() {
  if (!camera) return;
  const { status } = camera;
  const [, words] = conditionOf(status);
  const filled = `memory ${percent(status.tokens / status.slots)} full`;
  say($("state"), `${capital(words)} · ${filled}`);
  const paused = status.condition === "paused";
  say($("pause"), paused ? "Resume watching" : "Pause for privacy");
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").disabled = device.role === "viewer";
  $("pause").title = device.role === "viewer" ? "Only an operator may pause" : "";
  cover(camera);
}

/** Say in place of a camera's picture why there is none; `otherwise` where its status knows no reason. */
function cover(one, otherwise = null) {
  const { picture, status } = one;
  const trouble = status && troubleOf(status);
  const gone = status && (status.condition === "failed" || Date.now() / 1000 - ((status.source_status || {}).outage_at || 0) > GONE_S);
  if (status && status.condition === "paused") {
    picture.hide("Paused for privacy", "No picture is taken, shown or remembered.");
  } else if (trouble && (gone || !picture.shown)) picture.cover(...trouble);
  else if (otherwise) picture.cover(otherwise);
}

/** Look at another camera, or at none. */
function look(one) {
  if (one === camera) return;
  if (live) live.stop();
  if (camera) {
    camera.leave();
    camera.picture.removeEventListener("change", tools);
    camera.removeEventListener("answer", showAnswer);
  }
  camera = one;
  live = one && watch(one);
  stage.attach(one);
  timeline.attach(one && one.hours);
  question.attach(one);
  log.attach(one);
  forget.attach(one, device.role === "admin");
  teach.attach(one, device.role !== "viewer");
  if (one) {
    one.picture.addEventListener("change", tools);
    one.addEventListener("answer", showAnswer);
    showStatus();
  }
  showAnswer();
  showPast();
  tools();
  showCameras();
  refresh.restart();
}

/** The live picture of a camera, until it is stopped. */
function watch(one) {
  const width = Math.min(Math.ceil(stage.root.clientWidth * Math.min(devicePixelRatio || 1, 2)), 960);
  const condition = () => one.status && one.status.condition;
  return new Live(one.name, width, condition,
    (bitmap, t, fps) => one.picture.show(bitmap, t, fps), (sentence) => cover(one, sentence));
}

/** No camera is watched: why those that are wanted are late. */
function showNone() {
  look(null);
  say($("state"), "");
  $("pause").disabled = true;
  const late = device.awaited.map((one) => troubleOfAwaited(one).join(": "));
  stage.cover(late.length ? late : ["No camera is watched", "Add one to the configuration."]);
}

// -- what is known, kept up to date --------------------------------------------------------------------------

async function readCameras() {
  const known = await get("api/v1/cameras");
  device.awaited = known.awaited;
  const names = known.cameras.map((one) => one.camera);
  for (const name of cameras.keys()) if (!names.includes(name)) cameras.delete(name);
  const before = new Map(cameras);
  cameras.clear(); // in the order of the device
  for (const status of known.cameras) {
    const one = before.get(status.camera) || new Camera(status.camera);
    one.status = status;
    cameras.set(one.name, one);
  }
  if (!cameras.size) showNone();
  else if (!camera || cameras.get(camera.name) !== camera) look(cameras.values().next().value);
  showCameras();
  showStatus();
}

/** Call `read(camera)` for the camera that is looked at: what comes is that camera's, whoever is looked at then. */
const ofCamera = (read) => async () => { if (camera) await read(camera); };

async function readMemory(one) {
  one.take(await get(`api/v1/memory?${query({ camera: one.name })}`));
}

async function readActivities(one) {
  if (!device.logs) return;
  const found = await maybe(`api/v1/activities?${query({ camera: one.name, limit: 500 })}`);
  if (found === null) {
    await readCameras(); // it may be the camera that is not there
    device.logs = cameras.get(one.name) !== one;
  }
  if (one.taught === undefined) await teach.load(one);
  log.take(one, found && found.activities);
  one.hours.update(one.memory, found ? found.activities : []);
}

async function readPrivacy(one) {
  const privacy = await maybe(`api/v1/privacy?${query({ camera: one.name })}`);
  one.thumbnails = Boolean(privacy && privacy.thumbnails);
}

async function readAnswers() {
  const answers = device.remembers ? await maybe(`api/v1/answers?limit=${PAST}`) : null;
  device.remembers = answers !== null;
  if (answers) device.past = answers.answers;
  showPast();
}

const refresh = new Refresh({
  cameras: readCameras,
  memory: ofCamera(readMemory),
  activities: ofCamera(readActivities),
  privacy: ofCamera(readPrivacy),
  answers: readAnswers,
  history: async () => {
    const history = await get("api/v1/history");
    showHealth(history, [...cameras.values()].map((one) => one.status), device.bundle);
  },
  catalogue: () => catalogue.load(),
}, (error) => {
  if (error.status !== 0) complain(error);
  else if (camera) camera.picture.cover(error.message);
  else stage.cover([error.message]);
});
refresh.idle = () => $("login").open;
setInterval(() => { // a camera's clock goes on, also while nothing new is known
  if (document.hidden || !camera) return;
  cover(camera);
  if (camera.memory && camera.memory.live) camera.hours.update(camera.memory, camera.hours.activities);
}, CLOCK_MS);

// -- asking --------------------------------------------------------------------------------------------------

async function ask(one, asked, words) {
  one.asking = true;
  question.update();
  try {
    const answer = await send("POST", "api/v1/query", { camera: one.name, ...asked });
    const { object, ...rest } = asked;
    const entry = { at: Date.now() / 1000, camera: one.name, question: object && object.photos ? { ...rest, object: { photos: object.photos.length } } : asked, answer };
    device.past = [entry, ...device.past].slice(0, PAST);
    one.picture.live();
    one.show(new Answer(one, answer, words));
    showPast();
    if (one !== camera) toast(`${one.title} has an answer.`);
  } catch (error) {
    if (error.status !== 401) one.show(new Refusal(error.message));
  } finally {
    one.asking = false;
    question.update();
  }
}

/** The answer of the camera that is looked at, where it is seen at once. */
function showAnswer() {
  const answer = camera && camera.answer;
  if (view.shown === answer) return;
  view.attach(answer);
  if (!answer) return;
  if (NARROW.matches) $("answer").scrollIntoView({ block: "start" });
  else $("asking").scrollTop = 0;
}

function showPast() {
  const shown = camera ? device.past.filter((one) => one.camera === camera.name || !one.camera) : [];
  $("no-past").hidden = shown.length > 0;
  const key = JSON.stringify([camera && camera.name, shown.map((one) => Math.round(one.at)), Boolean(camera && camera.memory)]);
  if ($("past").dataset.key === key) return;
  $("past").dataset.key = key;
  const { memory } = camera || {};
  $("past").replaceChildren(...withDays(shown, (one) => dayAt(one.at, memory), (one) => pastRow(camera, one)));
}

function pastRow(one, { at, question: asked, answer }) {
  const words = questionWords(asked, one.memory);
  const { kind, words: sure, share } = sureness(answer);
  return el("li", {}, el("button", { type: "button", onclick: () => one.show(new Answer(one, answer, words)) },
    el("time", {}, timeAt(at, one.memory)), el("b", {}, line(answer, one.memory)),
    el("span", { class: `number ${kind}` }, answer.abstained ? "" : `${sure} · ${percent(share)}`),
    el("span", { class: "asked" }, words)));
}

// -- buttons -------------------------------------------------------------------------------------------------

function tools() {
  const picture = camera && camera.picture;
  const area = Boolean(picture && picture.area);
  $("watch").classList.toggle("recalling", Boolean(picture && picture.moment));
  $("live").hidden = !(picture && picture.still);
  $("use-box").hidden = !area;
  $("pick").hidden = area;
  $("pick").setAttribute("aria-pressed", String(Boolean(picture && picture.held)));
  const fps = picture ? picture.fps : 0;
  say($("fps"), fps > 1 ? `${fps.toFixed(fps < 2 ? 1 : 0)} pictures a second` : "");
  $("fps").dataset.fps = fps.toFixed(1);
}

function pick() {
  if (!stage.pick()) toast("There is no picture to select from now.");
}

function useBox() {
  if (!camera || !camera.picture.area) return;
  question.cut(camera);
  camera.picture.live();
  if (question.kind === "object") $("question").elements.kind.value = "activity";
  question.update();
  $("send").scrollIntoView({ block: "nearest" });
  $("send").focus({ preventScroll: true });
}

stage.addEventListener("use", useBox);
$("pick").addEventListener("click", pick);
$("from-picture").addEventListener("click", () => { $("stage").scrollIntoView({ block: "nearest" }); pick(); });
$("use-box").addEventListener("click", useBox);
$("live").addEventListener("click", () => camera.picture.live());
$("grid").addEventListener("click", () => {
  stage.showsGrid = !stage.showsGrid;
  $("grid").setAttribute("aria-pressed", String(stage.showsGrid));
  say($("grid"), stage.showsGrid ? "Hide memory" : "Show memory");
  if (camera) camera.count();
});
$("pause").addEventListener("click", async () => {
  const one = camera;
  const wanted = $("pause").getAttribute("aria-pressed") !== "true";
  $("pause").disabled = true;
  try {
    await send("PUT", cameraPath(one.name, "/paused"), wanted);
    await readCameras();
    if (!wanted) one.picture.rest();
  } catch (error) { complain(error); }
  $("pause").disabled = device.role === "viewer";
});

// -- signing in ----------------------------------------------------------------------------------------------

signedOut.addEventListener("out", () => { if (!$("login").open) $("login").showModal(); });
$("login").addEventListener("cancel", (event) => event.preventDefault());
$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("POST", "api/v1/session", { token: $("token").value });
    $("token").value = "";
    if (!await begin()) {
      say($("login-wrong"), "This browser keeps no cookie here. In a frame of another site the page needs HTTPS.");
    }
  } catch (error) { say($("login-wrong"), error.message); }
});
$("sign-out").addEventListener("click", async () => {
  await send("DELETE", "api/v1/session", null).catch(complain);
  location.reload();
});

function complain(error) {
  if (error.status === 401) return;
  if (!(error instanceof Refused)) console.error(error);
  toast(error.message);
}

// -- beginning -----------------------------------------------------------------------------------------------

/** Begin to look, or ask for a token. Returns whether it has begun. */
async function begin() {
  const session = await maybe("api/v1/session");
  const { role, required } = session || { role: "admin", required: false };
  $("sign-out").hidden = !(required && role);
  if (required && !role) {
    if (!$("login").open) $("login").showModal();
    return false;
  }
  $("login").close();
  device.role = role;
  $("manage").hidden = role === "viewer";
  forget.attach(camera, role === "admin");
  teach.attach(camera, role !== "viewer");
  keep.update();
  refresh.begin();
  about.begin(role).catch(complain);
  question.load().then((bundle) => { device.bundle = bundle; showPast(); }).catch(complain);
  return true;
}

begin().catch(complain);
