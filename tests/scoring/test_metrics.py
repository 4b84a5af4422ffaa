"""Counts and metrics against scikit-learn's, the released code, and the plain definitions.

Also tests fmfbench.scoring: counts.
"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from fmfbench.exchange.masks import pack_masks, padding_is_set, unpack_masks
from fmfbench.scoring import metrics
from fmfbench.scoring.counts import Confusion, confusion, mask_counts, pixel_confusion
from fmfbench.scoring.metrics import (
    CALIBRATION_METRICS,
    COUNT_METRICS,
    EVENT_METRICS,
    METRICS,
    PIXEL_RANK_METRICS,
    RANK_METRICS,
    bearing_blocks,
    count_metrics,
    count_replicates,
    metric,
    official_metrics,
)

OFFICIAL = {
    "accuracy",
    "f1",
    "fdr",
    "mdr",
    "miou",
}  # the benchmark's own, of which the released code has constants


@pytest.mark.parametrize("seed", range(5))
def test_the_five_equal_scikit_learn_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    label, pred = rng.integers(0, 2, (2, 401))
    true_mask, pred_mask = rng.random((2, 401, 5, 7)) < rng.random()
    frame = confusion(label, pred)
    pixel = pixel_confusion(mask_counts(pack_masks(true_mask), pack_masks(pred_mask)), 35)
    (tn, fp), (fn, tp) = confusion_matrix(label, pred).tolist()
    (ptn, pfp), (pfn, ptp) = confusion_matrix(true_mask.ravel(), pred_mask.ravel()).tolist()
    assert frame == Confusion(tn=tn, fp=fp, fn=fn, tp=tp)
    assert pixel == Confusion(tn=ptn, fp=pfp, fn=pfn, tp=ptp)
    values, reasons = count_metrics(frame, pixel)
    assert not reasons
    assert (
        values
        | {
            "accuracy": (tn + tp) / (tn + fp + fn + tp),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "fdr": fp / (fp + tn),
            "mdr": fn / (fn + tp),
            "miou": (ptn / (ptn + pfp + pfn) + ptp / (ptp + pfp + pfn)) / 2,
        }
        == values
    )
    assert values["f1"] == pytest.approx(f1_score(label, pred), rel=1e-14)
    assert values["miou"] == pytest.approx(
        jaccard_score(true_mask.ravel(), pred_mask.ravel(), average="macro"), rel=1e-14
    )


def test_a_perfect_prediction_scores_exactly_one():
    perfect = Confusion(tn=7, fp=0, fn=0, tp=3)
    values, reasons = count_metrics(perfect, perfect)
    assert values == {name: float(metric(name).higher_is_better) for name in COUNT_METRICS}
    assert not reasons


@pytest.mark.parametrize(
    ("frame", "pixel", "undefined"),
    [
        (Confusion(tn=5, fp=0, fn=0, tp=0), Confusion(tn=50, fp=0, fn=0, tp=0), {"f1", "mdr", "miou"}),
        (Confusion(tn=0, fp=0, fn=0, tp=5), Confusion(tn=0, fp=0, fn=0, tp=50), {"fdr", "miou"}),
        (Confusion(tn=0, fp=0, fn=0, tp=0), Confusion(tn=0, fp=0, fn=0, tp=0), set(COUNT_METRICS)),
        (Confusion(tn=1, fp=1, fn=0, tp=0), Confusion(tn=49, fp=1, fn=0, tp=0), {"mdr"}),
        (Confusion(tn=1, fp=0, fn=0, tp=1), None, {"miou"}),
    ],
)
def test_a_zero_denominator_is_undefined_and_says_why(frame, pixel, undefined):
    values, reasons = count_metrics(frame, pixel, "no mask")
    assert {name for name, value in values.items() if value is None} == set(reasons)
    assert undefined == set(reasons) & (undefined | OFFICIAL)
    assert all(reasons.values())


def test_the_documented_numbers_of_the_released_code():
    perfect = official_metrics(Confusion(tn=2, fp=0, fn=0, tp=2), None)
    assert f"{perfect['f1']:.7f}" == "0.9999945"
    assert perfect["miou"] is None
    all_normal = Confusion(tn=33, fp=0, fn=0, tp=0)
    values = official_metrics(all_normal, all_normal)
    assert f"{values['miou']:.8f}" == "0.49999985"
    assert values["f1"] == 0.0
    assert values["mdr"] == 0.0
    empty = Confusion(tn=0, fp=0, fn=0, tp=0)
    assert official_metrics(empty, empty) == {
        name: 0.0 if name in OFFICIAL else None for name in COUNT_METRICS
    }


def test_the_released_code_stepwise():
    tn, fp, fn, tp = 11, 3, 5, 2
    matrix = np.array([[tn, fp], [fn, tp]], float)
    p = matrix[1, 1] / (matrix[:, 1].sum() + 1e-6)
    r = matrix[1, 1] / (matrix[1].sum() + 1e-6)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix) + 1e-5)
    counts = Confusion(tn=tn, fp=fp, fn=fn, tp=tp)
    found = official_metrics(counts, counts)
    assert {name: found[name] for name in OFFICIAL} == pytest.approx(
        {
            "accuracy": np.trace(matrix) / (matrix.sum() + 1e-6),
            "f1": 2 * p * r / (p + r + 1e-5),
            "fdr": matrix[0, 1] / (matrix[0].sum() + 1e-6),
            "mdr": matrix[1, 0] / (matrix[1].sum() + 1e-6),
            "miou": iou.mean(),
        },
        rel=1e-13,
    )


@pytest.mark.parametrize("shape", [(3, 5, 7), (300, 64, 64), (0, 4, 6), (2, 1, 1), (9, 13, 8)])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int8, np.int64])
def test_packing_is_numpys_and_counts_are_the_plain_ones(shape, kind):
    rng = np.random.default_rng(1)
    truth, pred = (rng.random((2, *shape)) < 0.3).astype(kind)
    bits = pack_masks(truth)
    assert bits.tolist() == [np.packbits(mask.ravel() != 0).tolist() for mask in truth]
    np.testing.assert_array_equal(unpack_masks(bits, shape[1:]), truth)
    plain = [[(t & p).sum(), p.sum(), t.sum()] for t, p in zip(truth, pred, strict=True)]
    np.testing.assert_array_equal(mask_counts(bits, pack_masks(pred)), np.reshape(plain, (-1, 3)))


def test_padding_bits_are_seen():
    bits = pack_masks(np.ones((3, 3, 3), bool))
    assert not padding_is_set(bits, 9).any()
    bits[1, -1] |= 1
    assert padding_is_set(bits, 9).tolist() == [False, True, False]
    assert not padding_is_set(np.full((2, 1), 255, np.uint8), 8).any()


def random_counts(seed, rows=200):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, (rows, 8)) * rng.integers(0, 2, (rows, 8))


def test_weighted_counts_go_through_the_same_formulas():
    counts = random_counts(0)
    found = count_replicates(counts)
    assert set(found) == set(COUNT_METRICS)
    for row, (tn, fp, fn, tp, *pixel) in enumerate(counts.tolist()):
        values, _ = count_metrics(
            Confusion(tn=tn, fp=fp, fn=fn, tp=tp),
            Confusion(**dict(zip(("tn", "fp", "fn", "tp"), pixel, strict=True))),
        )
        for name, value in values.items():
            if value is None:
                assert np.isnan(found[name][row])
            else:
                assert found[name][row] == value


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", COUNT_METRICS)
def test_a_mistake_put_right_never_makes_a_metric_worse(name, seed):
    """The direction of every metric of counts, held without asking the table for anything but the direction."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, 4)
    improved = 0
    for wrong, right in ((1, 0), (2, 3)):  # a false positive, a false negative
        mended = counts.copy()
        mended[wrong] -= 1
        mended[right] += 1
        before, after = (
            count_metrics(*[Confusion(**dict(zip(("tn", "fp", "fn", "tp"), c.tolist(), strict=True)))] * 2)[0]
            for c in (counts, mended)
        )
        assert not metric(name).better(before[name], after[name])
        improved += metric(name).better(after[name], before[name])
        assert metric(name).gain(after[name], before[name]) >= 0
    assert improved


