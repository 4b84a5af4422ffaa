"""Every metric in one table: name, titles, formula, direction, and what it is counted from.

The score, its intervals, `compare`, the trivial baselines, the tables, the page, the board, validation during training
and the outlier scores all read it. A new metric is one entry here.

FDR is the paper's *false detection rate*, FP / (FP + TN): elsewhere the false positive rate, not the
false discovery rate. MDR is its *missed detection rate*, FN / (FN + TP): one minus recall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fmfbench.scoring import events, ranks
from fmfbench.scoring.counts import Confusion

__all__ = [
    "CALIBRATION_METRICS",
    "COUNT_METRICS",
    "EVENT_METRICS",
    "METRICS",
    "OUTLIER_METRICS",
    "PIXEL_RANK_METRICS",
    "RANK_METRICS",
    "Figure",
    "Metric",
    "bearing_blocks",
    "count_metrics",
    "count_replicates",
    "metric",
    "official_metrics",
]

Floats = NDArray[np.float64]
Quotients = tuple[tuple[Any, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric is.

    Attributes:
        name: in JSON and CSV.
        title: in tables, with the formula where the name alone misleads.
        short: where columns are narrow.
        counted: "frames" and "pixels": `formula(tn, fp, fn, tp)` gives pairs of numerator and denominator, of which
            the mean quotient is the value; whole numbers and arrays alike. "scores": `formula(hits, misses)` of the
            cumulated weights of abnormal and normal samples, from the highest score down. "pixel scores": areas that
            `pixel_ranks` counts. "bins": of scores in bins, `formula(gaps)` of (..., bins) sums of label minus score,
            divided by the number of samples. "events": `formula(drawn)` of an `EventDraw`.
        higher_is_better: the direction.
        undefined: why there is no value where a denominator is 0; one reason for each quotient.
        judges: the classes of which an interval needs to have seen enough (`bearing_blocks`).
        official: the value with the smoothing constants of the authors' released code; None: it has no such metric.
        share: it lies between 0 and 1.
        overall: it judges both classes: a constant answer is not perfect in it, so it can be held against the trivial
            baselines.
    """

    name: str
    title: str
    short: str
    counted: Literal["frames", "pixels", "scores", "pixel scores", "bins", "events"]
    higher_is_better: bool
    formula: Callable[..., Any]
    undefined: tuple[str, ...] = ()
    judges: tuple[Literal["normal", "abnormal"], ...] = ()
    official: Callable[[Confusion], float] | None = None
    share: bool = True
    overall: bool = True

    def of_columns(self, columns: NDArray[Any]) -> NDArray[Any]:
        """TN, FP, FN, TP of what it is counted from: of (8, ...), the first four of frames, then four of pixels."""
        return columns[:4] if self.counted == "frames" else columns[4:]

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is the better value of the two; equal ones are not."""
        return one > other if self.higher_is_better else one < other

    def gain(self, one: float, other: float) -> float:
        """By how much `one` is better than `other`; below 0 where it is worse."""
        return one - other if self.higher_is_better else other - one

    def worst(self, values: Mapping[str, float | None]) -> str | None:
        """The key of the worst value; None where none is known."""
        known = {key: value for key, value in values.items() if value is not None}
        pick = min if self.higher_is_better else max
        return pick(known, key=lambda key: known[key]) if known else None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value of a score with its 95 % interval.

    `reason` says why there is no value or, where there is one, no interval.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def metric(self) -> Metric:
        return metric(self.name)

    def interval(self) -> dict[str, Any]:
        """As it stands in the JSON document."""
        if self.low is not None and self.high is not None:
            return {"low": self.low, "high": self.high}
        return {"low": None, "high": None, "reason": "undefined" if self.value is None else self.reason}


def _accuracy(tn: Any, fp: Any, fn: Any, tp: Any) -> Quotients:
    return ((tn + tp, tn + fp + fn + tp),)


def _f1(tn: Any, fp: Any, fn: Any, tp: Any) -> Quotients:
    return ((2 * tp, 2 * tp + fp + fn),)


def _false_positive_rate(tn: Any, fp: Any, fn: Any, tp: Any) -> Quotients:
    return ((fp, fp + tn),)


def _miss_rate(tn: Any, fp: Any, fn: Any, tp: Any) -> Quotients:
    return ((fn, fn + tp),)


def _recall(tn: Any, fp: Any, fn: Any, tp: Any) -> Quotients:
    return ((tp, fn + tp),)


def _mean_iou(tn: Any, fp: Any, fn: Any, tp: Any) -> Quotients:
    return ((tn, tn + fp + fn), (tp, tp + fp + fn))


def _calibration_error(gaps: Any) -> Any:
    return np.abs(gaps).sum(axis=-1)


_RATE_EPSILON, _F1_EPSILON, _IOU_EPSILON = 1e-6, 1e-5, 1e-5


def _official_f1(c: Confusion) -> float:
    precision = c.tp / (c.tp + c.fp + _RATE_EPSILON)
    recall = c.tp / (c.tp + c.fn + _RATE_EPSILON)
    return 2 * precision * recall / (precision + recall + _F1_EPSILON)


def _official_iou(c: Confusion) -> float:
    return sum(same / (same + c.fp + c.fn + _IOU_EPSILON) for same in (c.tn, c.tp)) / 2


METRICS: tuple[Metric, ...] = (
    Metric(
        name="accuracy",
        title="accuracy",
        short="Acc",
        counted="frames",
        higher_is_better=True,
        formula=_accuracy,
        undefined=("no samples",),
        official=lambda c: (c.tp + c.tn) / (c.total + _RATE_EPSILON),
    ),
    Metric(
        name="f1",
        title="F1",
        short="F1",
        counted="frames",
        higher_is_better=True,
        formula=_f1,
        undefined=("no sample is labelled or predicted abnormal",),
        judges=("abnormal",),
        official=_official_f1,
    ),
    Metric(
        name="fdr",
        title="FDR = FP/(FP+TN)",
        short="FDR",
        counted="frames",
        higher_is_better=False,
        formula=_false_positive_rate,
        undefined=("no sample is normal",),
        judges=("normal",),
        official=lambda c: c.fp / (c.fp + c.tn + _RATE_EPSILON),
        overall=False,
    ),
    Metric(
        name="mdr",
        title="MDR = FN/(FN+TP)",
        short="MDR",
        counted="frames",
        higher_is_better=False,
        formula=_miss_rate,
        undefined=("no sample is abnormal",),
        judges=("abnormal",),
        official=lambda c: c.fn / (c.fn + c.tp + _RATE_EPSILON),
        overall=False,
    ),
    Metric(
        name="miou",
        title="mIoU",
        short="mIoU",
        counted="pixels",
        higher_is_better=True,
        formula=_mean_iou,
        undefined=(
            "no pixel is normal in labels or predictions",
            "no pixel is abnormal in labels or predictions",
        ),
        judges=("normal", "abnormal"),
        official=_official_iou,
    ),
    Metric(
        name="auroc",
        title="AUROC",
        short="AUROC",
        counted="scores",
        higher_is_better=True,
        formula=ranks.area,
    ),
    Metric(
        name="ap",
        title="AP",
        short="AP",
        counted="scores",
        higher_is_better=True,
        formula=ranks.precision,
    ),
    Metric(
        name="pixel_auroc",
        title="pixel AUROC",
        short="pixel AUROC",
        counted="pixel scores",
        higher_is_better=True,
        formula=ranks.staircase_area,
    ),
    Metric(
        name="aupro",
        title="AUPRO",
        short="AUPRO",
        counted="pixel scores",
        higher_is_better=True,
        formula=ranks.staircase_area,
    ),
    Metric(
        name="ece",
        title="ECE, calibration error",
        short="ECE",
        counted="bins",
        higher_is_better=False,
        formula=_calibration_error,
        undefined=("no samples",),
        overall=False,
    ),
    Metric(
        name="event_recall",
        title="event recall",
        short="event recall",
        counted="events",
        higher_is_better=True,
        formula=events.recall,
        undefined=("no events",),
    ),
    Metric(
        name="delay_median_s",
        title="detection delay, median (s)",
        short="delay (s)",
        counted="events",
        higher_is_better=False,
        formula=events.median_delay,
        undefined=("no event was detected",),
        share=False,
    ),
    Metric(
        name="delay_p95_s",
        title="detection delay, 95th percentile (s)",
        short="delay p95 (s)",
        counted="events",
        higher_is_better=False,
        formula=events.late_delay,
        undefined=("no event was detected",),
        share=False,
    ),
    Metric(
        name="false_alarms_per_hour",
        title="false alarms per hour of normal time",
        short="false alarms/h",
        counted="events",
        higher_is_better=False,
        formula=events.false_alarm_rate,
        undefined=("no normal time",),
        share=False,
    ),
    Metric(
        name="alarm_time_normal",
        title="share of normal time predicted abnormal",
        short="alarm time",
        counted="events",
        higher_is_better=False,
        formula=events.alarm_time,
        undefined=("no normal time",),
    ),
)

_BY_NAME = {entry.name: entry for entry in METRICS}
COUNT_METRICS = tuple(entry.name for entry in METRICS if entry.counted in ("frames", "pixels"))
RANK_METRICS = tuple(entry.name for entry in METRICS if entry.counted == "scores")
PIXEL_RANK_METRICS = tuple(entry.name for entry in METRICS if entry.counted == "pixel scores")
CALIBRATION_METRICS = tuple(entry.name for entry in METRICS if entry.counted == "bins")
EVENT_METRICS = tuple(entry.name for entry in METRICS if entry.counted == "events")

# What outliers among normal samples are scored by, under the names of that literature.
OUTLIER_METRICS: tuple[Metric, ...] = (
    _BY_NAME["auroc"],
    Metric(
        name="fpr",
        title="FPR",
        short="FPR",
        counted="frames",
        higher_is_better=False,
        formula=_false_positive_rate,
        undefined=("no such samples",),
    ),
    Metric(
        name="tpr",
        title="TPR",
        short="TPR",
        counted="frames",
        higher_is_better=True,
        formula=_recall,
        undefined=("no such samples",),
    ),
    _BY_NAME["accuracy"],
)


def metric(name: str) -> Metric:
    """The metric of a name; KeyError where there is none.

    Example:
        >>> metric("mdr").higher_is_better
        False
    """
    return _BY_NAME[name]


def count_metrics(
    frame: Confusion, pixel: Confusion | None, no_pixels: str = "no mask"
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The metrics of counts (the official five) and, for each that is undefined, why.

    Args:
        frame: counts over the samples.
        pixel: counts pooled over all pixels of all samples, or None where masks are not to be had.
        no_pixels: the reason to give for metrics of pixels when `pixel` is None.

    Returns:
        (values, reasons): a value is None exactly when a denominator is 0 and then has a reason. No smoothing
        constant anywhere: each quotient of integers is rounded once.

    Example:
        >>> count_metrics(Confusion(tn=6, fp=2, fn=1, tp=1), None)[0]["fdr"]
        0.25
    """
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name in COUNT_METRICS:
        entry = _BY_NAME[name]
        counts = frame if entry.counted == "frames" else pixel
        values[name] = None
        if counts is None:
            reasons[name] = no_pixels
            continue
        quotients = entry.formula(counts.tn, counts.fp, counts.fn, counts.tp)
        missing = [
            why for (_, denominator), why in zip(quotients, entry.undefined, strict=True) if not denominator
        ]
        if missing:
            reasons[name] = (
                missing[0] if len(missing) < 2 else f"no {entry.counted.removesuffix('s')} is scored"
            )
        else:
            values[name] = sum(numerator / denominator for numerator, denominator in quotients) / len(
                quotients
            )
    return values, reasons


