"""The refined mask of one frame while its boxes are being drawn: what `annotate` will write there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmfbench.annotation.box_vote import SHARE, margins_of_boxes
from fmfbench.annotation.keyframes import parse_keyframes
from fmfbench.annotation.propagate import stored_boxes
from fmfbench.annotation.weighted_median import refine
from fmfbench.store.recording import Recording

__all__ = ["refine_one", "warm_up"]


def refine_one(
    recording: Recording, size: tuple[int, int], tracks: object, frame: int, share: float = SHARE
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Propagate tracks to one frame and refine the mask.

    Args:
        recording: whose frame guides the refinement.
        size: (width, height) that the boxes are drawn on.
        tracks: as in `keyframes.json`.
        frame: which.
        share: the vote's radius is the box's shorter side / share.

    Returns:
        (H,W) uint8 of 0 and 1, and the vote's margin, (H,W) float32 in [-1, 1].

    Raises:
        AnnotationError: tracks that contradict themselves.
    """
    content = {"schema": 1, "size": list(size), "recordings": {recording.name: {"tracks": tracks}}}
    found = parse_keyframes(content).recordings[recording.name]
    shape, view = (recording.height, recording.width), (0, 0, *size)
    frames = np.array([frame], np.int64)
    boxes = np.array([stored_boxes(track, frames, shape, view)[0] for track in found if track.keyframes])
    if not np.isfinite(boxes).any():
        return np.zeros(shape, np.uint8), np.full(shape, -1, np.float32)
    margin = margins_of_boxes(boxes, recording.read_video(frame, frame + 1)[0], share=share)
    return (margin > 0).astype(np.uint8), margin


def warm_up() -> None:
    """Load or compile the vote, so that the first box does not wait for it."""
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 1:3] = 1
    refine(mask, np.zeros((4, 5, 3), np.uint8), return_margin=True)
    refine(mask, np.zeros((4, 5, 3), np.uint8))
