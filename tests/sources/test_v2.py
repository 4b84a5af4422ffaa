"""V2 trees: what is wrong with one is told in a line; what is odd about one is kept and remarked.

Also tests fmfbench.sources: matrecording.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest_tree import TreeRecording, awkward_recording, write_tree

import fmfbench
from fmfbench.errors import SourceError
from fmfbench.sources.layout import open_source


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    recordings = {"one": awkward_recording(7, 60), "two": awkward_recording(8, 45, 5, 8)}
    return write_tree(tmp_path / "pixel-level", recordings)


def edit_lines(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")


def break_json(root: Path, name: str, change: Callable[[dict], object]) -> None:
    path = root / f"{name}.json"
    content = json.loads(path.read_text())
    result = change(content)
    path.write_text(json.dumps(content if result is None else result))


BREAKAGES = {
    "no test.json": (lambda r: (r / "test.json").unlink(), "without test.json"),
    "no currents": (lambda r: (r / "currents" / "two.csv").unlink(), "without currents/two.csv"),
    "no videos": (lambda r: [p.unlink() for p in (r / "videos").iterdir()], "expected .mat files, got none"),
    "frame twice": (
        lambda r: break_json(r, "train", lambda c: c.update({"one.mat": [3, 3]})),
        "each frame once, got 3 more often",
    ),
    "frame in both": (
        lambda r: [break_json(r, s, lambda c: c.update({"one.mat": [4]})) for s in ("train", "test")],
        "got frame 4 in train.json too",
    ),
    "frame outside": (
        lambda r: break_json(r, "test", lambda c: c.update({"one.mat": [60]})),
        "below 60, got 60",
    ),
    "negative frame": (lambda r: break_json(r, "test", lambda c: c.update({"one.mat": [-1]})), "got -1"),
    "frame not whole": (
        lambda r: break_json(r, "test", lambda c: c.update({"one.mat": [1.0]})),
        "whole frame numbers",
    ),
    "huge frame": (lambda r: break_json(r, "test", lambda c: c.update({"one.mat": [10**30]})), "below 60"),
    "unknown file": (lambda r: break_json(r, "test", lambda c: c.update({"one": [1]})), "'one' is not among"),
    "not an object": (lambda r: break_json(r, "test", lambda _: [1]), "got a list"),
    "no JSON": (lambda r: (r / "test.json").write_text("{"), "got none"),
    "name twice": (lambda r: (r / "test.json").write_text('{"one.mat":[],"one.mat":[]}'), "stands twice"),
    "deep JSON": (lambda r: (r / "test.json").write_text("[" * 200_000), "expected JSON"),
    "too few times": (lambda r: edit_lines(r / "timestamps" / "one.csv", lambda x: x[:-1]), "got 59"),
    "no header": (lambda r: edit_lines(r / "timestamps" / "one.csv", lambda x: x[1:]), "expected a header"),
    "no header in currents": (
        lambda r: edit_lines(r / "currents" / "one.csv", lambda x: x[1:]),
        "expected a header",
    ),
    "empty table": (lambda r: (r / "currents" / "one.csv").write_text(""), "empty file"),
    "two phases": (
        lambda r: edit_lines(r / "currents" / "one.csv", lambda x: [*x[:4], x[4].rsplit(",", 1)[0], *x[5:]]),
        "got 3 in row 5",
    ),
    "no number": (
        lambda r: edit_lines(r / "currents" / "one.csv", lambda x: [*x[:4], x[4].replace(".", "_"), *x[5:]]),
        "row 5",
    ),
    "time backwards": (
        lambda r: edit_lines(r / "currents" / "one.csv", lambda x: [*x[:2], x[-1], *x[2:-1]]),
        "backwards at row 4",
    ),
    "other clock": (
        lambda r: edit_lines(
            r / "currents" / "one.csv", lambda x: [x[0], *(y.split(" ", 1)[1] for y in x[1:])]
        ),
        "with a date",
    ),
    "video is text": (lambda r: (r / "videos" / "one.mat").write_text("hello"), "one.mat"),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_broken_trees_are_refused_in_one_line(what: str, tree: Path, tmp_path: Path) -> None:
    damage, message = BREAKAGES[what]
    damage(tree)
    with pytest.raises(SourceError, match=message) as caught:
        fmfbench.convert(tree, tmp_path / "out.zarr")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["pixel-level"]


def test_an_unbroken_tree_converts_and_its_oddities_are_remarked(tree: Path, tmp_path: Path) -> None:
    edit_lines(tree / "currents" / "two.csv", lambda x: [*x[:-4]])
    data = fmfbench.open_dataset(fmfbench.convert(tmp_path, tmp_path / "out.zarr"))
    remarks = " ".join(data.recordings["one"].attributes["fmfbench.remarks"])
    assert "seconds without a frame, in 1 gap" in remarks
    assert "currents begin 3.00 s after the video" in remarks
    source = open_source(tree)
    assert [r.name for r in source.recordings] == ["one", "two"]
    assert any("currents end" in note for note in source.recordings[1].remarks)


def test_headers_may_be_in_any_encoding_and_rows_may_end_in_any_way(tree: Path) -> None:
    path = tree / "currents" / "one.csv"
    lines = path.read_text().splitlines()
    before = open_source(tree).recordings[0].current
    path.write_bytes("时间,甲,乙,丙\r\n".encode("gbk") + "\r\n".join(lines[1:]).encode() + b"\r\n\r\n")
    np.testing.assert_array_equal(open_source(tree).recordings[0].current, before)


def test_frames_in_neither_list_are_unused(tree: Path) -> None:
    break_json(tree, "train", lambda c: c.update({"one.mat": [0, 1, 5]}))
    break_json(tree, "test", lambda c: c.update({"one.mat": [7]}))
    split = open_source(tree).recordings[0].split
    assert split[:8].tolist() == [0, 0, 2, 2, 2, 0, 2, 1]
    assert (split[8:] == 2).all()


def test_missing_empty_and_infinite_phases_become_nan(tmp_path: Path) -> None:
    r = TreeRecording(
        video=np.zeros((3, 4, 5, 3), np.uint8), label=None, frame_seconds=np.array([1, 1, 2]),
        current_seconds=np.array([1, 1, 2]), current=np.full((3, 3), 7000.0),
    )  # fmt: skip
    root = write_tree(tmp_path / "t", {"r": r})
    edit_lines(
        root / "currents" / "r.csv", lambda x: [x[0], x[1][:-7], x[2].replace("7000.00", "inf", 1), x[3]]
    )
    current = open_source(root).recordings[0].current
    assert np.isnan(current).sum(axis=1).tolist() == [1, 1, 0]
