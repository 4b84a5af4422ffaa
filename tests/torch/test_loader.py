"""Loaders: the same bytes whoever makes them, block order, resuming, and what they leave behind.

Also tests fmfbench.torch: device, maker, order.
Also tests fmfbench.windows: ordered, stream.
"""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_tree import awkward_recording, content, jitter, write_tree

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import DamageError, WindowError
from fmfbench.store.shards import ArrayReader
from fmfbench.torch import DeviceWindows, WindowDataset, make_loader
from fmfbench.windows.blocks import BlockOrder, BlockReader, BlockShuffle
from fmfbench.windows.loaded import loaded_bytes

SMALL = 8_000_000  # a buffer that holds a part of the fixture

Content = dict[int, tuple[bytes, ...]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    recordings = {
        "a": awkward_recording(7, 900, height=40, width=56),
        "b": awkward_recording(8, 400, height=40, width=56),
    }
    recordings["b"].label = recordings["b"].label.any(axis=(1, 2)).astype(np.uint8)  # class labels alone
    folder = tmp_path_factory.mktemp("loader")
    return fmfbench.open_dataset(fmfbench.convert(write_tree(folder / "tree", recordings), folder / "s.zarr"))


def ids(batches: Any) -> list[list[int]]:
    return [batch["sample_id"].tolist() for batch in batches]


def windows(data: Dataset, cache: str | None = None, every: int = 3) -> fmfbench.windows.reader.Windows:
    return data.windows("all", "short", context="masked", every=every, cache=cache)


@pytest.fixture(scope="module")
def reference(data: Dataset) -> Content:
    loader = make_loader(WindowDataset(windows(data), transform=jitter), batch_size=32, shuffle=True, seed=5)
    loader.set_epoch(2)
    return content(loader)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # on small machines
@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
@pytest.mark.parametrize(
    ("cache", "shuffle", "start_method"),
    [
        (None, True, "fork"),
        (None, "block", None),
        (None, "block", "fork"),
        ("memory", True, None),
        ("memory", "block", "fork"),
        ("device", "block", None),
    ],
)
def test_same_bytes_whoever_makes_the_batches(
    data: Dataset, reference: Content, cache: str | None, shuffle: Any, start_method: str, num_workers: int
) -> None:
    dataset = WindowDataset(windows(data, cache), transform=jitter)
    _ = dataset.batch(np.arange(0, len(dataset), 3))  # the parent has read, with threads, before any fork
    loader = make_loader(
        dataset,
        batch_size=17 + num_workers,
        shuffle=shuffle,
        num_workers=num_workers,
        seed=5,
        start_method=start_method,
        buffer_bytes=SMALL,
    )
    loader.set_epoch(2)
    assert content(loader) == reference
    assert loader.num_workers == (num_workers if start_method else 0)


def test_same_bytes_from_spawned_workers(data: Dataset, reference: Content) -> None:
    dataset = WindowDataset(windows(data, "memory"), transform=jitter)
    _ = dataset[0]
    loader = make_loader(
        dataset, 40, "block", num_workers=2, seed=5, start_method="spawn", buffer_bytes=SMALL
    )
    loader.set_epoch(2)
    assert content(loader) == reference


def test_block_batches_come_in_the_same_order_from_threads_processes_and_memory(data: Dataset) -> None:
    orders = []
    for cache, options in (
        (None, {}),
        (None, {"num_workers": 3}),
        (None, {"num_workers": 2, "start_method": "fork"}),
        ("memory", {"num_workers": 2}),
    ):
        dataset = WindowDataset(windows(data, cache))
        orders.append(ids(make_loader(dataset, 10, "block", seed=6, buffer_bytes=SMALL, **options)))
    assert orders[0] == orders[1] == orders[2] == orders[3]
    flat = [sample_id for batch in orders[0] for sample_id in batch]
    assert flat != sorted(flat)


def test_memory_is_gathered_in_this_process_unless_told_otherwise(data: Dataset) -> None:
    memory = WindowDataset(windows(data, "memory"))
    chosen = make_loader(memory, num_workers=2)
    assert (chosen.num_workers, chosen.num_threads) == (0, 2)
    told = make_loader(memory, num_workers=2, start_method="fork")
    assert (told.num_workers, told.num_threads) == (2, 0)
    disk = make_loader(WindowDataset(windows(data)), num_workers=2)
    assert (disk.num_workers, disk.num_threads) == (2, 0)


# resuming


@pytest.mark.parametrize(
    ("cache", "options"),
    [
        (None, {"shuffle": True}),
        (None, {"shuffle": True, "num_workers": 2, "start_method": "fork"}),
        (None, {"shuffle": "block", "num_workers": 2}),
        (None, {"shuffle": "block", "num_workers": 2, "start_method": "fork"}),
        ("memory", {"shuffle": "block", "num_workers": 1}),
        ("device", {"shuffle": True}),
    ],
    ids=str,
)
def test_an_epoch_resumes_in_the_middle(data: Dataset, cache: str | None, options: dict) -> None:
    dataset = WindowDataset(windows(data, cache))
    options = {"batch_size": 25, "seed": 1, "buffer_bytes": SMALL, **options}
    loader = make_loader(dataset, **options)
    loader.set_epoch(4)
    whole = ids(loader)
    assert len(whole) == len(loader) > 8
    loader.set_epoch(4)
    iterator = iter(loader)
    first = ids([next(iterator) for _ in range(5)])
    state = loader.state_dict()  # batches 6 and on are already in the making
    other = make_loader(dataset, **options)
    other.load_state_dict(state)
    assert first + ids(other) == whole
    del iterator
    loader.load_state_dict(state)
    assert ids(loader) == whole[5:]
    loader.set_epoch(5)
    assert ids(loader) != whole


def test_a_state_of_other_batches_is_refused(data: Dataset) -> None:
    dataset = WindowDataset(windows(data))
    own = {"batch_size": 8, "shuffle": "block", "seed": 1, "buffer_bytes": SMALL}
    state = make_loader(dataset, **own).state_dict()
    make_loader(dataset, **own).load_state_dict(state)
    for name, other in (("batch_size", 16), ("shuffle", True), ("seed", 2), ("buffer_bytes", 2 * SMALL)):
        with pytest.raises(WindowError, match="expected the state of a loader"):
            make_loader(dataset, **{**own, name: other}).load_state_dict(state)
    fewer = WindowDataset(windows(data, every=4))
    with pytest.raises(WindowError, match="windows"):
        make_loader(fewer, **own).load_state_dict(state)


# the block order


@pytest.fixture(scope="module")
def blocks(data: Dataset) -> BlockShuffle:
    return BlockShuffle(windows(data, every=1).samples, SMALL)


def block_of(blocks: BlockShuffle, order: BlockOrder, seed: int, epoch: int) -> np.ndarray:
    offset = int(np.random.default_rng([seed, epoch]).integers(blocks.block_frames))
    index = blocks.index
    place = index.recording * 10**6 + (index.frame + offset) // blocks.block_frames
    return place[order.order]


def test_a_block_order_is_a_permutation_that_differs_by_epoch_and_seed(blocks: BlockShuffle) -> None:
    orders = [blocks.order(seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert order.num_groups >= 2
        np.testing.assert_array_equal(np.sort(order.order), np.arange(len(blocks.index)))
    for other in orders[1:]:
        assert (other.order == orders[0].order).mean() < 0.05
    np.testing.assert_array_equal(blocks.order(0, 1).order, orders[1].order)


def test_how_random_a_block_order_is(blocks: BlockShuffle) -> None:
    """Whole blocks make a group, any block may be in any group, and within a group every order is likely."""
    pairs, expected, first_group, near = [], [], np.zeros(len(blocks.index)), []
    epochs = 400
    for epoch in range(epochs):
        order = blocks.order(9, epoch)
        block = block_of(blocks, order, 9, epoch)
        for first, stop in pairwise(order.bounds):
            inside = block[first:stop]
            assert not set(inside) & set(np.delete(block, np.s_[first:stop]))
            _, sizes = np.unique(inside, return_counts=True)
            pairs.append((inside[1:] == inside[:-1]).mean())
            expected.append((sizes * (sizes - 1)).sum() / (len(inside) * (len(inside) - 1)))
        first_group[order.order[: order.bounds[1]]] += 1
        near.append((np.abs(np.diff(order.order)) == 1).mean())
    # Two windows that follow each other share a block as often as any two of the group: about 1 in g.
    assert np.mean(pairs) == pytest.approx(np.mean(expected), rel=0.03)
    assert np.mean(expected) < 1.5 / blocks.group_blocks
    share = first_group / epochs
    groups = blocks.order(9, 0).num_groups
    assert share.min() > 0.4 / groups
    assert share.max() < 1.8 / groups
    assert np.mean(near) < 0.05  # a sorted order has 1


def test_a_chunk_is_read_about_once_an_epoch(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = WindowDataset(windows(data, every=1))
    loader = make_loader(dataset, shuffle="block", num_workers=2, buffer_bytes=SMALL)
    reads: list[Path] = []
    plain = ArrayReader.chunk

    def counted(self: ArrayReader, number: int) -> np.ndarray:
        reads.append(self.path)
        return plain(self, number)

    monkeypatch.setattr(ArrayReader, "chunk", counted)
    assert sum(len(b["sample_id"]) for b in loader) == len(dataset)
    chunks = sum(-(-r.num_frames // r.video.spec.chunk) for r in data.recordings.values())
    video = sum(path.name == "video" for path in reads)
    # Short blocks, as the buffer is small: each reads its reach of 12 frames and a broken chunk besides.
    blocks = loader._sampler.blocks
    assert blocks is not None
    chunk = data.recordings["a"].video.spec.chunk
    per_block = (blocks.block_frames + 12) / chunk + 2
    assert chunks <= video <= per_block * (len(dataset) / blocks.block_frames + 4)
    reads.clear()
    monkeypatch.setattr("fmfbench.windows.frames._KEPT_CHUNKS", 4)  # the fixture is small
    monkeypatch.setattr("fmfbench.windows.frames._KEPT_BYTES", 0)
    for _ in make_loader(WindowDataset(windows(data, every=1)), shuffle=True):
        pass
    assert sum(path.name == "video" for path in reads) > 4 * video


def test_a_block_reads_little_more_than_itself_when_the_buffer_allows(data: Dataset) -> None:
    index = windows(data, every=1).samples
    wide, narrow = BlockShuffle(index, 2**28), BlockShuffle(index, SMALL)
    beside = (
        3 * 4 + data.recordings["a"].video.spec.chunk
    )  # what its first windows reach back to, and a broken chunk
    assert (wide.block_frames + beside) / wide.block_frames < 1.1
    assert narrow.block_frames < wide.block_frames


def test_two_groups_stay_within_the_buffer(data: Dataset, blocks: BlockShuffle) -> None:
    for buffer_bytes in (SMALL, SMALL // 2, 400_000):
        shuffle = BlockShuffle(blocks.index, buffer_bytes)
        order = shuffle.order(0, 0)
        reader = BlockReader(shuffle.index, order)
        sizes = []
        for group in range(order.num_groups):
            loaded = reader.load(group)
            members = order.order[order.bounds[group] : order.bounds[group + 1]]
            np.testing.assert_array_equal(loaded.windows, np.sort(members))
            sizes.append(loaded.video.nbytes + loaded.mask.nbytes + loaded.video_index.nbytes)
        assert len(sizes) > 1
        assert max(a + b for a, b in pairwise(sizes)) <= buffer_bytes
    with pytest.raises(WindowError, match="expected a buffer"):
        BlockShuffle(blocks.index, 100_000)


def test_a_split_that_fits_is_read_once_for_all_epochs(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = WindowDataset(windows(data))
    loader = make_loader(dataset, shuffle="block", num_workers=1, buffer_bytes=2**28)
    first = content(loader)
    monkeypatch.setattr(ArrayReader, "chunk", None)  # whoever reads again fails
    loader.set_epoch(1)
    assert content(loader) == first
    total = loaded_bytes(dataset.windows.samples, np.array([1300]), np.array([len(dataset)]), (40, 56))
    assert total[0] < 2**28


@pytest.mark.parametrize("shuffle", [True, "block"])
def test_ranks_share_each_batch(data: Dataset, shuffle: Any) -> None:
    dataset = WindowDataset(windows(data))
    options = {"batch_size": 16, "shuffle": shuffle, "buffer_bytes": SMALL, "num_workers": 1}
    if shuffle is True:
        options["num_workers"] = 0
    whole = ids(make_loader(dataset, **options))
    parts = [ids(make_loader(dataset, **options, rank=r, world_size=2)) for r in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in whole]


# what loaders leave behind


def test_threads_end_with_the_iteration(data: Dataset) -> None:
    before = threading.active_count()
    for cache, shuffle in ((None, "block"), ("memory", True)):
        loader = make_loader(
            WindowDataset(windows(data, cache)), shuffle=shuffle, num_workers=2, buffer_bytes=SMALL
        )
        iterator = iter(loader)
        next(iterator)
        assert threading.active_count() > before
        iterator.close()  # a `break` does the same
        assert threading.active_count() == before


def test_damage_reaches_the_one_who_iterates(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ArrayReader, number: int) -> np.ndarray:
        raise DamageError(f"{self.path}: chunk {number}")

    dataset = WindowDataset(windows(data))
    monkeypatch.setattr(ArrayReader, "chunk", broken)
    for options in ({"shuffle": "block", "num_workers": 2, "buffer_bytes": SMALL}, {}):
        with pytest.raises(DamageError):
            next(iter(make_loader(dataset, **options)))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_worker_memory_is_flat_over_ten_epochs(data: Dataset) -> None:
    dataset = WindowDataset(windows(data, every=2))
    loader = make_loader(dataset, 16, shuffle=True, num_workers=2, start_method="fork")
    sizes = []
    pids = set()
    for epoch in range(10):
        loader.set_epoch(epoch)
        for _ in loader:
            pass
        assert loader._loader is not None
        workers = loader._loader._iterator._workers
        pids |= {w.pid for w in workers}
        sizes.append(sum(resident_bytes(w.pid) for w in workers))
    assert len(pids) == 2
    # An epoch hands out 20 MB and decodes more: were batches or chunks kept, ten would show.
    assert sizes[-1] < sizes[2] + 15_000_000


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# on a device


@pytest.mark.parametrize(
    "setting",
    [
        {"protocol": "paper", "context": "full"},
        {"protocol": "short", "context": "masked"},
        {"protocol": "official", "context": "masked", "current_seconds": 12.0},
        {"protocol": "short", "context": "full", "current_hz": 3.0},
    ],
    ids=str,
)
def test_windows_on_a_device_are_the_numpy_side_s(data: Dataset, setting: dict) -> None:
    """On CPU tensors: the same code, on whatever device there is."""
    w = data.windows("all", cache="device", **setting)
    gathered = DeviceWindows(w, "cpu")
    indices = np.random.default_rng(0).integers(0, len(w), 50)
    indices[:2] = 0, len(w) - 1
    expected, found = dict(w.batch(indices)), gathered.batch(indices)
    assert set(found) == set(expected)
    expected["video"] = expected["video"].transpose(0, 4, 1, 2, 3)
    for name, tensor in found.items():
        assert tensor.numpy().dtype == expected[name].dtype
        np.testing.assert_array_equal(tensor.numpy(), expected[name], err_msg=name)
    with pytest.raises(IndexError):
        gathered.batch([len(w)])
    with pytest.raises(IndexError):
        gathered.batch([-1])


def test_device_windows_move_once_and_need_no_workers(data: Dataset) -> None:
    dataset = WindowDataset(windows(data, "device"), device="cpu")
    assert dataset.on_device() is dataset.on_device()
    batch = dataset.batch([0, 1])
    assert batch["video"].device == torch.device("cpu")
    loader = make_loader(dataset, num_workers=2)
    assert (loader.num_workers, loader.num_threads) == (0, 0)
    with pytest.raises(WindowError, match="without a start method"):
        make_loader(dataset, num_workers=2, start_method="fork")


def test_frames_whose_bytes_do_not_divide_by_eight(awkward_store: Path) -> None:
    w = fmfbench.open_dataset(awkward_store).windows("test", "short", cache="device")
    found = DeviceWindows(w, "cpu").batch(np.arange(20))
    expected = w.batch(np.arange(20))
    np.testing.assert_array_equal(found["video"].numpy(), expected["video"].transpose(0, 4, 1, 2, 3))
    np.testing.assert_array_equal(found["mask"].numpy(), expected["mask"])


def test_unknown_orders_are_refused(data: Dataset) -> None:
    dataset = WindowDataset(windows(data))
    assert len(make_loader(dataset, shuffle="block")) == len(make_loader(dataset))
    with pytest.raises(WindowError, match="expected True, False or 'block', got 'blocks'"):
        make_loader(dataset, shuffle="blocks")


def test_the_pid_of_a_thread_s_batches_is_ours(data: Dataset) -> None:
    seen: set[int] = set()

    def note(sample: dict, generator: torch.Generator) -> dict:
        seen.add(os.getpid())
        return sample

    for _ in make_loader(WindowDataset(windows(data, "memory"), transform=note), num_workers=2):
        pass
    assert seen == {os.getpid()}