def count_replicates(counts: NDArray[Any], names: tuple[Metric, ...] | None = None) -> dict[str, Floats]:
    """The metrics of counts of (R, 8) weighted counts, each (R,); NaN where undefined.

    Columns: frame TN, FP, FN, TP, then pixel TN, FP, FN, TP. With `names`, metrics of frames alone, (R, 4) is enough.
    """
    columns = np.asarray(counts, np.float64).T
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for entry in names or tuple(_BY_NAME[name] for name in COUNT_METRICS):
            quotients = entry.formula(*entry.of_columns(columns))
            found[entry.name] = np.asarray(sum(a / b for a, b in quotients) / len(quotients), np.float64)
    return found


def bearing_blocks(sums: NDArray[Any]) -> dict[str, int]:
    """In how many blocks both sides of each metric of counts are seen, from block sums (B, 8).

    A value is carried by the blocks in which something goes wrong as much as by those in which something goes right:
    the fewer of the two, over the metric's quotients. An interval's degrees of freedom cannot be more. Where fewer than
    five blocks hold a class that the metric judges, it is carried by those at most, and by one at least: that nothing
    went wrong there says nothing.
    """
    columns = np.asarray(sums).T
    found = {}
    for name in COUNT_METRICS:
        entry = _BY_NAME[name]
        tn, fp, fn, tp = entry.of_columns(columns)
        found[name] = min(
            int(np.count_nonzero(side > 0))
            for a, b in entry.formula(tn, fp, fn, tp)
            for side in (a, np.asarray(b) - np.asarray(a))
        )
        classes = {"normal": tn + fp, "abnormal": fn + tp}
        seen = [int(np.count_nonzero(classes[each] > 0)) for each in entry.judges]
        if seen and min(seen) < 5 and (tn + fp + fn + tp).any():
            found[name] = max(1, min(found[name], *seen))
    return found


def official_metrics(frame: Confusion, pixel: Confusion | None) -> dict[str, float | None]:
    """The five with the smoothing constants of the authors' released evaluation code, to match its numbers.

    With e = 1e-6: accuracy = (TP+TN)/(N+e), p = TP/(TP+FP+e), r = TP/(TP+FN+e), F1 = 2pr/(p+r+1e-5),
    FDR = FP/(FP+TN+e), MDR = FN/(FN+TP+e); mIoU = mean over both classes of I/(U+1e-5).
    So a perfect score stays below 1, an absent class scores 0, and without positives F1 and MDR read 0.
    mIoU is None only where there are no masks, a metric that the released code lacks always.
    """
    values: dict[str, float | None] = {}
    for name in COUNT_METRICS:
        entry = _BY_NAME[name]
        counts = frame if entry.counted == "frames" else pixel
        values[name] = None if counts is None or entry.official is None else entry.official(counts)
    return values
