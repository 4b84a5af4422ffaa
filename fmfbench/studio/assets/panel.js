// The side panel: what is drawn over the frame, what is true here, the events and their keyframes, files.

import { app, clockText, emit, LABELS, on, selectedTrack, SPLITS, timeText, toast } from "./app.js";
import { form } from "./dialogs.js";
import { divisionContent } from "./divide.js";
import { colour, element } from "./drawing.js";
import * as edits from "./edits.js";
import { verdict, worstWindows } from "./judge.js";
import { colourOf, mainPrediction, predictions, toggle } from "./layers.js";
import { exportFiles, importFiles } from "./files.js";
import { getBytes, path, postJson } from "./net.js";
import { seek } from "./player.js";
import { boxAt, isIn, keyframeAt } from "./tracks.js";

const panel = document.getElementById("panel");
const parts = {};

function part(name, title) {
  const body = element("div", { className: "body" });
  parts[name] = body;
  panel.append(element("section", { className: "part", id: `part-${name}` }, element("h2", {}, title), body));
}

export function buildPanel() {
  panel.replaceChildren();
  part("here", "This frame");
  part("layers", "Drawn over it");
  part("events", "Events");
  part("event", "Selected event");
  part("files", "Labels into the store");
  part("divide", "Train and test");
  part("worst", "Worst windows");
}

export function drawAll() {
  drawHere();
  drawLayers();
  drawWorst();
  drawEvents();
  drawEvent();
  drawFiles();
  drawDivide();
}

const drawDivide = () => app.facts && keepFocus(parts.divide, divisionContent());

function drawHere() {
  if (!app.rec?.frames || app.shown < 0) {
    parts.here?.replaceChildren(element("p", { className: "quiet" }, "no frames"));
    return;
  }
  const { seconds, class_label: label, split, current, current_seconds: at, visibility } = app.arrays;
  const f = app.shown;
  const rows = [
    ["time", timeText(seconds[f])],
    ["label", LABELS[label[f]]],
    ["split", SPLITS[split[f]]],
    ["sample id", String(app.rec.first_id + f)],
  ];
  if (at.length) {
    let row = 0;
    let high = at.length;
    while (row < high) {
      const middle = (row + high) >> 1;
      if (at[middle] <= seconds[f]) row = middle + 1;
      else high = middle;
    }
    const values = row ? [0, 1, 2].map((p) => current[3 * (row - 1) + p]) : [];
    const text = values.map((v) => (Number.isNaN(v) ? "none" : (v / 1000).toFixed(2))).join("  ");
    rows.push(["current, kA", text || "none yet"]);
  }
  if (visibility) rows.push(["visibility", visibility[f].toFixed(2)]);
  if (app.rec.jpeg) rows.push(["picture", "JPEG, not exact"]);
  const list = element("dl", {});
  for (const [name, value] of rows) list.append(element("dt", {}, name), element("dd", {}, value));
  parts.here.replaceChildren(list);
}

function drawLayers() {
  const rows = app.layers.map((layer) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colourOf(layer);
    const input = element("input", { type: "checkbox", checked: layer.on, onchange: () => toggle(layer.key) });
    const label = element("label", { className: "layer" }, input, swatch, element("span", { className: "grow" }, layer.title));
    if (layer.kind === "predicted" && app.shown >= 0) {
      const score = layer.prediction.has_score ? app.arrays[`score_${layer.index}`][app.shown] : NaN;
      const found = verdict(layer.index, app.shown);
      label.append(
        element("span", { className: "value" }, Number.isNaN(score) ? "" : score.toFixed(3)),
        element("span", { className: `verdict ${found?.replace(" ", "-") ?? ""}` }, found ?? (Number.isNaN(score) ? "no prediction" : "")),
      );
    }
    const far = layer.kind === "predicted" && layer.prediction.run !== undefined ? progressOf(layer.prediction) : null;
    return far ? element("div", {}, label, far) : label;
  });
  const fill = element("label", { className: "layer" }, element("input", { type: "checkbox", checked: app.fill, onchange: toggleFill }), "fill masks");
  const notes = predictions()
    .filter((p) => p.prediction.note)
    .map((p) => element("p", { className: "note" }, `${p.prediction.file}: ${p.prediction.note}`));
  keepFocus(parts.layers, [...rows, fill, ...notes]);
}

