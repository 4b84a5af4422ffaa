"""The calibration error, its bins and intervals, and the temperature that mends it, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from fmfbench.errors import InputError
from fmfbench.scoring.bootstrap import block_weights, cut_blocks
from fmfbench.scoring.calibration import fit_temperature, reliability

FRAME = 40_000_000


def blocks_of(count, seconds=10.0, recordings=2):
    per = -(-count // recordings)
    return cut_blocks(np.arange(count) // per, np.arange(count) % per * FRAME, 0.0, seconds)


def judged(label, score, seed=0, resamples=400, seconds=10.0):
    blocks = blocks_of(len(label), seconds)
    return reliability(label, score, blocks, block_weights(blocks, resamples, seed))


def brute_ece(label, score):
    total = 0.0
    for i in range(10):
        inside = [
            k
            for k, s in enumerate(score.tolist())
            if (i / 10 < s or (i == 0 and s == 0)) and s <= (i + 1) / 10
        ]
        if inside:
            total += abs(sum(label[k] - float(score[k]) for k in inside))
    return total / len(label)


@pytest.mark.parametrize("seed", range(8))
def test_bins_are_those_of_scikit_learn_and_the_error_is_their_sum(seed):
    rng = np.random.default_rng(seed)
    score = rng.beta(0.4, 0.8, 4001).astype(np.float32)
    score[:3] = (0.0, 1.0, 0.5)
    label = (rng.random(4001) < score**1.5).astype(np.int64)
    found = judged(label, score)
    share, mean = calibration_curve(label, score, n_bins=10)
    held = [row for row in found.bins if row["samples"]]
    np.testing.assert_allclose([row["abnormal"] for row in held], share, rtol=1e-12)
    np.testing.assert_allclose([row["mean_score"] for row in held], mean, rtol=1e-6)
    assert sum(row["samples"] for row in found.bins) == 4001
    assert found.ece.value == pytest.approx(brute_ece(label, score), rel=1e-6)
    assert found.ece.low <= found.ece.value <= found.ece.high
    for row in held:
        if row["interval"].get("reason") is None:
            assert row["interval"]["low"] <= row["abnormal"] <= row["interval"]["high"]


def test_edges_belong_to_the_lower_bin_and_empty_bins_say_nothing():
    found = judged(np.array([0, 1] * 500), np.array([0.1, 0.2] * 500))
    assert [row["samples"] for row in found.bins] == [500, 500, *[0] * 8]
    assert found.bins[5]["mean_score"] is None
    assert found.bins[5]["abnormal"] is None
    assert found.bins[5]["interval"] is None


@pytest.mark.parametrize("seed", range(3))
def test_a_calibrated_score_is_not_said_to_be_off_and_a_wrong_one_is(seed):
    rng = np.random.default_rng(seed)
    score = rng.beta(0.6, 0.9, 20_000)
    label = (rng.random(20_000) < score).astype(np.int64)
    good = judged(label, score).ece
    assert good.low == 0
    assert good.high < 0.05
    sure = 1 / (1 + np.exp(-3 * np.log(score / (1 - score))))
    bad = judged(label, sure).ece
    assert bad.low > good.high


def test_how_often_the_interval_holds_the_truth():
    """150 calibrated and 150 overconfident sets in which each score and label hold for ten frames."""
    rng = np.random.default_rng(5)
    wrong = {"calibrated": 0, "overconfident": 0}
    tries = 150
    truth = rng.beta(0.6, 0.9, 400_000)
    logit = np.log(truth / (1 - truth))
    sure = 1 / (1 + np.exp(-2 * logit))
    place = np.minimum((np.ceil(sure * 10) - 1).clip(0), 9).astype(int)
    expected = sum(abs((truth - sure)[place == i].sum()) for i in range(10)) / len(truth)
    for seed in range(tries):
        own = np.random.default_rng(seed)
        p = own.beta(0.6, 0.9, 400)
        held = (own.random(400) < p).astype(np.int64)
        label, p = np.repeat(held, 10), np.repeat(p, 10)
        found = judged(label, p, seed, 200, 4.0).ece
        wrong["calibrated"] += found.low > 0
        off = judged(label, 1 / (1 + np.exp(-2 * np.log(p / (1 - p)))), seed, 200, 4.0).ece
        wrong["overconfident"] += not off.low <= expected <= off.high
    assert wrong["calibrated"] <= 0.08 * tries
    assert wrong["overconfident"] <= 0.08 * tries


@pytest.mark.parametrize("kind", ["no scores", "no samples", "one block", "nothing wrong"])
def test_what_cannot_be_had_says_why(kind):
    label = np.tile([0, 1], 1000)
    if kind == "no scores":
        found = judged(label, None)
        assert found.ece.value is None
        assert "no scores" in found.ece.reason
        assert found.bins == ()
    elif kind == "no samples":
        blocks = cut_blocks(np.arange(4) // 2, np.arange(4) % 2 * FRAME, 0.0, 1.0)
        found = reliability(label[:0], np.zeros(0), blocks, np.ones((20, len(blocks))))
        assert (found.ece.value, found.ece.reason) == (None, "no samples")
    elif kind == "one block":
        found = judged(label, np.full(2000, 0.3), seconds=1000.0)
        assert found.ece.value == pytest.approx(0.2)
        assert found.ece.low is None
        assert found.ece.reason.startswith("only 2 blocks")
    else:
        found = judged(label, label.astype(float))
        assert found.ece.value == 0
        assert found.ece.low is None
        assert "carried by 0 blocks" in found.ece.reason


@pytest.mark.parametrize("seed", range(6))
def test_the_temperature_is_that_of_logistic_regression(seed):
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 4, 3000)
    label = (rng.random(3000) < 1 / (1 + np.exp(-margin / rng.uniform(0.3, 5)))).astype(np.int64)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12).fit(margin[:, None], label)
    assert fit_temperature(label, margin) == pytest.approx(1 / fitted.coef_[0, 0], rel=1e-5)


def test_where_there_is_no_best_temperature_a_bound_stands():
    label = np.array([0, 1, 0, 1])
    assert fit_temperature(label, np.array([-1.0, 2.0, -3.0, 0.5])) == 0.01
    assert fit_temperature(label, np.array([1.0, -2.0, 3.0, -0.5])) == 100.0
    assert fit_temperature(label, np.zeros(4)) == 100.0


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_has_no_temperature(only):
    with pytest.raises(InputError, match="expected normal and abnormal samples"):
        fit_temperature(np.full(5, only), np.arange(5.0))
