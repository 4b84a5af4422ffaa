// Everything by keyboard: one table for what the keys do and for the page that explains them.

import { app, emit, selectedTrack } from "./app.js";
import { show } from "./dialogs.js";
import { element } from "./drawing.js";
import * as divide from "./divide.js";
import * as edits from "./edits.js";
import * as judge from "./judge.js";
import { predictions, toggle } from "./layers.js";
import { zoom, zoomAll } from "./lanes.js";
import { toggleFill } from "./panel.js";
import { play, seek } from "./player.js";
import { toast } from "./app.js";

function jump(places, forward, what) {
  const found = judge.neighbour(places, app.frame, forward);
  if (found === null) toast(`No ${what} here.`);
  else seek(found);
}

let worstPlace = -1;
function worst(forward) {
  const found = judge.worstWindows();
  if (!found.length) {
    toast("No scores to order windows by.");
    return;
  }
  worstPlace = (worstPlace + (forward ? 1 : -1) + found.length) % found.length;
  seek(found[worstPlace].frame);
}

export const JUMPS = [
  ["event", "E", (forward) => jump(judge.eventStarts(), forward, "event")],
  ["error", "X", (forward) => jump(judge.errorStarts(), forward, "error of a prediction")],
  ["worst window", "V", worst],
  ["disagreement", "C", (forward) => jump(judge.disagreements(), forward, "disagreement of two predictions")],
];

const second = () => Math.round(1 / app.period);
const step = (frames) => () => {
  play(false);
  seek(app.frame + frames());
};
const keyframe = (forward) => () => {
  const frames = edits.keyframesOfSelected();
  if (frames.length) seek(judge.neighbour(frames, app.frame, forward));
};

// [keys shown, matches(event), what it does, run(event)]
const plain = (key) => (e) => e.key === key && !e.shiftKey;
const shifted = (key) => (e) => e.key === key && e.shiftKey;
const letter = (key) => (e) => e.key.toLowerCase() === key && !e.shiftKey;
const capital = (key) => (e) => e.key.toLowerCase() === key && e.shiftKey;
const GROUPS = [
  [
    "Look",
    [
      ["Space", plain(" "), "play or stop", () => play()],
      ["← →", (e) => plain("ArrowLeft")(e) || plain("ArrowRight")(e), "one frame", (e) => step(() => (e.key === "ArrowLeft" ? -1 : 1))()],
      ["Shift ← →", (e) => shifted("ArrowLeft")(e) || shifted("ArrowRight")(e), "one second", (e) => step(() => (e.key === "ArrowLeft" ? -1 : 1) * second())()],
      ["PageUp PageDown", (e) => e.key === "PageUp" || e.key === "PageDown", "ten seconds back, on", (e) => step(() => (e.key === "PageUp" ? -10 : 10) * second())()],
      ["Home End", (e) => e.key === "Home" || e.key === "End", "first, last frame", (e) => seek(e.key === "Home" ? 0 : app.rec.frames - 1)],
      ...JUMPS.flatMap(([name, key, run]) => [
        [key, letter(key.toLowerCase()), `next ${name}`, () => run(true)],
        [`Shift ${key}`, capital(key.toLowerCase()), `previous ${name}`, () => run(false)],
      ]),
      ["+ −", (e) => ["+", "=", "-"].includes(e.key), "zoom the time axis", (e) => zoom(e.key === "-" ? 2 : 0.5)],
      ["0", plain("0"), "the whole recording", zoomAll],
      ["1 … 9", (e) => /^[1-9]$/.test(e.key), "prediction on or off", (e) => predictions()[Number(e.key) - 1] && toggle(predictions()[Number(e.key) - 1].key)],
      ["B R G", (e) => ["b", "r", "g"].includes(e.key), "boxes, refined masks, margin on or off", (e) => toggle({ b: "boxes", r: "refined", g: "margin" }[e.key])],
      ["F", letter("f"), "fill masks or outline them", toggleFill],
    ],
  ],
  [
    "Label",
    [
      ["N", letter("n"), "new event with a box in the middle", edits.createHere],
      ["Shift N", capital("n"), "new event without a box", edits.createWithoutBox],
      ["T", letter("t"), "select the next event", () => edits.selectTrack(1)],
      ["Shift T", capital("t"), "select the previous event", () => edits.selectTrack(-1)],
      ["W A S D", (e) => !e.shiftKey && !e.altKey && "wasd".includes(e.key) && e.key.length === 1, "move the box by a pixel", (e) => nudge(e.key, "move")],
      ["Shift W A S D", (e) => e.shiftKey && !e.altKey && "WASD".includes(e.key) && e.key.length === 1, "move its right and bottom sides", (e) => nudge(e.key.toLowerCase(), "grow")],
      ["Alt W A S D", (e) => e.altKey && "wasd".includes(e.key.toLowerCase()) && e.key.length === 1, "move its left and top sides", (e) => nudge(e.key.toLowerCase(), "shrink")],
      ["I", letter("i"), "onset here", () => edits.setEnd("onset")],
      ["P", letter("p"), "apex here; again: none", () => edits.setApex()],
      ["O", letter("o"), "offset here", () => edits.setEnd("offset")],
      ["K", letter("k"), "make the box of this frame a keyframe", edits.setKeyframe],
      [", .", (e) => e.key === "," || e.key === ".", "previous, next keyframe", (e) => keyframe(e.key === ".")()],
      ["Delete", (e) => (e.key === "Delete" || e.key === "Backspace") && !e.shiftKey, "remove the keyframe", edits.removeKeyframe],
      ["Shift Delete", (e) => (e.key === "Delete" || e.key === "Backspace") && e.shiftKey, "delete the event", edits.deleteTrack],
      ["Escape", plain("Escape"), "select no event", () => { app.selected = null; emit("labels"); }],
    ],
  ],
  [
    "Divide",
    [
      ["J", letter("j"), "a test stretch begins here", () => divide.setEdge("start")],
      ["L", letter("l"), "the test stretch ends here", () => divide.setEdge("stop")],
      ["U", letter("u"), "remove the test stretch that is here", divide.removeHere],
    ],
  ],
];
const WITH_CONTROL = [
  ["Ctrl Z", (e) => e.key.toLowerCase() === "z" && !e.shiftKey, "undo", () => edits.undo()],
  ["Ctrl Shift Z", (e) => (e.key.toLowerCase() === "z" && e.shiftKey) || e.key.toLowerCase() === "y", "redo", () => edits.undo(true)],
];
const DIRECTIONS = { w: [0, -1], a: [-1, 0], s: [0, 1], d: [1, 0] };

