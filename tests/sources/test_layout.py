"""Layouts are detected from what lies there; what is unknown or ambiguous is an error that says what was found.

Also tests fmfbench.sources: source.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import hdf5storage
import numpy as np
import pytest

from fmfbench.errors import SourceError
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import Options

DATA = Path(__file__).parents[1] / "data"


def test_each_layout_is_found(tmp_path: Path) -> None:
    assert open_source(DATA / "v1_octave_v6.mat").layout == "v1"
    assert open_source(DATA / "v2_hdf5storage_v73.mat").layout == "v2"
    assert (
        open_source(DATA / "v2_tree").layout == open_source(DATA / "v2_tree" / "pixel-level").layout == "v2"
    )
    for name in ("b", "a.x"):
        shutil.copy(DATA / "v1_matio_v7.mat", tmp_path / f"{name}.mat")
    source = open_source(tmp_path)
    assert source.layout == "v1"
    assert [r.name for r in source.recordings] == ["a.x", "b"]


def test_the_name_is_the_file_name_without_its_last_extension(tmp_path: Path) -> None:
    shutil.copy(DATA / "v1_matio_v7.mat", tmp_path / "run.2023.05.mat")
    assert open_source(tmp_path / "run.2023.05.mat").recordings[0].name == "run.2023.05"


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_source(tmp_path / "none")
    with pytest.raises(SourceError, match="an empty folder"):
        open_source(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match="notes.txt"):
        open_source(tmp_path)
    shutil.copytree(DATA / "v2_tree" / "pixel-level", tmp_path / "first")
    shutil.copy(DATA / "v1_matio_v7.mat", tmp_path)
    with pytest.raises(SourceError, match="several layouts.*--layout"):
        open_source(tmp_path)
    assert open_source(tmp_path, Options(layout="v1")).recordings[0].name == "v1_matio_v7"
    assert open_source(tmp_path, Options(layout="v2")).recordings[0].name == "SaveToAvi-demo"
    with pytest.raises(SourceError, match="expected a source of layout recording, got"):
        open_source(tmp_path, Options(layout="recording"))
    with pytest.raises(SourceError, match="one of v1, v2"):
        open_source(tmp_path, Options(layout="v3"))
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    with pytest.raises(SourceError, match="first, second"):
        open_source(tmp_path, Options(layout="v2"))


def test_a_mapped_name_that_the_layout_does_not_read_is_refused() -> None:
    with pytest.raises(SourceError, match="variables of layout v2 .*, got current"):
        open_source(DATA / "v2_hdf5storage_v73.mat", Options(names={"current": "I"}))
    assert open_source(DATA / "v2_hdf5storage_v73.mat", Options(names={"data": "data"})).layout == "v2"


def test_a_file_with_names_of_both_is_ambiguous_unless_it_is_whole_as_one(tmp_path: Path) -> None:
    video = np.zeros((4, 5, 3, 6), np.uint8)
    content = {"video": video, "data": video, "current": np.ones((3, 6)), "label": np.zeros((4, 5, 6)),
               "train_test_index": np.zeros((1, 6))}  # fmt: skip
    hdf5storage.writes(
        content, filename=str(tmp_path / "x.mat"), options=hdf5storage.Options(matlab_compatible=True)
    )
    # Whole as V1: the extra variable says nothing.
    assert open_source(tmp_path / "x.mat").layout == "v1"
    assert open_source(tmp_path / "x.mat", Options(layout="v1")).layout == "v1"
    assert open_source(tmp_path / "x.mat", Options(layout="v2")).recordings[0].current.shape == (0, 3)
    del content["train_test_index"]
    hdf5storage.writes(
        content, filename=str(tmp_path / "y.mat"), options=hdf5storage.Options(matlab_compatible=True)
    )
    with pytest.raises(SourceError, match="got both.*--layout"):
        open_source(tmp_path / "y.mat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"current": np.ones((3, 5))}, r"'current' of shape \(3, 6\).*got \(3, 5\)"),
        ({"current": np.ones((6, 3))}, r"got \(6, 3\)"),
        ({"train_test_index": np.zeros((1, 7))}, "one value for each of 6 frames"),
        ({"train_test_index": np.zeros((2, 3))}, r"got shape \(2, 3\)"),
        ({"train_test_index": np.full((1, 6), 2.0)}, "got 2"),
        ({"video": np.zeros((4, 5, 4, 6), np.uint8)}, r"\(height, width, 3, frames\)"),
        ({"video": np.zeros((4, 5, 3, 6), np.int8)}, "got int8"),
        ({"label": np.zeros((4, 5, 7))}, r"got \(4, 5, 7\)"),
        ({"label": np.zeros((2, 6))}, r"got \(2, 6\)"),
        ({"label": "text"}, "class char"),
        ({"current": np.ones((3, 6), np.complex128)}, "current"),
    ],
)
def test_variables_that_do_not_fit_are_named(change: dict, message: str, tmp_path: Path) -> None:
    content = {"video": np.zeros((4, 5, 3, 6), np.uint8), "current": np.ones((3, 6)), "label": np.zeros((4, 5, 6)),
               "train_test_index": np.zeros((1, 6))} | change  # fmt: skip
    path = tmp_path / "x.mat"
    hdf5storage.writes(content, filename=str(path), options=hdf5storage.Options(matlab_compatible=True))
    with pytest.raises(SourceError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
