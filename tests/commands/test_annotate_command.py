import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest_run import invoke

import fmfbench
from fmfbench.annotation.annotate import read_drawn

DATA = Path(__file__).parents[1] / "data"
GOOD = {
    "schema": 1,
    "size": [32, 24],
    "recordings": {
        "demo": {
            "tracks": [
                {
                    "id": 0,
                    "onset": 2,
                    "apex": 4,
                    "offset": 7,
                    "keyframes": [{"frame": 3, "box": [8, 5, 20, 12]}],
                },
                {"id": 1, "onset": 1, "offset": 1, "keyframes": [{"frame": 1, "box": [1, 1, 9, 9]}]},
            ]
        }
    },
}
SECOND = {"id": 0, "onset": 7, "offset": 8, "keyframes": [{"frame": 8, "box": [8, 5, 20, 12]}]}


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    shutil.copy(DATA / "v1_octave_v7.mat", folder / "demo.mat")
    return fmfbench.convert(folder / "demo.mat", folder / "demo.zarr")


@pytest.fixture
def store(demo_store, tmp_path):
    return Path(shutil.copytree(demo_store, tmp_path / "demo.zarr"))


@pytest.fixture
def drawn(tmp_path):
    path = tmp_path / "keyframes.json"
    path.write_text(json.dumps(GOOD))
    return path


