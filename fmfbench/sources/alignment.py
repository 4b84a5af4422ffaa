"""A video and its table of currents on one clock, held against each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, format_time
from fmfbench.errors import SourceError

__all__ = ["NOMINAL_CURRENT_HZ", "alignment_remarks", "refuse_apart", "span"]

NOMINAL_CURRENT_HZ = 2.0
_RATE_TOLERANCE = 0.05
_DRIFT_SECONDS = 1.0
_DRIFT_SHARE = 0.05


def span(times: NDArray[np.int64]) -> tuple[int, int]:
    """First and last moment (ns) that rows tell of: a row holds until the next would come."""
    step = int(np.median(np.diff(times))) if len(times) > 1 else NS // 2
    return int(times[0]), int(times[-1]) + step


def refuse_apart(
    where: str, frames: NDArray[np.int64], rows: NDArray[np.int64], *, clock: bool, reach: float | None = None
) -> None:
    """SourceError where a table and a video hardly overlap: under half of the shorter one.

    Args:
        where: the table, for the message.
        frames: (N,) ns.
        rows: (M,) ns on the same clock.
        clock: whether the times are dates, for the message.
        reach: seconds by which the rows may lie before the video where both were stamped by one clock: currents of
            that time are still in the windows of frames.
    """
    if not len(frames) or not len(rows):
        return
    (a0, a1), (b0, b1) = span(frames), span(rows)
    shared = (min(a1, b1) - max(a0, b0)) / NS
    shorter = min(a1 - a0, b1 - b0) / NS
    if shared >= 0.5 * shorter or (reach is not None and shared > -reach):
        return

    def tell(time: int) -> str:
        return format_time(time) if clock else f"{time / NS:.2f} s"

    raise SourceError(
        f"{where}: expected currents of the video's own time, got rows from {tell(b0)} to {tell(b1)} beside frames "
        f"from {tell(a0)} to {tell(a1)}: {max(0.0, shared):.2f} s in common; check that they belong together"
        + (", shift the video with --offset SECONDS" if reach is None else "")
        + ", or say what the times are with --time-format"
    )


def alignment_remarks(
    frames: NDArray[np.int64], rows: NDArray[np.int64], nominal_hz: float = NOMINAL_CURRENT_HZ
) -> Sequence[str]:
    """What is odd about a video and its table, once they are on one clock."""
    if not len(frames):
        return []
    if not len(rows):
        return ["no currents"]
    out = []
    if rows[0] > frames[0]:
        out.append(f"currents begin {(rows[0] - frames[0]) / NS:.2f} s after the video")
    if rows[-1] < frames[-1] - NS:
        out.append(f"currents end {(frames[-1] - rows[-1]) / NS:.2f} s before the video")
    if len(rows) > 1:
        rate = NS / float(np.median(np.diff(rows)))
        if abs(rate / nominal_hz - 1) > _RATE_TOLERANCE:
            out.append(f"{rate:.4g} current rows a second (nominal {nominal_hz:.4g})")
    (a0, a1), (b0, b1) = span(frames), span(rows)
    longer, share = ((b1 - b0) - (a1 - a0)) / NS, abs((b1 - b0) / max(1, a1 - a0) - 1)
    if abs(b0 - a0) < NS and abs(longer) > _DRIFT_SECONDS and share < _DRIFT_SHARE:
        out.append(
            f"the table is {abs(longer):.2f} s {'longer' if longer > 0 else 'shorter'} than the video ({share:.2%}): "
            "it runs on, or one of the clocks drifts"
        )
    elif rows[-1] > frames[-1] + 2 * NS:
        out.append(f"currents run on {(rows[-1] - frames[-1]) / NS:.2f} s after the video")
    return out
