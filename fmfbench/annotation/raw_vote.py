"""Refining boxes at the raw video's resolution, and shrinking the mask after.

A spot of five stored pixels a side is twenty or a hundred raw ones, whose edges the stored frame has averaged away. So
each box is voted on the raw frame, with a window as large in the world as on the stored frame, and a stored pixel is
abnormal iff more than half of the area it shows is; exactly half is normal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fmfbench.annotation.box_vote import SHARE, box_radius
from fmfbench.annotation.propagate import box_masks
from fmfbench.annotation.weighted_median import RADIUS, SIGMA, refine, refine_plain

__all__ = ["refine_on_raw", "refine_on_raw_plain", "shares_on_raw", "shrink", "shrink_plain"]

Boxes = NDArray[np.float64]
Mask = NDArray[np.uint8]
Frame = NDArray[np.uint8]
Shares = NDArray[np.float64]


def refine_on_raw(
    boxes: Boxes,
    guide: Frame,
    shape: tuple[int, int],
    sigma: float = SIGMA,
    *,
    share: float = SHARE,
    radius: int | None = None,
) -> Mask:
    """Refine the boxes of one frame on its raw picture, each alone, and unite them in stored pixels.

    Args:
        boxes: (k, 4) of x0, y0, x1, y1 in raw pixels of the guide; a NaN box is none.
        guide: (H, W, 3) uint8 RGB, the raw frame, cropped as the store's.
        shape: (h, w) of the stored frame.
        sigma: of the weighted median, in grey levels.
        share: the radius is the box's shorter side / share, at most 7 stored pixels.
        radius: in stored pixels, for all boxes together; by default each box has its own.

    Returns:
        (h, w) uint8 of 0 and 1, equal to `refine_on_raw_plain` on every pixel. A box that has stored pixels and whose
        vote leaves none stays.

    Raises:
        AnnotationError: as `refine` does.
    """
    return (shares_on_raw(boxes, guide, shape, sigma, share=share, radius=radius) > 0.5).astype(np.uint8)


def shares_on_raw(
    boxes: Boxes,
    guide: Frame,
    shape: tuple[int, int],
    sigma: float = SIGMA,
    *,
    share: float = SHARE,
    radius: int | None = None,
) -> Shares:
    """(h, w) the share of each stored pixel's area that the vote marks, the largest of the boxes'.

    Above 1/2 exactly where the label is 1. Arguments and errors as of `refine_on_raw`.
    """

    def vote(mask: Mask, reach: int) -> Mask:
        return refine(mask, guide, reach, sigma)

    return _united(boxes, guide, shape, share, radius, vote, shrink)


def refine_on_raw_plain(
    boxes: Boxes,
    guide: Frame,
    shape: tuple[int, int],
    sigma: float = SIGMA,
    *,
    share: float = SHARE,
    radius: int | None = None,
) -> Mask:
    """The definition. Arguments, results and errors as in `refine_on_raw`."""

    def vote(mask: Mask, reach: int) -> Mask:
        refined = refine_plain(mask, guide, reach, sigma)
        assert not isinstance(refined, tuple)
        return refined

    return (_united(boxes, guide, shape, share, radius, vote, shrink_plain) > 0.5).astype(np.uint8)


def shrink(mask: Mask, shape: tuple[int, int]) -> Shares:
    """(h, w) the share of each pixel's area that a larger mask (H, W) of 0 and 1 marks.

    >>> shrink(np.array([[1, 1, 0], [1, 0, 0]], np.uint8), (1, 2)).round(3)
    array([[0.833, 0.167]])
    """
    rows, columns = (_overlaps(size, small) for size, small in zip(mask.shape, shape, strict=True))
    found: Shares = rows @ mask.astype(np.int64) @ columns.T / (mask.shape[0] * mask.shape[1])
    return found


def shrink_plain(mask: Mask, shape: tuple[int, int]) -> Shares:
    """The definition: each raw pixel cut into h x w equal pieces, and the pieces of each stored pixel counted."""
    pieces = np.repeat(np.repeat(mask.astype(np.int64), shape[0], axis=0), shape[1], axis=1)
    blocks = pieces.reshape(shape[0], mask.shape[0], shape[1], mask.shape[1])
    found: Shares = blocks.sum(axis=(1, 3)) / (mask.shape[0] * mask.shape[1])
    return found


def _overlaps(size: int, small: int) -> NDArray[np.int64]:
    """(small, size) how much of each raw pixel lies in each stored one, in units of 1/small of a raw pixel."""
    raw, stored = np.arange(size) * small, np.arange(small)[:, None] * size
    return np.maximum(0, np.minimum(raw + small, stored + size) - np.maximum(raw, stored))


def _united(
    boxes: Boxes,
    guide: Frame,
    shape: tuple[int, int],
    share: float,
    radius: int | None,
    vote: Callable[[Mask, int], Mask],
    shrunk: Callable[[Mask, tuple[int, int]], Shares],
) -> Shares:
    height, width = guide.shape[:2]
    scale = min(height / shape[0], width / shape[1])  # raw pixels in a stored one
    to_stored = np.array([shape[1] / width, shape[0] / height] * 2)
    masks, kept = box_masks(boxes, (height, width)), box_masks(boxes * to_stored, shape)
    if radius is not None:  # all boxes as one
        together = np.asarray(masks.any(axis=0), np.uint8)
        if not together.any():
            return np.zeros(shape)
        return shrunk(vote(together, max(1, round(radius * scale))), shape)
    united = np.zeros(shape)
    for box, mask, own in zip(boxes, masks, kept, strict=True):
        if not own.any():  # it has no stored pixel, refined or not
            continue
        marked = shrunk(vote(mask.view(np.uint8), box_radius(box, share, RADIUS * scale)), shape)
        united = np.maximum(united, marked if (marked > 0.5).any() else np.where(own, 1.0, marked))
    return united
