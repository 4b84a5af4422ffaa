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

_MOST_RANKED = 1 << 13  # samples whose replicates look at every threshold
_BINS = 512
_MOST_CELLS = 1 << 24
_FEWEST_IN_BLOCK = 8
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
    return float(area(*cumulated(ranking, weight)))


def average_precision(ranking: Ranking, weight: NDArray[np.float64] | None = None) -> float:
    """Sum over thresholds of precision times the gain in recall; arguments and NaN as for `auroc`."""
    return float(precision(*cumulated(ranking, weight)))


def rank_replicates(
    ranking: Ranking,
    block: NDArray[np.intp],
    weights: NDArray[np.float64],
    formulas: Mapping[str, Callable[..., Any]],
) -> dict[str, NDArray[np.float64]]:
    """Metrics of scores of each bootstrap resample, by weighted ranks: each (R,).

    Args:
        ranking: of the samples.
        block: (N,) each sample's block.
        weights: (R, B) of the blocks.
        formulas: name -> formula(hits, misses) of arrays (..., G).

    Of more than `_MOST_RANKED` samples in blocks of eight and more at most `_BINS` thresholds are looked at, as only
    the spread of the replicates is used: the figures themselves are of every threshold.
    """
    block_ranked = block[ranking.order]
    abnormal = ranking.abnormal
    values = {name: np.empty(len(weights)) for name in formulas}
    blocks = weights.shape[1]
    if (
        len(block) > _MOST_RANKED
        and len(block) >= _FEWEST_IN_BLOCK * blocks
        and blocks * 2 * _BINS <= _MOST_CELLS
    ):
        cells = _binned(ranking, block_ranked, blocks)
        for start in range(0, len(weights), _AT_ONCE):
            drawn = (weights[start : start + _AT_ONCE] @ cells).reshape(-1, 2, _BINS).cumsum(axis=2)
            for name, formula in formulas.items():
                values[name][start : start + _AT_ONCE] = formula(drawn[:, 1], drawn[:, 0])
        return values
    for row, weight in enumerate(weights):
        each = weight[block_ranked]
        hits = np.cumsum(each * abnormal)[ranking.ends]
        misses = np.cumsum(each)[ranking.ends] - hits
        for name, formula in formulas.items():
            values[name][row] = formula(hits, misses)
    return values


def _binned(ranking: Ranking, block_ranked: NDArray[np.intp], blocks: int) -> NDArray[np.float64]:
    """(B, 2 * bins) normal and then abnormal samples of each block by bin of scores, equal scores in one bin."""
    stops = _bin_stops(ranking)
    bins = np.searchsorted(stops, np.arange(len(block_ranked)), side="right")  # an empty bin adds nothing
    cell = (block_ranked * 2 + ranking.abnormal) * _BINS + bins
    return np.bincount(cell, minlength=blocks * 2 * _BINS).reshape(blocks, -1).astype(np.float64)


def _bin_stops(ranking: Ranking) -> NDArray[np.intp]:
    """Places before which the bins end, but the last.

    Joining samples of one class in a row leaves AUROC as it is and average precision nearly so: bins end where the
    order turns from one class to the other. Where it turns more often than there are bins, they hold as many turns
    each, the first ones fewer, for average precision is decided there, and as many samples of each class, however rare.
    """
    hits = np.cumsum(ranking.abnormal)[ranking.ends]
    misses = ranking.ends + 1 - hits
    pure = np.where(np.diff(hits, prepend=0) == 0, 0, np.where(np.diff(misses, prepend=0) == 0, 1, 2))
    turns = np.flatnonzero((pure[1:] != pure[:-1]) | (pure[1:] == 2))
    if len(turns) >= _BINS:
        share = np.arange(1, _BINS // 4) / (_BINS // 4)
        chosen = np.concatenate([share, len(turns) ** (share - 1)]) * (len(turns) - 1)
        by_class = [np.searchsorted(each[turns], share * each[-1]) for each in (hits, misses)]
        turns = turns[np.unique(np.concatenate([chosen.astype(np.intp), *by_class]).clip(0, len(turns) - 1))]
    return ranking.ends[turns] + 1


def area_influence(ranking: Ranking) -> NDArray[np.float64]:
    """(N,) by how much a little more weight of each sample moves AUROC, in the samples' own order; 0 of one class.

    Its share of pairs that it wins, less the mean of its class, by the size of its class.
    """
    hits, misses = cumulated(ranking)
    if ranking.one_class:
        return np.zeros(len(ranking.order))
    above_hits, above_misses = (each - np.diff(each, prepend=0.0) / 2 for each in (hits, misses))
    mean = area(hits, misses)
    normal = (above_hits / hits[-1] - mean) / misses[-1]
    abnormal = (1 - above_misses / misses[-1] - mean) / hits[-1]
    return _of_samples(ranking, normal, abnormal)


def precision_influence(ranking: Ranking) -> NDArray[np.float64]:
    """(N,) by how much a little more weight of each sample moves average precision, as `area_influence`.

    An abnormal sample adds its own precision, and every sample moves the precision at all thresholds below it.
    """
    hits, misses = cumulated(ranking)
    if ranking.one_class:
        return np.zeros(len(ranking.order))
    total, gained = hits + misses, np.diff(hits, prepend=0.0)

    def below(slope: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cumsum((gained * slope / total**2)[::-1])[::-1]

    abnormal = (hits / total - precision(hits, misses) + below(misses)) / hits[-1]
    return _of_samples(ranking, -below(hits) / hits[-1], abnormal)


def _of_samples(
    ranking: Ranking, normal: NDArray[np.float64], abnormal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) each sample's value, in their own order, from those of its group of equal scores (G,) by class."""
    sizes = np.diff(ranking.ends, prepend=-1)
    found = np.empty(len(ranking.order))
    found[ranking.order] = np.where(ranking.abnormal, np.repeat(abnormal, sizes), np.repeat(normal, sizes))
    return found


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


def area(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> Any:
    """Areas under the ROC curves of cumulated weights (..., G); NaN where a class has none."""
    if not hits.shape[-1]:
        return np.full(hits.shape[:-1], np.nan)[()]
    # sums, not numpy.dot: BLAS threads of several processes stall one another on vectors this short
    pairs = ((hits[..., 1:] + hits[..., :-1]) * (misses[..., 1:] - misses[..., :-1])).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (pairs + hits[..., 0] * misses[..., 0]) / (2 * hits[..., -1] * misses[..., -1])


def precision(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> Any:
    """Average precisions of cumulated weights (..., G); NaN where nothing is abnormal."""
    if not hits.shape[-1]:
        return np.full(hits.shape[:-1], np.nan)[()]
    predicted = hits + misses
    share = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    with np.errstate(invalid="ignore"):
        return (np.diff(hits, prepend=0.0, axis=-1) * share).sum(axis=-1) / hits[..., -1]


def staircase_area(x: NDArray[np.float64], y: NDArray[np.float64], limit: float = 1.0) -> Any:
    """Trapezoidal areas under (x, y), both (..., G), x ascending, up to x = limit, where y is interpolated."""
    steps = np.diff(x, axis=-1)
    inside = np.diff(np.minimum(x, limit), axis=-1)
    part = np.divide(inside, steps, out=np.zeros_like(steps), where=steps > 0)
    return ((2 * y[..., :-1] + np.diff(y, axis=-1) * part) * inside).sum(axis=-1) / 2
