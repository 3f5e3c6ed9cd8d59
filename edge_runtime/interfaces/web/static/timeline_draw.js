// What the timeline shows, drawn: activities, what is remembered, gaps, answers, the selected range, now.
import { activityName, colour, dayOf, offsetOf, onClock, reasonOf, time } from "./words.js";

const LANES = { activity: [10, 26], density: [46, 62], spans: [112, 8], watched: [124, 8] }; // top, height in px
const TALL = 168; // of the track that these are for
const LINES = 3; // of letters below the lanes: times and days

/** Lanes of a track of this height, and the size of its letters, which follows the page's. */
export function lanesOf(height) {
  const letters = 13 * parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const scale = (height - LINES * letters) / (TALL - 26);
  const lanes = { letters, bottom: LINES * letters };
  for (const [name, lane] of Object.entries(LANES)) lanes[name] = lane.map((px) => px * scale);
  return lanes;
}
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600];

export function drawTimeline(line) {
  const { canvas, track, hours } = line;
  const scale = devicePixelRatio || 1;
  const [w, h] = [track.clientWidth, track.clientHeight];
  canvas.width = Math.round(w * scale);
  canvas.height = Math.round(h * scale);
  if (!hours) return;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const lanes = lanesOf(h);
  pen.font = `${lanes.letters}px system-ui, sans-serif`;
  const one = { pen, w, h, lanes, hours };
  drawAxis(line, one);
  if (!hours.memory) return;
  drawWatched(line, one);
  drawDensity(line, one);
  drawActivities(line, one);
  drawSpans(line, one);
  drawRange(line, one);
  drawNow(line, one);
}

function drawAxis(line, { pen, w, h, lanes, hours }) {
  const [a, b] = line.view;
  const { memory } = hours;
  const step = STEPS.find((s) => ((b - a) / s) * 7 * lanes.letters < w) || 43200;
  const shift = onClock(memory) ? (memory.coverage.epoch + offsetOf(memory)) % step : 0;
  const ticks = [];
  for (let t = Math.ceil((a + shift) / step) * step - shift; t <= b; t += step) ticks.push(t);
  pen.textAlign = "center";
  for (const t of ticks) {
    const x = line.x(t);
    pen.fillStyle = colour("line");
    pen.fillRect(Math.round(x), lanes.density[0], 1, h - lanes.density[0] - lanes.bottom);
    pen.fillStyle = colour("muted");
    if (x > 2 * lanes.letters && x < w - 2 * lanes.letters) pen.fillText(time(t, memory, step < 60), x, h - 1.8 * lanes.letters);
  }
  if (!onClock(memory)) return;
  // Days: where one begins, and at the left edge the one that is there, if there is room.
  pen.textAlign = "left";
  const begins = ticks.filter((t, k) => dayOf(t, memory) !== dayOf(k ? ticks[k - 1] : a, memory));
  let room = w;
  for (const t of [...begins.reverse(), a]) {
    const x = Math.max(line.x(t) - 1.4 * lanes.letters, 8);
    const day = dayOf(t, memory);
    if (x + pen.measureText(day).width > room) continue;
    pen.fillText(day, x, h - 0.5 * lanes.letters);
    room = x - 2 * lanes.letters;
  }
}

function drawWatched(line, { pen, w, lanes, hours }) {
  const { from, to, gaps } = hours.memory.coverage;
  if (from === null) return;
  const [top, height] = lanes.watched;
  pen.fillStyle = colour("good");
  const begin = Math.max(line.x(from), 0);
  pen.fillRect(begin, top, Math.min(line.x(to), w) - begin, height);
  const late = hours.late ? [{ from: to, to: hours.now }] : [];
  for (const gap of [...gaps, ...late]) {
    const x1 = Math.max(line.x(gap.from), 0);
    const x2 = Math.min(Math.max(line.x(gap.to), line.x(gap.from) + 2), w);
    if (x2 <= x1) continue;
    const [low, high] = gap.watched_share || [0, 0];
    pen.globalAlpha = 1 - (low + high) / 2; // many short gaps, paler the more of them was watched
    hatch(pen, x1, lanes.density[0], x2 - x1, top + height - lanes.density[0]);
    pen.globalAlpha = 1;
    if (x2 - x1 > 120) {
      pen.fillStyle = colour("muted");
      pen.textAlign = "center";
      pen.fillText(reasonOf(gap), (x1 + x2) / 2, lanes.density[0] + 2.8 * lanes.letters);
    }
  }
}