function nudge(key, how) {
  if (!selectedTrack()) {
    toast("Select an event first: T takes the next, N makes a new one.");
    return;
  }
  const [x, y] = DIRECTIONS[key];
  edits.nudge(how === "move" ? [x, y, x, y] : how === "grow" ? [0, 0, x, y] : [x, y, 0, 0]);
}

export function showHelp() {
  const tables = [...GROUPS, ["Anywhere", [...WITH_CONTROL, ["?", null, "these keys"]]]].map(([title, rows]) => {
    const table = element("table", {});
    for (const [keys, , text] of rows) {
      const cell = element("td", {});
      keys.split(" ").forEach((key, k) => cell.append(k ? " " : "", element("kbd", {}, key)));
      table.append(element("tr", {}, cell, element("td", {}, text)));
    }
    return element("div", {}, element("h3", {}, title), table);
  });
  const mouse = element(
    "p",
    { className: "quiet" },
    "On the frame: drag to draw a box, drag a box to move it, its handles to resize; Alt for parts of a pixel. " +
      "On the time axis: drag to seek, wheel to zoom, Shift and drag to shift it.",
  );
  show("Keys", element("div", { className: "help", tabIndex: 0 }, ...tables), mouse);
}

export function listen() {
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (!app.rec || document.querySelector("dialog[open]")) return;
    const typing = at instanceof HTMLInputElement && !["checkbox", "button"].includes(at.type);
    if (typing || at instanceof HTMLSelectElement) return;
    if (at instanceof HTMLElement && /^(BUTTON|A|INPUT)$/.test(at.tagName) && [" ", "Enter"].includes(event.key)) return;
    if (event.key === "?") {
      showHelp();
      event.preventDefault();
      return;
    }
    const control = event.ctrlKey || event.metaKey;
    const table = control ? WITH_CONTROL : GROUPS.flatMap(([, rows]) => rows);
    const found = table.find(([, matches]) => matches(event));
    if (!found || (event.altKey && !found[0].startsWith("Alt")) || !app.rec.frames) return;
    event.preventDefault();
    found[3](event);
  });
}
