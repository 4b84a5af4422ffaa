// The beginning: what there is, which recording and frame the address names, and what changes meanwhile.

import { app, emit, on, timeText, toast } from "./app.js";
import { element, forgetColours } from "./drawing.js";
import { JUMPS, listen, showHelp } from "./keys.js";
import { Labels } from "./labels.js";
import { listRuns, openLanes, redraw } from "./lanes.js";
import { listLayers, takeVerdicts } from "./layers.js";
import { getBytes, getJson, path, postJson, unpack } from "./net.js";
import { buildPanel, drawAll } from "./panel.js";
import { openVideo, play, seek, setSpeed } from "./player.js";
import { layout } from "./stage.js";

const PULSE_MS = 1500;
const byId = (id) => document.getElementById(id);
let version = 0;
let storeVersion = null;

/** `#recording/frame`, as reports link to it. */
function wanted() {
  const [name, frame] = location.hash.slice(1).split("/");
  try {
    return { name: decodeURIComponent(name), frame: /^\d+$/.test(frame ?? "") ? Number(frame) : null };
  } catch {
    return { name: "", frame: null };
  }
}

async function open(name, frame = 0) {
  play(false);
  const { facts, arrays } = unpack(await getBytes(path("recordings", name)));
  app.rec = app.recordings.find((r) => r.name === name);
  app.facts = { ...facts, version: ++version };
  app.arrays = arrays;
  app.selected = app.preview = app.refined = app.window = null;
  byId("recording").value = name;
  byId("frame").max = String(Math.max(0, app.rec.frames - 1));
  listLayers();
  openVideo();
  layout();
  openLanes();
  drawAll();
  if (app.rec.frames) seek(frame);
  else toast(`${name} has no frames.`);
  judgeHere();
  emit("opened");
}

/** The runs judge what is looked at, from the frame that is shown. */
function judgeHere() {
  if (!app.about.runs || !app.rec.frames) return;
  postJson(path("judge", app.rec.name), { frame: app.frame })
    .then((runs) => (app.runs = runs))
    .catch((error) => toast(error.message));
}

/** Fetch what the runs have judged since. */
async function heardOfRuns(runs) {
  const { facts } = app;
  const { name } = facts;
  for (const [k, run] of runs.entries()) {
    if (run.error && run.error !== app.runs[k]?.error) toast(run.error);
    const index = facts.predictions.findIndex((one) => one.run === k);
    if (run.recording !== name || index < 0 || run.done === facts.predictions[index].samples) continue;
    const found = unpack(await getBytes(`${path("verdicts", name)}?run=${k}`));
    if (app.facts !== facts) return; // another recording was opened meanwhile
    takeVerdicts(index, found);
    listRuns();
    emit("layers");
  }
  app.runs = runs;
}

async function reload() {
  const { name } = app.rec;
  const frame = app.frame;
  const selected = app.selected;
  await list();
  await open(app.recordings.some((r) => r.name === name) ? name : app.recordings[0].name, frame);
  app.selected = selected;
  emit("labels");
}

async function list() {
  [app.about, app.recordings] = await Promise.all([getJson("/api/about"), getJson("/api/recordings")]);
  byId("store").textContent = `${app.about.store}${app.about.read_only ? " (read-only)" : ""}`;
  document.title = `${app.about.store} · fmfbench studio`;
  byId("recording").replaceChildren(...app.recordings.map((r) => element("option", { value: r.name }, r.name)));
}

let hashTimer = 0;
function remember() {
  clearTimeout(hashTimer);
  hashTimer = setTimeout(() => {
    history.replaceState(null, "", `/#${encodeURIComponent(app.rec.name)}/${app.frame}`);
  }, 150);
}

function showSaved() {
  const { labels } = app;
  const box = byId("saved");
  const pending = labels.pending.length;
  box.textContent = app.about.read_only ? "" : pending ? "saving…" : "saved";
  box.className = pending ? "pending" : "";
  const banner = byId("banner");
  banner.hidden = !labels.lost;
  if (labels.lost) {
    banner.textContent =
      `Not saved: ${labels.lost}. Your changes are kept in this page and sent again every second. ` +
      "If the studio was stopped, start it again on the same port, open its new address in another window, and import ";
    const keep = element("button", { type: "button", onclick: download }, "this copy of the labels");
    banner.append(keep);
  }
}

