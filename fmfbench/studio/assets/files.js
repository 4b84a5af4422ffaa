// Labels from files of other tools and into them: what `annotate` imports and exports.

import { app, emit, toast } from "./app.js";
import { ask, form, show } from "./dialogs.js";
import { element } from "./drawing.js";
import { path, postFile } from "./net.js";

const isJson = (file) => file.name.toLowerCase().endsWith(".json");

function text(name, hint) {
  const input = element("input", { type: "text", spellcheck: false, placeholder: hint });
  return [input, element("label", { className: "field" }, name, input)];
}

/** Ask for files and what they do not say themselves, read all of them, and take them as one step of each recording. */
export async function importFiles() {
  const files = element("input", { type: "file", accept: ".json,.xml,.zip", multiple: true });
  const names = ["as the file says", ...app.recordings.map((r) => r.name)];
  const recording = element("select", {}, ...names.map((name, k) => element("option", { value: k ? name : "" }, name)));
  const [label, labelField] = text("label", "all");
  const [task, taskField] = text("task of a project", "all");
  const [size, sizeField] = text("size drawn on", "as the file says");
  const untouched = element("input", { type: "checkbox" });
  const content = [
    element("p", {}, "keyframes.json, or CVAT for video 1.1 (XML or zip): one file or several."),
    element("label", { className: "field" }, "files", files),
    element("label", { className: "field" }, "recording that they were drawn on", recording),
    element("p", { className: "quiet" }, "Of a CVAT export:"),
    element("div", { className: "fields" }, labelField, taskField, sizeField),
    element("label", { className: "layer" }, untouched, "tasks that nobody drew on are normal throughout"),
  ];
  if ((await form("Import labels", content, [["go", "Import"]])) !== "go") return;
  if (!files.files.length) {
    toast("No file was chosen.");
    return;
  }
  const query = { recording: recording.value, label: label.value.trim(), task: task.value.trim(), size: size.value.trim(), untouched: untouched.checked ? "normal" : "skip" };
  await take([...files.files], query);
}

async function take(files, query) {
  const found = new Map(); // recording -> { tracks, file }
  const remarks = [];
  for (const file of files) {
    try {
      const own = isJson(file) ? { recording: query.recording } : query;
      const read = await postFile(`/api/read?${new URLSearchParams(own)}`, new Blob([await file.arrayBuffer()]));
      remarks.push(...read.remarks.map((remark) => `${file.name}: ${remark}`));
      for (const [name, tracks] of Object.entries(read.tracks)) {
        if (found.has(name)) throw new Error(`labels of ${name} are in ${found.get(name).file} too; import one of them`);
        found.set(name, { tracks, file: file.name });
      }
    } catch (error) {
      show("Nothing was imported", element("p", {}, `${file.name}: ${error.message}`));
      return;
    }
  }
  if (!found.size) {
    show("Nothing was imported", element("p", {}, "These files name no recording."));
    return;
  }
  const replaced = [...found.keys()].filter((name) => app.labels.tracks(name)?.length);
  if (replaced.length) {
    const words = `Labels of ${replaced.join(", ")} are replaced; undo brings them back.`;
    const choices = [["go", "Replace"], ["no", "Cancel"]];
    if ((await ask("Import", words, choices)) !== "go") return;
  }
  for (const [name, { tracks }] of found) app.labels.edit(name, tracks);
  app.selected = null;
  emit("labels");
  const words = `Imported ${[...found].map(([name, { tracks }]) => `${name}: ${tracks.length} events`).join(", ")}.`;
  if (remarks.length) show("Imported", element("p", {}, words), ...remarks.map((remark) => element("p", {}, remark)));
  else toast(words);
}

export function exportFiles() {
  const { name, layers } = app.rec;
  const link = (href, words) => element("p", {}, element("a", { href, className: "button", download: "" }, words));
  const content = [link("/api/export/keyframes.json", "keyframes.json of all recordings")];
  if (app.labels.tracks(name) !== null) content.push(link(path("export", "cvat", name), "CVAT for video 1.1, the boxes"));
  for (const layer of layers) {
    content.push(link(`${path("export", "coco", name)}?layer=${encodeURIComponent(layer)}`, `COCO, the masks of layer ${layer}`));
  }
  content.push(link(path("export", "video", name), "Video, enlarged, to draw on elsewhere"));
  return show(`Export ${name}`, ...content);
}
