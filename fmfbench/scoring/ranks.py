"""AUROC and average precision: how well the scores order the samples, whatever the threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Ranking",
    "area",
    "auroc",
    "average_precision",
    "cumulated",
    "precision",
    "rank",
    "rank_replicates",
    "staircase_area",
]

_MOST_RANKED = 1 << 19  # samples whose replicates look at every threshold
_BINS = 256
_MOST_CELLS = 1 << 24
_AT_ONCE = 50  # resamples


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
    return area(*cumulated(ranking, weight))


def average_precision(ranking: Ranking, weight: NDArray[np.float64] | None = None) -> float:
    """Sum over thresholds of precision times the gain in recall; arguments and NaN as for `auroc`."""
    return precision(*cumulated(ranking, weight))


def rank_replicates(
    ranking: Ranking,
    block: NDArray[np.intp],
    weights: NDArray[np.float64],
    formulas: Mapping[str, Callable[..., float]],
) -> dict[str, NDArray[np.float64]]:
    """Metrics of scores of each bootstrap resample, by weighted ranks: each (R,).

    Args:
        ranking: of the samples.
        block: (N,) each sample's block.
        weights: (R, B) of the blocks.
        formulas: name -> formula(hits, misses).

    Of more than `_MOST_RANKED` samples thresholds are looked at in `_BINS` bins of as many samples each, as only the
    spread of the replicates is used: the figures themselves are of every threshold.
    """
    block_ranked = block[ranking.order]
    abnormal = ranking.abnormal
    values = {name: np.empty(len(weights)) for name in formulas}
    if len(block) > _MOST_RANKED and weights.shape[1] * 2 * _BINS <= _MOST_CELLS:
        cells = _binned(ranking, block_ranked, weights.shape[1])
        for start in range(0, len(weights), _AT_ONCE):
            drawn = np.cumsum((weights[start : start + _AT_ONCE] @ cells).reshape(-1, _BINS, 2), axis=1)
            for row, (misses, hits) in enumerate(drawn.transpose(0, 2, 1), start):
                for name, formula in formulas.items():
                    values[name][row] = formula(hits, misses)
        return values
    for row, weight in enumerate(weights):
        each = weight[block_ranked]
        hits = np.cumsum(each * abnormal)[ranking.ends]
        misses = np.cumsum(each)[ranking.ends] - hits
        for name, formula in formulas.items():
            values[name][row] = formula(hits, misses)
    return values


def _binned(ranking: Ranking, block_ranked: NDArray[np.intp], blocks: int) -> NDArray[np.float64]:
    """(B, 2 * bins) normal and abnormal samples of each block in each bin of scores, equal scores in one bin."""
    places = len(block_ranked)
    stops = ranking.ends[np.searchsorted(ranking.ends, np.arange(1, _BINS) * places // _BINS)] + 1
    bins = np.searchsorted(stops, np.arange(places), side="right")  # a bin that ties leave empty adds nothing
    cell = (block_ranked * _BINS + bins) * 2 + ranking.abnormal
    return np.bincount(cell, minlength=blocks * 2 * _BINS).reshape(blocks, -1).astype(np.float64)


def roc_curve(ranking: Ranking) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false positive rate, true positive rate), from (0, 0) to (1, 1)."""
    hits, misses = cumulated(ranking)
    return np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1])


def precision_recall_curve(ranking: Ranking) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(recall, precision) at each threshold, from the strictest to the laxest."""
    hits, misses = cumulated(ranking)
    return hits / hits[-1], hits / (hits + misses)


def cumulated(
    ranking: Ranking, weight: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(hits, misses): weights of abnormal and of normal samples down to each distinct score."""
    each = np.ones(len(ranking.order)) if weight is None else weight[ranking.order]
    hits = np.cumsum(each * ranking.abnormal)[ranking.ends]
    return hits, np.cumsum(each)[ranking.ends] - hits


def area(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> float:
    """Area under the ROC curve of cumulated weights; NaN where a class has none."""
    if not len(hits) or hits[-1] <= 0 or misses[-1] <= 0:
        return float("nan")
    # sums, not numpy.dot: BLAS threads of several processes stall one another on vectors this short
    pairs = ((hits[1:] + hits[:-1]) * (misses[1:] - misses[:-1])).sum() + hits[0] * misses[0]
    return float(pairs / (2 * hits[-1] * misses[-1]))


def precision(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> float:
    """Average precision of cumulated weights; NaN where nothing is abnormal."""
    if not len(hits) or hits[-1] <= 0:
        return float("nan")
    predicted = hits + misses
    share = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    return float((np.diff(hits, prepend=0.0) * share).sum() / hits[-1])


def staircase_area(x: NDArray[np.float64], y: NDArray[np.float64], limit: float = 1.0) -> float:
    """Trapezoidal area under (x, y), x ascending, up to x = limit, where y is interpolated."""
    inside = int(np.searchsorted(x, limit, side="right"))
    total = float(((y[1:inside] + y[: inside - 1]) * np.diff(x[:inside])).sum() / 2) if inside else 0.0
    if 0 < inside < len(x):
        x0, y0 = x[inside - 1], y[inside - 1]
        end = y0 + (y[inside] - y0) * (limit - x0) / (x[inside] - x0)
        total += float((y0 + end) * (limit - x0) / 2)
    return total
