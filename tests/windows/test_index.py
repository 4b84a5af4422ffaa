"""What stands in for whole tables in large stores, against the tables.

Also tests fmfbench.windows: blocks, lines, permutation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest_lines import PROTOCOLS, random_line

import fmfbench
from fmfbench.data import Dataset
from fmfbench.windows import index as index_module
from fmfbench.windows.blocks import BlockShuffle
from fmfbench.windows.index import WindowIndex
from fmfbench.windows.lines import Lines
from fmfbench.windows.permutation import permuted
from fmfbench.windows.plan import near_foreign, plan_current, plan_video


@pytest.fixture(scope="module")
def data(awkward_store: Path) -> Dataset:
    return fmfbench.open_dataset(awkward_store)


@pytest.mark.parametrize("count", [1, 2, 3, 63, 1000, 4097])
def test_a_worked_out_order_is_a_permutation(count: int) -> None:
    for seed, epoch in ((0, 0), (0, 1), (7, 0)):
        np.testing.assert_array_equal(
            np.sort(permuted(np.arange(count), count, seed, epoch)), np.arange(count)
        )
    places = np.array([count - 1, 0])
    np.testing.assert_array_equal(
        permuted(places, count, 3, 4), permuted(np.arange(count), count, 3, 4)[places]
    )


def test_how_random_a_worked_out_order_is() -> None:
    """Every window is as likely at every place, neighbours part, and seeds and epochs differ."""
    count, epochs = 20, 4000
    orders = np.array([permuted(np.arange(count), count, 1, epoch) for epoch in range(epochs)])
    seen = np.array([np.bincount(column, minlength=count) for column in orders.T])
    expected = epochs / count
    chi2 = ((seen - expected) ** 2 / expected).sum()  # about (count - 1)^2 = 361 degrees of freedom
    assert 361 - 5 * (2 * 361) ** 0.5 < chi2 < 361 + 5 * (2 * 361) ** 0.5
    follows = (np.diff(orders, axis=1) == 1).mean()
    assert follows == pytest.approx(1 / count, rel=0.1)
    large = 40_000_000
    far = permuted(np.arange(10_000), large, 0, 0)
    assert len(np.unique(far)) == 10_000
    assert far.mean() == pytest.approx(large / 2, rel=0.02)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_windows_that_span_nothing_foreign_hold_nothing_foreign(name: str) -> None:
    protocol = PROTOCOLS[name]
    spared = 0
    for seed in range(12):
        line = random_line(seed, jitter=seed % 3 == 0)
        frames = np.arange(len(line.frame_time))
        near = near_foreign(line, frames, protocol)
        found = plan_video(line, frames, protocol, False).foreign.any(axis=1)
        found |= plan_current(line, frames, protocol, False).foreign.any(axis=1)
        assert not (found & ~near).any()
        spared += int((~near).sum())
    assert spared > 1000


@pytest.mark.parametrize("foreign", [True, False])
def test_plans_without_a_look_at_foreign_ones_are_the_same_otherwise(foreign: bool) -> None:
    for seed in range(6):
        line = random_line(seed)
        frames = np.arange(len(line.frame_time))
        for plan in (plan_video, plan_current):
            for masked in (False, True):
                whole = plan(line, frames, PROTOCOLS["short"], masked)
                part = plan(line, frames, PROTOCOLS["short"], masked, foreign=foreign)
                np.testing.assert_array_equal(part.index, whole.index)
                np.testing.assert_array_equal(part.valid, whole.valid)
                if foreign or masked:
                    np.testing.assert_array_equal(part.foreign, whole.foreign)


@pytest.mark.parametrize("context", ["full", "masked"])
@pytest.mark.parametrize("protocol", ["short", "paper"])
def test_currents_planned_one_by_one_are_those_of_the_table(
    data: Dataset, context: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).permutation(data.num_samples)[:300]
    table = data.windows("all", protocol, context)
    _ = table.samples.currents
    with_table = table.batch(rows)
    monkeypatch.setattr(index_module, "_LARGEST_TABLE", 0)
    plain = data.windows("all", protocol, context)
    for start in range(0, 300, 50):
        batch = plain.batch(rows[start : start + 50])
        for name, array in batch.items():
            np.testing.assert_array_equal(array, with_table[name][start : start + 50])
    assert "currents" not in vars(plain.samples)


def test_a_table_is_made_once_it_pays(data: Dataset) -> None:
    windows = data.windows("all", "short")
    windows.batch(np.arange(10))
    assert "currents" not in vars(windows.samples)
    for _ in range(14):
        windows.batch(np.arange(10))
    assert "currents" in vars(windows.samples)


@pytest.mark.parametrize("every", [1, 3, 40])
@pytest.mark.parametrize("block", [1, 7, 64, 5000])
def test_block_starts_against_a_look_at_every_window(data: Dataset, every: int, block: int) -> None:
    for split in ("all", "train", "test"):
        index = data.windows(split, "short", every=every).samples
        for offset in {0, block // 3, block - 1}:
            number = (index.frame + offset) // block
            changed = (np.diff(number) != 0) | (np.diff(index.recording) != 0)
            expected = np.r_[0, np.flatnonzero(changed) + 1]
            np.testing.assert_array_equal(index.block_starts(block, offset), expected)


def test_an_order_drawn_group_by_group(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmfbench.windows.blocks.LARGE", 0)
    blocks = BlockShuffle(data.windows("all", "short").samples, 1 << 18)
    order = blocks.order(0, 5)
    assert order.num_groups > 1
    np.testing.assert_array_equal(np.sort(order.order), np.arange(data.num_samples))
    places = np.random.default_rng(0).permutation(data.num_samples)[:50]
    np.testing.assert_array_equal(order.windows(places), order.order[places])
    np.testing.assert_array_equal(blocks.order(0, 5).order, order.order)
    assert (blocks.order(0, 6).order != order.order).any()


def test_lines_are_kept_within_a_bound(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = tuple(data.recordings.values())
    lines = Lines(recordings, current=True)
    first = lines[0]
    assert lines[0] is first
    monkeypatch.setattr("fmfbench.windows.lines._KEPT_BYTES", first.nbytes + 1)
    _ = lines[1], lines[2]
    assert len(lines._kept) <= 2
    assert lines._bytes == sum(line.nbytes for line in lines._kept.values())
    np.testing.assert_array_equal(lines[0].line.frame_time, recordings[0].frame_time)


def test_what_travels_to_a_worker_does_not_grow_with_the_samples(data: Dataset) -> None:
    import pickle

    index: WindowIndex = data.windows("all", "short").samples
    before = len(pickle.dumps(index.ids))
    _ = index.sample_ids, index.frame, index.recording, index.class_label, index.mask_valid
    assert before < 1000
    again = pickle.loads(pickle.dumps(index))
    assert not {"sample_ids", "frame", "recording", "class_label", "mask_valid"} & set(vars(again))
    np.testing.assert_array_equal(again.class_label, index.class_label)
