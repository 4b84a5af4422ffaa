"""Refining a frame's boxes one by one, each with a window of its own size.

A window much larger than a spot holds mostly shell, so that the vote erases the spot. Here the radius follows the box:
a third of its shorter side, from 1 to 7 stored pixels. Each box is voted alone, so that a small one is not judged with
the window of a large neighbour; where a vote leaves nothing, the box stays as it was drawn; the label is the union.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fmfbench.annotation.propagate import box_masks
from fmfbench.annotation.weighted_median import RADIUS, SIGMA, for_each_frame, refine, refine_plain

__all__ = [
    "SHARE",
    "box_radius",
    "margins_of_boxes",
    "refine_boxes",
    "refine_boxes_frames",
    "refine_boxes_plain",
]

SHARE = 3.0
"""The radius is this part of the box's shorter side."""

Boxes = NDArray[np.float64]
Mask = NDArray[np.uint8]
Frame = NDArray[np.uint8]


def box_radius(box: Boxes, share: float = SHARE, most: float = RADIUS) -> int:
    """Half the window's side for a box (4,) in pixels: its shorter side / `share`, rounded, from 1 to `most`.

    >>> [box_radius(np.array([0, 0, width, 30.0])) for width in (1, 5, 6, 14, 40)]
    [1, 2, 2, 5, 7]
    """
    shorter = min(box[2] - box[0], box[3] - box[1])
    return int(min(max(round(float(shorter) / share), 1), max(1, round(most))))


def refine_boxes(boxes: Boxes, guide: Frame, sigma: float = SIGMA, share: float = SHARE) -> Mask:
    """Refine the boxes of one frame, each alone with the radius of its size, and unite them.

    Args:
        boxes: (k, 4) of x0, y0, x1, y1 in pixels of the guide; a NaN box is none.
        guide: (H, W, 3) uint8 RGB, the frame.
        sigma: of the weighted median, in grey levels.
        share: the radius is the box's shorter side / share.

    Returns:
        (H, W) uint8 of 0 and 1, equal to `refine_boxes_plain` on every pixel. A box whose vote leaves no pixel stays.

    Raises:
        AnnotationError: as `refine` does.
    """
    return _united(boxes, guide, share, lambda mask, radius: refine(mask, guide, radius, sigma))


def refine_boxes_plain(boxes: Boxes, guide: Frame, sigma: float = SIGMA, share: float = SHARE) -> Mask:
    """The definition. Arguments, results and errors as in `refine_boxes`."""

    def vote(mask: Mask, radius: int) -> Mask:
        refined = refine_plain(mask, guide, radius, sigma)
        assert not isinstance(refined, tuple)
        return refined

    return _united(boxes, guide, share, vote)


def refine_boxes_frames(
    boxes: Boxes, guides: Frame, sigma: float = SIGMA, threads: int = 1, share: float = SHARE
) -> Mask:
    """`refine_boxes` for every frame of a block.

    Args:
        boxes: (n, k, 4), NaN where a frame has fewer than k.
        guides: (n, H, W, 3) uint8 RGB.
        threads: how many frames are worked on at once; the result does not depend on it.
        sigma, share: as there.
    """
    refined = np.zeros(guides.shape[:3], np.uint8)
    marked = np.flatnonzero(np.any(np.all(np.isfinite(boxes), axis=2), axis=1))

    def work(frame: int) -> None:
        refined[frame] = refine_boxes(boxes[frame], guides[frame], sigma, share)

    for_each_frame(work, marked, threads)
    return refined


def margins_of_boxes(
    boxes: Boxes, guide: Frame, sigma: float = SIGMA, share: float = SHARE
) -> NDArray[np.float32]:
    """The largest of the boxes' margins for each pixel (H, W), in [-1, 1], above 0 exactly where the label is 1.

    A pixel of a box that stays because its vote leaves nothing has margin 1.
    """
    margin = np.full(guide.shape[:2], -1, np.float32)
    for box, mask in zip(boxes, box_masks(boxes, guide.shape[:2]), strict=True):
        if not mask.any():
            continue
        _, own = refine(mask.view(np.uint8), guide, box_radius(box, share), sigma, return_margin=True)
        if not (own > 0).any():
            own = np.where(mask, np.float32(1), own)
        np.maximum(margin, own, out=margin)
    return margin


def _united(boxes: Boxes, guide: Frame, share: float, vote: Callable[[Mask, int], Mask]) -> Mask:
    united = np.zeros(guide.shape[:2], np.uint8)
    for box, inside in zip(boxes, box_masks(boxes, guide.shape[:2]), strict=True):
        mask = inside.view(np.uint8)
        if mask.any():
            refined = vote(mask, box_radius(box, share))
            united |= refined if refined.any() else mask
    return united
