"""Currents of many windows at once: every window a slice of one of a recording's few tracks.

Samples whose times differ by whole position periods share one grid of positions. At 25 frames and 2 positions
a second a recording has 25 such grids, so what each position holds is looked up once for a grid, not once
for a window: a window is then a contiguous slice, and only its invalid ends need a second look. The plain
definition is `plan_current`; `Tracks.plan` equals it on every sample that has a track.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.windows.plan import Plan, Timeline, fill_source, is_foreign, official_span, rows_at
from fmfbench.windows.protocol import WindowProtocol

__all__ = ["Tracks", "build_tracks"]

# Tracks may hold so many positions for each frame (25 grids at 2 Hz need 2); rarer grids go without.
_POSITIONS_PER_FRAME = 16
_SPARE_WINDOWS = 100  # and so many windows' worth in a recording however short

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Positions (R,) of one recording's current, tracks end to end, as windows of one split see them.

    A window of `length` positions that begins at `start[frame]` lies within one track. Its positions before
    the first valid one take that one's value, those after the last valid one that one's, and those between
    what `source` says.
    """

    length: int
    start: IntArray  # (N,) where the window of each frame begins; -1 where it has no track
    row: IntArray  # (R,) current row that a position holds
    source: IntArray  # (R,) nearest valid position of the track, the earlier of two; -1 where there is none
    valid: NDArray[np.bool_]  # (R,)
    foreign: NDArray[np.bool_]  # (R,)

    @cached_property
    def _next_valid(self) -> IntArray:
        here = np.where(self.valid, np.arange(len(self.valid)), len(self.valid))
        return np.minimum.accumulate(here[::-1])[::-1]

    @cached_property
    def _last_valid(self) -> IntArray:
        return np.maximum.accumulate(np.where(self.valid, np.arange(len(self.valid)), -1))

    def ends(self, start: IntArray) -> tuple[IntArray, IntArray]:
        """First and last valid position of the windows that begin at `start` (n,); first > last without any."""
        return self._next_valid[start], self._last_valid[start + self.length - 1]

    def plan(self, frames: IntArray) -> Plan:
        """What `plan_current` says of frames that have a track."""
        start = self.start[frames]
        first, last = self.ends(start)
        position = start[:, None] + np.arange(self.length)
        some = (first <= last)[:, None]
        inside = np.clip(position, first[:, None], last[:, None], where=some, out=position.copy())
        index = np.where(some, self.row[self.source[inside]], -1)
        return Plan(index, self.valid[position], self.foreign[position])


def build_tracks(line: Timeline, protocol: WindowProtocol, masked: bool, own: int) -> Tracks:
    """Tracks of a recording for windows of the split `own`.

    Frames whose times do not repeat on a common grid have none: then `start` is -1 and `plan_current` serves.
    """
    if protocol.alignment == "official":
        start, shape, row, held, fresh = _official_track(line, protocol)
    else:
        start, shape, row, held, fresh = _causal_tracks(line, protocol)
    row = np.maximum(row, 0)
    valid = fresh
    foreign = np.zeros(row.shape, bool)
    if len(line.current_time):
        valid = valid & line.current_finite[row]
        own_split = np.full(1, own, np.uint8)
        foreign = held & is_foreign(line.current_split[row][None], own_split)[0]
    if masked:
        valid = valid & ~foreign
    source = np.empty(row.shape, np.int64)
    base = 0
    for tracks, positions in shape:
        block = slice(base, base + tracks * positions)
        filled = fill_source(valid[block].reshape(tracks, positions))
        offset = base + np.arange(tracks)[:, None] * positions
        source[block] = np.where(filled >= 0, filled + offset, -1).reshape(-1)
        base = block.stop
    return Tracks(
        length=protocol.num_current, start=start, row=row, source=source, valid=valid, foreign=foreign
    )


_Found = tuple[IntArray, list[tuple[int, int]], IntArray, NDArray[np.bool_], NDArray[np.bool_]]


def _official_track(line: Timeline, protocol: WindowProtocol) -> _Found:
    """The rows themselves, one track; windows that stretch a short history have none."""
    first, last = official_span(line, np.arange(len(line.frame_time)), protocol)
    start = np.where(last - first == protocol.num_current, first, -1)
    row = np.arange(len(line.current_time))
    present = np.ones(len(row), bool)
    return start.astype(np.int64), [(1, len(row))], row, present, present


def _causal_tracks(line: Timeline, protocol: WindowProtocol) -> _Found:
    start = np.full(len(line.frame_time), -1, np.int64)
    period = Fraction(NS) / Fraction(protocol.current_hz)
    shapes: list[tuple[int, int]] = []
    moments: list[IntArray] = []
    base = 0
    if period.denominator == 1 and len(line.frame_time):
        step, length = int(period), protocol.num_current
        # A gap longer than a window would only fill tracks with positions that no window holds.
        cuts = np.flatnonzero(np.diff(line.frame_time) > length * step) + 1
        for frames in np.split(np.arange(len(line.frame_time)), cuts):
            number, phase = np.divmod(line.frame_time[frames], step)
            positions = int(number[-1] - number[0]) + length
            room = (_POSITIONS_PER_FRAME * len(frames) + _SPARE_WINDOWS * length) // positions
            phases, track = _most_frequent(phase, room)
            on_track = track >= 0
            start[frames[on_track]] = base + track[on_track] * positions + (number - number[0])[on_track]
            grid = (number[0] - length + 1 + np.arange(positions)) * step
            moments.append((phases[:, None] + grid).reshape(-1))
            shapes.append((len(phases), positions))
            base += len(phases) * positions
    moment = np.concatenate([np.empty(0, np.int64), *moments])
    row, fresh = rows_at(line, moment, protocol)
    return start, shapes, row, row >= 0, fresh


def _most_frequent(phase: IntArray, room: int) -> tuple[IntArray, IntArray]:
    """The `room` most frequent phases, and for each frame which of them it has, -1 for none."""
    phases, track, counts = np.unique(phase, return_inverse=True, return_counts=True)
    keep = np.sort(np.argsort(-counts, kind="stable")[:room])
    place = np.full(len(phases), -1, np.int64)
    place[keep] = np.arange(len(keep))
    return phases[keep], place[track]
