"""A run judges the recording that is shown: scores and masks are those of `predict`, in whatever order they come.

Also tests fmfbench_models.inference: judge.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest_run import call
from conftest_studio import until, wait_for

import fmfbench
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import read_predictions
from fmfbench.studio.bundle import unpack
from fmfbench.studio.judging import Judging, order_of
from fmfbench.studio.library import Library
from fmfbench_models.inference.judge import RunJudge
from fmfbench_models.inference.predict import predict


@pytest.mark.parametrize("seed", range(6))
def test_every_missing_frame_comes_once_and_a_look_at_all_of_it_comes_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    missing = rng.random(int(rng.integers(1, 400))) < rng.choice([0.1, 0.9, 1.0])
    frame = int(rng.integers(len(missing)))
    parts = list(order_of(missing, frame))
    flat = np.concatenate([*parts, np.empty(0, np.int64)]).astype(int)
    assert sorted(flat.tolist()) == np.flatnonzero(missing).tolist()
    assert all((np.diff(part) > 0).all() for part in parts)
    coarse = np.flatnonzero(missing & (np.arange(len(missing)) % 25 == 0))
    assert sorted(flat[: len(coarse)].tolist()) == coarse.tolist()


class Slow:
    """Judges frame f as f / 1000, when it is let go."""

    name, threshold = "slow", 0.5

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.asked: list[np.ndarray] = []

    def __call__(self, data: Any, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.gate.acquire()
        self.asked.append(ids)
        return (ids / 1000).astype(np.float32), np.ones((len(ids), 6, 9), np.uint8)


def test_what_is_judged_is_kept_when_another_recording_is_opened(awkward_store: Path) -> None:
    judge = Slow()
    library = Library(awkward_store, judges=[judge])
    (run,) = library.runs
    assert run.state() == {"recording": None, "done": 0, "total": 0, "error": None}
    first, second = list(library.data.recordings)[:2]
    run.begin(first, 3)
    judge.gate.release()
    wait_for(lambda: run.state()["done"] > 0)
    before = run.state()["done"]
    run.begin(second, 0)
    for _ in range(100):
        judge.gate.release()
    wait_for(lambda: run.state()["recording"] == second and 0 < run.state()["total"] == run.state()["done"])
    entry, arrays = library.verdicts(first, 0)
    assert before <= entry["samples"] < library.recording(first).num_frames
    known = np.flatnonzero(arrays["pred"] != 255)
    assert len(known) == entry["samples"]
    assert np.allclose(arrays["score"][known], (library.recording(first).first_id + known) / 1000)
    masks = library.predicted_masks(first, 0, 0, library.recording(first).num_frames)
    assert (masks[known] == 1).all()
    assert (np.delete(masks, known, axis=0) == 255).all()
    run.stop()


def test_a_model_that_fails_is_said_and_does_not_end_the_studio(awkward_store: Path) -> None:
    class Broken:
        name, threshold = "broken", 0.5

        def __call__(self, data: Any, ids: Any) -> Any:
            raise RuntimeError("no such layer")

    run = Judging(Broken(), lambda: fmfbench.open_dataset(awkward_store))
    run.begin("b-long", 0)
    wait_for(lambda: run.state()["error"] is not None)
    assert "no such layer" in run.state()["error"]
    run.begin("b-long", 5)  # asked again, it tries again
    wait_for(lambda: run.state()["error"] is not None)
    run.stop()


def test_scores_and_masks_are_those_of_predict_and_fill_the_page(look, launch, store, run, tmp_path) -> None:
    found = read_predictions(predict(run, store, tmp_path / "p.npz", split="all", device="cpu"))
    studio = launch(store, "--read-only", "--run", str(run), "--predictions", str(tmp_path / "p.npz"))
    assert studio.json("/api/about")["runs"] == 1
    assert studio.json("/api/pulse")["runs"][0]["recording"] is None  # nothing is judged that nobody looks at
    assert studio.error("/api/judge/run", {"frame": 300})[0] == 400
    assert studio.error("/api/judge/nothing", {"frame": 0})[0] == 404
    assert studio.error("/api/verdicts/run?run=1")[0] == 400
    page = look(studio.url + "#run/140")  # which asks for what it shows
    app = "import('/assets/app.js').then(({ app }) => app.arrays.pred_1.filter((v) => v !== 255).length)"
    until(page, f"{app}.then((n) => n === 300)", seconds=120)
    until(page, "document.querySelector('#part-layers progress') === null")
    assert "(run)" in page.locator("#part-layers").inner_text()
    state = studio.json("/api/pulse")["runs"][0]
    assert state == {"recording": "run", "done": 300, "total": 300, "error": None}
    facts, arrays = unpack(studio.ask("/api/verdicts/run?run=0")[2])
    assert np.abs(arrays["score"] - found.score).max() <= 1e-5
    assert np.ptp(found.score) > 0.01
    sure = np.abs(found.score - 0.5) > 1e-4
    assert np.array_equal(arrays["pred"][sure], found.decision[sure])
    masks = np.frombuffer(studio.ask("/api/predicted/run?file=1")[2], np.uint8).reshape(-1, 16, 24)
    assert (masks != unpack_masks(found.mask_bits, found.mask_shape)).mean() < 1e-3
    assert facts["samples"] == 300
    # the whole of a recording that is opened later comes with it
    facts, arrays = unpack(studio.ask("/api/recordings/run")[2])
    assert facts["predictions"][1]["run"] == 0
    assert np.abs(arrays["score_1"] - arrays["score_0"]).max() <= 1e-5


def test_runs_that_are_none_are_one_line(store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for run in (tmp_path / "nothing", tmp_path / "empty", Path(__file__)):
        done = call("studio", store, "--run", run, "--no-browser", code=2)
        assert done.stderr.count("\n") == 1


def test_the_judge_takes_samples_in_any_part(store, run) -> None:
    judge = RunJudge(run)
    data = fmfbench.open_dataset(store)
    whole, masks = judge(data, np.arange(40))
    some, own = judge(data, np.array([3, 17, 39]))
    assert np.allclose(some, whole[[3, 17, 39]], atol=1e-6)
    assert np.array_equal(own, masks[[3, 17, 39]])
