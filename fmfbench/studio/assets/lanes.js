// Everything about a recording on one time axis: currents, split, labels, events, alarms, scores, visibility.

import { app, clockText, emit, LABELS, on, shownTracks, SPLITS, timeText } from "./app.js";
import { beginStretch, drawnStretches, endStretch, moveStretch } from "./divide.js";
import { colour, lowerBound, runs } from "./drawing.js";
import { colourOf, predictions } from "./layers.js";
import { getJson, path } from "./net.js";
import { seek } from "./player.js";

const FONT = "11px system-ui, sans-serif";
const RULER = 22;
const MARGIN = 10;
const box = document.getElementById("lanes");
const back = document.getElementById("lanes-back");
const front = document.getElementById("lanes-front");
const view = { from: 0, to: 1 }; // seconds
let lanes = []; // { key, title, top, height }
let width = 0;
let height = 0;
let cached = {}; // runs of what does not change while the recording is open
let stale = true;

const gutter = () => (width < 700 ? 0 : 118);
const plotWidth = () => width - gutter() - MARGIN;
const x = (seconds) => gutter() + ((seconds - view.from) / (view.to - view.from)) * plotWidth();
const secondsAt = (px) => view.from + ((px - gutter()) / plotWidth()) * (view.to - view.from);
const total = () => (app.arrays.seconds.at(-1) ?? 0) + app.period;

export function openLanes() {
  const { seconds } = app.arrays;
  const steps = Float64Array.from({ length: Math.min(seconds.length - 1, 999) }, (_, i) => seconds[i + 1] - seconds[i]).sort();
  app.period = steps.length ? steps[steps.length >> 1] : 0.04;
  listRuns();
  [view.from, view.to] = [0, Math.max(total(), 1e-3)];
  redraw();
}

/** Find the runs of equal values again, after the arrays have changed. */
export function listRuns() {
  const { split, class_label: label } = app.arrays;
  cached = {
    splits: [split, ...app.facts.other_splits.map((_, k) => app.arrays[`split_${k}`])].map((codes) =>
      SPLITS.map((_, code) => runs(codes, (v) => v === code)),
    ),
    abnormal: runs(label, (v) => v === 1),
    unlabelled: runs(label, (v) => v === 255),
    wrong: new Map(),
  };
  for (const { index } of predictions()) {
    const decided = app.arrays[`pred_${index}`];
    cached.wrong.set(index, {
      miss: runs(decided, (v, i) => v === 0 && label[i] === 1),
      alarm: runs(decided, (v, i) => v === 1 && label[i] === 0),
    });
  }
}

/** When frame i ends: at the next one, but not after a gap. */
const endOf = (i) => {
  const { seconds } = app.arrays;
  return Math.min(i + 1 < seconds.length ? seconds[i + 1] : Infinity, seconds[i] + app.period);
};

/** Rows of events, so that those at the same time lie beneath each other. */
function eventRows() {
  const rows = [];
  const placed = shownTracks().map((track, index) => ({ track, index }));
  placed.sort((a, b) => a.track.onset - b.track.onset);
  for (const one of placed) {
    let row = rows.findIndex((end) => end < one.track.onset);
    if (row < 0) row = rows.push(0) - 1;
    rows[row] = one.track.offset;
    one.row = row;
  }
  return { placed, count: rows.length };
}

function arrange() {
  const list = [];
  const add = (key, title, tall) => list.push({ key, title, height: tall });
  if (document.getElementById("protocol").value) add("window", "window", 26);
  if (app.arrays.current.length) add("current", "current, kA", 74);
  [app.facts.split, ...app.facts.other_splits].forEach((name, k) =>
    add(`split ${k}`, name === "source" && !k ? "split" : `split ${name}`, 16),
  );
  if (app.division) add("division", "split drawn here", 22);
  add("label", app.about.default_layer ? `labels (${app.about.default_layer})` : "labels", 18);
  const { count } = eventRows();
  if (app.labels.tracks(app.rec.name) !== null || count) add("events", "events drawn", Math.max(1, count) * 18 + 2);
  for (const one of predictions()) {
    if (!one.on) continue;
    if (one.prediction.alarms.length) add(`alarms ${one.index}`, "alarms", 12);
    add(`score ${one.index}`, one.prediction.model, one.prediction.has_score ? 48 : 18);
  }
  if (app.arrays.visibility) add("visibility", "visibility", 34);
  const label = gutter() ? 0 : 13; // without a gutter titles stand above their lanes
  let top = RULER;
  for (const lane of list) {
    lane.top = top + label + 3;
    top = lane.top + lane.height + 3;
  }
  lanes = list;
  return top + 4;
}

