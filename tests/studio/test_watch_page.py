"""The page of `watch`: what it shows is what was judged, and what goes wrong at the furnace is said on it.

Also tests fmfbench_models.inference: watch_page.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_run import call
from conftest_studio import Studio, until

import fmfbench
from fmfbench.studio.bundle import unpack
from fmfbench.studio.serve import listen, serving
from fmfbench_models.detector import Detection, Detector
from fmfbench_models.inference import watch_page
from fmfbench_models.inference.feeds import Camera, Rows
from fmfbench_models.inference.watch import Judged, options_of, watch_camera, watch_file
from fmfbench_models.inference.watch_log import WatchLog
from fmfbench_models.inference.watch_page import Live, make_watch_app

NS = 1_000_000_000
FACTS = {"model": "<b>m</b>", "video": "<img src=x onerror=alert(1)>", "current": "-", "live": True}


def judged(frame: int, time_ns: int, score: float, log: WatchLog, **more: Any) -> Judged:
    valid = np.ones(3, bool)
    found = Detection(time_ns, score, np.full((4, 6), score > 0.5), valid, valid)
    abnormal = log.add(frame, time_ns, score)
    image = np.full((4, 6, 3), frame % 256, np.uint8)
    values = {"abnormal": abnormal, "alarm": log.sounding, "stale": False, "rows": [], **more}
    return Judged(frame=frame, image=image, found=found, **values)


@pytest.mark.parametrize("seed", range(3))
def test_pages_that_ask_at_any_time_see_everything_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(watch_page, "_MOST_AT_ONCE", 7)
    log = WatchLog(None, 0.5)
    live = Live(log, FACTS)
    times = (np.cumsum(rng.integers(1, 4, 200)) * NS // 25).tolist()
    score = rng.random(200).astype(np.float32)
    seen: dict[str, list[float]] = {"seconds": [], "score": [], "abnormal": [], "current": []}
    frames = rows = 0

    def ask() -> bool:
        nonlocal frames, rows
        facts, arrays = live.since(frames, rows)
        assert (facts["first"], facts["first_row"]) == (frames, rows)
        frames, rows = facts["frames"], facts["rows"]
        for name, values in seen.items():
            values.extend(arrays[name].ravel().tolist())
        assert len(arrays["score"]) <= 7
        return bool(facts["more"])

    for k in range(200):
        live.show(judged(k, times[k], float(score[k]), log, rows=[(times[k], [k, 0.0, 1.0])] * (k % 2)))
        if rng.random() < 0.1:
            ask()
    while ask():
        pass
    assert seen["score"] == pytest.approx(score.tolist())
    assert seen["abnormal"] == (score > 0.5).astype(int).tolist()
    assert np.allclose(seen["seconds"], (np.array(times) - times[0]) / NS)
    assert seen["current"][::3] == list(range(1, 200, 2))


def test_what_is_no_longer_kept_is_left_out_and_a_page_of_another_run_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_page, "_KEPT", 10)
    log = WatchLog(None, 0.5)
    live = Live(log, FACTS)
    assert live.since(0, 0)[0]["newest"] is None
    for k in range(25):
        live.show(judged(k, k * NS, 0.1, log))
    for asked, first in ((0, 15), (12, 15), (20, 20), (25, 25), (99, 15)):
        facts, arrays = live.since(asked, 0)
        assert (facts["first"], facts["frames"], facts["start_ns"]) == (first, 25, str(15 * NS))
        assert arrays["seconds"].tolist() == [k - 15 for k in range(first, 25)]
    assert live.is_watched
    assert "lost_seconds" in facts


def test_alarms_with_their_hold_time() -> None:
    log = WatchLog(None, 0.6)
    live = Live(log, FACTS)
    for second, score in enumerate((0.1, 0.7, 0.9, 0.6, 0.1, 0.1, 0.8)):
        live.show(judged(second, second * NS, score, log))
        if second == 3:  # the hold time has not passed
            assert live.since(0, 0)[0]["alarm"] == {"start_ns": str(NS), "end_ns": str(2 * NS), "peak": 0.9}
    facts, _ = live.since(0, 0)
    assert (facts["threshold"], facts["hold_seconds"]) == (0.6, 2.0)
    assert facts["past"] == [{"start_ns": str(NS), "end_ns": str(2 * NS), "peak": 0.9}]
    assert facts["alarm"]["start_ns"] == str(6 * NS)
    log.finish()
    assert len(live.since(0, 0)[0]["past"]) == 2


class Watching(Studio):
    """A running `fmfbench watch`."""

    def __init__(self, *arguments: object) -> None:
        self.start("watch", *map(str, arguments), OMP_NUM_THREADS="1")


@pytest.fixture
def watching(recording, run, tmp_path) -> Iterator[Watching]:
    video, table = recording
    running = Watching(
        run, "--video", video, "--current", table, "--out", tmp_path / "log", "--pace", "--threshold", "0.4"
    )
    yield running
    running.stop(signal.SIGKILL)


@contextmanager
def served(live: Live) -> Iterator[str]:
    told: list[str] = []
    with (
        listen("127.0.0.1", 0) as bound,
        serving(make_watch_app(live), bound, "127.0.0.1", "watch", told.append, False),
    ):
        yield told[0].removeprefix("watch: ")


@contextmanager
def opened(browser: Any, url: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1024, "height": 768})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert not problems


CANVAS = """() => { const c = document.getElementById('video');
  const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  let text = '';
  for (let i = 0; i < data.length; i += 4) text += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
  return [document.getElementById('newest').innerText, btoa(text)]; }"""


def test_a_file_on_the_page(browser: Any, recording, run, store, tmp_path) -> None:
    """Every frame of the file, judged once a page looks; the canvas holds the frame that the numbers are of."""
    frames = fmfbench.open_dataset(store).recordings["run"]
    torch.set_num_threads(1)
    detector = Detector(run)
    log = WatchLog(tmp_path / "log", 0.4)
    live = Live(log, {**FACTS, "live": False})
    with served(live) as url, opened(browser, url) as page:
        until(page, "document.getElementById('running').textContent.startsWith('waiting')")
        watch_file(detector, *recording, options_of(detector.model), log, show=live.show)
        log.finish()
        live.end()
        until(page, "document.getElementById('running').textContent === 'ended'")
        words, pixels = page.evaluate(CANVAS)
        assert "Frames scored above 0.4 are abnormal" in page.locator("#rule").inner_text()
        summary = page.locator("#summary").inner_text()
    number = int(words.split()[words.split().index("frame") + 1])
    assert number == frames.num_frames - 1
    assert base64.b64decode(pixels) == frames.read_video(number, number + 1).tobytes()
    entries = [json.loads(line) for line in (tmp_path / "log" / "frames.jsonl").read_text().splitlines()]
    assert f"{entries[-1]['score']:.4f}" in words
    abnormal = sum(entry["abnormal"] for entry in entries)
    assert summary == f"{len(entries)} frames judged, {abnormal} abnormal; alarms that ended: {log.alarms}"
    _, arrays = live.since(0, 0)
    assert np.allclose(arrays["score"], [entry["score"] for entry in entries])
    assert np.array_equal(arrays["current"], frames.current[: len(arrays["current"])], equal_nan=True)
    log.close()


def test_a_file_that_somebody_looks_at_stays(recording, run) -> None:
    video, table = recording
    watching = Watching(run, "--video", video, "--current", table)
    try:
        end = time.monotonic() + 120
        while not unpack(watching.ask("/api/live?frames=0&rows=0")[2])[0]["ended"]:
            assert time.monotonic() < end
            time.sleep(0.5)
        time.sleep(1)
        facts, arrays = unpack(watching.ask("/api/live?frames=0&rows=0")[2])
        assert facts["frames"] == len(arrays["score"]) == 300
        assert watching.process.poll() is None  # for as long as somebody looks
        assert watching.process.wait(timeout=30) == 0
    finally:
        watching.stop(signal.SIGKILL)


def test_nobody_else_may_look(watching: Watching) -> None:
    assert watching.ask("/api/live")[0] == 200
    for headers in (
        {"Cookie": "x=y"},
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    ):
        for path in ("/", "/api/live", "/assets/watch.js"):
            assert watching.ask(path, **headers)[0] == 403, headers
    for path in ("/api/live?frames=-1", "/api/live?rows=x", "/api/live?frames=99999999999999999999"):
        assert watching.error(path)[0] == 400
    assert watching.ask("/api/live", {"a": 1})[0] == 405  # it changes nothing
    assert watching.ask("/assets/%2e%2e/api.py")[0] == 404
    assert watching.stop(signal.SIGINT) == 0


def test_a_file_that_nobody_looks_at_ends_by_itself(recording, run, tmp_path) -> None:
    video, table = recording
    words = ["watch", run, "--video", video, "--current", table, "--out", tmp_path / "log", "--no-browser"]
    done = call(*words)
    first, last = done.stdout.splitlines()
    assert first.startswith("watch: http://127.0.0.1:")
    assert last.startswith("300 frames judged")


def test_a_lost_camera_and_currents_that_stop_are_said(browser: Any, run, tmp_path) -> None:
    """A camera that is lost and comes back, currents that never arrive: on the page while it lasts, and no longer."""
    there = threading.Event()
    there.set()
    done: list[bool] = []

    def frames() -> Iterator[np.ndarray]:
        while there.is_set() and not done:
            time.sleep(0.04)
            yield np.full((16, 24, 3), 90, np.uint8)
        raise OSError("<i>no route</i>")

    log = WatchLog(tmp_path / "log", 0.5, append=True)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        live.say(text)

    camera = Camera(frames, say)
    live = Live(log, FACTS, camera)
    nothing = open(tmp_path / "nothing.csv", "w+")  # noqa: SIM115
    rows = Rows(nothing, say, follow=True)
    rows.start()
    camera.start()
    keywords = {"say": say, "show": live.show, "ended": lambda: bool(done)}
    thread = threading.Thread(target=watch_camera, args=(Detector(run), camera, rows, log), kwargs=keywords)
    thread.start()
    try:
        with served(live) as url, opened(browser, url) as page:
            banner = "document.getElementById('banner')"
            until(page, f"{banner}.textContent.includes('No current arrives')", seconds=30)
            there.clear()
            until(page, f"{banner}.textContent.includes('The camera is lost')")
            assert page.locator("#running").inner_text() == "camera lost"
            assert "<i>no route</i>" in page.locator("#remarks").inner_text()  # text, never markup
            assert "<b>m</b> on <img src=x" in page.locator("#source").inner_text()
            there.set()
            until(page, f"!{banner}.textContent.includes('The camera is lost')", seconds=30)
            until(page, "document.getElementById('running').textContent === 'running'")
    finally:
        done.append(True)
        thread.join(timeout=30)
        camera.stop()
        rows.stop()
        log.close()
        nothing.close()
    assert any(text.startswith("the camera is back") for text in said)


def test_without_the_packages_of_the_page_it_is_said(recording, run, monkeypatch) -> None:
    video, table = recording
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    words = ["watch", str(run), "--video", str(video), "--current", str(table)]
    done = call(*words, code=1)
    assert "--headless" in done.stderr
    assert Path(video).exists()