/** How much of the recording a run has judged; null once it is all of it. */
function progressOf({ run, samples }) {
  const { error } = app.runs[run] ?? {};
  if (error) return element("p", { className: "note" }, error);
  if (samples === app.rec.frames) return null;
  const bar = element("progress", { max: app.rec.frames, value: samples, ariaLabel: "judging" });
  return element("div", {}, bar, element("span", { className: "quiet" }, `judging: ${samples} of ${app.rec.frames} frames`));
}

/** Replace what a part holds without losing the place of the keyboard. */
function keepFocus(body, children) {
  const inside = [...body.querySelectorAll("input, button, select")];
  const place = inside.indexOf(document.activeElement);
  body.replaceChildren(...children);
  if (place >= 0) [...body.querySelectorAll("input, button, select")][place]?.focus({ preventScroll: true });
}

export function toggleFill() {
  app.fill = !app.fill;
  emit("layers");
}

function drawWorst() {
  const section = document.getElementById("part-worst");
  const main = mainPrediction();
  section.hidden = !main;
  if (!main) return;
  const rows = worstWindows().slice(0, 8).map(({ frame, score, label }) =>
    element(
      "button",
      { type: "button", className: "item", onclick: () => seek(frame) },
      `${frame}`,
      element("span", { className: "grow quiet" }, clockText(app.arrays.seconds[frame], 1)),
      element("span", { className: "value" }, score.toFixed(3)),
      element("span", {}, LABELS[label]),
    ),
  );
  const text = main.prediction.has_score
    ? `Scores of ${main.title} furthest from the label`
    : `${main.title} has no scores`;
  parts.worst.replaceChildren(element("p", { className: "quiet" }, text), ...rows);
}

function drawEvents() {
  const tracks = app.labels.tracks(app.rec.name);
  const editable = edits.isEditable();
  const rows = (tracks ?? []).map((track, index) => {
    const chosen = index === app.selected;
    const button = element(
      "button",
      {
        type: "button",
        className: "item",
        onclick: () => {
          app.selected = index;
          emit("labels");
          if (!isIn(track, app.frame)) seek(track.onset);
        },
      },
      element("span", {}, `${track.id}`),
      element("span", { className: "grow quiet" }, `frames ${track.onset} to ${track.offset}`),
      element("span", { className: "quiet" }, ["no box", "1 box"][track.keyframes.length] ?? `${track.keyframes.length} boxes`),
    );
    button.setAttribute("aria-pressed", String(chosen));
    return button;
  });
  const content = [];
  if (tracks === null || !tracks.length) {
    const none = editable ? "No events drawn. Drag on the frame, or press N." : "No events drawn.";
    content.push(element("p", { className: "quiet" }, tracks === null ? none : "Labelled as normal throughout."));
  }
  const list = element("div", { className: "list" }, ...rows);
  content.push(list);
  if (editable) {
    const row = element("div", { className: "row" }, element("button", { type: "button", onclick: edits.createHere, title: "N" }, "New event"));
    if (!tracks?.some((track) => track.keyframes.length)) {
      row.append(element("button", { type: "button", onclick: edits.createWithoutBox, title: "Shift+N" }, "Without a box"));
    }
    if (!tracks?.length) {
      const input = element("input", { type: "checkbox", checked: tracks !== null, onchange: (e) => edits.setNormal(e.target.checked) });
      row.append(element("label", { className: "inline" }, input, " no event in this recording"));
    }
    const { labels } = app;
    row.append(
      element("button", { type: "button", title: "Ctrl+Z", disabled: !labels.done.length, onclick: () => edits.undo() }, "Undo"),
      element("button", { type: "button", title: "Ctrl+Shift+Z", disabled: !labels.undone.length, onclick: () => edits.undo(true) }, "Redo"),
    );
    content.push(row);
  }
  const scrolled = parts.events.querySelector(".list")?.scrollTop ?? 0;
  keepFocus(parts.events, content);
  list.scrollTop = scrolled;
  const chosen = rows[app.selected];
  if (chosen && (chosen.offsetTop < list.scrollTop || chosen.offsetTop + chosen.offsetHeight > list.scrollTop + list.clientHeight)) list.scrollTop = chosen.offsetTop - 40;
}

