"""The weights that ship with the package: what they are, and that commands take them by name."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from conftest_run import invoke

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.furnace import VERSION
from fmfbench.furnace.simulate import simulate
from fmfbench_models import load_checkpoint, pretrained, pretrained_names
from fmfbench_models.checkpoint import WEIGHTS
from fmfbench_models.detector import Detector
from fmfbench_models.inference.judge import RunJudge

ROOT = Path(__file__).resolve().parents[2]
NAME = "fmformer-nano"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    simulate(folder / "furnace", preset="tiny", seed=4)
    return fmfbench.convert(folder / "furnace", folder / "tiny.zarr")


def test_they_are_small_say_what_they_are_and_hold_no_code():
    assert pretrained_names() == [NAME]
    path = WEIGHTS / f"{NAME}.safetensors"
    assert path.stat().st_size < 2_000_000
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])  # safetensors: a length, JSON, numbers
    facts = json.loads(header["__metadata__"]["fmfbench"])
    assert not re.search(r"[/\\](home|tmp|work|root|Users)[/\\]", json.dumps(facts))
    model = pretrained(NAME)
    assert (model.meta.name, model.modality, model.dense, model.training) == ("fmformer", "both", True, False)
    data = model.meta.provenance["data"]
    assert data["simulated"] is True
    assert data["fmf_sim"] == {"version": VERSION, "preset": "full", "seed": 0}
    assert "never for a real furnace" in model.meta.provenance["limits"]
    assert model.meta.provenance["git"] is None or "/" not in str(model.meta.provenance["git"])


def test_the_card_names_what_the_file_says():
    text = (ROOT / "data_cards" / "weights.md").read_text(encoding="utf-8")
    model = pretrained(NAME)
    protocol, recipe = model.meta.protocol, model.meta.provenance["recipe"]
    told = [
        NAME,
        f"FMF-Sim {VERSION}",
        f"{model.num_parameters():,} parameters",
        f"{protocol['num_frames']} frames, {protocol['stride']} apart",
        f"{protocol['current_seconds']:g} s of current",
        f"{recipe['epochs']} epochs",
        model.meta.provenance["data"]["fingerprint"][:12],
        "never for a real furnace",
    ]
    assert [words for words in told if words not in text] == []


def test_the_wheel_has_them():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    data = patterns["package-data"]["fmfbench_models"]
    files = [path.relative_to(WEIGHTS.parent).as_posix() for path in WEIGHTS.iterdir()]
    assert files
    assert [file for file in files if not any(fnmatch(file, pattern) for pattern in data)] == []


def test_commands_take_them_by_name(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("predict", NAME, "--data", store, "-o", "named.npz", "--per-second")
    assert done.exit_code == 0, done.output
    shutil.copy(WEIGHTS / f"{NAME}.safetensors", "copy.safetensors")
    assert (
        invoke("predict", "copy.safetensors", "--data", store, "-o", "copy.npz", "--per-second").exit_code
        == 0
    )
    named, copied = read_predictions("named.npz"), read_predictions("copy.npz")
    assert np.array_equal(named.score, copied.score)
    assert tuple(named.mask_shape) == (24, 32)  # frames of another size than its own
    assert ((named.score >= 0) & (named.score <= 1)).all()
    data = fmfbench.open_dataset(store)
    score, masks = RunJudge(NAME)(data, named.sample_id[:5])
    assert np.allclose(score, named.score[:5], atol=1e-5)
    assert masks.shape == (5, 24, 32)
    detector = Detector(NAME)
    assert detector.protocol.to_dict() == pretrained(NAME).meta.protocol


def test_a_run_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint(NAME).meta.name == "fmformer"
    (tmp_path / NAME).mkdir()
    with pytest.raises(InputError, match="expected a run folder with best.safetensors"):
        load_checkpoint(NAME)


def test_other_names_are_refused_and_the_known_ones_told(tmp_path):
    for call in (lambda: pretrained("vit-nano"), lambda: load_checkpoint(tmp_path / NAME)):
        with pytest.raises(InputError, match=r"expected .*fmformer-nano.*, got"):
            call()


def test_they_are_not_changed_in_place(store, tmp_path):
    before = (WEIGHTS / f"{NAME}.safetensors").read_bytes()
    done = invoke("calibrate", NAME, "--data", store)
    assert done.exit_code == 2
    assert "expected -o FILE" in done.stderr
    assert (WEIGHTS / f"{NAME}.safetensors").read_bytes() == before


def test_the_demo_shows_them_and_waits_for_no_training(tmp_path):
    done = invoke("demo", tmp_path / "demo", "--preset", "tiny", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["models"]["fmformer"]
    assert found["run"] == NAME
    assert Path(found["picture"]).is_file()
    assert not (tmp_path / "demo" / NAME).exists()
    assert "trained on another simulated furnace; --train" in done.stderr
