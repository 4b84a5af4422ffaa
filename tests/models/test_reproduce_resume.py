"""Stores that are too big; Kills.

Also tests fmfbench_models.reproduce: work, workplace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from conftest_reproduce import NAMES, SIZE, TINY, figures, rows_of

import fmfbench
from fmfbench_models.reproduce import plan, reproduce, work
from fmfbench_models.reproduce.workplace import Stopwatch, write_json
from fmfbench_models.training.runlog import read_log


def test_thinned_training_is_another_size_and_said_in_title_notes_and_folder(sim_store, tmp_path):
    out = tmp_path / "out"
    found = reproduce("table2", sim_store, out, models=["itransformer"], every=3, **TINY)
    facts = json.loads((out / "runs" / f"{SIZE}-every3" / "itransformer" / "seed0" / "run.json").read_text())
    assert (facts["recipe"]["every"], facts["recipe"]["validate_every"]) == (3, 3)
    text = (out / f"table2-{SIZE}-every3.md").read_text()
    assert "trained on one training sample in 3, store" in text.splitlines()[0]
    assert "epochs, one training sample in 3, protocol" in text
    assert found["every"] == 3
    steps = {}
    for every in (3, None):
        (step,) = plan("table2", sim_store, tmp_path / "new", models=["itransformer"], every=every, **TINY)[
            "steps"
        ]
        steps[every] = step["steps"]
    fit = fmfbench.open_dataset(sim_store).sample_ids("train")  # --no-validate trains on all of it
    assert steps[3] == len(fit[::3]) // 16 > steps[None] == len(fit[::8]) // 16
    log = read_log(out / "runs" / f"{SIZE}-every3" / "itransformer" / "seed0" / "log.jsonl")
    assert log[-1]["step"] == steps[3]


def test_the_presets_own_thinning_is_the_same_work_whether_said_or_not(sim_store, tmp_path):
    said = reproduce("table2", sim_store, tmp_path / "out", models=["expert"], every=8, **TINY)
    run = tmp_path / "out" / "runs" / SIZE / "expert" / "seed0" / "run.json"
    before = run.stat().st_mtime_ns
    unsaid = reproduce("table2", sim_store, tmp_path / "out", models=["expert"], **TINY)
    assert unsaid == said
    assert run.stat().st_mtime_ns == before
    assert "trained on" not in said["title"]
    assert (
        "epochs, one training sample in 8, protocol" in (tmp_path / "out" / f"table2-{SIZE}.md").read_text()
    )


@pytest.fixture(scope="module")
def undisturbed(sim_store, tmp_path_factory):
    return reproduce("table2", sim_store, tmp_path_factory.mktemp("whole") / "out", models=NAMES, **TINY)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["train", "predict", "score", "write_json"])
def test_a_call_goes_on_after_its_death_at_any_step(
    what, when, sim_store, undisturbed, tmp_path, monkeypatch
):
    """As after a kill: whatever was written stays, nothing is tidied."""
    real, calls = getattr(work, what), []

    def dies(*arguments, **keywords):
        calls.append(arguments)
        if when == "after":
            real(*arguments, **keywords)
        raise SystemExit("dead")

    with monkeypatch.context() as patch:
        patch.setattr(work, what, dies)
        with pytest.raises(SystemExit):
            reproduce("table2", sim_store, tmp_path / "out", models=NAMES, **TINY)
    assert len(calls) == 1
    partial = rows_of(json.loads((tmp_path / "out" / f"table2-{SIZE}.json").read_text()))
    assert [partial[name]["status"] for name in NAMES] == ["to do", "to do"]
    found = reproduce("table2", sim_store, tmp_path / "out", models=NAMES, **TINY)
    assert figures(found, NAMES) == figures(undisturbed, NAMES)


def test_a_killed_process_leaves_what_the_next_call_goes_on_with(sim_store, tmp_path):
    arguments = ["table2", "--data", sim_store, "--preset", "tiny", "--device", "cpu", "--epochs", "4"]
    # As many threads as here: sums of floats depend on it.
    code = "import torch; torch.set_num_threads(1); from fmfbench_cli.main import main; main()"
    start = [sys.executable, "-c", code, "reproduce"]
    command = [*start, *map(str, arguments), "--models", "itransformer"]
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    state = out / "runs" / "tiny-4ep" / "itransformer" / "seed0" / "state.safetensors"
    deadline = time.monotonic() + 120
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert json.loads((state.parent / "run.json").read_text())["finished"] is False
    again = reproduce("table2", sim_store, out, models=["itransformer"], epochs=4, **TINY)
    whole = reproduce("table2", sim_store, tmp_path / "whole", models=["itransformer"], epochs=4, **TINY)
    assert figures(again, ["itransformer"]) == figures(whole, ["itransformer"])
    lines = [read_log(folder / "runs/tiny-4ep/itransformer/seed0/log.jsonl")
             for folder in (out, tmp_path / "whole")]  # fmt: skip
    assert lines[0] == lines[1]


def test_a_call_killed_before_a_run_began_leaves_nothing_in_the_way(sim_store, undisturbed, tmp_path):
    run = tmp_path / "out" / "runs" / SIZE / "itransformer" / "seed0"
    run.mkdir(parents=True)
    (run / ".run.json.tmp").write_text("{")
    write_json(
        tmp_path / "out" / "reproduce.json", {"fingerprint": fmfbench.open_dataset(sim_store).fingerprint}
    )
    left = tmp_path / "out" / "predictions" / SIZE / ".predict-abc"
    left.mkdir(parents=True)
    found = reproduce("table2", sim_store, tmp_path / "out", models=NAMES, **TINY)
    assert figures(found, NAMES) == figures(undisturbed, NAMES)
    assert not left.exists()


def test_time_counts_all_calls_and_a_killed_one_to_its_last_saved_state(tmp_path):
    run = tmp_path / "seed0"
    run.mkdir()
    (run / "state.safetensors").write_bytes(b"")
    os.utime(run / "state.safetensors", (1060, 1060))
    write_json(tmp_path / "seed0.times.json", [{"start": 500, "end": 540}, {"start": 1000, "end": None}])
    assert Stopwatch(run).seconds() == 100
    os.utime(run / "state.safetensors", (900, 900))  # nothing was saved by the killed call
    assert Stopwatch(run).seconds() == 40
    assert Stopwatch(tmp_path / "elsewhere").seconds() is None
