"""What other tools get of a store: zarr's own groups, columns, and tables in a notebook.

Also tests fmfbench: data.
Also tests fmfbench.store: zarr_door.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest_html import Page

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import StoreError


@pytest.fixture(scope="module")
def data(awkward_store: Path) -> Dataset:
    return fmfbench.open_dataset(awkward_store)


def test_zarr_s_own_groups(data: Dataset) -> None:
    root = data.zarr()
    assert isinstance(root, zarr.Group)
    assert root.attrs["fmfbench.fingerprint"] == data.fingerprint
    for name, recording in data.recordings.items():
        group = recording.zarr()
        assert isinstance(group, zarr.Group)
        np.testing.assert_array_equal(group["video"][3:9], recording.read_video(3, 9))
        np.testing.assert_array_equal(
            root[f"recordings/{name}/labels/source"][:5], recording.read_masks(0, 5)
        )
        with pytest.raises((ValueError, PermissionError)):
            group["split"][0] = 1


def test_a_table_is_what_is_known_of_each_sample(data: Dataset) -> None:
    names = {0: "train", 1: "test", 2: "unused"}
    for split in ("all", "train", "test", "unused"):
        table = data.table(split)
        assert list(table) == ["ids", "recording", "frame", "time", "split", "label"]
        rows = []
        for recording in data.recordings.values():
            for frame in range(recording.num_frames):
                part = names[int(recording.split[frame])]
                if split in ("all", part):
                    rows.append(
                        (
                            recording.first_id + frame,
                            recording.name,
                            frame,
                            int(recording.frame_time[frame]),
                            part,
                            int(recording.class_label[frame]),
                        )
                    )
        assert list(zip(*(column.tolist() for column in table.values()), strict=True)) == rows
    assert table["time"].dtype == np.int64
    with pytest.raises(StoreError):
        data.table("nowhere")


def test_tables_in_a_notebook(data: Dataset) -> None:
    recording = data.recordings["a.dotted"]
    windows = data.windows("test", "short", "strict", modality="current")
    for value, words in (
        (data, ["a.dotted", "330", "6 x 9", str(int((recording.split == 1).sum()))]),
        (recording, ["330 of 6 x 9 (H x W)", "source"]),
        (windows, ["short, context strict", f"{len(windows.left_out)} samples that reach into other splits"]),
    ):
        text = " | ".join(Page(value._repr_html_()).text)
        assert all(word in text for word in words), text
        assert len(repr(value)) < 200
    assert "current alone" in repr(windows)
