"""The paper's tables made again: every model, kills at any point, failures shown, simulated data called so."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fmfbench_cli.main import main

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import read_predictions
from fmfbench.furnace.simulate import simulate
from fmfbench.scoring.score import score
from fmfbench_models import create_model, list_models, load_checkpoint
from fmfbench_models.registry import registration
from fmfbench_models.reproduce import TABLES, document, plan, preset_names, reproduce, work
from fmfbench_models.reproduce.experiment import (
    load_experiment,
    load_preset,
    load_training,
    training_options,
    variant_of,
)
from fmfbench_models.reproduce.workplace import Stopwatch, write_json
from fmfbench_models.training.runlog import read_log
from fmfbench_models.zoo.itransformer import ITransformer

TINY = {"preset": "tiny", "device": "cpu"}
SIZE = "tiny-1ep"


@pytest.fixture(scope="module")
def sim_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim")
    simulate(folder / "furnace", preset="tiny", seed=3)
    return fmfbench.convert(folder / "furnace", folder / "furnace.zarr")


@pytest.fixture(scope="module")
def everything(sim_store, tmp_path_factory):
    """Table II, all of it, by the command; (folder, what it printed)."""
    out = tmp_path_factory.mktemp("tables") / "out"
    arguments = [
        "reproduce",
        "table2",
        "--data",
        sim_store,
        "--out",
        out,
        "--preset",
        "tiny",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return out, done.stdout


def rows_of(found):
    return {row["name"]: row for row in found["rows"]}


def figures(found, names):
    rows = rows_of(found)
    return {name: (rows[name]["status"], rows[name]["metrics"]) for name in names}


# --- the tables' files


def test_every_file_of_a_table_can_be_read_and_names_what_exists():
    for name in TABLES:
        experiment = load_experiment(name)
        assert len({row.name for row in experiment.rows}) == len(experiment.rows) > 2
        assert len({row.slug({}) for row in experiment.rows}) == len(experiment.rows)
        for row in experiment.rows:
            assert set(row.paper) <= set(experiment.metrics)
            assert set(row.doubtful) <= set(row.paper)
    assert [load_preset(name).name for name in preset_names()] == ["full", "nano", "tiny"]
    assert {len(row.fuse) for name in TABLES for row in load_experiment(name).rows} == {0, 2}


def implied(acc, fdr, mdr):
    """F1 from the other three, by way of the share of abnormal samples that they decide."""
    p = (1 - acc - fdr) / (mdr - fdr)
    return 2 * p * (1 - mdr) / (2 * p * (1 - mdr) + (1 - p) * fdr + p * mdr)


def test_the_papers_figures_agree_with_each_other_but_where_they_are_marked():
    share = 0.5285
    wrong = set()
    for row in load_experiment("table2").rows:
        if not row.paper:
            continue
        acc, f1, fdr, mdr = (row.paper[name] for name in ("accuracy", "f1", "fdr", "mdr"))
        accuracy = 1 - share * mdr - (1 - share) * fdr
        hits = share * (1 - mdr)
        harmonic = 2 * hits / (2 * hits + (1 - share) * fdr + share * mdr)
        if abs(accuracy - acc) > 0.0012 or abs(harmonic - f1) > 0.002:
            wrong.add(row.name)
    marked = {row.name for row in load_experiment("table2").rows if row.doubtful}
    assert wrong == marked == {"expert", "dcnn_svm", "ssfeggan"}
    for name in ("dcnn_svm", "ssfeggan"):
        (row,) = [row for row in load_experiment("table2").rows if row.name == name]
        told = float(row.doubtful["f1"].split()[-1])
        assert implied(*(row.paper[key] for key in ("accuracy", "fdr", "mdr"))) == pytest.approx(
            told, abs=0.002
        )


def test_the_same_model_has_the_same_figures_in_all_of_the_papers_tables():
    seen = {}
    for name in TABLES:
        for row in load_experiment(name).rows:
            for metric, value in row.paper.items():
                if metric not in row.doubtful:
                    assert seen.setdefault((row.slug({}), metric), value) == value
    assert len(seen) > 90


def test_recipes_shrink_in_proportion_and_the_variant_leaves_sizes_to_the_data():
    full, tiny = load_preset("full"), load_preset("tiny")
    assert training_options(load_training("vit"), full, 30) == {"epochs": 30, "lr_steps": [20]}
    assert training_options(load_training("vit"), full, 6) == {"epochs": 6, "lr_steps": [4]}
    assert training_options(load_training("vit"), full, 1)["lr_steps"] == [1]
    options = training_options(load_training("fmformer-visual"), tiny, 1)
    assert options["modality"] == "visual"
    assert options["dim"] == registration("fmformer").tiny["dim"]
    assert not {"size", "num_frames", "current_length"} & set(options)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("size", preset_names())
def test_a_preset_changes_sizes_and_never_what_a_model_takes_and_gives(name, size):
    record = registration(name)
    _, config = variant_of(record, load_preset(size))
    sizes = {"num_frames": 4, "size": [24, 32]} if size == "tiny" else {}
    sizes = {key: value for key, value in sizes.items() if key in vars(record.config())}
    with torch.device("meta"):
        model = create_model(name, **sizes, **config)
    assert (model.modality, model.dense) == (record.modality, record.dense)
    usual = record.config()
    for key in ("class_task", "dense_task", "variant", "interaction", "fusion", "block"):
        assert getattr(model.config, key, None) == getattr(usual, key, None)


# --- all of Table II


def test_table2_has_every_model_and_none_has_failed(everything):
    found = json.loads((everything[0] / f"table2-{SIZE}.json").read_text())
    rows = rows_of(found)
    assert {name for row in rows.values() for name in row["models"]} >= set(list_models())
    for row in rows.values():
        present = set(row["models"]) <= set(list_models())
        assert row["status"] == ("done" if present else "not available"), row
        if present:
            assert row["parameters"] > 0 or row["models"] == ["expert"]
            assert row["metrics"]["accuracy"]["value"] is not None
            assert row["train_seconds"] > 0
            assert row["worst_recording"]["recording"] in found["data"]["recordings"]
    assert rows["fmformer"]["metrics"]["miou"]["value"] is not None
    assert rows["informer"]["metrics"]["miou"]["value"] is None
    with_trunk = {name for name, row in rows.items() if row["backbone"]}
    assert with_trunk == {"clipbert", "bilm", "st_mae"}
    assert rows["bilm"]["backbone"] == "ResNet18, first weights drawn at random"
    assert rows["st_mae"]["backbone"] == "Vgg19, first weights drawn at random"


def test_a_rows_figures_are_those_of_its_prediction_file(everything, sim_store):
    out, _ = everything
    found = rows_of(json.loads((out / f"table2-{SIZE}.json").read_text()))["vit"]
    run = out / "runs" / SIZE / "vit" / "seed0"
    apart = score(out / "predictions" / SIZE / "vit-seed0.npz", sim_store)
    assert {name: cell["value"] for name, cell in found["metrics"].items()} == apart.metrics
    assert found["parameters"] == load_checkpoint(run).num_parameters()
    low = min(value["metrics"]["accuracy"] for value in apart.evidence.recordings.values())
    assert found["worst_recording"]["accuracy"] == low


def test_what_is_simulated_is_called_so_wherever_a_figure_stands(everything):
    out, printed = everything
    assert printed == (out / f"table2-{SIZE}.md").read_text() + "\n"
    title, _, notice = printed.splitlines()[:3]
    assert "FMF-Sim, simulated" in title
    assert notice.startswith("**SIMULATED DATA")
    head = next(line for line in printed.splitlines() if line.startswith("| method"))
    assert head.count("FMF-Sim |") + head.count("FMF-Sim  ") >= 1
    for cell in head.split("|"):
        if cell.strip().startswith(("Acc", "F1", "FDR", "MDR", "mIoU")):
            assert cell.strip().endswith(("FMF-Sim", "paper, real data"))
    found = json.loads((out / f"table2-{SIZE}.json").read_text())
    assert found["data"]["simulated"] is True
    assert "FMF-Sim" in found["measured_on"]
    assert "[1] Expert system, MDR in the paper: the same figure as Informer's" in printed
    assert "Expert system (r)" in printed


def test_a_second_call_does_nothing_again_and_other_tables_share_its_runs(everything, sim_store):
    out, _ = everything
    files = [path for path in out.rglob("*") if path.is_file() and "table" not in path.name]
    before = {path: path.stat().st_mtime_ns for path in files}
    reproduce("table2", sim_store, out, **TINY)
    found = rows_of(reproduce("table4", sim_store, out, **TINY))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row["status"] for row in found.values()] == ["done"] * 3
    visual, current, both = (read_predictions(out / "predictions" / SIZE / f"{name}-seed0.npz") for name in (
        "fmformer-visual", "fmformer-current", "fmformer-visual--fmformer-current"))  # fmt: skip

    def logit(scores):
        scores = scores.astype(np.float64)
        return np.log(scores / (1 - scores))

    np.testing.assert_allclose(logit(both.score), logit(visual.score) + logit(current.score), atol=1e-4)
    counts = {name: row["parameters"] for name, row in found.items()}
    assert counts["linear-fusion"] == counts["fmformer-visual"] + counts["fmformer-current"]


def test_table5_has_a_model_trained_without_linear_fusion(everything, sim_store):
    """Row 3 is a training of its own, not row 4 with a head cut off; row 1 adds the logits of two trained models."""
    out, _ = everything
    found = rows_of(reproduce("table5", sim_store, out, **TINY))
    assert {row["status"] for row in found.values()} == {"done"}
    runs = out / "runs" / SIZE
    facts = json.loads((runs / "fmformer-video-head" / "seed0" / "run.json").read_text())
    assert (facts["config"]["fusion"], facts["config"]["interaction"]) == ("v_only", "both")
    one, other = (
        load_checkpoint(runs / name / "seed0").state_dict() for name in ("fmformer", "fmformer-video-head")
    )
    assert one.keys() == other.keys()
    assert not torch.equal(one["video.position"], other["video.position"])
    masks = {
        name: unpack_masks(read.mask_bits, read.mask_shape)
        for name in ("fmformer-visual", "fmformer-visual--fmformer-current")
        if (read := read_predictions(out / "predictions" / SIZE / f"{name}-seed0.npz"))
    }
    np.testing.assert_array_equal(masks["fmformer-visual"], masks["fmformer-visual--fmformer-current"])
    assert (
        "the last epoch is scored, as in the paper (--no-validate)" in (out / f"table5-{SIZE}.md").read_text()
    )


def test_fig6_predicts_on_other_windows_with_the_same_weights(everything, sim_store):
    out, _ = everything
    found = reproduce("fig6", sim_store, out, models=["video-2", "current-60"], **TINY)
    rows = rows_of(found)
    assert rows["video-2"]["status"] == rows["current-60"]["status"] == "done"
    assert rows["video-20"]["status"] == "not asked for"
    metas = [
        read_predictions(out / "predictions" / SIZE / f"fmformer--{name}-seed0.npz").meta["protocol_fields"]
        for name in ("num_frames-2", "current_seconds-60.0")
    ]
    assert [(meta["num_frames"], meta["current_seconds"]) for meta in metas] == [(2, 20.0), (4, 60.0)]
    text = (out / f"fig6-{SIZE}.md").read_text()
    assert "plot without figures" in text
    assert "paper, real" not in next(line for line in text.splitlines() if line.startswith("| method"))
    assert rows["video-2"]["length"] == {"of": "video", "seconds": 0.16}
    assert rows["current-60"]["length"] == {"of": "current", "seconds": 60.0}
    assert found["trained_lengths"] == {"video": 0.48, "current": 20.0}
    assert f"](fig6-{SIZE}.png)" in text
    assert (out / f"fig6-{SIZE}.png").read_bytes()[:4] == b"\x89PNG"
    assert not (out / f"table2-{SIZE}.png").exists()


# --- stores that are too big


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


# --- kills


NAMES = ["itransformer", "fmformer-current"]


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


# --- failures


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
    assert step["state"].endswith("holds a run with other recipe")
    found = rows_of(reproduce("table2", sim_store, out, models=["itransformer"], **TINY))["itransformer"]
    assert found["status"] == "failed"
    assert "holds a run with other recipe" in found["errors"]["0"]


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


# --- data that is not simulated, seeds, plans, what is refused


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
    names = ["vit", "expert", "fmformer-current"]
    steps = {step["row"]: step for step in plan("table2", sim_store, out, models=names, **TINY)["steps"]}
    assert not out.exists()
    assert set(steps) == set(names)
    assert all(step["state"] == "to do" and step["estimated_seconds"] > 0 for step in steps.values())
    reproduce("table2", sim_store, out, models=["vit"], **TINY)
    log = read_log(out / "runs" / SIZE / "vit" / "seed0" / "log.jsonl")
    assert log[-1]["step"] == steps["vit"]["steps"] > 0
    with_size = {"num_frames": 4, "size": [24, 32]}
    tiny = {**registration("vit").tiny, **with_size}
    assert steps["vit"]["parameters"] == create_model("vit", **tiny).num_parameters()
    arguments = [
        "table2",
        "--data",
        sim_store,
        "--out",
        out,
        "--preset",
        "tiny",
        "--dry-run",
        "--models",
        "vit,bilm",
    ]
    done = CliRunner().invoke(main, ["reproduce", *map(str, arguments), "--device", "cpu"])
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
    assert registration("ssfeggan").recipe["lr"] == 2e-4
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