/** Where a lane lies: { top, height }, in pixels of the page. */
export const laneAt = (key) => lanes.find((lane) => lane.key === key);

export function redraw() {
  stale = true;
  requestAnimationFrame(draw);
}

function resize() {
  const dpr = window.devicePixelRatio || 1;
  width = box.clientWidth;
  height = arrange();
  box.style.height = `${height}px`;
  for (const canvas of [back, front]) {
    if (canvas.width !== Math.round(width * dpr) || canvas.height !== Math.round(height * dpr)) {
      canvas.width = Math.round(width * dpr);
      canvas.height = Math.round(height * dpr);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    canvas.getContext("2d").setTransform(dpr, 0, 0, dpr, 0, 0);
  }
}

function draw() {
  if (!app.rec || !stale) return;
  stale = false;
  resize();
  const c = back.getContext("2d");
  c.clearRect(0, 0, width, height);
  c.font = FONT;
  c.textBaseline = "middle";
  drawRuler(c);
  c.save();
  c.beginPath();
  c.rect(gutter(), RULER, plotWidth(), height);
  c.clip();
  for (const lane of lanes) {
    c.fillStyle = colour("lane");
    c.fillRect(gutter(), lane.top, plotWidth(), lane.height);
  }
  drawGaps(c);
  for (const lane of lanes) {
    const [kind, number] = lane.key.split(" ");
    if (kind === "current") drawCurrent(c, lane);
    if (kind === "split") drawSplits(c, lane, cached.splits[Number(number)]);
    if (kind === "division") drawDivision(c, lane);
    if (kind === "label") {
      drawRuns(c, lane, cached.unlabelled, colour("unlabelled"));
      drawRuns(c, lane, cached.abnormal, colour("abnormal"));
    }
    if (kind === "events") drawEvents(c, lane);
    if (kind === "alarms") drawAlarms(c, lane, Number(number));
    if (kind === "score") drawScore(c, lane, Number(number));
    if (kind === "visibility") drawSeries(c, lane, app.arrays.seconds, app.arrays.visibility, 0, 1, colour("visibility"));
    if (kind === "window") drawWindow(c, lane);
  }
  c.restore();
  drawTitles(c);
  drawPlayhead();
}

function drawTitles(c) {
  c.fillStyle = colour("quiet");
  for (const lane of lanes) {
    const text = fitted(c, lane.title, gutter() ? gutter() - 12 : plotWidth());
    if (gutter()) {
      c.textAlign = "right";
      c.fillText(text, gutter() - 8, lane.top + lane.height / 2);
    } else {
      c.textAlign = "left";
      c.fillText(text, 2, lane.top - 7);
    }
  }
  c.textAlign = "left";
}

function fitted(c, text, most) {
  if (c.measureText(text).width <= most) return text;
  let end = text.length;
  while (end > 1 && c.measureText(`${text.slice(0, end)}…`).width > most) end--;
  return `${text.slice(0, end)}…`;
}

const STEPS = [0.04, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400];
function drawRuler(c) {
  const span = view.to - view.from;
  const step = STEPS.find((s) => (s / span) * plotWidth() >= 78) ?? STEPS.at(-1);
  const digits = step >= 1 ? 0 : 2;
  c.fillStyle = colour("quiet");
  c.strokeStyle = colour("line");
  c.lineWidth = 1;
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    const at = Math.round(x(t)) + 0.5;
    c.beginPath();
    c.moveTo(at, RULER - 5);
    c.lineTo(at, height);
    c.globalAlpha = 0.35;
    c.stroke();
    c.globalAlpha = 1;
    c.fillText(clockText(Math.round(t * 100) / 100, digits), Math.min(at + 3, width - 44), RULER / 2 - 1);
  }
}

