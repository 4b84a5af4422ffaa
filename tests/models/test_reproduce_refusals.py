"""Failures; Data that is not simulated, seeds, plans, what is refused.

Also tests fmfbench_models.reproduce: document, estimate, experiment, table.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest_reproduce import NAMES, SIZE, TINY, rows_of
from conftest_run import invoke
from fmfbench_cli.main import main

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench_models import create_model, load_checkpoint
from fmfbench_models.registry import registration
from fmfbench_models.reproduce import document, plan, reproduce, work
from fmfbench_models.reproduce.experiment import (
    load_preset,
    load_training,
    training_options,
)
from fmfbench_models.reproduce.workplace import write_json
from fmfbench_models.training.runlog import read_log
from fmfbench_models.zoo.itransformer import ITransformer


def test_a_failed_model_is_shown_with_its_reason_and_tried_again(sim_store, tmp_path, monkeypatch):
    def broken(self, video=None, current=None):
        raise RuntimeError("a wire\nis loose")

    arguments = ["reproduce", "table2", "--data", sim_store, "--out", tmp_path / "out", "--preset", "tiny"]
    arguments = [*map(str, arguments), "--device", "cpu", "--models", ",".join(NAMES)]
    with monkeypatch.context() as patch:
        patch.setattr(ITransformer, "forward", broken)
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "1 rows failed (itransformer)" in done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| iTransformer"))
    assert row.count("FAILED") == 5
    assert "FAILED: iTransformer (itransformer), seed 0: a wire is loose" in done.stdout
    found = rows_of(json.loads((tmp_path / "out" / f"table2-{SIZE}.json").read_text()))
    assert (found["itransformer"]["status"], found["fmformer-current"]["status"]) == ("failed", "done")
    assert len(found) >= 18
    assert CliRunner().invoke(main, arguments).exit_code == 0


@pytest.mark.parametrize(
    ("when", "does", "told"),
    [
        ("training", "memory", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("training", "host memory", "MemoryError: 3 GiB"),
        ("training", "nan", "the loss is not finite at epoch 1, step 1 (loss nan"),
        ("prediction", "memory", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("prediction", "nan", "scores are NaN"),
    ],
)
def test_a_row_without_memory_or_with_nan_fails_alone(when, does, told, sim_store, tmp_path, monkeypatch):
    real = ITransformer.forward

    def breaks(self, video=None, current=None):
        output = real(self, video, current)
        if self.training != (when == "training") or (when == "prediction" and len(output.logits) < 60):
            return output  # validation goes in batches of 16
        if does == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")
        if does == "host memory":
            raise MemoryError("3 GiB")
        return type(output)(output.logits * math.nan)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ITransformer, "forward", breaks)
        found = rows_of(reproduce("table2", sim_store, out, models=NAMES, **TINY))
    assert [found[name]["status"] for name in NAMES] == ["failed", "done"]
    assert told in found["itransformer"]["errors"]["0"]
    assert "\n" not in found["itransformer"]["errors"]["0"]
    again = rows_of(reproduce("table2", sim_store, out, models=NAMES, **TINY))
    assert [again[name]["status"] for name in NAMES] == ["done", "done"]


def test_a_training_that_fails_is_not_repeated_for_each_row_that_needs_it(sim_store, tmp_path, monkeypatch):
    calls = []

    def refuses(model, data, out, **keywords):
        calls.append((model, out.parent.name))
        raise RuntimeError("no")

    monkeypatch.setattr(work, "train", refuses)
    found = reproduce("table4", sim_store, tmp_path / "out", **TINY)
    assert [row["status"] for row in found["rows"]] == ["failed"] * 3
    assert [name for _, name in calls] == ["fmformer-visual", "fmformer-current"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_with_another_recipes_run_fails_that_row_and_says_so(
    finished, sim_store, tmp_path, monkeypatch
):
    """A finished one too: its model is not the one that the table would say it is."""
    out = tmp_path / "out"
    reproduce("table2", sim_store, out, models=["itransformer"], **TINY)
    other = load_preset("tiny")
    monkeypatch.setattr("fmfbench_models.reproduce.table.load_preset", lambda name: type(other)(
        **{**vars(other), "options": {"every": 16, "batch_size": 8}}))  # fmt: skip
    run = out / "runs" / SIZE / "itransformer" / "seed0" / "run.json"
    facts = json.loads(run.read_text())
    write_json(run, facts | {"finished": finished})
    (step,) = plan("table2", sim_store, out, models=["itransformer"], **TINY)["steps"]
    assert step["state"].endswith("got one with other recipe")
    found = rows_of(reproduce("table2", sim_store, out, models=["itransformer"], **TINY))["itransformer"]
    assert found["status"] == "failed"
    assert "got one with other recipe" in found["errors"]["0"]


def test_work_of_before_a_key_of_the_recipe_was_there_is_still_done(sim_store, tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = reproduce("table2", sim_store, out, models=["itransformer"], **TINY)
    run = out / "runs" / SIZE / "itransformer" / "seed0" / "run.json"
    result = out / "results" / SIZE / "itransformer-seed0.json"
    monkeypatch.setattr(work, "train", None)
    monkeypatch.setattr(work, "predict", None)
    later = {
        "shift": 0,
        "validate_every": 1,
        "current_jitter": 0.0,
        "shuffle_phases": False,
    }
    for change in (later, {}):
        facts, job = json.loads(run.read_text()), json.loads(result.read_text())
        plain = {key: value for key, value in facts["recipe"].items() if key not in later}
        write_json(run, facts | {"recipe": plain | change})
        job["job"]["trainings"][0]["recipe"] = plain | change
        write_json(result, job)
        assert reproduce("table2", sim_store, out, models=["itransformer"], **TINY) == before


def test_a_store_of_other_recordings_is_not_called_simulated(furnace_store, tmp_path):
    found = reproduce("table2", furnace_store, tmp_path / "out", models=["expert"], **TINY)
    text = (tmp_path / "out" / f"table2-{SIZE}.md").read_text()
    assert found["data"]["simulated"] is False
    assert "FMF-Sim" not in text
    assert "Acc, ours" in text
    assert rows_of(found)["expert"]["status"] == "done"


def test_several_seeds_are_averaged_and_their_intervals_spanned():
    def of(value, low, high):
        return {"metrics": {"f1": value}, "intervals": {"f1": {"low": low, "high": high}}}

    one, two = of(0.5, 0.4, 0.7), of(0.7, 0.5, 0.8)
    assert document.joined([one, two], "f1") == {"value": pytest.approx(0.6), "low": 0.4, "high": 0.8}
    assert document.joined([of(None, None, None)], "f1") == {"value": None, "low": None, "high": None}
    assert document.joined([one, of(0.9, None, None)], "f1")["high"] == 0.7


def test_two_seeds_are_two_trainings(sim_store, tmp_path):
    found = reproduce("table2", sim_store, tmp_path / "out", models=["itransformer"], seeds=(0, 5), **TINY)
    row = rows_of(found)["itransformer"]
    values = [seed["metrics"]["accuracy"] for seed in row["per_seed"].values()]
    assert row["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(values))
    runs = tmp_path / "out" / "runs" / SIZE / "itransformer"
    weights = [load_checkpoint(runs / f"seed{seed}").state_dict()["embed.weight"] for seed in (0, 5)]
    assert not np.allclose(*weights)


def test_order_is_counted_over_pairs():
    def row(value, paper, low=None, high=None, status="done"):
        return {
            "status": status,
            "metrics": {"f1": {"value": value, "paper": paper, "low": low, "high": high}},
        }

    rows = [
        row(0.9, 0.8, 0.85, 0.95),
        row(0.5, 0.7, 0.4, 0.6),
        row(0.7, 0.6, 0.55, 0.75),
        row(0.1, 0.9, status="failed"),
    ]
    counts = document.ordering([*rows, row(0.2, None)], "f1")
    assert counts == {"rows": 3, "pairs": 3, "same": 2, "apart": 2, "apart_same": 2}
    assert document.ordering(rows[:1], "f1") is None


def test_a_dry_run_writes_nothing_and_counts_the_steps_that_training_takes(sim_store, tmp_path):
    out = tmp_path / "out"
    names = ["vit", "expert", "fmformer-current", "st_mae"]
    steps = {step["row"]: step for step in plan("table2", sim_store, out, models=names, **TINY)["steps"]}
    assert not out.exists()
    assert set(steps) == set(names)
    assert all(step["state"] == "to do" and step["estimated_seconds"] > 0 for step in steps.values())
    reproduce("table2", sim_store, out, models=["vit", "st_mae"], **TINY)
    for name in ("vit", "st_mae"):  # the second learns from normal windows alone
        log = read_log(out / "runs" / SIZE / name / "seed0" / "log.jsonl")
        assert log[-1]["step"] == steps[name]["steps"] > 0
    assert steps["st_mae"]["steps"] < steps["vit"]["steps"]
    with_size = {"num_frames": 4, "size": [24, 32]}
    tiny = {**registration("vit").tiny, **with_size}
    assert steps["vit"]["parameters"] == create_model("vit", **tiny).num_parameters()
    tiny = ["--preset", "tiny", "--models", "vit,bilm", "--device", "cpu"]
    done = invoke("reproduce", "table2", "--data", sim_store, "--out", out, "--dry-run", *tiny)
    assert done.exit_code == 0, done.output
    assert "FMF-Sim, simulated" in done.stdout
    assert [line.split("|")[3].strip() for line in done.stdout.splitlines() if line.startswith("| vit")] == [
        "done"
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": "table9"}, "expected one of table2"),
        ({"preset": "huge"}, "expected a preset of full, nano, tiny, got 'huge'"),
        ({"models": ["vit", "resnet"]}, "got resnet"),
        ({"seeds": ()}, "expected different integers"),
        ({"seeds": (1, 1)}, "expected different integers"),
        ({"seeds": (-1,)}, "expected different integers"),
        ({"epochs": 0}, "epochs: expected 1 or more, got 0"),
        ({"every": 0}, "every: expected 1 or more, got 0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(changed, message, sim_store, tmp_path):
    arguments = {"table": "table2", "data": sim_store, "out": tmp_path / "out", **TINY, **changed}
    for call in (reproduce, plan):
        with pytest.raises(InputError, match=message):
            call(**arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_belongs_to_one_data_set(sim_store, furnace_store, tmp_path):
    reproduce("table2", sim_store, tmp_path / "out", models=["expert"], **TINY)
    with pytest.raises(InputError, match="choose another folder"):
        reproduce("table2", furnace_store, tmp_path / "out", models=["expert"], **TINY)
    mark = tmp_path / "out" / "reproduce.json"
    facts = json.loads(mark.read_text())
    mark.write_text(json.dumps(facts | {"sources": "0" * 64}))
    with pytest.raises(InputError, match="the same labels and other frames or currents"):
        reproduce("table2", sim_store, tmp_path / "out", models=["expert"], **TINY)
    del facts["sources"]  # a folder of before this was kept
    mark.write_text(json.dumps(facts))
    reproduce("table2", sim_store, tmp_path / "out", models=["expert"], **TINY)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="got other files"):
        reproduce("table2", sim_store, tmp_path / "mine", models=["expert"], **TINY)


def test_seeds_that_are_no_integers_are_bad_input(sim_store, tmp_path):
    arguments = [
        "reproduce",
        "table2",
        "--data",
        str(sim_store),
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "0,one",
    ]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stderr) == (
        2,
        "Error: --seeds: expected integers with commas between, got '0,one'\n",
    )


def test_shared_recipe_of_a_preset_spares_models_with_their_own():
    preset = load_preset("nano")
    assert preset.recipe == {"lr": 1e-3}
    assert training_options(load_training("vit"), preset, 1)["lr"] == 1e-3
    assert "lr" in registration("ssfeggan").recipe
    assert "lr" not in training_options(load_training("ssfeggan"), preset, 1)
    assert "lr" not in training_options(load_training("vit"), load_preset("full"), 30)


def test_per_second_rows_have_files_and_figures_of_their_own(sim_store, tmp_path):
    every_frame = reproduce("table2", sim_store, tmp_path / "out", models=["itransformer"], **TINY)
    per_second = reproduce(
        "table2", sim_store, tmp_path / "out", models=["itransformer"], per_second=True, **TINY
    )
    data = fmfbench.open_dataset(sim_store)
    ids = data.sample_ids("test")
    recording, frame = data.locate(ids)
    second = [
        list(data.recordings.values())[r].frame_time[f] // 10**9
        for r, f in zip(recording, frame, strict=True)
    ]
    last = {(r, s): i for i, r, s in zip(ids.tolist(), recording.tolist(), second, strict=True)}
    folder = tmp_path / "out" / "predictions"
    (whole,) = folder.glob("tiny-1ep/*.npz")
    (thin,) = folder.glob("tiny-1ep-per-second/*.npz")
    assert read_predictions(thin).sample_id.tolist() == sorted(last.values())
    assert read_predictions(whole).sample_id.tolist() == ids.tolist()
    assert 1 < len(last) < len(ids) / 10
    assert per_second["data"]["test_samples"] == len(last)
    assert "scored once a second" in per_second["title"]
    assert "scored once a second" not in every_frame["title"]
    assert len(list((tmp_path / "out").glob("runs/*/itransformer/seed0"))) == 1  # trained once for both
    assert (tmp_path / "out" / "table2-tiny-1ep-per-second.md").is_file()
    with pytest.raises(Exception, match="per-second"):
        score(thin, data)
