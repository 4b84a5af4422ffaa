"""Which frames and current rows a window holds: index arithmetic on times and splits, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import WindowError
from fmfbench.store.schema import SPLITS
from fmfbench.windows.protocol import WindowProtocol

__all__ = [
    "Plan",
    "Timeline",
    "fill_source",
    "is_foreign",
    "near_foreign",
    "official_span",
    "plan_current",
    "plan_video",
    "rows_at",
]

_NO_SPLIT = 255


@dataclass(frozen=True)
class Plan:
    """Positions of n windows in one modality, oldest first.

    `index` (n,p) is the frame or row that each position takes its value from, -1 where a window has none at
    all; `valid` (n,p) says which positions hold their own; `foreign` (n,p) which hold one of another split.
    """

    index: NDArray[np.int64]
    valid: NDArray[np.bool_]
    foreign: NDArray[np.bool_]


@dataclass(frozen=True)
class Timeline:
    """What planning needs to know of a recording."""

    name: str
    frame_time: NDArray[np.int64]
    split: NDArray[np.uint8]
    current_time: NDArray[np.int64]
    current_finite: NDArray[np.bool_]  # (M,) all three phases are finite

    @cached_property
    def current_split(self) -> NDArray[np.uint8]:
        """(M,) a row has the split of the last frame at or before it, none before the first frame."""
        frame = np.searchsorted(self.frame_time, self.current_time, side="right") - 1
        if not len(self.split):
            return np.full(len(frame), _NO_SPLIT, np.uint8)
        return np.where(frame >= 0, self.split[np.maximum(frame, 0)], _NO_SPLIT).astype(np.uint8)

    @cached_property
    def stamped_seconds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Distinct whole seconds that current rows are stamped with, and the first row of each.

        WindowError where a second has more than two rows: the released loader knows only two.
        """
        seconds, first, counts = np.unique(self.current_time // NS, return_index=True, return_counts=True)
        if len(counts) and counts.max() > 2:
            raise WindowError(
                f"{self.name}: the official protocol expects currents at two rows a second, got a second with "
                f"{counts.max()}; use the paper protocol"
            )
        return seconds, first.astype(np.int64)


def plan_video(
    line: Timeline,
    frames: NDArray[np.int64],
    protocol: WindowProtocol,
    masked: bool,
    *,
    foreign: bool = True,
) -> Plan:
    """Frames e - k*stride of the windows that end at `frames` (n,).

    A position before the first frame is invalid, and so is one whose frame lies more than the tolerance
    further back than k*stride nominal frame periods. With `masked`, foreign ones are invalid too. Where nobody asks
    which positions are foreign, `foreign=False` spares the look: the plan then says of none that it is.
    """
    k = np.arange(protocol.num_frames - 1, -1, -1)
    index = frames[:, None] - k * protocol.stride
    inside = index >= 0
    index = np.maximum(index, 0)
    judged = foreign or masked
    strange = is_foreign(line.split[index], line.split[frames]) if judged else np.zeros(index.shape, bool)
    if protocol.alignment == "official":  # a position before the first frame holds the first
        usable = ~strange if masked else np.ones_like(inside)
        return Plan(_filled(index, usable), inside & usable, strange)
    strange &= inside
    lag = _frame_lags(protocol)
    age = line.frame_time[frames][:, None] - line.frame_time[index]
    valid = inside & (age <= lag + protocol.tolerance_ns)
    if masked:
        valid &= ~strange
    return Plan(_filled(index, valid), valid, strange)


def plan_current(
    line: Timeline,
    frames: NDArray[np.int64],
    protocol: WindowProtocol,
    masked: bool,
    *,
    foreign: bool = True,
) -> Plan:
    """Current rows of the windows that end at `frames` (n,).

    A position at time u holds the last row at or before u. It is invalid if there is none, if the row is
    older than the tolerance, or if a phase is not finite. With `masked`, foreign ones are invalid too; `foreign` as
    for frames.
    """
    if protocol.alignment == "official":
        row, valid = _official_rows(line, frames, protocol)
    else:
        row, valid = rows_at(line, line.frame_time[frames][:, None] - _current_lags(protocol), protocol)
    held = row >= 0
    row = np.maximum(row, 0)
    strange = np.zeros(row.shape, bool)
    if len(line.current_time):
        valid = valid & line.current_finite[row]
        if foreign or masked:
            strange = held & is_foreign(line.current_split[row], line.split[frames])
    if masked:
        valid = valid & ~strange
    return Plan(_filled(row, valid), valid, strange)


def near_foreign(line: Timeline, frames: NDArray[np.int64], protocol: WindowProtocol) -> NDArray[np.bool_]:
    """(n,) which windows span a frame or row of another split, whether or not a position holds it.

    All others hold none, and need no look at each of their positions.
    """
    out = np.zeros(len(frames), bool)
    first = np.maximum(frames - (protocol.num_frames - 1) * protocol.stride, 0)
    if protocol.alignment == "official":
        oldest, newest = official_span(line, frames, protocol)
    else:
        moment = line.frame_time[frames]
        reach = protocol.current_lag_ns(max(0, protocol.num_current - 1))
        oldest = np.maximum(np.searchsorted(line.current_time, moment - reach, side="right") - 1, 0)
        newest = np.searchsorted(line.current_time, moment, side="right")
    own = line.split[frames]
    for split in np.unique(own).tolist():
        at, ours = np.flatnonzero(own == split), np.full(1, split, np.uint8)
        for row_split, start, stop in ((line.split, first, frames + 1), (line.current_split, oldest, newest)):
            before = np.r_[0, np.cumsum(is_foreign(row_split[None], ours)[0])]
            out[at] |= before[stop[at]] > before[np.minimum(start[at], stop[at])]
    return out


@lru_cache(maxsize=16)
def _frame_lags(protocol: WindowProtocol) -> NDArray[np.int64]:
    """(T,) ns that each position's frame lies back, nominally, oldest first."""
    return np.array([protocol.frame_lag_ns(k) for k in range(protocol.num_frames - 1, -1, -1)], np.int64)


@lru_cache(maxsize=16)
def _current_lags(protocol: WindowProtocol) -> NDArray[np.int64]:
    """(Tc,) ns that each position lies back, oldest first: exact fractions, so made once for each protocol."""
    return np.array([protocol.current_lag_ns(k) for k in range(protocol.num_current - 1, -1, -1)], np.int64)


def rows_at(
    line: Timeline, moment: NDArray[np.int64], protocol: WindowProtocol
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The last row at or before each moment, -1 where there is none, and whether it is recent enough."""
    row = np.searchsorted(line.current_time, moment, side="right") - 1
    fresh = row >= 0
    if len(line.current_time):
        fresh &= moment - line.current_time[np.maximum(row, 0)] <= protocol.tolerance_ns
    return row, fresh


def fill_source(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each position of (n,p) the nearest valid position, the earlier of two; -1 where there is none."""
    p = valid.shape[1]
    here = np.arange(p)
    before = np.maximum.accumulate(np.where(valid, here, -1), axis=1)
    after = np.minimum.accumulate(np.where(valid, here, p)[:, ::-1], axis=1)[:, ::-1]
    no_before, no_after = before < 0, after >= p
    earlier = ~no_before & (no_after | (here - before <= after - here))
    return np.where(earlier, before, np.where(no_after, -1, after)).astype(np.int64)


def _filled(index: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    if valid.all():
        return index
    source = fill_source(valid)
    return np.where(source >= 0, np.take_along_axis(index, np.maximum(source, 0), axis=1), -1)


def is_foreign(split: NDArray[np.uint8], own: NDArray[np.uint8]) -> NDArray[np.bool_]:
    harmless = (split == own[:, None]) | (split == SPLITS["unused"]) | (split == _NO_SPLIT)
    return ~harmless


def _official_rows(
    line: Timeline, frames: NDArray[np.int64], protocol: WindowProtocol
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The released loader's rows: the last stamped seconds, stretched where there are too few rows."""
    wanted = protocol.num_current
    start, stop = official_span(line, frames, protocol)
    n = stop - start
    k = np.arange(wanted)
    row = start[:, None] + (k * np.maximum(n[:, None] - 1, 0)) // max(1, wanted - 1)
    valid = np.broadcast_to((n > 0)[:, None], row.shape)
    return np.where(valid, row, -1), valid.copy()


def official_span(
    line: Timeline, frames: NDArray[np.int64], protocol: WindowProtocol
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and one past the last, each (n,), of the stamped seconds that the released loader takes."""
    seconds, first_row = line.stamped_seconds
    # The last stamped second at or before the sample's own, then half as many as values back.
    last = np.searchsorted(seconds, line.frame_time[frames] // NS, side="right")
    ends = np.r_[first_row, len(line.current_time)]
    return ends[np.maximum(0, last - protocol.num_current // 2)], ends[last]
