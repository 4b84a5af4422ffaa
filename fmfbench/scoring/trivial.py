"""The trivial baselines: predictions that need no model, scored on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.exchange.labels import Labels
from fmfbench.scoring.counts import confusion, mask_counts, pixel_confusion
from fmfbench.scoring.metrics import COUNT_METRICS, count_metrics, metric

__all__ = ["TrivialPrediction", "trivial_metrics", "trivial_predictions", "trivial_warnings"]

PERSISTENCE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class TrivialPrediction:
    """A prediction without a model: (N,) 0/1 decisions and packed masks where there are any."""

    decision: NDArray[np.uint8]
    mask_bits: NDArray[np.uint8] | None


def trivial_predictions(labels: Labels, train_prior: float | None) -> dict[str, TrivialPrediction]:
    """Always normal, always abnormal, the train prior's majority, and the true label of one second before.

    The last knows what no model knows, the truth a second ago, and is hard to beat where events are long. It
    takes the last scored frame of the recording at least 1 s earlier, and says normal where there is none.
    """
    assert labels.class_label is not None
    normal = TrivialPrediction(
        decision=np.zeros(len(labels), np.uint8),
        mask_bits=None if labels.mask_bits is None else np.zeros_like(labels.mask_bits),
    )
    abnormal = TrivialPrediction(decision=np.ones(len(labels), np.uint8), mask_bits=_all_set(labels))
    predictions = {"always normal": normal, "always abnormal": abnormal}
    if train_prior is not None:
        predictions["train prior"] = TrivialPrediction(
            decision=(abnormal if train_prior > 0.5 else normal).decision, mask_bits=normal.mask_bits
        )
    predictions["last-second persistence"] = _persistence(labels)
    return predictions


def trivial_metrics(labels: Labels, train_prior: float | None) -> dict[str, dict[str, float | None]]:
    """The five metrics of each baseline on the samples of `labels`."""
    return {
        name: _metrics(labels, baseline)
        for name, baseline in trivial_predictions(labels, train_prior).items()
    }


def trivial_warnings(
    metrics: Mapping[str, float | None], baselines: Mapping[str, Mapping[str, float | None]]
) -> list[str]:
    """One line for each baseline that the submission does not beat in accuracy, F1 or mIoU (the overall metrics)."""
    warnings = []
    for baseline, values in baselines.items():
        beaten = [
            f"{name} {mine:.4f} against {theirs:.4f}"
            for name in COUNT_METRICS
            if metric(name).overall
            and (mine := metrics.get(name)) is not None
            and (theirs := values.get(name)) is not None
            and not metric(name).better(mine, theirs)
        ]
        if beaten:
            warnings.append(f"NOT BETTER THAN {baseline.upper()}: {', '.join(beaten)}")
    return warnings


def _persistence(labels: Labels) -> TrivialPrediction:
    assert labels.class_label is not None
    decision = np.zeros(len(labels), np.uint8)
    bits = None if labels.mask_bits is None else np.zeros_like(labels.mask_bits)
    for index in np.unique(labels.recording):
        (rows,) = np.nonzero(labels.recording == index)
        times = labels.frame_time[rows]
        before = np.searchsorted(times, times - round(PERSISTENCE_SECONDS * NS), side="right") - 1
        known = before >= 0
        decision[rows[known]] = labels.class_label[rows[before[known]]]
        if bits is not None and labels.mask_bits is not None:
            bits[rows[known]] = labels.mask_bits[rows[before[known]]]
    return TrivialPrediction(decision=decision, mask_bits=bits)


def _all_set(labels: Labels) -> NDArray[np.uint8] | None:
    if labels.mask_bits is None or labels.mask_shape is None:
        return None
    height, width = labels.mask_shape
    row = np.packbits(np.ones(height * width, np.uint8))
    return np.broadcast_to(row, labels.mask_bits.shape)


def _metrics(labels: Labels, baseline: TrivialPrediction) -> dict[str, float | None]:
    assert labels.class_label is not None
    pixel = None
    bits, shape = labels.mask_bits, labels.mask_shape
    if labels.no_mask is None and bits is not None and shape is not None and baseline.mask_bits is not None:
        height, width = shape
        pixel = pixel_confusion(mask_counts(bits, baseline.mask_bits), height * width)
    return count_metrics(confusion(labels.class_label, baseline.decision), pixel)[0]
