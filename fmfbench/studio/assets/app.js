// What is shown now, and who wants to know when it changes.

export const app = {
  about: null, // of the store
  recordings: [], // summaries
  rec: null, // the summary of the recording that is open
  facts: null, // its facts and
  arrays: null, // arrays, see Library.facts
  period: 0.04, // median seconds between its frames
  frame: 0, // asked for
  shown: -1, // on the canvas
  playing: false,
  speed: 1,
  layers: [], // what is drawn over the frame, see layers.js
  fill: false, // filled rather than outlined
  labels: null, // the draft, see labels.js
  selected: null, // index of a track of this recording
  preview: null, // a track that is being dragged: { index, track }
  refined: null, // of the draft: { key, mask, margin }
  window: null, // what the window of the frame holds
  apply: { state: "idle" },
  radius: "box/3", // of the refining vote: a part of each box's shorter side
  division: null, // the split that is being drawn, see divide.js
  runs: [], // how far each run has judged, as the server says
};

const listeners = new Map();

export function on(kind, listener) {
  for (const one of kind.split(" ")) {
    if (!listeners.has(one)) listeners.set(one, []);
    listeners.get(one).push(listener);
  }
}

export function emit(kind) {
  for (const listener of listeners.get(kind) ?? []) listener();
}

/** The tracks of the open recording as they are drawn: with what is being dragged. */
export function shownTracks() {
  const tracks = app.labels?.tracks(app.rec?.name) ?? [];
  if (!app.preview) return tracks;
  const changed = tracks.slice();
  changed[app.preview.index] = app.preview.track;
  return changed;
}

export const selectedTrack = () => (app.selected === null ? null : (shownTracks()[app.selected] ?? null));

/** 2023-05-10 21:33:26.200 where the source tells the date, else 0:00:12.345 since the start. */
export function timeText(seconds) {
  if (app.facts.origin === "clock") {
    const ns = BigInt(app.facts.start_ns) + BigInt(Math.round(seconds * 1e9));
    return new Date(Number(ns / 1000000n)).toISOString().replace("T", " ").slice(0, 23);
  }
  return clockText(seconds, 3);
}

export function clockText(seconds, digits = 0) {
  const scale = 10 ** digits;
  const rounded = Math.round(seconds * scale);
  const whole = Math.floor(rounded / scale);
  const two = (value) => String(value).padStart(2, "0");
  const rest = digits ? `.${String(rounded - whole * scale).padStart(digits, "0")}` : "";
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}${rest}`;
}

export const SPLITS = ["train", "test", "unused"];
export const LABELS = { 0: "normal", 1: "abnormal", 255: "unlabelled" };

let toastTimer = 0;
export function toast(text) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.classList.remove("on"), 6000);
}
