"""What stands beside the five metrics so that they cannot mislead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.exchange.truth import Truth
from fmfbench.scoring import pixel_ranks, ranks
from fmfbench.scoring.bootstrap import (
    Blocks,
    Interval,
    block_sums,
    block_weights,
    correlation_seconds,
    cut_blocks,
    metrics_of_counts,
    proportion_interval,
)
from fmfbench.scoring.circumstances import around_onset, occlusion_bands
from fmfbench.scoring.counts import Confusion, mask_counts
from fmfbench.scoring.events import event_intervals, event_metrics, match_events
from fmfbench.scoring.floor import floor_metrics, floor_warnings
from fmfbench.scoring.metrics import METRIC_NAMES, five_metrics
from fmfbench.scoring.orientation import orientation_ious, orientation_warning

__all__ = ["Evidence", "Tally", "gather_evidence", "tally"]

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

    def columns(self) -> NDArray[np.int64]:
        """(N, 8): frame counts, then pixel counts, zero without masks."""
        pixel = np.zeros_like(self.frame) if self.pixel is None else self.pixel
        return np.concatenate([self.frame, pixel], axis=1)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Intervals, ranking, events, recordings, circumstances, the floor, the threshold's origin, and warnings.

    Each is a mapping of plain types as it stands in the JSON document; `occlusion` is None without a truth.
    """

    intervals: Mapping[str, Any] = field(default_factory=dict)
    bootstrap: Mapping[str, Any] = field(default_factory=dict)
    ranking: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)
    recordings: Mapping[str, Any] = field(default_factory=dict)
    worst: Mapping[str, str] = field(default_factory=dict)
    around_onset: tuple[Mapping[str, Any], ...] = ()
    occlusion: Mapping[str, Any] | None = None
    threshold: Mapping[str, Any] = field(default_factory=dict)
    floor: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        names = ("intervals", "bootstrap", "ranking", "events", "recordings", "worst", "threshold", "floor")
        plain: dict[str, Any] = {name: dict(getattr(self, name)) for name in names}
        return plain | {
            "around_onset": [dict(row) for row in self.around_onset],
            "occlusion": None if self.occlusion is None else dict(self.occlusion),
            "warnings": list(self.warnings),
        }


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
    blocks = error_blocks([counts], labels, block_seconds)
    weights = block_weights(blocks, resamples, seed)
    metrics, _ = five_metrics(counts.frame_total, counts.pixel_total)
    replicates = metrics_of_counts(weights @ block_sums(blocks, counts.columns()))
    matched = match_events(labels.class_label, found.decision, labels.recording, labels.frame_time)
    values, reasons = event_metrics(matched)
    recordings = {
        labels.recordings[index]: _metrics_of(counts, labels.recording == index)
        for index in np.unique(labels.recording).tolist()
    }
    floor = floor_metrics(labels, train_prior)
    threshold, threshold_warnings = _threshold(found)
    orientation = None
    if counts.pixel is not None and labels.mask_bits is not None and found.mask_bits is not None:
        ious = orientation_ious(labels.mask_bits, found.mask_bits, labels.mask_shape or (0, 0))
        orientation = orientation_warning(ious)
    return Evidence(
        intervals={
            name: _interval(metrics[name], replicates[name], blocks).as_dict() for name in METRIC_NAMES
        },
        bootstrap={
            "level": 0.95,
            "blocks": len(blocks),
            "block_seconds": blocks.seconds,
            "correlation_seconds": blocks.correlation,
            "resamples": resamples,
            "seed": seed,
        },
        ranking=_joined(
            _ranking(found, labels, blocks, weights[:RANK_RESAMPLES]),
            _pixel_ranking(found, labels, blocks, weights[:RANK_RESAMPLES], aupro_limit),
        ),
        events=values | {"undefined": reasons, "intervals": event_intervals(matched, resamples, seed)},
        recordings=recordings,
        worst=_worst(recordings),
        around_onset=tuple(around_onset(labels, found.decision, matched.events)),
        occlusion=_occlusion(truth, labels, counts),
        threshold=threshold,
        floor=floor,
        warnings=(
            *threshold_warnings,
            *([orientation] if orientation else []),
            *floor_warnings(metrics, floor),
        ),
    )


def error_blocks(tallies: list[Tally], labels: Labels, block_seconds: float | None) -> Blocks:
    """Blocks as long as the most correlated of the submissions' errors, of frames or of pixels, ask for."""
    series = [counts.frame[:, 1] + counts.frame[:, 2] for counts in tallies]
    series += [counts.pixel[:, 1] + counts.pixel[:, 2] for counts in tallies if counts.pixel is not None]
    recording, times = labels.recording, labels.frame_time
    correlation = max(correlation_seconds(each.astype(float), recording, times) for each in series)
    return cut_blocks(recording, times, correlation, block_seconds)


def _pooled(counts: NDArray[np.int64]) -> Confusion:
    tn, fp, fn, tp = (int(value) for value in counts.sum(axis=0))
    return Confusion(tn=tn, fp=fp, fn=fn, tp=tp)


def _interval(value: float | None, replicates: NDArray[np.float64], blocks: Blocks) -> Interval:
    if value is None:
        return Interval(low=None, high=None, reason="undefined")
    return proportion_interval(value, replicates, blocks)


