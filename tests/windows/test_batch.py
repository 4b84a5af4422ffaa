"""A batch is frozen, a mapping, and of one piece."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.windows.batch import WindowBatch
from fmfbench.windows.reader import Windows

NAMES = [
    "video",
    "current",
    "video_valid",
    "current_valid",
    "class_label",
    "mask",
    "mask_valid",
    "sample_id",
]


@pytest.fixture(scope="module")
def windows(awkward_store: Path) -> Windows:
    return fmfbench.open_dataset(awkward_store).windows("all", "short")


def test_a_batch_is_a_mapping_that_nobody_changes(windows: Windows) -> None:
    batch = windows.batch([5, 2])
    assert isinstance(batch, Mapping)
    assert list(batch) == list(batch.keys()) == NAMES
    assert len(batch) == 8
    assert "mask" in batch
    assert "image" not in batch
    assert batch.get("image") is None
    with pytest.raises(KeyError):
        batch["keys"]
    assert batch["video"] is batch.video
    with pytest.raises(TypeError):
        batch["video"] = 0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        batch.video = None  # type: ignore[misc]
    assert {**batch, "more": 1}.keys() - batch.keys() == {"more"}
    assert repr(batch).startswith("WindowBatch(video uint8[2, 4, 6, 9, 3], current float32[2, ")
    copy = pickle.loads(pickle.dumps(batch))
    assert all(np.array_equal(copy[name], batch[name]) for name in batch)
    one = windows[5]
    assert isinstance(one, WindowBatch)
    assert all(np.array_equal(one[name], batch[name][0]) for name in NAMES)


@pytest.mark.parametrize(
    "changes",
    [
        {"video": np.zeros((3, 4, 6, 9, 3), np.uint8)},
        {"video": np.zeros((2, 5, 6, 9, 3), np.uint8)},
        {"video": np.zeros((2, 4, 9, 6, 3), np.uint8)},
        {"mask": np.zeros((2, 9, 6), np.uint8)},
        {"mask": None},
        {"mask_valid": None},
        {"video": None},
        {"current_valid": None},
        {"current": np.zeros((2, 1, 3), np.float32)},
        {"class_label": np.zeros(3, np.int64)},
        {"sample_id": np.zeros(3, np.int64)},
    ],
    ids=lambda c: f"{next(iter(c))}",
)
def test_arrays_that_do_not_belong_together_are_refused(windows: Windows, changes: dict) -> None:
    batch = windows.batch([0, 1])
    assert isinstance(replace(batch), WindowBatch)
    with pytest.raises(WindowError, match="arrays of the same windows"):
        replace(batch, **changes)


def test_torch_stacks_windows_without_our_dataset(windows: Windows) -> None:
    batch = next(iter(DataLoader(windows, batch_size=3)))
    np.testing.assert_array_equal(batch["video"].numpy(), windows.batch([0, 1, 2])["video"])
