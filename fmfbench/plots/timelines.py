"""The recordings of a report over time: labels, decisions, scores and currents, one below the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.plots.page import studio_link
from fmfbench.plots.palette import PHASE_NAMES, legend_html
from fmfbench.plots.svg import Column, timeline_plot
from fmfbench.scoring.events import EventCounts

__all__ = ["timelines"]


def timelines(found: Predictions, labels: Labels, matched: EventCounts, data: Any, studio: str | None) -> str:
    """Each recording: labels, decisions, scores and currents over time; linked to the studio where it runs."""
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
        parts.append(
            f"<h3>{studio_link(studio, name, _first_event(index, labels, matched))}</h3>"
            f'<div class="timeline">{_timeline(index, found, labels, matched, recording)}</div>'
        )
    return "".join(parts)


def _first_event(index: int, labels: Labels, matched: EventCounts) -> int:
    """The frame at which a recording's first event begins, or its first scored frame."""
    rows = [row for row in matched.events[:, 0].tolist() if labels.recording[row] == index]
    return int(labels.frame[rows[0]] if rows else labels.frame[labels.recording == index][0])


def _timeline(index: int, found: Predictions, labels: Labels, matched: EventCounts, recording: Any) -> str:
    (rows,) = np.nonzero(labels.recording == index)
    origin = int(labels.frame_time[rows[0]]) if recording is None else int(recording.frame_time[0])

    def seconds(times: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((times - origin) / NS, np.float64)

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
