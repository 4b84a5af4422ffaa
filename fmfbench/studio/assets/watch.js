// The page of `fmfbench watch`: asks what has come since it asked last, and draws it. It changes nothing.

import { clockText } from "./app.js";
import { colour, element, fillPixels, forgetColours, lowerBound, runs, tracePixels } from "./drawing.js";
import { getBytes, unpack } from "./net.js";

const ASK_MS = 200;
const KEPT = 100_000;
const QUIET_SECONDS = 2;
const GUTTER = 66;
const byId = (id) => document.getElementById(id);
const canvas = byId("video");
const overlay = byId("overlay");
const strip = byId("strip");
let facts = null;
let newest = null; // { image, mask, height, width }
let gone = null; // why the server does not answer
let drawn = ""; // what the texts said last

/** Columns of numbers that grow at their end, and whose beginning is forgotten. */
class Series {
  constructor(...names) {
    this.names = names;
    this.clear();
  }
  clear() {
    for (const name of this.names) this[name] = [];
  }
  add(arrays) {
    for (const name of this.names) {
      for (const value of arrays[name]) this[name].push(value);
      if (this[name].length > 1.2 * KEPT) this[name] = this[name].slice(-KEPT);
    }
  }
}
const frames = new Series("time", "score", "abnormal", "stale");
const rows = new Series("time", "a", "b", "c");

function take(answer) {
  const { facts: told, arrays } = answer;
  const restarted = facts && (told.frames < facts.frames || told.first > facts.frames);
  if (restarted) {
    frames.clear();
    rows.clear();
  }
  // seconds are since the first frame that the server keeps, which moves on: here they are since 1970
  const start = Number(BigInt(told.start_ns) / 1_000_000n) / 1000;
  const time = Float64Array.from(arrays.seconds, (s) => start + s);
  frames.add({ time, score: arrays.score, abnormal: arrays.abnormal, stale: arrays.stale });
  const phase = (k) => Float32Array.from({ length: arrays.current_seconds.length }, (_, i) => arrays.current[3 * i + k]);
  rows.add({ time: Float64Array.from(arrays.current_seconds, (s) => start + s), a: phase(0), b: phase(1), c: phase(2) });
  if (told.newest && told.newest.frame !== facts?.newest?.frame) {
    const { height, width } = told.size;
    newest = { image: arrays.image, mask: arrays.mask ?? null, height, width };
    drawFrame();
  }
  facts = told;
}

async function ask() {
  let wait = ASK_MS;
  try {
    take(unpack(await getBytes(`/api/live?frames=${facts?.frames ?? 0}&rows=${facts?.rows ?? 0}`)));
    gone = null;
    if (facts.more) wait = 0;
  } catch (error) {
    gone = error.message;
    wait = 1000;
  }
  drawTexts();
  if (!document.hidden) drawStrip();
  setTimeout(ask, wait);
}

/** A time of day where the frames tell one, else since the first frame of the recording. */
function momentText(seconds, digits = 1) {
  if (seconds > 86400 * 365) return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 20 + digits);
  return clockText(seconds, digits);
}
const secondsOf = (ns) => Number(BigInt(ns) / 1_000_000n) / 1000;
const spanText = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : clockText(seconds));

