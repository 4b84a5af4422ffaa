"""When frames and current rows are taken.

The real recordings hold 31,826, 89,937 and 148,158 frames in 1298, 3598 and 5993 seconds: about 24.5 to 25 frames
a second. Time strings have whole seconds only, so what a file shows is how many rows each second has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.errors import FailedError
from fmfbench.furnace.streams import Stream

__all__ = ["CURRENT_HZ", "FRAMES_PER_SECOND", "SECOND", "Timing", "make_timing"]

FRAMES_PER_SECOND = 25  # nominal, from the paper
CURRENT_HZ = 2
SECOND = 1_000_000_000  # ns

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one recording, counted from the start of the video's first second."""

    frame_second: IntArray  # (T,) the whole second each frame is stamped with
    frame_time: IntArray  # (T,) ns
    current_second: IntArray  # (M,) two rows a second; starts before the video
    current_time: IntArray  # (M,) ns
    missing_seconds: tuple[int, ...]  # seconds without any frame, inside the recording


def make_timing(stream: Stream, frames: int, seconds: int, *, missing: int, lead_seconds: int) -> Timing:
    """Spread `frames` over `seconds` distinct seconds of 24, 25 or 26 rows, the first and last partly filled.

    `missing` further seconds inside the recording hold no frame (the camera stalled; the furnace and its
    current went on). The current starts `lead_seconds` before the video.

    Raises:
        FailedError: `frames` are too few or too many for so many seconds.
    """
    counts = _rows_per_second(stream, frames, seconds)
    stamps = np.arange(seconds, dtype=np.int64)
    absent = []
    for k in range(missing):
        at = (seconds * (2 * k + 1)) // (2 * missing) + stream.integer(0, max(1, seconds // (4 * missing)))
        stamps[at:] += 1
        absent.append(int(stamps[at]) - 1)
    frame_second = np.repeat(stamps, counts)
    row = np.arange(frames, dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.repeat(counts, counts)
    within = (row * SECOND) // rows
    nominal = FRAMES_PER_SECOND
    first, last = frame_second == frame_second[0], frame_second == frame_second[-1]
    if counts[-1] < nominal:
        within[last] = (row[last] * SECOND) // nominal
    if counts[0] < nominal:
        within[first] = SECOND - ((counts[0] - row[first]) * SECOND) // nominal
    current_second = np.repeat(np.arange(-lead_seconds, int(stamps[-1]) + 1, dtype=np.int64), CURRENT_HZ)
    half = np.tile(np.arange(CURRENT_HZ, dtype=np.int64), len(current_second) // CURRENT_HZ)
    return Timing(
        frame_second=frame_second,
        frame_time=frame_second * SECOND + within,
        current_second=current_second,
        current_time=current_second * SECOND + (half * SECOND) // CURRENT_HZ,
        missing_seconds=tuple(absent),
    )


def _rows_per_second(stream: Stream, frames: int, seconds: int) -> IntArray:
    nominal = FRAMES_PER_SECOND
    if seconds < 3:
        base = np.full(seconds, frames // seconds, dtype=np.int64)
        base[: frames % seconds] += 1
        return base
    first, last = stream.integer(13, nominal), stream.integer(13, nominal)
    inner = seconds - 2
    # seconds of 24 to 26 rows make up for at most one row each: what is beyond goes to the two ends
    beyond = inner * nominal + first + last - frames
    beyond -= min(max(beyond, -inner), inner)
    ends = first + last - beyond
    if not 2 <= ends <= 2 * nominal:
        raise FailedError(
            f"timing: expected {24 * inner + 2} to {26 * inner + 2 * nominal} frames in {seconds} seconds, "
            f"got {frames}; choose another count"
        )
    first = min(max(first - beyond // 2, ends - nominal, 1), nominal, ends - 1)
    last = ends - first
    too_many = inner * nominal + first + last - frames
    jitter = min(inner // 50 + 1, (inner - abs(too_many)) // 2)
    short, long = jitter + max(too_many, 0), jitter + max(-too_many, 0)
    order = stream.shuffled(inner)
    counts = np.full(inner, nominal, dtype=np.int64)
    counts[order[:short]] -= 1
    counts[order[short : short + long]] += 1
    return np.concatenate([[first], counts, [last]]).astype(np.int64)
