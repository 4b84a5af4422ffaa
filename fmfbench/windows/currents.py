"""Current values of a split's windows, copied from tracks as slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.windows.tracks import Tracks

__all__ = ["CurrentTable"]

IntArray = NDArray[np.int64]


class CurrentTable:
    """Values of tracks end to end, and where each window begins and has valid positions.

    Attributes:
        values: (R,3) float32, invalid positions filled.
        valid: (R,) bool.
        start: (n,) first position of each window, -1 where it has none here.
        first: (n,) its first valid position.
        last: (n,) its last; below `first` where all are invalid.
    """

    def __init__(self, length: int, num_windows: int) -> None:
        self.length = length
        self.values = np.zeros((0, 3), np.float32)
        self.valid = np.zeros(0, bool)
        self.start = np.full(num_windows, -1, np.int64)
        self.first = np.zeros(num_windows, np.int64)
        self.last = np.zeros(num_windows, np.int64)
        self._whole = np.zeros(num_windows, bool)  # every position of the window is valid
        self._parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []

    def add(self, windows: IntArray, frames: IntArray, tracks: Tracks, current: NDArray[np.float32]) -> None:
        """Let `windows` (k,), which end at `frames` of a recording, be slices of its tracks, of its `current` (M,3)."""
        start = tracks.start[frames]
        windows, start = windows[start >= 0], start[start >= 0]
        base = sum(len(valid) for _, valid in self._parts)
        first, last = tracks.ends(start)
        self.start[windows] = base + start
        self.first[windows] = base + first
        self.last[windows] = base + last
        values = np.zeros((len(tracks.valid), 3), np.float32)
        known = tracks.source >= 0
        values[known] = current[tracks.row[tracks.source[known]]]
        self._parts.append((values, tracks.valid))

    def finish(self) -> None:
        """Join what was added."""
        if self._parts:
            self.values = np.concatenate([values for values, _ in self._parts])
            self.valid = np.concatenate([valid for _, valid in self._parts])
            known = np.cumsum(np.r_[0, self.valid])
            tracked = np.flatnonzero(self.start >= 0)
            start = self.start[tracked]
            self._whole[tracked] = known[start + self.length] - known[start] == self.length
        self._parts = []

    def gather(self, windows: IntArray, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Write `windows` (k,), all of which have a start, into values (k,Tc,3) and valid (k,Tc), C-contiguous."""
        start = self.start[windows]
        _copy_slices(self.values, start, values)
        if self._whole[windows].all():
            valid[:] = True
            return
        _copy_slices(self.valid, start, valid)
        self._repair_ends(windows, start, values)

    def _repair_ends(self, windows: IntArray, start: IntArray, values: NDArray[np.float32]) -> None:
        lead = self.first[windows] - start
        kept = self.last[windows] - start + 1
        for i in np.flatnonzero((lead > 0) | (kept < self.length)).tolist():
            a, b = int(lead[i]), int(kept[i])
            if a >= b:  # no valid position at all
                values[i] = 0
                continue
            values[i, :a] = values[i, a]
            values[i, b:] = values[i, b - 1]


def _copy_slices(array: NDArray[Any], start: IntArray, out: NDArray[Any]) -> None:
    """out[i] = array[start[i] : start[i] + out.shape[1]], as bytes: numpy takes longer to begin such a copy."""
    if not out.size:
        return
    source, target = array.data.cast("B"), out.data.cast("B")
    length = len(target) // len(out)
    at = 0
    for first in (start * (array.nbytes // len(array))).tolist():
        target[at : at + length] = source[first : first + length]
        at += length
