"""WindowDataset in loaders that are not ours: torch's own, and those that frameworks make of ours.

Also tests fmfbench.torch: epochs, form, samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_tree import jitter
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Subset, WeightedRandomSampler

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.torch import WindowDataset, collate, make_loader
from fmfbench.torch.epochs import EpochCount
from fmfbench.torch.samples import Samples


@pytest.fixture(scope="module")
def windows(awkward_store: Path) -> fmfbench.windows.reader.Windows:
    return fmfbench.open_dataset(awkward_store).windows("all", "short", every=6)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        assert torch.equal(tensor, b[name]), name


def one_by_one(samples: Any) -> dict[str, torch.Tensor]:
    """Stacked plainly, as torch stacks dicts."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("collate_fn", [None, collate, one_by_one])
def test_a_plain_loader_gives_the_stacked_windows(windows: Any, collate_fn: Any, num_workers: int) -> None:
    dataset = WindowDataset(windows)
    loader = DataLoader(dataset, batch_size=32, num_workers=num_workers, collate_fn=collate_fn)
    for number, batch in enumerate(loader):
        assert type(batch) is dict
        same(batch, dataset.batch(np.arange(32 * number, min(len(dataset), 32 * number + 32))))


def test_samples_are_a_sequence_of_views(windows: Any) -> None:
    dataset = WindowDataset(windows)
    samples = dataset.__getitems__([3, 1, 4])
    assert isinstance(samples, Samples)
    assert len(samples) == len(list(samples)) == len(samples[:]) == 3
    assert samples[-1]["sample_id"] == windows.sample_ids[4]
    assert [int(s["sample_id"]) for s in samples[1:]] == windows.sample_ids[[1, 4]].tolist()
    assert samples[0]["video"].data_ptr() == samples.batch["video"].data_ptr()
    with pytest.raises(IndexError):
        samples[3]
    same(dataset[1], samples[1])
    assert len(dataset.__getitems__([])) == 0


def test_wrappers_of_torch(windows: Any) -> None:
    dataset = WindowDataset(windows)
    part = next(iter(DataLoader(Subset(dataset, [5, 7, 9]), batch_size=3)))
    same(part, dataset.batch([5, 7, 9]))
    both = next(iter(DataLoader(ConcatDataset([dataset, dataset]), batch_size=len(dataset) + 1)))
    same(both, dataset.batch([*range(len(dataset)), 0]))
    same(next(iter(DataLoader(dataset, batch_size=None))), dataset[0])


# the epoch of a transform


def draws(loader: Any) -> dict[int, bytes]:
    out = {}
    for batch in loader:
        currents = [current.numpy().tobytes() for current in batch["current"]]
        out |= dict(zip(batch["sample_id"].tolist(), currents, strict=True))
    return out


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2, "multiprocessing_context": "fork"},
        {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True},
        {"num_workers": 1, "multiprocessing_context": "spawn"},
    ],
    ids=str,
)
def test_a_transform_sees_the_epoch_in_a_plain_loader(windows: Any, options: dict) -> None:
    dataset = WindowDataset(windows, jitter)
    loader = DataLoader(dataset, batch_size=16, shuffle=True, **options)
    passes = [draws(loader) for _ in range(3)]
    ours = make_loader(WindowDataset(windows, jitter), batch_size=16)
    assert passes == [draws(ours) for _ in range(3)]  # so it is the epoch, and no other number
    assert not set(passes[0].items()) & set(passes[1].items())
    dataset.set_epoch(1)  # seen by workers that run already
    assert draws(loader) == draws(loader) == passes[1]


