"""The model card of a run, and what a run says of its training for a board.

Also tests fmfbench_models: model_card.
Also tests fmfbench_models.inference: latency.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from fmfbench_cli.main import main

import fmfbench

pytest.importorskip("torch")

from fmfbench_models import load_checkpoint
from fmfbench_models.inference.latency import frame_latency_ms
from fmfbench_models.inference.predict import predict
from fmfbench_models.training.train import train

ROOT = Path(__file__).parents[2]
SMALL = {"dim": 24, "depth": 1, "epochs": 1, "batch_size": 16, "every": 20, "validate": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> fmfbench.Dataset:
    folder = tmp_path_factory.mktemp("sim")
    fmfbench.simulate(folder / "sim", preset="tiny")
    return fmfbench.open_dataset(fmfbench.convert(folder / "sim", folder / "plant.zarr"))


@pytest.fixture(scope="module")
def run(data: fmfbench.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        "informer", data, tmp_path_factory.mktemp("runs") / "informer", options=SMALL, protocol="short"
    )


def test_the_card_says_what_the_run_is(run: Path, data: fmfbench.Dataset) -> None:
    text = CliRunner().invoke(main, ["card", str(run)]).stdout
    assert text.startswith("---\nlibrary_name: fmfbench\n")
    assert "FMF-Sim, simulated: store plant" in text  # the store's own name hides it
    assert "Trained on FMF-Sim" in text
    assert data.fingerprint in text
    assert f"{load_checkpoint(run).num_parameters():,}" in text
    assert "\nlicense: unknown\n" in text
    assert str(run.parent) not in text
    assert "| every | 20 |" in text
    facts = json.loads((run / "run.json").read_text())
    assert facts["train_seconds"] > 0
    assert f"{facts['train_seconds']:,.0f} s on cpu" in text
    tables = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert len(tables) > 20


def test_it_is_written_and_refused(run: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(main, ["card", str(run), "-o", str(tmp_path / "c")])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "c" / "README.md").read_text() == runner.invoke(main, ["card", str(run)]).stdout
    for arguments in (["--base", "x"], ["-o", str(tmp_path / "none" / "c")]):
        refused = runner.invoke(main, ["card", str(run), *arguments])
        assert refused.exit_code == 2
        assert refused.stderr.count("\n") == 1
    assert "not run: tests/cards/test_model_card.py" in (ROOT / "docs" / "how-to" / "cards.md").read_text()


def test_an_older_run_says_what_is_not_known(run: Path, tmp_path: Path) -> None:
    import shutil

    from fmfbench_models.checkpoint import read_tensors, write_tensors

    old = Path(shutil.copytree(run, tmp_path / "old"))
    facts = json.loads((old / "run.json").read_text())
    for key in ("train_seconds", "device"):
        del facts[key]
    (old / "run.json").write_text(json.dumps(facts | {"data": str(tmp_path / "gone.zarr")}))
    tensors, header = read_tensors(old / "last.safetensors")
    del header["provenance"]["data"]["simulated"]
    write_tensors(old / "last.safetensors", tensors, header)
    text = CliRunner().invoke(main, ["card", str(old)]).stdout
    assert "whether simulated is not recorded" in text
    assert "| training time | not known |" in text


def test_latency_is_of_one_frame(run: Path) -> None:
    assert 0 < frame_latency_ms(load_checkpoint(run), 5) < 10_000


def test_a_bundle_carries_the_runs_facts(run: Path, data: fmfbench.Dataset, tmp_path: Path) -> None:
    from fmfbench.board.bundle import read_bundle

    predictions = predict(run, data, tmp_path / "p.npz")
    arguments = [
        "score",
        str(predictions),
        "--data",
        str(data.path),
        "--resamples",
        "40",
        "--bundle",
        str(tmp_path / "b.fmfb"),
    ]
    done = CliRunner().invoke(main, [*arguments, "--run", str(run), "--latency"])
    assert done.exit_code == 0, done.output
    card = read_bundle(tmp_path / "b.fmfb").card
    assert card["parameters"] == load_checkpoint(run).num_parameters()
    assert card["train_seconds"] == json.loads((run / "run.json").read_text())["train_seconds"]
    assert card["latency_ms"] > 0
    assert "data" not in card["run"]  # a path of this machine
    plain = CliRunner().invoke(main, [*arguments, "--fact", "parameters=12", "--fact", "train_seconds=3.5"])
    assert plain.exit_code == 0, plain.output
    card = read_bundle(tmp_path / "b.fmfb").card
    assert (card["parameters"], card["train_seconds"]) == (12, 3.5)
    assert "latency_ms" not in card
    for wrong in ("parameters=many", "speed=3", "latency_ms=-1", "latency_ms=nan", "parameters"):
        refused = CliRunner().invoke(main, [*arguments, "--fact", wrong])
        assert refused.exit_code == 2, wrong
    refused = CliRunner().invoke(main, [*arguments, "--latency"])
    assert refused.exit_code == 2
    assert "--run" in refused.stderr