function drawDensity(line, { pen, w, lanes, hours }) {
  const [top, height] = lanes.density;
  const bin = 4;
  const counts = new Float32Array(Math.ceil(w / bin) + 1);
  for (const { t } of hours.memory.tokens) {
    const k = Math.floor(line.x(t) / bin);
    if (k >= 0 && k < counts.length) counts[k] += 1;
  }
  const most = Math.max(...counts, 4);
  pen.fillStyle = colour("accent");
  counts.forEach((count, k) => {
    if (!count) return;
    const tall = Math.max((Math.sqrt(count / most)) * height, 3);
    pen.fillRect(k * bin, top + height - tall, bin - 1, tall);
  });
}

function drawActivities(line, { pen, w, lanes, hours }) {
  const [top, height] = lanes.activity;
  pen.textAlign = "left";
  const named = []; // two names at one place can neither be read
  for (const one of hours.activities) {
    const x1 = line.x(one.from);
    const x2 = Math.max(line.x(one.to ?? hours.now), x1 + 4);
    if (x2 < 0 || x1 > w) continue;
    pen.fillStyle = colour("accent");
    pen.globalAlpha = 0.22;
    pen.fillRect(x1, top, x2 - x1, height);
    pen.globalAlpha = 1;
    pen.fillStyle = colour("accent");
    pen.fillRect(x1, top, 2, height);
    if (x2 - x1 < 48 || named.some(([from, to]) => x1 < to && x2 > from)) continue;
    named.push([x1, x2]);
    pen.save();
    pen.beginPath();
    pen.rect(x1, top, x2 - x1 - 4, height);
    pen.clip();
    pen.fillStyle = colour("text");
    pen.fillText(activityName(one.activity), Math.max(x1, 0) + 8, top + 0.7 * height);
    pen.restore();
  }
}

function drawSpans(line, { pen, lanes, hours }) {
  const [top, height] = lanes.spans;
  hours.spans.slice(0, 8).forEach((span, place) => {
    const x = line.x(span.from);
    pen.globalAlpha = place === 0 ? 1 : Math.max(0.25, Math.min(span.confidence * 2, 0.7));
    pen.fillStyle = colour("warn");
    pen.fillRect(x, top, Math.max(line.x(span.to) - x, 4), height);
    pen.globalAlpha = 1;
  });
}

function drawRange(line, { pen, h, lanes, hours }) {
  if (!hours.range) return;
  const [x1, x2] = hours.range.map((t) => line.x(t));
  pen.fillStyle = colour("accent");
  pen.globalAlpha = 0.16;
  pen.fillRect(x1, 0, x2 - x1, h - lanes.bottom);
  pen.globalAlpha = 1;
  for (const x of [x1, x2]) {
    pen.fillRect(x - 1, 0, 2, h - lanes.bottom);
    pen.fillRect(x - 4, h / 2 - 24, 8, 24);
  }
}

function drawNow(line, { pen, w, h, lanes, hours }) {
  const x = line.x(hours.now);
  if (x >= 0 && x <= w + 1) {
    pen.fillStyle = colour("bad");
    pen.fillRect(Math.min(x, w - 2), 0, 2, h - lanes.bottom);
  }
  if (hours.moment !== null) {
    pen.fillStyle = colour("text");
    pen.fillRect(line.x(hours.moment), 0, 1, h - lanes.bottom);
  }
}

function hatch(pen, x, y, w, h) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, w, h);
  pen.clip();
  pen.fillStyle = colour("sunken");
  pen.fillRect(x, y, w, h);
  pen.strokeStyle = colour("gap");
  pen.lineWidth = 1.5;
  for (let k = x - h; k < x + w; k += 8) {
    pen.beginPath();
    pen.moveTo(k, y + h);
    pen.lineTo(k + h, y);
    pen.stroke();
  }
  pen.restore();
}