function drawTexts() {
  const told = gone ? { gone } : { ...facts, quiet_seconds: Math.floor(facts.quiet_seconds), lost_seconds: facts.lost_seconds && Math.floor(facts.lost_seconds) };
  const text = JSON.stringify(told);
  if (text === drawn) return;
  drawn = text;
  const problems = [];
  if (gone) problems.push(`${gone}: what is shown is no longer live.`);
  if (!facts) {
    showProblems(problems);
    return;
  }
  const { newest: frame, lost_seconds: lost, quiet_seconds: quiet, alarm, live, ended } = facts;
  if (lost !== null) problems.push(`The camera is lost for ${spanText(lost)}; it is tried again until it is back. Nothing is judged meanwhile.`);
  else if (live && !ended && !gone && quiet > QUIET_SECONDS) problems.push(`No frame for ${spanText(quiet)}.`);
  if (frame?.stale) problems.push("No current arrives: the model sees padded windows.");
  showProblems(problems);
  const running = byId("running");
  running.textContent = gone ? "not connected" : ended ? "ended" : lost !== null ? "camera lost" : frame ? "running" : "waiting for the first frame";
  running.className = gone || lost !== null ? "bad" : "";
  byId("source").textContent = `${facts.model} on ${facts.video}${facts.current ? ` with ${facts.current === "-" ? "currents of standard input" : facts.current}` : ", without currents"}`;
  document.title = `${alarm ? "ALARM · " : ""}${facts.model} · fmfbench watch`;

  byId("part-alarm").classList.toggle("alarm", Boolean(alarm));
  byId("alarm").textContent = alarm
    ? `Since ${momentText(secondsOf(alarm.start_ns))}, peak ${alarm.peak.toFixed(3)}, last abnormal frame at ${momentText(secondsOf(alarm.end_ns))}`
    : frame ? "None." : "Nothing was judged yet.";
  byId("rule").textContent = `Frames scored above ${facts.threshold} are abnormal. An alarm ends ${facts.hold_seconds} s after its last abnormal frame.`;
  const list = [];
  const add = (name, value) => list.push(element("dt", {}, name), element("dd", {}, value));
  if (frame) {
    add("time", momentText(secondsOf(frame.time_ns), 2));
    add("score", frame.score.toFixed(4));
    add("judgement", frame.abnormal ? "abnormal" : "normal");
    add("frame", String(frame.frame));
    const share = ([valid, all], what) => `${valid} of ${all} ${what}`;
    add("window", `${share(frame.video_valid, "frames")}, ${share(frame.current_valid, "current values")}`);
  }
  byId("newest").replaceChildren(...list);
  const dropped = facts.dropped ? `; frames dropped, too many at once: ${facts.dropped}` : "";
  byId("summary").textContent = `${facts.judged} frames judged, ${facts.abnormal} abnormal; alarms that ended: ${facts.alarms}${dropped}`;
  const none = (text) => [element("p", { className: "quiet" }, text)];
  const alarms = facts.past.toReversed().slice(0, 12).map((one) =>
    element("p", { className: "value" }, `${momentText(secondsOf(one.start_ns))}, ${spanText(secondsOf(one.end_ns) - secondsOf(one.start_ns))}, peak ${one.peak.toFixed(3)}`));
  byId("past").replaceChildren(...(alarms.length ? alarms : none("None.")));
  const remarks = facts.remarks.toReversed().slice(0, 12).map(([at, words]) => element("p", {}, element("span", { className: "quiet" }, `${new Date(at * 1000).toLocaleTimeString()} `), words));
  byId("remarks").replaceChildren(...(remarks.length ? remarks : none("None.")));
  byId("clock").textContent = frame ? momentText(secondsOf(frame.time_ns), 2) : "";
}

function showProblems(problems) {
  const banner = byId("banner");
  banner.hidden = !problems.length;
  const text = problems.join(" ");
  if (banner.textContent !== text) banner.textContent = text;
}

function drawFrame() {
  if (!newest) return;
  const { image, mask, height, width } = newest;
  const dpr = window.devicePixelRatio || 1;
  const stage = byId("stage");
  const most = Math.max(200, Math.min(window.innerHeight * 0.44, 620));
  const room = Math.min((stage.clientWidth - 2) / width, most / height);
  const whole = Math.floor(room * dpr) / dpr;
  const scale = whole > 0 ? whole : room;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height);
  for (let i = 0, j = 0; i < image.length; i += 3, j += 4) pixels.data.set([image[i], image[i + 1], image[i + 2], 255], j);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  for (const one of [canvas, overlay]) [one.style.width, one.style.height] = [`${width * scale}px`, `${height * scale}px`];
  stage.style.height = `${height * scale}px`;
  [overlay.width, overlay.height] = [Math.round(width * scale * dpr), Math.round(height * scale * dpr)];
  const c = overlay.getContext("2d");
  c.setTransform(dpr, 0, 0, dpr, 0, 0);
  if (!mask || !byId("outline").checked) return;
  c.strokeStyle = c.fillStyle = colour("model-0");
  c.lineWidth = 2;
  tracePixels(c, mask, width, height, scale);
  if (byId("fill").checked) {
    c.globalAlpha = 0.35;
    fillPixels(c, mask, width, height, scale);
  }
}

