// The page: one camera at a time is looked at, and everything that is known of it is kept up to date.
import { cameraPath, get, maybe, query, Refused, send, signedOut } from "./api.js";
import { AnswerView, line } from "./answer.js";
import { Question } from "./ask.js";
import { showHealth } from "./health.js";
import { Keep } from "./keep.js";
import { Live } from "./live.js";
import { ActivityLog } from "./log.js";
import { Refresh } from "./refresh.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { $, clock, conditionOf, el, percent, toast } from "./words.js";

const CLOCK_MS = 2000;

const state = {
  camera: null, cameras: [], awaited: [], memory: null, bundle: null, thumbnails: false, role: "admin",
  stage: new Stage(), timeline: new Timeline(), entries: [],
};
const { stage, timeline } = state;
const question = new Question(state, ask);
const view = new AnswerView(state, question);
const log = new ActivityLog(state, (name) => question.describe(name));
question.keep = new Keep(question, () => state.role);
let live = null;
let showsGrid = false;
let logs = true; // whether this device keeps a log of activities

// -- cameras -------------------------------------------------------------------------------------------------

function showCameras() {
  const bar = $("cameras");
  const names = state.cameras.map((one) => one.camera);
  const said = JSON.stringify([names, state.awaited]);
  if (bar.dataset.said !== said) {
    bar.dataset.said = said;
    bar.replaceChildren(...names.map((name) => el("button", { type: "button", "data-name": name, onclick: () => choose(name) },
      el("span", { class: "dot" }), el("span", {}, name), el("span", { class: "sr" }))),
    ...state.awaited.map((one) => el("button", { type: "button", title: one.error, onclick: () => toast(one.error) },
      el("span", { class: "dot bad" }), el("span", {}, one.camera), el("span", { class: "sr" }, ", not watched yet"))));
  }
  state.cameras.forEach((camera, place) => {
    const [dot, words] = conditionOf(camera);
    const button = bar.children[place];
    button.setAttribute("aria-pressed", String(camera.camera === state.camera));
    button.children[0].className = `dot ${dot}`;
    button.children[2].textContent = `, ${words}`;
  });
}

function showCamera() {
  const camera = state.cameras.find((one) => one.camera === state.camera);
  if (!camera) return;
  const [, words] = conditionOf(camera);
  const memory = `${camera.tokens} of ${camera.slots} tokens`;
  const said = `${words.charAt(0).toUpperCase()}${words.slice(1)} · ${memory}`;
  if ($("state").textContent !== said) $("state").textContent = said;
  const paused = camera.condition === "paused";
  $("pause").textContent = paused ? "Resume watching" : "Pause for privacy";
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").disabled = state.role === "viewer";
  $("pause").title = state.role === "viewer" ? "Only an operator may pause" : "";
  if (camera.condition === "failed" && !stage.moment) stage.veil(camera.error || "This camera has failed.");
  if (paused && !stage.moment) {
    $("fps").textContent = "";
    stage.held = null;
    stage.letGo();
    tools();
    stage.paint(null);
    stage.veil("Paused for privacy. No picture is taken, shown or remembered.");
  }
}

function choose(name) {
  if (state.camera === name) return;
  state.camera = name;
  state.memory = null;
  stage.clear();
  stage.veil("Waiting for the first picture");
  if (live) live.stop();
  const width = Math.min(Math.ceil(stage.root.clientWidth * Math.min(devicePixelRatio || 1, 2)), 960);
  const condition = () => (state.cameras.find((one) => one.camera === name) || {}).condition;
  live = new Live(name, width, condition, (bitmap, t, fps) => {
    stage.show(bitmap, t);
    $("fps").textContent = fps > 1 ? `${fps.toFixed(0)} pictures a second` : "";
    $("fps").dataset.fps = fps.toFixed(1);
  }, (sentence) => {
    $("fps").textContent = "";
    if (!stage.held && !stage.moment) { stage.paint(null); stage.veil(sentence); }
  });
  $("answer").hidden = true;
  question.update();
  tools();
  showCameras();
  refresh.stale();
}

/** No camera is watched: nothing of one is shown any more, but why those that are wanted are late. */
function chooseNone() {
  if (state.camera !== null) {
    live.stop();
    Object.assign(state, { camera: null, memory: null, activities: [] });
    stage.clear();
    stage.badge("");
    tools();
    log.update(null);
    timeline.update(null, []);
    $("fps").textContent = $("state").textContent = "";
    question.update();
  }
  $("pause").disabled = true;
  const late = state.awaited.map((one) => `${one.camera} is not watched yet: ${one.error}`);
  stage.veil(late.join("; ") || "No camera is watched. Add one to the configuration.");
}

