"""Batches of the numpy side by their places in an epoch's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.torch.order import EpochOrder, Key
from fmfbench.windows.blocks import BlockReader
from fmfbench.windows.index import Arrays
from fmfbench.windows.packing import Layout, Recycler
from fmfbench.windows.reader import Windows

__all__ = ["BatchMaker"]

_KEPT_BUFFERS = 4


class BatchMaker:
    """Makes the batches of an order; the epoch comes with the key, so that worker processes may persist."""

    def __init__(self, windows: Windows, order: EpochOrder) -> None:
        self.windows = windows
        self.order = order
        self._recycler = Recycler(_KEPT_BUFFERS)
        self._reader: tuple[int, BlockReader] | None = None

    def reader(self, epoch: int) -> BlockReader:
        """The epoch's block order and what has been read of it."""
        blocks = self.order.blocks
        assert blocks is not None
        if self._reader is None:
            order = blocks.order(self.order.seed, epoch)
            self._reader = (epoch, BlockReader(blocks.index, order, blocks.spare_bytes))
        elif self._reader[0] != epoch:
            self._reader = (epoch, self._reader[1].renewed(blocks.order(self.order.seed, epoch)))
        return self._reader[1]

    def windows_of(self, key: Key) -> NDArray[np.int64]:
        """Which windows a batch holds."""
        epoch, places = key
        return self.order.windows(places, epoch)

    def read(self, key: Key, allocate: Callable[[Layout], Arrays] | None = None) -> Arrays:
        """The batch, in arrays from `allocate`."""
        windows = self.windows_of(key)
        out = (allocate or self._recycler.batch)(self.windows.samples.layout_of(windows))
        if self.order.blocks is not None and self.windows.cache is None:
            self.reader(key[0]).read(key[1], out)
            return out
        self.windows.fill(windows, out)
        return out

    def __getstate__(self) -> dict[str, Any]:
        empty = {"_reader": None, "_recycler": Recycler(_KEPT_BUFFERS)}
        return {**self.__dict__, **empty}
