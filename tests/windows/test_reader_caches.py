"""Every way to read windows gives the bytes of the plan: from disk, from memory, into arrays of one's own.

Also tests fmfbench.windows: frames, loaded, packing.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_tree import TreeRecording, awkward_recording, write_tree

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import WindowError
from fmfbench.torch import WindowDataset
from fmfbench.windows.loaded import LoadedWindows, loaded_bytes
from fmfbench.windows.packing import Recycler, allocate
from fmfbench.windows.reader import Windows

SETTINGS: list[dict[str, Any]] = [
    {"protocol": "paper", "context": "full"},
    {"protocol": "short", "context": "masked"},
    {"protocol": "short", "context": "strict"},
    {"protocol": "official", "context": "masked", "current_seconds": 12.0},
    {"protocol": "short", "context": "full", "current_hz": 3.0},  # no common grid
    {"protocol": "short", "context": "full", "every": 7},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two recordings of many chunks, one of them unlabelled, H != W."""
    recordings = {
        "a": awkward_recording(4, 500, height=40, width=56),
        "b": awkward_recording(5, 230, height=40, width=56),
    }
    recordings["c"] = unlabelled(awkward_recording(6, 90, height=40, width=56))
    folder = tmp_path_factory.mktemp("caches")
    return fmfbench.open_dataset(fmfbench.convert(write_tree(folder / "tree", recordings), folder / "s.zarr"))


def unlabelled(recording: TreeRecording) -> TreeRecording:
    recording.label = None
    return recording


def as_planned(w: Windows, indices: np.ndarray) -> dict[str, np.ndarray]:
    """What `plan` says, written out window by window."""
    recordings = list(w.dataset.recordings.values())
    place, frame = w.dataset.locate(w.sample_ids[indices])
    names = ("video", "current", "video_valid", "current_valid", "mask", "mask_valid")
    out: dict[str, list] = {k: [] for k in names}
    for i, (k, e) in enumerate(zip(place.tolist(), frame.tolist(), strict=True)):
        _, video, current = w.plan(indices[i : i + 1])[0]
        r = recordings[k]
        clip = np.stack([r.read_video(f, f + 1)[0] for f in video.index[0].tolist()])
        rows = current.index[0]
        values = [r.current[row] if row >= 0 else np.zeros(3, np.float32) for row in rows.tolist()]
        out["video"].append(clip.transpose(0, 2, 1, 3) if w.protocol.transposed else clip)
        out["current"].append(np.stack(values))
        out["video_valid"].append(video.valid[0])
        out["current_valid"].append(current.valid[0])
        mask = np.zeros((r.height, r.width), np.uint8) if r.masks is None else r.read_masks(e, e + 1)[0]
        out["mask"].append(mask.T if w.protocol.transposed else mask)
        out["mask_valid"].append(np.bool_(r.masks is not None))
    arrays = {name: np.stack(values) for name, values in out.items()}
    arrays["sample_id"] = w.sample_ids[indices]
    arrays["class_label"] = w.dataset.class_labels(w.sample_ids[indices]).astype(np.int64)
    return arrays


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for name, array in a.items():
        assert array.dtype == b[name].dtype
        np.testing.assert_array_equal(array, b[name], err_msg=name)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("split", ["train", "all"])
def test_disk_and_memory_give_what_is_planned(data: Dataset, setting: dict, split: str) -> None:
    disk = data.windows(split, **setting)
    memory = data.windows(split, cache="memory", **setting)
    rng = np.random.default_rng(0)
    out = None
    for n in (1, 25, 25):
        indices = rng.integers(0, len(disk), n)
        expected = as_planned(disk, indices)
        same(disk.batch(indices), expected)
        fresh = memory.batch(indices)
        same(fresh, expected)
        if n > 1 and out is not None and len(out["mask"]) == n:
            out["mask"][:] = 9  # what an earlier batch left
            assert memory.batch(indices, out=out) is out
            same(out, expected)
        out = fresh


def test_negative_and_no_indices(data: Dataset) -> None:
    for cache in (None, "memory"):
        w = data.windows("train", "short", cache=cache)
        same(w.batch([-1, 0]), w.batch([len(w) - 1, 0]))
        empty, one = w.batch([]), w.batch([0])
        assert {k: v.shape[1:] for k, v in empty.items()} == {k: v.shape[1:] for k, v in one.items()}
        assert all(len(v) == 0 for v in empty.values())
        with pytest.raises(IndexError):
            w.batch([len(w)])


