"""Whether a score means what it says: of the samples scored 0.8, are eight in ten abnormal?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.files.wording import counted
from fmfbench.scoring.bootstrap import (
    FEWEST_BEARING,
    LEVEL,
    Blocks,
    borne_by,
    degrees_of_freedom,
    long_run_variance,
    proportion_interval,
)
from fmfbench.scoring.metrics import Figure, metric

__all__ = ["BINS", "Reliability", "fit_temperature", "reliability", "reliability_bins"]

BINS = 10
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """The expected calibration error, and its bins as they stand in the JSON document.

    Each bin: `low` and `high`, its edges; `samples`; `mean_score` and `abnormal`, the share of its samples that are
    labelled abnormal, both None without samples; `interval` of that share.
    """

    ece: Figure
    bins: tuple[dict[str, Any], ...] = ()


def reliability_bins(score: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Which of ten bins of equal width each score (N,) in [0, 1] is in: (0.1, 0.2] is number 1; 0 is in the first.

    Example:
        >>> reliability_bins(np.array([0.0, 0.1, 0.15, 1.0])).tolist()
        [0, 0, 1, 9]
    """
    edges = np.linspace(0, 1, BINS + 1)
    return np.searchsorted(edges[1:-1], np.asarray(score, np.float64), side="left")


def reliability(
    label: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]] | None,
    blocks: Blocks,
    weights: Floats,
) -> Reliability:
    """Expected calibration error of (N,) labels and scores, and the bins behind it (Naeini et al., AAAI 2015).

    ECE = sum over bins of n/N |share abnormal - mean score|: of the probability of abnormal, not of the more probable
    class. Its interval is of resampled blocks. A sum of distances is too large in every sample, and more so in every
    resample, so the lower bound is no percentile of it: the error of the sum is at most the sum of the errors, and of
    those the percentiles are taken.

    Args:
        score: None where the file has none.
        weights: (R, B) of `block_weights`.
    """
    if score is None:
        return Reliability(ece=Figure(name="ece", value=None, reason="the file has decisions but no scores"))
    if not len(score):
        return Reliability(ece=Figure(name="ece", value=None, reason="no samples"))
    place = blocks.of_sample * BINS + reliability_bins(score)

    def summed(values: NDArray[Any] | None) -> Floats:
        """(B, BINS)"""
        sums = np.bincount(place, values, minlength=len(blocks) * BINS)
        return np.asarray(sums, np.float64).reshape(len(blocks), BINS)

    count, abnormal, scored = summed(None), summed(label), summed(np.asarray(score, np.float64))
    ece = _ece(abnormal - scored, count, blocks, weights)
    shares = _share_intervals(count, abnormal, blocks, weights)
    edges = np.linspace(0, 1, BINS + 1)
    bins = tuple(
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "samples": int(n),
            "mean_score": float(s / n) if n else None,
            "abnormal": float(a / n) if n else None,
            "interval": shares[i],
        }
        for i, (n, a, s) in enumerate(
            zip(count.sum(axis=0), abnormal.sum(axis=0), scored.sum(axis=0), strict=True)
        )
    )
    return Reliability(ece=ece, bins=bins)


def _ece(gaps: Floats, count: Floats, blocks: Blocks, weights: Floats) -> Figure:
    """From sums of label - score and of samples, both (B, BINS)."""
    from scipy.special import stdtrit

    total = count.sum()
    found = gaps.sum(axis=0) / total
    formula = metric("ece").formula
    value = float(formula(found))
    if blocks.degrees < 2:
        reason = f"only {counted(len(blocks), 'block')} of {blocks.seconds:.1f} s"
        return Figure(name="ece", value=value, reason=reason)
    bearing = int(np.count_nonzero(np.abs(gaps).max(axis=1) > 0))
    if bearing < FEWEST_BEARING:
        reason = borne_by(bearing, blocks)
        return Figure(name="ece", value=value, reason=reason)
    drawn = (weights @ gaps) / (weights @ count.sum(axis=1))[:, None]
    replicates = formula(drawn)
    degrees = min(degrees_of_freedom(replicates, blocks), bearing - 1.0)
    tail = (1 - LEVEL) / 2
    wider = float(stdtrit(degrees, 1 - tail)) / float(stdtrit(np.inf, 1 - tail))
    if replicates.var() > 0:  # for what blocks of finite length miss
        wider *= (long_run_variance(replicates, blocks) / replicates.var()) ** 0.5
    errors = wider * (drawn - found)
    low = value - float(np.quantile(formula(errors), 1 - tail))
    high = float(np.quantile(formula(found + errors), 1 - tail))
    return Figure(name="ece", value=value, low=max(low, 0.0), high=min(max(high, value), 1.0))


def _share_intervals(
    count: Floats, abnormal: Floats, blocks: Blocks, weights: Floats
) -> list[dict[str, Any] | None]:
    """Of the share of abnormal samples in each bin; None without samples. A bin's blocks are those that it is in."""
    found: list[dict[str, Any] | None] = []
    for n, a in zip(count.T, abnormal.T, strict=True):
        held = n > 0
        if not held.any():
            found.append(None)
            continue
        own = replace(
            blocks,
            of_sample=np.zeros(int(n.sum()), np.intp),
            recording=blocks.recording[held],
            duration=blocks.duration * float(n.sum() / count.sum()),
        )
        if held.sum() < FEWEST_BEARING:
            found.append({"low": None, "high": None, "reason": borne_by(int(held.sum()), blocks)})
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = (weights @ a) / (weights @ n)
        bearing = min(int(np.count_nonzero(a)), int(np.count_nonzero(n > a)))
        found.append(proportion_interval(float(a.sum() / n.sum()), replicates, own, bearing).as_dict())
    return found


def fit_temperature(label: NDArray[np.integer[Any]], margin: NDArray[np.floating[Any]]) -> float:
    """The temperature T of least log loss of the probabilities 1 / (1 + exp(-margin / T)) (Guo et al., ICML 2017).

    Meant for a validation split. Order, AUROC and masks stay; only how sure scores are changes.

    Args:
        label: (N,) 0 or 1, both there.
        margin: (N,) log odds of abnormal: the abnormal logit minus the normal one, finite.

    Returns:
        T between 0.01 and 100. Either bound means that there is none: scores that order the samples without a fault
        ask for 0, scores that do not help at all for infinity.

    Raises:
        InputError: one class alone.

    Example:
        >>> round(fit_temperature(np.array([1, 0, 1, 1]), np.array([2.0, 2.0, 2.0, 2.0])), 4)
        1.8205
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    sign = np.where(np.asarray(label) == 1, 1.0, -1.0)
    if not (sign > 0).any() or not (sign < 0).any():
        raise InputError("temperature: expected normal and abnormal samples to fit it on, got one class")
    signed = sign * np.asarray(margin, np.float64)

    def slope(inverse: float) -> float:
        """Of the log loss, over 1/T: it is convex."""
        return -float((signed * expit(-inverse * signed)).mean())

    least, most = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    if slope(least) >= 0:
        return MOST_TEMPERATURE
    if slope(most) <= 0:
        return LEAST_TEMPERATURE
    return 1 / float(brentq(slope, least, most, xtol=1e-12, rtol=1e-12))
