// Events and their boxes as plain values: each function gives a new track and leaves the old one alone.
// A track is { id, onset, apex?, offset, keyframes: [{ frame, box: [x0, y0, x1, y1] }] }, as in keyframes.json.

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The box that propagation puts on a frame, inside the event or not; null without keyframes. As
 * fmfbench.annotation.propagate.box_between does it, to the last bit. */
export function boxAt(track, frame) {
  const drawn = track.keyframes;
  if (!drawn.length) return null;
  let before = 0;
  while (before + 1 < drawn.length && drawn[before + 1].frame <= frame) before++;
  const after = Math.min(before + 1, drawn.length - 1);
  const gap = Math.max(drawn[after].frame - drawn[before].frame, 1);
  const progress = clamp((frame - drawn[before].frame) / gap, 0, 1);
  return drawn[before].box.map((value, k) => value + (drawn[after].box[k] - value) * progress);
}

export const isIn = (track, frame) => track.onset <= frame && frame <= track.offset;
export const keyframeAt = (track, frame) => track.keyframes.find((k) => k.frame === frame) ?? null;

/** A box within the frame, at least `least` wide and high, in pixels of size [W, H]. */
export function tidyBox(box, size, least) {
  let [x0, y0, x1, y1] = box;
  if (x1 < x0) [x0, x1] = [x1, x0];
  if (y1 < y0) [y0, y1] = [y1, y0];
  x0 = clamp(x0, 0, size[0] - least[0]);
  y0 = clamp(y0, 0, size[1] - least[1]);
  return [x0, y0, clamp(x1, x0 + least[0], size[0]), clamp(y1, y0 + least[1], size[1])];
}

/** Shift a box as far as the frame allows. */
export function moveBox(box, dx, dy, size) {
  const x = clamp(dx, -box[0], size[0] - box[2]);
  const y = clamp(dy, -box[1], size[1] - box[3]);
  return [box[0] + x, box[1] + y, box[2] + x, box[3] + y];
}

/** Put a box on a frame; the event grows to hold it. */
export function withBox(track, frame, box) {
  const keyframes = track.keyframes.filter((k) => k.frame !== frame);
  keyframes.push({ frame, box });
  keyframes.sort((a, b) => a.frame - b.frame);
  return {
    ...track,
    onset: Math.min(track.onset, frame),
    offset: Math.max(track.offset, frame),
    keyframes,
  };
}

/** Without the keyframe on a frame; null where it was the last that the event has. */
export function withoutBox(track, frame) {
  const keyframes = track.keyframes.filter((k) => k.frame !== frame);
  if (!keyframes.some((k) => isIn(track, k.frame))) return null;
  return { ...track, keyframes };
}

/** Begin or end the event at a frame. Where no keyframe is left inside, the propagated box is set at the end moved. */
export function withEnd(track, end, frame) {
  const moved = { ...track, [end]: frame };
  if (moved.onset > moved.offset) moved[end === "onset" ? "offset" : "onset"] = frame;
  if (moved.apex != null && !isIn(moved, moved.apex)) delete moved.apex;
  if (moved.keyframes.length && !moved.keyframes.some((k) => isIn(moved, k.frame))) {
    return withBox(moved, frame, boxAt(track, frame));
  }
  return moved;
}

/** The apex at a frame of the event, or none. */
export function withApex(track, frame) {
  const { apex, ...rest } = track;
  if (frame === null) return rest;
  const { id, onset, offset, keyframes } = withEnds(rest, frame);
  return { id, onset, apex: frame, offset, keyframes };
}

function withEnds(track, frame) {
  return { ...track, onset: Math.min(track.onset, frame), offset: Math.max(track.offset, frame) };
}

/** An id that no track has. */
export function freeId(tracks) {
  const taken = new Set((tracks ?? []).map((t) => String(t.id)));
  let id = 0;
  while (taken.has(String(id))) id++;
  return id;
}

/** Which mask pixels boxes cover: pixel (r, c) iff its centre is in [x0, x1) x [y0, y1), in stored pixels. */
export function coarseMask(tracks, frame, size, width, height) {
  const mask = new Uint8Array(width * height);
  for (const track of tracks) {
    if (!isIn(track, frame)) continue;
    const box = boxAt(track, frame);
    if (!box) continue;
    const [x0, x1] = [box[0], box[2]].map((v) => (v * width) / size[0]);
    const [y0, y1] = [box[1], box[3]].map((v) => (v * height) / size[1]);
    for (let r = 0; r < height; r++) {
      if (!(y0 <= r + 0.5 && r + 0.5 < y1)) continue;
      for (let c = 0; c < width; c++) if (x0 <= c + 0.5 && c + 0.5 < x1) mask[r * width + c] = 1;
    }
  }
  return mask;
}
