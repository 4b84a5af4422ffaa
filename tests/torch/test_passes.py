"""Passes of a loader: full and fresh, counted or chosen, resumed only after a state was loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

import fmfbench
from fmfbench.torch import WindowDataset, WindowLoader, make_loader


@pytest.fixture(scope="module")
def dataset(awkward_store: Path) -> WindowDataset:
    """170 windows: 17 batches of 10."""
    windows = fmfbench.open_dataset(awkward_store).windows("all", "short", every=6)
    return WindowDataset(windows)


WAYS: list[dict[str, Any]] = [
    {"shuffle": True},
    {"shuffle": True, "num_workers": 2, "start_method": "fork"},
    {"shuffle": "block", "num_workers": 1, "buffer_bytes": 200_000},
]


@pytest.fixture(params=WAYS, ids=str)
def make(dataset: WindowDataset, request: pytest.FixtureRequest) -> Any:
    return lambda **options: make_loader(dataset, **{"batch_size": 10, "seed": 3, **request.param, **options})


def ids(batches: Any) -> list[list[int]]:
    return [batch["sample_id"].tolist() for batch in batches]


def take(iterator: Iterator[Any], count: int) -> list[list[int]]:
    return ids(next(iterator) for _ in range(count))


def epochs(make: Any, count: int) -> list[list[list[int]]]:
    """The order of each epoch, each by a loader of its own that was told."""
    found = []
    for epoch in range(count):
        loader = make()
        loader.set_epoch(epoch)
        found.append(ids(loader))
    return found


def test_it_is_a_loader_of_torch(make: Any, dataset: WindowDataset) -> None:
    loader = make()
    assert isinstance(loader, DataLoader)
    assert isinstance(loader.sampler, DistributedSampler)
    assert (loader.batch_size, loader.drop_last, len(loader)) == (10, False, -(-len(dataset) // 10))
    assert len(loader.dataset) == len(dataset)
    assert len(loader.sampler) == len(dataset)


def test_every_pass_is_full_and_the_epoch_counts_by_itself(make: Any, dataset: WindowDataset) -> None:
    told = epochs(make, 5)
    assert len({str(order) for order in told}) == 5
    for order in told:
        assert sorted(i for batch in order for i in batch) == dataset.windows.sample_ids.tolist()
    loader = make()
    assert take(iter(loader), 3) == told[0][:3]  # a peek
    assert ids(loader) == told[1]
    for number, batch in enumerate(loader):
        assert batch["sample_id"].tolist() == told[2][number]
        if number == 4:
            break
    iter(loader)  # counted, though nobody took anything from it
    assert ids(loader) == told[4]


def test_an_epoch_that_was_set_holds(make: Any) -> None:
    told = epochs(make, 4)
    loader = make()
    loader.set_epoch(2)
    assert ids(loader) == told[2]
    assert take(iter(loader), 2) == told[2][:2]
    assert ids(loader) == told[2]
    loader.sampler.set_epoch(3)  # as frameworks do
    assert ids(loader) == ids(loader) == told[3]
    loader.set_epoch(0)
    assert ids(loader) == told[0]


def test_two_passes_at_once_do_not_share_a_place(make: Any) -> None:
    told = epochs(make, 3)
    loader = make()
    first, second = iter(loader), iter(loader)
    a, b = take(first, 3), take(second, 2)
    a += take(first, 2)
    third = iter(loader)
    b += ids(second)
    assert take(third, 1) == told[2][:1]
    a += ids(first)
    assert a == told[0]
    assert b == told[1]


def test_a_state_is_of_the_newest_pass_and_the_next_pass_resumes_it_once(make: Any) -> None:
    told = epochs(make, 6)
    loader = make()
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (0, 0)
    for _ in range(3):
        ids(loader)
    older = iter(loader)
    take(older, 9)
    newest = iter(loader)
    start = take(newest, 4)
    take(older, 1)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (4, 4)
    other = make()
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert start + ids(other) == told[4]
    assert ids(other) == told[5]  # a whole pass again, of the next epoch
    other.load_state_dict(state)
    other.set_epoch(4)  # the same epoch: its place is kept
    assert ids(other) == told[4][4:]
    assert ids(other) == told[4]
    other.load_state_dict(state)
    other.set_epoch(5)
    assert ids(other) == told[5]
    other.load_state_dict(state)
    other.sampler.set_epoch(4)
    assert take(iter(other), 1) == told[4][4:5]


def test_a_finished_pass_leaves_the_beginning_of_the_next(make: Any) -> None:
    told = epochs(make, 2)
    loader = make()
    iterator = iter(loader)
    take(iterator, len(loader))
    assert loader.state_dict()["batch"] == len(loader)
    assert list(iterator) == []
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (1, 0)
    other = make()
    other.load_state_dict(loader.state_dict())
    assert ids(other) == told[1]


def test_a_loop_that_resumes_and_sets_epochs_sees_each_window_once_an_epoch(make: Any) -> None:
    """The usual loop: killed in the middle of epoch 3, and started again."""
    told = epochs(make, 5)
    loader, seen, state = make(), [], None
    for epoch in range(5):
        loader.set_epoch(epoch)
        for number, batch in enumerate(loader):
            seen.append((epoch, batch["sample_id"].tolist()))
            if (epoch, number) == (3, 6):
                state = loader.state_dict()
                break
        if state is not None:
            break
    again = make()
    again.load_state_dict(state)
    for epoch in range(state["epoch"], 5):
        again.set_epoch(epoch)
        seen += [(epoch, batch["sample_id"].tolist()) for batch in again]
    assert seen == [(epoch, batch) for epoch in range(5) for batch in told[epoch]]


def test_an_unshuffled_loader_keeps_its_order_and_tells_transforms_the_epoch(awkward_store: Path) -> None:
    def draw(sample: dict, generator: torch.Generator) -> dict:
        return {"sample_id": sample["sample_id"], "drawn": torch.rand(1, generator=generator)}

    windows = fmfbench.open_dataset(awkward_store).windows("test", "short")
    loader = make_loader(WindowDataset(windows, draw), batch_size=16)
    passes = [torch.cat([batch["drawn"] for batch in loader]) for _ in range(2)]
    assert not torch.equal(*passes)
    loader.set_epoch(0)
    assert torch.equal(torch.cat([batch["drawn"] for batch in loader]), passes[0])


def test_a_rank_s_empty_batch_stacks_with_the_others(awkward_store: Path) -> None:
    windows = fmfbench.open_dataset(awkward_store).windows(
        "all", "short", every=50
    )  # 21: 5 batches of 4, and one
    assert len(windows) % 4 == 1
    for options in ({}, {"num_workers": 1, "start_method": "fork"}, {"shuffle": "block", "num_workers": 1}):
        loader = make_loader(WindowDataset(windows), batch_size=4, rank=1, world_size=2, **options)
        with pytest.warns(UserWarning, match="the last batch has 1 windows for 2 ranks"):
            batches = list(loader)
        assert [len(batch["sample_id"]) for batch in batches] == [2] * 5 + [0]
        whole, empty = batches[0], batches[-1]
        assert {k: (v.shape[1:], v.dtype) for k, v in empty.items()} == {
            k: (v.shape[1:], v.dtype) for k, v in whole.items()
        }


def test_ranks_are_named_both_or_neither(dataset: WindowDataset) -> None:
    for bad in ({"rank": 0}, {"world_size": 2}, {"world_size": 1}):
        with pytest.raises(fmfbench.errors.WindowError, match="both or neither"):
            make_loader(dataset, batch_size=4, **bad)
    assert isinstance(make_loader(dataset, batch_size=4, rank=1, world_size=2), WindowLoader)


def test_a_launch_that_nobody_initialised_is_told(
    dataset: WindowDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="torch.distributed is not initialised"):
        assert len(ids(make_loader(dataset, batch_size=10))) == -(-len(dataset) // 10)
    found = ids(make_loader(dataset, batch_size=10, rank=0, world_size=1))
    assert np.concatenate(found).tolist() == dataset.windows.sample_ids.tolist()
