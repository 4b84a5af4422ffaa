"""Outliers scored by kind: against sklearn, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from fmfbench.errors import InputError, PredictionError
from fmfbench.exchange.outliers import KINDS, Outliers
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring.outliers import score_outliers


def outliers(kind, first=(0, 5000), step=40_000_000):
    """Two recordings of equal length, the second with ids of its own."""
    kind = np.asarray(kind, np.uint8)
    half = len(kind) // 2
    ids = np.concatenate([first[0] + np.arange(half), first[1] + np.arange(len(kind) - half)])
    place = np.concatenate([np.arange(half), np.arange(len(kind) - half)])
    flags = np.zeros(len(kind), np.uint8)
    return Outliers(
        sample_id=ids,
        kind=kind,
        video_id=ids,
        current_id=ids,
        video_shuffled=flags,
        current_shuffled=flags,
        recording=(np.arange(len(kind)) >= half).astype(np.int64),
        frame_time=place * step,
        meta={"schema": 1, "seed": 7, "ratio": [1, 1], "split": "test", "fingerprint": "f" * 64},
    )


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    return outliers(rng.choice(4, 3000, p=[0.7, 0.1, 0.12, 0.08]))


def predicted(path, made, score=None, **more):
    return write_predictions(path, sample_id=made.sample_id, score=score, **more)


def test_figures_are_those_of_sklearn(made, tmp_path):
    rng = np.random.default_rng(1)
    score = np.clip(rng.normal(0.35, 0.1, 3000) + 0.12 * made.kind, 0, 1).round(2)
    found = score_outliers(predicted(tmp_path / "p.npz", made, score), made)
    assert list(found.rows) == [*KINDS, "overall"]
    assert found.num_normal == (made.kind == 0).sum()
    normal = made.kind == 0
    for number, (name, row) in enumerate(found.rows.items(), 1):
        own = made.kind == number if name != "overall" else made.kind > 0
        among = normal | own
        truth, values = own[among], score[among]
        assert row["samples"] == own.sum()
        assert row["auroc"]["value"] == pytest.approx(roc_auc_score(truth, values))
        assert row["tpr"]["value"] == pytest.approx(recall_score(truth, values > 0.5))
        assert row["fpr"]["value"] == pytest.approx(1 - recall_score(~truth, values <= 0.5))
        assert row["accuracy"]["value"] == pytest.approx(accuracy_score(truth, values > 0.5))
        for metric in ("auroc", "tpr", "fpr", "accuracy"):
            assert 0 <= row[metric]["low"] <= row[metric]["value"] <= row[metric]["high"] <= 1
            assert 0 < row[metric]["high"] - row[metric]["low"] < 0.3


def test_intervals_widen_with_errors_that_last(made, tmp_path):
    rng = np.random.default_rng(2)
    wrong = rng.random(3000) < 0.2
    lasting = np.repeat(rng.random(24) < 0.2, 125)
    width = []
    for mistakes in (wrong, lasting):
        pred = ((made.kind > 0) ^ mistakes).astype(np.uint8)
        row = score_outliers(predicted(tmp_path / "p.npz", made, pred=pred), made).rows["overall"]
        width.append(row["accuracy"]["high"] - row["accuracy"]["low"])
    assert width[1] > 2 * width[0]


def test_decisions_without_scores_have_no_ranking(made, tmp_path):
    found = score_outliers(predicted(tmp_path / "p.npz", made, pred=(made.kind > 0).astype(np.uint8)), made)
    row = found.rows["mixed"]
    assert (row["auroc"]["value"], row["auroc"]["reason"]) == (None, "the file has decisions but no scores")
    assert (row["tpr"]["value"], row["fpr"]["value"], row["accuracy"]["value"]) == (1.0, 0.0, 1.0)
    assert "undefined: the file has decisions" in found.to_markdown()
    json.dumps(found.to_dict(), allow_nan=False)


def test_kinds_that_are_not_there_have_no_row(tmp_path):
    made = outliers([0, 2] * 50)
    found = score_outliers(predicted(tmp_path / "p.npz", made, np.linspace(0, 1, 100)), made)
    assert list(found.rows) == ["cross-modal", "overall"]
    assert found.rows["cross-modal"] == found.rows["overall"]


def test_without_normal_samples_nothing_is_told_of_them(tmp_path):
    made = outliers([1, 2, 3] * 20)
    row = score_outliers(predicted(tmp_path / "p.npz", made, np.full(60, 0.9)), made).rows["overall"]
    assert row["fpr"]["value"] is None
    assert row["auroc"]["reason"] == "no sample is normal"
    assert row["tpr"]["value"] == 1.0


def test_the_same_files_give_the_same_figures(made, tmp_path):
    path = predicted(tmp_path / "p.npz", made, np.random.default_rng(3).random(3000))
    one, two, other = (score_outliers(path, made, seed=seed).to_dict() for seed in (0, 0, 1))
    assert one == two
    assert one["kinds"]["mixed"]["tpr"] != other["kinds"]["mixed"]["tpr"]
    assert one["kinds"]["mixed"]["tpr"]["value"] == other["kinds"]["mixed"]["tpr"]["value"]


def test_files_that_do_not_cover_the_outliers_are_refused(made, tmp_path):
    path = tmp_path / "p.npz"
    write_predictions(path, sample_id=made.sample_id[1:], score=np.zeros(2999))
    with pytest.raises(PredictionError, match="1 samples? .*missing|missing"):
        score_outliers(path, made)
    predicted(path, made, np.zeros(3000), meta={"fingerprint": "0" * 64})
    with pytest.raises(PredictionError, match="fingerprint"):
        score_outliers(path, made)
    predicted(path, made, np.zeros(3000), meta={"fingerprint": made.fingerprint})
    score_outliers(path, made)


def test_predictions_on_another_outlier_file_are_refused(made, tmp_path):
    path = tmp_path / "p.npz"
    predicted(path, made, np.zeros(3000), meta={"outliers": dict(made.meta)})
    score_outliers(path, made)
    predicted(path, made, np.zeros(3000), meta={"outliers": {**made.meta, "seed": 8}})
    with pytest.raises(PredictionError, match=r"got some on another \(seed 8, here 7\)"):
        score_outliers(path, made)
    predicted(path, made, np.zeros(3000), meta={"outliers": "mine"})
    with pytest.raises(PredictionError, match="seed unknown"):
        score_outliers(path, made)


def test_a_bootstrap_that_cannot_be_is_refused(made, tmp_path):
    path = predicted(tmp_path / "p.npz", made, np.zeros(3000))
    for wrong in ({"resamples": 19}, {"block_seconds": 0.0}, {"seed": -1}):
        with pytest.raises(InputError):
            score_outliers(path, made, **wrong)
    assert score_outliers(path, made, resamples=20, block_seconds=8.0).bootstrap["block_seconds"] == 8.0


def test_corrupted_input_is_said(made, tmp_path):
    score = np.random.default_rng(0).random(3000)
    for meta, said in (({}, False), ({"corrupt": "glare"}, True)):
        found = score_outliers(predicted(tmp_path / "p.npz", made, score, meta=meta), made, resamples=50)
        assert (
            "WARNING: CORRUPTED INPUT: predicted under the robustness preset glare" in found.to_markdown()
        ) == said
        assert bool(found.to_dict()["warnings"]) == said


@pytest.mark.parametrize("kind", range(1, len(KINDS) + 1))
def test_outliers_that_are_found_are_no_errors(kind, tmp_path):
    """However long they last: blocks are as long as errors are, not as outliers are."""
    made = outliers(np.repeat([0, kind, 0, kind], 500))
    found = score_outliers(predicted(tmp_path / "p.npz", made, (made.kind > 0) * 1.0), made, resamples=20)
    missed = score_outliers(predicted(tmp_path / "q.npz", made, np.zeros(2000)), made, resamples=20)
    assert found.bootstrap["correlation_seconds"] == 0
    assert missed.bootstrap["correlation_seconds"] > 1
