"""Shuffled epochs out of core: an order that keeps neighbours near enough to be read together.

The split is cut into blocks of neighbouring samples, at an offset drawn for the epoch. The blocks are put in
random order and dealt into groups that fit into the buffer; within a group every order of its windows is equally
likely. So a chunk is read about once an epoch (a block also reads the few frames before it that its first
windows reach back to), and each batch draws evenly from all blocks of its group, which come from all over the
split. With g blocks in a group two windows of a batch share a block with probability 1/g; in a full shuffle
of b blocks it is 1/b. A split that fits into the buffer is one group, and its order a full shuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import WindowError
from fmfbench.store.ids import group_by
from fmfbench.windows.index import Arrays, WindowIndex
from fmfbench.windows.loaded import LoadedWindows, loaded_bytes
from fmfbench.windows.packing import Layout
from fmfbench.windows.permutation import LARGE

__all__ = ["BlockOrder", "BlockReader", "BlockShuffle"]

IntArray = NDArray[np.int64]

# A block this many times longer than what it reads besides its own frames reads 1.08 times its bytes.
_LENGTHS_OF_REACH = 12
_WANTED_BLOCKS = 16  # of a group, before blocks are made shorter


class BlockOrder:
    """Places 0..n-1 of an epoch, in groups: group g is places bounds[g] to bounds[g+1].

    Args:
        bounds: (groups + 1,).
        draw: makes the windows (m,) of a group, in order.
        whole: the order of all, where it is drawn at once.
    """

    def __init__(
        self, bounds: IntArray, draw: Callable[[int], IntArray], whole: NDArray[np.integer] | None = None
    ) -> None:
        self.bounds = bounds
        self._draw = draw
        self._whole = whole
        self._drawn: tuple[int, IntArray] | None = None

    @property
    def num_groups(self) -> int:
        return len(self.bounds) - 1

    @property
    def order(self) -> NDArray[np.integer]:
        """(n,) the windows in order."""
        if self._whole is not None:
            return self._whole
        return np.concatenate([np.empty(0, np.int64), *map(self.group, range(self.num_groups))])

    def group(self, number: int) -> NDArray[np.integer]:
        """(m,) the windows of a group, in order."""
        if self._whole is not None:
            return self._whole[self.bounds[number] : self.bounds[number + 1]]
        kept = self._drawn  # other threads may draw another meanwhile
        if kept is None or kept[0] != number:
            kept = self._drawn = (number, self._draw(number))
        return kept[1]

    def groups_of(self, places: IntArray) -> IntArray:
        """(k,) the groups of `places` (k,)."""
        return np.searchsorted(self.bounds, places, side="right") - 1

    def windows(self, places: IntArray) -> IntArray:
        """(k,) the windows at `places` (k,)."""
        if self._whole is not None:
            return self._whole[places].astype(np.int64)
        out = np.empty(len(places), np.int64)
        for number, at in group_by(self.groups_of(places)):
            out[at] = self.group(number)[places[at] - self.bounds[number]]
        return out


class BlockShuffle:
    """How a split is cut so that two groups of its blocks stay within `buffer_bytes`.

    Two, because one is read while the other is handed out.

    Attributes:
        block_frames: frames from which a block takes its samples.
        group_blocks: blocks of a group, at most; 0 where the whole split fits.
        spare_bytes: of the buffer, what currents may take that are kept, where the whole split fits.
    """

    def __init__(self, index: WindowIndex, buffer_bytes: int) -> None:
        self.index = index
        self.buffer_bytes = buffer_bytes
        self._size = index.whole_size
        reach = (index.protocol.num_frames - 1) * index.protocol.stride
        chunk = max((r.video.spec.chunk for r in index.recordings), default=1)
        room = buffer_bytes // 2
        least = reach + chunk
        fitting = self._longest(room // _WANTED_BLOCKS, reach)
        self.block_frames = max(least, min(_LENGTHS_OF_REACH * least, fitting))
        if self._bytes(self.block_frames, reach) > room:
            self.block_frames = self._longest(room, reach)
        if self.block_frames < 1:
            raise WindowError(
                f"expected a buffer that holds two blocks of at least {self._bytes(1, reach)} bytes, "
                f"got buffer_bytes {buffer_bytes}"
            )
        self.group_blocks = room // self._bytes(self.block_frames, reach)
        whole = self._whole()
        self.spare_bytes = max(0, buffer_bytes - whole)
        if whole <= buffer_bytes:
            self.group_blocks = 0

    def order(self, seed: int, epoch: int) -> BlockOrder:
        """The order that (seed, epoch) decides."""
        n = len(self.index)
        rng = np.random.default_rng([seed, epoch])
        if not self.group_blocks:
            whole = rng.permutation(n)
            return BlockOrder(np.unique([0, n]), lambda group: whole, whole)
        starts = self.index.block_starts(self.block_frames, int(rng.integers(self.block_frames)))
        stops = np.r_[starts[1:], n]
        blocks = rng.permutation(len(starts))
        groups = np.array_split(blocks, -(-len(blocks) // self.group_blocks))
        sizes = [int((stops[group] - starts[group]).sum()) for group in groups]

        def members(group: int) -> IntArray:
            return np.concatenate([np.arange(starts[b], stops[b]) for b in groups[group].tolist()])

        def drawn(group: int) -> IntArray:
            # Each by a generator of its own, so that none waits for those before it.
            own: IntArray = np.random.default_rng([seed, epoch, group]).permutation(members(group))
            return own

        bounds = np.cumsum([0, *sizes])
        if n > LARGE:
            return BlockOrder(bounds, drawn)
        parts = [rng.permutation(members(group)) for group in range(len(groups))]
        return BlockOrder(bounds, drawn, np.concatenate(parts))

    def _bytes(self, block_frames: int, reach: int) -> int:
        frames, windows = np.array([block_frames + reach]), np.array([block_frames])
        return int(loaded_bytes(self.index, frames, windows, self._size)[0])

    def _longest(self, room: int, reach: int) -> int:
        """Frames of the longest block within `room` bytes."""
        none, one = self._bytes(0, reach), self._bytes(1, reach)
        return max(0, (room - none) // (one - none))

    def _whole(self) -> int:
        frames = np.array([self.index.num_frames])
        return int(loaded_bytes(self.index, frames, np.array([len(self.index)]), self._size)[0])


class BlockReader:
    """Groups of one epoch's order, read when they are asked for; `read` keeps the last one.

    keep_bytes: what the currents may take that a whole split keeps planned, at most.
    """

    def __init__(self, index: WindowIndex, order: BlockOrder, keep_bytes: int = 0) -> None:
        self.index = index
        self.order = order
        self.keep_bytes = keep_bytes
        self._kept: tuple[int, LoadedWindows] | None = None

    def renewed(self, order: BlockOrder) -> BlockReader:
        """A reader for another epoch, with what both have in common: the whole split, where it is one group."""
        reader = BlockReader(self.index, order, self.keep_bytes)
        if self.order.num_groups == order.num_groups == 1:
            reader._kept = self._kept
        return reader

    def load(self, group: int) -> LoadedWindows:
        """The windows of a group, in order of sample id."""
        if self.order.num_groups == 1 and self._kept is not None:
            return self._kept[1]
        alone = self.order.num_groups == 1
        windows = np.sort(self.order.group(group))
        loaded = LoadedWindows(self.index, windows, keep_bytes=self.keep_bytes if alone else 0)
        if alone:
            self._kept = (group, loaded)
        return loaded

    def parts(self, places: IntArray) -> Iterator[tuple[int, slice]]:
        """(group, part of `places`) for rising `places` (n,) in the order."""
        group = self.order.groups_of(places)
        cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(places)]
        for start, stop in pairwise(cuts):
            if stop > start:
                yield int(group[start]), slice(start, stop)

    def layout(self, places: IntArray) -> Layout:
        return self.index.layout_of(self.order.windows(places))

    def fill(self, loaded: LoadedWindows, places: IntArray, part: slice, out: Arrays) -> None:
        """Write the windows at places[part], which `loaded` holds, into out[part]."""
        rows = np.searchsorted(loaded.windows, self.order.windows(places[part]))
        loaded.fill(rows, {name: array[part] for name, array in out.items()})

    def read(self, places: IntArray, out: Arrays) -> None:
        """Write the windows at `places` of the order, reading what is not at hand."""
        for group, part in self.parts(places):
            if self._kept is None or self._kept[0] != group:
                self._kept = None  # before the next is read: the buffer holds two
                self._kept = (group, self.load(group))
            self.fill(self._kept[1], places, part, out)
