"""Sample ids as runs: a split of 90 million frames is a few thousand runs of neighbours, not 720 MB of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SampleIds", "group_by", "true_runs"]

IntArray = NDArray[np.int64]

_LEAST_LENGTH = 8  # ids in a run, on average, below which an array is smaller


class SampleIds:
    """Sample ids in a fixed order: runs of ids `step` apart where there are long ones, an array where not.

    Example:
        >>> ids = SampleIds.of_runs([(3, 6), (10, 12)])
        >>> len(ids), ids[[0, 3]].tolist(), ids.array().tolist(), ids.every(2).array().tolist()
        (5, [3, 10], [3, 4, 5, 10, 11], [3, 5, 11])
    """

    def __init__(
        self, first: IntArray, count: IntArray, step: int = 1, array: NDArray[np.integer] | None = None
    ) -> None:
        self._first, self._step = first, step
        self._begin = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)  # place of each run's first id
        self._array = array
        self.ascending = (
            bool((np.diff(first) > 0).all()) if array is None else bool((array[1:] > array[:-1]).all())
        )

    @classmethod
    def of_runs(cls, runs: Iterable[tuple[int, int]]) -> SampleIds:
        """Ids start..stop-1 of each run, in order."""
        bounds = np.array([run for run in runs if run[1] > run[0]], np.int64).reshape(-1, 2)
        return cls(bounds[:, 0], bounds[:, 1] - bounds[:, 0])

    @classmethod
    def of(cls, ids: ArrayLike) -> SampleIds:
        """These ids, in the order given; what they are kept as is theirs to choose."""
        array = np.asarray(ids).reshape(-1)
        begins = np.flatnonzero(np.diff(array) != 1) + 1
        if _LEAST_LENGTH * (len(begins) + 1) <= len(array):
            begins = np.concatenate([[0], begins])
            count = np.diff(begins, append=len(array))
            return cls(array[begins].astype(np.int64), count)
        small = not len(array) or (array.min() >= 0 and array.max() < 2**32)
        none = np.empty(0, np.int64)
        return cls(none, none, array=array.astype(np.uint32 if small else np.int64))

    def __len__(self) -> int:
        return int(self._begin[-1]) if self._array is None else len(self._array)

    def __getitem__(self, places: ArrayLike) -> IntArray:
        """(k,) ids at `places` (k,), each from 0 to len - 1."""
        at = np.asarray(places)
        if self._array is not None:
            return self._array[at].astype(np.int64)
        run = np.searchsorted(self._begin, at, side="right") - 1
        out: IntArray = self._first[run] + (at - self._begin[run]) * self._step
        return out

    def array(self) -> IntArray:
        """(n,) all of them."""
        if self._array is not None:
            return self._array.astype(np.int64)
        out = np.empty(len(self), np.int64)
        for first, start, stop in self._runs():
            out[start:stop] = np.arange(first, first + (stop - start) * self._step, self._step)
        return out

    def below(self, ids: ArrayLike) -> IntArray:
        """(k,) how many of them, which must be ascending, are below each of `ids` (k,)."""
        asked = np.asarray(ids, np.int64)
        if self._array is not None:
            return np.searchsorted(self._array, asked).astype(np.int64)
        run = np.searchsorted(self._first, asked, side="left") - 1
        before = np.maximum(run, 0)
        if not len(self._first):
            return np.zeros(asked.shape, np.int64)
        inside = -(-(asked - self._first[before]) // self._step)
        count = self._begin[before + 1] - self._begin[before]
        return np.where(run < 0, 0, self._begin[before] + np.clip(inside, 0, count))

    def every(self, step: int) -> SampleIds:
        """Each `step`-th of them, the first one included."""
        if step == 1:
            return self
        if self._array is not None or self._step != 1:
            return SampleIds.of(self.array()[::step])
        skipped = -self._begin[:-1] % step
        count = -(-(np.diff(self._begin) - skipped) // step)
        some = count > 0
        return SampleIds((self._first + skipped)[some], count[some], step)

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        begin = self._begin.tolist()
        yield from zip(self._first.tolist(), begin[:-1], begin[1:], strict=True)


def true_runs(flags: NDArray[np.bool_]) -> IntArray:
    """(r,2) start and stop of each run of True.

    Example:
        >>> true_runs(np.array([True, True, False, True])).tolist()
        [[0, 2], [3, 4]]
    """
    if not len(flags):
        return np.empty((0, 2), np.int64)
    inner = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    first, last = [0] if flags[0] else [], [len(flags)] if flags[-1] else []
    return np.concatenate([first, inner, last]).astype(np.int64).reshape(-1, 2)


def group_by(number: NDArray[np.integer]) -> list[tuple[int, IntArray]]:
    """Each value of `number` (n,) in rising order, and the places that have it, rising too.

    Example:
        >>> [(value, places.tolist()) for value, places in group_by(np.array([4, 2, 4]))]
        [(2, [1]), (4, [0, 2])]
    """
    if not len(number):
        return []
    change = np.diff(number)
    if (change >= 0).all():
        order = np.arange(len(number))
        cuts = np.flatnonzero(change) + 1
    else:
        order = np.argsort(number, kind="stable")
        cuts = np.flatnonzero(np.diff(number[order])) + 1
    return [(int(number[places[0]]), places) for places in np.split(order, cuts)]
