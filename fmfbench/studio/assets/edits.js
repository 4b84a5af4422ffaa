// What a person does to the draft, each as one step that undo takes back.

import { app, emit, toast } from "./app.js";
import { boxAt, freeId, keyframeAt, moveBox, tidyBox, withApex, withBox, withEnd, withoutBox } from "./tracks.js";

export const isEditable = () => app.about && !app.about.read_only;
const tracksNow = () => app.labels.tracks(app.rec.name) ?? [];

function commit(tracks, selected = app.selected) {
  app.selected = selected;
  app.labels.edit(app.rec.name, tracks);
}

/** Change the selected track; `change` gives the new one, or null to refuse. */
export function editTrack(change) {
  if (!isEditable()) return;
  const tracks = tracksNow();
  const track = app.selected === null ? null : tracks[app.selected];
  if (!track) {
    toast("Select an event first: T takes the next, N makes a new one.");
    return;
  }
  const changed = change(track);
  if (changed) commit(tracks.map((one, k) => (k === app.selected ? changed : one)));
}

/** A new event with a box on a frame. */
export function createTrack(frame, box) {
  if (!isEditable()) return;
  const tracks = tracksNow();
  const track = { id: freeId(tracks), onset: frame, offset: frame, keyframes: [{ frame, box }] };
  commit([...tracks, track], tracks.length);
}

/** A new event at this frame with a box in the middle, for the keyboard. */
export function createHere() {
  const [w, h] = app.labels.size;
  const side = (length, stored) => (Math.max(1, Math.round(stored / 4)) * length) / stored;
  const [bw, bh] = [side(w, app.rec.width), side(h, app.rec.height)];
  const x = (Math.floor((app.rec.width - (bw * app.rec.width) / w) / 2) * w) / app.rec.width;
  const y = (Math.floor((app.rec.height - (bh * app.rec.height) / h) / 2) * h) / app.rec.height;
  createTrack(app.frame, [x, y, x + bw, y + bh]);
}

/** A new event at this frame of which nobody says where it is. */
export function createWithoutBox() {
  const tracks = tracksNow();
  if (tracks.some((track) => track.keyframes.length)) {
    toast("The events of this recording have boxes; those without go into recordings of their own.");
    return;
  }
  if (!isEditable()) return;
  const { frame } = app;
  commit([...tracks, { id: freeId(tracks), onset: frame, offset: frame, keyframes: [] }], tracks.length);
}

/** Move or resize the box of this frame by stored pixels: dx, dy of the left top, rx, by of the right bottom. */
export function nudge([left, top, right, bottom]) {
  editTrack((track) => {
    const { size } = app.labels;
    const step = [size[0] / app.rec.width, size[1] / app.rec.height];
    const box = boxAt(track, app.frame);
    if (!box) return null;
    if (left === right && top === bottom) {
      return withBox(track, app.frame, moveBox(box, left * step[0], top * step[1], size));
    }
    const sides = [left * step[0], top * step[1], right * step[0], bottom * step[1]];
    const moved = box.map((value, k) => value + sides[k]);
    if (moved[2] - moved[0] < step[0] - 1e-9 || moved[3] - moved[1] < step[1] - 1e-9) return null;
    return withBox(track, app.frame, tidyBox(moved, size, step));
  });
}

export function setBox(box) {
  const { size } = app.labels;
  const least = [size[0] / app.rec.width, size[1] / app.rec.height];
  editTrack((track) => withBox(track, app.frame, tidyBox(box, size, least)));
}

export const setEnd = (end, frame = app.frame) => editTrack((track) => withEnd(track, end, frame));
export const setApex = (frame = app.frame) =>
  editTrack((track) => withApex(track, frame !== null && track.apex === frame ? null : frame));

/** Make the propagated box of this frame a keyframe. */
export const setKeyframe = () =>
  editTrack((track) => {
    const box = boxAt(track, app.frame);
    return box ? withBox(track, app.frame, box) : null;
  });

export function removeKeyframe() {
  editTrack((track) => {
    if (!keyframeAt(track, app.frame)) {
      toast("No keyframe on this frame; Shift+Delete deletes the whole event.");
      return null;
    }
    const changed = withoutBox(track, app.frame);
    if (!changed) toast("The last keyframe of an event stays; Shift+Delete deletes the event.");
    return changed;
  });
}

export function deleteTrack() {
  if (!isEditable() || app.selected === null) return;
  const left = tracksNow().filter((_, k) => k !== app.selected);
  commit(left.length ? left : null, null);
}

/** Say that the recording has no event at all, or take that back. */
export function setNormal(on) {
  if (isEditable() && !tracksNow().length) commit(on ? [] : null, null);
}

export function selectTrack(step) {
  const tracks = tracksNow();
  if (!tracks.length) return;
  app.selected = app.selected === null ? (step > 0 ? 0 : tracks.length - 1) : (app.selected + step + tracks.length) % tracks.length;
  emit("labels");
}

export function undo(again = false) {
  if (!isEditable()) return;
  const step = again ? app.labels.redo() : app.labels.undo();
  if (!step) toast(again ? "Nothing to redo." : "Nothing to undo.");
  else if (step.name !== app.rec.name) toast(`${again ? "Redone" : "Undone"} in ${step.name}.`);
  const count = tracksNow().length;
  if (app.selected !== null && app.selected >= count) app.selected = count ? count - 1 : null;
  emit("labels");
}

/** Frames of the selected track's keyframes. */
export const keyframesOfSelected = () => (tracksNow()[app.selected]?.keyframes ?? []).map((k) => k.frame);
