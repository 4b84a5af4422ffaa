"""Windows for PyTorch: the one module of fmfbench that imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import MissingDependencyError, WindowError
from fmfbench.windows.reader import Windows

try:
    import torch
    from torch.utils.data import DataLoader, Dataset, Sampler
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingDependencyError(
        "fmfbench.torch needs PyTorch, which is not installed: pip install 'fmfbench[models]'"
    ) from None

__all__ = ["WindowDataset", "WindowLoader", "make_loader"]

IntArray = NDArray[np.int64]
Tensors = dict[str, torch.Tensor]
Transform = Callable[[Tensors, torch.Generator], Tensors]


class WindowDataset(Dataset[Tensors]):
    """Windows as tensors: `video` uint8 (3,T,H,W), the rest as the numpy side has it.

    Args:
        windows: what `Dataset.windows` gave.
        transform: sees one sample's tensors and a generator seeded by (seed, epoch, sample id), so what it
            draws does not depend on workers, batches or order.
    """

    def __init__(self, windows: Windows, transform: Transform | None = None) -> None:
        self.windows = windows
        self.transform = transform

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Tensors:
        """One sample, as epoch 0 of seed 0 sees it."""
        return {name: tensor[0] for name, tensor in self.batch([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> list[Tensors]:
        """Samples for a loader of one's own; `make_loader` takes whole batches instead."""
        batch = self.batch(indices)
        return [{name: tensor[i] for name, tensor in batch.items()} for i in range(len(indices))]

    def batch(self, indices: Sequence[int] | IntArray, seed: int = 0, epoch: int = 0) -> Tensors:
        """The stacked tensors of several windows, `video` (B,3,T,H,W)."""
        tensors = {name: torch.from_numpy(array) for name, array in self.windows.batch(indices).items()}
        # A view: the channel stays last in memory, where a GPU's convolutions want it anyway.
        tensors["video"] = tensors["video"].permute(0, 4, 1, 2, 3)
        if self.transform is None or not len(indices):
            return tensors
        samples = [
            self.transform(
                {name: tensor[i] for name, tensor in tensors.items()},
                _generator(seed, epoch, int(tensors["sample_id"][i])),
            )
            for i in range(len(indices))
        ]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


class WindowLoader:
    """Batches of an epoch, in an order that (seed, epoch) alone decides; it can be resumed in the middle.

    Iterate it once an epoch, after `set_epoch`. `state_dict` tells how many batches of the epoch have been
    handed out; a loader that loads it goes on with the next.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        sampler: _BatchSampler,
        num_workers: int,
        context: str | None,
        pin_memory: bool,
    ) -> None:
        self.dataset = dataset
        self._sampler = sampler
        self._done = 0
        self._loader = DataLoader(
            _Batches(dataset, sampler.seed),
            batch_size=None,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=_as_is,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            multiprocessing_context=context if num_workers else None,
        )

    @property
    def num_workers(self) -> int:
        """Worker processes in use: none where the windows are in memory and a copy would only cost."""
        return self._loader.num_workers

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, from its first batch."""
        self._sampler.epoch = epoch
        self._done = 0

    def state_dict(self) -> dict[str, int]:
        return {"seed": self._sampler.seed, "epoch": self._sampler.epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["seed"] != self._sampler.seed:
            raise WindowError(
                f"wanted the state of a loader with seed {self._sampler.seed}, found seed {state['seed']}"
            )
        self._sampler.epoch = state["epoch"]
        self._done = state["batch"]

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._sampler.num_batches

    def __iter__(self) -> Iterator[Tensors]:
        if self._done >= len(self):
            self._done = 0
        self._sampler.start = self._done
        for batch in self._loader:
            self._done += 1
            yield batch


def make_loader(
    dataset: WindowDataset,
    batch_size: int = 64,
    shuffle: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    *,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> WindowLoader:
    """A loader of whole batches.

    Args:
        dataset: the windows.
        batch_size: windows in a batch, over all ranks together.
        shuffle: a permutation of (seed, epoch); otherwise in order of sample id.
        num_workers: processes that read; 0 reads in this one, and so do windows cached in memory.
        seed: decides order and transforms, and nothing else does.
        drop_last: leave out a last batch that is not full.
        rank: which share of every batch this process takes.
        world_size: how many processes share a batch.
        pin_memory: for copies to a GPU.
        start_method: "fork", "spawn" or "forkserver"; the platform's own by default.

    Raises:
        WindowError: sizes or ranks that make no sense.
    """
    if batch_size < 1 or num_workers < 0 or not 0 <= rank < world_size or batch_size % world_size:
        raise WindowError(
            "wanted batch_size of at least 1 that the ranks share evenly, num_workers of at least 0 and a rank "
            f"below world_size; found {batch_size}, {num_workers}, {rank} of {world_size}"
        )
    if dataset.windows.cache is not None:
        num_workers = 0
    sampler = _BatchSampler(len(dataset), batch_size, shuffle, seed, drop_last, rank, world_size)
    return WindowLoader(dataset, sampler, num_workers, start_method, pin_memory)


class _BatchSampler(Sampler[tuple[int, IntArray]]):
    """(epoch, positions) of each batch of an epoch, from batch `start` on."""

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_batches = length // batch_size if drop_last else -(-length // batch_size)
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[tuple[int, IntArray]]:
        epoch = self.epoch
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        for number in range(self.start, self.num_batches):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield epoch, batch[self.rank :: self.world_size]

    def __len__(self) -> int:
        return self.num_batches - self.start


class _Batches(Dataset[Tensors]):
    """A dataset whose item is a whole batch. The epoch comes with the key, so that workers may persist."""

    def __init__(self, dataset: WindowDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, key: tuple[int, IntArray]) -> Tensors:
        epoch, positions = key
        return self.dataset.batch(positions, self.seed, epoch)


def _as_is(batch: Any) -> Any:
    return batch


def _generator(seed: int, epoch: int, sample_id: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, epoch, sample_id]).generate_state(1, np.uint64)[0]
    generator = torch.Generator()
    generator.manual_seed(int(entropy >> np.uint64(1)))  # torch takes seeds below 2^63
    return generator