function drawGaps(c) {
  const { seconds } = app.arrays;
  for (const [a, b] of app.facts.gaps) {
    const [from, to] = [x(endOf(a)), x(seconds[b])];
    if (to < gutter() || from > width) continue;
    c.fillStyle = hatch(c, colour("gap"));
    c.fillRect(from, RULER, Math.max(to - from, 1), height - RULER);
  }
}

function hatch(c, ink) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const t = tile.getContext("2d");
  t.strokeStyle = ink;
  t.lineWidth = 1.5;
  t.beginPath();
  for (const shift of [-6, 0, 6]) {
    t.moveTo(shift, 6);
    t.lineTo(shift + 6, 0);
  }
  t.stroke();
  return c.createPattern(tile, "repeat");
}

function drawRuns(c, lane, found, ink, top = lane.top, tall = lane.height) {
  const { seconds } = app.arrays;
  c.fillStyle = ink;
  for (const [a, b] of found) {
    const [from, to] = [x(seconds[a]), x(endOf(b - 1))];
    if (to >= gutter() && from <= width) c.fillRect(from, top, Math.max(to - from, 1), tall);
  }
}

function drawSplits(c, lane, splits) {
  const { seconds } = app.arrays;
  splits.forEach((found, code) => {
    drawRuns(c, lane, found, colour(`split-${SPLITS[code]}`));
    c.fillStyle = colour("ink");
    for (const [a, b] of found) {
      const from = Math.max(x(seconds[a]), gutter());
      const to = Math.min(x(endOf(b - 1)), width - MARGIN);
      if (to - from > c.measureText(SPLITS[code]).width + 10) c.fillText(SPLITS[code], from + 5, lane.top + lane.height / 2 + 0.5);
    }
  });
}

/** The split that is being drawn: its parts as they would be saved, the test stretches framed. */
function drawDivision(c, lane) {
  const { codes } = app.division;
  if (codes?.length === app.rec.frames) drawSplits(c, lane, SPLITS.map((_, code) => runs(codes, (v) => v === code)));
  const { seconds } = app.arrays;
  c.strokeStyle = colour("ink");
  c.lineWidth = 1.5;
  for (const [a, b] of drawnStretches()) {
    const [from, to] = [x(seconds[a]), x(endOf(b - 1))];
    if (!codes) {
      c.fillStyle = colour("split-test");
      c.fillRect(from, lane.top, Math.max(to - from, 2), lane.height);
    }
    c.strokeRect(from + 0.75, lane.top + 0.75, Math.max(to - from - 1.5, 1), lane.height - 1.5);
  }
}

/** A series as a line, or, where many values share a pixel, as the band between their least and largest. */
function drawSeries(c, lane, at, values, low, high, ink, stride = 1, shift = 0) {
  const y = (v) => lane.top + 2 + (1 - (v - low) / (high - low || 1)) * (lane.height - 4);
  const step = at.length > 1 ? 4 * Math.max((at.at(-1) - at[0]) / (at.length - 1), app.period) : Infinity;
  const first = Math.max(0, lowerBound(at, view.from) - 1);
  const last = Math.min(at.length, lowerBound(at, view.to) + 1);
  c.strokeStyle = ink;
  c.lineWidth = 1.1;
  c.beginPath();
  if (last - first < 3 * plotWidth()) {
    let pen = false;
    for (let i = first; i < last; i++) {
      const v = values[i * stride + shift];
      if (Number.isNaN(v) || (i > first && at[i] - at[i - 1] > step)) pen = false;
      if (Number.isNaN(v)) continue;
      if (pen) c.lineTo(x(at[i]), y(v));
      else {
        c.moveTo(x(at[i]), y(v));
        c.lineTo(x(at[i]) + 0.8, y(v)); // a value alone is a dot
      }
      pen = true;
    }
  } else {
    let column = null;
    let least = 0;
    let most = 0;
    for (let i = first; i <= last; i++) {
      const v = i < last ? values[i * stride + shift] : NaN;
      const here = i < last ? Math.round(x(at[i])) : null;
      if (here !== column) {
        if (column !== null && least <= most) {
          c.moveTo(column + 0.5, y(least) + 0.5);
          c.lineTo(column + 0.5, y(most) - 0.5);
        }
        [column, least, most] = [here, Infinity, -Infinity];
      }
      if (v < least) least = v;
      if (v > most) most = v;
    }
  }
  c.stroke();
}

