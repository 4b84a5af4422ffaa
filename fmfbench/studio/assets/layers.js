// What can be drawn over the frame: truth, other layers, predictions, and the draft with its refinement.

import { app, emit, on } from "./app.js";
import { Blocks } from "./blocks.js";
import { colour } from "./drawing.js";
import { getBytes, path } from "./net.js";

/** Rebuild the list for the recording that is open; what was on stays on. */
export function listLayers() {
  const before = new Map(app.layers.map((layer) => [layer.key, layer.on]));
  const { name, frames, height, width } = app.rec;
  const blocks = (url) => new Blocks(url, frames, height * width, getBytes);
  const found = [];
  for (const layer of app.facts.layers) {
    const url = (a, b) => `${path("masks", name)}?layer=${encodeURIComponent(layer.name)}&start=${a}&stop=${b}`;
    found.push({
      key: `layer ${layer.name}`,
      kind: "layer",
      title: layer.default ? `${layer.name} (truth)` : layer.name,
      colour: layer.default ? "truth" : "layer",
      on: layer.default,
      blocks: blocks(url),
    });
  }
  app.facts.predictions.forEach((prediction, k) => {
    found.push({
      key: `predicted ${k}`,
      kind: "predicted",
      index: k,
      title: prediction.run === undefined ? prediction.file : `${prediction.file} (run)`,
      colour: `model-${k % 6}`,
      on: true,
      prediction,
      blocks: prediction.has_mask
        ? blocks((a, b) => `${path("predicted", name)}?file=${k}&start=${a}&stop=${b}`)
        : null,
    });
  });
  found.push({ key: "boxes", kind: "boxes", title: "boxes drawn here", colour: "box", on: true });
  found.push({ key: "refined", kind: "refined", title: "refined from them", colour: "refined", on: true });
  found.push({ key: "margin", kind: "margin", title: "margin of the vote, as drawn here", colour: "refined", on: false });
  for (const layer of app.facts.layers.filter((one) => one.margin)) {
    const url = (a) => `${path("margin", name)}?layer=${encodeURIComponent(layer.name)}&frame=${a}`;
    const margins = new Blocks(url, frames, 4 * height * width, getBytes, 1);
    found.push({ key: `margin ${layer.name}`, kind: "margin", title: `margin of ${layer.name}`, colour: "refined", on: false, blocks: margins });
  }
  for (const layer of found) layer.on = before.get(layer.key) ?? layer.on;
  app.layers = found;
}

/** What a run has judged by now: scores, decisions, alarms; masks are asked for anew. */
export function takeVerdicts(index, { facts, arrays }) {
  app.facts.predictions[index] = facts;
  app.arrays[`score_${index}`] = arrays.score;
  app.arrays[`pred_${index}`] = arrays.pred;
  const found = layer(`predicted ${index}`);
  found.prediction = facts;
  found.blocks?.forget();
  app.facts.version++;
}

export const layer = (key) => app.layers.find((one) => one.key === key);
export const predictions = () => app.layers.filter((one) => one.kind === "predicted");
/** The prediction that errors and worst windows are counted of: the first that is on. */
export const mainPrediction = () => predictions().find((one) => one.on) ?? null;

export function toggle(key) {
  const found = layer(key);
  if (!found) return;
  found.on = !found.on;
  emit("layers");
}

export const colourOf = (one) => colour(one.colour);

on("theme", () => emit("layers"));