function drawEvent() {
  const track = selectedTrack();
  document.getElementById("part-event").hidden = !track;
  if (!track) return;
  const editable = edits.isEditable();
  const frame = app.frame;
  const field = (name, value, change, attributes = {}) => {
    const input = element("input", { type: "number", value: value ?? "", disabled: !editable, step: 1, min: 0, ...attributes });
    input.addEventListener("change", () => change(input.value === "" ? null : Number(input.value)));
    return element("label", { className: "field" }, name, input);
  };
  const whole = (run) => (value) => {
    if (value !== null && Number.isInteger(value) && value >= 0 && value < app.rec.frames) run(value);
    else {
      toast(`Expected a whole frame from 0 to ${app.rec.frames - 1}.`);
      drawEvent();
    }
  };
  const ends = element(
    "div",
    { className: "fields" },
    field("onset", track.onset, whole((v) => edits.setEnd("onset", v))),
    field("apex", track.apex, (v) => (v === null ? edits.setApex(null) : whole((w) => edits.setApex(w))(v))),
    field("offset", track.offset, whole((v) => edits.setEnd("offset", v))),
  );
  const content = [ends];
  const box = isIn(track, frame) || keyframeAt(track, frame) ? boxAt(track, frame) : null;
  if (box) {
    const names = ["left", "top", "right", "bottom"];
    content.push(
      element(
        "div",
        { className: "fields" },
        ...box.map((value, k) =>
          field(names[k], Math.round(value * 100) / 100, (v) => v !== null && edits.setBox(box.map((old, j) => (j === k ? v : old))), { step: 0.5 }),
        ),
      ),
    );
  } else if (track.keyframes.length) {
    content.push(element("p", { className: "quiet" }, "This frame lies outside the event; a box drawn here extends it."));
  }
  if (editable) {
    const button = (text, key, run, disabled = false) => element("button", { type: "button", title: key, onclick: run, disabled }, text);
    content.push(
      element(
        "div",
        { className: "row" },
        button("Onset here", "I", () => edits.setEnd("onset")),
        button("Apex here", "P", () => edits.setApex()),
        button("Offset here", "O", () => edits.setEnd("offset")),
      ),
      element(
        "div",
        { className: "row" },
        button("Keyframe here", "K", edits.setKeyframe, !box || keyframeAt(track, frame) !== null),
        button("Remove keyframe", "Delete", edits.removeKeyframe, keyframeAt(track, frame) === null),
        button("Delete event", "Shift+Delete", edits.deleteTrack),
      ),
    );
  }
  const strip = element("div", { className: "strip", role: "list", ariaLabel: "Keyframes" });
  for (const keyframe of track.keyframes) strip.append(thumbnail(track, keyframe));
  if (track.keyframes.length) content.push(strip);
  const scrolled = parts.event.querySelector(".strip")?.scrollLeft ?? 0;
  keepFocus(parts.event, content);
  strip.scrollLeft = scrolled;
}

const pictures = new Map(); // "recording frame" -> canvas pixels, for the strip

function thumbnail(track, { frame, box }) {
  const { name, width, height } = app.rec;
  const canvas = element("canvas", { width, height });
  const button = element("button", { type: "button", onclick: () => seek(frame), ariaLabel: `Keyframe at frame ${frame}` }, canvas, element("span", {}, String(frame)));
  button.setAttribute("aria-current", String(frame === app.frame));
  const draw = (image) => {
    const c = canvas.getContext("2d");
    c.putImageData(image, 0, 0);
    const [x, y] = [width / app.labels.size[0], height / app.labels.size[1]];
    c.strokeStyle = colour("box");
    c.lineWidth = Math.max(1, width / 64);
    c.strokeRect(box[0] * x, box[1] * y, (box[2] - box[0]) * x, (box[3] - box[1]) * y);
  };
  const key = `${name} ${frame}`;
  if (pictures.has(key)) draw(pictures.get(key));
  else {
    getBytes(`${path("frames", name)}?start=${frame}&stop=${frame + 1}`)
      .then((bytes) => {
        const rgb = new Uint8Array(bytes);
        const image = new ImageData(width, height);
        for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) image.data.set([rgb[i], rgb[i + 1], rgb[i + 2], 255], j);
        pictures.set(key, image);
        if (pictures.size > 200) pictures.delete(pictures.keys().next().value);
        draw(image);
      })
      .catch(() => {});
  }
  return element("div", { role: "listitem" }, button);
}