function drawCurrent(c, lane) {
  const { current, current_seconds: at } = app.arrays;
  if (!cached.currentRange) {
    let [low, high] = [Infinity, -Infinity];
    for (const v of current) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
    cached.currentRange = low <= high ? [low, high] : [0, 1];
  }
  const [low, high] = cached.currentRange;
  for (let phase = 0; phase < 3; phase++) drawSeries(c, lane, at, current, low, high, colour(`phase-${phase}`), 3, phase);
  c.fillStyle = colour("quiet");
  const [top, bottom] = [high, low].map((v) => (v / 1000).toFixed(1));
  c.fillText(top, gutter() + 3, lane.top + 8);
  c.fillText(bottom, gutter() + 3, lane.top + lane.height - 8);
}

function drawEvents(c, lane) {
  const { seconds } = app.arrays;
  const tracks = app.labels.tracks(app.rec.name);
  if (tracks && !tracks.length && !app.preview) {
    c.fillStyle = colour("quiet");
    c.fillText("no event: normal throughout", gutter() + 6, lane.top + lane.height / 2);
    return;
  }
  for (const { track, index, row } of eventRows().placed) {
    const [from, to] = [x(seconds[track.onset]), x(endOf(Math.min(track.offset, seconds.length - 1)))];
    const top = lane.top + 1 + row * 18;
    const chosen = index === app.selected;
    c.fillStyle = colour(chosen ? "box" : "box-other");
    c.globalAlpha = chosen ? 0.85 : 0.5;
    c.fillRect(from, top, Math.max(to - from, 2), 16);
    c.globalAlpha = 1;
    c.fillStyle = colour("ink");
    const roomy = (to - from) / track.keyframes.length > 9; // else ticks instead of diamonds
    for (const keyframe of track.keyframes) {
      const at = x((seconds[keyframe.frame] + endOf(keyframe.frame)) / 2);
      if (!roomy) {
        c.fillRect(at - 0.5, top + 4, 1, 8);
        continue;
      }
      c.beginPath();
      c.moveTo(at, top + 4);
      c.lineTo(at + 4, top + 8);
      c.lineTo(at, top + 12);
      c.lineTo(at - 4, top + 8);
      c.fill();
    }
    if (track.apex != null && roomy) {
      const at = x((seconds[track.apex] + endOf(track.apex)) / 2);
      c.beginPath();
      c.moveTo(at - 4, top);
      c.lineTo(at + 4, top);
      c.lineTo(at, top + 5);
      c.fill();
    }
    if (to - from > 60) c.fillText(fitted(c, String(track.id), to - from - 10), from + 6, top + 8.5);
  }
}

function drawAlarms(c, lane, index) {
  const { seconds } = app.arrays;
  const one = predictions().find((p) => p.index === index);
  c.fillStyle = colourOf(one);
  for (const [a, b] of one.prediction.alarms) {
    const [from, to] = [x(seconds[a]), x(endOf(b))];
    c.fillRect(from, lane.top + 2, Math.max(to - from, 2), lane.height - 4);
  }
}

function drawScore(c, lane, index) {
  const one = predictions().find((p) => p.index === index);
  const wrong = cached.wrong.get(index);
  const strip = lane.top + lane.height - 5;
  drawRuns(c, lane, wrong.miss, colour("miss"), strip, 5);
  drawRuns(c, lane, wrong.alarm, colour("false-alarm"), strip, 5);
  if (!one.prediction.has_score) return;
  const plot = { top: lane.top, height: lane.height - 6 };
  const level = Math.round(plot.top + 2 + (1 - one.prediction.threshold) * (plot.height - 4)) + 0.5;
  c.strokeStyle = colour("quiet");
  c.lineWidth = 1;
  c.setLineDash([4, 3]);
  c.beginPath();
  c.moveTo(gutter(), level);
  c.lineTo(width, level);
  c.stroke();
  c.setLineDash([]);
  drawSeries(c, plot, app.arrays.seconds, app.arrays[`score_${index}`], 0, 1, colourOf(one));
}

