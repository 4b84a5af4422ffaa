"""Times, splits and currents of recordings, as planning needs them: those used last are kept, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.windows.plan import Timeline

if TYPE_CHECKING:
    from fmfbench.store.recording import Recording

__all__ = ["Line", "Lines", "timeline"]

_KEPT_BYTES = 96 << 20  # about 9 million frames


@dataclass(frozen=True)
class Line:
    """A recording's timeline, and its currents (M,3) in A."""

    line: Timeline
    current: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        own = (self.line.frame_time, self.line.split, self.line.current_time, self.line.current_finite)
        return self.current.nbytes + sum(array.nbytes for array in own)


class Lines:
    """Lines of recordings, read when they are asked for, by any thread. Pickled copies start without any."""

    def __init__(self, recordings: tuple[Recording, ...], *, current: bool) -> None:
        self._recordings = recordings
        self._current = current
        self._kept: OrderedDict[int, Line] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def __getitem__(self, number: int) -> Line:
        with self._lock:
            found = self._kept.get(number)
            if found is None:
                # Read through a copy, which keeps what it reads no longer than this does.
                recording = copy(self._recordings[number])
                line = timeline(recording, current=self._current)
                found = Line(line, recording.current if self._current else np.empty((0, 3), np.float32))
                self._kept[number] = found
                self._bytes += found.nbytes
                while len(self._kept) > 1 and self._bytes > _KEPT_BYTES:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end(number)
            return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_recordings": self._recordings, "_current": self._current}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_recordings"], current=state["_current"])  # type: ignore[misc]


def timeline(recording: Recording, *, current: bool = True) -> Timeline:
    """What planning needs to know of a recording of a store; without `current` as if it had none."""
    if not current:
        none = np.empty(0, np.int64)
        return Timeline(recording.name, recording.frame_time, recording.split, none, none.astype(bool))
    return Timeline(
        recording.name,
        recording.frame_time,
        recording.split,
        recording.current_time,
        np.asarray(np.isfinite(recording.current).all(axis=1)),
    )
