"""Parts of a v7.3 file that were never written: labels read as their fill value with a remark, others are refused."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import fmfbench
from fmfbench.conversion.doctor import diagnose
from fmfbench.errors import SourceError
from fmfbench.sources.layout import open_source

H, W, N = 20, 28, 24
VIDEO = np.random.default_rng(0).integers(0, 256, (N, 3, W, H), np.uint8)
LABEL = np.zeros((N, W, H), np.uint8)
LABEL[9:14, 3:20, 2:17] = 1


def write(path: Path, *, layout: str, written: list[slice], fill: int | None = 0, **options: object) -> Path:
    """Whole but for the labels, of which some frames alone are written."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["video" if layout == "v1" else "data"] = VIDEO
        if layout == "v1":
            file["current"], file["train_test_index"] = np.full((N, 3), 7000.0), np.zeros((N, 1), np.uint8)
        labels = file.create_dataset("label", LABEL.shape, "u1", fillvalue=fill, **options)
        for part in written:
            labels[part] = LABEL[part]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return path


WAYS = {
    "a few frames a chunk": ({"chunks": (4, W, H), "compression": "gzip"}, [slice(8, 16)], "4 of 6 chunks"),
    "one chunk of many a frame": ({"chunks": (1, 5, 7)}, [slice(9, 14)], r"342 of 432 chunks"),
    "unusual filters": ({"chunks": (3, W, H), "compression": "lzf"}, [slice(9, 15)], "6 of 8 chunks"),
    "nothing": ({"chunks": (4, W, H), "compression": "gzip"}, [], "'label' was never written: all of it"),
    "nothing, in one piece": ({}, [], "'label' was never written: all of it"),
}


@pytest.mark.parametrize("layout", ["v1", "v2"])
@pytest.mark.parametrize("way", WAYS)
def test_labels_that_were_never_written_read_as_their_fill_value(
    tmp_path: Path, way: str, layout: str
) -> None:
    options, written, words = WAYS[way]
    path = write(tmp_path / "run.mat", layout=layout, written=written, **options)
    expected = np.zeros_like(LABEL)
    for part in written:
        expected[part] = LABEL[part]
    recording = fmfbench.open_dataset(fmfbench.convert(path, tmp_path / "o.zarr")).recordings["run"]
    assert np.array_equal(recording.read_masks(0, N), expected.transpose(0, 2, 1))
    assert np.array_equal(recording.read_video(0, N), VIDEO.transpose(0, 3, 2, 1))
    remarks = recording.attributes["fmfbench.remarks"]
    assert any(re.search(words + ".*read as its fill value 0", r) for r in remarks), remarks
    assert any("fill value 0" in r for r in diagnose(path).recordings[0]["remarks"])


def test_another_fill_value_is_told_and_a_strange_one_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", layout="v2", written=[slice(8, 16)], fill=1, chunks=(4, W, H))
    masks = (
        fmfbench.open_dataset(fmfbench.convert(path, tmp_path / "a.zarr")).recordings["a"].read_masks(0, N)
    )
    assert masks[0].all()
    assert np.array_equal(masks[8:16], LABEL[8:16].transpose(0, 2, 1))
    path = write(tmp_path / "b.mat", layout="v2", written=[slice(8, 16)], fill=7, chunks=(4, W, H))
    with pytest.raises(SourceError, match="got 7 in frame"):
        fmfbench.convert(path, tmp_path / "b.zarr")


@pytest.mark.parametrize("missing", ["video", "current", "train_test_index"])
def test_video_currents_and_split_that_were_never_written_are_refused(tmp_path: Path, missing: str) -> None:
    values = {
        "video": VIDEO, "current": np.full((N, 3), 7000.0), "label": LABEL, "train_test_index": np.zeros((N, 1)),
    }  # fmt: skip
    path = tmp_path / "run.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            if name == missing:
                part = file.create_dataset(name, value.shape, value.dtype, chunks=(4, *value.shape[1:]))
                part[:12] = value[:12]
            else:
                file[name] = value
    with pytest.raises(
        SourceError, match=rf"'{missing}'.*expected 6 chunks, got only 3 that were ever written"
    ):
        open_source(path)
    told = diagnose(path)
    assert told.command is None
    assert "were ever written" in told.problems[0]


def test_a_whole_v1_file_with_an_extra_variable_called_data_is_v1(tmp_path: Path) -> None:
    import scipy.io

    rng = np.random.default_rng(2)
    content = {
        "video": rng.integers(0, 256, (H, W, 3, N), np.uint8), "current": rng.normal(7000, 10, (3, N)),
        "label": LABEL.transpose(2, 1, 0), "train_test_index": np.arange(N)[None] % 2,
    }  # fmt: skip
    for extra in (np.zeros((H, W, 3, N), np.uint8), np.arange(5.0), "notes"):
        scipy.io.savemat(tmp_path / "run.mat", {**content, "data": extra})
        told = diagnose(tmp_path / "run.mat")
        assert (told.layout, told.problems) == ("v1", [])
        store = fmfbench.convert(tmp_path / "run.mat", tmp_path / "o.zarr", overwrite=True)
        recording = fmfbench.open_dataset(store).recordings["run"]
        assert np.array_equal(recording.read_video(0, N), content["video"].transpose(3, 0, 1, 2))
        assert np.array_equal(recording.read_masks(0, N), content["label"].transpose(2, 0, 1))
