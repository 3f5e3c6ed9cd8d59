// Help, the version of the program, and the newest lines of its log.
import { get, maybe } from "./api.js";
import { $, dayAt, el, say, timeAt } from "./words.js";

const LINES = 300;

export class About {
  constructor() {
    for (const button of document.querySelectorAll("[data-closes]")) {
      button.addEventListener("click", () => button.closest("dialog").close());
    }
    $("help").addEventListener("click", () => $("help-dialog").showModal());
    $("log-open").addEventListener("click", () => { $("log-dialog").showModal(); this.read(); });
    $("log-again").addEventListener("click", () => this.read());
  }

  /** Say which program this is, and let an admin read its log. */
  async begin(role) {
    $("log-open").hidden = role !== "admin";
    const version = await maybe("version");
    if (version) say($("version"), `${version.name} ${version.version}, API ${version.api}`);
  }

  async read() {
    say($("log-level"), "Reading the log");
    try {
      const { level, lines } = await get(`api/v1/log?limit=${LINES}`);
      const more = level === "debug" ? "" : `; what is less than "${level}" is not logged (logs.level)`;
      say($("log-level"), `${lines.length ? `The newest ${lines.length} lines since the start, newest first` : "Nothing was logged since the start"}${more}.`);
      $("log-lines").replaceChildren(...rows(lines));
    } catch (error) {
      say($("log-level"), error.message);
    }
  }
}

/** Lines newest first, with a row where another day begins. */
function rows(lines) {
  const parts = [];
  let before = "";
  for (const { at, level, logger, message } of lines.reverse()) {
    const day = dayAt(at);
    if (day !== before) parts.push(el("li", { class: "day" }, day));
    before = day;
    parts.push(el("li", { class: `line ${level}` }, el("time", {}, timeAt(at)), el("b", {}, level),
      el("p", {}, message, " ", el("small", {}, logger))));
  }
  return parts;
}
