"""The figures of a score: each metric's value with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log, log10

import numpy as np
from numpy.typing import NDArray

from fmfbench.scoring import events, ranks
from fmfbench.scoring.bootstrap import (
    FEWEST_BEARING,
    Blocks,
    Interval,
    block_sums,
    proportion_interval,
    rate_interval,
)
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
    "interval_words",
    "order_interval",
    "pixel_rank_figures",
    "rank_figures",
    "undefined_figures",
    "with_interval",
    "with_interval_text",
]

FEWEST_EVENTS = 5
NOT_ASKED = "no intervals were asked for"
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
            figures.append(Figure(name=name, value=value, reason=NOT_ASKED))
        else:
            figures.append(
                with_interval(
                    name, value, replicates[name], blocks, None if bearing is None else bearing[name]
                )
            )
    return tuple(figures)


def rank_figures(ranking: ranks.Ranking | None, blocks: Blocks, weights: Floats) -> tuple[Figure, ...]:
    """AUROC and AP of ranked samples; None: the file has no scores."""
    if ranking is None:
        return undefined_figures(RANK_METRICS, "the file has decisions but no scores")
    if ranking.one_class is not None:
        return undefined_figures(RANK_METRICS, ranking.one_class)
    block = blocks.of_sample[ranking.order]
    bearing = min(
        int(np.count_nonzero(np.bincount(block[side]))) for side in (ranking.abnormal, ~ranking.abnormal)
    )
    formulas = {name: metric(name).formula for name in RANK_METRICS}
    replicates = ranks.rank_replicates(ranking, blocks.of_sample, weights, formulas)
    cumulated = ranks.cumulated(ranking)
    return tuple(
        with_interval(name, float(formula(*cumulated)), replicates[name], blocks, bearing)
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
    bearing = None
    if ranking.blocks is not None:
        bearing = int(np.count_nonzero(ranking.blocks[:2].sum(axis=2) > 0, axis=1).min())
    return tuple(
        with_interval(name, values[name], replicates[name], blocks, bearing) for name in PIXEL_RANK_METRICS
    )


def event_figures(
    found: EventCounts,
    resamples: int = 2000,
    seed: int = 0,
    blocks: Blocks | None = None,
    weights: Floats | None = None,
) -> tuple[Figure, ...]:
    """Of the event metrics with their intervals, for which at least five events are expected.

    Recall has the exact binomial interval of as many events as its spread over blocks of time leaves; the median delay
    percentiles of resampled events, the 95th percentile those of its order statistics, which takes 72 detected events;
    false alarms and alarm time are counted by block of time. Without `blocks` those two resample whole events, each
    with its normal time. Where normal time is free of alarms or full of them, exact bounds stand.
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
    if blocks is not None and weights is not None:
        bounds |= _by_blocks(found, blocks, weights)
    if not few:
        bounds |= {"delay_p95_s": order_interval(found.delay[np.isfinite(found.delay)], 0.95)}
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


def _by_blocks(found: EventCounts, blocks: Blocks, weights: Floats) -> dict[str, Interval]:
    """Of recall, false alarms and alarm time, from sums by block of time."""
    happened = np.zeros((len(blocks.of_sample), 5))
    happened[found.events[:, 0], 0] = 1
    happened[found.events[:, 0], 1] = np.isfinite(found.delay)
    happened[found.normal, 2] = 1
    happened[found.normal & found.on, 3] = 1
    np.add.at(happened[:, 4], found.false_spans[:, 0], found.false_counts)
    sums = block_sums(blocks, happened)
    events_, detected, normal, alarmed, false = sums.sum(axis=0)
    drawn = (weights @ sums).T
    hours = float(found.unit_normal_hours.sum())
    intervals: dict[str, Interval] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        if events_:
            intervals["event_recall"] = _recall_interval(detected, events_, drawn[1] / drawn[0])
        seen = int(np.count_nonzero(sums[:, 2]))
        if normal and seen < FEWEST_BEARING:
            reason = f"cannot be had: only {seen} blocks of {blocks.seconds:.1f} s hold normal time"
            refused = Interval(low=None, high=None, reason=reason)
            return intervals | {"alarm_time_normal": refused, "false_alarms_per_hour": refused}
        if normal:
            intervals["false_alarms_per_hour"] = rate_interval(
                float(false),
                hours,
                drawn[4] / (drawn[2] * hours / normal),
                blocks,
                int(np.count_nonzero(sums[:, 4])),
            )
        if 0 < alarmed < normal:
            bearing = min(np.count_nonzero(sums[:, 3]), np.count_nonzero(sums[:, 2] > sums[:, 3]))
            intervals["alarm_time_normal"] = proportion_interval(
                alarmed / normal, drawn[3] / drawn[2], blocks, int(bearing)
            )
    return intervals


def _recall_interval(detected: float, count: float, replicates: Floats) -> Interval:
    """Clopper and Pearson's, of fewer events where they are found and missed in runs."""
    from scipy.special import betaincinv

    share, finite = detected / count, replicates[np.isfinite(replicates)]
    size = count
    if 0 < share < 1 and len(finite) > 1 and finite.var() > 0:
        size = min(count, share * (1 - share) / float(finite.var()))
    hits, misses = share * size, (1 - share) * size
    low = float(betaincinv(hits, misses + 1, _TAIL)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - _TAIL)) if misses > 0 else 1.0
    return Interval(low=low, high=high)


def order_interval(values: Floats, level: float) -> Interval:
    """Of a quantile, from its order statistics: whatever the distribution (David and Nagaraja 2003, section 7.1)."""
    from scipy.stats import binom

    count = len(values)
    fewest = ceil(log(_TAIL) / log(level))
    if count < fewest:
        return Interval(
            low=None, high=None, reason=f"cannot be had: {count} detected events, expected at least {fewest}"
        )
    ordered = np.sort(values)
    low, high = int(binom.ppf(_TAIL, count, level)), int(binom.ppf(1 - _TAIL, count, level))
    return Interval(low=float(ordered[max(low - 1, 0)]), high=float(ordered[min(high, count - 1)]))


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


def with_interval_text(figure: Figure) -> str:
    """The value and, where there is one, its interval behind it: '0.789 (0.715 to 0.851)'."""
    interval = interval_text(figure)
    return f"{figure_text(figure)} ({interval})" if interval else figure_text(figure)


def interval_words(figure: Figure) -> str:
    """The interval in the value's digits, or that it cannot be had; empty where nobody asked or there is no value.

    Example:
        >>> interval_words(Figure(name="f1", value=0.98, reason="cannot be had: carried by 3 blocks of 5.0 s"))
        'cannot be had'
    """
    if figure.value is None or figure.reason in (None, NOT_ASKED):
        return interval_text(figure)
    return interval_text(figure) or "cannot be had"


def _decimals(figure: Figure) -> int:
    """The second digit of half the interval's width is the last that says anything; four without an interval."""
    if figure.low is None or figure.high is None:
        return 4 if figure.metric.share else 2
    half = (figure.high - figure.low) / 2
    most, least = (6, 2) if figure.metric.share else (3, 0)
    return min(max(1 - floor(log10(half)), least), most) if half > 0 else 4 if figure.metric.share else 2
