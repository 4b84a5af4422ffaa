"""Some of a split's windows, and windows of one modality: the same bytes, and nothing else is read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import StoreError, WindowError
from fmfbench.store.shards import ArrayReader
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.windows.corrupt import corrupt_batch, corruption
from fmfbench.windows.injected import InjectedWindows
from fmfbench.windows.injection import make_outliers
from fmfbench.windows.protocol import get_protocol

VIDEO = {"video", "video_valid", "mask", "mask_valid"}
CURRENT = {"current", "current_valid"}


@pytest.fixture(scope="module")
def data(awkward_store: Path) -> Dataset:
    return fmfbench.open_dataset(awkward_store)


def same(a: Any, b: Any) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]), err_msg=name)


@pytest.mark.parametrize("cache", [None, "memory", "device"])
@pytest.mark.parametrize("modality", ["both", "video", "current"])
def test_selected_windows_are_those_windows(data: Dataset, cache: str | None, modality: str) -> None:
    whole = data.windows("train", "short", "masked", every=2, cache=cache, modality=modality)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(whole))[:50]
    part = whole.select(whole.sample_ids[rows])
    assert part.sample_ids.tolist() == whole.sample_ids[rows].tolist()
    assert (part.cache, part.modality, part.every, part.context, part.split) == (
        (cache, modality, 2, "masked", "train")
    )
    same(part.batch(np.arange(50)), whole.batch(rows))
    same(WindowDataset(part).batch(np.arange(50)), WindowDataset(whole).batch(rows))
    same(part.select(part.sample_ids[::-3]).batch([1]), whole.batch(rows[::-3][1:2]))
    again = pickle.loads(pickle.dumps(part))
    same(again.batch([3]), part.batch([3]))


def test_what_selects_and_what_does_not(data: Dataset) -> None:
    whole = data.windows("train", "short")
    abnormal = whole.samples.class_label == 1
    assert whole.select(abnormal).sample_ids.tolist() == whole.sample_ids[abnormal].tolist()
    assert len(whole.select([])) == 0
    assert whole.select([]).batch([])["video"].shape == (0, 4, 6, 9, 3)
    foreign = data.sample_ids("test")[:7]
    with pytest.raises(StoreError, match=f"got some that are not in it: {foreign[0]}, {foreign[1]}, .*, ..."):
        whole.select(foreign)
    for bad in ([0.0], ["0"], whole.sample_ids.astype(float)):
        with pytest.raises(StoreError, match="sample ids as whole numbers"):
            whole.select(bad)
    with pytest.raises(IndexError, match="booleans"):
        whole.select([True])


def test_a_selection_of_outliers_shows_them_as_before(data: Dataset) -> None:
    outliers = make_outliers(data, "train", protocol="short", ratio="1:1", apart=1.0)
    whole = InjectedWindows(data, outliers, get_protocol("short"))
    rows = np.flatnonzero(outliers.kind > 0)[:20]
    part = whole.select(whole.sample_ids[rows])
    assert isinstance(part, InjectedWindows)
    same(part.batch(np.arange(20)), whole.batch(rows))
    assert part.batch([0])["class_label"].tolist() == [1]


# modalities


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the arrays that are read."""
    found: list[str] = []
    plain_chunk, plain_read = ArrayReader.chunk, ArrayReader.read

    def chunk(self: ArrayReader, number: int) -> Any:
        found.append(self.path.name)
        return plain_chunk(self, number)

    def read(self: ArrayReader, *bounds: Any) -> Any:
        found.append(self.path.name)
        return plain_read(self, *bounds)

    monkeypatch.setattr(ArrayReader, "chunk", chunk)
    monkeypatch.setattr(ArrayReader, "read", read)
    return found


@pytest.mark.parametrize("protocol", ["paper", "short", "official"])
@pytest.mark.parametrize("cache", [None, "memory", "device"])
@pytest.mark.parametrize(("modality", "left_out"), [("video", CURRENT), ("current", VIDEO)])
def test_one_modality_is_the_same_arrays_less_the_other_s(
    awkward_store: Path, reads: list[str], protocol: str, cache: str | None, modality: str, left_out: set[str]
) -> None:
    change = {"current_seconds": 12.0} if protocol == "official" else {}
    both = fmfbench.open_dataset(awkward_store).windows("all", protocol, **change)
    rows = np.random.default_rng(1).integers(0, len(both), 40)
    expected = {name: array for name, array in both.batch(rows).items() if name not in left_out}
    reads.clear()
    own = fmfbench.open_dataset(awkward_store).windows(
        "all", protocol, cache=cache, modality=modality, **change
    )
    same(own.batch(rows), expected)
    tensors = WindowDataset(own).batch(rows)
    assert set(tensors) == set(expected)
    for shuffle in (True, "block"):
        loader = make_loader(WindowDataset(own), 64, shuffle, num_workers=1 if cache else 0)
        batches = list(loader)
        assert sum(len(b["sample_id"]) for b in batches) == len(own)
        assert all(set(b) == set(expected) for b in batches)
    unread = {"current", "current_time"} if modality == "video" else {"video", "source"}
    assert not unread & set(reads)
    assert "currents" not in vars(own.samples) or modality == "current"  # no table is built


def test_currents_of_recordings_of_several_sizes_stack(tmp_path: Path) -> None:
    from conftest_tree import awkward_recording, write_tree

    recordings = {"a": awkward_recording(1, 60), "b": awkward_recording(2, 50, height=8, width=10)}
    store = fmfbench.convert(write_tree(tmp_path / "tree", recordings), tmp_path / "s.zarr")
    for cache in (None, "memory"):
        w = fmfbench.open_dataset(store).windows("all", "short", modality="current", cache=cache)
        assert w.batch([0, 60, 109])["current"].shape[0] == 3
        with pytest.raises(WindowError, match="expected frames of one size"):
            w.dataset.windows("all", "short", modality="video", cache=cache).batch([0, 60])


def test_strict_windows_are_the_same_samples_for_every_modality(data: Dataset) -> None:
    kept = [
        data.windows("test", "short", "strict", modality=m).sample_ids.tolist()
        for m in ("both", "video", "current")
    ]
    assert kept[0] == kept[1] == kept[2]
    assert 0 < len(kept[0]) < len(data.sample_ids("test"))
    with pytest.raises(WindowError, match="modality: expected one of both, video, current, got 'audio'"):
        data.windows("test", modality="audio")


def test_corruptions_of_what_is_not_there_say_so(data: Dataset) -> None:
    current = data.windows("test", "short", modality="current")
    assert not corrupt_batch(current.batch([0]), "current-missing")["current"].any()
    with pytest.raises(WindowError, match="'mist' expects windows with video, got current, current_valid"):
        corrupt_batch(current.batch([0]), "mist")
    _, transform = corruption(data, "phase-dead")
    batch = WindowDataset(current, transform).batch([0])
    assert (batch["current"][0] == 0).all(0).sum() == 1
    assert torch.isfinite(batch["current"]).all()


def test_a_time_offset_reaches_worker_processes(data: Dataset) -> None:
    moved, _ = corruption(data, "time-offset+2")
    assert pickle.loads(pickle.dumps(moved)).current_shift_ns == 2 * 10**9
    w = moved.windows("test", "short")
    same(pickle.loads(pickle.dumps(w)).batch([5]), w.batch([5]))
    assert not np.array_equal(w.batch([5])["current"], data.windows("test", "short").batch([5])["current"])
    name = next(iter(data.recordings))
    gap = moved.recordings[name].current_time - data.recordings[name].current_time
    assert set(gap.tolist()) == {2 * 10**9}
