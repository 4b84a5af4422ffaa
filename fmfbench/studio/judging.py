"""A model's scores of the recording that is shown, worked out while it is looked at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmfbench.data import Dataset
from fmfbench.errors import FmfbenchError
from fmfbench.store.recording import Recording

__all__ = ["Judge", "Judging", "Verdicts", "order_of"]

NONE = 255
_AT_ONCE = 32
_COARSE = 25


class Judge(Protocol):
    """What gives scores.

    `name` of the model, the `threshold` above which they are abnormal, and a call for some samples of a store.
    """

    name: str
    threshold: float

    def __call__(
        self, data: Dataset, sample_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """score (n,) in [0, 1], and mask (n,H,W) of 0 and 1 or None; in the order of the ids, which rise."""
        ...


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What is known of a recording so far.

    score (N,) float32, NaN where a frame was not judged yet; masks (N, bytes) packed, of shape (H,W), or None of a
    model without masks. threshold: above it a score is abnormal.
    """

    score: NDArray[np.float32]
    bits: NDArray[np.uint8] | None
    threshold: float = 0.5

    @property
    def decision(self) -> NDArray[np.uint8]:
        """(N,) 1 abnormal, 0 normal, 255 not judged yet; a score at the threshold is normal."""
        return np.where(np.isnan(self.score), NONE, self.score > self.threshold).astype(np.uint8)


class Judging:
    """Judges one recording at a time, from the frame that is looked at.

    First one frame of each second, then all others. Methods may be called from any thread.

    Args:
        judge: the model.
        data: gives the store as it is now.
    """

    def __init__(self, judge: Judge, data: Any) -> None:
        self.name, self.threshold = judge.name, judge.threshold
        self._judge, self._data = judge, data
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)
        self._goal: tuple[str, int] | None = None
        self._found: dict[str, Verdicts] = {}
        self._error: str | None = None
        self._ended = False
        self._thread: threading.Thread | None = None

    def begin(self, name: str, frame: int) -> None:
        """Judge this recording now, from this frame on; what is known of others is kept."""
        with self._lock:
            self._goal, self._error = (name, frame), None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._wanted.notify_all()

    def found(self, recording: Recording) -> Verdicts:
        """What is known of a recording."""
        with self._lock:
            known = self._found.get(recording.name)
            if known is None:
                empty = np.full(recording.num_frames, np.nan, np.float32)
                return Verdicts(score=empty, bits=None, threshold=self.threshold)
            return known

    def state(self) -> dict[str, Any]:
        """What is being judged, how far it is, and what went wrong.

        The recording (None: none yet), how many of its frames are `done` of `total`, and an `error` where judging had
        to end.
        """
        with self._lock:
            name = None if self._goal is None else self._goal[0]
            score = None if name is None or name not in self._found else self._found[name].score
            return {
                "recording": name,
                "done": 0 if score is None else int(np.count_nonzero(~np.isnan(score))),
                "total": 0 if score is None else len(score),
                "error": self._error,
            }

    def stop(self) -> None:
        """End after the frames that are being judged."""
        with self._lock:
            self._ended = True
            self._wanted.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _work(self) -> None:
        done: tuple[str, int] | None = None
        while True:
            with self._lock:
                while not self._ended and self._goal in (None, done):
                    self._wanted.wait()
                if self._ended:
                    return
                goal = self._goal
            assert goal is not None
            try:
                self._pursue(goal)
            except FmfbenchError as error:
                with self._lock:
                    self._error = str(error)
            except Exception as error:  # a model of someone's own: the page stays, and says it
                with self._lock:
                    self._error = f"{self.name}: {type(error).__name__}: {error}"
            done = goal

    def _pursue(self, goal: tuple[str, int]) -> None:
        name, frame = goal
        recording = self._data().recordings[name]
        known = self.found(recording)
        for frames in order_of(np.isnan(known.score), frame):
            with self._lock:
                if self._ended or self._goal != goal:
                    return
            score, masks = self._judge(self._data(), recording.first_id + frames)
            with self._lock:
                self._found[name] = known = _with(known, frames, score, masks)


def order_of(missing: NDArray[np.bool_], frame: int) -> Iterator[NDArray[np.int64]]:
    """Frames that are missing, some at a time and rising within: every 25th of all, then the others.

    Each from `frame` to the end and then from the start.

    >>> [part.tolist() for part in order_of(np.ones(30, bool), 10)]
    [[25], [0], [10, 11, 12, ..., 24, 26, 27, 28, 29], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    """
    frames = np.flatnonzero(missing)
    coarse = frames % _COARSE == 0
    for part in (frames[coarse], frames[~coarse]):
        for side in (part[part >= frame], part[part < frame]):
            for start in range(0, len(side), _AT_ONCE):
                yield side[start : start + _AT_ONCE].astype(np.int64)


def _with(
    known: Verdicts, frames: NDArray[np.int64], score: NDArray[np.float32], masks: NDArray[np.uint8] | None
) -> Verdicts:
    scores = known.score.copy()  # readers hold the one before
    scores[frames] = score
    bits = known.bits
    if masks is not None:
        packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
        if bits is None:
            bits = np.zeros((len(scores), packed.shape[1]), np.uint8)
        bits[frames] = packed  # not read where there is no score yet
    return replace(known, score=scores, bits=bits)
