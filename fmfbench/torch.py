"""Windows for PyTorch: the one module of fmfbench that imports torch."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import MissingDependencyError, WindowError
from fmfbench.windows.blocks import BlockReader, BlockShuffle
from fmfbench.windows.index import Batch, window_places
from fmfbench.windows.loaded import LoadedWindows
from fmfbench.windows.ordered import in_order
from fmfbench.windows.packing import Layout, Recycler, allocate, packed_bytes, unpack
from fmfbench.windows.reader import Windows
from fmfbench.windows.stream import stream_blocks

try:
    import torch
    from torch.utils.data import DataLoader, Dataset, Sampler
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingDependencyError(
        "fmfbench.torch needs PyTorch, which is not installed: pip install 'fmfbench[models]'"
    ) from None

__all__ = ["DeviceWindows", "WindowDataset", "WindowLoader", "make_loader"]

IntArray = NDArray[np.int64]
Tensors = dict[str, torch.Tensor]
Transform = Callable[[Tensors, torch.Generator], Tensors]
Shipped = tuple[torch.Tensor, Layout]  # a batch of the numpy side, packed
Key = tuple[int, IntArray]  # epoch, and the places in its order or the windows of a batch

BUFFER_BYTES = 2**30


class WindowDataset(Dataset[Tensors]):
    """Windows as tensors: `video` uint8 (3,T,H,W), the rest as the numpy side has it.

    Args:
        windows: what `Dataset.windows` gave. With cache "device" they move to the device with the first batch.
        transform: sees one sample's tensors and a generator seeded by (seed, epoch, sample id), so what it
            draws does not depend on workers, batches or order.
        device: where batches are wanted; for cache "device" the first GPU if there is one, otherwise the CPU.
    """

    def __init__(
        self,
        windows: Windows,
        transform: Transform | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.windows = windows
        self.transform = transform
        if device is None and windows.cache == "device":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = None if device is None else torch.device(device)
        self._on_device: DeviceWindows | None = None

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
        if self.windows.cache == "device":
            where = window_places(indices, len(self))
            return self._transformed(self.on_device().batch(where), seed, epoch)
        return self.to_device(self.to_tensors(self.windows.batch(indices), seed, epoch))

    def on_device(self) -> DeviceWindows:
        """The windows of cache "device", moved there once."""
        if self._on_device is None:
            assert self.device is not None
            self._on_device = DeviceWindows(self.windows, self.device)
        return self._on_device

    def to_tensors(self, batch: Batch, seed: int, epoch: int) -> Tensors:
        """The numpy side's batch as tensors of the same memory, transformed."""
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        # A view: the channel stays last in memory, where a GPU's convolutions want it anyway.
        tensors["video"] = tensors["video"].permute(0, 4, 1, 2, 3)
        return self._transformed(tensors, seed, epoch)

    def to_device(self, tensors: Tensors) -> Tensors:
        if self.device is None:
            return tensors
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def _transformed(self, tensors: Tensors, seed: int, epoch: int) -> Tensors:
        if self.transform is None or not len(tensors["sample_id"]):
            return tensors
        samples = [
            self.transform(
                {name: tensor[i] for name, tensor in tensors.items()}, _generator(seed, epoch, sample_id)
            )
            for i, sample_id in enumerate(tensors["sample_id"].tolist())
        ]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": None}


