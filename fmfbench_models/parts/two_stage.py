"""TN-BCL's detection: far from all normal neighbours, or two modalities that do not agree.

Peng et al., IEEE TETCI 8(1), 2024, sections III-B and III-D. Stage 1: the mean distance of an embedding to its k
nearest normal ones, found in a ball tree, above a threshold that a small share of normal ones exceed. Stage 2, for
those that pass: a cosine below the threshold with the largest Youden index on validation samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "TwoStage", "contamination_threshold", "cosine", "fit_two_stage", "youden_threshold"]

Array = NDArray[np.float64]
Ids = NDArray[np.int64]


class Neighbours:
    """Normal embeddings in scikit-learn's ball tree.

    points: (n, d), n >= 1. Where there are fewer than k neighbours, the mean is over those that are there.
    """

    def __init__(self, points: Array) -> None:
        from sklearn.neighbors import BallTree

        self.points = points
        self._tree: Any = BallTree(points)

    def distance(self, queries: Array, k: int) -> Array:
        """Mean Euclidean distance of each query (m, d) to its k nearest points: (m,)."""
        if not len(queries):
            return np.zeros(0)
        found: Array = self._tree.query(queries, k=min(k, len(self.points)))[0]
        return found.mean(1)

    def leave_one_out(self, k: int, places: Ids | None = None, guard: int = 1) -> Array:
        """Mean distance of each point to its k nearest others: (n,).

        places: (n,) where each point lies, in frames; others fewer than `guard` away are not counted, because
        neighbours in time are near one another whether normal or not. A point that has no others left is NaN.
        """
        count = len(self.points)
        places = np.arange(count) if places is None else places
        order = np.argsort(places, kind="stable")
        ranked = places[order]
        crowd = np.searchsorted(ranked, ranked + guard, "left") - np.searchsorted(
            ranked, ranked - guard, "right"
        )
        width = min(int(crowd.max()) + k, count)  # so many that k of them lie outside the guard
        distance, index = self._tree.query(self.points, k=width)
        near = np.abs(places[index] - places[:, None]) < guard
        near |= index == np.arange(count)[:, None]
        rank = np.cumsum(~near, axis=1)
        taken = ~near & (rank <= k)
        counted = taken.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Array = np.where(taken, distance, 0.0).sum(1) / counted
        return result


def contamination_threshold(distances: Array, contamination: float) -> float:
    """The distance that a share `contamination` of normal distances (n,) exceeds (linear quantile)."""
    return float(np.quantile(distances, 1 - contamination))


def youden_threshold(normal: Array, abnormal: Array) -> float:
    """The similarity below which a pair is abnormal, at the largest TPR - FPR: of normal (n,) and abnormal (m,) ones.

    In the middle between two values that occur; of equal indices the one with the fewest false alarms.
    """
    from sklearn.metrics import roc_curve

    values = np.concatenate([normal, abnormal])
    truth = np.repeat([0, 1], [len(normal), len(abnormal)])
    false, true, thresholds = roc_curve(truth, -values, drop_intermediate=False)
    best = int(np.argmax(true - false))
    if best == 0:  # nothing is gained by calling any pair abnormal
        return float(values.min()) - 1e-6
    last_abnormal = -thresholds[best]
    above = values[values > last_abnormal]
    return float((last_abnormal + above.min()) / 2) if len(above) else float(last_abnormal) + 1e-6


def cosine(v: Array, t: Array) -> Array:
    """Row by row, (n, d) and (n, d) -> (n,); 0 where a row is zero."""
    norm = np.linalg.norm(v, axis=1) * np.linalg.norm(t, axis=1)
    return np.divide((v * t).sum(1), norm, out=np.zeros(len(v)), where=norm > 0)


@dataclass(frozen=True)
class TwoStage:
    """What detection has learnt: thresholds of distance and similarity, and the scale of each on normal samples."""

    distance_threshold: float
    distance_scale: float
    similarity_threshold: float
    similarity_scale: float

    def outlyingness(self, distance: Array, similarity: Array) -> Array:
        """The larger of the two deviations from their thresholds, in units of their scales: (n,).

        Above 0 exactly where stage 1 or stage 2 says abnormal.
        """
        return np.maximum(
            (distance - self.distance_threshold) / self.distance_scale,
            (self.similarity_threshold - similarity) / self.similarity_scale,
        )


def fit_two_stage(
    neighbours: Neighbours,
    normal_similarity: Array,
    abnormal_similarity: Array,
    *,
    k: int,
    contamination: float,
    places: Ids | None = None,
    guard: int = 1,
) -> TwoStage:
    """Thresholds and scales from validation samples alone.

    neighbours: the normal embeddings, each held against the others; places, guard: see `leave_one_out`, whose
    guard is dropped where it leaves nothing.
    """
    distances = neighbours.leave_one_out(k, places, guard)
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        distances = neighbours.leave_one_out(k)
        distances = distances[np.isfinite(distances)]
    if not len(distances):  # a single point
        distances = np.zeros(1)
    return TwoStage(
        contamination_threshold(distances, contamination),
        float(distances.std()) or 1.0,
        youden_threshold(normal_similarity, abnormal_similarity),
        float(normal_similarity.std()) or 1.0,
    )
