"""Temperature and threshold, found on the validation samples of a run and used wherever its model judges.

Also tests fmfbench_cli: calibrate.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import scipy.io
import torch
from conftest_run import call
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import fmfbench
from fmfbench.errors import InputError, PredictionError, StoreError
from fmfbench.exchange.labels import labels_from_dataset
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.score import score
from fmfbench.windows.division import split_store
from fmfbench_models import create_model, load_checkpoint, save_checkpoint
from fmfbench_models.detector import Detector
from fmfbench_models.inference.calibration import calibrate, calibration_of
from fmfbench_models.inference.cluster import _join
from fmfbench_models.inference.judge import RunJudge
from fmfbench_models.inference.predict import PredictionJob, predict
from fmfbench_models.interface import Output
from fmfbench_models.training.train import train

CPU = {"device": "cpu", "batch_size": 25}


@pytest.fixture(scope="module")
def noisy_store(tmp_path_factory):
    """A bright patch in three seconds of twelve, and labels that say the opposite for a second now and then."""
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "v1").mkdir()
    for name, frames, wrong in (("one", 1500, (5, 16, 27, 40)), ("two", 1000, (4, 16, 23))):
        rng = np.random.default_rng(frames)
        shown = (np.arange(frames) // 75) % 4 == 1
        labelled = shown ^ np.isin(np.arange(frames) // 25, wrong)
        video = rng.integers(0, 120, (16, 24, 3, frames), dtype=np.uint8)
        video[3:9, 5:15] += (100 * shown).astype(np.uint8)
        label = np.zeros((16, 24, frames), np.uint8)
        label[3:9, 5:15, labelled] = 1
        split = (np.arange(frames) >= 0.7 * frames).astype(float)[None]
        current = 8000 + 300 * rng.standard_normal((3, frames))
        scipy.io.savemat(
            folder / "v1" / f"{name}.mat",
            {"video": video, "current": current, "label": label, "train_test_index": split},
        )
    return fmfbench.convert(folder / "v1", folder / "noisy.zarr")


@pytest.fixture(scope="module")
def trained(noisy_store, options, tmp_path_factory):
    asked = {**options, "epochs": 1, "batch_size": 16, "lr": 2e-3, "every": 2}
    folder = tmp_path_factory.mktemp("run") / "run"
    return train("fmformer", noisy_store, folder, options=asked, device="cpu")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def judged(run, data, split, path):
    return read_predictions(predict(run, data, path, split=split, **CPU))


def validated(run, data, path):
    """A prediction file of the train split, and which of its rows training validated on: windows look 0.7 s back."""
    found = judged(run, data, "train", path)
    return found, np.isin(found.sample_id, data.sample_ids("val", guard_seconds=0.7))


def test_it_is_what_scikit_learn_finds_on_the_validation_samples(run, noisy_store, tmp_path):
    data = fmfbench.open_dataset(noisy_store)
    plain, rows = validated(run, data, tmp_path / "plain.npz")
    assert plain.pred is None
    assert (plain.meta["threshold"], plain.meta["threshold_origin"]) == (0.5, "fixed")
    assert "calibration" not in plain.meta
    label = data.class_labels(plain.sample_id[rows])
    facts = calibrate(run, data, rule="f1", **CPU)
    odds = logit(plain.score[rows].astype(np.float64))
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12).fit(odds[:, None], label)
    assert facts["temperature"] == pytest.approx(1 / fitted.coef_[0, 0], rel=1e-3)
    assert facts["temperature_reason"] is None
    assert (facts["samples"], facts["abnormal"]) == (len(label), label.sum())
    assert facts["validation"]["log_loss"]["after"] < facts["validation"]["log_loss"]["before"]
    cooled = expit(odds / facts["temperature"])
    best = max(f1_score(label, cooled > t) for t in [0, *cooled])
    assert facts["validation"]["f1"] == best
    assert f1_score(label, cooled > facts["threshold"]) == best


def test_what_is_predicted_and_scored_as_val_are_the_same_samples(run, noisy_store, tmp_path):
    data = fmfbench.open_dataset(noisy_store)
    facts = calibrate(run, data, **CPU)
    path = predict(run, data, tmp_path / "val.npz", split="val", **CPU)
    found = read_predictions(path)
    recording, _ = data.locate(found.sample_id)
    assert (len(found.sample_id), set(recording)) == (facts["samples"], {0, 1})
    assert found.meta["guard_seconds"] == 0.7
    asked = found.meta["protocol_fields"]
    for source in (data, labels_from_dataset(data)):
        scored = score(path, source, split="val", protocol=asked, resamples=50)
        assert scored.metrics["f1"] == facts["validation"]["f1"]
        assert scored.protocol == asked["name"]
        # a guard of 21 s leaves the shorter recording no validation samples
        told = r"a guard of 0.7 s, and the samples asked for have one of 21 s; score it with the protocol"
        with pytest.raises(PredictionError, match=told):
            score(path, source, split="val", protocol="short")
        with pytest.raises(
            (StoreError, PredictionError), match=r"guard of 221 s .*got none; a shorter protocol"
        ):
            score(path, source, split="val")
    assert set(data.locate(data.windows("val", "short").sample_ids)[0]) == {0}
    test = read_predictions(predict(run, data, tmp_path / "test.npz", **CPU))
    assert "guard_seconds" not in test.meta


@pytest.mark.parametrize("rule", ["f1", "fdr:0.05", "alarms:0.5", "fixed"])
def test_prediction_files_hold_it_and_say_so(rule, run, noisy_store, tmp_path):
    before = judged(run, noisy_store, "test", tmp_path / "before.npz")
    facts = calibrate(run, noisy_store, rule=rule, **CPU)
    found = judged(run, noisy_store, "test", tmp_path / "after.npz")
    odds = logit(before.score.astype(np.float64))
    np.testing.assert_allclose(found.score, expit(odds / facts["temperature"]), atol=2e-4)
    assert np.array_equal(found.mask_bits, before.mask_bits)
    threshold = facts["threshold"]
    assert np.array_equal(found.decision, found.score > threshold)
    origin = "fixed" if rule == "fixed" else "validation"
    assert found.meta["calibration"] == {"temperature": facts["temperature"], "rule": rule}
    assert (found.meta["threshold"], found.meta["threshold_origin"]) == (threshold, origin)
    scored = score(tmp_path / "after.npz", noisy_store, resamples=50).to_dict()
    assert scored["threshold"] == {"value": threshold, "origin": origin}
    assert not any("THRESHOLD" in text for text in scored["warnings"])
    assert 0 <= scored["calibration"]["ece"] <= 1
    assert {name: found.meta[name] for name in before.meta if "threshold" not in name} == {
        name: before.meta[name] for name in before.meta if "threshold" not in name
    }


def test_validation_decisions_are_what_the_rule_was_promised(run, noisy_store, tmp_path):
    facts = calibrate(run, noisy_store, rule="fdr:0.1", **CPU)
    data = fmfbench.open_dataset(noisy_store)
    found, rows = validated(run, data, tmp_path / "val.npz")
    label, called = data.class_labels(found.sample_id[rows]), found.pred[rows]
    assert (called[label == 0] == 1).mean() == facts["validation"]["fdr"] <= 0.1
    assert 1 - called[label == 1].mean() == pytest.approx(facts["validation"]["mdr"])


def test_calibrating_again_starts_from_the_logits(run, noisy_store):
    once = calibrate(run, noisy_store, **CPU)
    weights = load_checkpoint(run).state_dict()
    assert calibrate(run, noisy_store, **CPU) == once
    again = load_checkpoint(run).state_dict()
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_another_file_leaves_the_run_alone(run, noisy_store, tmp_path):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    facts = calibrate(run, noisy_store, out=tmp_path / "mine.safetensors", **CPU)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    kept = calibration_of(load_checkpoint(tmp_path / "mine.safetensors"))
    assert (kept.temperature, kept.threshold, kept.rule) == (facts["temperature"], facts["threshold"], "f1")
    assert calibration_of(load_checkpoint(run)).rule is None


def test_detector_and_studio_judge_as_the_file_does(run, noisy_store, tmp_path):
    facts = calibrate(run, noisy_store, **CPU)
    data = fmfbench.open_dataset(noisy_store)
    found = judged(run, data, "all", tmp_path / "all.npz")
    judge = RunJudge(run)
    np.testing.assert_allclose(judge(data, found.sample_id[:40])[0], found.score[:40], atol=1e-5)
    assert judge.threshold == facts["threshold"]
    recording = data.recordings["one"]
    detector, rows = Detector(run), iter(zip(recording.current_time, recording.current, strict=True))
    stamp, row = next(rows)
    for k, image in enumerate(recording.read_video(0, 60)):
        time = int(recording.frame_time[k])
        while stamp <= time:
            detector.current(int(stamp), row)
            stamp, row = next(rows)
        seen = detector.frame(time, image)
        assert seen.score == pytest.approx(found.score[k], abs=1e-5)
        if abs(seen.score - facts["threshold"]) > 1e-4:
            assert seen.abnormal == bool(found.pred[k])


def test_parts_of_a_file_are_joined_with_their_decisions(run, noisy_store, tmp_path):
    calibrate(run, noisy_store, **CPU)
    whole = predict(run, noisy_store, tmp_path / "whole.npz", **CPU)
    job = {"model": run, "data": noisy_store, **CPU}
    cut = [slice(0, 100), slice(100, None)]
    parts = [PredictionJob(**job, out=tmp_path / f"{k}.npz", part=part).run() for k, part in enumerate(cut)]
    _join(parts, tmp_path / "joined.npz")
    assert (tmp_path / "joined.npz").read_bytes() == whole.read_bytes()


def test_a_named_split_is_calibrated_on_its_own_validation_samples(furnace_store, options, tmp_path):
    store = shutil.copytree(furnace_store, tmp_path / "furnace.zarr")
    split_store(store, by_recording=["two"], name="by")
    asked = {**options, "epochs": 1}
    run = train("fmformer", store, tmp_path / "run", options=asked, split="by", device="cpu")
    facts = calibrate(run, store, **CPU)
    data = fmfbench.open_dataset(store)
    assert facts["split"] == "by:val"
    assert facts["samples"] == len(data.sample_ids("by:val", guard_seconds=0.7))
    assert facts["fingerprint"] == data.fingerprint_of("by")
    with pytest.raises(InputError, match="expected the split by that .* was trained on, got source"):
        calibrate(run, furnace_store, **CPU)
    other = shutil.copytree(furnace_store, tmp_path / "other.zarr")
    split_store(other, by_recording=["one"], name="by")
    with pytest.raises(InputError, match="expected the store and split that .* was trained on"):
        calibrate(run, other, **CPU)


def test_a_fold_is_calibrated_outside_of_it(noisy_store, options, tmp_path):
    asked = {**options, "epochs": 1, "every": 9}
    run = train("fmformer", noisy_store, tmp_path / "run", options=asked, split="loro:two", device="cpu")
    facts = calibrate(run, noisy_store, **CPU)
    data = fmfbench.open_dataset(noisy_store)
    ids = data.sample_ids("val", guard_seconds=0.7)
    assert facts["samples"] == int((data.locate(ids)[0] == list(data.recordings).index("one")).sum())


def test_of_a_model_of_normal_frames_only_these_are_looked_at(furnace_store, options, tmp_path):
    asked = {**options, "epochs": 1, "normal_only": True}
    run = train("fmformer", furnace_store, tmp_path / "run", options=asked, device="cpu")
    with pytest.raises(InputError, match="rule f1: expected abnormal validation samples, got none among"):
        calibrate(run, furnace_store, **CPU)
    facts = calibrate(run, furnace_store, rule="fdr:0.2", **CPU)
    assert facts["abnormal"] == 0
    assert facts["temperature"] == 1
    assert facts["temperature_reason"] == f"all {facts['samples']} validation samples are normal"
    assert facts["validation"]["fdr"] <= 0.2


def refused(kind, run, store, options, tmp_path):
    """(checkpoint, store, what is said)"""
    if kind == "without validation":
        asked = {**options, "epochs": 1, "validate": False}
        made = train("fmformer", store, tmp_path / "made", options=asked, device="cpu")
        return made, store, "trained on them; train with validate=true"
    if kind == "untrained":
        save_checkpoint(tmp_path / "m.safetensors", create_model("vit", size=(16, 24)))
        return tmp_path / "m.safetensors", store, "expected a checkpoint of `fmfbench train`"
    if kind == "unfinished":
        facts = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**facts, "finished": False}))
        return run, store, "expected a finished run"
    assert kind == "nothing there"
    return tmp_path / "no", store, "expected a run folder, a checkpoint file or shipped weights"


@pytest.mark.parametrize("kind", ["without validation", "untrained", "unfinished", "nothing there"])
def test_what_cannot_be_calibrated_says_what_to_do(kind, run, noisy_store, options, tmp_path):
    checkpoint, store, said = refused(kind, run, noisy_store, options, tmp_path)
    with pytest.raises(InputError, match=said):
        calibrate(checkpoint, store, **CPU)


def test_the_command(run, noisy_store, tmp_path):
    words = ["calibrate", run, "--data", noisy_store, "--device", "cpu"]
    done = call(*words, "--rule", "fdr:0.05")
    assert "temperature" in done.output
    assert f"next: fmfbench predict {run} --data {noisy_store}" in done.output
    told = json.loads(call(*words, "--json", "-o", tmp_path / "m.safetensors").stdout)
    assert told["rule"] == "f1"
    assert calibration_of(load_checkpoint(run)).rule == "fdr:0.05"
    for wrong in (["--rule", "f2"], ["--rule", "fdr:2"], ["-o", str(tmp_path / "m.pth")]):
        bad = call(*words, *wrong, code=2)
        assert bad.stderr.count("\n") == 1
        assert "expected" in bad.stderr


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_scores_are_the_sigmoid_of_cooled_odds(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 2, generator=generator).double()
    pixels = torch.randn(5, 2, 3, 4, generator=generator).double()
    for output, plain in (
        (Output(logits, pixels), (logits / temperature).softmax(1)[:, 1]),
        (Output(None, pixels), (pixels / temperature).softmax(1)[:, 1].flatten(1).amax(1)),
    ):
        torch.testing.assert_close(output.scores(temperature), plain)
        torch.testing.assert_close(output.margins().sigmoid(), output.scores())
    with pytest.raises(ValueError, match="neither"):
        Output().margins()
