// The frame at whole-pixel scale, and over it masks and boxes that can be drawn, moved and resized.

import { app, emit, on, selectedTrack, shownTracks } from "./app.js";
import { colour, fillPixels, tracePixels } from "./drawing.js";
import { colourOf } from "./layers.js";
import { createTrack, editTrack, isEditable } from "./edits.js";
import { boxAt, isIn, keyframeAt, moveBox, tidyBox, withBox } from "./tracks.js";

const HANDLE = 5; // half a handle's side, in pixels of the page
const SMALL = 64; // a side, in pixels of the page, below which only small corners are drawn
const REACH = 11; // how far from a handle it can still be taken
const stage = document.getElementById("stage");
const video = document.getElementById("video");
const overlay = document.getElementById("overlay");
const context = overlay.getContext("2d");
let scale = 1; // pixels of the page per stored pixel
let drag = null;

export function layout() {
  if (!app.rec) return;
  const { width, height } = app.rec;
  const dpr = window.devicePixelRatio || 1;
  const most = Math.max(200, Math.min(window.innerHeight * 0.44, 620));
  const room = Math.min((stage.clientWidth - 2) / width, most / height);
  const whole = Math.floor(room * dpr) / dpr;
  scale = whole > 0 ? whole : room; // a frame larger than the page is shown smaller, and only then
  for (const canvas of [video, overlay]) {
    canvas.style.width = `${width * scale}px`;
    canvas.style.height = `${height * scale}px`;
  }
  stage.style.height = `${height * scale}px`;
  overlay.width = Math.round(width * scale * dpr);
  overlay.height = Math.round(height * scale * dpr);
  context.setTransform(dpr, 0, 0, dpr, 0, 0);
  drawOverlay();
}

// Boxes are in pixels of the draft's size; the page shows stored pixels.
const factor = () => [app.rec.width / app.labels.size[0], app.rec.height / app.labels.size[1]];
const toPage = (box) => {
  const [x, y] = factor();
  return [box[0] * x * scale, box[1] * y * scale, box[2] * x * scale, box[3] * y * scale];
};
/** The smallest box: one stored pixel. */
export const leastBox = () => factor().map((f) => 1 / f);

export function drawOverlay() {
  if (!app.rec || app.shown < 0) return;
  const { width, height } = app.rec;
  context.clearRect(0, 0, overlay.width, overlay.height);
  for (const layer of app.layers) {
    if (!layer.on) continue;
    if (layer.kind === "boxes") drawBoxes();
    else if (layer.kind === "margin") drawMargin(layer.blocks ? marginAt(layer.blocks) : app.refined?.margin);
    else {
      const mask = layer.kind === "refined" ? app.refined?.mask : layer.blocks?.peek(app.shown);
      if (!mask) continue;
      context.strokeStyle = context.fillStyle = colourOf(layer);
      context.lineWidth = 2;
      context.setLineDash(layer.kind === "refined" ? [3, 2] : []);
      tracePixels(context, mask, width, height, scale);
      if (app.fill) {
        context.globalAlpha = 0.35;
        fillPixels(context, mask, width, height, scale);
        context.globalAlpha = 1;
      }
    }
  }
  context.setLineDash([]);
  overlay.dataset.refined = app.refined?.key ?? "";
}

/** A stored margin of the frame that is shown. */
function marginAt(blocks) {
  const bytes = blocks.peek(app.shown);
  return bytes?.length ? new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4) : null;
}

function drawMargin(margin) {
  if (!margin) return;
  const { width, height } = app.rec;
  for (let r = 0; r < height; r++) {
    for (let c = 0; c < width; c++) {
      const value = margin[r * width + c];
      if (value <= -0.999) continue;
      context.fillStyle = value > 0 ? `rgb(255 160 0 / ${0.15 + 0.6 * value})` : `rgb(60 140 255 / ${0.6 + 0.6 * value})`;
      context.fillRect(c * scale, r * scale, scale, scale);
    }
  }
}

