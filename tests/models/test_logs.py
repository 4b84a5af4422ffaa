"""The log as a table and as event files: what log.jsonl says, once, whatever was interrupted."""

from __future__ import annotations

import csv
import sys

import pytest
from conftest_run import call

from fmfbench.errors import InputError, MissingDependencyError, TrainingError
from fmfbench_models.training.logs import check_logs
from fmfbench_models.training.runlog import read_log
from fmfbench_models.training.train import _Run, train

ASKED = {"epochs": 2, "batch_size": 8, "every": 6, "validate": False}


def scalars(run):
    """{tag: [(step, value), ...]} of the event files, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_both_say_what_the_log_says_after_an_interruption(furnace_store, options, tmp_path, monkeypatch):
    check, broken = _Run._check, []

    def breaks(run, values, batch):
        if run.place.epoch == 1 and not broken:
            broken.append(run.place.number)
            raise TrainingError("broken off")
        check(run, values, batch)

    monkeypatch.setattr(_Run, "_check", breaks)
    call = {"options": {**options, **ASKED}, "device": "cpu", "logs": ("csv", "tensorboard")}
    with pytest.raises(TrainingError, match="broken off"):
        train("fmformer", furnace_store, tmp_path / "run", **call)
    run = train("fmformer", furnace_store, tmp_path / "run", **call)
    lines = read_log(run / "log.jsonl")
    with (run / "log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert {key: value for key, value in row.items() if value} == {
            key: str(value) for key, value in line.items() if value is not None
        }
    found = scalars(run)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [step for step, _ in found["epoch/loss"]] == [line["step"] for line in epochs]
    assert [value for _, value in found["epoch/loss"]] == pytest.approx([line["loss"] for line in epochs])
    steps = [line["step"] for line in lines if line["kind"] == "step"]
    assert [step for step, _ in found["step/loss"]] == steps


def test_a_finished_run_gets_its_table_later(furnace_store, options, tmp_path):
    asked = {"options": {**options, **ASKED, "epochs": 1}, "device": "cpu"}
    run = train("fmformer", furnace_store, tmp_path / "run", **asked)
    assert not (run / "log.csv").exists()
    assert not (run / "tensorboard").exists()
    train("fmformer", furnace_store, run, logs=["csv"], **asked)
    assert (run / "log.csv").read_text().startswith("kind,")


def test_what_cannot_be_logged_is_refused(furnace_store, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="log: expected one of csv, tensorboard, got 'tsv'"):
        check_logs(["csv", "tsv"])
    with pytest.raises(InputError, match="log: expected a model that gradients train"):
        train("boosting", furnace_store, tmp_path / "run", logs=["csv"], options={"validate": False})
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fmfbench\[tensorboard\]'"):
        check_logs(["tensorboard"])
    done = call("train", "fmformer", "--data", furnace_store, "-o", tmp_path / "r", "--log", "tsv", code=2)
    assert "is not one of 'csv', 'tensorboard'" in done.stderr