// -- what is known, kept up to date --------------------------------------------------------------------------

async function lookAtCameras() {
  const { cameras, awaited } = await get("/api/v1/cameras");
  Object.assign(state, { cameras, awaited });
  if (!cameras.length) chooseNone();
  else if (!cameras.some((one) => one.camera === state.camera)) choose(cameras[0].camera);
  showCameras();
  showCamera();
}

async function lookAtMemory() {
  const name = state.camera;
  if (!name) return;
  const memory = await get(`/api/v1/memory?${query({ camera: name })}`);
  if (name !== state.camera) return;
  state.memory = memory;
  stage.zones = memory.zones;
  timeline.update(memory, state.activities);
  showGrid();
  legend();
}

async function lookAtActivities() {
  const name = state.camera;
  if (!name || !logs) return;
  const found = await maybe(`/api/v1/activities?${query({ camera: name, limit: 500 })}`);
  if (found === null) {
    await lookAtCameras(); // it may be the camera that is not there
    logs = !state.cameras.some((one) => one.camera === name);
  }
  if (name !== state.camera) return;
  state.activities = found ? found.activities : [];
  log.update(found && found.activities);
  if (!state.memory) return;
  timeline.update(state.memory, state.activities);
  legend();
}

async function lookAtPrivacy() {
  const name = state.camera;
  if (!name) return;
  const privacy = await maybe(`/api/v1/privacy?${query({ camera: name })}`);
  if (name === state.camera) state.thumbnails = Boolean(privacy && privacy.thumbnails);
}

async function lookAtAnswers() {
  const answers = state.remembers === false ? null : await maybe("/api/v1/answers?limit=50");
  state.remembers = answers !== null;
  if (answers) state.entries = answers.answers;
  showPast();
}

const refresh = new Refresh({
  cameras: lookAtCameras,
  memory: lookAtMemory,
  activities: lookAtActivities,
  privacy: lookAtPrivacy,
  answers: lookAtAnswers,
  history: async () => showHealth(await get("/api/v1/history"), state.cameras, state.bundle),
  catalogue: () => question.products(),
}, (error) => {
  if (error.status === 0 && !stage.moment) stage.veil(error.message);
  else complain(error);
});
refresh.idle = () => $("login").open;
setInterval(() => { // a camera's clock goes on, also while nothing new is known
  if (!document.hidden && state.memory && state.memory.live) timeline.update(state.memory, state.activities);
}, CLOCK_MS);

function legend() {
  const { gaps } = state.memory.coverage;
  const items = [["", "Remembered"], ["watched", "Watched"]];
  if (gaps.length || timeline.late) items.push(["gap", "Not watched, or forgotten"]);
  if (state.activities && state.activities.length) items.push(["activity", "Recognised activity"]);
  if (timeline.spans.length) items.push(["answer-span", "Answer"]);
  const said = items.map((one) => one[1]).join();
  if ($("legend").dataset.said === said) return;
  $("legend").dataset.said = said;
  $("legend").replaceChildren(...items.map(([key, words]) => el("li", {}, el("span", { class: `key ${key}` }), words)));
}

// -- the grid of what is remembered --------------------------------------------------------------------------

function showGrid() {
  if (!showsGrid || !state.memory) stage.counts = null;
  else {
    const { moment, range } = timeline;
    const near = Math.max((timeline.view[1] - timeline.view[0]) / 100, 0.5);
    const counted = ({ t }) => (moment !== null ? Math.abs(t - moment) <= near : !range || (t >= range[0] && t < range[1]));
    stage.counts = new Array(49).fill(0);
    for (const token of state.memory.tokens) if (counted(token)) stage.counts[token.cell] += 1;
  }
  stage.draw();
}

// -- asking --------------------------------------------------------------------------------------------------

async function ask(asked, words) {
  $("send").disabled = true;
  $("send").textContent = "Asking";
  try {
    const answer = await send("POST", "/api/v1/query", { camera: state.camera, ...asked });
    stage.live();
    tools();
    view.show(answer, words);
    if (!state.remembers) {
      const { object, ...rest } = asked;
      state.entries = [{ at: Date.now() / 1000, camera: state.camera, question: rest, answer }, ...state.entries].slice(0, 50);
    } else state.entries = [{ at: Date.now() / 1000, camera: state.camera, question: asked, answer }, ...state.entries];
    showPast();
    legend();
    if (matchMedia("(max-width: 1120px)").matches) $("answer").scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (error.status !== 401) view.refuse(error.message);
  } finally {
    $("send").textContent = "Ask";
    question.update();
  }
}