function drawBoxes() {
  shownTracks().forEach((track, index) => {
    const chosen = index === app.selected;
    if (!isIn(track, app.shown) && !(chosen && keyframeAt(track, app.shown))) return;
    const box = boxAt(track, app.shown);
    if (!box) return;
    const [x0, y0, x1, y1] = toPage(box);
    const drawn = keyframeAt(track, app.shown) !== null;
    for (const [style, lineWidth] of [["rgb(0 0 0 / 0.6)", chosen ? 4 : 3], [colour(chosen ? "box" : "box-other"), chosen ? 2 : 1.25]]) {
      context.strokeStyle = style;
      context.lineWidth = lineWidth;
      context.setLineDash(drawn ? [] : [6, 4]);
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    context.setLineDash([]);
    if (chosen && isEditable()) {
      const small = Math.min(x1 - x0, y1 - y0) < SMALL; // a spot of few pixels must be seen between its handles
      const half = small ? 3 : HANDLE;
      handles([x0, y0, x1, y1]).forEach(([x, y], k) => {
        if (small && SIDES[k].length < 2) return;
        context.fillStyle = "#fff";
        context.strokeStyle = "#000";
        context.lineWidth = 1;
        context.fillRect(x - half, y - half, 2 * half, 2 * half);
        context.strokeRect(x - half, y - half, 2 * half, 2 * half);
      });
    }
  });
}

// Each handle moves the sides that its names say: 0 left, 1 top, 2 right, 3 bottom.
const SIDES = [[0, 1], [1], [2, 1], [0], [2], [0, 3], [3], [2, 3]];
const CURSORS = ["nwse", "ns", "nesw", "ew", "ew", "nesw", "ns", "nwse"];
function handles([x0, y0, x1, y1]) {
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return [[x0, y0], [x, y0], [x1, y0], [x0, y], [x1, y], [x0, y1], [x, y1], [x1, y1]];
}

function boxOfSelected() {
  const track = selectedTrack();
  if (!track || !(isIn(track, app.shown) || keyframeAt(track, app.shown))) return null;
  return boxAt(track, app.shown);
}

/** What lies under a place of the page: a handle or the inside of the selected box, another box, or nothing. */
function hit(x, y) {
  const box = boxOfSelected();
  if (box) {
    const page = toPage(box);
    let best = null;
    handles(page).forEach(([hx, hy], k) => {
      const distance = Math.max(Math.abs(hx - x), Math.abs(hy - y));
      if (distance <= REACH && (!best || distance < best.distance)) best = { kind: "handle", k, distance };
    });
    const inner = x > page[0] && x < page[2] && y > page[1] && y < page[3];
    // in a small box the handles would leave no place to take it by
    const deep = inner && Math.min(x - page[0], page[2] - x, y - page[1], page[3] - y) > 6;
    if (best && !deep) return best;
    if (inner) return { kind: "move" };
  }
  const tracks = shownTracks();
  for (let index = tracks.length - 1; index >= 0; index--) {
    if (index === app.selected || !isIn(tracks[index], app.shown)) continue;
    const other = boxAt(tracks[index], app.shown);
    if (!other) continue;
    const page = toPage(other);
    if (x >= page[0] && x <= page[2] && y >= page[1] && y <= page[3]) return { kind: "select", index };
  }
  return { kind: "draw" };
}

function place(event) {
  const bounds = overlay.getBoundingClientRect();
  return [event.clientX - bounds.left, event.clientY - bounds.top];
}

/** A place of the page in pixels of the draft, at whole stored pixels unless Alt is held. */
function snapped(x, y, event) {
  const [fx, fy] = factor();
  const fine = event.altKey;
  const px = x / scale;
  const py = y / scale;
  return [(fine ? px : Math.round(px)) / fx, (fine ? py : Math.round(py)) / fy];
}

overlay.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || app.shown < 0) return;
  stage.focus({ preventScroll: true });
  if (!isEditable()) return;
  const [x, y] = place(event);
  const what = hit(x, y);
  if (what.kind === "select") {
    app.selected = what.index;
    emit("labels");
  }
  const box = boxOfSelected();
  drag = { ...what, from: snapped(x, y, event), box, frame: app.shown, moved: false };
  if (drag.kind === "select") drag.kind = "move";
  overlay.setPointerCapture(event.pointerId);
  event.preventDefault();
});

overlay.addEventListener("pointermove", (event) => {
  const [x, y] = place(event);
  if (!drag) {
    const what = isEditable() ? hit(x, y) : { kind: "none" };
    const shape = { handle: `${CURSORS[what.k]}-resize`, move: "move", select: "pointer", none: "default" };
    overlay.style.cursor = shape[what.kind] ?? "crosshair";
    return;
  }
  const [px, py] = snapped(x, y, event);
  const [dx, dy] = [px - drag.from[0], py - drag.from[1]];
  if (!dx && !dy && !drag.moved) return;
  drag.moved = true;
  const { size } = app.labels;
  if (drag.kind === "draw") {
    drag.result = tidyBox([drag.from[0], drag.from[1], px, py], size, leastBox());
  } else if (drag.kind === "move") {
    drag.result = moveBox(drag.box, dx, dy, size);
  } else {
    const box = drag.box.slice();
    for (const side of SIDES[drag.k]) box[side] += side % 2 ? dy : dx;
    drag.result = tidyBox(box, size, leastBox());
  }
  preview();
});

function preview() {
  const tracks = app.labels.tracks(app.rec.name) ?? [];
  const chosen = app.selected === null ? null : tracks[app.selected];
  if (drag.kind === "draw") {
    // a box drawn beside the selected one belongs to a new event, unless the selected event has none here yet
    const joins = chosen && !isIn(chosen, drag.frame) && chosen.keyframes.length > 0;
    drag.joins = joins;
    app.preview = joins
      ? { index: app.selected, track: withBox(chosen, drag.frame, drag.result) }
      : { index: tracks.length, track: { id: "new", onset: drag.frame, offset: drag.frame, keyframes: [{ frame: drag.frame, box: drag.result }] } };
  } else {
    app.preview = { index: app.selected, track: withBox(chosen, drag.frame, drag.result) };
  }
  emit("preview");
}

function letGo(commit) {
  if (!drag) return;
  const { kind, result, frame, moved, joins } = drag;
  drag = null;
  app.preview = null;
  if (!commit || !moved || !result) {
    if (commit && kind === "draw" && app.selected !== null) {
      app.selected = null; // a click beside every box
      emit("labels");
    }
    emit("preview");
    return;
  }
  performance.mark("let-go");
  if (kind === "draw" && !joins) createTrack(frame, result);
  else editTrack((track) => withBox(track, frame, result));
}
overlay.addEventListener("pointerup", () => letGo(true));
overlay.addEventListener("pointercancel", () => letGo(false));
stage.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && drag) {
    letGo(false);
    event.stopPropagation();
  }
});

on("frame labels preview layers refined theme", drawOverlay);
on("refined", () => {
  if (performance.getEntriesByName("let-go").length && !drag) {
    performance.measure("refine", "let-go");
    performance.clearMarks("let-go");
  }
});
new ResizeObserver(layout).observe(stage);
window.addEventListener("resize", layout);
