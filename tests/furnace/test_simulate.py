"""`simulate` as a whole: files, layouts, byte identity, resuming.

Also tests fmfbench.furnace: drawing, layouts, raw, render, truth.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from fmfbench.errors import InputError
from fmfbench.furnace import layouts
from fmfbench.furnace.plan import PRESETS, make_plan
from fmfbench.furnace.render import Furnace
from fmfbench.furnace.simulate import simulate
from fmfbench.sources.layout import open_source

NAMES = ["FMF-Sim-1", "FMF-Sim-2", "FMF-Sim-3"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v2") / "sim"
    simulate(out, "tiny")
    return out


@pytest.fixture(scope="module")
def folder_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("v1") / "sim"
    simulate(out, "tiny", layout="v1", mat="v7")
    return out


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_tree_has_the_real_form(tree: Path) -> None:
    wanted = {
        "README.txt",
        "fmf-sim.json",
        "truth/keyframes.json",
        "pixel-level/train.json",
        "pixel-level/test.json",
    }
    for name in NAMES:
        wanted |= {f"pixel-level/videos/{name}.mat", f"truth/{name}.npz"}
        wanted |= {f"pixel-level/{kind}/{name}.csv" for kind in ("currents", "timestamps")}
    assert set(digests(tree)) == wanted
    with h5py.File(tree / "pixel-level/videos/FMF-Sim-1.mat") as file:
        assert (file["data"].shape, file["label"].shape) == ((500, 3, 32, 24), (500, 32, 24))
        assert (file["data"].dtype, file["label"].dtype) == (np.uint8, np.uint8)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_content_is_the_furnaces(tree: Path, k: int) -> None:
    furnace = Furnace(make_plan(PRESETS["tiny"], k, 0))
    name, plan = NAMES[k], furnace.plan
    drawn = [furnace.draw_block(i) for i in range(furnace.blocks)]
    with h5py.File(tree / f"pixel-level/videos/{name}.mat") as file:
        video, label = file["data"][:].transpose(0, 3, 2, 1), file["label"][:].transpose(0, 2, 1)
    np.testing.assert_array_equal(video, np.concatenate([b.video for b in drawn]))
    np.testing.assert_array_equal(label, np.concatenate([b.label for b in drawn]))
    header, *body = rows(tree / f"pixel-level/currents/{name}.csv")
    assert header == ["time", "a", "b", "c"]
    np.testing.assert_array_equal(np.array([r[1:] for r in body], dtype=float), furnace.current.amperes)
    assert set(Counter(r[0] for r in body).values()) == {2}
    header, *stamps = rows(tree / f"pixel-level/timestamps/{name}.csv")
    assert header == ["time"]
    assert len(stamps) == plan.frames
    assert plan.start in {r[0] for r in stamps}
    assert {r[0] for r in stamps} <= {r[0] for r in body}
    for split, value in (("train", 0), ("test", 1)):
        listed = json.loads((tree / f"pixel-level/{split}.json").read_text())[f"{name}.mat"]
        assert listed == np.flatnonzero(plan.split == value).tolist()


def test_every_text_says_fmf_sim(tree: Path) -> None:
    assert "FMF-Sim" in (tree / "README.txt").read_text()
    assert "SIMULATED" in (tree / "README.txt").read_text()
    assert json.loads((tree / "fmf-sim.json").read_text())["name"] == "FMF-Sim"
    for path in (tree / "pixel-level/videos").iterdir():
        assert b"FMF-Sim" in path.read_bytes()[:116]
        assert path.name.startswith("FMF-Sim-")
    for path in (tree / "truth").glob("*.npz"):
        with np.load(path) as truth:
            assert json.loads(str(truth["meta"]))["name"] == "FMF-Sim"


@pytest.mark.parametrize(
    ("layout", "mat"), [("v2", "v7.3"), ("v2", "v7"), ("v1", "v7.3"), ("v1", "v7"), ("recording", "v7.3")]
)
def test_same_bytes_on_any_number_of_workers(tmp_path: Path, layout: str, mat: str) -> None:
    for workers in (1, 3):
        simulate(tmp_path / str(workers), "tiny", layout=layout, mat=mat, workers=workers)
    one = digests(tmp_path / "1")
    assert len(one) > 6
    assert one == digests(tmp_path / "3")


def test_other_seed_other_bytes(tree: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "s", "tiny", seed=1)
    one, two = digests(tree), digests(tmp_path / "s")
    same = {name for name in one if one[name] == two[name]}
    assert same <= {
        "README.txt",
        "pixel-level/train.json",
        "pixel-level/test.json",
        "pixel-level/timestamps/FMF-Sim-3.csv",
    }


def test_v1_holds_what_v2_holds(tree: Path, folder_v1: Path) -> None:
    for k, name in enumerate(NAMES):
        plan = make_plan(PRESETS["tiny"], k, 0)
        mat = scipy.io.loadmat(folder_v1 / f"{name}.mat")
        with h5py.File(tree / f"pixel-level/videos/{name}.mat") as file:
            np.testing.assert_array_equal(mat["video"], file["data"][:].transpose())
            np.testing.assert_array_equal(mat["label"], file["label"][:].transpose())
        np.testing.assert_array_equal(mat["train_test_index"], (plan.split == 1)[None])
        body = rows(tree / f"pixel-level/currents/{name}.csv")[1:]
        amperes = np.array([r[1:] for r in body], dtype=float)
        for frame in range(0, plan.frames, 7):
            held = int((plan.timing.current_time <= plan.timing.frame_time[frame]).sum()) - 1
            np.testing.assert_array_equal(mat["current"][:, frame], amperes[held])


def test_v1_says_that_guard_frames_became_train(tmp_path: Path) -> None:
    notes = simulate(tmp_path / "a", "tiny", layout="v1")["notes"]
    assert any("guard frames are written as 0" in note for note in notes)


@pytest.mark.parametrize("make", ["v2", "v1"])
def test_our_own_sources_read_it(tree: Path, folder_v1: Path, make: str) -> None:
    source = open_source(tree if make == "v2" else folder_v1)
    assert source.layout == make
    assert sorted(recording.name for recording in source.recordings) == NAMES


def test_resumes_after_a_kill_with_the_same_bytes(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    draw, calls = Furnace.draw_block, []

    def dies(self: Furnace, index: int, **options: Any) -> Any:
        calls.append(index)
        if self.plan.name == "FMF-Sim-2" and index == 6:
            raise KeyboardInterrupt
        return draw(self, index, **options)

    monkeypatch.setattr(Furnace, "draw_block", dies)
    with pytest.raises(KeyboardInterrupt):
        simulate(out, "tiny")
    assert [p.name for p in (out / "pixel-level/videos").glob("*.mat")] == ["FMF-Sim-1.mat"]
    assert not (out / "pixel-level/train.json").exists()  # no one takes it for a whole tree
    first = (out / "pixel-level/videos/FMF-Sim-1.mat").stat().st_mtime_ns
    monkeypatch.setattr(Furnace, "draw_block", draw)
    summary = simulate(out, "tiny", workers=2)
    assert summary["kept"] == ["FMF-Sim-1"]
    assert (out / "pixel-level/videos/FMF-Sim-1.mat").stat().st_mtime_ns == first
    assert digests(out) == digests(tree)


def test_refuses_a_folder_of_something_else(tree: Path, tmp_path: Path) -> None:
    before = digests(tree)
    with pytest.raises(InputError, match="made with other parameters"):
        simulate(tree, "tiny", seed=5)
    assert digests(tree) == before
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="expected an empty folder, got other files"):
        simulate(tmp_path, "tiny")
    with pytest.raises(InputError, match="got a file"):
        simulate(tmp_path / "mine.txt", "tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "huge"},
        {"layout": "v3"},
        {"mat": "v6"},
        {"truth": "all"},
        {"workers": 0},
        {"seed": -1},
        {"signature": "wild"},
    ],
)
def test_wrong_options_leave_nothing(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        simulate(tmp_path / "a", **{"preset": "tiny", **wrong})
    assert not (tmp_path / "a").exists()


def test_summary_counts(tree: Path) -> None:
    summary = simulate(tree, "tiny")
    assert summary["kept"] == NAMES
    own = summary["recordings"]["FMF-Sim-1"]
    with h5py.File(tree / "pixel-level/videos/FMF-Sim-1.mat") as file:
        abnormal = file["label"][:].any(axis=(1, 2))
    assert own["abnormal"] == int(abnormal.sum()) == sum(own["abnormal_in"].values())
    assert own["frames"] == sum(own["split"].values()) == 500
    json.dumps(summary)


def test_truth_describes_every_frame(tree: Path) -> None:
    with np.load(tree / "truth/FMF-Sim-1.npz", allow_pickle=False) as truth:
        got = {name: truth[name] for name in truth}
    plan = make_plan(PRESETS["tiny"], 0, 0)
    assert {len(got[n]) for n in ("visibility", "mist_depth", "glare", "reflections", "event")} == {
        plan.frames
    }
    np.testing.assert_array_equal(got["event"] >= 0, plan.class_label == 1)
    np.testing.assert_array_equal(got["onset"], [e.onset for e in plan.events])
    assert got["visibility"].min() >= 0.0
    assert got["visibility"].max() <= 1.0
    keyframes = json.loads((tree / "truth/keyframes.json").read_text())
    assert (keyframes["schema"], keyframes["size"]) == (1, [32, 24])
    with h5py.File(tree / "pixel-level/videos/FMF-Sim-1.mat") as file:
        label = file["label"][:].transpose(0, 2, 1)
    hot = np.stack([Furnace(plan).draw_hot(f, f + 1)[0] for f in range(plan.frames)])
    boxed = np.zeros_like(hot)
    tracks = keyframes["recordings"]["FMF-Sim-1"]["tracks"]
    assert [track["id"] for track in tracks] == list(range(len(tracks)))
    for track in tracks:
        assert track["onset"] <= track["apex"] <= track["offset"]
        frames = [key["frame"] for key in track["keyframes"]]
        assert (frames[0], frames[-1]) == (track["onset"], track["offset"])
        assert frames == sorted(set(frames))
        for key in track["keyframes"]:
            x0, y0, x1, y1 = key["box"]
            assert 0 <= x0 < x1 <= 32
            assert 0 <= y0 < y1 <= 24
            boxed[key["frame"], y0:y1, x0:x1] = 1
    common = {f for t in tracks for f in range(t["onset"], t["offset"] + 1)}
    assert common == set(np.flatnonzero(plan.class_label).tolist())
    first = tracks[0]["keyframes"][0]["frame"]
    assert (hot[first] <= boxed[first]).all()
    np.testing.assert_array_equal(got["hot_pixels"], hot.sum(axis=(1, 2)))
    np.testing.assert_array_equal(got["label_pixels"], label.sum(axis=(1, 2)))
    np.testing.assert_array_equal(got["common_pixels"], (label & hot).sum(axis=(1, 2)))
    overlap = (
        got["common_pixels"].sum() / (got["label_pixels"] + got["hot_pixels"] - got["common_pixels"]).sum()
    )
    assert 0.25 < overlap < 0.95  # close to what is hot, and not the same


@pytest.mark.parametrize(("signature", "wanted"), [("calm", {-1}), ("rough", {1}), ("mixed", {-1, 1})])
def test_signature_moves_the_current_its_way_and_nothing_else(
    tree: Path, tmp_path: Path, signature: str, wanted: set[int]
) -> None:
    simulate(tmp_path / "a", "tiny", signature=signature)
    assert json.loads((tmp_path / "a/fmf-sim.json").read_text())["signature"] == signature
    one, other = digests(tree), digests(tmp_path / "a")
    changed = {name for name in one if one[name] != other[name]}
    assert set(one) == set(other)
    if signature == "mixed":
        assert not changed
    else:  # the video, the labels and the events are what they were
        currents = {f"pixel-level/currents/{name}.csv" for name in NAMES}
        assert changed <= {"fmf-sim.json", *currents, *(f"truth/{name}.npz" for name in NAMES)}
        assert changed & currents  # of recordings whose events were not all drawn so
    signs = set()
    for k in range(3):
        with np.load(tmp_path / f"a/truth/FMF-Sim-{k + 1}.npz") as truth:
            signs |= set(truth["sign"].tolist())
    assert signs == wanted


def test_truth_frames(tmp_path: Path, tree: Path) -> None:
    simulate(tmp_path / "a", "tiny", truth="frames", workers=2)
    with h5py.File(tmp_path / "a/truth/FMF-Sim-1.h5") as file:
        clean, heat = file["clean"][:], file["heat"][:]
    assert (clean.shape, heat.shape) == ((500, 24, 32, 3), (500, 24, 32))
    inside = digests(tmp_path / "a")
    for name, digest in digests(tree / "pixel-level").items():
        assert inside[f"pixel-level/{name}"] == digest
    with h5py.File(tree / "pixel-level/videos/FMF-Sim-1.mat") as file:
        seen = file["data"][:].transpose(0, 3, 2, 1).astype(float)
    furnace = Furnace(make_plan(PRESETS["tiny"], 0, 0))
    hidden, clear = furnace.mist_depth > 1.0, (furnace.mist_depth < 0.2) & (furnace.glare_level == 0.0)
    error = np.abs(seen - clean).mean(axis=(1, 2, 3))
    assert error[clear].mean() < 20.0
    assert hidden.sum() > 10
    assert error[hidden].mean() > 2.0 * error[clear].mean()


def test_recording_has_every_frame_and_its_currents(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    notes = simulate(tmp_path / "r", "tiny", layout="recording")["notes"]
    assert notes[-1] == "the furnace: convert --crop 32,16,128,96 --size 32x24"
    furnace = Furnace(make_plan(PRESETS["tiny"], 0, 0))
    video = cv2.VideoCapture(str(tmp_path / "r/FMF-Sim-1.avi"))
    assert video.get(cv2.CAP_PROP_FPS) == 25.0
    count, errors = 0, []
    drawn = furnace.draw_block(0).video
    while True:
        good, image = video.read()
        if not good:
            break
        if count < len(drawn):
            small = cv2.resize(image[16:-16, 32:-32, ::-1], (32, 24), interpolation=cv2.INTER_AREA)
            errors.append(np.abs(small.astype(float) - drawn[count]).mean())
        count += 1
    video.release()
    assert count == 500
    assert max(errors) < 8.0
    header, *body = rows(tmp_path / "r/FMF-Sim-1.csv")
    assert header == ["seconds", "a", "b", "c"]
    seconds = np.array([r[0] for r in body], dtype=float)
    assert (np.diff(seconds) > 0).all()
    assert 0.0 <= seconds[0] < 1.0
    assert seconds[-1] <= 500 / 25


def test_video_is_the_last_thing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(layouts, "write_arrays", fails)
    with pytest.raises(OSError, match="disk full"):
        simulate(tmp_path / "a", "tiny")
    assert not list((tmp_path / "a").rglob("*.mat"))