/** What the window of this frame really spans: above the video, beneath the currents; padded places hatched. */
function drawWindow(c, lane) {
  const found = app.window;
  if (!found || found.name !== app.rec.name) return;
  const { seconds } = app.arrays;
  const [v0, v1] = found.video_seconds;
  const [c0, c1] = found.current_seconds;
  c.fillStyle = colour("window");
  c.globalAlpha = 0.75;
  c.fillRect(x(v0), lane.top + 2, Math.max(x(v1) - x(v0), 2), 9);
  c.globalAlpha = 0.4;
  c.fillRect(x(c0), lane.top + 14, Math.max(x(c1) - x(c0), 2), 9);
  c.globalAlpha = 1;
  const mark = (spans, top) => {
    c.fillStyle = hatch(c, colour("miss"));
    for (const [a, b] of spans) c.fillRect(x(a), top, Math.max(x(b) - x(a), 3), 9);
  };
  mark(invalidSpans(found.frames_valid, v0, v1), lane.top + 2);
  mark(invalidSpans(found.current_valid, c0, c1), lane.top + 14);
  c.fillStyle = colour("ink");
  for (const frame of new Set(found.frames)) if (frame >= 0) c.fillRect(x(seconds[frame]) - 0.5, lane.top + 2, 1, 9);
}

function invalidSpans(valid, from, to) {
  const step = valid.length > 1 ? (to - from) / (valid.length - 1) : 0;
  return runs(valid, (v) => !v).map(([a, b]) => [from + (a - 0.5) * step, from + (b - 0.5) * step]);
}

let moved = false;
function movePlayhead() {
  if (moved) return;
  moved = true;
  requestAnimationFrame(() => {
    moved = false;
    drawPlayhead();
  });
}

function drawPlayhead() {
  const c = front.getContext("2d");
  c.clearRect(0, 0, width, height);
  if (!app.rec?.frames) return;
  const at = x((app.arrays.seconds[app.frame] + endOf(app.frame)) / 2);
  if (at >= gutter() && at <= width) {
    c.strokeStyle = colour("playhead");
    c.fillStyle = colour("playhead");
    c.lineWidth = 1.5;
    c.beginPath();
    c.moveTo(at, 4);
    c.lineTo(at, height);
    c.stroke();
    c.beginPath();
    c.moveTo(at - 5, 0);
    c.lineTo(at + 5, 0);
    c.lineTo(at, 8);
    c.fill();
  }
  box.setAttribute("aria-valuemax", String(app.rec.frames - 1));
  box.setAttribute("aria-valuenow", String(app.frame));
  const { seconds, class_label: label, split } = app.arrays;
  box.setAttribute(
    "aria-valuetext",
    `frame ${app.frame}, ${timeText(seconds[app.frame])}, ${LABELS[label[app.frame]]}, ${SPLITS[split[app.frame]]}`,
  );
}

export function zoom(factor, around = app.arrays.seconds[app.frame]) {
  const most = total();
  const least = Math.min(most, 6 * app.period);
  const span = Math.min(most, Math.max(least, (view.to - view.from) * factor));
  const share = Math.min(1, Math.max(0, (around - view.from) / (view.to - view.from)));
  show(around - share * span, span);
}

function show(from, span) {
  const start = Math.min(Math.max(0, from), Math.max(0, total() - span));
  [view.from, view.to] = [start, start + span];
  redraw();
}

export const zoomAll = () => show(0, Math.max(total(), 1e-3));

/** Keep the frame in sight. */
function follow() {
  const at = app.arrays.seconds[app.frame];
  const span = view.to - view.from;
  if (at < view.from || at > view.to - app.period / 2) show(at - (app.playing ? 0.1 : 0.5) * span, span);
}