function download() {
  const recordings = {};
  for (const [name, tracks] of app.labels.now) if (tracks !== null) recordings[name] = { tracks };
  const text = JSON.stringify({ schema: 1, size: app.labels.size, recordings }, null, 1);
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  element("a", { href, download: app.labels.file }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

async function pulse() {
  try {
    const state = await getJson("/api/pulse");
    if (JSON.stringify(state.apply) !== JSON.stringify(app.apply)) {
      app.apply = state.apply;
      emit("apply");
    }
    await app.labels.heard(state);
    if (state.apply.state !== "running") {
      if (storeVersion !== null && storeVersion !== state.store) await reload();
      storeVersion = state.store;
    }
    await heardOfRuns(state.runs);
    if (!app.labels.pending.length) app.labels.lost = null;
  } catch (error) {
    app.labels.lost = error.message;
  }
  showSaved();
  setTimeout(pulse, PULSE_MS);
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  repaint();
}

function repaint() {
  forgetColours();
  if (app.rec) emit("theme");
}

function connect() {
  const run = {
    first: () => seek(0),
    back: () => seek(app.frame - 1),
    play: () => play(),
    next: () => seek(app.frame + 1),
    last: () => seek(app.rec.frames - 1),
    help: showHelp,
  };
  for (const [id, action] of Object.entries(run)) byId(id).addEventListener("click", action);
  byId("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--dark").trim() === "1";
    const theme = dark ? "light" : "dark";
    localStorage.setItem("theme", theme);
    setTheme(theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  byId("speed").addEventListener("change", (e) => setSpeed(Number(e.target.value)));
  byId("frame").addEventListener("change", (e) => {
    const frame = Number(e.target.value);
    if (e.target.value !== "" && Number.isInteger(frame)) seek(frame);
    e.target.value = String(app.frame);
  });
  byId("recording").addEventListener("change", (e) => open(e.target.value).catch((error) => toast(error.message)));
  window.addEventListener("hashchange", () => {
    const { name, frame } = wanted();
    if (!app.recordings.some((r) => r.name === name)) toast(`There is no recording ${name}.`);
    else if (name !== app.rec.name) open(name, frame ?? 0).catch((error) => toast(error.message));
    else if (frame !== null) seek(frame);
  });
  window.addEventListener("beforeunload", (event) => {
    if (app.labels.pending.length) event.preventDefault();
  });
  for (const [name, key, action] of JUMPS) {
    const button = (mark, forward) =>
      element("button", { type: "button", title: forward ? key : `Shift+${key}`, ariaLabel: `${forward ? "Next" : "Previous"} ${name}`, onclick: () => action(forward) }, mark);
    byId("jumps").append(element("span", { className: "jump" }, button("◂", false), element("span", {}, name), button("▸", true)));
  }
  on("seek", () => {
    byId("frame").value = String(app.frame);
    byId("clock").textContent = `of ${app.rec.frames} · ${timeText(app.arrays.seconds[app.frame])}`;
    remember();
  });
  on("playing", () => {
    byId("play").textContent = app.playing ? "❚❚ Stop" : "▶ Play";
    byId("play").setAttribute("aria-label", app.playing ? "Stop" : "Play");
  });
  on("labels saved", showSaved);
  on("lost", () => toast("A frame could not be read; trying again."));
  listen();
}

async function begin() {
  setTheme(localStorage.getItem("theme"));
  await list();
  app.labels = new Labels(await getJson("/api/keyframes"));
  buildPanel();
  connect();
  const { name, frame } = wanted();
  const known = app.recordings.some((r) => r.name === name);
  if (name && !known) toast(`There is no recording ${name}.`);
  await open(known ? name : app.recordings[0].name, frame ?? 0);
  showSaved();
  redraw();
  pulse();
}

begin().catch((error) => {
  const banner = byId("banner");
  banner.hidden = false;
  banner.textContent = `The page could not be opened: ${error.message}`;
});
