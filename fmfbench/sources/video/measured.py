"""What is said of a video once all of it was read: how its times came about, what is odd, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.files.wording import counted
from fmfbench.sources.video.damage import Ledger

__all__ = ["MeasuredVideo", "VideoFacts", "missing_end", "remarks"]

_STEADY_SHARE = 0.9  # of steps that are equal, in a video of a constant rate


@dataclass(frozen=True)
class MeasuredVideo:
    """What is known of a video once all of it was decoded."""

    time: NDArray[np.int64]  # (N,) ns since the first frame
    remarks: tuple[str, ...]


class VideoFacts(Protocol):
    """What a pass needs to know of a video (`RawVideo`)."""

    @property
    def path(self) -> Path: ...
    @property
    def stream(self) -> int: ...
    @property
    def codec(self) -> str: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def fps(self) -> Fraction | None: ...
    @property
    def allow_damaged(self) -> bool: ...
    @property
    def threads(self) -> int: ...


def remarks(video: VideoFacts, ledger: Ledger, time: NDArray[np.int64]) -> list[str]:
    """What is odd but no damage, of a video whose frames come at `time` (N,) ns."""
    out = []
    if video.fps is not None:
        out.append(f"times by --fps {video.fps}, not by the file's own stamps")
    elif ledger.by_rate:
        out.append(
            f"{counted(ledger.by_rate, 'frame')} without a time stamp of its own, placed by the nominal "
            f"{float(video.rate):.6g} frames a second"
        )
    if ledger.lead:
        out.append(
            f"{counted(len(ledger.lead), 'packet')} before the first picture that can be decoded; "
            "times count from that picture"
        )
    steps = np.diff(time)
    wide = _gaps(steps)
    if len(wide):
        out.append(
            f"{counted(len(wide), 'gap')} between frames (longest {steps[wide].max() / NS:.2f} s; "
            f"the first after frame {wide[0]}, at {time[wide[0]] / NS:.2f} s)"
        )
    if ledger.interlaced:
        out.append("interlaced: the two fields of a frame are kept as they are woven")
    if ledger.untagged:
        out.append("colours without a matrix in the file, taken as BT.601")
    return out


def missing_end(end: float, last: float, mean_step: float, rate: Fraction, slack: float) -> str | None:
    """What is missing between the end of the last frame and the end that the header tells; None: nothing.

    Args:
        end: the header's, in seconds.
        last: the last frame's start, likewise.
        mean_step: seconds from frame to frame; longer than the rate's step in a slow or uneven video.
        rate: nominal frames a second.
        slack: seconds by which this kind of file may say too much.
    """
    step = max(float(1 / rate), mean_step)
    have = last + step
    if end - have <= 1.5 * step + slack:
        return None
    missing = counted(round((end - have) * float(rate)), "frame")
    return (
        f"it ends after {have:.2f} s of the {end:.2f} s that its header tells "
        f"({(end - have) / end:.0%} missing, about {missing})"
    )


def _gaps(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Frames after which others are missing: of a steady video every one, of an uneven one those far apart."""
    if not len(steps):
        return np.empty(0, np.int64)
    usual = float(np.median(steps))
    steady = np.mean(np.abs(steps - usual) <= 0.1 * usual) >= _STEADY_SHARE
    return np.flatnonzero(steps > (1.5 if steady else 3.0) * usual)