function showPast() {
  const shown = state.entries.filter((one) => one.camera === state.camera || !one.camera);
  $("no-past").hidden = shown.length > 0;
  const key = shown.map((one) => Math.round(one.at)).join();
  if ($("past").dataset.key === key) return;
  $("past").dataset.key = key;
  $("past").replaceChildren(...shown.map((one) => {
    const words = question.words(one.question);
    const at = new Date(one.at * 1000).toTimeString().slice(0, 8);
    const sure = one.answer.abstained ? "" : percent(one.answer.confidence);
    return el("li", {}, el("button", { type: "button", onclick: () => { view.show(one.answer, words); legend(); } },
      el("time", {}, at), el("b", {}, line(one.answer, (name) => question.describe(name), state.memory)),
      el("span", { class: "number" }, sure), el("span", { class: "asked" }, words)));
  }));
}

// -- buttons -------------------------------------------------------------------------------------------------

function tools() {
  const still = Boolean(stage.held || stage.moment);
  $("watch").classList.toggle("recalling", Boolean(stage.moment));
  $("live").hidden = !still;
  $("use-box").hidden = !stage.area;
  $("pick").hidden = Boolean(stage.area);
  $("pick").setAttribute("aria-pressed", String(Boolean(stage.held)));
  if (stage.held) stage.badge(`${clock(stage.held.t, state.memory)}, standing still: drag a box around the object`);
}

/** A box in the middle, for who has no pointer; otherwise the next tap draws it. */
function pick() {
  if (!stage.pick()) { toast("There is no picture to select from now."); return; }
  stage.around([0.5, 0.5], true);
  tools();
}

function useBox() {
  if (!stage.area) return;
  question.cut(stage.cut());
  stage.live();
  tools();
  if (question.kind === "object") $("question").elements.kind.value = "activity";
  question.update();
  $("ask").scrollIntoView({ block: "nearest" });
  $("send").focus({ preventScroll: true });
}

stage.addEventListener("area", tools);
stage.addEventListener("moment", tools);
stage.addEventListener("use", useBox);
stage.addEventListener("live", tools);
$("pick").addEventListener("click", pick);
$("from-picture").addEventListener("click", () => { $("stage").scrollIntoView({ block: "nearest" }); pick(); });
$("use-box").addEventListener("click", useBox);
$("live").addEventListener("click", () => stage.live());
$("grid").addEventListener("click", () => {
  showsGrid = !showsGrid;
  $("grid").setAttribute("aria-pressed", String(showsGrid));
  $("grid").textContent = showsGrid ? "Hide memory" : "Show memory";
  showGrid();
});
$("pause").addEventListener("click", async () => {
  const wanted = $("pause").getAttribute("aria-pressed") !== "true";
  $("pause").disabled = true;
  try {
    await send("PUT", cameraPath(state.camera, "/paused"), wanted);
    await lookAtCameras();
    if (!wanted) stage.veil("Waiting for the first picture");
  } catch (error) { complain(error); }
  $("pause").disabled = state.role === "viewer";
});
for (const kind of ["moment", "range"]) {
  timeline.addEventListener(kind, () => {
    $("moment").textContent = timeline.momentText();
    if (showsGrid) showGrid();
  });
}

// -- signing in ----------------------------------------------------------------------------------------------

signedOut.addEventListener("out", () => { if (!$("login").open) $("login").showModal(); });
$("login").addEventListener("cancel", (event) => event.preventDefault());
$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("POST", "/api/v1/session", { token: $("token").value });
    $("token").value = "";
    $("login").close();
    await begin();
  } catch (error) { $("login-wrong").textContent = error.message; }
});
$("sign-out").addEventListener("click", async () => {
  await send("DELETE", "/api/v1/session", null).catch(complain);
  location.reload();
});

function complain(error) {
  if (error.status === 401) return;
  if (!(error instanceof Refused)) console.error(error);
  toast(error.message);
}

// -- beginning -----------------------------------------------------------------------------------------------

async function begin() {
  const session = await maybe("/api/v1/session");
  state.role = session ? session.role : "admin";
  $("sign-out").hidden = !(session && session.required && session.role);
  if (session && session.required && !session.role) {
    $("login").showModal();
    return;
  }
  refresh.begin();
  question.load().then((bundle) => { state.bundle = bundle; question.update(); }).catch(complain);
}

begin().catch(complain);
