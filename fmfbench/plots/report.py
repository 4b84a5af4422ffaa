"""A score as one HTML file that needs nothing else: tables, curves, timelines, and the worst errors as pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.files.markdown import number
from fmfbench.files.problems import check_target
from fmfbench.plots.palette import PHASE_NAMES, css_variables, legend_html
from fmfbench.plots.svg import Column, curve_plot, marked_frame, timeline_plot
from fmfbench.scoring import ranks
from fmfbench.scoring.events import EventCounts, match_events
from fmfbench.scoring.figures import figure_text, interval_text
from fmfbench.scoring.metrics import COUNT_METRICS
from fmfbench.scoring.result import (
    INTERVAL_WORTH,
    Score,
    count_titles,
    occlusion_caption,
    occlusion_head,
    occlusion_rows,
    onset_rows,
    pixel_facts,
    title_of,
)

__all__ = ["write_report"]

_NS = 1_000_000_000
_MOST_PICTURES = 8
_APART_NS = 5 * _NS
_STYLE = (
    css_variables()
    + """
body{font:14px/1.45 system-ui,sans-serif;color:#222;max-width:1140px;margin:24px auto;padding:0 16px}
h1{font-size:22px}h2{font-size:17px;margin-top:32px;border-bottom:1px solid #ccc}
table{border-collapse:collapse;margin:8px 0}td,th{border:1px solid #ccc;padding:3px 9px;text-align:right}
td:first-child,th:first-child{text-align:left}th{background:#f3f3f3}
.warn{background:var(--amber);border-left:5px solid var(--false);padding:6px 12px;margin:6px 0;font-weight:600}
.row{display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start}
figure{margin:0;width:200px}figcaption{font-size:12px;line-height:1.3}img{image-rendering:pixelated;display:block}
svg text{font:12px system-ui,sans-serif;fill:#333}.key{font-size:12.5px;color:#444}
.sw{display:inline-block;width:22px;height:11px;margin:0 4px 0 14px;vertical-align:-1px;border:1px solid #888}
"""
)


def write_report(
    path: str | os.PathLike[str], score: Score, found: Predictions, labels: Labels, data: Any = None
) -> Path:
    """Write the report of a score.

    Args:
        path: the .html file to write, replaced when whole.
        score: with its evidence.
        found: the predictions, in the order of `labels`.
        labels: of the scored samples.
        data: the open data set, for currents, splits and pictures; without it the report says they are missing.

    Raises:
        InputError: the folder does not exist, the path is one, or the score has no evidence to report.
    """
    path = Path(path)
    check_target(path)
    if score.evidence is None:
        raise InputError(f"{path}: expected a score with evidence (no compat, at least one sample) to report")
    assert labels.class_label is not None
    matched = match_events(labels.class_label, found.decision, labels.recording, labels.frame_time)
    parts = [
        _head(score),
        _metric_table(score),
        _curves(found, labels),
        _confusions(score),
        _recordings(score),
        _circumstances(score),
        _timelines(found, labels, matched, data),
        _worst_errors(found, labels, data),
        "</body></html>\n",
    ]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # a stranger's text may hold halves of surrogate pairs, which UTF-8 cannot
        temporary.write_text("\n".join(parts), encoding="utf-8", errors="replace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _head(score: Score) -> str:
    evidence = score.evidence
    assert evidence is not None
    title = escape(f"{score.file}, split {score.split}")
    if score.sample_set == "per-second":
        title += ", per-second sample set (not to be compared with figures of every frame)"
    facts = [f"{score.num_samples} samples", f"data fingerprint {score.fingerprint[:16]}"]
    facts += [f"decided by {score.decision}", f"threshold {evidence.threshold['origin']}"]
    facts += [
        f"{key}: {score.meta[key]}" for key in ("model", "protocol", "context", "seed") if key in score.meta
    ]
    warnings = "".join(f'<div class="warn">{escape(text)}</div>' for text in evidence.warnings)
    notes = "".join(f"<p>Note: {escape(note)}</p>" for note in score.notes)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape('; '.join(str(fact)[:200] for fact in facts))}</p>{warnings}{notes}"
    )


def _metric_table(score: Score) -> str:
    assert score.evidence is not None
    rows = [(title_of(score, f.name), figure_text(f), interval_text(f)) for f in score.shown()]
    exact = [(title_of(score, f.name), *(number(v) for v in (f.value, f.low, f.high))) for f in score.shown()]
    boot, events = score.evidence.bootstrap, score.evidence.event_facts
    return (
        "<h2>Metrics</h2>"
        + _table(("metric", "value", "95 % interval"), rows)
        + f"<details><summary>all digits</summary>{_table(('metric', 'value', 'low', 'high'), exact)}</details>"
        + f"<p>{events['detected']} of {events['events']} events detected; {events['false_alarms']} "
        f"false alarms in {events['normal_hours']:.3f} h of normal time.</p>"
        + (f'<p class="key">{escape(facts)}.</p>' if (facts := pixel_facts(score)) else "")
        + f'<p class="key">{escape(INTERVAL_WORTH)} {boot["blocks"]} blocks of {boot["block_seconds"]:.1f} s; '
        f"errors are correlated over {boot['correlation_seconds']:.2f} s. Events are resampled whole.</p>"
    )


def _curves(found: Predictions, labels: Labels) -> str:
    assert labels.class_label is not None
    heading = "<h2>Scores against labels</h2>"
    if found.score is None:
        return heading + "<p>The file has decisions but no scores: no curves.</p>"
    ranking = ranks.rank(labels.class_label, found.score)
    if ranking.one_class:
        return heading + f"<p>No curves: {ranking.one_class}.</p>"
    roc = curve_plot(
        *ranks.roc_curve(ranking),
        f"ROC, AUROC {ranks.auroc(ranking):.4f}",
        "FP/(FP+TN)",
        "TP/(TP+FN)",
        step=False,
    )
    recall, precision = ranks.precision_recall_curve(ranking)
    pr = curve_plot(
        np.append(0, recall),
        np.append(precision[0], precision),
        f"precision-recall, AP {ranks.average_precision(ranking):.4f}",
        "recall",
        "precision",
        step=True,
    )
    return f'{heading}<div class="row">{roc}{pr}</div>'


def _confusions(score: Score) -> str:
    tables = []
    for title, counts in (("samples", score.frame), ("pixels", score.pixel)):
        if counts is not None:
            rows = [("normal", str(counts.tn), str(counts.fp)), ("abnormal", str(counts.fn), str(counts.tp))]
            tables.append(_table((f"{title}: truth", "predicted normal", "predicted abnormal"), rows))
    return f'<h2>Confusion</h2><div class="row">{"".join(f"<div>{t}</div>" for t in tables)}</div>'


def _recordings(score: Score) -> str:
    evidence = score.evidence
    assert evidence is not None
    head = ("", "samples", *count_titles())
    several = len(evidence.recordings) > 1
    rows = []
    for name, row in evidence.recordings.items():
        values = [
            number(row["metrics"][m]) + (" worst" if several and evidence.worst.get(m) == name else "")
            for m in COUNT_METRICS
        ]
        rows.append((name, str(row["num_samples"]), *values))
    trivial = [
        (name, str(score.num_samples), *(number(values[m]) for m in COUNT_METRICS))
        for name, values in evidence.baselines.items()
    ]
    return (
        f"<h2>Recordings</h2>{_table(head, rows)}"
        f"<h2>Trivial baselines</h2><p>Predictions that need no model, on the same samples. Persistence repeats the "
        f"true label of one second before, which no model knows.</p>{_table(head, trivial)}"
    )


def _circumstances(score: Score) -> str:
    evidence = score.evidence
    assert evidence is not None
    onset = _table(("time from an onset", "frames", "accuracy"), onset_rows(evidence))
    parts = [
        '<h2>Time from onset</h2><p class="key">Normal frames before the next onset, abnormal frames after '
        f"theirs; an onset is the first scored frame of an event.</p>{onset}"
    ]
    if evidence.occlusion is not None:
        parts.append(
            f'<h2>Occlusion</h2><p class="key">{escape(occlusion_caption(evidence))}</p>'
            + _table(occlusion_head(), occlusion_rows(evidence))
        )
    return "".join(parts)


def _timelines(found: Predictions, labels: Labels, matched: EventCounts, data: Any) -> str:
    parts = [
        "<h2>Timelines</h2>"
        + legend_html(("labelled abnormal", "predicted abnormal", "false alarm or missed event"))
        + legend_html(("train", "unused", "gap", *PHASE_NAMES))
    ]
    if data is None:
        parts.append("<p>Scored without the store: no currents and no other splits are shown.</p>")
    for index in np.unique(labels.recording).tolist():
        name = labels.recordings[index]
        recording = None if data is None else data.recordings[name]
        parts.append(f"<h3>{escape(name)}</h3>{_timeline(index, found, labels, matched, recording)}")
    return "".join(parts)


def _timeline(index: int, found: Predictions, labels: Labels, matched: EventCounts, recording: Any) -> str:
    (rows,) = np.nonzero(labels.recording == index)
    origin = int(labels.frame_time[rows[0]]) if recording is None else int(recording.frame_time[0])

    def seconds(times: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((times - origin) / _NS, np.float64)

    own = seconds(labels.frame_time[rows])
    margin = 0.04 * (own[-1] - own[0]) + 1
    all_times = own if recording is None else seconds(recording.frame_time)
    all_splits = labels.split[rows] if recording is None else recording.split
    column = Column(max(own[0] - margin, all_times[0]), min(own[-1] + margin, all_times[-1]))

    def spans(ends: NDArray[np.intp], flags: NDArray[np.bool_]) -> list[tuple[float, float, bool]]:
        mine = labels.recording[ends[:, 0]] == index if len(ends) else np.zeros(0, bool)
        times = seconds(labels.frame_time[ends[mine]]).tolist()
        return [(a, b, bool(flag)) for (a, b), flag in zip(times, flags[mine], strict=True)]

    (late,) = np.nonzero(np.diff(all_times) > 1.0)
    edges = np.flatnonzero(np.diff(all_splits)) + 1
    bounds = zip([0, *edges.tolist()], [*edges.tolist(), len(all_splits)], strict=True)
    current = None
    if recording is not None and len(recording.current):
        current = seconds(recording.current_time), np.asarray(recording.current, np.float64)
    return timeline_plot(
        column,
        splits=[(int(all_splits[a]), all_times[a], all_times[min(b, len(all_times) - 1)]) for a, b in bounds],
        gaps=[(all_times[i], all_times[i + 1]) for i in late],
        truth=spans(matched.events, np.isfinite(matched.delay)),
        alarms=[(a, b) for a, b, _ in spans(matched.alarms, np.ones(len(matched.alarms), bool))],
        false=[(a, b) for a, b, _ in spans(matched.false_spans, np.ones(len(matched.false_spans), bool))],
        score=None if found.score is None else (own, np.asarray(found.score[rows], np.float64)),
        current=current,
    )


def _worst_errors(found: Predictions, labels: Labels, data: Any) -> str:
    if data is None:
        return "<h2>Worst errors</h2><p>Scored without the store: no pictures.</p>"
    assert labels.class_label is not None
    confidence = found.decision.astype(float) if found.score is None else found.score.astype(float)
    missed = np.flatnonzero((labels.class_label == 1) & (found.decision == 0))
    called = np.flatnonzero((labels.class_label == 0) & (found.decision == 1))
    parts = [
        '<h2>Worst errors</h2><p class="key">At least 5 s apart. Truth outlined in green, prediction in blue.</p>'
    ]
    for title, rows in (
        ("Misses, lowest score first", missed[np.argsort(confidence[missed], kind="stable")]),
        ("False alarms, highest score first", called[np.argsort(-confidence[called], kind="stable")]),
    ):
        chosen = _spread(rows, labels)
        pictures = "".join(_picture(row, found, labels, data) for row in chosen) or "<p>None.</p>"
        parts.append(f'<h3>{title}</h3><div class="row">{pictures}</div>')
    return "".join(parts)


def _spread(rows: NDArray[np.intp], labels: Labels) -> list[int]:
    """The first rows of those that lie 5 s or more from every one chosen before."""
    chosen: list[int] = []
    for row in rows.tolist():
        near = [
            other
            for other in chosen
            if labels.recording[other] == labels.recording[row]
            and abs(labels.frame_time[other] - labels.frame_time[row]) < _APART_NS
        ]
        if not near:
            chosen.append(row)
        if len(chosen) == _MOST_PICTURES:
            break
    return chosen


def _picture(row: int, found: Predictions, labels: Labels, data: Any) -> str:
    name = labels.recordings[labels.recording[row]]
    frame = int(labels.frame[row])
    image = data.recordings[name].read_video(frame, frame + 1)[0]
    shape = labels.mask_shape or image.shape[:2]
    masks = [
        None if bits is None else unpack_masks(bits[row : row + 1], shape)[0]
        for bits in (labels.mask_bits if labels.no_mask is None else None, found.mask_bits)
    ]
    score = "" if found.score is None else f", score {float(found.score[row]):.3f}"
    return (
        f'<figure><img src="{marked_frame(image, masks[0], masks[1])}" alt="frame {frame}">'
        f"<figcaption>{escape(name)}, frame {frame}, sample {labels.sample_id[row]}{score}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
