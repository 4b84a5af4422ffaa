"""A score as one HTML file that needs nothing else: tables, curves, timelines, and the worst errors as pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fmfbench.errors import InputError
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.files.markdown import number
from fmfbench.files.problems import check_target
from fmfbench.files.wording import counted
from fmfbench.plots.page import metric_rows, page, table_html, write_page
from fmfbench.plots.svg import bar_chart, curve_plot, reliability_plot
from fmfbench.plots.timelines import timelines
from fmfbench.plots.worst_errors import worst_errors
from fmfbench.scoring import ranks
from fmfbench.scoring.events import match_events
from fmfbench.scoring.evidence_rows import (
    count_titles,
    occlusion_caption,
    occlusion_head,
    occlusion_rows,
    onset_rows,
    reliability_head,
    reliability_rows,
)
from fmfbench.scoring.figures import figure_text, interval_text
from fmfbench.scoring.metrics import COUNT_METRICS
from fmfbench.scoring.provenance import corruption_of
from fmfbench.scoring.result import (
    INTERVAL_WORTH,
    Score,
    pixel_facts,
    sensitivity_head,
    sensitivity_rows,
    title_of,
)
from fmfbench.scoring.trivial import trivial_warnings

__all__ = ["write_report"]


def write_report(
    path: str | os.PathLike[str],
    score: Score,
    found: Predictions,
    labels: Labels,
    data: Any = None,
    *,
    studio: str | None = None,
) -> Path:
    """Write the report of a score.

    Args:
        path: the .html file to write, replaced when whole.
        score: with its evidence.
        found: the predictions, in the order of `labels`.
        labels: of the scored samples.
        studio: where `fmfbench studio` serves the store; recordings and pictures then link to their frame in it.
        data: the open data set, for currents, splits and pictures; without it the report says they are missing.

    Raises:
        InputError: the folder does not exist, the path is one, or the score has no evidence to report.
    """
    path = Path(path)
    check_target(path)
    if score.evidence is None:
        raise InputError(
            f"{path}: expected a score with evidence (no compat, at least one sample) to report, got one without"
        )
    assert labels.class_label is not None
    matched = match_events(labels.class_label, found.decision, labels.recording, labels.frame_time)
    parts = [
        _head(score),
        _metrictable_html(score),
        timelines(found, labels, matched, data, studio),
        _curves(found, labels, score),
        _reliability(score),
        _recordings(score),
        _circumstances(score),
        _sensitivity(score),
        worst_errors(found, labels, data, studio),
        _confusions(score),
        _about(score),
    ]
    return write_page(path, page(_title(score), "\n".join(parts)))


def _title(score: Score) -> str:
    title = f"{score.meta.get('model', score.file)!s:.80}, split {score.split}"
    if score.sample_set == "per-second":
        title += ", per-second sample set (not to be compared with figures of every frame)"
    if (preset := corruption_of(score.meta)) is not None:
        title += f", CORRUPTED INPUT ({preset})"
    return title


def _head(score: Score) -> str:
    evidence = score.evidence
    assert evidence is not None
    warnings = "".join(f'<div class="warn">{escape(text)}</div>' for text in evidence.warnings)
    notes = "".join(f"<p>Note: {escape(note)}</p>" for note in score.notes)
    facts = [f"{key}: {score.meta[key]}" for key in ("model", "seed") if key in score.meta]
    facts += [f"file: {score.file}", f"data: {score.fingerprint[:16]}"]
    told = escape("; ".join(fact[:200] for fact in facts))
    return f'<h1>{escape(_title(score))}</h1>{_verdict(score)}{warnings}{notes}<p class="key">{told}</p>'


def _verdict(score: Score) -> str:
    """What a reader wants to know first, in a sentence or two."""
    evidence = score.evidence
    assert evidence is not None
    events = evidence.event_facts
    accuracy, miou = score.figure("accuracy"), score.figure("miou")
    told = f"{score.num_samples} samples judged, accuracy {figure_text(accuracy)}"
    told += f" ({interval_text(accuracy)})" if accuracy.low is not None else ""
    told += f", mIoU {figure_text(miou)}" if miou.value is not None else ""
    told += (
        f". {events['detected']} of {events['events']} events detected, "
        f"{counted(events['false_alarms'], 'false alarm')} in {events['normal_hours']:.3g} h of normal time."
    )
    beaten = [name for name, row in evidence.baselines.items() if _better_than(score, row)]
    if len(beaten) == len(evidence.baselines):
        told += " Better than every trivial baseline in accuracy, F1 and mIoU, as far as they are defined."
        return f'<div class="good">{escape(told)}</div>'
    return f"<p>{escape(told)}</p>"


def _better_than(score: Score, row: Mapping[str, float | None]) -> bool:
    return not trivial_warnings(score.metrics, {"it": row})


def _metrictable_html(score: Score) -> str:
    assert score.evidence is not None
    official = [(title_of(score, f.name), f) for f in score.shown() if f.name in COUNT_METRICS]
    others = [(title_of(score, f.name), f) for f in score.shown() if f.name not in COUNT_METRICS]
    exact = [(title_of(score, f.name), *(number(v) for v in (f.value, f.low, f.high))) for f in score.shown()]
    head = ("metric", "value", "95 % interval", "0 to 1")
    boot = score.evidence.bootstrap
    return (
        "<h2>Metrics</h2>"
        + table_html(head, metric_rows(official), raw=(3,))
        + "<h3>Ranking, calibration and events</h3>"
        + table_html(head, metric_rows(others), raw=(3,))
        + f"<details><summary>all digits</summary>{table_html(('metric', 'value', 'low', 'high'), exact)}</details>"
        + (f'<p class="key">{escape(facts)}.</p>' if (facts := pixel_facts(score)) else "")
        + f'<p class="key">{escape(INTERVAL_WORTH)} {boot["blocks"]} blocks of {boot["block_seconds"]:.1f} s; '
        f"errors are correlated over {boot['correlation_seconds']:.2f} s. "
        "Where an interval cannot be had, too little happened in too few blocks of time.</p>"
    )


def _curves(found: Predictions, labels: Labels, score: Score) -> str:
    assert labels.class_label is not None
    heading = "<h2>Scores against labels</h2>"
    if found.score is None:
        return heading + "<p>The file has decisions but no scores: no curves.</p>"
    ranking = ranks.rank(labels.class_label, found.score)
    if ranking.one_class:
        return heading + f"<p>No curves: {ranking.one_class}.</p>"
    counts = score.frame
    recall_at = counts.tp / (counts.tp + counts.fn)
    precise_at = counts.tp / (counts.tp + counts.fp) if counts.tp + counts.fp else 1.0
    roc = curve_plot(
        *ranks.roc_curve(ranking),
        f"ROC, AUROC {ranks.auroc(ranking):.4f}",
        "FP/(FP+TN)",
        "TP/(TP+FN)",
        step=False,
        decision=(counts.fp / (counts.fp + counts.tn), recall_at),
    )
    recall, precision = ranks.precision_recall_curve(ranking)
    pr = curve_plot(
        np.append(0, recall),
        np.append(precision[0], precision),
        f"precision-recall, AP {ranks.average_precision(ranking):.4f}",
        "recall",
        "precision",
        step=True,
        decision=(recall_at, precise_at),
    )
    key = f'<p class="key">The dot is where the decisions stand ({escape(score.decision)}).</p>'
    return f'{heading}{key}<div class="row">{roc}{pr}</div>'


def _reliability(score: Score) -> str:
    """Whether scores mean what they say: the diagram, and the table behind it."""
    evidence = score.evidence
    assert evidence is not None
    rows = reliability_rows(evidence)
    heading = "<h2>Calibration</h2>"
    if not rows:
        return f"{heading}<p>The file has decisions but no scores: nothing to calibrate.</p>"
    key = (
        '<p class="key">Of the samples of a bin of scores, the share that is labelled abnormal: on the diagonal a '
        f"score is a probability. {escape(title_of(score, 'ece'))} is the mean distance from it, each bin weighing as "
        "many samples as it has; the bars below are the shares of all samples.</p>"
    )
    plot = reliability_plot(evidence.bins, f"reliability, ECE {figure_text(score.figure('ece'))}")
    table = table_html(reliability_head(), rows)
    return f'{heading}{key}<div class="row">{plot}<div>{table}</div></div>'


def _confusions(score: Score) -> str:
    tables = []
    for title, counts in (("samples", score.frame), ("pixels", score.pixel)):
        if counts is not None:
            rows = [("normal", str(counts.tn), str(counts.fp)), ("abnormal", str(counts.fn), str(counts.tp))]
            tables.append(table_html((f"{title}: truth", "predicted normal", "predicted abnormal"), rows))
    return f'<h2>Confusion</h2><div class="row">{"".join(f"<div>{t}</div>" for t in tables)}</div>'


def _recordings(score: Score) -> str:
    evidence = score.evidence
    assert evidence is not None
    head = ("", "samples", *count_titles())
    several = len(evidence.recordings) > 1
    rows = []
    for name, row in evidence.recordings.items():
        values = [
            _short(row["metrics"][m]) + (" worst" if several and evidence.worst.get(m) == name else "")
            for m in COUNT_METRICS
        ]
        rows.append((name, str(row["num_samples"]), *values))
    trivial = [
        (name, str(score.num_samples), *(_short(values[m]) for m in COUNT_METRICS))
        for name, values in evidence.baselines.items()
    ]
    return (
        f"<h2>Recordings</h2>{table_html(head, rows)}"
        f"<h2>Trivial baselines</h2><p>Predictions that need no model, on the same samples. Persistence repeats the "
        f"true label of one second before, which no model knows.</p>{table_html(head, trivial)}"
    )


def _short(value: float | None, decimals: int = 4) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _circumstances(score: Score) -> str:
    evidence = score.evidence
    assert evidence is not None
    bars = [
        (
            title,
            row["accuracy"],
            f"{_short(row['accuracy'], 3)}, {frames} frames",
        )
        for (title, frames, _), row in zip(onset_rows(evidence), evidence.around_onset, strict=True)
    ]
    onset = bar_chart(bars, "accuracy by time from an onset") if bars else "<p>No events.</p>"
    parts = [
        '<h2>Time from onset</h2><p class="key">Normal frames before the next onset, abnormal frames after '
        f"theirs; an onset is the first scored frame of an event.</p>{onset}"
    ]
    if evidence.occlusion is not None:
        parts.append(
            f'<h2>Occlusion</h2><p class="key">{escape(occlusion_caption(evidence))}</p>'
            + table_html(occlusion_head(), occlusion_rows(evidence))
        )
    return "".join(parts)


def _sensitivity(score: Score) -> str:
    """All samples beside those whose windows stay inside the split."""
    evidence = score.evidence
    assert evidence is not None
    if not evidence.sensitivity:
        return ""
    rows = sensitivity_rows(score)
    heading = "<h2>Windows that reach into other splits</h2>"
    if not rows:
        return f"{heading}<p>Not known: {escape(str(evidence.sensitivity['reason']))}.</p>"
    left = evidence.sensitivity["strict"]["left_out"]
    return (
        f'{heading}<p class="key">{left} of {score.num_samples} windows hold frames or currents of another split. What '
        "the model says of the others is the same under full, masked and strict. Its figures under masked on "
        "all "
        f"samples need its predictions under masked.</p>{table_html(sensitivity_head(), rows)}"
    )


def _about(score: Score) -> str:
    """What the figures belong to, in words."""
    words = []
    protocol = score.meta.get("protocol_fields", score.meta.get("protocol"))
    if isinstance(protocol, Mapping):
        words.append(_protocol_words(protocol))
    elif protocol is not None:
        words.append(f"Windows of protocol {protocol}.")
    if "context" in score.meta:
        words.append(f"Context {score.meta['context']}.")
    if "seed" in score.meta:
        words.append(f"Seed {score.meta['seed']}.")
    threshold = score.evidence.threshold if score.evidence is not None else {"origin": "not stated"}
    words.append(f"Decided by {score.decision}; the threshold is {threshold['origin']}.")
    told = " ".join(str(word)[:400] for word in words)
    rows = [
        (name.replace("_", " "), "none" if value is None else str(value))
        for name, value in score.receipt.items()
    ]
    return (
        f"<h2>What these figures belong to</h2><p>{escape(told)}</p>"
        f"{table_html(('receipt', ''), rows)}"
        '<p class="key">The receipt names the very bytes that were scored. It does not say who made them.</p>'
    )


def _protocol_words(protocol: Mapping[str, Any]) -> str:
    """A window protocol's fields as a sentence; what is missing is left out."""
    known = {
        key: protocol.get(key) for key in ("name", "num_frames", "stride", "current_seconds", "current_hz")
    }
    if any(value is None for value in known.values()):
        return f"Windows of protocol {protocol.get('name', 'unknown')}."
    return (
        f"Windows of protocol {known['name']}: {known['num_frames']} frames, each {known['stride']} after the one "
        f"before, and {known['current_seconds']:g} s of current at {known['current_hz']:g} Hz, "
        "all ending at the judged frame."
    )
