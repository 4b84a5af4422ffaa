"""Merging stores: the same chunks, fingerprint and sources digest as one conversion of all.

Also tests fmfbench_cli: merge.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest_annotation import write_source
from conftest_tree import chunks
from scipy.io import loadmat, savemat

import fmfbench
from fmfbench.conversion.verify import verify
from fmfbench.errors import DamageError, StoreError
from fmfbench.store.merge import merge
from fmfbench.windows.division import split_store
from fmfbench.windows.protocol import WindowProtocol


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings with pixel labels, and one with class labels alone."""
    folder = write_source(tmp_path_factory.mktemp("source") / "runs")
    whole = loadmat(folder / "run1.mat")
    savemat(
        folder / "class_only.mat",
        {
            "video": whole["video"][..., :20],
            "current": whole["current"][:, :20],
            "label": whole["label"].any(axis=(0, 1))[None, :20].astype(np.uint8),
            "train_test_index": whole["train_test_index"][:, 15:35],
        },
    )
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fmfbench.convert(source, tmp_path_factory.mktemp("whole") / "all.zarr")


@pytest.fixture
def parts(source: Path, tmp_path: Path) -> list[Path]:
    return [fmfbench.convert(path, tmp_path / f"{path.stem}.zarr") for path in sorted(source.glob("*.mat"))]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_equals_one_conversion_of_all(whole: Path, parts: list[Path], order: tuple[int, ...], tmp_path: Path):
    store = merge([parts[i] for i in order], tmp_path / "all.zarr")
    ours, theirs = fmfbench.open_dataset(store), fmfbench.open_dataset(whole)
    assert ours.fingerprint == theirs.fingerprint
    assert ours.sources_digest == theirs.sources_digest
    assert chunks(store) == chunks(whole)
    assert list(ours.recordings) == list(theirs.recordings) == ["class_only", "run1", "run2"]
    same = ("schema", "name", "layout", "options", "default_layer", "sources")
    for key in (f"fmfbench.{name}" for name in same):
        assert ours.attributes[key] == theirs.attributes[key], key
    assert verify(store).ok
    np.testing.assert_array_equal(
        ours.class_labels(ours.sample_ids()), theirs.class_labels(theirs.sample_ids())
    )


def test_of_merges_and_of_one(whole: Path, parts: list[Path], tmp_path: Path):
    pair = merge(parts[:2], tmp_path / "pair.zarr")
    assert fmfbench.open_dataset(merge([pair, parts[2]], tmp_path / "all.zarr")).fingerprint == (
        fmfbench.open_dataset(whole).fingerprint
    )
    alone = fmfbench.open_dataset(merge([parts[0]], tmp_path / "alone.zarr"))
    assert alone.fingerprint == fmfbench.open_dataset(parts[0]).fingerprint


def test_a_merge_does_not_hang_on_its_parts(parts: list[Path], tmp_path: Path):
    store = merge(parts, tmp_path / "all.zarr")
    for part in parts:
        shutil.rmtree(part)
    assert verify(store).ok


def test_stores_that_do_not_fit_are_refused(source: Path, parts: list[Path], tmp_path: Path):
    with pytest.raises(StoreError, match="'class_only', which .* has too"):
        merge([parts[0], parts[0]], tmp_path / "twice.zarr")
    other = fmfbench.convert(source / "run1.mat", tmp_path / "slow.zarr", fps=10)
    with pytest.raises(StoreError, match=r"expected fmfbench.options .*got \{'fps': '10'\}"):
        merge([parts[0], other], tmp_path / "rates.zarr")
    with pytest.raises(StoreError, match="exists; choose another name"):
        merge(parts[:2], parts[2])
    with pytest.raises(StoreError, match="at least one store"):
        merge([], tmp_path / "none.zarr")
    (parts[1] / "recordings" / "run1" / "split" / "c" / "0").unlink()
    with pytest.raises(DamageError, match="recordings/run1/split/c/0 is missing"):
        merge(parts, tmp_path / "lost.zarr")
    assert not [
        path for path in tmp_path.iterdir() if path.name.startswith(("twice", "rates", "none", "lost"))
    ]


def test_damage_stays_visible(parts: list[Path], tmp_path: Path):
    chunk = parts[1] / "recordings" / "run1" / "video" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.unlink()
    chunk.write_bytes(data)
    report = verify(merge(parts, tmp_path / "all.zarr"))
    assert [finding.where for finding in report.damage][:1] == ["recordings/run1/video/c/0/0/0/0"]


def test_killed_while_it_links_it_continues(parts: list[Path], whole: Path, tmp_path: Path):
    """The process ends, as by kill -9, at the k-th file it takes; the same call then finishes."""
    code = (
        "import os, sys\n"
        "from fmfbench.store import merge, writer\n"
        "left, link = int(sys.argv[1]), os.link\n"
        "def counted(*names):\n"
        "    global left\n"
        "    left -= 1\n"
        "    os._exit(9) if left < 0 else link(*names)\n"
        "os.link = counted\n"
        "merge.merge(sys.argv[3:], sys.argv[2])\n"
    )
    target = tmp_path / "all.zarr"
    files = len([path for part in parts for path in part.rglob("*") if path.is_file()])
    for step in (0, 1, files // 5, files // 5):
        done = subprocess.run([sys.executable, "-c", code, str(step), target, *parts], check=False)
        assert done.returncode == 9
        assert not target.exists()
    merge(parts, target)
    assert verify(target).ok
    assert chunks(target) == chunks(whole)
    assert not os.path.lexists(tmp_path / "all.zarr.part")


def test_named_splits_are_kept_where_all_stores_are_divided_alike(parts: list[Path], tmp_path: Path):
    short = WindowProtocol(
        name="nano", num_frames=2, stride=2, current_seconds=0.1, current_hz=20, tolerance=0.02
    )
    for part in parts:
        split_store(part, test=0.25, protocol=short, name="late", as_default=True)
    store = merge(parts, tmp_path / "all.zarr")
    data = fmfbench.open_dataset(store)
    assert (data.split_name, data.split_names) == ("late", ("source", "late"))
    assert data.sample_ids("test").tolist() == [*range(15, 20), *range(65, 80), *range(108, 117)]
    assert verify(store).ok
    split_store(parts[0], name="source", as_default=True)
    with pytest.raises(
        StoreError, match="expected the default split source as in .*class_only.zarr, got late"
    ):
        merge(parts, tmp_path / "two.zarr")
    split_store(parts[0], test=0.25, protocol=short, name="more")
    with pytest.raises(
        StoreError, match="expected splits source, late, more as in .*got source, late; divide"
    ):
        merge(parts, tmp_path / "two.zarr")
