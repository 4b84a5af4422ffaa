"""The loader: whole batches, made where that is quickest, in an order that can be resumed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from fmfbench.errors import FmfbenchError, WindowError
from fmfbench.torch.dataset import WindowDataset
from fmfbench.torch.form import Keys, make_form
from fmfbench.torch.order import EpochOrder, Key, Pass, ShareSampler, WholeSampler
from fmfbench.torch.samples import Tensors, collate
from fmfbench.torch.workers import check_shared_memory, check_started_by_main, explained
from fmfbench.windows.blocks import BlockShuffle
from fmfbench.windows.index import Arrays
from fmfbench.windows.ordered import in_order
from fmfbench.windows.packing import Layout, Recycler, allocate, packed_bytes, unpack
from fmfbench.windows.stream import stream_blocks

__all__ = ["WindowLoader", "make_loader"]

Shipped = tuple[torch.Tensor, Layout]  # a batch of the numpy side, packed

BUFFER_BYTES = 2**30


class WindowLoader(DataLoader[Tensors]):
    """Batches of an epoch, in an order that (seed, epoch) alone decides; it can be resumed in the middle.

    Every `iter` is a full pass and counts an epoch, finished or not, unless `set_epoch` chose one, which then holds
    until it is called again. After `load_state_dict` the next pass resumes where that loader stood.

    It is a `torch.utils.data.DataLoader`, and may be given to whatever takes one. A framework that makes a loader of
    its own from this one's dataset, sampler and collation gets the same windows in the same order, each once, and as
    whole batches.

    Attributes:
        dataset: the windows, bound to this loader's order.
        batch_size: windows in a batch, over all ranks together.
        sampler: this rank's windows, with `set_epoch`.
        batch_sampler: all windows in batches, for a framework that shares batches out itself.
        num_threads: threads of this process that make batches ahead; none where processes do.
        num_workers: worker processes.
    """

    def __init__(self, dataset: WindowDataset, order: EpochOrder | None = None, **options: Any) -> None:
        own = order is not None and options.get("batch_sampler") is None
        self._sampler = order if own else None  # None: made by a framework, with a sampler of its own
        self.num_threads = options.pop("threads", 0)
        self._loader: DataLoader[Any] | None = None  # of the worker processes
        self._busy = False  # whether a pass takes batches from it
        self._recycler = Recycler(keep=2 * self.num_threads + 2)
        if not own:
            super().__init__(dataset, **options)
            return
        assert order is not None
        sampler = ShareSampler(dataset, order)
        super().__init__(
            dataset, batch_size=order.batch_size, sampler=sampler, drop_last=order.drop_last, **options
        )
        # Not of this rank's share: who takes it (Accelerate) shares batches out. torch lets nobody set it afterwards.
        whole = BatchSampler(WholeSampler(order), order.batch_size, order.drop_last)
        object.__setattr__(self, "batch_sampler", whole)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the passes to come; a place that was loaded for this epoch is kept."""
        self._own().set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the newest pass stands, as plain numbers: epoch, and how many of its batches were handed out."""
        return self._own().state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass resume where the loader of `state` stood.

        Raises:
            WindowError: that loader had another order or other batches.
        """
        self._own().load(state)

    def __iter__(self) -> Iterator[Tensors]:  # type: ignore[override]
        if self._sampler is None:
            return super().__iter__()
        self._sampler.share()  # says now what is wrong with it
        begun = self._sampler.begin()
        return self._pass(begun, self._sampler.keys(begun))

    def _own(self) -> EpochOrder:
        if self._sampler is None:
            raise WindowError(
                "expected a loader of make_loader, got one that a framework made of it; set its sampler's epoch instead"
            )
        return self._sampler

    def _pass(self, begun: Pass, keys: Iterator[Key]) -> Iterator[Tensors]:
        for batch in self._made(begun.epoch, keys):
            begun.done += 1
            yield self._windows_dataset.to_device(batch)
        begun.ended = True

    @property
    def _windows_dataset(self) -> WindowDataset:
        return self.dataset  # type: ignore[return-value]

    def _made(self, epoch: int, keys: Iterator[Key]) -> Iterator[Tensors]:
        windows = self._windows_dataset.windows
        if self.num_workers:
            return self._from_processes(epoch, keys)
        if windows.cache is None and self._own().blocks is not None:
            reader, finish = self._windows_dataset.maker.reader(epoch), partial(self._finish, epoch)
            return stream_blocks(
                reader, self._recycler.batch, finish, (places for _, places in keys), self.num_threads
            )
        if windows.cache is not None:
            windows.load()  # before threads could each begin to
        return in_order(self._make, keys, self.num_threads)

    def _make(self, key: Key) -> Tensors:
        dataset = self._windows_dataset
        if dataset.windows.cache == "device":
            return dataset.batch(dataset.maker.windows_of(key), epoch=key[0])
        return self._finish(key[0], dataset.maker.read(key, self._recycler.batch))

    def _finish(self, epoch: int, batch: Arrays) -> Tensors:
        tensors = self._windows_dataset.to_tensors(batch, self._own().seed, epoch)
        pinned = self.pin_memory and torch.cuda.is_available()
        return {k: v.pin_memory() for k, v in tensors.items()} if pinned else tensors

    # --- worker processes

    def _from_processes(self, epoch: int, keys: Iterator[Key]) -> Iterator[Tensors]:
        check_started_by_main()
        method = self._method
        # Workers persist, and serve one pass at a time: a second one beside it gets some of its own.
        alone = not self._busy
        received = 0
        loader = self._processes(method, persist=alone)
        assert isinstance(loader.sampler, _Keys)
        loader.sampler.keys = keys
        self._busy = True
        try:
            for item in loader:
                yield self._received(item, epoch)
                received += 1
        except (RuntimeError, OSError, FmfbenchError) as error:
            found = explained(error, method, started=received > 0)
            if found is error:
                raise
            raise found from error
        finally:
            if alone:
                self._busy = False

    @property
    def _method(self) -> str:
        context = self.multiprocessing_context
        name = context.get_start_method() if context is not None else multiprocessing.get_start_method()
        return str(name)

    def _processes(self, method: str, *, persist: bool) -> DataLoader[Any]:
        if persist and self._loader is not None:
            return self._loader
        dataset = self._windows_dataset
        if method == "fork":  # what stands in memory before the fork is shared
            dataset.windows.load()
        layout = dataset.windows.samples.layout(self._own().batch_size, dataset.windows.samples.any_size)
        check_shared_memory(packed_bytes(layout), self.num_workers)
        loader: DataLoader[Any] = DataLoader(
            _Shipping(dataset),
            batch_size=None,
            sampler=_Keys(),
            num_workers=self.num_workers,
            collate_fn=_as_is,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            persistent_workers=persist,
            multiprocessing_context=method,
            worker_init_fn=self.worker_init_fn,
        )
        if persist:
            self._loader = loader
        return loader

    def _received(self, item: Tensors | Shipped, epoch: int) -> Tensors:
        if isinstance(item, dict):
            return item
        buffer, layout = item
        return self._windows_dataset.to_tensors(unpack(buffer.numpy(), layout), self._own().seed, epoch)