function drawFiles() {
  const editable = edits.isEditable();
  const { state, done, total, error, written } = app.apply;
  const content = [];
  if (state === "running") {
    content.push(element("progress", { max: total, value: done, ariaLabel: "annotate" }), element("p", { className: "quiet" }, `annotate: ${done} of ${total} frames`));
  } else if (state === "failed") {
    content.push(element("p", { className: "note" }, error));
  } else if (state === "done") {
    content.push(element("p", { className: "quiet" }, written.length ? `wrote ${written.join(", ")}` : "these layers were there already"));
  }
  const row = element("div", { className: "row" });
  if (editable) {
    row.append(
      element("button", { type: "button", onclick: applyLabels, disabled: state === "running" }, "Apply…"),
      element("button", { type: "button", onclick: importFiles }, "Import…"),
    );
  }
  row.append(element("button", { type: "button", onclick: exportFiles }, "Export…"));
  content.push(row);
  if (editable) content.push(radiusField());
  const file = editable ? `Saved as drawn, in ${app.labels.file}. Apply propagates and refines the boxes into layers of the store.` : "Opened read-only.";
  content.push(element("p", { className: "quiet" }, file));
  keepFocus(parts.files, content);
}

const RADII = [["box/3", "tight: a third of the box"], ["box/2", "loose: a half of the box"]];

/** How large the refining window is: boxes that were drawn loosely are refined better with a larger one. */
function radiusField() {
  const change = (e) => {
    app.radius = e.target.value;
    emit("radius");
  };
  const select = element("select", { onchange: change }, ...RADII.map(([value, words]) => element("option", { value }, words)));
  select.value = app.radius;
  return element("label", { className: "field" }, "boxes are drawn", select);
}

function freeLayer(base) {
  const taken = new Set(app.recordings.flatMap((r) => r.layers));
  let name = base;
  for (let k = 2; taken.has(name); k++) name = `${base}-${k}`;
  return name;
}

async function applyLabels() {
  const labelled = app.recordings.filter((r) => app.labels.tracks(r.name) !== null);
  if (!labelled.length) {
    toast("Nothing is labelled yet.");
    return;
  }
  const text = (name, value) => {
    const input = element("input", { type: "text", value, spellcheck: false });
    return [input, element("label", { className: "field" }, name, input)];
  };
  const [boxes, boxesField] = text("layer of boxes", freeLayer("boxes"));
  const [refined, refinedField] = text("layer of refined masks", freeLayer("refined"));
  const box = (label, checked) => {
    const input = element("input", { type: "checkbox", checked });
    return [input, element("label", { className: "layer" }, input, label)];
  };
  const [asDefault, defaultField] = box("labels to train and score against", true);
  const [margin, marginField] = box("keep the vote's margin too", false);
  const names = labelled.map((r) => `${r.name} (${app.labels.tracks(r.name).length} events)`).join(", ");
  const others = app.recordings.length - labelled.length;
  const rest = others ? ` ${others} recordings without labels here get no layer; as the default layer moves, they become unlabelled.` : "";
  const content = [element("p", {}, `Recordings: ${names}.${rest}`), element("div", { className: "fields wide" }, boxesField, refinedField), defaultField, marginField];
  if ((await form("Apply: boxes into pixel labels", content, [["go", "Apply"]])) !== "go") return;
  try {
    app.apply = await postJson("/api/apply", { boxes: boxes.value, refined: refined.value, radius: app.radius, as_default: asDefault.checked, margin: margin.checked });
  } catch (error) {
    app.apply = { state: "failed", error: error.message };
  }
  drawFiles();
}

let waiting = false;
on("frame", () => {
  if (app.playing || waiting) return; // the panel follows when the video stands, once for many seeks
  waiting = true;
  setTimeout(() => {
    waiting = false;
    drawHere();
    drawLayers();
    drawEvent();
  }, 40);
});
on("playing", () => !app.playing && drawAll());
on("labels", () => {
  drawEvents();
  drawEvent();
  drawFiles();
});
on("layers theme", () => {
  drawLayers();
  drawWorst();
});
on("apply", drawFiles);
on("division", drawDivide);
