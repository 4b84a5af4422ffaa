// A split of one's own: test stretches drawn on a lane, or a share, or whole recordings, saved as `fmfbench split` does.

import { app, clockText, emit, on, toast } from "./app.js";
import { element } from "./drawing.js";
import { isEditable } from "./edits.js";
import { path, postForBytes, postJson, unpack } from "./net.js";
import { seek } from "./player.js";

const RULES = [
  ["at", "stretches of time"],
  ["percent", "the last share of each recording"],
  ["by_recording", "whole recordings"],
];
let dragged = null; // { from, to }, frames
let opened = null; // where J began a stretch that L has not ended

function open() {
  if (app.division) return;
  app.division = { rule: "at", stretches: new Map(), percent: 20, names: new Set(), protocol: "paper", name: freeName(), asDefault: true, codes: null, counts: null, error: null };
  emit("division");
}

function close() {
  app.division = dragged = opened = null;
  emit("division");
}

function freeName() {
  const taken = new Set([app.facts.split, ...app.facts.other_splits]);
  let name = "derived";
  for (let k = 2; taken.has(name); k++) name = `derived-${k}`;
  return name;
}

const stretches = (name = app.rec.name) => app.division.stretches.get(name) ?? [];

/** The test stretches of the open recording with the one that is being dragged: [[first, after the last], ...]. */
export function drawnStretches() {
  if (app.division?.rule !== "at") return [];
  return dragged ? united([...stretches(), range(dragged)]) : stretches();
}

const range = ({ from, to }) => [Math.min(from, to), Math.max(from, to) + 1];

/** Stretches that touch or overlap become one. */
function united(list) {
  const found = [];
  for (const [a, b] of list.toSorted((p, q) => p[0] - q[0])) {
    const last = found.at(-1);
    if (last && a <= last[1]) last[1] = Math.max(last[1], b);
    else found.push([a, b]);
  }
  return found;
}

function setStretches(list) {
  app.division.stretches.set(app.rec.name, united(list));
  changed();
}

export function beginStretch(frame) {
  if (app.division.rule === "at") dragged = { from: frame, to: frame };
}

export function moveStretch(frame) {
  if (!dragged) return;
  dragged.to = frame;
  emit("division");
}

export function endStretch(keep) {
  if (!dragged) return;
  const drawn = range(dragged);
  dragged = null;
  if (keep && drawn[1] - drawn[0] > 1) setStretches([...stretches(), drawn]);
  else emit("division"); // a click seeks
}

/** J and L: where a test stretch begins and ends. */
export function setEdge(which) {
  if (!isEditable()) return;
  open();
  if (app.division.rule !== "at") return;
  if (which === "start") {
    opened = { name: app.rec.name, frame: app.frame };
    toast(`A test stretch begins at frame ${app.frame}; L ends it.`);
  } else if (opened?.name !== app.rec.name) toast("J says where a test stretch begins, L where it ends.");
  else {
    setStretches([...stretches(), range({ from: opened.frame, to: app.frame })]);
    opened = null;
  }
}

export function removeHere() {
  if (app.division?.rule !== "at") return;
  const left = stretches().filter(([a, b]) => !(a <= app.frame && app.frame < b));
  if (left.length === stretches().length) toast("No test stretch here.");
  else setStretches(left);
}

function wish() {
  const { rule, percent, names, protocol } = app.division;
  const at = [...app.division.stretches].flatMap(([name, list]) => list.map(([a, b]) => [name, a, b]));
  return { protocol, ...{ at: { at }, percent: { percent }, by_recording: { by_recording: [...names] } }[rule] };
}

let asked = 0;
async function changed() {
  const division = app.division;
  const number = ++asked;
  const empty = { at: ![...division.stretches.values()].some((list) => list.length), percent: false, by_recording: !division.names.size }[division.rule];
  if (empty) {
    Object.assign(division, { codes: null, counts: null, error: null });
    emit("division");
    return;
  }
  emit("division");
  try {
    const { facts, arrays } = unpack(await postForBytes(path("split", app.rec.name), wish()));
    if (number !== asked || app.division !== division) return;
    Object.assign(division, { codes: arrays.split, counts: facts.counts, guard: facts.guard_seconds, error: null });
  } catch (error) {
    if (number !== asked || app.division !== division) return;
    Object.assign(division, { codes: null, counts: null, error: error.message });
  }
  emit("division");
}

