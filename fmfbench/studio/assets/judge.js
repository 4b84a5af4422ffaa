// Where to look: events, errors, the worst windows, and where two models disagree.

import { app } from "./app.js";
import { runs } from "./drawing.js";
import { mainPrediction, predictions } from "./layers.js";

const APART_SECONDS = 2;
const WORST = 20;
let worstOf = { key: null, found: [] };

/** First frames of events: of the draft where it has any, else of the class labels. */
export function eventStarts() {
  const drawn = app.labels.tracks(app.rec.name) ?? [];
  if (drawn.length) return [...new Set(drawn.map((t) => t.onset))].sort((a, b) => a - b);
  return runs(app.arrays.class_label, (v) => v === 1).map(([start]) => start);
}

/** First frames of stretches that a prediction judges wrongly. */
export function errorStarts() {
  const main = mainPrediction();
  if (!main) return [];
  const { class_label: label } = app.arrays;
  const decided = app.arrays[`pred_${main.index}`];
  return runs(decided, (v, i) => v !== 255 && label[i] !== 255 && v !== label[i]).map(([start]) => start);
}

export function disagreements() {
  const [a, b] = predictions()
    .filter((p) => p.on)
    .map((p) => app.arrays[`pred_${p.index}`]);
  return a && b ? runs(a, (v, i) => v !== 255 && b[i] !== 255 && v !== b[i]).map(([start]) => start) : [];
}

/** The samples whose score is furthest from their label, at least two seconds apart, worst first. */
export function worstWindows() {
  const main = mainPrediction();
  if (!main?.prediction.has_score) return [];
  const key = `${app.rec.name} ${main.index} ${app.facts.version}`;
  if (worstOf.key === key) return worstOf.found;
  const { class_label: label, seconds } = app.arrays;
  const score = app.arrays[`score_${main.index}`];
  const wrong = [];
  for (let i = 0; i < score.length; i++) {
    if (label[i] !== 255 && !Number.isNaN(score[i])) wrong.push([Math.abs(score[i] - label[i]), i]);
  }
  wrong.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  const found = [];
  for (const [distance, frame] of wrong) {
    if (found.length === WORST || distance === 0) break;
    if (found.every((f) => Math.abs(seconds[f.frame] - seconds[frame]) >= APART_SECONDS)) {
      found.push({ frame, score: score[frame], label: label[frame] });
    }
  }
  worstOf = { key, found };
  return found;
}

/** "miss", "false alarm" or "right"; null where there is no label or no prediction. */
export function verdict(index, frame) {
  const label = app.arrays.class_label[frame];
  const decided = app.arrays[`pred_${index}`][frame];
  if (label === 255 || decided === 255) return null;
  if (label === decided) return "right";
  return label === 1 ? "miss" : "false alarm";
}

/** The place after (or before) a frame in ascending places, around the end. */
export function neighbour(places, frame, forward) {
  if (!places.length) return null;
  if (forward) return places.find((p) => p > frame) ?? places[0];
  return places.findLast((p) => p < frame) ?? places[places.length - 1];
}