def make_loader(
    dataset: WindowDataset,
    batch_size: int = 64,
    shuffle: bool | str = False,
    num_workers: int = 0,
    seed: int = 0,
    *,
    drop_last: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    pin_memory: bool = False,
    start_method: str | None = None,
    buffer_bytes: int = BUFFER_BYTES,
    layout: str | None = None,
    dtype: str | None = None,
    keys: Keys | None = None,
) -> WindowLoader:
    """A loader of whole batches.

    Who makes them: windows on a device, that device; windows in memory, and blocks, threads of this process, as
    shipping a batch costs more than copying it; other windows, worker processes. A transform that keeps
    Python itself busy is better off in processes: name a start method. Forked ones share what is in memory,
    spawned ones each load it again; with blocks each process reads every group, and holds one.

    Args:
        dataset: the windows.
        batch_size: windows in a batch, over all ranks together, so that the number of ranks changes no batch.
        shuffle: True for a permutation of (seed, epoch); "block" for one in which neighbours stay near enough
            that every chunk is read about once an epoch (`fmfbench.windows.blocks`), which (seed, epoch,
            buffer_bytes) decides; otherwise in order of sample id.
        num_workers: threads or processes that make batches ahead; 0 makes each when it is asked for.
        seed: decides order and transforms, and nothing else does.
        drop_last: leave out a last batch that is not full.
        rank: which share of every batch this process takes; by default `torch.distributed` says so when a pass
            begins, where it is initialised.
        world_size: how many processes share a batch; named together with `rank` or not at all.
        pin_memory: for copies to a GPU.
        start_method: "fork", "spawn" or "forkserver" for worker processes, also where threads would do; by
            default the platform's own. All but "fork" need `if __name__ == "__main__":` around a script's loop.
        buffer_bytes: for "block", frames and masks held in memory at most.
        layout: what batches look like, in the place of the dataset's own (see `WindowDataset`).
        dtype: the same of their type.
        keys: the same of their names.

    Raises:
        WindowError: sizes or ranks that make no sense.

    Example:
        >>> windows = fmfbench.open_dataset(store).windows("train", "short", every=20)
        >>> loader = make_loader(WindowDataset(windows), batch_size=8, shuffle=True)
        >>> sum(len(batch["sample_id"]) for batch in loader) == len(windows)
        True
    """
    share = (rank or 0, 1 if world_size is None else world_size)
    if batch_size < 1 or num_workers < 0 or not 0 <= share[0] < share[1] or batch_size % share[1]:
        raise WindowError(
            "expected batch_size of at least 1 that the ranks share evenly, num_workers of at least 0 and a rank "
            f"below world_size, got {batch_size}, {num_workers}, {share[0]} of {share[1]}"
        )
    if (rank is None) != (world_size is None):
        raise WindowError(f"expected rank and world_size both or neither, got {rank} and {world_size}")
    if shuffle not in (True, False, "block"):
        raise WindowError(f"shuffle: expected True, False or 'block', got {shuffle!r}")
    methods = multiprocessing.get_all_start_methods()
    if start_method is not None and start_method not in methods:
        raise WindowError(f"expected start_method {' or '.join(methods)}, got {start_method!r}")
    cache = dataset.windows.cache
    if cache == "device" and start_method is not None:
        raise WindowError("windows on a device are gathered there; make the loader without a start method")
    blocks = BlockShuffle(dataset.windows.samples, buffer_bytes) if shuffle == "block" else None
    order = EpochOrder(len(dataset), batch_size, bool(shuffle), blocks, seed, drop_last, rank, world_size)
    bound = dataset.in_order(order)
    if (layout, dtype, keys) != (None, None, None):
        form = dataset.form
        own_keys = None if form.keys is None else dict(form.keys)
        bound.form = make_form(layout or form.layout, dtype or form.dtype, own_keys if keys is None else keys)
    in_process = cache is not None or blocks is not None
    processes = 0 if in_process and start_method is None else num_workers
    return WindowLoader(
        bound,
        order,
        threads=0 if processes or cache == "device" else num_workers,
        num_workers=processes,
        multiprocessing_context=(start_method or multiprocessing.get_start_method()) if processes else None,
        persistent_workers=processes > 0,
        pin_memory=pin_memory,
        collate_fn=collate,
    )


class _Keys:
    """The sampler of the worker processes: the keys of the pass that is under way."""

    keys: Iterable[Key] = ()

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)


class _Shipping(Dataset[Any]):
    """A dataset whose item is a whole batch, as a worker process ships it."""

    def __init__(self, dataset: WindowDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Tensors | Shipped:
        dataset = self.dataset
        dataset.windows.threads = 0  # the workers themselves are what runs side by side
        if dataset.transform is not None or not dataset.form.is_plain:
            return dataset.to_tensors(dataset.maker.read(key, allocate), dataset.seed, key[0])
        shipped: list[Shipped] = []

        def shared(layout: Layout) -> Arrays:
            # As torch's own collate does: the batch is made where the other process will see it. One piece,
            # because every piece costs a connection between the two.
            storage = torch.UntypedStorage._new_shared(max(1, packed_bytes(layout)))
            buffer = torch.empty(0, dtype=torch.uint8).set_(storage)
            shipped.append((buffer, layout))
            return unpack(buffer.numpy(), layout)

        dataset.maker.read(key, shared)
        return shipped[0]


def _as_is(batch: Any) -> Any:
    return batch
