"""Watching a recording gives the scores of `predict`; watching a camera survives what cameras do.

Also tests fmfbench_models: detector.
Also tests fmfbench_models.inference: feeds, watch_log.
Also tests fmfbench_cli: watch.
"""

from __future__ import annotations

import csv
import functools
import http.server
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fmfbench_cli.main import main

import fmfbench
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.events import segments
from fmfbench.sources.source import Options
from fmfbench_models.detector import Detection, Detector
from fmfbench_models.inference import watch
from fmfbench_models.inference.feeds import Camera, Rows, camera_frames, parse_row
from fmfbench_models.inference.predict import predict
from fmfbench_models.inference.watch import options_of, part_in_doubt, watch_camera
from fmfbench_models.inference.watch_log import Alarms, WatchLog

pytest.importorskip("av")


def invoke(*arguments: object, **options: object):
    return CliRunner().invoke(main, ["watch", *map(str, arguments), "--headless"], **options)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("standard_input", [False, True])
def test_scores_on_a_file_are_those_of_predict(recording, store, run, tmp_path, standard_input: bool) -> None:
    found = read_predictions(predict(run, store, tmp_path / "p.npz", split="all", device="cpu"))
    out = tmp_path / "log"
    video, table = recording
    if standard_input:
        done = invoke(run, "--video", video, "--current", "-", "--out", out, input=table.read_bytes())
    else:
        done = invoke(run, "--video", video, "--current", table, "--out", out, "--threshold", "0.5")
    assert done.exit_code == 0, done.output
    entries = lines(out)
    score = np.array([entry["score"] for entry in entries])
    assert np.ptp(score) > 0.01  # a model that says one thing would pass anything
    assert np.abs(score - found.score).max() <= 1e-5
    times = fmfbench.open_dataset(store).recordings["run"].frame_time
    assert [entry["time"] for entry in entries] == times.tolist()
    assert [entry["frame"] for entry in entries] == list(range(len(times)))
    assert [entry["abnormal"] for entry in entries] == (score > 0.5).tolist()
    spans = segments(score > 0.5, np.zeros(len(score), np.int64), times, 2.0)
    with open(out / "alarms.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(int(r["start"]), int(r["end"])) for r in rows] == [(times[a], times[b]) for a, b in spans]
    for row, (a, b) in zip(rows, spans, strict=True):
        assert float(row["peak"]) == pytest.approx(score[a : b + 1][score[a : b + 1] > 0.5].max(), rel=1e-5)


def test_what_is_kept_in_the_run_can_be_told_otherwise(recording, run, tmp_path) -> None:
    video, table = recording
    detector = Detector(run)
    assert options_of(detector.model).crop == (4, 2, 36, 24)
    assert options_of(detector.model).size == (24, 16)
    assert options_of(detector.model, crop=(0, 0, 48, 36)).crop == (0, 0, 48, 36)
    first, other = tmp_path / "a", tmp_path / "b"
    assert invoke(run, "--video", video, "--current", table, "--out", first).exit_code == 0
    assert (
        invoke(run, "--video", video, "--current", table, "--out", other, "--crop", "0,0,48,36").exit_code
        == 0
    )
    assert lines(first)[0]["score"] != lines(other)[0]["score"]


def _stderr(command: list[object]) -> str:
    done = invoke(*command)
    assert done.exit_code == 0, done.output
    return done.stderr


def test_a_picture_that_is_shrunk_whole_is_said_where_the_training_frames_may_have_shown_a_part(
    recording, run, tmp_path
) -> None:
    video, table = (
        recording  # of 48x36; the run was trained on a crop of it, fmformer-nano on official frames of 64x64
    )
    shipped = ["fmformer-nano", "--video", video, "--current", table]
    said = _stderr(shipped)
    assert said.startswith("watch: the whole picture of 48x36 is shrunk to 64x64, and fmformer")
    assert said.endswith("give --crop X,Y,W,H if the furnace shell is a part of it\n")
    assert said.count("\n") == 1
    assert "whole picture" not in _stderr([*shipped, "--crop", "4,2,36,24"])
    assert "whole picture" not in _stderr([run, "--video", video, "--current", table])
    model = Detector("fmformer-nano").model
    options = options_of(model)
    sizes: list[tuple[int, int]] = []
    next(camera_frames(str(video), options, sizes.append))
    assert sizes == [(48, 36)]
    assert part_in_doubt(model, options, (48, 36)) is not None
    assert part_in_doubt(model, options, (64, 64)) is None  # the picture as it was trained on


def test_bad_input_is_one_line(recording, run, tmp_path) -> None:
    video, table = recording
    full = tmp_path / "full"
    full.mkdir()
    (full / "frames.jsonl").write_text("{}\n")
    cases = [
        (tmp_path / "nothing", "--video", video, "--current", table),
        (run, "--video", tmp_path / "nothing.mp4", "--current", table),
        (run, "--video", video),
        (run, "--video", video, "--current", tmp_path / "nothing.csv"),
        (run, "--video", table, "--current", table),
        (run, "--video", video, "--current", table, "--crop", "1,2,3"),
        (run, "--video", video, "--current", table, "--crop", "40,0,36,24"),
        (run, "--video", video, "--current", table, "--size", "64"),
        (run, "--video", video, "--current", table, "--threshold", "2"),
        (run, "--video", video, "--current", table, "--out", full),
        (run, "--video", video, "--current", table, "--out", video),
    ]
    for arguments in cases:
        done = invoke(*arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert done.stderr.count("\n") == 1
    assert (full / "frames.jsonl").read_text() == "{}\n"


def test_interrupted_it_loses_nothing(recording, run, tmp_path) -> None:
    video, table = recording
    out = tmp_path / "log"
    code = "from fmfbench_cli.main import main; main()"
    command = ["watch", run, "--video", video, "--current", table, "--out", out, "--pace", "--headless"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, [*command, "--threshold", "0"])],
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (out / "frames.jsonl").exists() or len(lines(out)) < 20:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    count = len(lines(out))
    assert said.startswith(f"{count} frames judged")
    rows = list(csv.DictReader((out / "alarms.csv").read_text().splitlines()))
    assert int(rows[-1]["end"]) == lines(out)[-1]["time"]  # the alarm that still sounded


class FakeCamera:
    """Gives some frames, is lost, comes back when `ready`."""

    def __init__(self, bursts: list[int], pause: float, ready: Callable[[], bool] = lambda: True) -> None:
        self.bursts, self.pause, self.ready = list(bursts), pause, ready

    def __call__(self):
        if not self.bursts:
            raise OSError("no route to host")
        if not self.ready():
            raise OSError("not yet")
        count = self.bursts.pop(0)
        for number in range(count):
            time.sleep(self.pause)
            yield np.full((16, 24, 3), number, np.uint8)
        raise OSError("the stream ended")


def test_a_camera_that_is_lost_comes_back(run, tmp_path) -> None:
    said: list[str] = []
    log = WatchLog(tmp_path / "log", 0.5, append=True)
    detector = Detector(run)
    frames = FakeCamera([12, 0, 12], 0.02, lambda: len(frames.bursts) == 3 or _last(tmp_path) >= 0)
    camera = Camera(frames, said.append)  # comes back once something was judged, however slow the machine is
    camera.start()
    watch_camera(detector, camera, None, log, say=said.append, ended=lambda: _last(tmp_path) >= 23)
    camera.stop()
    log.close()
    entries = lines(tmp_path / "log")
    assert entries[-1]["frame"] == 23
    assert [e["frame"] for e in entries] == sorted({e["frame"] for e in entries})
    stamps = np.array([e["time"] for e in entries])
    assert (np.diff(stamps) > 0).all()
    assert np.diff(stamps).max() > 4e8  # the gap is a gap
    assert [text.split(" (")[0] for text in said[:2]] == ["the camera is lost", said[1]]
    assert said[1].startswith("the camera is back after")


def _last(folder: Path) -> int:
    path = folder / "log" / "frames.jsonl"
    text = path.read_text().splitlines() if path.exists() else []
    return json.loads(text[-1])["frame"] if text else -1


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_a_stream_over_the_network_that_ends_is_reached_again(recording, run, tmp_path) -> None:
    """A URL that gives the recording again whenever it is asked: each time the frames go on, and nothing is lost."""
    video, _ = recording
    handler = functools.partial(_Files, directory=str(video.parent))
    out = tmp_path / "log"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            "watch",
            run,
            "--video",
            f"http://127.0.0.1:{server.server_port}/{video.name}",
            "--current",
            "-",
            "--out",
            out,
            "--headless",
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", "from fmfbench_cli.main import main; main()", *map(str, command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            end = time.monotonic() + 120
            while not (out / "frames.jsonl").exists() or (lines(out) or [{"frame": 0}])[-1]["frame"] < 400:
                assert time.monotonic() < end
                process.stdin.write("7800,8100,7950\n")
                process.stdin.flush()
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            said, remarks = process.communicate(timeout=60)
        finally:
            process.kill()
            server.shutdown()
    assert process.returncode == 0, remarks
    entries = lines(out)
    assert re.match(
        rf"{len(entries)} frames judged, \d+ abnormal, \d+ alarms?, \d+ frames? dropped; ", said
    ), said
    numbers = [entry["frame"] for entry in entries]
    assert numbers == sorted(set(numbers))
    assert "the camera is lost" in remarks
    assert "the camera is back" in remarks


def test_currents_that_stop_are_said_and_padded(run, tmp_path) -> None:
    read, write = os.pipe()
    said: list[str] = []
    stream = os.fdopen(read)
    rows = Rows(stream, said.append, follow=False)
    rows.start()

    def measure() -> None:
        with os.fdopen(write, "w", buffering=1) as pipe:
            pipe.write("time,a,b,c\n")
            for pause in (0.1, 0.1, 0.1, 1.6, 0.1, 0.1):
                time.sleep(pause)
                pipe.write("21:33:27,7800,8100,7950\n")
            time.sleep(0.5)

    log = WatchLog(tmp_path / "log", 0.5, append=True)
    camera = Camera(FakeCamera([1000], 0.03), said.append)
    thread = threading.Thread(target=measure)
    thread.start()
    camera.start()
    watch_camera(Detector(run), camera, rows, log, say=said.append, ended=lambda: not thread.is_alive())
    camera.stop()
    rows.stop()
    stream.close()
    log.close()
    states = [entry.get("current_stale", False) for entry in lines(tmp_path / "log")]
    changes = [state for k, state in enumerate(states) if k == 0 or states[k - 1] != state]
    assert changes == [True, False, True, False]
    told = [text for text in said if "current" in text]
    assert "a line of currents without three numbers" in " ".join(told)
    assert sum(text.startswith("no current") for text in told) == 2
    assert sum(text == "currents arrive again" for text in told) == 2


def test_a_slow_model_does_not_lag(run, tmp_path) -> None:
    """Frames that have newer ones behind them are kept for the windows and not judged."""
    detector = Detector(run)
    judge = detector.frame

    def slow(stamp: int, image: np.ndarray) -> Detection:
        time.sleep(0.15)
        return judge(stamp, image)

    detector.frame = slow  # type: ignore[method-assign]
    log = WatchLog(tmp_path / "log", 0.5, append=True)
    camera = Camera(FakeCamera([60], 0.02), lambda text: None)
    camera.start()
    lags = []
    watch_camera(
        detector, camera, None, log, say=lambda text: None,
        show=lambda judged: lags.append(time.time_ns() - judged.found.time),
        ended=lambda: _last(tmp_path) >= 50,
    )  # fmt: skip
    camera.stop()
    log.close()
    entries = lines(tmp_path / "log")
    assert len(entries) < 30
    assert np.diff([e["frame"] for e in entries]).max() > 1
    assert np.median(lags) < 1e9


def test_frames_that_the_camera_drops_are_counted_and_told(run, tmp_path, monkeypatch) -> None:
    """Room for three frames and a slow model: what was given is what windows have, what waits, and what was dropped."""
    pytest.importorskip("starlette")
    from fmfbench_models.inference.watch_page import Live

    monkeypatch.setattr(watch, "_SAY_EVERY_SECONDS", 0.2)
    detector = Detector(run)
    judge, keep, seen = detector.frame, detector.keep, []

    def slow(stamp: int, image: np.ndarray) -> Detection:
        time.sleep(0.3)
        return judge(stamp, image)

    def kept(stamp: int, image: np.ndarray) -> None:  # `frame` keeps what it judges, too
        seen.append(int(image[0, 0, 0]))
        keep(stamp, image)

    detector.frame, detector.keep = slow, kept  # type: ignore[method-assign]
    said: list[str] = []
    log = WatchLog(None, 0.5)
    camera = Camera(FakeCamera([120], 0.02), said.append)
    camera.arrived = queue.Queue(maxsize=3)
    live = Live(log, {}, camera)
    assert live.since(0, 0)[0]["dropped"] == 0
    camera.start()
    lost = lambda: camera.lost_at is not None and camera.arrived.empty()  # noqa: E731
    watch_camera(detector, camera, None, log, say=said.append, ended=lost)
    camera.stop()
    assert seen == sorted(set(seen))
    assert camera.dropped == 120 - len(seen) > 0
    assert live.since(0, 0)[0]["dropped"] == camera.dropped
    assert Live(log, {}).since(0, 0)[0]["dropped"] is None  # a file drops nothing
    told = [int(text.split()[0]) for text in said if "dropped" in text]
    assert 0 < sum(told) <= camera.dropped


@pytest.mark.parametrize("seed", range(5))
def test_alarms_are_the_segments_of_abnormal_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.choice([40_000_000, 900_000_000, 1_960_000_000, 2_000_000_000], 300))
    score = rng.random(300)
    abnormal = score > 0.8
    alarms = Alarms()
    found = [alarms.see(int(t), float(s), bool(a)) for t, s, a in zip(times, score, abnormal, strict=True)]
    found = [alarm for alarm in [*found, alarms.end()] if alarm is not None]
    spans = segments(abnormal, np.zeros(300, np.int64), times, 2.0)
    assert [(a, b) for a, b, _ in found] == [(times[a], times[b]) for a, b in spans]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("1,2,3\n", [1, 2, 3]),
        ("2023-05-10 21:33:27, 1.5 ,2e3,-3", [1.5, 2000, -3]),
        ("1;2;3", [1, 2, 3]),
        ("x\t1\t2\t3", [1, 2, 3]),
        ("1 2 3", [1, 2, 3]),
        ("a,b,c", None),
        ("1,2", None),
        ("", None),
        (",,", None),
    ],
)
def test_rows_of_currents(line: str, row: list[float] | None) -> None:
    assert parse_row(line) == row


def test_a_detection_says_itself_shortly() -> None:
    valid = np.ones(3, bool)
    found = Detection(5, 0.75, np.eye(2, 3, dtype=bool), valid, np.r_[valid, False])
    assert found.abnormal
    assert not replace(found, score=0.5).abnormal
    assert (
        repr(found)
        == "Detection(abnormal, score 0.7500, 2 abnormal pixels, 3/3 frames, 3/4 currents, time 5)"
    )
    assert len(repr(replace(found, mask=None))) < 120


def test_training_keeps_how_its_store_was_read(furnace_store, options, tmp_path) -> None:
    from fmfbench_models.training.train import train

    folder = train("fmformer", furnace_store, tmp_path / "r", options={**options, "epochs": 1}, device="cpu")
    detector = Detector(folder)
    recording = next(iter(fmfbench.open_dataset(furnace_store).recordings.values()))
    assert options_of(detector.model).size == (recording.width, recording.height)
    assert isinstance(options_of(detector.model), Options)
