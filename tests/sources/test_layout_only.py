"""Some recordings of a source: `--only`, and trees of which not all was downloaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import fmfbench
from fmfbench.errors import SourceError
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import Options

DATA = Path(__file__).parents[1] / "data"


def test_only_of_a_folder_of_v1_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(DATA / "v1_matio_v7.mat", tmp_path / f"{name}.mat")
    (tmp_path / "c.mat").write_bytes(b"broken")  # not opened, not asked for
    source = open_source(tmp_path, Options(only=("b", "a")))
    assert [r.name for r in source.recordings] == ["a", "b"]
    assert [p.name for p in source.files] == ["a.mat", "b.mat"]
    with pytest.raises(SourceError, match="'d'.*--only"):
        open_source(tmp_path, Options(only=("a", "d")))
    store = fmfbench.open_dataset(fmfbench.convert(tmp_path, tmp_path / "o.zarr", only=["b"]))
    assert list(store.recordings) == ["b"]
    assert store.attributes["fmfbench.options"] == {"only": ["b"]}


def test_a_tree_without_one_of_its_videos_names_it_and_the_rest_converts(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(DATA / "v2_tree" / "pixel-level", tmp_path / "tree"))
    lists = json.loads((tree / "train.json").read_text())
    (tree / "train.json").write_text(json.dumps(lists | {"SaveToAvi-2.mat": [0]}))
    with pytest.raises(SourceError, match=r"SaveToAvi-2.mat.*missing.*--only SaveToAvi-demo"):
        open_source(tree)
    assert [r.name for r in open_source(tree, Options(only=("SaveToAvi-demo",))).recordings] == [
        "SaveToAvi-demo"
    ]
    with pytest.raises(SourceError, match="SaveToAvi-2"):
        open_source(tree, Options(only=("SaveToAvi-2",)))


def test_only_of_one_file_is_its_name() -> None:
    file = DATA / "v1_matio_v7.mat"
    assert open_source(file, Options(only=("v1_matio_v7",))).recordings[0].name == "v1_matio_v7"
    with pytest.raises(SourceError, match="--only"):
        open_source(file, Options(only=("other",)))
