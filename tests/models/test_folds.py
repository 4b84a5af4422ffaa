"""Training without a recording, or without a stretch of each: what is left out is nowhere in what is learned."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest_run import invoke

import fmfbench
from fmfbench.errors import InputError, StoreError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.windows.division import split_store
from fmfbench.windows.protocol import get_protocol
from fmfbench_models.checkpoint import load_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.training.samples import current_statistics, train_split, without_fold
from fmfbench_models.training.train import train

SHORT = {"num_frames": 4, "stride": 2, "current_seconds": 0.5, "current_hz": 16, "tolerance": 0.2}


@pytest.fixture(scope="module")
def data(furnace_store):
    return fmfbench.open_dataset(furnace_store)


def test_a_run_without_a_recording_never_saw_it(data, options, tmp_path):
    asked = {**options, "epochs": 1, "validate": False}
    run = train("fmformer", data, tmp_path / "run", options=asked, split="loro:two", device="cpu")
    assert json.loads((run / "run.json").read_text())["fold"] == "loro:two"
    model = load_checkpoint(run)
    assert model.meta.provenance["samples"]["training"] == len(data.sample_ids("loro-fit:two")) == 105
    rows = data.recordings["one"]
    last = rows.frame_time[104]  # of one's train frames; the current is stamped as the frames are
    alone = rows.current[rows.current_time < last + 40_000_000].astype(np.float64)
    np.testing.assert_allclose(model.input_norm.current_mean.numpy(), alone.mean(0), rtol=1e-6)
    for split, seen in (("loro-val:two", None), ("loro-fit:two", 105), ("train", 105), ("test", None)):
        found = read_predictions(predict(run, data, tmp_path / "p.npz", split=split, device="cpu"))
        assert found.meta.get("seen_in_training") == seen
        assert found.meta["split"] == split
    with pytest.raises(InputError, match="got one with other fold"):
        train("fmformer", data, tmp_path / "run", options=asked, device="cpu")
    again = train("fmformer", data, tmp_path / "run", options=asked, split="loro:two", device="cpu")
    assert again == run


@pytest.mark.parametrize("fold", ["kfold:1/3", "kfold:2/3", "kfold:3/3", "kfold:2"])
def test_no_window_outside_a_fold_shares_anything_with_one_inside(data, fold):
    """By brute force over what windows hold, not over how long they look back."""
    own, found = train_split(data, fold)
    protocol = get_protocol("paper", **SHORT)
    kept = without_fold(own, found, protocol)
    left = data.sample_ids(found.replace(":", "-val:", 1), guard_seconds=0.0)
    assert len(kept)
    assert len(left)
    assert not np.intersect1d(kept, left).size
    assert np.isin(np.concatenate([kept, left]), data.sample_ids("train")).all()

    def held(ids):
        windows = data.windows("all", protocol).select(ids)
        frames, rows = set(), set()
        for start in range(0, len(windows), 50):
            batch = windows.batch(range(start, min(start + 50, len(windows))))
            frames |= {v.tobytes() for window in batch["video"] for v in window}
            rows |= {v.tobytes() for window in batch["current"] for v in window}
        return frames, rows

    for mine, theirs in zip(held(kept), held(left), strict=True):  # all frames and rows of this store differ
        assert not mine & theirs


def test_statistics_within_samples_are_those_of_their_rows(data):
    ids = data.sample_ids("loro-fit:one")
    mean, deviation = current_statistics(data, within=ids)
    own = data.recordings["two"]
    frame = np.searchsorted(own.frame_time, own.current_time, side="right") - 1
    rows = own.current[(frame >= 0) & (own.split[frame] == 0)].astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(0))
    np.testing.assert_allclose(deviation, rows.std(0))


def test_a_fold_of_a_stored_split(furnace_store, options, tmp_path):
    store = shutil.copytree(furnace_store, tmp_path / "furnace.zarr")
    split_store(store, test=0.5, name="half", protocol=get_protocol("paper", **SHORT))
    data = fmfbench.open_dataset(store)
    own, fold = train_split(data, "half:loro:one")
    assert (own.split_name, fold) == ("half", "loro:one")
    asked = {**options, "epochs": 1, "validate": False}
    run = train("fmformer", store, tmp_path / "run", options=asked, split="half:loro:one", device="cpu")
    assert load_checkpoint(run).meta.provenance["data"]["split"] == "half"
    found = read_predictions(predict(run, store, tmp_path / "p.npz", split="half:loro-val:one", device="cpu"))
    assert found.meta["split"] == "half:loro-val:one"
    assert "seen_in_training" not in found.meta


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("loro:three", "split: expected a recording's name, one of one, two, got 'loro:three'"),
        ("loro:", "one of one, two"),
        ("kfold:0", "split: expected which fold of how many, from 1/5 to 5/5"),
        ("kfold:6", "which fold of how many"),
        ("kfold:", "which fold of how many"),
        ("source:kfold:9", "which fold of how many"),
        (
            "loro-val:one",
            "got 'loro-val:one'; it has source; or a fold to leave out: loro:RECORDING, kfold:I/K",
        ),
    ],
)
def test_what_is_no_fold_is_bad_input(furnace_store, tmp_path, split, message):
    done = invoke("train", "vit", "--data", furnace_store, "--out", tmp_path / "run", "--split", split)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_fold_that_leaves_nothing_to_train_on_or_to_validate_on(data, options, tmp_path):
    with pytest.raises(InputError, match="a guard of 221 s around a fold"):
        train("vit", data, tmp_path / "run", options={"validate": False}, split="kfold:1", device="cpu")
    with pytest.raises(InputError, match="expected validation samples outside the fold, got none"):
        train("fmformer", data, tmp_path / "run", options=options, split="kfold:5", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_store_with_a_split_of_that_name_means_it(furnace_store, tmp_path, monkeypatch):
    """Names that are folds' now were free before."""
    store = shutil.copytree(furnace_store, tmp_path / "furnace.zarr")
    for name in ("loro", "kfold"):
        with pytest.raises(StoreError, match="names a part of a split"):
            split_store(store, by_recording=["two"], name=name)
    monkeypatch.setattr("fmfbench.store.named_splits.check_split_name", lambda name: name)
    split_store(store, by_recording=["two"], name="loro")
    own, fold = train_split(fmfbench.open_dataset(store), "loro:train")
    assert (own.split_name, fold) == ("loro", None)
