"""Recordings converted one at a time and merged: what one conversion of all gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest_annotation import write_source
from conftest_tree import chunks

import fmfbench
from fmfbench.conversion.verify import verify
from fmfbench.errors import SourceError
from fmfbench.store.merge import merge


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_parts_merged_are_one_conversion_of_all(layout: str, awkward_tree: Path, tmp_path: Path) -> None:
    source = awkward_tree if layout == "v2" else write_source(tmp_path / "runs")
    whole = fmfbench.open_dataset(fmfbench.convert(source, tmp_path / "fmf.zarr"))
    parts = [
        fmfbench.convert(source, tmp_path / f"{name}.part.zarr", only=[name]) for name in whole.recordings
    ]
    assert [list(fmfbench.open_dataset(part).recordings) for part in parts] == [
        [name] for name in whole.recordings
    ]
    (tmp_path / "merged").mkdir()
    merged = fmfbench.open_dataset(merge(parts, tmp_path / "merged" / "fmf.zarr"))
    assert merged.fingerprint == whole.fingerprint
    assert merged.sources_digest == whole.sources_digest
    assert chunks(merged.path) == chunks(whole.path)
    by_path = [sorted(d.attributes["fmfbench.sources"], key=lambda s: s["path"]) for d in (merged, whole)]
    assert by_path[0] == by_path[1]
    for key in ("options", "layout", "default_layer", "name"):
        assert merged.attributes[f"fmfbench.{key}"] == whole.attributes[f"fmfbench.{key}"], key
    assert verify(merged.path, source).ok


def test_a_name_that_is_not_there(awkward_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nobody.*b-long"):
        fmfbench.convert(awkward_tree, tmp_path / "none.zarr", only=["nobody"])
    assert not list(tmp_path.iterdir())
