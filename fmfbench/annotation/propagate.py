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

__all__ = ["box_between", "boxes_at", "coarse_masks"]


def box_between(keyframes: Sequence[Keyframe], frame: int) -> Box:
    """The box that propagation puts on `frame`."""
    x0, y0, x1, y1 = _interpolate(keyframes, np.array([frame], np.int64))[0].tolist()
    return x0, y0, x1, y1


def boxes_at(track: Track, frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """The track's boxes (n, 4) on `frames` (n,), in the pixels it was drawn in; NaN outside the event."""
    boxes = _interpolate(track.keyframes, frames)
    boxes[(frames < track.onset) | (frames > track.offset)] = np.nan
    return boxes


def coarse_masks(
    tracks: Iterable[Track], start: int, stop: int, shape: tuple[int, int], view: tuple[int, int, int, int]
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
    height, width = shape
    left, top, view_width, view_height = view
    masks = np.zeros((stop - start, height, width), bool)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for track in tracks:
        first, last = max(start, track.onset), min(stop, track.offset + 1)
        if first >= last:
            continue
        x0, y0, x1, y1 = boxes_at(track, np.arange(first, last, dtype=np.int64)).T[:, :, None]
        x0, x1 = (x0 - left) * width / view_width, (x1 - left) * width / view_width
        y0, y1 = (y0 - top) * height / view_height, (y1 - top) * height / view_height
        rows, columns = (y0 <= y) & (y < y1), (x0 <= x) & (x < x1)
        masks[first - start : last - start] |= rows[:, :, None] & columns[:, None, :]
    return masks.view(np.uint8)


def _interpolate(keyframes: Sequence[Keyframe], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    at = np.array([keyframe.frame for keyframe in keyframes], np.int64)
    drawn = np.array([keyframe.box for keyframe in keyframes], np.float64)
    before = np.clip(np.searchsorted(at, frames, side="right") - 1, 0, len(at) - 1)
    after = np.minimum(before + 1, len(at) - 1)
    gap = np.maximum(at[after] - at[before], 1)
    progress = np.clip((frames - at[before]) / gap, 0, 1)[:, None]  # 0 where the box is held
    return np.asarray(drawn[before] + (drawn[after] - drawn[before]) * progress)
