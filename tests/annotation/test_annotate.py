"""Layers in a store: both as defined, never overwritten, whole after an interruption at any point.

Also tests fmfbench.annotation: votes.
Also tests fmfbench.store: additions.
Also tests fmfbench.files: lock.
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from conftest_annotation import write_source
from scipy.io import loadmat, savemat

import fmfbench
import fmfbench.store.writer
from fmfbench.annotation.annotate import annotate, drawn_keyframes, read_drawn
from fmfbench.annotation.box_vote import refine_boxes_plain
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track, write_keyframes
from fmfbench.annotation.propagate import boxes_at, coarse_masks
from fmfbench.annotation.weighted_median import refine_plain
from fmfbench.conversion.verify import verify
from fmfbench.errors import AnnotationError, BusyError, DamageError, FailedError, StoreError
from fmfbench.files.lock import target_lock
from fmfbench.store import additions, layers
from fmfbench.store.layers import provenance_of
from fmfbench.store.merge import merge
from fmfbench.store.writer import store_digest

SAMPLE = Path(__file__).parents[1] / "data" / "cvat" / "annotations.xml"


def track(onset, offset, *frames, apex=None, track_id=0):
    keyframes = tuple(Keyframe(frame=frame, box=tuple(map(float, box))) for frame, box in frames)
    return Track(id=track_id, onset=onset, apex=apex, offset=offset, keyframes=keyframes)


DRAWN = Keyframes(
    size=(32, 24),
    recordings={
        "run1": (
            track(8, 39, (8, (2, 6, 19, 18)), (39, (10, 6, 27, 18)), apex=20),
            track(30, 45, (33, (18, 0, 32, 14)), track_id="corner"),
        ),
        "run2": (track(5, 19, (5, (2, 6, 19, 18)), (19, (10, 6, 27, 18))),),
    },
)


def expected_boxes(name, count):
    return coarse_masks(DRAWN.recordings[name], 0, count, (24, 32), (0, 0, 32, 24))


def test_writes_both_layers_as_defined(store):
    written = annotate(store, DRAWN, radius=7)
    assert written == [
        f"recordings/{run}/labels/{name}" for run in ("run1", "run2") for name in ("boxes", "refined")
    ]
    data = fmfbench.open_dataset(store)
    for name, recording in data.recordings.items():
        assert recording.layers == ("boxes", "refined", "source")
        boxes = recording.read_masks(layer="boxes")
        assert np.array_equal(boxes, expected_boxes(name, recording.num_frames))
        refined = recording.read_masks(layer="refined")
        for mask, frame, got in zip(boxes, recording.read_video(), refined, strict=True):
            assert np.array_equal(got, refine_plain(mask, frame))
        truth = recording.read_masks(layer="source")
        assert (refined != truth)[:30].sum() < 0.5 * (boxes != truth)[:30].sum()  # the corner is no anomaly


def test_any_number_of_workers_gives_the_same_chunks(labelled_store, tmp_path):
    found = []
    for workers in (1, 3):
        path = shutil.copytree(labelled_store, tmp_path / f"{workers}.zarr")
        annotate(path, DRAWN, workers=workers, margin=True)
        found.append(
            {p.relative_to(path): p.read_bytes() for p in sorted(path.rglob("c/**/*")) if p.is_file()}
        )
    assert found[0] == found[1]
    assert any("margins" in str(path) for path in found[0])


def test_layers_carry_where_they_come_from_and_open_elsewhere(store):
    annotate(store, DRAWN, radius=3, sigma=20)
    group = zarr.open_group(store, mode="r")
    boxes, refined = (group[f"recordings/run1/labels/{name}"] for name in ("boxes", "refined"))
    of_boxes, of_refined = boxes.attrs["fmfbench.provenance"], refined.attrs["fmfbench.provenance"]
    assert of_boxes["tool"] == "fmfbench annotate"
    assert of_boxes["version"] == fmfbench.__version__
    assert of_boxes["parent"] is None
    assert of_boxes["time"].endswith("Z")
    events = [
        {"id": 0, "onset": 8, "apex": 20, "offset": 39},
        {"id": "corner", "onset": 30, "apex": None, "offset": 45},
    ]
    assert of_boxes["events"] == of_refined["events"] == events
    assert of_refined["parent"] == "boxes"
    assert (of_refined["parameters"]["radius"], of_refined["parameters"]["sigma"]) == (3, 20.0)
    opened = xarray.open_zarr(store, group="recordings/run1/labels", consolidated=False)
    assert opened["refined"].dims == ("frame", "y", "x")
    assert np.array_equal(opened["refined"].values, refined[:])
    assert drawn_keyframes(fmfbench.open_dataset(store)) == DRAWN


def test_the_rest_of_the_store_stays_and_the_digest_covers_the_new(store, files):
    before, old = files(), fmfbench.open_dataset(store)
    annotate(store, DRAWN)
    after, new = files(), fmfbench.open_dataset(store)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"runs.zarr/zarr.json"}
    assert {path.split("/")[4] for path in after.keys() - before.keys()} == {"boxes", "refined"}
    assert new.attributes["fmfbench.digest"] == store_digest(store) != old.attributes["fmfbench.digest"]
    assert (new.fingerprint, new.default_layer) == (old.fingerprint, "source")


def test_again_with_the_same_input_changes_nothing(store, files):
    annotate(store, DRAWN, as_default=True, margin=True)
    before = files()
    assert annotate(store, DRAWN, as_default=True, margin=True) == []
    assert annotate(store, DRAWN) == []
    assert files() == before


def test_nothing_is_overwritten(store, files):
    annotate(store, DRAWN)
    before = files()
    moved = Keyframes(size=(32, 24), recordings={"run2": (track(5, 20, (5, (2, 6, 19, 18))),)})
    for options in ({}, {"boxes": "boxes2"}, {"boxes": "source"}):
        with pytest.raises(AnnotationError, match="never overwritten: choose another name"):
            annotate(store, moved, **options)
    with pytest.raises(AnnotationError, match="'refined' is there"):
        annotate(store, DRAWN, radius=8)
    assert files() == before
    written = annotate(store, moved, boxes="boxes2", refined="refined2")
    assert written == ["recordings/run2/labels/boxes2", "recordings/run2/labels/refined2"]
    assert {path: before[path] for path in before if path != "runs.zarr/zarr.json"}.items() <= files().items()


def fingerprint_by_definition(data, layer):
    total = hashlib.sha256()
    for name, recording in sorted(data.recordings.items()):
        masks = recording.read_masks(layer=layer) if layer in recording.layers else None
        total.update(f"{name}\0{recording.num_frames}\0{recording.height}\0{recording.width}\n".encode())
        total.update(recording.split.tobytes() + recording.class_label.tobytes())
        if masks is not None:
            total.update(np.packbits(masks.reshape(len(masks), -1), axis=1).tobytes())
    return total.hexdigest()


def test_the_default_moves_with_class_labels_and_fingerprint(store):
    old = fmfbench.open_dataset(store).fingerprint
    assert annotate(store, DRAWN) != []
    assert annotate(store, DRAWN, as_default=True) == []  # the layers were there: only the default moves
    data = fmfbench.open_dataset(store)
    assert data.default_layer == "refined"
    for recording in data.recordings.values():
        masks = recording.read_masks(layer="refined")
        assert np.array_equal(recording.read_masks(), masks)
        assert np.array_equal(recording.class_label, masks.any(axis=(1, 2)))
    assert data.fingerprint == fingerprint_by_definition(data, "refined") != old
    assert data.attributes["fmfbench.digest"] == store_digest(store)


def test_a_recording_without_the_new_default_becomes_unlabelled(store):
    one = Keyframes(size=(32, 24), recordings={"run2": ()})
    annotate(store, one, as_default=True)
    data = fmfbench.open_dataset(store)
    assert set(data.recordings["run1"].class_label) == {255}
    assert set(data.recordings["run2"].class_label) == {0}
    assert not data.recordings["run2"].read_masks().any()
    assert data.fingerprint == fingerprint_by_definition(data, "refined")
    assert data.recordings["run1"].layers == ("source",)


@pytest.fixture
def small_shards(monkeypatch):
    """Several shards a layer, so that there is something to interrupt."""
    real = layers.mask_spec
    monkeypatch.setattr(layers, "mask_spec", lambda *arguments: replace(real(*arguments), chunk=4, shard=8))


def test_an_interrupted_run_shows_nothing_and_resumes(store, files, monkeypatch, small_shards):
    before = files()
    done = []
    real = layers.encode_shard

    def interrupted(spec, block):
        if len(done) == 11:  # in the middle of the first refined layer
            raise KeyboardInterrupt
        done.append(len(block))
        return real(spec, block)

    monkeypatch.setattr(layers, "encode_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        annotate(store, DRAWN, as_default=True)
    during = files()
    assert {path: value for path, value in during.items() if path.startswith("runs.zarr/")} == before
    assert any(path.startswith("runs.zarr.part/") for path in during)
    resumed = []

    def counting(spec, block):
        resumed.append(spec.dims)
        return real(spec, block)

    monkeypatch.setattr(layers, "encode_shard", counting)
    monkeypatch.setattr(additions, "encode_shard", counting)
    annotate(store, DRAWN, as_default=True)
    monkeypatch.setattr(layers, "encode_shard", real)
    monkeypatch.setattr(additions, "encode_shard", real)
    assert (
        resumed.count(("frame", "y", "x")) == 2 * 8 + 2 * 5 - 11
    )  # the shards of run1 and run2, less those done
    assert resumed.count(("frame",)) == 1  # run1's class labels
    data = fmfbench.open_dataset(store)
    assert np.array_equal(data.recordings["run1"].read_masks(layer="boxes"), expected_boxes("run1", 60))
    assert data.attributes["fmfbench.digest"] == store_digest(store)
    assert not any(".part" in path or ".lock" in path for path in files())


@pytest.mark.parametrize("system", ["exchanges names", "cannot"])
@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_killed_while_it_takes_its_place_it_is_mended(
    store, files, monkeypatch, labelled_store, tmp_path, system, when
):
    good = fmfbench.open_dataset(shutil.copytree(labelled_store, tmp_path / "whole.zarr"))
    annotate(good.path, DRAWN, as_default=True)
    good = fmfbench.open_dataset(good.path)
    before = {path: value for path, value in files().items() if path.startswith("runs.zarr/")}
    real_exchange, real_replace = fmfbench.store.writer.exchange, os.replace
    if system == "exchanges names" and not real_exchange(tmp_path, tmp_path):
        pytest.skip("this system cannot exchange names")

    def exchange(first, second):
        if when == "before":
            raise KeyboardInterrupt
        if system == "cannot":
            return False
        real_exchange(first, second)
        raise KeyboardInterrupt

    def dying_replace(first, second):
        if when == "between" and Path(second) == store:
            raise KeyboardInterrupt
        real_replace(first, second)
        if when == "after" and Path(second) == store:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fmfbench.store.writer.exchange", exchange)
        patch.setattr("os.replace", dying_replace)
        with pytest.raises(KeyboardInterrupt):
            annotate(store, DRAWN, as_default=True)
    if when == "before":
        assert {path: value for path, value in files().items() if path.startswith("runs.zarr/")} == before
    annotate(store, DRAWN, as_default=True)
    data = fmfbench.open_dataset(store)
    assert data.fingerprint == good.fingerprint
    assert data.attributes["fmfbench.digest"] == store_digest(store)
    for name, recording in data.recordings.items():
        assert np.array_equal(recording.class_label, good.recordings[name].class_label)
        assert np.array_equal(recording.read_masks(), good.recordings[name].read_masks())
    assert not any("runs.zarr.part" in path for path in files())


def test_damage_is_not_blessed(store, files):
    video = next(path for path in (store / "recordings/run1/video/c").rglob("0") if path.is_file())
    data = bytearray(video.read_bytes())
    data[100] ^= 1
    video.write_bytes(data)
    annotate(store, Keyframes(size=(32, 24), recordings={"run2": ()}))
    listed = fmfbench.open_dataset(store).attributes["fmfbench.files"]
    name = video.relative_to(store).as_posix()
    assert listed[name] != hashlib.sha256(video.read_bytes()).hexdigest()
    before = files()
    video.rename(store.parent / "aside")
    with pytest.raises(DamageError, match="run1/video/c/0.* is missing"):
        annotate(store, Keyframes(size=(32, 24), recordings={"run2": ()}), boxes="b", refined="c")
    (store.parent / "aside").rename(video)
    assert files() == before


def test_a_file_system_without_links_is_good(store, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    annotate(store, DRAWN)
    data = fmfbench.open_dataset(store)
    assert data.attributes["fmfbench.digest"] == store_digest(store)


def test_a_full_disk_leaves_the_store_as_it_was(store, files, monkeypatch):
    before = files()

    def full(spec, block):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(layers, "encode_shard", full)
        with pytest.raises(FailedError, match="No space left on device"):
            annotate(store, DRAWN)
    assert {path: value for path, value in files().items() if ".part" not in path} == before
    assert len(annotate(store, DRAWN)) == 4


def test_another_writer_is_kept_out(store, files):
    before = files()
    with target_lock(store), pytest.raises(BusyError):
        annotate(store, DRAWN)
    assert files() == before


def test_the_margin_is_the_vote(store):
    annotate(store, DRAWN, margin=True, radius=7)
    recording = fmfbench.open_dataset(store).recordings["run1"]
    margins = zarr.open_group(store, mode="r")["recordings/run1/margins/refined"][:]
    assert margins.dtype == np.float32
    assert np.array_equal(margins > 0, recording.read_masks(layer="refined").astype(bool))
    frame = 20
    mask, guide = (
        recording.read_masks(frame, frame + 1, "boxes")[0],
        recording.read_video(frame, frame + 1)[0],
    )
    assert np.array_equal(margins[frame], refine_plain(mask, guide, return_margin=True)[1])
    assert recording.layers == ("boxes", "refined", "source")


def test_boxes_alone(store):
    assert annotate(store, DRAWN, refined=None, as_default=True) == [
        "recordings/run1/labels/boxes",
        "recordings/run2/labels/boxes",
    ]
    assert fmfbench.open_dataset(store).default_layer == "boxes"


def test_drawn_at_another_size(store):
    large = Keyframes(
        size=(320, 120),
        recordings={"run2": (track(5, 19, (5, (20, 30, 190, 90)), (19, (100, 30, 270, 90))),)},
    )
    annotate(store, large)
    recording = fmfbench.open_dataset(store).recordings["run2"]
    assert np.array_equal(recording.read_masks(layer="boxes"), expected_boxes("run2", 37))


BAD = [
    ({"recordings": {"run9": ()}}, {}, "got 'run9'; use one of"),
    ({"recordings": {"run2": (track(5, 37, (5, (0, 0, 5, 5))),)}}, {}, "count of 37, got 37"),
    ({"recordings": {}}, {}, "at least one recording"),
    ({}, {"drawn_frames": {"run1": range(61)}}, "60 frames, got a video of 61"),
    ({}, {"drawn_frames": {"run1": range(59)}}, "60 frames, got a video of 59"),
    ({}, {"radius": 0}, "radius"),
    ({}, {"sigma": float("nan")}, "sigma"),
    ({}, {"boxes": "../boxes"}, "layer name"),
    ({}, {"refined": "a/b"}, "layer name"),
    ({}, {"refined": "boxes"}, "different names"),
    ({}, {"refined": None, "margin": True}, "refined one for margins"),
    ({}, {"on_raw": True}, "a store with a crop"),
]


@pytest.mark.parametrize(("drawn", "options", "words"), BAD)
def test_bad_input_writes_nothing(store, files, drawn, options, words):
    before = files()
    keyframes = Keyframes(size=(32, 24), recordings=drawn.get("recordings", DRAWN.recordings))
    with pytest.raises(AnnotationError, match=words) as caught:
        annotate(store, keyframes, **options)
    assert "\n" not in str(caught.value)
    assert files() == before


def test_there_must_be_a_store(tmp_path):
    with pytest.raises(StoreError, match="no such store"):
        annotate(tmp_path / "none.zarr", DRAWN)
    assert list(tmp_path.iterdir()) == []


def test_what_was_drawn_is_told_apart_by_content(tmp_path):
    path = tmp_path / "drawn.txt"
    write_keyframes(path, DRAWN)
    assert read_drawn(path) == (DRAWN, {})
    path.write_bytes(SAMPLE.read_bytes())
    keyframes, frames = read_drawn(path, recording="run1")
    assert list(keyframes.recordings) == ["run1"]
    assert frames == {"run1": range(10)}
    write_keyframes(path, DRAWN)
    with pytest.raises(AnnotationError, match="--label"):
        read_drawn(path, label="x")
    for content, words in (
        (b"", "empty file"),
        (b"\x89PNG", "UTF-8"),
        (b"PK\x03\x04", "plain zip"),
        (b"<", "CVAT's XML"),
    ):
        path.write_bytes(content)
        with pytest.raises(AnnotationError, match=words):
            read_drawn(path)


def test_boxes_drawn_on_the_raw_video(tmp_path):
    import cv2

    raw = tmp_path / "run1.avi"
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(raw), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 25, (96, 80))
    for _ in range(12):
        writer.write(rng.integers(0, 256, (80, 96, 3), dtype=np.uint8))
    writer.release()
    raw.with_suffix(".csv").write_text("seconds,a,b,c\n0,1,2,3\n0.5,1,2,3\n")
    store = fmfbench.convert(raw, tmp_path / "raw.zarr", crop=(16, 8, 64, 48), size=(32, 24))
    drawn = Keyframes(size=(96, 80), recordings={"run1": (track(2, 5, (3, (26, 18, 120 - 24, 40))),)})
    with pytest.raises(AnnotationError, match="--on-raw"):
        annotate(store, drawn)
    small = Keyframes(size=(48, 40), recordings={"run1": (track(2, 5, (3, (1, 1, 9, 9))),)})
    with pytest.raises(AnnotationError, match="around the crop"):
        annotate(store, small, on_raw=True)
    annotate(store, drawn, on_raw=True, as_default=True)
    recording = fmfbench.open_dataset(store).recordings["run1"]
    expected = np.zeros((12, 24, 32), np.uint8)
    expected[2:6, 5:16, 5:32] = 1  # (26 - 16) / 2, (18 - 8) / 2, and cut at the crop's right side
    assert np.array_equal(recording.read_masks(layer="boxes"), expected)
    assert recording.class_label[[0, 1, 6]].tolist() == [0, 0, 0]


def test_the_sample_end_to_end(tmp_path):
    source = Path(__file__).parents[1] / "data" / "v2_matio_v73_plain.mat"
    shutil.copy(source, tmp_path / "SaveToAvi-demo.mat")
    store = fmfbench.convert(tmp_path / "SaveToAvi-demo.mat", tmp_path / "demo.zarr")
    keyframes, frames = read_drawn(SAMPLE)
    annotate(store, keyframes, drawn_frames=frames)
    boxes = fmfbench.open_dataset(store).recordings["SaveToAvi-demo"].read_masks(layer="boxes")
    expected = np.zeros((10, 24, 32), np.uint8)
    for frame in range(2, 8):
        t = min(frame - 2, 4) / 4
        x0, y0, x1, y1 = 8 - 2 * t, 5 - 2 * t, 20 + 4 * t, 12 + 2 * t
        for r in range(24):
            for c in range(32):
                expected[frame, r, c] = x0 <= c + 0.5 < x1 and y0 <= r + 0.5 < y1
    assert np.array_equal(boxes, expected)
    assert json.loads((store / "recordings/SaveToAvi-demo/labels/boxes/zarr.json").read_text())["attributes"][
        "fmfbench.provenance"
    ]["events"] == [{"id": 0, "onset": 2, "apex": 6, "offset": 7}]


def test_without_a_radius_each_box_is_voted_alone(store):
    annotate(store, DRAWN, margin=True)
    data = fmfbench.open_dataset(store)
    for name, recording in data.recordings.items():
        video, refined = recording.read_video(), recording.read_masks(layer="refined")
        frames = np.arange(recording.num_frames)
        boxes = np.stack([boxes_at(track, frames) for track in DRAWN.recordings[name]], axis=1)
        for frame in frames:
            assert np.array_equal(refined[frame], refine_boxes_plain(boxes[frame], video[frame]))
        margins = zarr.open_group(store, mode="r")[f"recordings/{name}/margins/refined"][:]
        assert np.array_equal(margins > 0, refined.astype(bool))
        assert (
            refined.any(axis=(1, 2)).tolist() == recording.read_masks(layer="boxes").any(axis=(1, 2)).tolist()
        )
    assert provenance_of(data.recordings["run1"], "refined")["parameters"]["radius"] == "box"
    assert verify(store).ok


EVENT = Track(id="e", onset=3, apex=5, offset=9, keyframes=())


@pytest.fixture
def unlabelled(tmp_path):
    source = write_source(tmp_path / "source")
    folder = tmp_path / "v2"
    folder.mkdir()
    for path in source.glob("*.mat"):
        whole = loadmat(path)
        savemat(folder / path.name, {"data": whole["video"]})
    return fmfbench.convert(folder / "run1.mat", tmp_path / "u.zarr")


def test_events_without_boxes_become_class_labels_and_no_layer(unlabelled, files):
    data = fmfbench.open_dataset(unlabelled)
    before = data.fingerprint
    assert (data.recordings["run1"].class_label == 255).all()
    drawn = Keyframes(
        size=(32, 24), recordings={"run1": (EVENT, Track(id=1, onset=20, offset=20, keyframes=()))}
    )
    assert annotate(unlabelled, drawn) == ["recordings/run1/class_label"]
    data = fmfbench.open_dataset(unlabelled)
    recording = data.recordings["run1"]
    assert np.flatnonzero(recording.class_label).tolist() == [3, 4, 5, 6, 7, 8, 9, 20]
    assert (recording.layers, data.default_layer) == ((), None)
    assert data.fingerprint != before
    assert verify(unlabelled).ok
    assert drawn_keyframes(data) == drawn
    again = files()
    assert annotate(unlabelled, drawn) == []
    assert files() == again
    other = Keyframes(size=(32, 24), recordings={"run1": (EVENT,)})
    with pytest.raises(AnnotationError, match="expected no class labels yet, got some; replace them"):
        annotate(unlabelled, other)
    assert files() == again
    assert annotate(unlabelled, other, as_default=True) == ["recordings/run1/class_label"]
    assert fmfbench.open_dataset(unlabelled).recordings["run1"].class_label.sum() == 7
    assert verify(unlabelled).ok


def test_events_without_boxes_do_not_contradict_pixel_labels(store, files):
    before = files()
    drawn = Keyframes(size=(32, 24), recordings={"run1": (EVENT,)})
    for as_default in (False, True):
        with pytest.raises(AnnotationError, match="run1: expected a recording without pixel labels"):
            annotate(store, drawn, as_default=as_default)
    assert files() == before
    box = Keyframe(frame=4, box=(1, 1, 5, 5))
    with pytest.raises(
        AnnotationError, match="all have boxes, or that all have none, got boxes for track 1 and none"
    ):
        Keyframes(
            size=(32, 24), recordings={"run1": (EVENT, Track(id=1, onset=4, offset=4, keyframes=(box,)))}
        )


def test_class_labels_and_layers_go_together_in_one_call(tmp_path):
    source = write_source(tmp_path / "source")
    for path in source.glob("*.mat"):
        savemat(path, {"data": loadmat(path)["video"]})
    parts = [fmfbench.convert(path, tmp_path / f"{path.stem}.zarr") for path in sorted(source.glob("*.mat"))]
    store = merge(parts, tmp_path / "both.zarr")
    drawn = Keyframes(size=(32, 24), recordings={"run1": (EVENT,), "run2": DRAWN.recordings["run2"]})
    assert annotate(store, drawn, as_default=True) == [
        "recordings/run2/labels/boxes",
        "recordings/run2/labels/refined",
        "recordings/run1/class_label",
    ]
    data = fmfbench.open_dataset(store)
    assert data.recordings["run1"].class_label.sum() == 7
    assert data.recordings["run2"].class_label.any()
    assert data.default_layer == "refined"
    assert drawn_keyframes(data).recordings == drawn.recordings
    assert verify(store).ok


def test_keyframes_of_one_recording(tmp_path):
    path = tmp_path / "keyframes.json"
    write_keyframes(path, DRAWN)
    assert set(read_drawn(path)[0].recordings) == {"run1", "run2"}
    assert set(read_drawn(path, "run2")[0].recordings) == {"run2"}
    with pytest.raises(AnnotationError, match="expected tracks of recording 'run3', got those of run1, run2"):
        read_drawn(path, "run3")
    for option in ({"task": "x"}, {"size": (1, 1)}, {"label": "x"}):
        with pytest.raises(AnnotationError, match="expected a CVAT export for"):
            read_drawn(path, **option)
