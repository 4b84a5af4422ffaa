"""Old files: a store, a checkpoint, predictions and labels of version 0.1.0, with the figures that it printed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest_run import call

import fmfbench
from fmfbench.annotation.annotate import drawn_keyframes
from fmfbench.conversion.verify import verify
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench.store.digest import store_digest

OLD = Path(__file__).parent / "data" / "v010"
EXPECTED = json.loads((OLD / "expected.json").read_text())


def test_the_store_is_sound_and_the_same():
    data = fmfbench.open_dataset(OLD / "store.zarr")
    assert data.fingerprint == data.fingerprint_of("source") == EXPECTED["fingerprint"]
    assert data.attributes["fmfbench.digest"] == EXPECTED["digest"]
    assert store_digest(OLD / "store.zarr") == EXPECTED["digest"]
    report = verify(OLD / "store.zarr")
    assert (report.ok, report.recordings, report.files) == (True, 2, 38)
    assert (
        report.to_text().strip().splitlines()[-1].split("store.zarr: ")[1]
        == EXPECTED["verify"].split(": ", 1)[1]
    )
    assert data.recordings["one"].layers == ("boxes", "refined", "source")
    assert list(drawn_keyframes(data).recordings) == ["one"]
    assert (data.split_names, data.split_name) == (("source",), "source")


@pytest.mark.parametrize("against", ["store.zarr", "labels.npz"])
def test_the_predictions_score_as_they_did(against):
    scored = score(OLD / "predictions.npz", OLD / against, resamples=100)
    assert scored.metrics.items() >= EXPECTED["metrics"].items()
    assert scored.num_samples == EXPECTED["num_samples"]
    found = scored.to_dict()
    assert found["counts"] == EXPECTED["counts"]
    assert found["fingerprint"] == EXPECTED["fingerprint"]


def test_the_checkpoint_predicts_what_it_did(tmp_path):
    from fmfbench_models.checkpoint import load_checkpoint
    from fmfbench_models.inference.predict import predict

    assert load_checkpoint(OLD / "run").meta.name == "fmformer"
    made = read_predictions(predict(OLD / "run", OLD / "store.zarr", tmp_path / "p.npz", device="cpu"))
    old = read_predictions(OLD / "predictions.npz")
    np.testing.assert_array_equal(made.sample_id, old.sample_id)
    np.testing.assert_allclose(made.score, old.score, atol=1e-5)
    assert (made.mask_bits != old.mask_bits).mean() < 1e-3
    assert made.meta["fingerprint"] == old.meta["fingerprint"] == EXPECTED["fingerprint"]


def test_what_is_written_into_it_leaves_the_old_alone(tmp_path):
    store = shutil.copytree(OLD / "store.zarr", tmp_path / "store.zarr")
    call("split", store, "--by-recording", "two")
    data = fmfbench.open_dataset(store)
    assert data.fingerprint == EXPECTED["fingerprint"] != data.fingerprint_of("derived")
    assert verify(store).ok
    for path in (OLD / "store.zarr").rglob("c/**/*"):
        if path.is_file():
            assert (store / path.relative_to(OLD / "store.zarr")).read_bytes() == path.read_bytes()


def test_commands_take_them(tmp_path):
    for arguments in (
        ("info", OLD / "store.zarr", "--json"),
        ("verify", OLD / "store.zarr"),
        ("score", OLD / "predictions.npz", "--data", OLD / "store.zarr", "--resamples", "100", "--json"),
        ("audit", OLD / "store.zarr", "--protocol", "short", "--no-frames", "--json"),
    ):
        call(*arguments)


def test_the_fixtures_stay_small():
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) < 1_000_000