@pytest.mark.parametrize(
    ("name", "worst"), [("accuracy", "low"), ("fdr", "high"), ("mdr", "high"), ("miou", "low")]
)
def test_the_worst_value_is_the_one_a_plant_would_name(name, worst):
    assert metric(name).worst({"low": 0.1, "high": 0.9, "none": None}) == worst
    assert metric(name).worst({"none": None}) is None


def test_the_table_is_whole():
    names = [entry.name for entry in METRICS]
    assert len(set(names)) == len(names)
    for entry in METRICS:
        assert entry.title
        assert entry.short
        assert callable(entry.formula)
    assert {entry.name for entry in METRICS if not entry.higher_is_better} == {
        "fdr",
        "mdr",
        "ece",
        "delay_median_s",
        "delay_p95_s",
        "false_alarms_per_hour",
        "alarm_time_normal",
    }


def test_a_constant_answer_is_perfect_in_the_metrics_that_are_not_overall():
    """FDR of always normal and MDR of always abnormal are 0: nothing that the trivial baselines are held against."""
    always = {
        "normal": Confusion(tn=8, fp=0, fn=2, tp=0),
        "abnormal": Confusion(tn=0, fp=8, fn=0, tp=2),
    }
    for name in COUNT_METRICS:
        best = 1.0 if metric(name).higher_is_better else 0.0
        values = [count_metrics(counts, counts)[0][name] for counts in always.values()]
        assert (best in values) == (not metric(name).overall)


