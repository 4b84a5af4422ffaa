"""The order of windows in an epoch, where a pass through it begins, and samplers that tell it to others."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler, Sampler

from fmfbench.errors import WindowError
from fmfbench.windows.blocks import BlockOrder, BlockShuffle
from fmfbench.windows.permutation import LARGE, permuted, shuffled

__all__ = ["EpochOrder", "Key", "Pass", "ShareSampler", "WholeSampler", "WindowPlace"]

IntArray = NDArray[np.int64]
Key = tuple[int, IntArray]  # epoch, and places in its order


class WindowPlace(int):
    """A window's number, which also knows the epoch it is drawn for and its place in that epoch's order.

    So a dataset in a worker, or in a loader that a framework made of ours, reads and transforms as ours would.
    """

    epoch: int
    place: int

    @staticmethod
    def of(window: int, epoch: int, place: int) -> WindowPlace:
        out = WindowPlace(window)
        out.epoch, out.place = epoch, place
        return out


@dataclass
class Pass:
    """One pass through an epoch: `done` batches of it are handed out."""

    epoch: int
    done: int
    ended: bool = False


class EpochOrder:
    """What (seed, epoch) decides: which windows make which batch; and which epoch comes next.

    rank, world_size: None takes them from `torch.distributed` when a pass begins, where it is initialised.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool,
        blocks: BlockShuffle | None,
        seed: int,
        drop_last: bool,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.blocks = blocks
        self.seed = seed
        self.drop_last = drop_last
        self._share = None if rank is None or world_size is None else (rank, world_size)
        self.num_batches = length // batch_size if drop_last else -(-length // batch_size)
        self.epoch = 0  # of the next pass
        self._held = False  # whether set_epoch chose it
        self._start = 0  # first batch of the next pass
        self._newest: Pass | None = None
        self._drawn: tuple[int, BlockOrder | NDArray[np.integer]] | None = None

    def identity(self) -> dict[str, Any]:
        """What a place in an epoch means nothing without."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "buffer_bytes": None if self.blocks is None else self.blocks.buffer_bytes,
            "windows": self.length,
        }

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the passes to come; a place that was loaded for it is kept."""
        if epoch != self.epoch:
            self._start = 0
        if self._newest is not None and (self._newest.epoch != epoch or self._newest.ended):
            self._newest = None
        self.epoch = epoch
        self._held = True

    def state(self) -> dict[str, Any]:
        """Where the newest pass stands, or where the next one begins."""
        if self._newest is None:
            return {**self.identity(), "epoch": self.epoch, "batch": self._start}
        if self._newest.ended:
            return {**self.identity(), "epoch": self._newest.epoch + 1, "batch": 0}
        return {**self.identity(), "epoch": self._newest.epoch, "batch": self._newest.done}

    def load(self, state: dict[str, Any]) -> None:
        """Let the next pass resume where `state` stood; WindowError where that is of another order."""
        for name, own in self.identity().items():
            if state[name] != own:
                raise WindowError(
                    f"expected the state of a loader with {name} {own}, got {name} {state[name]}; "
                    "make this loader with the same arguments"
                )
        self.epoch, self._start = int(state["epoch"]), int(state["batch"])
        self._held, self._newest = False, None

    def begin(self) -> Pass:
        """A pass begins: from the first batch, or once where a state was loaded from there."""
        self._newest = Pass(self.epoch, self._start)
        self._start = 0
        if not self._held:
            self.epoch += 1
        return self._newest

    def share(self) -> tuple[int, int]:
        """(rank, world size)."""
        found = self._share or _distributed()
        if self.batch_size % found[1]:
            raise WindowError(
                f"expected a batch_size that {found[1]} ranks share evenly, got {self.batch_size}; it counts the "
                "windows of all ranks together"
            )
        return found

    def keys(self, begun: Pass) -> Iterator[Key]:
        """(epoch, places in its order) of each batch of this rank."""
        rank, world_size = self.share()
        self._tell_of_empty(world_size)
        for number in range(begun.done, self.num_batches):
            first = number * self.batch_size
            yield begun.epoch, np.arange(first + rank, min(first + self.batch_size, self.length), world_size)

    def windows(self, places: IntArray, epoch: int) -> IntArray:
        """(k,) windows at `places` (k,) of the epoch's order."""
        if not self.shuffle:
            return places
        if self.blocks is None and self.length > LARGE:
            return permuted(places, self.length, self.seed, epoch)
        kept = self._drawn  # other threads may change it for another epoch between two looks
        if kept is None or kept[0] != epoch:
            kept = self._drawn = (epoch, self._draw(epoch))
        drawn = kept[1]
        return drawn.windows(places) if isinstance(drawn, BlockOrder) else drawn[places].astype(np.int64)

    def _draw(self, epoch: int) -> BlockOrder | NDArray[np.integer]:
        if self.blocks is not None:
            return self.blocks.order(self.seed, epoch)
        return shuffled(self.length, self.seed, epoch)

    def places(self, parts: Iterable[IntArray], epoch: int) -> Iterator[WindowPlace]:
        """The windows at these places of an epoch's order."""
        for part in parts:
            for window, place in zip(self.windows(part, epoch).tolist(), part.tolist(), strict=True):
                yield WindowPlace.of(window, epoch, place)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": None}

    def _tell_of_empty(self, world_size: int) -> None:
        rest = self.length % self.batch_size
        if not self.drop_last and 0 < rest < world_size:
            warnings.warn(
                f"the last batch has {rest} windows for {world_size} ranks, so that some get an empty one; "
                "drop_last=True leaves it out",
                stacklevel=3,
            )


class WholeSampler(Sampler[int]):
    """All windows in the loader's order, for a framework that shares them out itself."""

    def __init__(self, order: EpochOrder) -> None:
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        begun = self.order.begin()
        size, length = self.order.batch_size, self.order.length
        firsts = range(begun.done * size, length, size)
        return self.order.places((np.arange(at, min(at + size, length)) for at in firsts), begun.epoch)

    def __len__(self) -> int:
        return self.order.length


class ShareSampler(DistributedSampler[int]):
    """This rank's windows in the loader's order.

    A `DistributedSampler`, by which frameworks (Lightning, Fabric, Ray) see that the windows are shared out already.
    Unlike torch's it repeats no window: the shares of all ranks are the epoch.
    """

    def __init__(self, dataset: Sized, order: EpochOrder) -> None:
        super().__init__(
            dataset,  # type: ignore[arg-type]
            num_replicas=1,
            rank=0,
            shuffle=order.shuffle,
            seed=order.seed,
            drop_last=order.drop_last,
        )
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        self.rank, self.num_replicas = self.order.share()
        begun = self.order.begin()
        return self.order.places((places for _, places in self.order.keys(begun)), begun.epoch)

    def __len__(self) -> int:
        rank, world_size = self.order.share()
        size, rest = divmod(self.order.length, self.order.batch_size)
        whole = size * (self.order.batch_size // world_size)
        return whole if self.order.drop_last else whole + len(range(rank, rest, world_size))


def _distributed() -> tuple[int, int]:
    """(rank, world size) as torch.distributed has them; alone where it is not initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        warnings.warn(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but torch.distributed is not initialised: this process gets "
            "all windows; initialise it first, or name rank and world_size",
            stacklevel=2,
        )
    return 0, 1