def call(*arguments):
    return invoke("annotate", *arguments)


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_keyframes_in_and_layers_out(store, drawn):
    done = call(store, drawn, "--layer-as-default", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["written"] == ["recordings/demo/labels/boxes", "recordings/demo/labels/refined"]
    assert facts["default_layer"] == "refined"
    data = fmfbench.open_dataset(store)
    assert facts["fingerprint"] == data.fingerprint
    boxes = data.recordings["demo"].read_masks(layer="boxes")
    assert boxes[3, 5:12, 8:20].all()
    assert boxes.sum() == 6 * 7 * 12 + 8 * 8
    again = call(store, drawn)
    assert again.exit_code == 0
    assert "no new layer" in again.output


def test_cvat_for_a_named_recording(store):
    done = call(store, DATA / "cvat" / "annotations.xml", "--recording", "demo", "--no-refine")
    assert done.exit_code == 0, done.output
    recording = fmfbench.open_dataset(store).recordings["demo"]
    assert recording.layers == ("boxes", "source")
    assert recording.read_masks(layer="boxes").any(axis=(1, 2)).nonzero()[0].tolist() == [2, 3, 4, 5, 6, 7]


def test_out_corrected_and_in_again(store, drawn, tmp_path):
    assert call(store, drawn).exit_code == 0
    out = ["--export-keyframes", tmp_path / "back.json", "--export-cvat", tmp_path / "cvat"]
    out += ["--export-coco", tmp_path / "coco", "--export-video", tmp_path / "video"]
    done = call(store, *out)
    assert done.exit_code == 0, done.output
    assert read_drawn(tmp_path / "back.json")[0] == read_drawn(drawn)[0]
    keyframes, frames = read_drawn(tmp_path / "cvat" / "demo.xml")
    assert keyframes == read_drawn(drawn)[0]
    assert frames == {"demo": range(10)}
    coco = json.loads((tmp_path / "coco" / "demo.json").read_text())
    refined = fmfbench.open_dataset(store).recordings["demo"].read_masks(layer="refined")
    assert sum(a["area"] for a in coco["annotations"]) == refined.sum()
    assert (tmp_path / "video" / "demo.mp4").stat().st_size > 0
    assert "no new layer" in call(store, tmp_path / "cvat" / "demo.xml").output


def test_previews_and_report(store, drawn, tmp_path):
    done = call(store, drawn, "--preview", tmp_path / "look.png", "--report")
    assert done.exit_code == 0, done.output
    assert "refined against source: mIoU" in done.output
    assert (tmp_path / "look.png").stat().st_size > 10_000
    done = call(store, "--preview", tmp_path / "look.mp4", "--report", "--json", "--recording", "demo")
    facts = json.loads(done.stdout)
    assert facts["files"] == [str(tmp_path / "look.mp4")]
    assert 0 < facts["report"]["recordings"]["demo"]["agreement"]["boxes"]["miou"] < 1


def edited(*path, value):
    data = json.loads(json.dumps(GOOD))
    target = data["recordings"]["demo"]["tracks"]
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return json.dumps(data)


BAD = {
    "box outside the frame": (edited(0, "keyframes", 0, "box", value=[8, 5, 33.5, 12]), "within the frame of 32x24"),
    "keyframes out of order": (
        edited(0, "keyframes", value=[{"frame": 5, "box": [1, 1, 2, 2]}, {"frame": 3, "box": [1, 1, 2, 2]}]),
        "in order of frame",
    ),
    "unknown recording": (json.dumps(GOOD).replace('"demo"', '"other"'), "recordings demo, got 'other'"),
    "overlapping events": (edited(1, value=SECOND), "do not overlap"),
    "NaN": (edited(0, "keyframes", 0, "box", value=[8, 5, float("nan"), 12]), "finite"),
    "empty file": ("", "empty file"),
    "no recordings": ('{"schema": 1, "size": [32, 24], "recordings": {}}', "at least one recording"),
    "past the end": (edited(0, "offset", value=10), "count of 10, got 10"),
    "no JSON": ("{", "expected JSON"),
    "hostile XML": ('<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "document type"),
    "wrong frame count": (
        (DATA / "cvat" / "annotations.xml").read_text().replace("<size>10<", "<size>12<").replace(
            "<stop_frame>9<", "<stop_frame>11<").replace("SaveToAvi-demo", "demo"),
        "10 frames, got a video of 12",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(store, tmp_path, content, words):
    path = tmp_path / "drawn"
    path.write_text(content)
    before = everything(tmp_path)
    done = call(store, path, "--layer-as-default", "--preview", tmp_path / "look.png")
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
    assert done.stdout == ""
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "expected KEYFRAMES"),
        (("--layer-as-default",), "expected KEYFRAMES"),
        (("--layer-as-default", "--report"), "--layer-as-default: expected KEYFRAMES, got none"),
        (("missing.json",), "cannot be read"),
        (("K", "--radius", "0"), "radius"),
        (("K", "--sigma", "nan"), "sigma"),
        (("K", "--boxes", "a/b"), "layer name"),
        (("K", "--preview", "look.txt"), "--preview: expected a name that ends in"),
        (("K", "--preview", "none/look.png"), "make it first"),
        (("K", "--export-cvat", "none/deep"), "make it first"),
        (("K", "--export-cvat", "x.xml"), "expected the name of a folder"),
        (("K", "--export-keyframes", "k.csv"), "that ends in .json, got"),
        (("K", "--label", "x"), "--label"),
        (("--report",), "expected layer 'refined'"),
        (("--export-keyframes", "k.json"), "expected a layer 'boxes'"),
        (("--export-coco", "coco"), "expected layer 'refined'"),
        (("--preview", "look.png"), "annotated recording"),
    ],
)
def test_options_that_cannot_be(store, drawn, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path)
    done = call(store, *(drawn if option == "K" else option for option in options))
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr
    assert everything(tmp_path) == before


def test_help_has_an_example():
    done = call("--help")
    assert done.exit_code == 0
    assert "fmfbench annotate run7.zarr" in done.output
    assert np.all([option in done.output for option in ("--layer-as-default", "--preview", "--report")])


CASES = Path(__file__).parents[1] / "data" / "cvat"


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """FMF-Sim-1, -2, -3 of 500, 330 and 30 frames, 32x24."""
    folder = tmp_path_factory.mktemp("three")
    invoke("simulate", folder / "s", "--preset", "tiny")
    return fmfbench.convert(folder / "s", folder / "s.zarr")


def spans(store):
    """Recording -> (first, last) of each run of frames with a box."""
    found = {}
    for name, recording in fmfbench.open_dataset(store).recordings.items():
        if "boxes" in recording.layers:
            marked = np.flatnonzero(recording.read_masks(layer="boxes").any(axis=(1, 2)))
            runs = np.split(marked, np.flatnonzero(np.diff(marked) > 1) + 1)
            found[name] = [(int(run[0]), int(run[-1])) for run in runs if len(run)]
    return found


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ("project.xml", (), {"FMF-Sim-1": [(100, 110)], "FMF-Sim-3": [(5, 15)]}),
        ("project.xml", ("--task", "FMF-Sim-3"), {"FMF-Sim-3": [(5, 15)]}),
        ("project.xml", ("--task", "2", "--recording", "FMF-Sim-1"), {"FMF-Sim-1": [(100, 110)]}),
        ("job.xml", ("--recording", "FMF-Sim-1"), {"FMF-Sim-1": [(100, 110)]}),
        ("last.xml", ("--recording", "FMF-Sim-1"), {"FMF-Sim-1": [(499, 499)]}),
        ("label.xml", ("--recording", "FMF-Sim-1", "--label", "abnormal"), {"FMF-Sim-1": [(100, 110)]}),
        ("edge.xml", ("--recording", "FMF-Sim-1"), {"FMF-Sim-1": [(100, 110)]}),
    ],
)
def test_what_cvat_exports(three, tmp_path, file, options, expected):
    store = shutil.copytree(three, tmp_path / "s.zarr")
    result = call(store, CASES / file, "--no-refine", *options)
    assert result.exit_code == 0, result.output
    assert spans(store) == expected


