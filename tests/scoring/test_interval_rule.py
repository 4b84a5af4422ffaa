"""A bundle is refused where its intervals come out otherwise: the number of the rule says why, if it is kept."""

import numpy as np
import pytest
from conftest_scores import labels_of

from fmfbench.exchange.predictions import read_predictions, write_predictions
from fmfbench.scoring.evidence import gather_evidence, tally
from fmfbench.scoring.receipt import INTERVAL_RULE

KNOWN: dict[int, dict[str, tuple[float, float]]] = {
    3: {
        "accuracy": (0.786821153, 0.895465925),
        "f1": (0.741741693, 0.888610558),
        "fdr": (0.113461701, 0.277590916),
        "mdr": (0.0460205148, 0.196564276),
        "miou": (0.86254667, 0.93094072),
        "auroc": (0.87000354, 0.956443799),
        "ap": (0.809774397, 0.937034404),
        "pixel_auroc": (0.697740759, 0.742315882),
        "aupro": (0.375326104, 0.42391227),
        "ece": (0.0386453317, 0.169619809),
        "event_recall": (0.862814828, 1.0),
        "delay_median_s": (0.0, 0.0),
        "false_alarms_per_hour": (229.16913, 775.521367),
        "alarm_time_normal": (0.111631374, 0.306513676),
    }
}


def found(folder):
    rng = np.random.default_rng(5)
    lengths = (700, 900)
    count = sum(lengths)
    label = np.repeat(rng.random(count // 20) < 0.4, 20).astype(np.uint8)
    drift = np.repeat(rng.normal(0, 0.2, count // 10), 10)
    score = np.clip(0.3 + 0.4 * label + drift + rng.normal(0, 0.05, count), 0, 1)
    mask = np.zeros((count, 4, 5), np.uint8)
    mask[label == 1, 1:3, 1:4] = 1
    labels = labels_of(label, np.repeat([0, 1], lengths), step=200_000_000, mask=mask)
    pixels = np.clip(0.2 * mask + 0.8 * rng.random(mask.shape), 0, 1).astype(np.float32)
    own = (mask ^ (rng.random(mask.shape) < 0.02)) * (score > 0.5)[:, None, None]
    file = write_predictions(
        folder / "p.npz",
        sample_id=np.arange(count),
        score=score,
        mask=own.astype(np.uint8),
        pixel_score=pixels,
    )
    predictions = read_predictions(file)
    evidence = gather_evidence(
        predictions, labels, tally(labels, predictions.decision, predictions.mask_bits), resamples=200
    )
    return {each.name: (each.low, each.high) for each in evidence.figures}


def test_intervals_are_those_of_the_rule_that_receipts_name(tmp_path):
    intervals = found(tmp_path)
    known = KNOWN.get(INTERVAL_RULE)
    assert known is not None, "expected the intervals of this rule above"
    for name, (low, high) in known.items():
        assert intervals[name] == (pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6)), (
            f"{name}: other intervals than those of rule {INTERVAL_RULE}: raise INTERVAL_RULE"
        )