function drawStrip() {
  const dpr = window.devicePixelRatio || 1;
  const width = byId("lanes").clientWidth;
  const lanes = [["score", 24, 110], ["alarms", 142, 14], ["current, kA", 164, 84]];
  const height = 256;
  byId("lanes").style.height = `${height}px`;
  if (strip.width !== Math.round(width * dpr)) [strip.width, strip.height] = [Math.round(width * dpr), Math.round(height * dpr)];
  [strip.style.width, strip.style.height] = [`${width}px`, `${height}px`];
  const c = strip.getContext("2d");
  c.setTransform(dpr, 0, 0, dpr, 0, 0);
  c.clearRect(0, 0, width, height);
  c.font = "11px system-ui, sans-serif";
  c.textBaseline = "middle";
  const plot = width - GUTTER - 8;
  for (const [title, top, tall] of lanes) {
    c.fillStyle = colour("lane");
    c.fillRect(GUTTER, top, plot, tall);
    c.fillStyle = colour("quiet");
    c.textAlign = "right";
    c.fillText(title, GUTTER - 6, top + tall / 2);
  }
  c.textAlign = "left";
  if (!frames.time.length) return;
  const to = frames.time.at(-1);
  const wanted = Number(byId("span").value);
  const begun = Math.min(frames.time[0], to - 10); // what lies before the first frame is not shown
  const from = wanted ? Math.max(to - wanted, begun) : begun;
  const x = (t) => GUTTER + ((t - from) / (to - from)) * plot;
  drawRuler(c, from, to, x, height);
  c.save();
  c.beginPath();
  c.rect(GUTTER, 0, plot, height);
  c.clip();
  const level = (top, tall, v) => top + 2 + (1 - v) * (tall - 4);
  const [, top, tall] = lanes[0];
  const { threshold } = facts;
  c.strokeStyle = colour("quiet");
  c.setLineDash([4, 3]);
  c.beginPath();
  c.moveTo(GUTTER, level(top, tall, threshold));
  c.lineTo(width, level(top, tall, threshold));
  c.stroke();
  c.setLineDash([]);
  const first = Math.max(0, lowerBound(frames.time, from) - 1);
  line(c, frames.time, frames.score, first, x, (v) => level(top, tall, v), colour("model-0"), 1);
  marks(c, frames.abnormal, first, x, lanes[0], colour("miss"));
  marks(c, frames.stale, first, x, [null, lanes[2][1] - 4], colour("gap"));
  c.fillStyle = colour("miss");
  for (const one of [...facts.past, ...(facts.alarm ? [facts.alarm] : [])]) {
    const [a, b] = [x(secondsOf(one.start_ns)), x(secondsOf(one.end_ns))];
    c.fillRect(a, lanes[1][1] + 2, Math.max(b - a, 2), lanes[1][2] - 4);
  }
  const begin = Math.max(0, lowerBound(rows.time, from) - 1);
  let [low, high] = [Infinity, -Infinity];
  for (const name of ["a", "b", "c"]) for (let i = begin; i < rows.time.length; i++) {
    const v = rows[name][i];
    if (v < low) low = v;
    if (v > high) high = v;
  }
  const [, under, size] = lanes[2];
  ["a", "b", "c"].forEach((name, k) => line(c, rows.time, rows[name], begin, x, (v) => level(under, size, (v - low) / (high - low || 1)), colour(`phase-${k}`), 3));
  c.restore();
  c.fillStyle = colour("quiet");
  c.fillText(`threshold ${threshold}`, GUTTER + 4, level(top, tall, threshold) + (threshold > 0.8 ? 9 : -8));
  if (low <= high) {
    c.fillText((high / 1000).toFixed(1), GUTTER + 4, under + 8);
    c.fillText((low / 1000).toFixed(1), GUTTER + 4, under + size - 8);
  } else c.fillText("no current", GUTTER + 4, under + size / 2);
}

function drawRuler(c, from, to, x, height) {
  const step = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200].find((s) => x(from + s) - x(from) >= 86) ?? 14400;
  c.strokeStyle = colour("line");
  for (let t = Math.max(0, Math.ceil(from / step) * step); t <= to; t += step) {
    const at = Math.round(x(t)) + 0.5;
    c.globalAlpha = 0.5;
    c.beginPath();
    c.moveTo(at, 17);
    c.lineTo(at, height);
    c.stroke();
    c.globalAlpha = 1;
    c.fillStyle = colour("quiet");
    c.textAlign = at > x(to) - 40 ? "right" : "center";
    c.fillText(clockText(t % 86400), at, 9);
  }
  c.textAlign = "left";
}

/** A line, broken where the camera or the meter stood still for `apart` seconds. */
function line(c, time, values, first, x, y, ink, apart) {
  c.strokeStyle = ink;
  c.lineWidth = 1.2;
  c.beginPath();
  let before = -Infinity;
  let column = null;
  let [least, most] = [Infinity, -Infinity];
  for (let i = first; i < time.length; i++) {
    if (Number.isNaN(values[i])) {
      before = -Infinity;
      continue;
    }
    const at = Math.round(x(time[i]) * 2) / 2;
    if (time[i] - before > apart) {
      c.moveTo(at, y(values[i]));
      c.lineTo(at + 0.8, y(values[i]));
    } else if (at !== column) c.lineTo(at, y(values[i]));
    else if (values[i] < least || values[i] > most) c.lineTo(at, y(values[i])); // within a pixel only what widens it
    if (at !== column) [column, least, most] = [at, values[i], values[i]];
    else [least, most] = [Math.min(least, values[i]), Math.max(most, values[i])];
    before = time[i];
  }
  c.stroke();
}

function marks(c, values, first, x, [, top, tall = 8], ink) {
  c.fillStyle = ink;
  for (const [a, b] of runs(values.slice(first), (v) => v === 1)) {
    const [from, to] = [x(frames.time[first + a]), x(frames.time[first + b - 1])];
    c.fillRect(from, top + tall - 4, Math.max(to - from, 1.5), 4);
  }
}

function redraw() {
  drawFrame();
  if (facts) drawStrip();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  forgetColours();
  redraw();
}

byId("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).getPropertyValue("--dark").trim() === "1";
  const theme = dark ? "light" : "dark";
  localStorage.setItem("theme", theme);
  setTheme(theme);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
for (const id of ["outline", "fill"]) byId(id).addEventListener("change", drawFrame);
byId("span").addEventListener("change", redraw);
new ResizeObserver(redraw).observe(byId("stage"));
setTheme(localStorage.getItem("theme"));
ask();
