"""All pairs of many submissions on one autocorrelated test set, with one error rate for the whole table.

The blocks of time and their resamples are shared by all models, so what is hard for all drops out of every difference,
and how the differences depend on each other is in the resamples too. The 95 % quantile of the largest studentised
difference (max-T; Westfall and Young 1993; Romano and Wolf 2005) makes intervals that hold the truth of *all* pairs
together in 95 % of cases. How often they do on simulated errors: data_cards/protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, floor, log10
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.labels import Labels
from fmfbench.scoring.bootstrap import (
    LEVEL,
    Blocks,
    block_weights,
    degrees_of_freedom,
    long_run_variance,
)
from fmfbench.scoring.evidence import Tally, error_blocks
from fmfbench.scoring.metrics import count_metrics, count_replicates, metric

__all__ = ["AllPairs", "all_pairs", "compare_all"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """Paired differences of M submissions in one metric, best first.

    Attributes:
        metric: the metric's name.
        names: (M,) of those that have a value, best first.
        values: (M,) their values.
        difference, low, high: (M, M) of row less column, and the simultaneous 95 % interval.
        num_samples: that they are of.
        groups: runs of `names` (first, last) within which no two can be told apart, none inside another.
    """

    metric: str
    names: tuple[str, ...]
    values: Floats
    difference: Floats
    low: Floats
    high: Floats
    groups: tuple[tuple[int, int], ...]
    num_samples: int

    def needed_samples(self) -> list[list[int | None]]:
        """For each pair, how many samples would tell apart a difference as large as the one seen, were it real.

        Half an interval shrinks with the root of the time. None where it is told apart or nothing differs.
        """
        half = (self.high - self.low) / 2
        return [
            [
                None
                if self.told_apart(a, b) or self.difference[a, b] == 0 or not np.isfinite(half[a, b])
                else _samples(self.num_samples, half[a, b], self.difference[a, b])
                for b in range(len(self.names))
            ]
            for a in range(len(self.names))
        ]

    def needed_for(self, difference: float) -> int | None:
        """How many samples the middle one of all pairs would need to tell a difference of this size apart.

        None without intervals.
        """
        half = ((self.high - self.low) / 2)[np.triu_indices(len(self.names), 1)]
        half = half[np.isfinite(half) & (half > 0)]
        return None if not len(half) else _samples(self.num_samples, float(np.median(half)), difference)

    def told_apart(self, first: int, second: int) -> bool:
        """Whether the interval of a pair leaves 0 out."""
        return bool(self.low[first, second] > 0 or self.high[first, second] < 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for a JSON document."""
        return {
            "metric": self.metric,
            "level": LEVEL,
            "models": list(self.names),
            "values": self.values.tolist(),
            "difference": self.difference.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "num_samples": self.num_samples,
            "needed_samples": self.needed_samples(),
            "needed_for_a_hundredth": self.needed_for(0.01),
            "cannot_be_told_apart": [list(self.names[a : b + 1]) for a, b in self.groups],
        }


def _samples(count: int, half: float, difference: float) -> int:
    """So many samples, rounded up to two digits: more would promise what no one knows."""
    exact = max(float(count) * (half / difference) ** 2, 1.0)
    unit = 10 ** max(floor(log10(exact)) - 1, 0)
    return ceil(exact / unit) * unit


def compare_all(
    tallies: Mapping[str, Tally],
    labels: Labels,
    names: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    block_seconds: float | None = None,
) -> dict[str, AllPairs]:
    """All pairs of submissions in each of some metrics of counts, on one set of resamples.

    Args:
        tallies: name -> counts of each sample, all in the order of `labels`.
        labels: of the scored samples.
        names: the metrics.
    """
    blocks = error_blocks(list(tallies.values()), labels, block_seconds, resamples)
    weights = block_weights(blocks, resamples, seed)
    values = {key: count_metrics(each.frame_total, each.pixel_total)[0] for key, each in tallies.items()}
    drawn = {key: count_replicates(weights @ each.by_block(blocks)) for key, each in tallies.items()}
    return {
        name: all_pairs(
            name,
            {key: value for key in tallies if (value := values[key][name]) is not None},
            {key: drawn[key][name] for key in tallies},
            blocks,
        )
        for name in names
    }


def all_pairs(
    name: str, values: Mapping[str, float], replicates: Mapping[str, Floats], blocks: Blocks
) -> AllPairs:
    """Simultaneous intervals of all differences, from replicates (R,) that share their resamples."""
    entry = metric(name)
    order = sorted(values, key=lambda key: values[key], reverse=entry.higher_is_better)
    value = np.array([values[key] for key in order])
    count = len(order)
    half = np.full((count, count), np.inf if blocks.degrees < 2 else 0.0)
    pairs = list(combinations(range(count), 2))
    if pairs and blocks.degrees >= 2:
        drawn = [replicates[order[a]] - replicates[order[b]] for a, b in pairs]
        widths = _half_widths(np.stack(drawn), np.array([value[a] - value[b] for a, b in pairs]), blocks)
        for (a, b), width in zip(pairs, widths.tolist(), strict=True):
            half[a, b] = half[b, a] = width
    difference = value[:, None] - value[None, :]
    low, high = np.maximum(difference - half, -1.0), np.minimum(difference + half, 1.0)
    apart = (low > 0) | (high < 0)
    return AllPairs(
        metric=name,
        names=tuple(order),
        values=value,
        difference=difference,
        low=low,
        high=high,
        groups=_groups(apart),
        num_samples=len(blocks.of_sample),
    )


def _half_widths(drawn: Floats, difference: Floats, blocks: Blocks) -> Floats:
    """(P,) half the simultaneous intervals, from (P, R) replicates of P differences."""
    from scipy.special import stdtrit

    finite = np.isfinite(drawn).all(axis=0)
    drawn = drawn[:, finite]
    if drawn.shape[1] < 20:
        return np.full(len(drawn), np.inf)
    spread = drawn.std(axis=1)
    known = spread > 0
    half = np.zeros(len(drawn))
    if not known.any():
        return half
    studentised = np.abs(drawn[known] - difference[known, None]) / spread[known, None]
    quantile = float(np.quantile(studentised.max(axis=0), LEVEL))
    tail = 1 - NormalDist().cdf(quantile)  # of one pair; its t quantile says what the variance does not know
    half[known] = [
        float(stdtrit(degrees_of_freedom(row, blocks), 1 - tail)) * long_run_variance(row, blocks) ** 0.5
        for row in drawn[known]
    ]
    return half


def _groups(apart: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Longest runs of two and more ranks within which no pair is told apart."""
    found: list[tuple[int, int]] = []
    count = len(apart)
    for first in range(count):
        last = first
        while last + 1 < count and not apart[first : last + 1, last + 1].any():
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
