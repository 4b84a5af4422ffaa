"""A raw recording: NAME.avi of a larger view with the furnace in it, and NAME.csv of currents.

An .avi has no time per frame: frame i stands at i/25 s. The current is put on that clock, so the two stay in step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fmfbench.errors import FailedError, MissingDependencyError
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.render import Block, Furnace
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = ["SCALE", "furnace_box", "video_clock", "write_raw"]

SCALE = 4  # raw pixels per furnace pixel, each way
MARGIN = (16, 32)  # raw pixels of workshop above and below, left and right
WORKSHOP = (30, 29, 31)  # its colour, B G R


def furnace_box(plan: Plan) -> tuple[int, int, int, int]:
    """x, y, width, height of the furnace in the raw frames, in pixels."""
    return MARGIN[1], MARGIN[0], plan.width * SCALE, plan.height * SCALE


def write_raw(video: Path, currents: Path, furnace: Furnace, blocks: Iterator[Block]) -> None:
    """Write the .avi (motion JPEG) to `video` and the currents, with seconds since the first frame, to `currents`."""
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f"layout recording: OpenCV, which writes {video.name}, cannot be imported ({error}); "
            "pip install opencv-python-headless"
        ) from error
    plan = furnace.plan
    x, y, width, height = furnace_box(plan)
    size = (width + 2 * x, height + 2 * y)
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    temporary = video.with_name(video.name + ".avi")  # OpenCV tells the container by the name's end
    writer = cv2.VideoWriter(str(temporary), cv2.CAP_OPENCV_MJPEG, codec, FRAMES_PER_SECOND, size)
    if not writer.isOpened():
        raise FailedError(
            f"{temporary}: OpenCV cannot open it to write a motion JPEG video; check the folder"
        )
    frame = np.empty((size[1], size[0], 3), dtype=np.uint8)
    frame[:] = WORKSHOP
    for block in blocks:
        for image in block.video:
            inside = cv2.resize(image[..., ::-1], (width, height), interpolation=cv2.INTER_CUBIC)
            frame[y : y + height, x : x + width] = inside
            writer.write(frame)
    writer.release()
    temporary.replace(video)
    seconds, amperes = video_clock(furnace)
    rows = zip(seconds.tolist(), amperes.tolist(), strict=True)
    lines = ["seconds,a,b,c", *(f"{s:.3f},{a:.2f},{b:.2f},{c:.2f}" for s, (a, b, c) in rows)]
    currents.write_bytes(("\n".join(lines) + "\n").encode())


def video_clock(furnace: Furnace) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(M',) seconds on the video's clock and (M', 3) A; rows during a stall of the camera fall away."""
    frame_time = furnace.plan.timing.frame_time
    index = np.arange(len(frame_time)) / FRAMES_PER_SECOND
    time = furnace.current.time
    seconds = np.interp(time, frame_time, index)
    before = time < frame_time[0]
    seconds[before] = (time[before] - frame_time[0]) / 1e9
    seconds = np.round(seconds, 3)
    keep = np.concatenate([[True], np.diff(seconds) > 0.0]) & (seconds >= 0.0)
    return seconds[keep], furnace.current.amperes[keep]