def test_masks_are_always_there_and_say_whether_they_are_labels(data: Dataset) -> None:
    """c has no pixel labels."""
    for cache in (None, "memory", "device"):
        w = data.windows("all", "short", cache=cache)
        for make in (w.batch, WindowDataset(w).batch):
            for where, valid in (
                ([0, 500, 729], 3 * [True]),
                ([0, 730], [True, False]),
                ([740], [False]),
                ([], []),
            ):
                batch = make(where)
                assert batch["mask_valid"].tolist() == valid
                assert batch["mask"].shape == (len(where), 40, 56)
                for mask, good, i in zip(batch["mask"], valid, where, strict=True):
                    a = data.recordings["a"].read_masks()
                    b = data.recordings["b"].read_masks()
                    expected = np.concatenate([a, b])[i] if good else np.zeros((40, 56))
                    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("protocol", ["short", "paper"])
def test_the_bound_of_what_loaded_windows_take_is_near(data: Dataset, protocol: str) -> None:
    """Every array but the currents, of windows that all have a mask: above it, by less than nine bytes a window."""
    w = data.windows("test", protocol, every=5)
    index = w.samples
    rows = np.flatnonzero(index.recording < 2)  # "c" has no labels
    loaded = LoadedWindows(index, rows)
    arrays = (
        loaded.video,
        loaded.mask,
        loaded.mask_index,
        loaded.video_index,
        loaded.video_valid,
        loaded._sample_id,
        loaded._class_label,
    )
    taken = sum(array.nbytes for array in arrays)
    bound = loaded_bytes(index, np.array([len(loaded.video)]), np.array([len(rows)]), (40, 56))[0]
    assert taken <= bound < taken + 9 * len(rows)


def test_memory_holds_the_frames_that_windows_hold_and_no_others(data: Dataset) -> None:
    w = data.windows("test", "short", every=3, cache="memory")
    w.load()
    held = {(int(r), f) for r, frames in planned_frames(w) for f in frames}
    (loaded,) = w._loaded
    assert len(loaded.video) == len(held) < data.num_samples / 2
    labelled = sum(int(w.sample_ids[i]) < 730 for i in range(len(w)))
    assert len(loaded.mask) == labelled
    bound = loaded_bytes(w.samples, np.array([len(held)]), np.array([len(w)]), (40, 56))
    assert loaded.video.nbytes + loaded.mask.nbytes + loaded.video_index.nbytes <= bound[0]


def planned_frames(w: Windows) -> list[tuple[int, list[int]]]:
    place, _ = w.dataset.locate(w.sample_ids)
    return [
        (place[rows[0]], video.index.reshape(-1).tolist()) for rows, video, _ in w.plan(np.arange(len(w)))
    ]


def test_arrays_to_write_into_are_checked(data: Dataset) -> None:
    for cache in (None, "memory"):
        w = data.windows("train", "short", cache=cache)
        out = w.batch([0, 1])
        assert w.batch([2, 3], out=out) is out
        same(out, w.batch([2, 3]))
        for bad in (
            w.batch([0]),
            {k: v for k, v in out.items() if k != "current"},
            {**out, "video": out["video"].astype(np.int16)},
            {**out, "video": out["video"].swapaxes(2, 3).copy().swapaxes(2, 3)},
        ):
            with pytest.raises(WindowError, match="out: expected contiguous arrays"):
                w.batch([2, 3], out=bad)


def test_threads_and_copies_change_nothing(data: Dataset) -> None:
    indices = np.random.default_rng(1).integers(0, len(data.windows("all", "paper")), 64)
    batches = []
    for threads in (0, 1, 3):
        w = data.windows("all", "paper")
        w.threads = threads
        batches.append(w.batch(indices))
        batches.append(pickle.loads(pickle.dumps(w)).batch(indices))
    for batch in batches[1:]:
        same(batch, batches[0])