def test_a_sample_that_is_asked_for_again_is_drawn_anew(windows: Any) -> None:
    dataset = WindowDataset(windows, jitter)
    generator = torch.Generator().manual_seed(0)
    sampler = WeightedRandomSampler(torch.ones(5), 60, replacement=True, generator=generator)
    values = [b["current"].numpy().tobytes() for b in DataLoader(dataset, batch_size=1, sampler=sampler)]
    assert len(set(values)) == 60
    seeds = [WindowDataset(windows, jitter, seed=seed)[0]["current"].sum() for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_counting_by_hand() -> None:
    count = EpochCount(6)
    asked = [[0, 1], [2, 3], [4], [3, 5], [0], [1, 2], [0]]
    assert [count.next(np.array(where)) for where in asked] == [0, 0, 0, 1, 1, 1, 2]
    count.fix(7)
    assert [count.next(np.array([i])) for i in (0, 0)] == [7, 7]


# what frameworks make of a loader


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("shuffle", [True, "block"])
def test_a_loader_made_of_ours_gives_what_ours_would(windows: Any, shuffle: Any, num_workers: int) -> None:
    """As Accelerate does: dataset, batch sampler and collation in a loader of its own."""
    ours = make_loader(WindowDataset(windows, jitter), 25, shuffle, seed=4, buffer_bytes=200_000)
    told = make_loader(WindowDataset(windows, jitter), 25, shuffle, seed=4, buffer_bytes=200_000)
    theirs = DataLoader(
        ours.dataset, batch_sampler=ours.batch_sampler, collate_fn=ours.collate_fn, num_workers=num_workers
    )
    assert len(theirs) == len(ours)
    for epoch in (0, 3):
        theirs.batch_sampler.sampler.set_epoch(epoch)
        told.set_epoch(epoch)
        for a, b in zip(theirs, told, strict=True):
            same(a, b)
    ours.dataset.set_epoch(5)  # the only thing that Accelerate sets after skip_first_batches
    told.set_epoch(5)
    same(next(iter(theirs)), next(iter(told)))


def test_the_class_takes_what_lightning_gives_it_to_predict(windows: Any) -> None:
    ours = make_loader(WindowDataset(windows), 25)
    batches = BatchSampler(ours.sampler, batch_size=25, drop_last=False)
    again = type(ours)(
        dataset=ours.dataset,
        sampler=None,
        shuffle=False,
        batch_sampler=batches,
        batch_size=1,
        drop_last=False,
    )
    for a, b in zip(again, ours, strict=True):
        same(a, b)
    with pytest.raises(WindowError, match="one that a framework made of it"):
        again.set_epoch(1)


@pytest.mark.parametrize("shuffle", [False, True, "block"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_shares_of_the_sampler_are_the_epoch(windows: Any, shuffle: Any, drop_last: bool) -> None:
    shares = []
    for rank in range(2):
        loader = make_loader(
            WindowDataset(windows),
            8,
            shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=2,
            buffer_bytes=200_000,
        )
        shares.append([int(i) for i in loader.sampler])
        assert len(shares[-1]) == len(loader.sampler)
        own = [batch["sample_id"].tolist() for batch in loader]  # the second epoch
        loader.set_epoch(0)
        own = [i for batch in loader for i in batch["sample_id"].tolist()]
        assert own == windows.sample_ids[shares[-1]].tolist()
    everything = sorted(shares[0] + shares[1])
    assert len(set(everything)) == len(everything) == (len(windows) // 8 * 8 if drop_last else len(windows))


# layout, type, names


@pytest.mark.parametrize("cache", [None, "memory", "device"])
def test_layouts_types_and_names(windows: Any, cache: str | None) -> None:
    plain = WindowDataset(windows).batch(range(6))["video"]
    w = windows.dataset.windows("all", "short", every=6, cache=cache)
    for dtype, values in (
        ("uint8", plain),
        ("float32", plain.float() / 255),
        (torch.float32, plain.float() / 255),
    ):
        for layout, axes in ((None, (0, 1, 2, 3, 4)), ("bcthw", (0, 1, 2, 3, 4)), ("btchw", (0, 2, 1, 3, 4))):
            dataset = WindowDataset(w, layout=layout, dtype=dtype)
            loader = make_loader(WindowDataset(w), 6, layout=layout, dtype=dtype, num_workers=1)
            for batch in (dataset.batch(range(6)), next(iter(loader)), next(iter(DataLoader(dataset, 6)))):
                video = batch["video"]
                assert video.dtype == values.dtype
                assert torch.equal(video, values.permute(axes))
                assert video.is_contiguous() == (layout is not None)
    names = {"video": "pixel_values", "class_label": "labels"}
    for batch in (
        WindowDataset(w, keys=names).batch([0]),
        next(iter(make_loader(WindowDataset(w), keys=names))),
    ):
        assert list(batch) == ["pixel_values", "labels"]
    assert list(WindowDataset(w, keys=["mask", "video"])[0]) == ["mask", "video"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "thwc"}, "layout bcthw or btchw, got 'thwc'"),
        ({"dtype": "float16"}, "dtype uint8 or float32, got 'float16'"),
        ({"keys": {"image": "x"}}, "keys that name entries of a batch"),
        ({"keys": []}, "keys that name entries"),
        ({"keys": {"video": "x", "mask": "x"}}, "each by a name of its own"),
        ({"keys": "video"}, "a mapping or a list of names"),
    ],
)
def test_forms_that_there_are_not(windows: Any, options: dict, words: str) -> None:
    with pytest.raises(WindowError, match=words):
        WindowDataset(windows, **options)
    with pytest.raises(WindowError, match=words):
        make_loader(WindowDataset(windows), **options)
