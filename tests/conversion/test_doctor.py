"""The doctor: good input gets a command that then converts exactly, bad input is named rightly.

Also tests fmfbench.conversion: ways.
Also tests fmfbench.sources: kinds.
Also tests fmfbench_cli: doctor.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import scipy.io
from conftest_run import call, invoke

import fmfbench
from fmfbench.conversion.doctor import _SHOWN, Diagnosis, FileReport, diagnose
from fmfbench.sources.kinds import KINDS

DATA = Path(__file__).parents[1] / "data"
AMPS = np.round(np.random.default_rng(0).normal(7000, 300, (8, 3)), 2)
TABLE = "seconds,a,b,c\n" + "".join(f"{i / 2},{a},{b},{c}\n" for i, (a, b, c) in enumerate(AMPS))


def video(path: Path, count: int = 100) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(count):
            image = np.full((32, 48, 3), i % 250, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def v1(**change: object) -> dict[str, object]:
    rng = np.random.default_rng(1)
    whole = {
        "video": rng.integers(0, 256, (24, 32, 3, 6), np.uint8), "current": rng.normal(7000, 10, (3, 6)),
        "label": np.zeros((24, 32, 6), np.uint8), "train_test_index": np.array([[0, 0, 0, 1, 1, 1]]),
    }  # fmt: skip
    return whole | change


def paste(command: str, folder: Path) -> Path:
    """Run a command as a user would, in a folder; the store that it makes."""
    parts = shlex.split(command)
    assert parts[:2] == ["fmfbench", "convert"]
    before = os.getcwd()
    os.chdir(folder)
    try:
        done = invoke(*parts[1:])
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.output
    return folder / parts[3]


def test_a_good_recording_gets_its_command(tmp_path: Path) -> None:
    video(tmp_path / "run 1.mp4")
    (tmp_path / "run 1.csv").write_text(TABLE)
    told = diagnose(tmp_path / "run 1.mp4")
    assert told.layout == "recording"
    assert {f.is_ for f in told.files} == {"video", "table"}
    assert not told.problems
    data = fmfbench.open_dataset(paste(str(told.command), tmp_path))
    recording = data.recordings["run 1"]
    assert recording.num_frames == 100
    assert np.array_equal(recording.current, AMPS.astype(np.float32))


def test_a_cut_video_gets_allow_damaged_and_the_words_of_convert(tmp_path: Path) -> None:
    video(tmp_path / "run1.mkv")
    (tmp_path / "run1.csv").write_text(TABLE)
    whole = (tmp_path / "run1.mkv").read_bytes()
    (tmp_path / "run1.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    done = invoke("doctor", tmp_path, "--json")
    told = json.loads(done.output)
    assert done.exit_code == 0
    refused = call("convert", tmp_path, tmp_path / "o.zarr", code=2)
    assert told["problems"][0] in refused.output
    assert "--allow-damaged" in told["command"]
    assert fmfbench.open_dataset(paste(told["command"], tmp_path)).recordings["run1"].num_frames < 100


def test_a_mixed_folder_converts_what_is_good(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("good", "alone", "broken"):
        video(folder / f"{name}.mp4")
    (folder / "good.csv").write_text(TABLE)
    (folder / "broken.csv").write_text("version https://git-lfs.github.com/spec/v1\nsize 3\n")
    (folder / "page.mat").write_text("<!DOCTYPE html><html></html>")
    (folder / "notes.docx").write_bytes(b"PK\3\4")
    told = diagnose(folder)
    assert told.command is not None
    assert "--only good" in told.command
    assert list(fmfbench.open_dataset(paste(told.command, tmp_path)).recordings) == ["good"]
    kinds = {Path(f.path).name: f.is_ for f in told.files}
    assert kinds["page.mat"] == "web page"
    assert kinds["broken.csv"] == "Git LFS pointer"
    assert kinds["notes.docx"] == "zip archive"
    assert set(kinds.values()) <= set(KINDS)


def test_names_in_other_letters_are_mapped(tmp_path: Path) -> None:
    content = v1()
    scipy.io.savemat(tmp_path / "x.mat", {
        "Video": content["video"], "Current": content["current"], "Label": content["label"],
        "index": content["train_test_index"],
    })  # fmt: skip
    told = diagnose(tmp_path / "x.mat")
    assert told.command is not None
    recording = fmfbench.open_dataset(paste(told.command, tmp_path)).recordings["x"]
    assert np.array_equal(recording.read_video(), content["video"].transpose(3, 0, 1, 2))


def cells(path: Path) -> None:
    values = np.empty((1, 6), object)
    for i in range(6):
        values[0, i] = np.zeros((24, 32, 3), np.uint8)
    scipy.io.savemat(path, v1(video=values))


def linked(path: Path, external: bool) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["current"] = np.ones((6, 3))
        file["video"] = h5py.ExternalLink("gone.mat", "/video") if external else h5py.SoftLink("/gone")
        file["label"], file["train_test_index"] = np.zeros((6, 32, 24)), np.zeros((6, 1))


BAD = {
    "Git LFS pointer": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"),
        "git lfs pull",
    ),
    "web page": (lambda p: p.write_text("<!doctype html><html>quota</html>"), "web page"),
    "web page in capitals": (lambda p: p.write_text("\n <HTML><BODY>log in</BODY></HTML>"), "web page"),
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "zeros": (lambda p: p.write_bytes(b"\0" * 9000), "zeros"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b\x08" + b"\0" * 900), "gzip"),
    "7z": (lambda p: p.write_bytes(b"7z\xbc\xaf\x27\x1c" + b"\0" * 900), "7z"),
    "rar": (lambda p: p.write_bytes(b"Rar!\x1a\x07" + b"\0" * 900), "rar"),
    "a cut zip": (lambda p: p.write_bytes(b"PK\3\4" + b"\1" * 900), "zip archive that is damaged"),
    "PDF": (lambda p: p.write_bytes(b"%PDF-1.7" + b"\1" * 900), "PDF"),
    "cells": (cells, r"cat\("),
    "struct": (lambda p: scipy.io.savemat(p, v1(video={"frames": np.zeros((3, 3))})), "struct"),
    "char": (lambda p: scipy.io.savemat(p, v1(label="none")), "char"),
    "sparse": (lambda p: scipy.io.savemat(p, v1(current=scipy.sparse.csc_matrix(np.ones((3, 6))))), "sparse"),
    "complex": (lambda p: scipy.io.savemat(p, v1(current=np.ones((3, 6)) * 1j)), "complex"),
    "doubles": (lambda p: scipy.io.savemat(p, v1(video=np.zeros((24, 32, 3, 6)))), "uint8"),
    "labels of 0.3": (lambda p: scipy.io.savemat(p, v1(label=np.full((24, 32, 6), 0.3))), "0.3"),
    "labels turned": (lambda p: scipy.io.savemat(p, v1(label=np.zeros((32, 24, 6)))), "axes are exchanged"),
    "frames differ": (lambda p: scipy.io.savemat(p, v1(current=np.ones((3, 5)))), r"\(3, 6\)"),
    "index of 2": (lambda p: scipy.io.savemat(p, v1(train_test_index=np.full((1, 6), 2))), "got 2"),
    "a soft link": (lambda p: linked(p, False), "link to /gone"),
    "an external link": (lambda p: linked(p, True), "gone.mat"),
    "cut in half": (lambda p: (scipy.io.savemat(p, v1()), p.write_bytes(p.read_bytes()[:5000])), "x.mat"),
    "big-endian": (lambda p: p.write_bytes(b" " * 124 + b"\1\0MI" + b"\0" * 99), "big-endian"),
    "text of Octave": (lambda p: p.write_text("# Created by Octave 7\n# name: video\n"), "save -v7"),
    "a picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\1" * 900), "picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_the_words_of_convert(tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    path = tmp_path / "x.mat"
    make(path)
    done = invoke("doctor", path, "--json")
    told = json.loads(done.output)
    assert (done.exit_code, told["command"]) == (2, None)
    assert re.search(words, " ".join(told["problems"])), told["problems"]
    assert told["files"][0]["problem"]
    refused = call("convert", path, tmp_path / "o.zarr", code=2)
    assert " ".join(told["problems"][0].split()) in " ".join(refused.output.split())
    assert [p.name for p in tmp_path.iterdir()] == ["x.mat"]


def test_a_parent_of_a_tree_and_a_partial_tree(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(DATA / "v2_tree" / "pixel-level", tmp_path / "a" / "tree"))
    lists = json.loads((tree / "test.json").read_text())
    (tree / "test.json").write_text(json.dumps(lists | {"SaveToAvi-9.mat": [0]}))
    told = diagnose(tmp_path / "a")
    assert told.layout == "v2"
    assert "SaveToAvi-9.mat" in told.problems[0]
    assert told.command is not None
    assert told.command.endswith("--only SaveToAvi-demo")
    assert list(fmfbench.open_dataset(paste(told.command, tmp_path)).recordings) == ["SaveToAvi-demo"]


def test_the_page_for_people_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    done = call("doctor", DATA / "v2_tree")
    assert "To convert it:" in done.output
    missing = call("doctor", tmp_path / "none", code=2)
    assert "no such file" in missing.output


@pytest.mark.parametrize("top", [1, 255])
def test_the_page_tells_label_values_and_how_the_frames_lie(tmp_path: Path, top: int) -> None:
    label = np.zeros((24, 32, 6), np.uint8)
    label[3:5, 7:9, 2:5] = top
    scipy.io.savemat(tmp_path / "x.mat", v1(label=label))
    told = diagnose(tmp_path / "x.mat")
    assert (told.recordings[0]["label_values"], told.recordings[0]["abnormal_frames"]) == ([0, top], 3)
    assert f"labels  values 0, {top}; 3 of 6 frames abnormal" in told.to_text()
    assert not told.hints
    turned = v1(label=(np.arange(6) > 3).astype(np.uint8)[None])
    turned["video"] = np.zeros((32, 24, 3, 6), np.uint8)
    scipy.io.savemat(tmp_path / "x.mat", turned)
    told = diagnose(tmp_path / "x.mat")
    assert "labels  values 0, 1; 2 of 6 frames abnormal" in told.to_text()
    assert any("taller than wide" in hint for hint in told.hints)


def test_a_fault_stands_once_on_the_page(tmp_path: Path) -> None:
    video(tmp_path / "run.mp4")
    (tmp_path / "run.csv").write_text(TABLE.replace(str(AMPS[0, 1]), "x"))
    scipy.io.savemat(tmp_path / "c.mat", v1(label="none"))
    told = diagnose(tmp_path)
    page = told.to_text()
    assert told.command is None
    assert page.count("expected a current in A in row 2") == 1
    assert page.count("got a char") + page.count("is a char") == 1


@pytest.mark.parametrize(
    ("rows", "rate"), [(8, "2"), (20, "5"), (16, "4"), (40, "10"), (4, "1"), (12, None), (200, "50")]
)
def test_counted_rows_get_the_rate_at_which_they_last_as_long_as_the_video(
    tmp_path: Path, rows: int, rate: str | None
) -> None:
    video(tmp_path / "run.mp4")  # 4 s
    amps = [f"{i + 1},7000,7100,{7200 + i}\n" for i in range(rows)]
    (tmp_path / "run.csv").write_text("index,a,b,c\n" + "".join(amps))
    told = diagnose(tmp_path / "run.mp4")
    if rate is None:  # 3 rows a second: a person must say it
        assert told.command is None
        assert "--current-hz" in told.problems[0]
    else:
        assert str(told.command).endswith(f"--current-hz {rate}")


@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_page_of_many_faults_says_how_many_it_leaves_out(more: int) -> None:
    files = [FileReport(path=f"f{k:03d}", is_="unknown", problem="no use") for k in range(_SHOWN + more)]
    text = Diagnosis(path="folder", files=files).to_text()
    assert text.count("  wrong f") == _SHOWN
    assert ("more files with a problem" in text) == bool(more)
    assert not more or f"and {more} more files with a problem" in text
