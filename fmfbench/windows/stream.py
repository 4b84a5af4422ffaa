"""Batches of a block order, made ahead by threads of this process while another reads what comes next.

Copying frames and decoding chunks leave Python's lock alone, so threads do both side by side, and nothing is
shipped between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fmfbench.windows.blocks import BlockReader
from fmfbench.windows.index import Arrays
from fmfbench.windows.loaded import LoadedWindows
from fmfbench.windows.ordered import cancel
from fmfbench.windows.packing import Layout

__all__ = ["stream_blocks"]

Made = TypeVar("Made")
IntArray = NDArray[np.int64]


def stream_blocks(
    reader: BlockReader,
    allocate: Callable[[Layout], Arrays],
    finish: Callable[[Arrays], Made],
    keys: Iterable[IntArray],
    threads: int,
) -> Iterator[Made]:
    """finish(batch) for the places of every key, in order, while one more thread reads the next group.

    The arrays of a batch come from `allocate`.
    """
    if not threads:
        for places in keys:
            out = allocate(reader.layout(places))
            reader.read(places, out)
            yield finish(out)
        return

    def gather(loaded: LoadedWindows, places: IntArray) -> Made:
        out = allocate(reader.layout(places))
        reader.fill(loaded, places, slice(None), out)
        return finish(out)

    groups = _Groups(reader)
    with ThreadPoolExecutor(threads, "fmfbench-gather") as pool, groups.executor:
        pending: deque[Future[Made]] = deque()
        try:
            for places in keys:
                parts = list(reader.parts(places))
                if len(parts) == 1 and groups.holds(parts[0][0]):
                    pending.append(pool.submit(gather, groups.current, places))
                    if len(pending) > 2 * threads:
                        yield pending.popleft().result()
                    continue
                while pending:  # all that read the group at hand, before the next takes its place
                    yield pending.popleft().result()
                out = allocate(reader.layout(places))
                for group, part in parts:
                    groups.advance(group)
                    reader.fill(groups.current, places, part, out)
                yield finish(out)
            while pending:
                yield pending.popleft().result()
        finally:
            cancel(pending)
            groups.cancel()


class _Groups:
    """The group at hand and the one being read: never more than two."""

    def __init__(self, reader: BlockReader) -> None:
        self.executor = ThreadPoolExecutor(1, "fmfbench-read")
        self._reader = reader
        self._number = -1
        self._current: LoadedWindows | None = None
        self._coming: tuple[int, Future[LoadedWindows]] | None = None

    @property
    def current(self) -> LoadedWindows:
        assert self._current is not None
        return self._current

    def holds(self, group: int) -> bool:
        return self._current is not None and self._number == group

    def advance(self, group: int) -> None:
        """Make `group` the one at hand and begin to read the next."""
        if self.holds(group):
            return
        self._current = None
        if self._coming is None or self._coming[0] != group:
            self.cancel()
            self._coming = (group, self.executor.submit(self._reader.load, group))
        self._number, self._current = group, self._coming[1].result()
        self._coming = None
        if group + 1 < self._reader.order.num_groups:
            self._coming = (group + 1, self.executor.submit(self._reader.load, group + 1))

    def cancel(self) -> None:
        if self._coming is not None:
            self._coming[1].cancel()
            self._coming = None
