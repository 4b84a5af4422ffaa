"""From boxes on a few frames to a coarse mask of every frame (section IV-A of the paper, step iii).

Between two keyframes of a track the box moves linearly, each coordinate on its own; before the first and
after the last it is held; outside [onset, offset] there is none. Pixel (r, c) is abnormal iff its centre (c
+ 0.5, r + 0.5) lies in [x0, x1) x [y0, y1) of some track.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fmfbench.annotation.keyframes import Box, Keyframe, Track

__all__ = ["View", "box_between", "box_masks", "boxes_at", "coarse_masks", "stored_boxes"]

View = tuple[int, int, int, int]  # x, y, width, height


def box_between(keyframes: Sequence[Keyframe], frame: int) -> Box:
    """The box that propagation puts on `frame`."""
    x0, y0, x1, y1 = _interpolate(keyframes, np.array([frame], np.int64))[0].tolist()
    return x0, y0, x1, y1


def boxes_at(track: Track, frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """The track's boxes (n, 4) on `frames` (n,), in the pixels it was drawn in; NaN outside the event."""
    if not track.keyframes:
        return np.full((len(frames), 4), np.nan)
    boxes = _interpolate(track.keyframes, frames)
    boxes[(frames < track.onset) | (frames > track.offset)] = np.nan
    return boxes


def coarse_masks(
    tracks: Iterable[Track], start: int, stop: int, shape: tuple[int, int], view: View
) -> NDArray[np.uint8]:
    """The union of the tracks' boxes on frames [start, stop).

    Args:
        tracks: the events of one recording.
        start, stop: which frames.
        shape: (H, W) of the masks.
        view: x, y, width, height of the part of the drawn-on frame that the masks show, scaled to `shape`.

    Returns:
        (stop - start, H, W) uint8 of 0 and 1.
    """
    masks = np.zeros((stop - start, *shape), bool)
    for track in tracks:
        first, last = max(start, track.onset), min(stop, track.offset + 1)
        if first >= last:
            continue
        boxes = stored_boxes(track, np.arange(first, last, dtype=np.int64), shape, view)
        masks[first - start : last - start] |= box_masks(boxes, shape)
    return masks.view(np.uint8)


def stored_boxes(
    track: Track, frames: NDArray[np.int64], shape: tuple[int, int], view: View
) -> NDArray[np.float64]:
    """The track's boxes (n, 4) on `frames` (n,), in stored pixels; NaN outside the event.

    Args:
        shape, view: as in `coarse_masks`.
    """
    height, width = shape
    left, top, view_width, view_height = view
    x0, y0, x1, y1 = boxes_at(track, frames).T
    x0, x1 = (x0 - left) * width / view_width, (x1 - left) * width / view_width
    y0, y1 = (y0 - top) * height / view_height, (y1 - top) * height / view_height
    return np.stack([x0, y0, x1, y1], axis=1)


def box_masks(boxes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (n, H, W) whose centres lie in the boxes (n, 4), in pixels of `shape` (H, W); none of a NaN box."""
    height, width = shape
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    x0, y0, x1, y1 = boxes.T[:, :, None]
    rows, columns = (y0 <= y) & (y < y1), (x0 <= x) & (x < x1)
    return np.asarray(rows[:, :, None] & columns[:, None, :])


def _interpolate(keyframes: Sequence[Keyframe], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    at = np.array([keyframe.frame for keyframe in keyframes], np.int64)
    drawn = np.array([keyframe.box for keyframe in keyframes], np.float64)
    before = np.clip(np.searchsorted(at, frames, side="right") - 1, 0, len(at) - 1)
    after = np.minimum(before + 1, len(at) - 1)
    gap = np.maximum(at[after] - at[before], 1)
    progress = np.clip((frames - at[before]) / gap, 0, 1)[:, None]  # 0 where the box is held
    return np.asarray(drawn[before] + (drawn[after] - drawn[before]) * progress)
