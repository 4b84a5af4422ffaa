"""`annotate export`, `report` and `preview`: the same as the earlier spellings; clips that a browser plays.

Also tests fmfbench.plots: clip.
"""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from conftest_run import call

import fmfbench

DATA = Path(__file__).parents[1] / "data"
EVENT = {"id": 0, "onset": 2, "apex": 4, "offset": 7, "keyframes": [{"frame": 3, "box": [8, 5, 20, 12]}]}


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copy(DATA / "v1_octave_v7.mat", folder / "demo.mat")
    store = fmfbench.convert(folder / "demo.mat", folder / "demo.zarr")
    drawn = {"schema": 1, "size": [32, 24], "recordings": {"demo": {"tracks": [EVENT]}}}
    (folder / "k.json").write_text(json.dumps(drawn))
    call("annotate", store, folder / "k.json")
    return store


def test_exports_are_those_of_the_earlier_spelling(annotated, tmp_path):
    new = ("--keyframes", "k.json"), ("--cvat", "c"), ("--coco", "m"), ("--video", "v")
    old = (
        ("--export-keyframes", "k.json"),
        ("--export-cvat", "c"),
        ("--export-coco", "m"),
        ("--export-video", "v"),
    )
    for folder, options, base in (("new", new, ("export", annotated)), ("old", old, (annotated,))):
        (tmp_path / folder).mkdir()
        call(
            "annotate",
            *base,
            *(part for option, name in options for part in (option, tmp_path / folder / name)),
        )
    files = {
        folder: {p.relative_to(tmp_path / folder): p.read_bytes() for p in (tmp_path / folder).rglob("*.*")}
        for folder in ("new", "old")
    }
    assert files["new"] == files["old"]
    assert {str(name) for name in files["new"]} == {"k.json", "c/demo.xml", "m/demo.json", "v/demo.mp4"}


def test_the_report_is_that_of_the_earlier_spelling(annotated):
    new = json.loads(call("annotate", "report", annotated, "--json").stdout)
    assert new == json.loads(call("annotate", annotated, "--report", "--json").stdout)["report"]
    assert "flicker" in call("annotate", "report", annotated, "--recording", "demo").stdout


@pytest.mark.parametrize(("ending", "codecs"), [(".mp4", ("h264",)), (".webm", ("vp9",))])
def test_a_clip_plays_in_a_browser(annotated, tmp_path, ending, codecs):
    out = tmp_path / f"look{ending}"
    call("annotate", "preview", annotated, "-o", out)
    call("annotate", annotated, "--preview", tmp_path / f"old{ending}")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"look{ending}", f"old{ending}"]
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name.removeprefix("lib") in (*codecs, "vpx-vp9")
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert len(list(file.decode(stream))) == 10


def test_a_video_to_draw_on_shows_each_frame_enlarged(annotated, tmp_path):
    call("annotate", "export", annotated, "--video", tmp_path / "v", "--scale", "4")
    recording = fmfbench.open_dataset(annotated).recordings["demo"]
    with av.open(str(tmp_path / "v" / "demo.mp4")) as file:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    assert shown.shape == (10, 96, 128, 3)
    small = shown.reshape(10, 24, 4, 32, 4, 3).mean(axis=(2, 4))
    # chroma is halved and the test frames are colourful, so only the brightness is close
    difference = np.abs(small.mean(axis=-1) - recording.read_video().mean(axis=-1))
    assert difference.mean() < 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "STORE"), "expected --keyframes, --cvat, --coco or --video"),
        (("preview", "STORE", "-o", "look.gif"), "ends in .png, .pdf, .svg, .mp4, .webm"),
        (("preview", "STORE"), "Missing option '-o'"),
        (("report", "STORE", "--recording", "x"), "got 'x'"),
        (("report", "STORE", "--boxes", "no", "--no-refine"), "expected layer 'no'"),
        (("export", "STORE", "--coco", "no/where/x"), "make it first"),
    ],
)
def test_wrong_input(annotated, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = call("annotate", *(annotated if a == "STORE" else a for a in arguments), code=2)
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_each_has_help_with_an_example():
    for name in ("export", "report", "preview"):
        text = call("annotate", name, "--help").output
        assert f"fmfbench annotate {name}" in text
    assert "annotate export" in call("annotate", "--help").output


def test_events_without_boxes_cannot_go_to_cvat(tmp_path):
    from scipy.io import loadmat, savemat

    video = loadmat(DATA / "v1_octave_v7.mat")["video"]
    savemat(tmp_path / "bare.mat", {"data": video})
    store = fmfbench.convert(tmp_path / "bare.mat", tmp_path / "bare.zarr")
    event = EVENT | {"keyframes": []}
    (tmp_path / "k.json").write_text(
        json.dumps({"schema": 1, "size": [32, 24], "recordings": {"bare": {"tracks": [event]}}})
    )
    call("annotate", store, tmp_path / "k.json")
    call("annotate", "export", store, "--keyframes", tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["recordings"]["bare"]["tracks"] == [event]
    result = call("annotate", "export", store, "--cvat", tmp_path / "c", code=2)
    assert "expected events with boxes, got one without" in result.output
