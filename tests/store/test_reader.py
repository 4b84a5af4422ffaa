"""Frames and masks by slice, as numpy slices an array of them; only damage is called damage.

Also tests fmfbench.store: recording.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.errors import DamageError, StoreError
from fmfbench.store import shards

BOUNDS = (None, 0, 1, 5, -1, -3, 329, 330, 331, 5000, -329, -330, -331, -5000)


@pytest.fixture(scope="module")
def recording(awkward_store: Path) -> fmfbench.data.Recording:
    return next(r for r in fmfbench.open_dataset(awkward_store).recordings.values() if r.num_frames == 330)


def test_slices_are_numpy_s(recording: fmfbench.data.Recording) -> None:
    video, masks = recording.read_video(), recording.read_masks()
    assert video.shape == (330, recording.height, recording.width, 3)
    assert masks.shape == (330, recording.height, recording.width)
    for start in BOUNDS:
        for stop in BOUNDS:
            for whole, read in ((video, recording.read_video), (masks, recording.read_masks)):
                found = read(start, stop)
                assert found.dtype == np.uint8
                assert found.shape == whole[start:stop].shape
                np.testing.assert_array_equal(found, whole[start:stop])
    np.testing.assert_array_equal(recording.read_video(np.int64(3), stop=np.uint8(5)), video[3:5])


@pytest.mark.parametrize("bound", [1.0, 1.5, "1", np.float32(2)])
def test_bounds_that_are_no_whole_numbers_are_refused(
    recording: fmfbench.data.Recording, bound: object
) -> None:
    for read in (recording.read_video, recording.read_masks):
        with pytest.raises(TypeError, match="slice indices must be integers"):
            read(bound, None)
        with pytest.raises(TypeError, match="slice indices must be integers"):
            read(0, bound)


def test_damage_is_still_damage(recording: fmfbench.data.Recording, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(recording.path, tmp_path / "copy")
    file = next(path for path in (tmp_path / "copy/video/c").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    copy = fmfbench.data.Recording(tmp_path / "copy", "copy", 0, None)
    assert copy.read_video(329, 5000).shape[0] == 1
    with pytest.raises(DamageError):
        copy.read_video(0, 1)
    with pytest.raises(StoreError, match="no pixel labels"):
        copy.read_masks()


def test_the_module_holds_nothing_that_cannot_be_pickled() -> None:
    """Libraries that hash a function by its globals (datasets, with dill) pickle what its module holds."""
    for name, value in vars(shards).items():
        if not name.startswith("__") and type(value).__module__ not in ("builtins", "__future__"):
            pickle.dumps(value)