def _ranking(
    found: Predictions, labels: Labels, blocks: Blocks, weights: NDArray[np.float64]
) -> dict[str, Any]:
    assert labels.class_label is not None
    reason: str | None = "the file has decisions but no scores"
    if found.score is not None:
        ranking = ranks.rank(labels.class_label, found.score)
        reason = ranking.one_class
    if reason is not None:
        return {"auroc": None, "ap": None, "undefined": {"auroc": reason, "ap": reason}, "intervals": {}}
    values = {"auroc": ranks.auroc(ranking), "ap": ranks.average_precision(ranking)}
    replicates = ranks.rank_replicates(ranking, blocks.of_sample, weights)
    intervals = {
        name: _interval(values[name], replicates[name], blocks).as_dict() for name in ("auroc", "ap")
    }
    return values | {"undefined": {}, "intervals": intervals}


def _pixel_ranking(
    found: Predictions, labels: Labels, blocks: Blocks, weights: NDArray[np.float64], limit: float
) -> dict[str, Any]:
    names = ("pixel_auroc", "aupro")
    facts: dict[str, Any] = {"aupro_limit": limit, "regions": None, "pixel_score": None}
    reason, ranking = labels.no_mask, None
    if reason is None and found.pixel_score is None:
        reason = "no pixel_score in the file"
    elif reason is None and found.pixel_score is not None:
        assert labels.mask_bits is not None
        ranking = pixel_ranks.rank_pixels(found.pixel_score, labels.mask_bits, limit=limit, blocks=blocks)
        facts |= {"regions": ranking.regions, "pixel_score": found.pixel_score.dtype.name}
        reason = ranking.reason
    if ranking is None or ranking.auroc is None or ranking.aupro is None:
        undefined = dict.fromkeys(names, reason)
        return dict.fromkeys(names) | facts | {"undefined": undefined, "intervals": {}}
    values = {"pixel_auroc": ranking.auroc, "aupro": ranking.aupro}
    replicates = pixel_ranks.replicate_areas(ranking, weights)
    intervals = {name: _interval(values[name], replicates[name], blocks).as_dict() for name in names}
    return values | facts | {"undefined": {}, "intervals": intervals}


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    nested = {name: one[name] | other[name] for name in ("undefined", "intervals")}
    return one | other | nested


def _metrics_of(counts: Tally, rows: NDArray[np.bool_]) -> dict[str, Any]:
    frame = _pooled(counts.frame[rows])
    pixel = None if counts.pixel is None else _pooled(counts.pixel[rows])
    metrics, undefined = five_metrics(frame, pixel)
    return {"num_samples": frame.total, "metrics": metrics, "undefined": undefined}


def _occlusion(truth: Truth | None, labels: Labels, counts: Tally) -> dict[str, Any] | None:
    if truth is None:
        return None
    bands = occlusion_bands(truth, labels, lambda rows: _metrics_of(counts, rows))
    return {"source": truth.source, "bands": bands}


def _worst(recordings: Mapping[str, Any]) -> dict[str, str]:
    """For each metric the recording with the worst value."""
    worst = {}
    for name in METRIC_NAMES:
        known = {
            key: row["metrics"][name] for key, row in recordings.items() if row["metrics"][name] is not None
        }
        if known:
            pick = max if name in ("fdr", "mdr") else min
            worst[name] = pick(known, key=lambda key: known[key])
    return worst


def _threshold(found: Predictions) -> tuple[dict[str, Any], list[str]]:
    """Where the decisions' threshold came from, as far as the file says, and what is wrong with that."""
    stated = found.meta.get("threshold")
    origin = found.meta.get("threshold_origin", found.meta.get("threshold_from"))
    if isinstance(stated, dict):
        origin = stated.get("origin", stated.get("from", origin))
        stated = stated.get("value")
    value = None
    if isinstance(stated, (int, float)) and not isinstance(stated, bool) and abs(stated) < 1e300:
        value = float(stated)
    as_half = found.pred is None or (
        found.score is not None and np.array_equal(found.pred, (found.score > 0.5).astype(np.uint8))
    )
    warnings = []
    if found.pred is None and value not in (None, 0.5):
        warnings.append(
            f"THE STATED THRESHOLD {value:g} WAS NOT USED: without pred the decision is score > 0.5"
        )
    kind = _threshold_kind(origin)
    scores_tuned = kind == "test" and value in (None, 0.5)
    if as_half and (origin is None or (found.pred is None and not scores_tuned)):
        return {"value": 0.5, "origin": "fixed"}, warnings
    if kind == "test":
        warnings.insert(
            0, "THRESHOLD TUNED ON TEST: accuracy, F1, FDR and MDR are not those of an unseen split"
        )
    elif kind == "not stated":
        why = "pred comes without scores" if found.score is None else "pred is not score > 0.5"
        if as_half:
            why = f"meta.threshold_origin says {str(origin)[:40]!a}"
        warnings.append(
            f"THRESHOLD OF UNKNOWN ORIGIN: {why}; state meta.threshold_origin as fixed, validation or test"
        )
    if value is not None and found.score is not None and found.pred is not None:
        differ = int(np.count_nonzero(found.pred != (found.score > value)))
        if differ:
            warnings.append(f"PRED IS NOT SCORE > {value:g}: they differ on {differ} samples")
    return {"value": value, "origin": "TUNED ON TEST" if kind == "test" else kind}, warnings


def _threshold_kind(origin: Any) -> str:
    """fixed, validation, test or "not stated", by whole words: an "evaluation split" is none of them."""
    words = re.findall("[a-z]+", str(origin).lower()) if origin is not None else []
    known = {"test": ("test", "testing"), "validation": ("val", "valid", "validation"), "fixed": ("fixed",)}
    return next((kind for kind, names in known.items() if set(names) & set(words)), "not stated")
