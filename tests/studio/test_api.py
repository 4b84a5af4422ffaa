"""What the page is told is what the store holds.

Also tests fmfbench.studio: bundle, library, serve.
Also tests fmfbench_cli: studio.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_run import call, invoke
from conftest_studio import HOSTILE, Studio, in_path, wait_for

import fmfbench
from fmfbench.annotation.annotate import annotate
from fmfbench.annotation.box_vote import refine_boxes_plain
from fmfbench.annotation.keyframes import read_keyframes
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import read_predictions
from fmfbench.studio.bundle import pack, unpack


@pytest.mark.parametrize("seed", range(5))
def test_bundles_come_back_as_they_were(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(0, 5, rng.integers(1, 4)).tolist()) for _ in range(4)]
    arrays = {
        f"{dtype}é": rng.integers(0, 200, shape).astype(dtype)
        for shape, dtype in zip(shapes, ("uint8", "int32", "float32", "float64"), strict=True)
    }
    facts, found = unpack(pack({"name": HOSTILE, "n": seed}, arrays))
    assert facts == {"name": HOSTILE, "n": seed}
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_frames_are_the_bytes_of_the_store(studio, awkward_store: Path) -> None:
    data = fmfbench.open_dataset(awkward_store)
    rng = np.random.default_rng(0)
    for name, recording in data.recordings.items():
        n = recording.num_frames
        whole = recording.read_video()
        for start, stop in [
            (0, n),
            (0, 0),
            (n - 1, n),
            (n, n),
            (n + 5, n + 9),
            *np.sort(rng.integers(0, n + 9, (8, 2))),
        ]:
            status, headers, body = studio.ask(f"/api/frames/{in_path(name)}?start={start}&stop={stop}")
            assert status == 200
            assert body == whole[start:stop].tobytes()
            assert headers["content-type"] == "application/octet-stream"
        assert studio.ask(f"/api/frames/{in_path(name)}")[2] == whole.tobytes()
        masks = studio.ask(f"/api/masks/{in_path(name)}?layer=source&start=3&stop=17")[2]
        assert masks == recording.read_masks(3, 17).tobytes()


def test_long_ranges_are_streamed_whole(studio, awkward_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.requests import Request

    from fmfbench.studio import api
    from fmfbench.studio.library import Library

    monkeypatch.setattr(api, "_BLOCK_BYTES", 1000)
    served = api.Api(Library(awkward_store), None, None)  # type: ignore[arg-type]
    request = Request(
        {
            "type": "http",
            "query_string": b"start=5&stop=300",
            "path_params": {"name": "b-long"},
            "headers": [],
        }
    )
    answer = served.frames(request)

    async def read() -> bytes:
        return b"".join([piece async for piece in answer.body_iterator])

    expected = fmfbench.open_dataset(awkward_store).recordings["b-long"].read_video(5, 300).tobytes()
    with ThreadPoolExecutor(1) as pool:  # a browser's fixture may have left a loop running in this thread
        assert pool.submit(asyncio.run, read()).result() == expected
    assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/frames/nothing?start=0&stop=1", 404),
        ("/api/frames/b-long?start=-1&stop=1", 400),
        ("/api/frames/b-long?start=0.5&stop=1", 400),
        ("/api/frames/b-long?start=x&stop=1", 400),
        ("/api/frames/b-long?start=0&stop=99999999999999999999", 400),
        ("/api/frames/b-long?start=%D9%A1", 400),
        ("/api/masks/b-long?layer=none&start=0&stop=1", 404),
        ("/api/masks/b-long", 404),
        ("/api/predicted/b-long?file=2", 400),
        ("/api/predicted/b-long?file=1", 400),
        ("/api/picture/b-long?frame=700", 400),
        ("/api/window/b-long?frame=700", 400),
        ("/api/window/b-long?frame=1&protocol=none", 400),
        ("/api/recordings/nothing", 404),
        ("/api/nothing", 404),
        ("/api/export/cvat/b-long", 400),
    ],
)
def test_bad_requests_are_one_line(studio, path: str, status: int) -> None:
    found, message = studio.error(path)
    assert found == status
    assert message
    assert "\n" not in message


def test_the_list_and_the_facts(studio, awkward_store: Path, prediction_files: list[Path]) -> None:
    data = fmfbench.open_dataset(awkward_store)
    listed = studio.json("/api/recordings")
    assert [r["name"] for r in listed] == list(data.recordings)
    predictions = [read_predictions(file) for file in prediction_files]
    for entry, recording in zip(listed, data.recordings.values(), strict=True):
        assert (entry["frames"], entry["height"], entry["width"]) == (recording.num_frames, 6, 9)
        assert entry["abnormal"] == np.count_nonzero(recording.class_label == 1)
        assert entry["splits"]["test"] == np.count_nonzero(recording.split == 1)
        facts, arrays = unpack(studio.ask(f"/api/recordings/{in_path(recording.name)}")[2])
        start = int(facts["start_ns"])
        assert np.array_equal(
            np.round(arrays["seconds"] * 1e9).astype(np.int64) + start, recording.frame_time
        )
        assert np.array_equal(
            np.round(arrays["current_seconds"] * 1e9).astype(np.int64) + start, recording.current_time
        )
        assert np.array_equal(arrays["current"], recording.current, equal_nan=True)
        assert np.array_equal(arrays["split"], recording.split)
        assert np.array_equal(arrays["class_label"], recording.class_label)
        steps = np.diff(recording.frame_time)
        assert facts["gaps"] == [[i, i + 1] for i in np.flatnonzero(steps > 3 * np.median(steps)).tolist()]
        ids = recording.first_id + np.arange(recording.num_frames)
        for k, found in enumerate(predictions):
            rows = dict(zip(found.sample_id.tolist(), range(len(found.sample_id)), strict=True))
            score, pred = arrays[f"score_{k}"], arrays[f"pred_{k}"]
            for frame, sample in enumerate(ids.tolist()):
                if sample not in rows:
                    assert np.isnan(score[frame])
                    assert pred[frame] == 255
                else:
                    assert pred[frame] == found.decision[rows[sample]]
                    if found.score is not None:
                        assert score[frame] == np.float32(found.score[rows[sample]])
        first, second = facts["predictions"]
        assert first["threshold"] == 0.25
        assert first["model"] == "<b>noise</b>"
        assert first["note"] is None
        assert "another store" in second["note"]
        assert (first["has_mask"], second["has_mask"], second["has_score"]) == (True, False, False)


def test_predicted_masks_lie_on_their_frames(
    studio, awkward_store: Path, prediction_files: list[Path]
) -> None:
    data = fmfbench.open_dataset(awkward_store)
    found = read_predictions(prediction_files[0])
    masks = unpack_masks(found.mask_bits, found.mask_shape)
    for recording in data.recordings.values():
        expected = np.full((recording.num_frames, 6, 9), 255, np.uint8)
        for sample, mask in zip(found.sample_id.tolist(), masks, strict=True):
            if recording.first_id <= sample < recording.first_id + recording.num_frames:
                expected[sample - recording.first_id] = mask
        body = studio.ask(f"/api/predicted/{in_path(recording.name)}?file=0")[2]
        assert body == expected.tobytes()
        assert (
            studio.ask(f"/api/predicted/{in_path(recording.name)}?file=0&start=7&stop=19")[2]
            == expected[7:19].tobytes()
        )


@pytest.mark.parametrize("protocol", ["paper", "short"])
def test_windows_are_those_of_the_loader(studio, awkward_store: Path, protocol: str) -> None:
    data = fmfbench.open_dataset(awkward_store)
    windows = data.windows("all", protocol)
    rng = np.random.default_rng(1)
    for sample in rng.choice(data.num_samples, 25, replace=False).tolist():
        recording, frame = (int(v[0]) for v in data.locate([sample]))
        name = list(data.recordings)[recording]
        found = studio.json(f"/api/window/{in_path(name)}?frame={frame}&protocol={protocol}")
        window = windows[sample]
        assert found["frames_valid"] == window["video_valid"].tolist()
        assert found["current_valid"] == window["current_valid"].tolist()
        span = {"paper": (1.44, 219.5), "short": (0.48, 19.5)}[protocol]
        assert np.diff(found["video_seconds"]) == pytest.approx(span[0])
        assert np.diff(found["current_seconds"]) == pytest.approx(span[1])


def test_named_splits_are_lanes_of_their_own(launch, own_store: Path) -> None:
    call("split", own_store, "--by-recording", "plain", "--name", "two", "--as-default")
    facts, arrays = unpack(launch(own_store, "--read-only").ask("/api/recordings/plain")[2])
    recording = fmfbench.open_dataset(own_store).recordings["plain"]
    assert (facts["split"], facts["other_splits"]) == ("two", ["source"])
    assert (arrays["split"] == 1).all()
    assert np.array_equal(arrays["split_0"], recording.named_split("source"))
    assert not np.array_equal(arrays["split_0"], arrays["split"])


def box_track(frame: int = 30, number: int = 0) -> dict:
    keyframes = [
        {"frame": frame, "box": [8.0, 6.0, 22.0, 18.0]},
        {"frame": frame + 10, "box": [10.0, 7.0, 24.0, 19.0]},
    ]
    return {"id": number, "onset": frame, "offset": frame + 12, "keyframes": keyframes}


def test_the_refined_frame_is_what_annotate_writes(launch, own_store: Path) -> None:
    studio = launch(own_store)
    name = in_path(HOSTILE)
    tracks = [box_track()]
    studio.json(f"/api/keyframes/{name}", {"base": 0, "tracks": tracks})
    frames = [30, 33, 41, 29, 80]
    answers = [studio.ask(f"/api/refine/{name}", {"frame": f, "tracks": tracks})[2] for f in frames]
    state = studio.json(
        "/api/apply", {"boxes": "boxes", "refined": "refined", "as_default": True, "margin": True}
    )
    while state["state"] == "running":
        time.sleep(0.05)
        state = studio.json("/api/pulse")["apply"]
    assert state["state"] == "done", state
    assert sorted(state["written"]) == sorted(
        f"recordings/{HOSTILE}/{part}" for part in ("labels/boxes", "labels/refined", "margins/refined")
    )
    recording = fmfbench.open_dataset(own_store).recordings[HOSTILE]
    for frame, answer in zip(frames, answers, strict=True):
        mask = np.frombuffer(answer, np.uint8, 24 * 32).reshape(24, 32)
        margin = np.frombuffer(answer, "<f4", offset=24 * 32).reshape(24, 32)
        assert np.array_equal(mask, recording.read_masks(frame, frame + 1, "refined")[0])
        stored = np.frombuffer(studio.ask(f"/api/margin/{name}?layer=refined&frame={frame}")[2], "<f4")
        assert np.array_equal(stored.reshape(24, 32), margin)
    # the page sees the new layers without being started again
    listed = studio.json("/api/recordings")
    assert next(r for r in listed if r["name"] == HOSTILE)["layers"] == ["boxes", "refined", "source"]
    assert studio.json("/api/about")["default_layer"] == "refined"
    # and another wish of the same name is refused in one line
    studio.json(f"/api/keyframes/{name}", {"base": 1, "tracks": [box_track(40)]})
    state = studio.json("/api/apply", {"boxes": "boxes", "refined": None})
    while state["state"] == "running":
        time.sleep(0.05)
        state = studio.json("/api/pulse")["apply"]
    assert state["state"] == "failed"
    assert "never overwritten" in state["error"]


def test_a_larger_window_is_asked_for_and_applied(launch, own_store: Path) -> None:
    studio = launch(own_store)
    tracks = [box_track()]
    studio.json("/api/keyframes/plain", {"base": 0, "tracks": tracks})
    for bad in ("box/0", "7", 7, "x"):
        for path in ("/api/refine/plain", "/api/apply"):
            assert studio.error(path, {"frame": 33, "tracks": tracks, "radius": bad})[0] == 400, bad
    masks = []
    for radius in ("box/3", "box/2"):
        answer = studio.ask("/api/refine/plain", {"frame": 33, "tracks": tracks, "radius": radius})[2]
        masks.append(np.frombuffer(answer, np.uint8, 24 * 32).reshape(24, 32))
    guide = fmfbench.open_dataset(own_store).recordings["plain"].read_video(33, 34)[0]
    boxes = np.array([[8.6, 6.3, 22.6, 18.3]])
    assert np.array_equal(masks[0], refine_boxes_plain(boxes, guide))
    assert np.array_equal(masks[1], refine_boxes_plain(boxes, guide, share=2))
    assert not np.array_equal(*masks)
    state = studio.json("/api/apply", {"boxes": "b", "refined": "r", "radius": "box/2"})
    while state["state"] == "running":
        time.sleep(0.05)
        state = studio.json("/api/pulse")["apply"]
    assert state["state"] == "done", state
    recording = fmfbench.open_dataset(own_store).recordings["plain"]
    assert np.array_equal(recording.read_masks(33, 34, "r")[0], masks[1])


def test_an_event_without_a_box_is_kept_and_needs_a_recording_without_masks(launch, own_store: Path) -> None:
    studio = launch(own_store)
    without = {"id": 0, "onset": 5, "offset": 9, "keyframes": []}
    studio.json("/api/keyframes/plain", {"base": 0, "tracks": [without]})
    status, message = studio.error("/api/keyframes/plain", {"base": 1, "tracks": [without, box_track(30, 1)]})
    assert status == 400
    assert "box" in message
    body = studio.ask("/api/refine/plain", {"frame": 6, "tracks": [without]})[2]
    assert not np.frombuffer(body, np.uint8, 24 * 32).any()
    state = studio.json("/api/apply", {"boxes": "boxes", "refined": "refined", "as_default": True})
    while state["state"] == "running":
        time.sleep(0.05)
        state = studio.json("/api/pulse")["apply"]
    assert state["state"] == "failed"
    assert "without pixel labels" in state["error"]
    assert studio.json("/api/keyframes")["recordings"]["plain"]["tracks"] == [without]


def test_refining_refuses_what_cannot_be(launch, own_store: Path) -> None:
    studio = launch(own_store)
    assert studio.error("/api/refine/plain", {"frame": 77, "tracks": []})[0] == 400
    assert studio.error("/api/refine/plain", {"frame": 1, "tracks": [{}]})[0] == 400
    assert studio.error("/api/refine/nothing", {"frame": 1, "tracks": []})[0] == 404
    assert studio.error("/api/refine/plain", b"[1, 2")[0] == 400
    assert studio.ask("/api/refine/plain", {"frame": 1, "tracks": []}, Content_Type="text/plain")[0] == 400
    assert studio.error("/api/apply", {})[0] == 400  # nothing is labelled


def test_import_and_export_are_those_of_annotate(launch, own_store: Path, tmp_path: Path) -> None:
    studio = launch(own_store)
    tracks = [box_track()]
    studio.json("/api/keyframes/plain", {"base": 0, "tracks": tracks})
    exported = studio.ask("/api/export/keyframes.json")[2]
    assert json.loads(exported)["recordings"] == {"plain": {"tracks": tracks}}
    xml = studio.ask("/api/export/cvat/plain")[2]
    assert studio.json("/api/read", exported) == {"tracks": {"plain": tracks}, "remarks": []}
    again = studio.json("/api/read?recording=plain", xml)["tracks"]
    assert [k["box"] for k in again["plain"][0]["keyframes"]] == [k["box"] for k in tracks[0]["keyframes"]]
    larger = json.loads(exported)
    larger["size"] = [64, 96]
    scaled = studio.json("/api/read", larger)["tracks"]["plain"][0]["keyframes"][0]["box"]
    assert scaled == [4.0, 1.5, 11.0, 4.5]
    for bad in (
        b"",
        b"{}",
        b"<annotations>",
        b"\x00\x01",
        b'{"schema": 1, "size": [32, 24], "recordings": {"zz": {"tracks": []}}}',
    ):
        status, message = studio.error("/api/read", bad)
        assert status == 400
        assert "/tmp" not in message
    (tmp_path / "k.json").write_bytes(exported)
    annotate(own_store, read_keyframes(tmp_path / "k.json"))
    recording = fmfbench.open_dataset(own_store).recordings["plain"]
    guide = recording.read_video(32, 33)[0]
    boxes = np.array([[8.4, 6.2, 22.4, 18.2]])  # a fifth of the way from one keyframe to the next
    assert np.array_equal(refine_boxes_plain(boxes, guide), recording.read_masks(32, 33, "refined")[0])


def test_what_an_export_of_cvat_does_not_say_is_said_beside_it(launch, own_store: Path) -> None:
    studio = launch(own_store)
    studio.json("/api/keyframes/plain", {"base": 0, "tracks": [box_track()]})
    xml = studio.ask("/api/export/cvat/plain")[2].decode()
    assert "<original_size>" in xml
    bare = re.sub(r"<original_size>.*?</original_size>", "", xml, flags=re.S).encode()
    status, message = studio.error("/api/read?recording=plain", bare)
    assert (status, "--size" in message) == (400, True)
    found = studio.json("/api/read?recording=plain&size=32x24", bare)["tracks"]["plain"]
    assert found[0]["keyframes"][0]["box"] == [8.0, 6.0, 22.0, 18.0]
    twice = studio.json("/api/read?recording=plain&size=64x48", bare)["tracks"]["plain"]
    assert twice[0]["keyframes"][0]["box"] == [4.0, 3.0, 11.0, 9.0]
    for query in (
        "size=32",
        "size=0x4",
        "size=axb",
        "label=nothing",
        "task=9",
        "untouched=x",
        "recording=zz",
    ):
        status, message = studio.error(f"/api/read?recording=plain&{query}", xml.encode())
        assert status == 400, query
        assert "\n" not in message
    empty = re.sub(r"<track.*</track>", "", xml, flags=re.S).encode()
    normal = studio.json("/api/read?recording=plain&untouched=normal", empty)
    assert normal["tracks"] == {"plain": []}
    assert (
        studio.error("/api/read?recording=plain", empty)[0] == 400
        or not studio.json("/api/read?recording=plain", empty)["tracks"]
    )


def test_masks_and_videos_are_exported_as_annotate_does(launch, own_store: Path, tmp_path: Path) -> None:
    studio = launch(own_store, "--read-only")
    name = in_path(HOSTILE)
    status, headers, coco = studio.ask(f"/api/export/coco/{name}?layer=source")
    assert status == 200
    assert headers["content-disposition"].startswith("attachment; filename*=UTF-8''%3Cimg")
    words = ["annotate", "export", str(own_store), "--refined", "source", "--recording", "plain"]
    call(*words, "--coco", tmp_path / "coco", "--video", tmp_path / "video")
    ours = json.loads(studio.ask("/api/export/coco/plain?layer=source")[2])
    theirs = json.loads((tmp_path / "coco" / "plain.json").read_text())
    assert ours["annotations"] == theirs["annotations"]
    assert ours["images"] == theirs["images"]
    assert len(json.loads(coco)["images"]) == 90
    assert studio.error("/api/export/coco/plain?layer=zz")[0] == 404
    av = pytest.importorskip("av")
    (tmp_path / "ours.mp4").write_bytes(studio.ask("/api/export/video/plain")[2])
    shown = []
    for path in (tmp_path / "ours.mp4", tmp_path / "video" / "plain.mp4"):
        with av.open(str(path)) as file:
            shown.append([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    assert len(shown[0]) == 77
    assert shown[0][0].shape == (192, 256, 3)
    assert all(np.array_equal(a, b) for a, b in zip(*shown, strict=True))


def test_two_tabs_and_a_changed_file(launch, own_store: Path) -> None:
    studio = launch(own_store)
    assert studio.json("/api/keyframes/plain", {"base": 0, "tracks": [box_track()]}) == {"revision": 1}
    status, message = studio.error("/api/keyframes/plain", {"base": 0, "tracks": []})
    assert status == 409
    assert "changed elsewhere" in message
    file = own_store.with_name("own.keyframes.json")
    wait_for(file.exists)
    wait_for(lambda: studio.json("/api/pulse")["saved"])
    file.write_text('{"schema": 1, "size": [32, 24], "recordings": {}}')
    wait_for(lambda: studio.json("/api/pulse")["conflict"])
    assert studio.error("/api/keyframes/plain", {"base": 1, "tracks": []})[0] == 409
    assert studio.error("/api/apply", {})[0] == 409
    assert studio.error("/api/resolve", {"keep": "both"})[0] == 400
    aside = studio.json("/api/resolve", {"keep": "draft"})["aside"]
    assert json.loads(file.with_name(aside).read_text())["recordings"] == {}
    wait_for(lambda: "plain" in json.loads(file.read_text())["recordings"])


def kill_and_recover(store: Path, rounds: int, seed: int) -> None:
    """Edit over HTTP, kill -9 in the middle, and start again: every change that was acknowledged is there."""
    rng = np.random.default_rng(seed)
    acknowledged: object = None
    asked: object = None
    for _ in range(rounds):
        studio = Studio(store)
        state = studio.json("/api/keyframes")
        assert state["conflict"] is None
        entry = state["recordings"]["plain"]
        assert entry["tracks"] in (acknowledged, asked)
        acknowledged = asked = entry["tracks"]
        base = entry["revision"]
        killer = threading.Timer(rng.uniform(0, 1.2), studio.process.kill)
        killer.start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                asked = [box_track(int(rng.integers(0, 40)), k) for k in range(int(rng.integers(0, 4)))]
                base = studio.json("/api/keyframes/plain", {"base": base, "tracks": asked})["revision"]
                acknowledged = asked
        killer.join()
        studio.stop(signal.SIGKILL)
    final = Studio(store)
    found = final.json("/api/keyframes")["recordings"]["plain"]["tracks"]
    assert found in (acknowledged, asked)
    assert final.stop() == 0
    drawn = json.loads(store.with_name("own.keyframes.json").read_text())["recordings"]
    assert drawn.get("plain", {}).get("tracks") == found
    assert not store.with_name("own.keyframes.json.journal").exists()


def test_killed_in_the_middle_nothing_acknowledged_is_lost(own_store: Path) -> None:
    kill_and_recover(own_store, rounds=5, seed=0)


@pytest.mark.long
def test_killed_fifty_times(own_store: Path) -> None:
    kill_and_recover(own_store, rounds=50, seed=1)


def run(*arguments: str) -> Any:
    return invoke("studio", *arguments, "--no-browser")


def test_what_cannot_be_opened_is_one_line(
    launch, own_store: Path, tmp_path: Path, prediction_files: list[Path]
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    cases = {
        2: [
            (str(tmp_path / "nothing.zarr"),),
            (str(own_store), "--predictions", str(tmp_path / "nothing.npz")),
            (
                str(own_store),
                "--predictions",
                str(prediction_files[0]),
            ),  # of another store, with more samples
            (str(own_store), "--keyframes", str(broken)),
            (str(own_store), "--truth", str(tmp_path / "nothing")),
            (str(own_store), "--port", "70000"),
        ],
        1: [(str(own_store), "--host", "host.invalid")],
    }
    for code, commands in cases.items():
        for arguments in commands:
            done = run(*arguments)
            assert done.exit_code == code, done.stderr
            assert done.stdout == ""
            assert done.stderr.count("\n") == 1, done.stderr
            assert "Traceback" not in done.stderr
    running = launch(own_store)
    busy = run(str(own_store))
    assert busy.exit_code == 1
    assert "another process" in busy.stderr
    taken = run(str(own_store), "--read-only", "--port", str(running.port))
    assert taken.exit_code == 1
    assert "--port" in taken.stderr
    assert running.stop(signal.SIGTERM) == 0
    assert not own_store.with_name("own.keyframes.json").exists()


def test_reading_changes_no_byte_of_the_store(launch, own_store: Path) -> None:
    def content() -> dict[str, str]:
        return {
            p.relative_to(own_store).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(own_store.rglob("*"))
            if p.is_file()
        }

    before = content()
    studio = launch(own_store)
    for path in (
        "/",
        "/api/recordings",
        "/api/recordings/plain",
        "/api/frames/plain",
        "/api/window/plain?frame=3",
    ):
        studio.ask(path)
    studio.json("/api/keyframes/plain", {"base": 0, "tracks": [box_track()]})
    assert studio.stop() == 0
    assert content() == before
