"""What stands beside the five metrics so that they cannot mislead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.scoring import ranks
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
from fmfbench.scoring.events import event_intervals, event_metrics, match_events
from fmfbench.scoring.floor import floor_metrics, floor_warnings
from fmfbench.scoring.labels import Labels
from fmfbench.scoring.masks import mask_counts
from fmfbench.scoring.metrics import METRIC_NAMES, Confusion, five_metrics
from fmfbench.scoring.orientation import orientation_ious, orientation_warning
from fmfbench.scoring.prediction_reader import Predictions

__all__ = ["Evidence", "Tally", "gather_evidence", "tally"]

RANK_RESAMPLES = 200  # a spread needs fewer resamples than a quantile
ONSET_BINS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
_NS = 1_000_000_000


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
    """Intervals, ranking, events, recordings, the floor, the threshold's origin, and warnings.

    Each is a mapping of plain types as it stands in the JSON document.
    """

    intervals: Mapping[str, Any] = field(default_factory=dict)
    bootstrap: Mapping[str, Any] = field(default_factory=dict)
    ranking: Mapping[str, Any] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)
    recordings: Mapping[str, Any] = field(default_factory=dict)
    worst: Mapping[str, str] = field(default_factory=dict)
    since_onset: tuple[Mapping[str, Any], ...] = ()
    threshold: Mapping[str, Any] = field(default_factory=dict)
    floor: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        names = ("intervals", "bootstrap", "ranking", "events", "recordings", "worst", "threshold", "floor")
        plain: dict[str, Any] = {name: dict(getattr(self, name)) for name in names}
        return plain | {
            "since_onset": [dict(row) for row in self.since_onset],
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
    resamples: int = 2000,
    block_seconds: float | None = None,
    seed: int = 0,
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
        labels.recordings[index]: _recording_metrics(counts, labels.recording == index)
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
        ranking=_ranking(found, labels, blocks, weights[:RANK_RESAMPLES]),
        events=values | {"undefined": reasons, "intervals": event_intervals(matched, resamples, seed)},
        recordings=recordings,
        worst=_worst(recordings),
        since_onset=tuple(_since_onset(labels, found.decision, matched.events)),
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


def _recording_metrics(counts: Tally, rows: NDArray[np.bool_]) -> dict[str, Any]:
    frame = _pooled(counts.frame[rows])
    pixel = None if counts.pixel is None else _pooled(counts.pixel[rows])
    metrics, undefined = five_metrics(frame, pixel)
    return {"num_samples": frame.total, "metrics": metrics, "undefined": undefined}


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


def _since_onset(
    labels: Labels, decision: NDArray[np.uint8], events: NDArray[np.intp]
) -> list[dict[str, Any]]:
    """Share of abnormal frames found, by the time since their event's first scored frame."""
    assert labels.class_label is not None
    (rows,) = np.nonzero(labels.class_label == 1)
    if not len(rows):
        return []
    event = np.searchsorted(events[:, 0], rows, side="right") - 1
    elapsed = (labels.frame_time[rows] - labels.frame_time[events[event, 0]]) / _NS
    place = np.digitize(elapsed, ONSET_BINS) - 1
    table = []
    for index, start in enumerate(ONSET_BINS):
        inside = place == index
        stop = ONSET_BINS[index + 1] if index + 1 < len(ONSET_BINS) else None
        found = float(decision[rows[inside]].mean()) if inside.any() else None
        table.append({"from_s": start, "to_s": stop, "frames": int(inside.sum()), "found": found})
    return table


def _threshold(found: Predictions) -> tuple[dict[str, Any], list[str]]:
    """Where the decisions' threshold came from, as far as the file says, and what is wrong with that."""
    stated = found.meta.get("threshold")
    origin = found.meta.get("threshold_origin", found.meta.get("threshold_from"))
    if isinstance(stated, dict):
        origin = stated.get("origin", stated.get("from", origin))
        stated = stated.get("value")
    value = float(stated) if isinstance(stated, (int, float)) and not isinstance(stated, bool) else None
    as_half = found.pred is None or (
        found.score is not None and np.array_equal(found.pred, (found.score > 0.5).astype(np.uint8))
    )
    warnings = []
    if found.pred is None and value not in (None, 0.5):
        warnings.append(
            f"THE STATED THRESHOLD {value:g} WAS NOT USED: without pred the decision is score > 0.5"
        )
    if as_half and (found.pred is None or origin is None):
        return {"value": 0.5, "origin": "fixed"}, warnings
    word = str(origin).lower() if origin is not None else ""
    kind = next((name for name in ("test", "validation", "fixed") if name[:3] in word), "not stated")
    if kind == "test":
        warnings.insert(
            0, "THRESHOLD TUNED ON TEST: accuracy, F1, FDR and MDR are not those of an unseen split"
        )
    elif kind == "not stated":
        warnings.append(
            "THRESHOLD OF UNKNOWN ORIGIN: pred differs from score > 0.5; state meta.threshold_origin"
        )
    if value is not None and found.score is not None and found.pred is not None:
        differ = int(np.count_nonzero(found.pred != (found.score > value)))
        if differ:
            warnings.append(f"PRED IS NOT SCORE > {value:g}: they differ on {differ} samples")
    return {"value": value, "origin": "TUNED ON TEST" if kind == "test" else kind}, warnings
