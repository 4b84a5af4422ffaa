"""What stands beside the five metrics so that they cannot mislead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.exchange.truth import Truth
from fmfbench.scoring import pixel_ranks, ranks
from fmfbench.scoring.bootstrap import (
    MOST_WEIGHTS,
    Blocks,
    block_sums,
    block_weights,
    correlation_times,
    cut_blocks,
    frame_seconds,
)
from fmfbench.scoring.calibration import reliability
from fmfbench.scoring.circumstances import around_onset, occlusion_bands
from fmfbench.scoring.counts import Confusion, mask_counts
from fmfbench.scoring.events import match_events
from fmfbench.scoring.figures import count_figures, event_figures, pixel_rank_figures, rank_figures
from fmfbench.scoring.metrics import (
    CALIBRATION_METRICS,
    COUNT_METRICS,
    EVENT_METRICS,
    PIXEL_RANK_METRICS,
    RANK_METRICS,
    Figure,
    bearing_blocks,
    count_metrics,
    count_replicates,
    metric,
)
from fmfbench.scoring.orientation import orientation_ious, orientation_warning
from fmfbench.scoring.provenance import corruption_warnings
from fmfbench.scoring.threshold import threshold_of
from fmfbench.scoring.trivial import trivial_metrics, trivial_warnings

__all__ = ["Evidence", "Tally", "error_blocks", "gather_evidence", "no_pixels_reason", "tally"]

RANK_RESAMPLES = 200  # a spread needs fewer resamples than a quantile


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of each sample, in the order of the labels.

    `frame` (N, 4) and `pixel` (N, 4) int64 of TN, FP, FN, TP; `pixel` None where masks cannot be scored.
    """

    frame: NDArray[np.int64]
    pixel: NDArray[np.int64] | None

    @property
    def frame_total(self) -> Confusion:
        return _pooled(self.frame)

    @property
    def pixel_total(self) -> Confusion | None:
        return None if self.pixel is None else _pooled(self.pixel)

    def by_block(self, blocks: Blocks) -> NDArray[np.int64]:
        """(B, 8): frame counts, then pixel counts, zero without masks."""
        frame = block_sums(blocks, self.frame)
        pixel = np.zeros_like(frame) if self.pixel is None else block_sums(blocks, self.pixel)
        return np.concatenate([frame, pixel], axis=1)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Figures, and recordings, circumstances, trivial baselines, the threshold's origin, and warnings.

    `figures` are all metrics of the table in their order; the rest is plain types as it stands in the JSON document.
    `sensitivity` is of `strict_part`, and no part of the JSON document, which labels alone must give too; empty where
    the samples are not those of the split. `facts` are what ranking and events were counted from; `bins` are those of
    the calibration error (see `Reliability`); `occlusion` is None without a truth.
    """

    figures: tuple[Figure, ...] = ()
    bootstrap: Mapping[str, Any] = field(default_factory=dict)
    ranking_facts: Mapping[str, Any] = field(default_factory=dict)
    event_facts: Mapping[str, Any] = field(default_factory=dict)
    bins: tuple[Mapping[str, Any], ...] = ()
    recordings: Mapping[str, Any] = field(default_factory=dict)
    worst: Mapping[str, str] = field(default_factory=dict)
    around_onset: tuple[Mapping[str, Any], ...] = ()
    occlusion: Mapping[str, Any] | None = None
    threshold: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)
    sensitivity: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def intervals(self) -> dict[str, Any]:
        """Of the metrics of counts."""
        return {figure.name: figure.interval() for figure in self._of(COUNT_METRICS)}

    @property
    def ranking(self) -> dict[str, Any]:
        """AUROC, AP, pixel AUROC and AUPRO, their intervals, and what pixels were ranked."""
        return _section(self._of((*RANK_METRICS, *PIXEL_RANK_METRICS)), self.ranking_facts)

    @property
    def events(self) -> dict[str, Any]:
        """The event metrics, their intervals, and the counts behind them."""
        return _section(self._of(EVENT_METRICS), self.event_facts)

    @property
    def calibration(self) -> dict[str, Any]:
        """The calibration error, its interval, and its bins."""
        return _section(self._of(CALIBRATION_METRICS), {"bins": [dict(row) for row in self.bins]})

    def _of(self, names: tuple[str, ...]) -> list[Figure]:
        return [figure for figure in self.figures if figure.name in names]

    def to_dict(self) -> dict[str, Any]:
        names = (
            "intervals",
            "bootstrap",
            "ranking",
            "calibration",
            "events",
            "recordings",
            "worst",
            "threshold",
        )
        plain: dict[str, Any] = {name: dict(getattr(self, name)) for name in names}
        return plain | {
            "floor": dict(self.baselines),
            "around_onset": [dict(row) for row in self.around_onset],
            "occlusion": None if self.occlusion is None else dict(self.occlusion),
            "warnings": list(self.warnings),
        }


def _section(figures: list[Figure], facts: Mapping[str, Any]) -> dict[str, Any]:
    known = [figure for figure in figures if figure.value is not None]
    return (
        {figure.name: figure.value for figure in figures}
        | dict(facts)
        | {
            "undefined": {figure.name: figure.reason for figure in figures if figure.value is None},
            "intervals": {figure.name: figure.interval() for figure in known},
        }
    )


def tally(labels: Labels, decision: NDArray[np.uint8], mask_bits: NDArray[np.uint8] | None) -> Tally:
    """Count each sample's outcome and, where both sides have masks, its pixels'."""
    assert labels.class_label is not None
    frame = np.zeros((len(labels), 4), np.int64)
    frame[np.arange(len(labels)), 2 * labels.class_label.astype(np.intp) + decision] = 1
    if labels.no_mask is not None or labels.mask_bits is None or mask_bits is None:
        return Tally(frame=frame, pixel=None)
    height, width = labels.mask_shape or (0, 0)
    hits, predicted, true = mask_counts(labels.mask_bits, mask_bits).T
    wrong = predicted - hits, true - hits
    pixel = np.stack([height * width - hits - wrong[0] - wrong[1], *wrong, hits], axis=1)
    return Tally(frame=frame, pixel=pixel)


def gather_evidence(
    found: Predictions,
    labels: Labels,
    counts: Tally,
    *,
    train_prior: float | None = None,
    truth: Truth | None = None,
    resamples: int = 2000,
    block_seconds: float | None = None,
    seed: int = 0,
    aupro_limit: float = pixel_ranks.AUPRO_LIMIT,
) -> Evidence:
    """Everything beside the five metrics, for predictions checked against the very samples of `labels`."""
    assert labels.class_label is not None
    ranking = None if found.score is None else ranks.rank(labels.class_label, found.score)
    blocks = error_blocks([counts], labels, block_seconds, resamples, [ranking])
    weights = block_weights(blocks, resamples, seed)
    metrics, reasons = count_metrics(counts.frame_total, counts.pixel_total, no_pixels_reason(labels))
    sums = counts.by_block(blocks)
    replicates = count_replicates(weights @ sums)
    matched = match_events(labels.class_label, found.decision, labels.recording, labels.frame_time)
    pixels, no_pixels = _pixel_ranking(found, labels, blocks, aupro_limit)
    recordings = {
        labels.recordings[index]: _metrics_of(counts, labels.recording == index)
        for index in np.unique(labels.recording).tolist()
    }
    baselines = trivial_metrics(labels, train_prior)
    threshold, threshold_warnings = threshold_of(found)
    calibrated = reliability(labels.class_label, found.score, blocks, weights)
    orientation = None
    if counts.pixel is not None and labels.mask_bits is not None and found.mask_bits is not None:
        ious = orientation_ious(labels.mask_bits, found.mask_bits, labels.mask_shape or (0, 0))
        orientation = orientation_warning(ious)
    return Evidence(
        figures=(
            *count_figures(metrics, reasons, replicates, blocks, bearing_blocks(sums)),
            *rank_figures(ranking, blocks, weights[:RANK_RESAMPLES]),
            *pixel_rank_figures(pixels, no_pixels, blocks, weights[:RANK_RESAMPLES]),
            calibrated.ece,
            *event_figures(matched, resamples, seed, blocks, weights),
        ),
        bootstrap={
            "level": 0.95,
            "blocks": len(blocks),
            "block_seconds": blocks.seconds,
            "correlation_seconds": blocks.correlation,
            "recordings_apart": len(np.unique(blocks.recording)) == len(np.unique(labels.recording)),
            "resamples": resamples,
            "seed": seed,
        },
        ranking_facts={
            "aupro_limit": aupro_limit,
            "regions": None if pixels is None else pixels.regions,
            "pixel_score": None
            if found.pixel_score is None or pixels is None
            else found.pixel_score.dtype.name,
        },
        bins=calibrated.bins,
        event_facts={
            "events": len(matched.events),
            "detected": int(np.isfinite(matched.delay).sum()),
            "alarms": len(matched.alarms),
            "false_alarms": int(matched.false_counts.sum()),
            "normal_hours": float(matched.unit_normal_hours.sum()),
        },
        recordings=recordings,
        worst=_worst(recordings),
        around_onset=tuple(around_onset(labels, found.decision, matched.events)),
        occlusion=_occlusion(truth, labels, counts),
        threshold=threshold,
        baselines=baselines,
        warnings=(
            *corruption_warnings(found.meta),
            *threshold_warnings,
            *([orientation] if orientation else []),
            *trivial_warnings(metrics, baselines),
        ),
    )


def no_pixels_reason(labels: Labels) -> str:
    """Why metrics of pixels are undefined where no masks could be counted."""
    return labels.no_mask or "no mask in the file"


def error_blocks(
    tallies: list[Tally],
    labels: Labels,
    block_seconds: float | None,
    resamples: int | None = None,
    rankings: Sequence[ranks.Ranking | None] = (),
) -> Blocks:
    """Blocks as long as the most correlated of what the submissions' metrics are sums of ask for.

    To first order a metric moves with the mean of one series, its influence function: of accuracy whether a frame is
    right, of F1 and the like also which frames are abnormal, whose events may last far longer than errors do.

    Args:
        tallies, labels: of the submissions, on the same samples.
        block_seconds: the length instead.
        resamples: where the weights of so many would be more than may be held, blocks are longer.
        rankings: of the submissions' samples, for their AUROC and AP; None where a file has no scores.
    """
    recording, times = labels.recording, labels.frame_time
    series = [each for counts in tallies for each in _influences(counts)]
    for ranking in rankings:
        if ranking is not None:
            series += [ranks.area_influence(ranking), ranks.precision_influence(ranking)]
    correlation = max(correlation_times(series, recording, frame_seconds(recording, times)), default=0.0)
    most = None if resamples is None else MOST_WEIGHTS // resamples
    return cut_blocks(recording, times, correlation, block_seconds, most=most)


def _influences(counts: Tally) -> list[NDArray[np.float64]]:
    """(N,) of each metric of counts that is defined, and errors of frames and pixels."""
    found = []
    for kind, columns in (("frames", counts.frame), ("pixels", counts.pixel)):
        if columns is None:
            continue
        each = columns.astype(np.float64).T
        found.append(each[1] + each[2])
        for name in COUNT_METRICS:
            entry = metric(name)
            if entry.counted != kind:
                continue
            total = np.zeros(each.shape[1])
            for a, b in entry.formula(*each):
                parts = np.broadcast_to(np.asarray(b, np.float64), total.shape)
                if parts.sum() > 0:
                    total = total + (a - a.sum() / parts.sum() * parts) / parts.sum()
            found.append(total)
    return found


def _pooled(counts: NDArray[np.int64]) -> Confusion:
    tn, fp, fn, tp = (int(value) for value in counts.sum(axis=0))
    return Confusion(tn=tn, fp=fp, fn=fn, tp=tp)


def _pixel_ranking(
    found: Predictions, labels: Labels, blocks: Blocks, limit: float
) -> tuple[pixel_ranks.PixelRanking | None, str | None]:
    """The ranking of all pixels, or why there is none."""
    if labels.no_mask is not None:
        return None, labels.no_mask
    if found.pixel_score is None:
        return None, "no pixel_score in the file"
    assert labels.mask_bits is not None
    ranking = pixel_ranks.rank_pixels(found.pixel_score, labels.mask_bits, limit=limit, blocks=blocks)
    return ranking, ranking.reason


def _metrics_of(counts: Tally, rows: NDArray[np.bool_]) -> dict[str, Any]:
    frame = _pooled(counts.frame[rows])
    pixel = None if counts.pixel is None else _pooled(counts.pixel[rows])
    metrics, undefined = count_metrics(frame, pixel)
    return {"num_samples": frame.total, "metrics": metrics, "undefined": undefined}


def _occlusion(truth: Truth | None, labels: Labels, counts: Tally) -> dict[str, Any] | None:
    if truth is None:
        return None
    bands = occlusion_bands(truth, labels, lambda rows: _metrics_of(counts, rows))
    return {"source": truth.source, "bands": bands}


def _worst(recordings: Mapping[str, Any]) -> dict[str, str]:
    """For each metric the recording with the worst value."""
    worst = {}
    for name in COUNT_METRICS:
        known = {
            key: row["metrics"][name] for key, row in recordings.items() if row["metrics"][name] is not None
        }
        if known:
            worst[name] = str(metric(name).worst(known))
    return worst
