"""A clip of the gallery's moments, one after another, with the three currents up to each instant beneath."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmfbench.errors import FailedError, InputError, MissingDependencyError
from fmfbench.files.atomic import replacing
from fmfbench.furnace import NAME, VERSION
from fmfbench.furnace.gallery import PHASE_COLOURS, find_moments, make_furnace, parse_picture_path
from fmfbench.furnace.render import BLOCK_FRAMES, Furnace
from fmfbench.furnace.timing import FRAMES_PER_SECOND, SECOND

__all__ = ["write_clip"]

Image = npt.NDArray[np.uint8]

SCALE = 6
PIECE_SECONDS = 3.0  # of each moment, which is in the middle
TRACE_SECONDS = 60.0  # of current beneath, ending with the frame
TRACE_HEIGHT = 96  # pixels
AMPERES = (0.0, 16000.0)  # at the trace's foot and top


def write_clip(path: str | Path, *, preset: str = "small", seed: int = 0, recording: int = 0) -> Path:
    """Write an .avi (motion JPEG): three seconds around each moment of the gallery, in the gallery's order.

    Frames are enlarged, the mask outlined. Beneath are the last minute's three currents, where it was abnormal in red.

    Raises:
        InputError: there is no such preset or recording, no event, or `path` is not an .avi.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f"clip: OpenCV, which writes it, cannot be imported ({error}); pip install opencv-python-headless"
        ) from error
    target = parse_picture_path(path, ".avi")
    furnace = make_furnace(preset, seed, recording)
    plan = furnace.plan
    if not furnace.spots:
        raise InputError(
            f"clip: expected a recording with an event, got {plan.name} of preset {preset} without; take another"
        )
    width, height = plan.width * SCALE, plan.height * SCALE
    target.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    size = (width, height + TRACE_HEIGHT)
    # OpenCV knows the kind of video by the name's ending.
    with replacing(target, under=target.with_name(f".{target.stem}.{os.getpid()}.tmp.avi")) as part:
        writer = cv2.VideoWriter(str(part), cv2.CAP_OPENCV_MJPEG, codec, FRAMES_PER_SECOND, size)
        if not writer.isOpened():
            raise FailedError(
                f"{target}: OpenCV cannot open it to write a motion JPEG video; check the folder"
            )
        try:
            for image in _images(furnace, (width, height), cv2):
                writer.write(image)
        finally:
            writer.release()
    return target


def _images(furnace: Furnace, size: tuple[int, int], cv2: Any) -> Iterator[Image]:
    """The frames around each moment, enlarged to `size`, with the currents beneath."""
    half = round(PIECE_SECONDS * FRAMES_PER_SECOND / 2)
    for moment in find_moments(furnace):
        start, stop = max(0, moment.frame - half), min(furnace.plan.frames, moment.frame + half)
        for index in range(start // BLOCK_FRAMES, -(-stop // BLOCK_FRAMES)):
            block = furnace.draw_block(index)
            for k in range(max(0, start - block.start), min(len(block.video), stop - block.start)):
                image = _outlined(block.video[k], block.label[k], size, cv2)
                trace = _trace(furnace, block.start + k, size[0], moment.title, cv2)
                yield np.concatenate([image, trace])


def _outlined(frame: Image, label: Image, size: tuple[int, int], cv2: Any) -> Image:
    """One frame (H, W, 3) RGB enlarged, as BGR, with its mask's outline."""
    image = cv2.resize(frame[..., ::-1], size, interpolation=cv2.INTER_NEAREST)
    mask = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, outlines, -1, (255, 255, 0), 1)
    return np.asarray(image, dtype=np.uint8)


def _trace(furnace: Furnace, frame: int, width: int, title: str, cv2: Any) -> Image:
    """(TRACE_HEIGHT, width, 3) BGR: the currents of the minute that ends with the frame, and the moment's name."""
    image = np.full((TRACE_HEIGHT, width, 3), 250, dtype=np.uint8)
    now = float(furnace.time[frame]) / SECOND
    column = (furnace.time[: frame + 1] / SECOND - now) / TRACE_SECONDS * width + width - 1
    abnormal = (furnace.plan.class_label[: frame + 1] == 1) & (column >= 0)
    image[:, np.unique(column[abnormal].astype(np.int64))] = (205, 205, 250)
    time, amperes = furnace.current.time / SECOND, furnace.current.amperes
    seen = (time <= now) & (time >= now - TRACE_SECONDS)
    across = (time[seen] - now) / TRACE_SECONDS * width + width - 1
    for phase, colour in enumerate(PHASE_COLOURS):
        down = (AMPERES[1] - amperes[seen, phase]) / (AMPERES[1] - AMPERES[0]) * (TRACE_HEIGHT - 1)
        points = np.stack([across, down], axis=1).round().astype(np.int32)
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        cv2.polylines(image, [points], False, (blue, green, red), 1, cv2.LINE_AA)
    text = f"{NAME} {VERSION}: {title}"
    cv2.putText(image, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return image
