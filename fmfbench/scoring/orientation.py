"""Whether masks were written transposed or flipped: the mistake that no shape check can see at 64 x 64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.masks import unpack_masks

__all__ = ["orientation_ious", "orientation_warning"]

MOST_SAMPLES = 2000
MARGIN = 0.01


def orientation_ious(
    truth: NDArray[np.uint8], pred: NDArray[np.uint8], shape: tuple[int, int]
) -> dict[str, float]:
    """IoU of the abnormal pixels with the predicted masks as they are and turned, from packed masks (N, K).

    Of the samples in which both masks have abnormal pixels, at most 2,000, evenly spread. Empty where there
    are none.
    """
    (rows,) = np.nonzero(truth.any(axis=1) & pred.any(axis=1))
    if not len(rows):
        return {}
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_SAMPLES)).astype(np.intp)]
    true = unpack_masks(truth[rows], shape).view(bool)
    mask = unpack_masks(pred[rows], shape).view(bool)
    turned = {
        "upright": mask,
        "flipped upside down": mask[:, ::-1],
        "flipped left to right": mask[:, :, ::-1],
        "turned by half": mask[:, ::-1, ::-1],
    }
    if shape[0] == shape[1]:
        turned["transposed"] = mask.transpose(0, 2, 1)
    return {name: float((true & other).sum() / (true | other).sum()) for name, other in turned.items()}


def orientation_warning(ious: dict[str, float]) -> str | None:
    """One line if the masks fit the labels better, by more than 0.01 IoU, when turned."""
    if not ious:
        return None
    best = max(ious, key=lambda name: ious[name])
    if ious[best] <= ious["upright"] + MARGIN:
        return None
    return (
        f"MASKS SCORE BETTER {best.upper()}: IoU of abnormal pixels {ious[best]:.3f} against "
        f"{ious['upright']:.3f} as they are; masks must be upright, (height, width)"
    )