export function frameAt(seconds) {
  const { seconds: times } = app.arrays;
  return Math.min(Math.max(lowerBound(times, seconds + 1e-9) - 1, 0), times.length - 1);
}

let dragging = null;
front.addEventListener("pointerdown", (event) => {
  if (!app.rec?.frames) return;
  box.focus({ preventScroll: true });
  const px = event.clientX - front.getBoundingClientRect().left;
  const py = event.clientY - front.getBoundingClientRect().top;
  const lane = lanes.find((l) => l.key === "events" && py >= l.top && py <= l.top + l.height);
  if (lane) pickEvent(secondsAt(px), Math.floor((py - lane.top - 1) / 18));
  const division = lanes.find((l) => l.key === "division" && py >= l.top && py <= l.top + l.height);
  if (division && !event.shiftKey && event.button === 0) beginStretch(frameAt(secondsAt(px)));
  dragging = { pan: event.shiftKey || event.button === 1, at: px, from: view.from };
  if (!dragging.pan) seek(frameAt(secondsAt(px)));
  front.setPointerCapture(event.pointerId);
  event.preventDefault();
});
front.addEventListener("pointermove", (event) => {
  if (!dragging) return;
  const px = event.clientX - front.getBoundingClientRect().left;
  if (dragging.pan) {
    const span = view.to - view.from;
    show(dragging.from - ((px - dragging.at) / plotWidth()) * span, span);
  } else {
    seek(frameAt(secondsAt(px)));
    moveStretch(app.frame);
  }
});
front.addEventListener("pointerup", () => {
  dragging = null;
  endStretch(true);
});
front.addEventListener("pointercancel", () => {
  dragging = null;
  endStretch(false);
});
front.addEventListener(
  "wheel",
  (event) => {
    if (!app.rec?.frames) return;
    event.preventDefault();
    const px = event.clientX - front.getBoundingClientRect().left;
    const span = view.to - view.from;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      show(view.from + ((event.deltaX || event.deltaY) / plotWidth()) * span, span);
    } else zoom(Math.exp(event.deltaY * 0.0022), secondsAt(px));
  },
  { passive: false },
);

function pickEvent(seconds, row) {
  const frame = frameAt(seconds);
  const found = eventRows().placed.find((e) => e.row === row && e.track.onset <= frame && frame <= e.track.offset);
  if (found) {
    app.selected = found.index;
    emit("labels");
  }
}

let asked = null;
let windowTimer = 0;
/** Ask what the window of this frame holds, once the frame has settled. */
function askWindow() {
  clearTimeout(windowTimer);
  const protocol = document.getElementById("protocol").value;
  const note = document.getElementById("window-note");
  if (!protocol || !app.rec?.frames) {
    app.window = null;
    note.textContent = "";
    return;
  }
  if (app.playing) return;
  windowTimer = setTimeout(async () => {
    const wanted = (asked = `${app.rec.name} ${app.frame} ${protocol}`);
    const { name } = app.rec;
    try {
      const found = await getJson(`${path("window", name)}?frame=${app.frame}&protocol=${protocol}`);
      if (asked !== wanted) return;
      app.window = { name, ...found };
      const missing = (valid) => valid.filter((v) => !v).length;
      const [video, current] = [missing(found.frames_valid), missing(found.current_valid)];
      note.textContent =
        video || current
          ? `padded: ${video} of ${found.frames_valid.length} frames, ${current} of ${found.current_valid.length} current values`
          : "nothing padded";
    } catch (error) {
      app.window = null;
      note.textContent = error.message;
    }
    redraw();
  }, 90);
}

on("seek", () => {
  follow();
  movePlayhead();
  askWindow();
});
on("playing", askWindow);
on("labels preview layers theme division", redraw);
document.getElementById("protocol").addEventListener("change", () => {
  redraw();
  askWindow();
});
document.getElementById("zoom-in").addEventListener("click", () => zoom(0.5));
document.getElementById("zoom-out").addEventListener("click", () => zoom(2));
document.getElementById("zoom-all").addEventListener("click", zoomAll);
new ResizeObserver(redraw).observe(box);