def test_bearing_blocks_by_hand():
    """Of five blocks: errors in two, misses in one, abnormal samples in three."""
    sums = np.zeros((5, 8), int)
    sums[:, 0] = 10  # normal samples that are right, in every block
    sums[0, 1] = 2  # false positives
    sums[1, 2] = 1  # a miss
    sums[1:4, 3] = 4
    sums[:, 4] = 50
    sums[2:, 7] = 5
    sums[4, 5] = 1
    assert bearing_blocks(sums).items() >= {"accuracy": 2, "f1": 2, "fdr": 1, "mdr": 1, "miou": 1}.items()
    assert bearing_blocks(np.zeros((3, 8))) == dict.fromkeys(COUNT_METRICS, 0)


def test_a_class_that_few_blocks_hold_bears_what_judges_it(monkeypatch):
    """Nothing is wrong; abnormal samples are in two of nine blocks: a metric of them is carried by these at most."""
    sums = np.zeros((9, 8), int)
    sums[:, 0] = sums[:, 4] = 10
    sums[3:5, 3] = sums[3:5, 7] = 4
    assert bearing_blocks(sums).items() >= {"accuracy": 0, "f1": 1, "fdr": 0, "mdr": 1, "miou": 1}.items()
    monkeypatch.setitem(metrics._BY_NAME, "accuracy", replace(metric("accuracy"), judges=("abnormal",)))
    assert bearing_blocks(sums)["accuracy"] == 1


def test_families_of_metrics_are_whole():
    assert COUNT_METRICS == ("accuracy", "f1", "fdr", "mdr", "miou")
    assert RANK_METRICS == ("auroc", "ap")
    assert PIXEL_RANK_METRICS == ("pixel_auroc", "aupro")
    assert CALIBRATION_METRICS == ("ece",)
    kinds = (COUNT_METRICS, RANK_METRICS, PIXEL_RANK_METRICS, CALIBRATION_METRICS, EVENT_METRICS)
    assert sum(map(len, kinds)) == len(METRICS)
    assert {entry.name for entry in METRICS if not entry.share} == {
        "delay_median_s",
        "delay_p95_s",
        "false_alarms_per_hour",
    }