def test_few_chunks_are_kept_and_none_is_pickled(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmfbench.windows.frames._KEPT_CHUNKS", 2)
    monkeypatch.setattr("fmfbench.windows.frames._KEPT_BYTES", 0)
    w = data.windows("all", "paper")
    before = len(pickle.dumps(w))
    for start in range(0, len(w), 64):
        w.batch(np.arange(start, min(len(w), start + 64)))
    assert len(w._chunks) == 2  # of all recordings together
    monkeypatch.setattr("fmfbench.windows.frames._KEPT_BYTES", 1_000_000)
    w.batch(np.arange(len(w)))
    assert (
        700_000 < sum(chunk.nbytes for chunk in w._chunks._chunks.values()) == w._chunks._bytes <= 1_000_000
    )
    m = data.windows("all", "paper", cache="memory")
    m.load()
    # The small arrays of the recordings travel, frames do not.
    assert len(pickle.dumps(w)) - before < 60_000
    assert len(pickle.dumps(m)) - before < 60_000


def test_frames_of_two_sizes_are_batched_each_on_its_own(tmp_path: Path) -> None:
    recordings = {"a": awkward_recording(1, 60), "b": awkward_recording(2, 50, height=8, width=10)}
    store = fmfbench.convert(write_tree(tmp_path / "tree", recordings), tmp_path / "s.zarr")
    for cache in (None, "memory"):
        w = fmfbench.open_dataset(store).windows("all", "short", cache=cache)
        same(w.batch([0, 59]), as_planned(w, np.array([0, 59])))
        same(w.batch([109, 60]), as_planned(w, np.array([109, 60])))
        with pytest.raises(WindowError, match="6x9, 8x10"):
            w.batch([0, 60])


def test_a_load_is_of_any_windows_in_any_order(data: Dataset) -> None:
    w = data.windows("all", "paper", context="masked")
    windows = np.random.default_rng(2).permutation(len(w))[:40]
    loaded = LoadedWindows(w.samples, windows, threads=2)
    rows = np.array([39, 0, 7, 7])
    out = allocate(w.samples.layout_of(windows[rows]))
    loaded.fill(rows, out)
    same(out, as_planned(w, windows[rows]))


def test_currents_are_kept_within_a_bound_and_planned_again_beyond_it(data: Dataset) -> None:
    w = data.windows("all", "short", context="full", every=3, current_hz=3.0)  # no common grid
    windows = np.arange(len(w))
    trackless = int((w.samples.currents.start < 0).sum())
    assert trackless > 0
    needed = trackless * w.samples.protocol.num_current * (3 * 4 + 1)
    for keep, kept in ((None, True), (needed, True), (needed - 1, False), (0, False)):
        loaded = LoadedWindows(w.samples, windows, keep_bytes=keep)
        assert loaded._keeps_currents == kept
        if kept:
            assert loaded.own_values.nbytes + loaded.own_valid.nbytes == needed
        out = allocate(w.samples.layout_of(windows[::-1]))
        loaded.fill(windows[::-1], out)
        same(out, as_planned(w, windows[::-1]))


def test_unknown_caches_are_refused(data: Dataset) -> None:
    assert data.windows("train", cache="device").cache == "device"
    with pytest.raises(WindowError, match="expected None, 'memory' or 'device', got 'disk'"):
        data.windows("train", cache="disk")


def test_a_buffer_serves_again_only_when_nobody_holds_it() -> None:
    layout = {"a": ((3, 5), "uint8"), "b": ((7,), "float32"), "none": ((0, 4), "int64")}
    recycler = Recycler(keep=1)
    first = recycler.batch(layout)
    assert {k: (v.shape, v.dtype.name) for k, v in first.items()} == layout
    first["a"][:] = 1
    first["b"][:] = 2
    kept = first["b"][2:4][1:]
    where = first["a"].ctypes.data
    del first
    second = recycler.batch(layout)
    assert second["a"].ctypes.data != where  # a view of a view still holds the first
    second["b"][:] = 3
    assert kept.tolist() == [2]
    del kept
    third = recycler.batch(layout)
    assert third["a"].ctypes.data == where
    tensor = torch.from_numpy(third["b"])[1:]
    del third
    assert recycler.batch(layout)["a"].ctypes.data != where
    assert recycler.batch({"a": ((10_000,), "uint8")})["a"].shape == (10_000,)  # what is free is too small
    del tensor
