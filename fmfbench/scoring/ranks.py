"""AUROC and average precision: how well the scores order the samples, whatever the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranking", "auroc", "average_precision", "rank", "rank_replicates"]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """N samples from the highest score to the lowest.

    `order` (N,) are their rows, `abnormal` (N,) their labels in that order, `ends` (G,) the last place of
    each group of equal scores.
    """

    order: NDArray[np.intp]
    abnormal: NDArray[np.bool_]
    ends: NDArray[np.intp]

    @property
    def one_class(self) -> str | None:
        """Why nothing can be ranked, or None where both classes are there."""
        if not self.abnormal.any():
            return "no sample is abnormal"
        return "no sample is normal" if self.abnormal.all() else None


def rank(label: NDArray[np.integer[Any]], score: NDArray[np.floating[Any]]) -> Ranking:
    """Order samples of 0/1 labels by score, both (N,), finite."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.intp)
    return Ranking(order=order, abnormal=label[order].astype(bool), ends=ends)


def auroc(ranking: Ranking, weight: NDArray[np.float64] | None = None) -> float:
    """Probability that an abnormal sample scores above a normal one, a tie counting half (Mann-Whitney).

    Args:
        ranking: of the samples.
        weight: (N,) in the samples' own order; None counts each once, exactly.

    Returns:
        NaN where a class has no weight.
    """
    hits, misses = _cumulated(ranking, weight)
    return _area(hits, misses)


def average_precision(ranking: Ranking, weight: NDArray[np.float64] | None = None) -> float:
    """Sum over thresholds of precision times the gain in recall; arguments and NaN as for `auroc`."""
    hits, misses = _cumulated(ranking, weight)
    return _precision(hits, misses)


def rank_replicates(
    ranking: Ranking, block: NDArray[np.intp], weights: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """AUROC and AP of each bootstrap resample, by weighted ranks.

    Args:
        ranking: of the samples.
        block: (N,) each sample's block.
        weights: (R, B) of the blocks.
    """
    block_ranked = block[ranking.order]
    abnormal = ranking.abnormal
    values = np.empty((2, len(weights)))
    for row, weight in enumerate(weights):
        each = weight[block_ranked]
        hits = np.cumsum(each * abnormal)[ranking.ends]
        misses = np.cumsum(each)[ranking.ends] - hits
        values[:, row] = _area(hits, misses), _precision(hits, misses)
    return {"auroc": values[0], "ap": values[1]}


def roc_curve(ranking: Ranking) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false positive rate, true positive rate), from (0, 0) to (1, 1)."""
    hits, misses = _cumulated(ranking, None)
    return np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1])


def precision_recall_curve(ranking: Ranking) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(recall, precision) at each threshold, from the strictest to the laxest."""
    hits, misses = _cumulated(ranking, None)
    return hits / hits[-1], hits / (hits + misses)


def _cumulated(
    ranking: Ranking, weight: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    each = np.ones(len(ranking.order)) if weight is None else weight[ranking.order]
    hits = np.cumsum(each * ranking.abnormal)[ranking.ends]
    return hits, np.cumsum(each)[ranking.ends] - hits


def _area(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> float:
    if not len(hits) or hits[-1] <= 0 or misses[-1] <= 0:
        return float("nan")
    # sums, not numpy.dot: BLAS threads of several processes stall one another on vectors this short
    area = ((hits[1:] + hits[:-1]) * (misses[1:] - misses[:-1])).sum() + hits[0] * misses[0]
    return float(area / (2 * hits[-1] * misses[-1]))


def _precision(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> float:
    if not len(hits) or hits[-1] <= 0:
        return float("nan")
    called = hits + misses
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])