async function save() {
  const { name, asDefault } = app.division;
  try {
    const made = await postJson("/api/split", { ...wish(), name, as_default: asDefault });
    toast(`Split ${made.split} ${made.written.length ? "is written" : "was there already"}; the default is ${made.default_split}.`);
    close();
  } catch (error) {
    app.division.error = error.message;
    emit("division");
  }
}

/** What the panel holds. */
export function divisionContent() {
  const button = (text, run, more = {}) => element("button", { type: "button", onclick: run, ...more }, text);
  const division = app.division;
  if (!division) {
    const others = app.facts.other_splits.length ? ` Beside it: ${app.facts.other_splits.join(", ")}.` : "";
    const content = [element("p", { className: "quiet" }, `Train and test are those of the split ${app.facts.split}.${others}`)];
    if (isEditable()) content.push(element("div", { className: "row" }, button("New split…", open, { title: "J" })));
    return content;
  }
  const choose = (label, value, options, change) => {
    const select = element("select", { onchange: (e) => change(e.target.value) }, ...options.map(([key, text]) => element("option", { value: key }, text)));
    select.value = value;
    return element("label", { className: "field" }, label, select);
  };
  const set = (key) => (value) => {
    division[key] = value;
    changed();
  };
  const content = [choose("test is", division.rule, RULES, set("rule"))];
  if (division.rule === "at") content.push(...stretchRows(button));
  if (division.rule === "percent") {
    const input = element("input", { type: "number", min: 1, max: 99, step: 1, value: division.percent });
    input.addEventListener("change", () => set("percent")(Number(input.value)));
    content.push(element("label", { className: "field" }, "percent", input));
  }
  if (division.rule === "by_recording") content.push(...app.recordings.map(({ name }) => recordingRow(name)));
  else {
    const protocols = ["paper", "official", "short"].map((name) => [name, name]);
    content.push(choose("guards as long as windows reach, of protocol", division.protocol, protocols, set("protocol")));
  }
  if (division.error) content.push(element("p", { className: "note" }, division.error));
  for (const [name, { train, test, unused }] of Object.entries(division.counts ?? {})) {
    content.push(element("p", { className: "value" }, `${name}: train ${train}, test ${test}, unused ${unused}`));
  }
  const name = element("input", { type: "text", value: division.name, spellcheck: false, onchange: (e) => (division.name = e.target.value.trim()) });
  const asDefault = element("input", { type: "checkbox", checked: division.asDefault, onchange: (e) => (division.asDefault = e.target.checked) });
  content.push(
    element("label", { className: "field" }, "name", name),
    element("label", { className: "layer" }, asDefault, "what other commands take"),
    element("div", { className: "row" }, button("Save split", save, { disabled: !division.counts }), button("Cancel", close)),
  );
  return content;
}

function stretchRows(button) {
  const { seconds } = app.arrays;
  const rows = stretches().map(([a, b]) =>
    element(
      "div",
      { className: "row tight" },
      button(`${clockText(seconds[a], 1)} to ${clockText(seconds[b - 1], 1)}`, () => seek(a), { className: "item grow" }),
      button("Remove", () => setStretches(stretches().filter((one) => one[0] !== a)), { ariaLabel: `Remove the test stretch from frame ${a}` }),
    ),
  );
  const hint = "Drag on the lane “split drawn here”, or press J where a test stretch begins and L where it ends.";
  return [element("p", { className: "quiet" }, hint), ...rows];
}

function recordingRow(name) {
  const { names } = app.division;
  const change = (e) => {
    if (e.target.checked) names.add(name);
    else names.delete(name);
    changed();
  };
  return element("label", { className: "layer" }, element("input", { type: "checkbox", checked: names.has(name), onchange: change }), element("span", { className: "grow" }, name));
}

on("opened", () => app.division && changed()); // the lane shows another recording now