class DeviceWindows:
    """A split's windows on a torch device: frames as uint8, each once, and gathered there.

    While it is made the host holds the same bytes. `batch` equals the numpy side's bytes.
    """

    def __init__(self, windows: Windows, device: str | torch.device) -> None:
        self.device = torch.device(device)
        index = windows.samples
        loaded = LoadedWindows(index, np.arange(len(windows)), windows.threads)
        self._frame_shape = loaded.video.shape[1:]
        self._mask_shape = loaded.mask.shape[1:]
        self._video = self._rows(loaded.video)
        # The last entry is what windows without pixel labels take.
        self._mask = self._rows(np.concatenate([loaded.mask, np.zeros((1, *self._mask_shape), np.uint8)]))
        self._video_index = self._put(loaded.video_index)
        self._video_valid = self._put(loaded.video_valid)
        self._mask_valid = self._put(loaded.mask_index >= 0)
        self._mask_index = self._put(np.where(loaded.mask_index < 0, len(loaded.mask), loaded.mask_index))
        self._class_label = self._put(index.class_label)
        self._sample_id = self._put(index.sample_ids)
        self._put_currents(loaded)

    def _put_currents(self, loaded: LoadedWindows) -> None:
        """Every window a slice of one table: tracks, then the windows that have none, then a row of zeros."""
        table = loaded.index.currents
        length = table.length
        own = np.flatnonzero(loaded.own_current >= 0)
        start, first, last = table.start.copy(), table.first.copy(), table.last.copy()
        start[own] = len(table.valid) + loaded.own_current[own] * length
        first[own], last[own] = start[own], start[own] + length - 1
        zeros = len(table.valid) + loaded.own_valid.size
        none = first > last
        first[none] = last[none] = zeros
        values = [table.values, loaded.own_values.reshape(-1, 3), np.zeros((1, 3), np.float32)]
        self._values = self._put(np.concatenate(values))
        self._valid = self._put(np.concatenate([table.valid, loaded.own_valid.reshape(-1)]))
        self._start, self._first, self._last = self._put(start), self._put(first), self._put(last)
        self._steps = torch.arange(length, device=self.device)

    def __len__(self) -> int:
        return len(self._sample_id)

    def batch(self, indices: Sequence[int] | IntArray) -> Tensors:
        """The stacked tensors of windows 0..n-1, `video` (B,3,T,H,W)."""
        host = window_places(indices, len(self))
        if np.any(np.asarray(indices) < 0):
            raise IndexError("expected windows counted from 0 on a device, got negative ones")
        at = torch.from_numpy(host).to(self.device, non_blocking=True)
        frames = self._video_index.index_select(0, at)
        video = self._video.index_select(0, frames.reshape(-1)).view(torch.uint8)
        position = self._start.index_select(0, at)[:, None] + self._steps
        first, last = self._first.index_select(0, at)[:, None], self._last.index_select(0, at)[:, None]
        held = position.clamp(first, last)
        mask = self._mask.index_select(0, self._mask_index.index_select(0, at)).view(torch.uint8)
        return {
            "video": video.view(*frames.shape, *self._frame_shape).permute(0, 4, 1, 2, 3),
            "current": self._values.index_select(0, held.reshape(-1)).view(*held.shape, 3),
            "video_valid": self._video_valid.index_select(0, at),
            "current_valid": self._valid.index_select(0, position.reshape(-1)).view(position.shape),
            "class_label": self._class_label.index_select(0, at),
            "mask": mask.view(len(host), *self._mask_shape),
            "mask_valid": self._mask_valid.index_select(0, at),
            "sample_id": self._sample_id.index_select(0, at),
        }

    def _put(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _rows(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """(F, bytes of a frame), eight bytes to an element where they divide, so that a device copies wide."""
        rows = torch.from_numpy(frames.reshape(len(frames), int(np.prod(frames.shape[1:]))))
        return (rows.view(torch.int64) if rows.shape[1] % 8 == 0 and rows.shape[1] else rows).to(self.device)


class WindowLoader:
    """Batches of an epoch, in an order that (seed, epoch) alone decides; it can be resumed in the middle.

    Iterate it once an epoch, after `set_epoch`. `state_dict` tells how many batches of the epoch have been
    handed out; a loader that loads it resumes with the next.

    Attributes:
        num_threads: threads of this process that make batches ahead; none where processes do.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        sampler: _BatchSampler,
        workers: int,
        start_method: str | None,
        pin_memory: bool,
    ) -> None:
        self.dataset = dataset
        self._sampler = sampler
        self._pin_memory = pin_memory and torch.cuda.is_available()
        self._done = 0
        self._batches = _Batches(dataset, sampler.seed, sampler.blocks)
        in_process = dataset.windows.cache is not None or sampler.blocks is not None
        processes = 0 if in_process and start_method is None else workers
        self.num_threads = 0 if processes or dataset.windows.cache == "device" else workers
        self._recycler = Recycler(keep=2 * self.num_threads + 2)
        self._loader: DataLoader[Any] | None = None
        if processes:
            method = start_method or multiprocessing.get_start_method()
            if method == "fork":  # what stands in memory before the fork is shared
                dataset.windows.load()
            self._loader = DataLoader(
                self._batches,
                batch_size=None,
                sampler=sampler,
                num_workers=processes,
                collate_fn=_as_is,
                pin_memory=self._pin_memory,
                persistent_workers=True,
                multiprocessing_context=method,
            )

    @property
    def num_workers(self) -> int:
        """Worker processes in use: none where this process makes the batches itself."""
        return 0 if self._loader is None else self._loader.num_workers

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, from its first batch."""
        self._sampler.epoch = epoch
        self._done = 0

    def state_dict(self) -> dict[str, Any]:
        return {**self._sampler.identity(), "epoch": self._sampler.epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the loader of `state` stood.

        Raises:
            WindowError: that loader had another order or other batches.
        """
        for name, own in self._sampler.identity().items():
            if state[name] != own:
                raise WindowError(
                    f"expected the state of a loader with {name} {own}, got {name} {state[name]}; "
                    "make this loader with the same arguments"
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
        for batch in self._epoch():
            self._done += 1
            yield self.dataset.to_device(batch)

    def _epoch(self) -> Iterator[Tensors]:
        if self._loader is not None:
            return map(self._received, self._loader)
        windows = self.dataset.windows
        if windows.cache is None and self._sampler.blocks is not None:
            epoch = self._sampler.epoch
            reader, finish = self._batches.reader(epoch), partial(self._finish, epoch)
            places = (places for _, places in self._sampler)
            return stream_blocks(reader, self._recycler.batch, finish, places, self.num_threads)
        windows.load()  # before threads could each begin to
        return in_order(self._make, iter(self._sampler), self.num_threads)

    def _make(self, key: Key) -> Tensors:
        if self.dataset.windows.cache == "device":
            return self.dataset.batch(self._batches.windows(key), self._sampler.seed, key[0])
        return self._finish(key[0], self._batches.read(key, self._recycler.batch))

    def _finish(self, epoch: int, batch: Batch) -> Tensors:
        tensors = self.dataset.to_tensors(batch, self._sampler.seed, epoch)
        return {k: v.pin_memory() for k, v in tensors.items()} if self._pin_memory else tensors

    def _received(self, item: Tensors | Shipped) -> Tensors:
        if isinstance(item, dict):
            return item
        buffer, layout = item
        arrays = unpack(buffer.numpy(), layout)
        return self.dataset.to_tensors(arrays, self._sampler.seed, self._sampler.epoch)


def make_loader(
    dataset: WindowDataset,
    batch_size: int = 64,
    shuffle: bool | str = False,
    num_workers: int = 0,
    seed: int = 0,
    *,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    start_method: str | None = None,
    buffer_bytes: int = BUFFER_BYTES,
) -> WindowLoader:
    """A loader of whole batches.

    Who makes them: windows on a device, that device; windows in memory, and blocks, threads of this process, as
    shipping a batch costs more than copying it; other windows, worker processes. A transform that keeps
    Python itself busy is better off in processes: name a start method. Forked ones share what is in memory,
    spawned ones each load it again; with blocks each process reads every group, and holds one.

    Args:
        dataset: the windows.
        batch_size: windows in a batch, over all ranks together.
        shuffle: True for a permutation of (seed, epoch); "block" for one in which neighbours stay near enough
            that every chunk is read about once an epoch (`fmfbench.windows.blocks`), which (seed, epoch,
            buffer_bytes) decides; otherwise in order of sample id.
        num_workers: threads or processes that make batches ahead; 0 makes each when it is asked for.
        seed: decides order and transforms, and nothing else does.
        drop_last: leave out a last batch that is not full.
        rank: which share of every batch this process takes.
        world_size: how many processes share a batch.
        pin_memory: for copies to a GPU.
        start_method: "fork", "spawn" or "forkserver" for worker processes, also where threads would do; by
            default the platform's own.
        buffer_bytes: for "block", frames and masks held in memory at most.

    Raises:
        WindowError: sizes or ranks that make no sense.
    """
    if batch_size < 1 or num_workers < 0 or not 0 <= rank < world_size or batch_size % world_size:
        raise WindowError(
            "expected batch_size of at least 1 that the ranks share evenly, num_workers of at least 0 and a rank "
            f"below world_size, got {batch_size}, {num_workers}, {rank} of {world_size}"
        )
    if shuffle not in (True, False, "block"):
        raise WindowError(f"shuffle {shuffle!r} is not True, False or 'block'")
    if dataset.windows.cache == "device" and start_method is not None:
        raise WindowError("windows on a device are gathered there; make the loader without a start method")
    blocks = BlockShuffle(dataset.windows.samples, buffer_bytes) if shuffle == "block" else None
    sampler = _BatchSampler(
        len(dataset), batch_size, bool(shuffle), blocks, seed, drop_last, rank, world_size
    )
    return WindowLoader(dataset, sampler, num_workers, start_method, pin_memory)


class _BatchSampler(Sampler[Key]):
    """(epoch, windows) of each batch of an epoch, from batch `start` on; with blocks, places in their order."""

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool,
        blocks: BlockShuffle | None,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.blocks = blocks
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.num_batches = length // batch_size if drop_last else -(-length // batch_size)
        self.epoch = 0
        self.start = 0

    def identity(self) -> dict[str, Any]:
        """What a place in an epoch means nothing without."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "buffer_bytes": None if self.blocks is None else self.blocks.buffer_bytes,
            "windows": self.length,
        }

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch
        order = np.arange(self.length)
        if self.shuffle and self.blocks is None:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        for number in range(self.start, self.num_batches):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield epoch, batch[self.rank :: self.world_size]

    def __len__(self) -> int:
        return self.num_batches - self.start


class _Batches(Dataset[Any]):
    """A dataset whose item is a whole batch. The epoch comes with the key, so that workers may persist."""

    def __init__(self, dataset: WindowDataset, seed: int, blocks: BlockShuffle | None) -> None:
        self.dataset = dataset
        self.seed = seed
        self.blocks = blocks
        self._reader: tuple[int, BlockReader] | None = None

    def reader(self, epoch: int) -> BlockReader:
        """The epoch's order and what has been read of it."""
        assert self.blocks is not None
        if self._reader is None:
            self._reader = (epoch, BlockReader(self.blocks.index, self.blocks.order(self.seed, epoch)))
        elif self._reader[0] != epoch:
            self._reader = (epoch, self._reader[1].renewed(self.blocks.order(self.seed, epoch)))
        return self._reader[1]

    def windows(self, key: Key) -> IntArray:
        """Which windows a batch holds."""
        epoch, places = key
        return places if self.blocks is None else self.reader(epoch).order.order[places]

    def read(self, key: Key, allocate: Callable[[Layout], Batch]) -> Batch:
        """The numpy side's batch, in arrays from `allocate`."""
        windows = self.windows(key)
        out = allocate(self.dataset.windows.samples.layout_of(windows))
        if self.blocks is not None and self.dataset.windows.cache is None:
            self.reader(key[0]).read(key[1], out)
            return out
        return self.dataset.windows.batch(windows, out=out)

    def __getitem__(self, key: Key) -> Tensors | Shipped:
        """What a worker process ships."""
        self.dataset.windows.threads = 0  # the workers themselves are what runs side by side
        if self.dataset.transform is not None:
            return self.dataset.to_tensors(self.read(key, allocate), self.seed, key[0])
        shipped: list[Shipped] = []

        def shared(layout: Layout) -> Batch:
            # As torch's own collate does: the batch is made where the other process will see it. One piece,
            # because every piece costs a connection between the two.
            storage = torch.UntypedStorage._new_shared(max(1, packed_bytes(layout)))
            buffer = torch.empty(0, dtype=torch.uint8).set_(storage)
            shipped.append((buffer, layout))
            return unpack(buffer.numpy(), layout)

        self.read(key, shared)
        return shipped[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}


def _as_is(batch: Any) -> Any:
    return batch


def _generator(seed: int, epoch: int, sample_id: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, epoch, sample_id]).generate_state(1, np.uint64)[0]
    generator = torch.Generator()
    generator.manual_seed(int(entropy >> np.uint64(1)))  # torch takes seeds below 2^63
    return generator
