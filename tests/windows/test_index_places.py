"""Which windows indices name: as numpy would, and nothing is cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.torch import WindowDataset
from fmfbench.windows.index import window_places
from fmfbench.windows.reader import Windows

COUNT = 7


@pytest.mark.parametrize(
    "indices",
    [
        [],
        3,
        [0],
        [-1, -7, 6],
        np.array([2, 2], np.uint8),
        np.array([[1, 2], [3, -4]]),
        np.uint64(5),
        range(3),
    ],
    ids=str,
)
def test_whole_numbers(indices: object) -> None:
    expected = np.arange(COUNT)[np.asarray(indices, np.int64)].reshape(-1)
    np.testing.assert_array_equal(window_places(indices, COUNT), expected)


def test_booleans_select() -> None:
    chosen = np.arange(COUNT) % 3 == 1
    assert window_places(chosen, COUNT).tolist() == window_places(chosen.tolist(), COUNT).tolist() == [1, 4]
    assert window_places(np.zeros(COUNT, bool), COUNT).tolist() == []
    assert window_places(np.zeros(0, bool), 0).tolist() == []


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (1.5, "whole numbers or booleans, got float64"),
        ([1.0], "got float64"),
        (np.float32(0), "got float32"),
        (["1"], "got <U1"),
        ([None], "got object"),
        (np.timedelta64(1), "got timedelta64"),
        (True, "7 booleans, one for each window, got 1"),
        ([True, False], "got 2"),
        (np.ones((COUNT, 1), bool), "of shape"),
        ([7], "-7 to 6, got 7"),
        ([0, -8], "got -8"),
        ([2**63], "got 92"),
    ],
    ids=str,
)
def test_what_names_no_window_is_refused(indices: object, words: str) -> None:
    with pytest.raises(IndexError, match=words):
        window_places(indices, COUNT)


@pytest.fixture(scope="module")
def windows(awkward_store: Path) -> Windows:
    return fmfbench.open_dataset(awkward_store).windows("test", "short")


def test_every_way_in_takes_the_same(windows: Windows) -> None:
    chosen = np.zeros(len(windows), bool)
    chosen[[3, 5]] = True
    for make in (windows.batch, WindowDataset(windows).batch, WindowDataset(windows).__getitems__):
        with pytest.raises(IndexError, match="got float64"):
            make([1.5])
    for make in (windows.batch, WindowDataset(windows).batch):
        assert make(chosen)["sample_id"].tolist() == windows.sample_ids[[3, 5]].tolist()
    assert len(windows.plan(chosen)[0][0]) == 2
    for bad in (1.5, True, "1", None, [1], np.float64(1), len(windows), -len(windows) - 1):
        with pytest.raises(IndexError):
            windows[bad]
    assert windows[np.int32(-1)]["sample_id"] == windows.sample_ids[-1]
    device = fmfbench.torch.DeviceWindows(windows, "cpu")
    assert device.batch([len(windows) - 1])["sample_id"].tolist() == [windows.sample_ids[-1]]
    moved = WindowDataset(windows.dataset.windows("test", "short", cache="device"), device="cpu")
    assert moved.batch([-1])["sample_id"].tolist() == [windows.sample_ids[-1]]
    with pytest.raises(IndexError, match="got float64"):
        device.batch([0.0])
