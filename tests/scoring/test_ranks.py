import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from fmfbench.scoring import ranks


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [2, 5, 1000, None])
@pytest.mark.parametrize("kind", [np.float16, np.float64, np.longdouble])
def test_against_scikit_learn_and_scipy(seed, levels, kind):
    rng = np.random.default_rng(seed)
    label = np.append([0, 1], rng.integers(0, 2, 300))
    score = rng.random(302) if levels is None else rng.integers(0, levels, 302) / levels
    score = score.astype(kind)
    ranking = ranks.rank(label, score)
    assert ranks.auroc(ranking) == pytest.approx(roc_auc_score(label, score.astype(float)), rel=1e-12)
    assert ranks.average_precision(ranking) == pytest.approx(
        average_precision_score(label, score.astype(float)), rel=1e-12
    )
    positives = label.sum()
    u = rankdata(score.astype(float))[label == 1].sum() - positives * (positives + 1) / 2
    assert ranks.auroc(ranking) == pytest.approx(u / (positives * (302 - positives)), rel=1e-12)


def test_weights_are_repetitions_and_sklearns_weights():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 80), rng.integers(0, 30, 80) / 30
    block = np.sort(rng.integers(0, 9, 80))
    weights = rng.integers(0, 4, (20, 9)).astype(float)
    ranking = ranks.rank(label, score)
    found = ranks.rank_replicates(ranking, block, weights, {"auroc": ranks.area, "ap": ranks.precision})
    for row, weight in enumerate(weights):
        each = weight[block]
        repeated = np.repeat(np.arange(80), each.astype(int))
        again = ranks.rank(label[repeated], score[repeated])
        assert found["auroc"][row] == pytest.approx(ranks.auroc(again), rel=1e-12)
        assert found["ap"][row] == pytest.approx(ranks.average_precision(again), rel=1e-12)
        assert found["auroc"][row] == pytest.approx(roc_auc_score(label, score, sample_weight=each), rel=1e-9)
        assert found["ap"][row] == pytest.approx(
            average_precision_score(label, score, sample_weight=each), rel=1e-9
        )
        assert ranks.auroc(ranking, each) == found["auroc"][row]
        assert ranks.average_precision(ranking, each) == found["ap"][row]


@pytest.mark.parametrize(("label", "words"), [(0, "abnormal"), (1, "normal")])
def test_one_class_cannot_be_ranked(label, words):
    ranking = ranks.rank(np.full(5, label), np.linspace(0, 1, 5))
    assert ranking.one_class == f"no sample is {words}"
    assert np.isnan(ranks.auroc(ranking))
    assert ranks.rank(np.array([0, 1]), np.zeros(2)).one_class is None


def test_curves():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 200), rng.integers(0, 40, 200) / 40
    ranking = ranks.rank(label, score)
    false_rate, true_rate, _ = roc_curve(label, score, drop_intermediate=False)
    np.testing.assert_allclose(ranks.roc_curve(ranking), (false_rate, true_rate))
    precision, recall, _ = precision_recall_curve(label, score)
    np.testing.assert_allclose(ranks.precision_recall_curve(ranking), (recall[-2::-1], precision[-2::-1]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "abnormal", [0.002, 0.05, 0.3, 0.98]
)  # a rare class stands in few places of the order
@pytest.mark.parametrize("apart", [1.0, 4.0, 7.0])  # well parted, all is decided in few places too
def test_replicates_in_bins_spread_as_those_of_every_threshold(ties, abnormal, apart, monkeypatch):
    rng = np.random.default_rng(3)
    label = (rng.random(20_000) < abnormal).astype(np.uint8)
    block = np.repeat(np.arange(100), 200)
    score = apart * label + rng.normal(0, 1, len(label)) + rng.normal(0, 0.5, 100)[block]
    score = score.round(1) if ties else score
    weights = rng.multinomial(99, np.full(100, 0.01), size=150) * (100 / 99)
    formulas = {"auroc": ranks.area, "ap": ranks.precision}
    ranking = ranks.rank(label, score)
    monkeypatch.setattr(ranks, "_MOST_RANKED", len(label))
    exact = ranks.rank_replicates(ranking, block, weights, formulas)
    monkeypatch.undo()
    binned = ranks.rank_replicates(ranking, block, weights, formulas)
    for name in formulas:
        assert np.std(binned[name]) == pytest.approx(np.std(exact[name]), rel=0.03, abs=1e-12)
        assert np.std(binned[name] - exact[name]) <= 0.05 * np.std(exact[name]) + 1e-12
    if ties:  # fewer turns than bins
        np.testing.assert_allclose(binned["auroc"], exact["auroc"], rtol=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_influences_are_the_slopes_of_the_figures(ties, seed):
    rng = np.random.default_rng(seed)
    label = np.append([0, 1], rng.integers(0, 2, 60)).astype(np.uint8)
    score = rng.integers(0, 9, 62) / 9 if ties else rng.random(62)
    ranking = ranks.rank(label, score)
    for figure, influence in (
        (ranks.auroc, ranks.area_influence(ranking)),
        (ranks.average_precision, ranks.precision_influence(ranking)),
    ):
        weight = np.ones(62)
        for row in range(62):
            step = np.zeros(62)
            step[row] = 1e-5
            slope = (figure(ranking, weight + step) - figure(ranking, weight - step)) / 2e-5
            assert influence[row] == pytest.approx(slope, abs=1e-8)
        assert influence.sum() == pytest.approx(0, abs=1e-12)


def test_influences_of_one_class_are_none():
    ranking = ranks.rank(np.ones(4, np.uint8), np.arange(4.0))
    assert not ranks.area_influence(ranking).any()
    assert not ranks.precision_influence(ranking).any()
