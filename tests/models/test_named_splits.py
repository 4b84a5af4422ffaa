"""Training and predicting on a named split: its samples, its fingerprint, and what was seen in training is said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import fmfbench
from fmfbench.errors import InputError, StoreError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench.windows.division import split_store
from fmfbench_models.inference.predict import predict
from fmfbench_models.training.train import train


@pytest.fixture
def divided(furnace_store, tmp_path):
    store = shutil.copytree(furnace_store, tmp_path / "furnace.zarr")
    split_store(store, by_recording=["two"], name="by")
    return store


def test_from_training_to_score(divided, options, tmp_path):
    asked = {**options, "epochs": 1, "validate": False}
    run = train("fmformer", divided, tmp_path / "run", options=asked, split="by", device="cpu")
    data = fmfbench.open_dataset(divided)
    facts = json.loads((run / "run.json").read_text())
    assert facts["fingerprint"] == data.fingerprint_of("by")
    ids = data.sample_ids("by:test")
    np.testing.assert_array_equal(ids, 150 + np.arange(90))
    found = read_predictions(predict(run, divided, tmp_path / "p.npz", split="by:test", device="cpu"))
    np.testing.assert_array_equal(found.sample_id, ids)
    assert found.meta["split"] == "by:test"
    assert found.meta["fingerprint"] == data.fingerprint_of("by")
    assert "seen_in_training" not in found.meta
    scored = score(tmp_path / "p.npz", data, "by:test", resamples=100)
    assert scored.num_samples == 90
    assert scored.fingerprint == data.fingerprint_of("by")
    # the source's test part lies in recordings that this model was trained on
    predict(run, divided, tmp_path / "q.npz", device="cpu")
    found = read_predictions(tmp_path / "q.npz")
    assert (found.meta["split"], found.meta["seen_in_training"]) == ("test", 45)
    notes = score(tmp_path / "q.npz", data, resamples=100).notes
    assert any(
        note.startswith("45 of the samples are of the split part that the model was trained on")
        for note in notes
    )
    with pytest.raises(InputError, match="got one with other fingerprint"):
        train("fmformer", divided, tmp_path / "run", options=asked, device="cpu")


def test_what_is_no_split_to_train_on(divided, options, tmp_path):
    for split, error, said in (
        ("by:test", InputError, "or its train part, got 'by:test'"),
        ("val", InputError, "or its train part, got 'val'"),
        ("no", InputError, "it has source, by"),
        ("no:train", StoreError, "it has source, by"),
    ):
        with pytest.raises(error, match=said):
            train("fmformer", divided, tmp_path / "run", options=options, split=split, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_corruption_holds_on_a_named_split(divided):
    from fmfbench.windows.corrupt import corruption

    data = fmfbench.open_dataset(divided)
    moved, _ = corruption(data, "time-offset+1")
    plain, shifted = (d.windows("by:test", "short")[60]["current"] for d in (data, moved))
    assert not np.array_equal(plain, shifted)
    np.testing.assert_array_equal(shifted, moved.windows("all", "short")[210]["current"])
