// Which frame is shown: seeking, playing, and the canvas that holds exactly the frame's bytes.

import { app, emit, on, shownTracks } from "./app.js";
import { Blocks, Pictures } from "./blocks.js";
import { getBlob, getBytes, path, postForBytes } from "./net.js";
import { isIn } from "./tracks.js";

const FPS = 25;
const MOST_AT_ONCE = 3;
const canvas = document.getElementById("video");
const context = canvas.getContext("2d", { willReadFrequently: true });
let video = null;
let pixels = null; // an ImageData of the frame's size
let loading = 0;
let playStart = { time: 0, frame: 0 };

export function openVideo() {
  const { name, frames, height, width, jpeg } = app.rec;
  video = jpeg
    ? new Pictures((frame) => `${path("picture", name)}?frame=${frame}`, frames, getBlob)
    : new Blocks((a, b) => `${path("frames", name)}?start=${a}&stop=${b}`, frames, height * width * 3, getBytes);
  canvas.width = width;
  canvas.height = height;
  pixels = new ImageData(width, height);
  pixels.data.fill(255);
  app.shown = -1;
  canvas.dataset.frame = "-1";
}

/** Ask for a frame. Where it is not here yet, the newest wish wins over those that came before it. */
export function seek(frame) {
  const target = Math.min(Math.max(Math.round(frame), 0), app.rec.frames - 1);
  app.frame = target;
  emit("seek");
  show();
}

function needed() {
  return [video, ...app.layers.filter((l) => l.on && l.blocks).map((l) => l.blocks)];
}

function show() {
  if (!app.rec?.frames) return;
  const frame = app.frame;
  const sources = needed();
  if (sources.every((source) => source.peek(frame))) {
    draw(frame);
    return;
  }
  if (loading >= MOST_AT_ONCE) return; // whoever ends first asks again
  loading++;
  const rec = app.rec;
  Promise.all(sources.map((source) => source.get(frame)))
    .catch(() => emit("lost"))
    .finally(() => {
      loading--;
      if (app.rec === rec && app.shown !== app.frame) {
        if (sources.every((source) => source.peek(app.frame))) draw(app.frame);
        else setTimeout(show, sources.every((source) => source.peek(frame)) ? 0 : 500);
      }
    });
}

function draw(frame) {
  const data = video.peek(frame);
  if (app.rec.jpeg) {
    context.drawImage(data, 0, 0);
  } else {
    const out = pixels.data;
    for (let i = 0, j = 0; i < data.length; i += 3, j += 4) {
      out[j] = data[i];
      out[j + 1] = data[i + 1];
      out[j + 2] = data[i + 2];
    }
    context.putImageData(pixels, 0, 0);
  }
  app.shown = frame;
  canvas.dataset.frame = String(frame);
  emit("frame");
}

export function play(wanted = !app.playing) {
  if (wanted === app.playing) return;
  app.playing = wanted && app.rec.frames > 1;
  if (app.playing) {
    if (app.frame >= app.rec.frames - 1) seek(0);
    playStart = { time: performance.now(), frame: app.frame };
    requestAnimationFrame(step);
  }
  emit("playing");
}

function step(now) {
  if (!app.playing) return;
  if (app.shown !== app.frame) {
    // the frame has not arrived: time waits for it, so that none is left out
    playStart = { time: now, frame: app.frame };
  } else {
    const target = playStart.frame + Math.floor(((now - playStart.time) / 1000) * FPS * app.speed);
    if (target > app.frame) {
      // one after the other: a slow machine plays slower and shows every frame
      if (target > app.frame + 1) playStart = { time: now, frame: app.frame + 1 };
      for (const source of needed()) source.ahead(app.frame + 1);
      seek(app.frame + 1);
    }
  }
  if (app.frame >= app.rec.frames - 1) play(false);
  else requestAnimationFrame(step);
}

export function setSpeed(speed) {
  app.speed = speed;
  playStart = { time: performance.now(), frame: app.frame };
}

// The draft's refined mask of the frame that is shown: asked for again when boxes or frame have changed.
let refining = false;

const refineKey = () => {
  const tracks = shownTracks().filter((t) => isIn(t, app.shown) && t.keyframes.length);
  return tracks.length ? JSON.stringify([app.rec.name, app.shown, tracks, app.radius]) : null;
};

export async function refine() {
  const wanted = app.layers.some((l) => l.on && (l.kind === "refined" || l.key === "margin"));
  const key = wanted && !app.playing && app.shown >= 0 ? refineKey() : null;
  if (key === null) {
    app.refined = null;
    return;
  }
  if (app.refined?.key === key) {
    emit("refined"); // it is here already: while dragging, the mask follows the box
    return;
  }
  if (refining) return;
  refining = true;
  const [name, frame, tracks, radius] = JSON.parse(key);
  const { width, height } = app.rec;
  try {
    const bytes = await postForBytes(path("refine", name), { frame, tracks, radius });
    const mask = new Uint8Array(bytes, 0, width * height);
    const margin = new Float32Array(bytes.slice(width * height));
    if (refineKey() === key) {
      app.refined = { key, mask, margin };
      emit("refined");
    }
  } catch {
    app.refined = { key, mask: null, margin: null }; // not asked again until something changes
  } finally {
    refining = false;
  }
  if (refineKey() !== key) refine();
}

on("frame labels preview layers playing radius", refine);
on("layers", () => {
  if (app.shown !== app.frame || !needed().every((source) => source.peek(app.frame))) {
    app.shown = -1;
    show();
  }
});
