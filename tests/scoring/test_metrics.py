import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from fmfbench.exchange.masks import pack_masks, padding_is_set, unpack_masks
from fmfbench.scoring.counts import Confusion, confusion, mask_counts, pixel_confusion
from fmfbench.scoring.metrics import METRIC_NAMES, five_metrics, official_metrics


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
    values, reasons = five_metrics(frame, pixel)
    assert not reasons
    assert values == {
        "accuracy": (tn + tp) / (tn + fp + fn + tp),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "fdr": fp / (fp + tn),
        "mdr": fn / (fn + tp),
        "miou": (ptn / (ptn + pfp + pfn) + ptp / (ptp + pfp + pfn)) / 2,
    }
    assert values["f1"] == pytest.approx(f1_score(label, pred), rel=1e-14)
    assert values["miou"] == pytest.approx(
        jaccard_score(true_mask.ravel(), pred_mask.ravel(), average="macro"), rel=1e-14
    )


def test_a_perfect_prediction_scores_exactly_one():
    perfect = Confusion(tn=7, fp=0, fn=0, tp=3)
    values, reasons = five_metrics(perfect, perfect)
    assert values == {"accuracy": 1.0, "f1": 1.0, "fdr": 0.0, "mdr": 0.0, "miou": 1.0}
    assert not reasons


@pytest.mark.parametrize(
    ("frame", "pixel", "undefined"),
    [
        (Confusion(tn=5, fp=0, fn=0, tp=0), Confusion(tn=50, fp=0, fn=0, tp=0), {"f1", "mdr", "miou"}),
        (Confusion(tn=0, fp=0, fn=0, tp=5), Confusion(tn=0, fp=0, fn=0, tp=50), {"fdr", "miou"}),
        (Confusion(tn=0, fp=0, fn=0, tp=0), Confusion(tn=0, fp=0, fn=0, tp=0), set(METRIC_NAMES)),
        (Confusion(tn=1, fp=1, fn=0, tp=0), Confusion(tn=49, fp=1, fn=0, tp=0), {"mdr"}),
        (Confusion(tn=1, fp=0, fn=0, tp=1), None, {"miou"}),
    ],
)
def test_a_zero_denominator_is_undefined_and_says_why(frame, pixel, undefined):
    values, reasons = five_metrics(frame, pixel, "no mask")
    assert {name for name, value in values.items() if value is None} == undefined == set(reasons)
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
    assert official_metrics(empty, empty) == dict.fromkeys(METRIC_NAMES, 0.0)


def test_the_released_code_stepwise():
    tn, fp, fn, tp = 11, 3, 5, 2
    matrix = np.array([[tn, fp], [fn, tp]], float)
    p = matrix[1, 1] / (matrix[:, 1].sum() + 1e-6)
    r = matrix[1, 1] / (matrix[1].sum() + 1e-6)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix) + 1e-5)
    counts = Confusion(tn=tn, fp=fp, fn=fn, tp=tp)
    assert official_metrics(counts, counts) == pytest.approx(
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