def test_a_wrong_recording_is_refused_everywhere(three, drawn, tmp_path):
    store = shutil.copytree(three, tmp_path / "s.zarr")
    mine = tmp_path / "mine.json"
    event = {"tracks": [GOOD["recordings"]["demo"]["tracks"][0]]}
    recordings = {"FMF-Sim-1": event, "FMF-Sim-2": event}
    mine.write_text(json.dumps({"schema": 1, "size": [32, 24], "recordings": recordings}))
    for arguments in ((mine,), (CASES / "job.xml",), ("--report",), ("--export-coco", tmp_path / "c")):
        result = call(store, *arguments, "--recording", "WRONG")
        assert result.exit_code == 2, result.output
        assert "WRONG" in result.output
    assert spans(store) == {}
    assert call(store, mine, "--recording", "FMF-Sim-2", "--export-coco", tmp_path / "c").exit_code == 0
    assert list(spans(store)) == ["FMF-Sim-2"]
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["FMF-Sim-2.json"]


def test_a_layer_that_is_there_made_the_default_is_said(store, drawn):
    assert call(store, drawn).exit_code == 0
    before = fmfbench.open_dataset(store).fingerprint
    text = call(store, drawn, "--layer-as-default").output
    after = fmfbench.open_dataset(store).fingerprint
    assert "no new layer" in text
    assert "the default layer is refined now, it was source" in text
    assert f"identity  {after}, it was {before}" in text
    assert call(store, drawn, "--layer-as-default").output.strip().endswith("no new layer")


def test_sizes_untouched_tasks_and_parts(three, tmp_path):
    store = shutil.copytree(three, tmp_path / "s.zarr")
    text = (CASES / "job.xml").read_text()
    for size in ("32", "32x", "0x24", "32x24x3", "-1x2"):
        result = call(store, CASES / "job.xml", "--recording", "FMF-Sim-1", "--size", size)
        assert result.exit_code == 2
        assert "WIDTHxHEIGHT" in result.output
    part = tmp_path / "part.xml"
    part.write_text(text.replace("<size>500<", "<size>200<").replace("<stop_frame>499<", "<stop_frame>199<"))
    result = call(store, part, "--recording", "FMF-Sim-1", "--no-refine", "--json")
    assert json.loads(result.stdout)["remarks"] == [
        "FMF-Sim-1: drawn on frames 0 to 199 of 500 only; the others are labelled normal"
    ]
    project = (CASES / "project.xml").read_text()
    alone = tmp_path / "alone.xml"
    alone.write_text(project[: project.index('<track id="1"')] + "</annotations>")
    both = shutil.copytree(three, tmp_path / "both.zarr")
    assert call(both, alone, "--no-refine").exit_code == 0
    assert spans(both) == {"FMF-Sim-3": [(5, 15)]}
    assert call(both, alone, "--no-refine", "--untouched", "normal").exit_code == 0
    assert spans(both) == {"FMF-Sim-1": [], "FMF-Sim-3": [(5, 15)]}
    foreign = tmp_path / "foreign.xml"
    foreign.write_text(project.replace("<name>FMF-Sim-1<", "<name>elsewhere.mp4<"))
    result = call(both, foreign)
    assert result.exit_code == 2
    assert "'elsewhere'; take one task with --task" in result.output
