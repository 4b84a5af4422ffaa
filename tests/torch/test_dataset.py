"""Windows as tensors: the numpy side's bytes, whatever the workers, batches or start method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest_tree import content, jitter

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.torch import WindowDataset, make_loader


@pytest.fixture(scope="module")
def dataset(awkward_store: Path) -> WindowDataset:
    return WindowDataset(fmfbench.open_dataset(awkward_store).windows("train", protocol="short", every=5))


def test_tensors_are_the_numpy_arrays_with_channels_first(dataset: WindowDataset) -> None:
    arrays = dataset.windows.batch([0, 3])
    tensors = dataset.batch([0, 3])
    assert tensors["video"].dtype == torch.uint8
    np.testing.assert_array_equal(tensors["video"].numpy(), arrays["video"].transpose(0, 4, 1, 2, 3))
    for name in set(arrays) - {"video"}:
        np.testing.assert_array_equal(tensors[name].numpy(), arrays[name])
    one = dataset[3]
    for name, tensor in one.items():
        assert torch.equal(tensor, tensors[name][1])


def test_same_bytes_for_any_workers_batches_and_start_method(dataset: WindowDataset) -> None:
    noisy = WindowDataset(dataset.windows, transform=jitter)
    _ = noisy[0]  # the parent has read from the store before the workers start
    settings = [
        {"num_workers": 0, "batch_size": 16},
        {"num_workers": 2, "batch_size": 7, "start_method": "fork"},
        {"num_workers": 1, "batch_size": 16, "start_method": "spawn"},
    ]
    seen = []
    for setting in settings:
        loader = make_loader(noisy, shuffle=True, seed=3, **setting)
        loader.set_epoch(2)
        seen.append(content(loader))
    assert set(seen[0]) == set(dataset.windows.sample_ids.tolist())
    assert seen[0] == seen[1] == seen[2]
    loader.set_epoch(3)
    assert content(loader) != seen[0]


def test_an_epoch_resumes_in_the_middle(dataset: WindowDataset) -> None:
    def ids(batches: list) -> list:
        return [b["sample_id"].tolist() for b in batches]

    loader = make_loader(dataset, batch_size=16, shuffle=True, seed=1)
    loader.set_epoch(4)
    whole = ids(list(loader))
    loader.set_epoch(4)
    iterator = iter(loader)
    first = ids([next(iterator), next(iterator)])
    other = make_loader(dataset, batch_size=16, shuffle=True, seed=1)
    other.load_state_dict(loader.state_dict())
    assert first + ids(list(other)) == whole
    with pytest.raises(WindowError, match="seed 1"):
        make_loader(dataset, seed=2).load_state_dict(loader.state_dict())


def test_ranks_share_each_batch(dataset: WindowDataset) -> None:
    whole = [b["sample_id"].tolist() for b in make_loader(dataset, batch_size=16, shuffle=True)]
    parts = [
        [
            b["sample_id"].tolist()
            for b in make_loader(dataset, batch_size=16, shuffle=True, rank=r, world_size=2)
        ]
        for r in range(2)
    ]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in whole]


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 0},
        {"num_workers": -1},
        {"rank": 2, "world_size": 2},
        {"batch_size": 5, "world_size": 2},
    ],
)
def test_bad_loaders_are_refused(dataset: WindowDataset, bad: dict) -> None:
    with pytest.raises(WindowError, match="expected batch_size"):
        make_loader(dataset, **bad)


def test_drop_last(dataset: WindowDataset) -> None:
    n = len(dataset)
    assert len(make_loader(dataset, batch_size=16)) == -(-n // 16)
    assert [len(b["sample_id"]) for b in make_loader(dataset, batch_size=16, drop_last=True)] == [16] * (
        n // 16
    )
