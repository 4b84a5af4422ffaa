"""The figures of a score: each metric's value with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.scoring import events, ranks
from fmfbench.scoring.bootstrap import Blocks, Interval, proportion_interval
from fmfbench.scoring.events import EventCounts
from fmfbench.scoring.metrics import (
    COUNT_METRICS,
    EVENT_METRICS,
    PIXEL_RANK_METRICS,
    RANK_METRICS,
    Figure,
    metric,
)
from fmfbench.scoring.pixel_ranks import PixelRanking, replicate_areas

__all__ = [
    "count_figures",
    "event_figures",
    "figure_text",
    "interval_text",
    "pixel_rank_figures",
    "rank_figures",
    "undefined_figures",
    "with_interval",
]

FEWEST_EVENTS = 5
_TAIL = 0.025

Floats = NDArray[np.float64]


def with_interval(
    name: str, value: float, replicates: Floats, blocks: Blocks, bearing: int | None = None
) -> Figure:
    """A share between 0 and 1 with the interval of its replicates."""
    found = proportion_interval(value, replicates, blocks, bearing)
    return Figure(name=name, value=value, low=found.low, high=found.high, reason=found.reason)


def undefined_figures(names: tuple[str, ...], reason: str) -> tuple[Figure, ...]:
    """Figures that cannot be had, all for one reason."""
    return tuple(Figure(name=name, value=None, reason=reason) for name in names)


def count_figures(
    values: Mapping[str, float | None],
    reasons: Mapping[str, str],
    replicates: Mapping[str, Floats] | None = None,
    blocks: Blocks | None = None,
    bearing: Mapping[str, int] | None = None,
) -> tuple[Figure, ...]:
    """Of the metrics of counts; without replicates they have no intervals."""
    figures = []
    for name in COUNT_METRICS:
        value = values[name]
        if value is None:
            figures.append(Figure(name=name, value=None, reason=reasons.get(name, "undefined")))
        elif replicates is None or blocks is None:
            figures.append(Figure(name=name, value=value, reason="no intervals were asked for"))
        else:
            figures.append(
                with_interval(
                    name, value, replicates[name], blocks, None if bearing is None else bearing[name]
                )
            )
    return tuple(figures)


def rank_figures(
    label: NDArray[np.integer[Any]],
    score: NDArray[np.floating[Any]] | None,
    blocks: Blocks,
    weights: Floats,
) -> tuple[Figure, ...]:
    """AUROC and AP of (N,) labels and scores; None: the file has none."""
    if score is None:
        return undefined_figures(RANK_METRICS, "the file has decisions but no scores")
    ranking = ranks.rank(label, score)
    if ranking.one_class is not None:
        return undefined_figures(RANK_METRICS, ranking.one_class)
    formulas = {name: metric(name).formula for name in RANK_METRICS}
    replicates = ranks.rank_replicates(ranking, blocks.of_sample, weights, formulas)
    return tuple(
        with_interval(name, formula(*ranks.cumulated(ranking)), replicates[name], blocks)
        for name, formula in formulas.items()
    )


def pixel_rank_figures(
    ranking: PixelRanking | None, reason: str | None, blocks: Blocks, weights: Floats
) -> tuple[Figure, ...]:
    """Pixel AUROC and AUPRO of a ranking, or why there is none."""
    if ranking is None or ranking.auroc is None or ranking.aupro is None:
        return undefined_figures(PIXEL_RANK_METRICS, reason or "undefined")
    values = {"pixel_auroc": ranking.auroc, "aupro": ranking.aupro}
    replicates = replicate_areas(ranking, weights)
    return tuple(with_interval(name, values[name], replicates[name], blocks) for name in PIXEL_RANK_METRICS)


def event_figures(found: EventCounts, resamples: int = 2000, seed: int = 0) -> tuple[Figure, ...]:
    """Of the event metrics, with percentile intervals from resampling whole events, each with its normal time.

    Where every event is found or none, no alarm is false, or normal time is free of alarms or full of them,
    resampling cannot vary; the exact binomial and Poisson bounds stand in for it.
    """
    plain = events.as_drawn(found)
    units = len(found.unit_normal_hours)
    few = len(found.events) < FEWEST_EVENTS
    why = f"only {len(found.events)} events; expected at least {FEWEST_EVENTS}"
    drawn = None
    if not few:
        draws = np.random.default_rng(seed).integers(units, size=(resamples, units))
        drawn = events.as_drawn(found, draws)
    bounds = _bounds(found)
    figures = []
    for name in EVENT_METRICS:
        entry = metric(name)
        value = float(entry.formula(plain)[0])
        if not np.isfinite(value):
            figures.append(Figure(name=name, value=None, reason=entry.undefined[0]))
            continue
        interval = Interval(low=None, high=None, reason=why)
        if drawn is not None:
            interval = bounds.get(name) or _percentiles(entry.formula(drawn))
        figures.append(
            Figure(name=name, value=value, low=interval.low, high=interval.high, reason=interval.reason)
        )
    return tuple(figures)


def _bounds(found: EventCounts) -> dict[str, Interval]:
    """Exact intervals where resampling cannot vary."""
    bounds: dict[str, Interval] = {}
    missed = np.isnan(found.delay)
    if len(missed) and (missed.all() or not missed.any()):
        bounds["event_recall"] = _one_sided(len(missed), all_of_them=not missed.any())
    hours = float(found.unit_normal_hours.sum())
    if hours and not found.false_counts.sum():
        bounds["false_alarms_per_hour"] = Interval(low=0.0, high=-log(_TAIL) / hours)
    share = float(found.unit_alarm_hours.sum()) / hours if hours else 0.5
    if share in (0.0, 1.0):
        bounds["alarm_time_normal"] = _one_sided(
            int((found.unit_normal_hours > 0).sum()), all_of_them=share == 1.0
        )
    return bounds


def _one_sided(count: int, *, all_of_them: bool) -> Interval:
    bound = float(_TAIL ** (1 / count))
    return Interval(low=bound, high=1.0) if all_of_them else Interval(low=0.0, high=1 - bound)


def _percentiles(replicates: Floats) -> Interval:
    finite = replicates[np.isfinite(replicates)]
    if len(finite) < 0.5 * len(replicates):
        return Interval(low=None, high=None, reason="undefined in most resamples")
    low, high = np.quantile(finite, [_TAIL, 1 - _TAIL])
    return Interval(low=float(low), high=float(high))


def figure_text(figure: Figure) -> str:
    """The value with as many digits as its interval supports; what is undefined says why.

    Example:
        >>> figure_text(Figure(name="f1", value=0.788847, low=0.7153, high=0.8508))
        '0.789'
    """
    if figure.value is None:
        return f"undefined: {figure.reason}"
    return f"{figure.value:.{_decimals(figure)}f}"


def interval_text(figure: Figure) -> str:
    """The interval in the same digits, '0.715 to 0.851'; empty where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    decimals = _decimals(figure)
    return f"{figure.low:.{decimals}f} to {figure.high:.{decimals}f}"


def _decimals(figure: Figure) -> int:
    """The second digit of half the interval's width is the last that says anything; four without an interval."""
    if figure.low is None or figure.high is None:
        return 4 if figure.metric.share else 2
    half = (figure.high - figure.low) / 2
    most, least = (6, 2) if figure.metric.share else (3, 0)
    return min(max(1 - floor(log10(half)), least), most) if half > 0 else 4
