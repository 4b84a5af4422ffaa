"""Events and alarms: whether, how late, and how often in vain a furnace's keeper would have been called.

Definitions and constants stand in data_cards/protocol.md, section "Events".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EventCounts", "event_intervals", "event_metrics", "match_events", "segments"]

EVENT_JOIN_SECONDS = 1.0
ALARM_HOLD_SECONDS = 2.0
FEWEST_EVENTS = 5
EVENT_METRICS = ("event_recall", "delay_median_s", "delay_p95_s", "false_alarms_per_hour")
_TAIL = 0.025
_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """Events met by alarms, in units for resampling: an event with the normal time around it.

    Attributes:
        events: (E, 2) first and last row of each event.
        alarms: (A, 2) of each alarm.
        delay: (E,) seconds from onset to the alarm, NaN where the event was missed.
        false_alarm: (A,) bool, True where the alarm touches no event.
        unit_of_event: (E,) unit of each event.
        unit_false_alarms, unit_normal_hours: (U,) of each unit.
    """

    events: NDArray[np.intp]
    alarms: NDArray[np.intp]
    delay: NDArray[np.float64]
    false_alarm: NDArray[np.bool_]
    unit_of_event: NDArray[np.intp]
    unit_false_alarms: NDArray[np.int64]
    unit_normal_hours: NDArray[np.float64]


def segments(
    active: NDArray[np.bool_], recording: NDArray[np.int64], frame_time: NDArray[np.int64], join: float
) -> NDArray[np.intp]:
    """Runs of active frames: those of one recording that follow each other by less than `join` seconds.

    Returns:
        (S, 2) rows of the first and last frame of each.
    """
    (rows,) = np.nonzero(active)
    if not len(rows):
        return np.empty((0, 2), np.intp)
    apart = (np.diff(recording[rows]) != 0) | (np.diff(frame_time[rows]) >= round(join * _NS))
    return np.stack([rows[np.append(True, apart)], rows[np.append(apart, True)]], axis=1)


def match_events(
    label: NDArray[np.integer[Any]],
    decision: NDArray[np.integer[Any]],
    recording: NDArray[np.int64],
    frame_time: NDArray[np.int64],
) -> EventCounts:
    """Match alarms to events; all arguments (N,), recordings in runs, times ascending in each.

    An alarm touches an event if their spans of time, ends included, share a moment; the event is then
    detected, with the delay from its first frame to the start of the first alarm that touches it, at least 0.
    """
    # samples a second apart (per-second) would else never join into a run
    usual = 1.5 * _frame_hours(recording, frame_time) * 3600
    events = segments(label == 1, recording, frame_time, max(EVENT_JOIN_SECONDS, usual))
    alarms = segments(decision == 1, recording, frame_time, max(ALARM_HOLD_SECONDS, usual))
    # rows are ordered by recording and time, so spans of rows overlap exactly as spans of time do
    first = np.searchsorted(alarms[:, 1], events[:, 0])
    hit = first < len(alarms)
    hit[hit] = alarms[first[hit], 0] <= events[hit, 1]
    delay = np.full(len(events), np.nan)
    late = frame_time[alarms[first[hit], 0]] - frame_time[events[hit, 0]]
    delay[hit] = np.maximum(late, 0) / _NS
    touching = np.searchsorted(events[:, 1], alarms[:, 0])
    false_alarm = touching >= len(events)
    inside = ~false_alarm
    false_alarm[inside] = events[touching[inside], 0] > alarms[inside, 1]
    unit = _units(events, recording)
    count = int(unit[-1]) + 1 if len(unit) else 0
    frames = np.bincount(unit[label == 0], minlength=count).astype(np.float64)
    return EventCounts(
        events=events,
        alarms=alarms,
        delay=delay,
        false_alarm=false_alarm,
        unit_of_event=unit[events[:, 0]],
        unit_false_alarms=np.bincount(unit[alarms[false_alarm, 0]], minlength=count),
        unit_normal_hours=frames * _frame_hours(recording, frame_time),
    )


def event_metrics(found: EventCounts) -> tuple[dict[str, Any], dict[str, str]]:
    """Event recall, delays, false alarms per hour of normal time, and counts; and why any is undefined."""
    detected = np.isfinite(found.delay)
    delays = found.delay[detected]
    hours = float(found.unit_normal_hours.sum())
    false_alarms = int(found.false_alarm.sum())
    reasons: dict[str, str] = {}
    if not len(found.events):
        reasons["event_recall"] = "no events"
    if not len(delays):
        reasons |= dict.fromkeys(("delay_median_s", "delay_p95_s"), "no event was detected")
    if not hours:
        reasons["false_alarms_per_hour"] = "no normal time"
    values = {
        "events": len(found.events),
        "detected": int(detected.sum()),
        "alarms": len(found.alarms),
        "false_alarms": false_alarms,
        "normal_hours": hours,
        "event_recall": float(detected.mean()) if len(detected) else None,
        "delay_median_s": float(np.median(delays)) if len(delays) else None,
        "delay_p95_s": float(np.quantile(delays, 0.95)) if len(delays) else None,
        "false_alarms_per_hour": false_alarms / hours if hours else None,
    }
    return values, reasons


def event_intervals(found: EventCounts, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """95 % percentile intervals from resampling whole events, each with the normal time before it.

    Where every event is found or none, and where no alarm is false, resampling cannot vary; the exact binomial
    and Poisson bounds stand in for it.
    """
    units = len(found.unit_normal_hours)
    if len(found.events) < FEWEST_EVENTS:
        reason = f"only {len(found.events)} events; expected at least {FEWEST_EVENTS}"
        return {name: {"low": None, "high": None, "reason": reason} for name in EVENT_METRICS}
    rng = np.random.default_rng(seed)
    delay_of_unit = np.full(units, np.nan)
    delay_of_unit[found.unit_of_event] = found.delay
    has_event = np.zeros(units, bool)
    has_event[found.unit_of_event] = True
    drawn = rng.integers(units, size=(resamples, units))
    delays, events = delay_of_unit[drawn], has_event[drawn].sum(axis=1)
    replicates = {
        "event_recall": np.isfinite(delays).sum(axis=1) / np.where(events, events, np.nan),
        "delay_median_s": _row_quantile(delays, 0.5),
        "delay_p95_s": _row_quantile(delays, 0.95),
        "false_alarms_per_hour": found.unit_false_alarms[drawn].sum(axis=1)
        / np.maximum(found.unit_normal_hours[drawn].sum(axis=1), 1e-12),
    }
    intervals = {name: _percentiles(values) for name, values in replicates.items()}
    if not np.isnan(found.delay).any() or np.isnan(found.delay).all():
        bound = _TAIL ** (1 / len(found.events))
        hit = not np.isnan(found.delay).any()
        intervals["event_recall"] = {"low": bound, "high": 1.0} if hit else {"low": 0.0, "high": 1 - bound}
    hours = float(found.unit_normal_hours.sum())
    if not found.false_alarm.any() and hours:
        intervals["false_alarms_per_hour"] = {"low": 0.0, "high": -log(_TAIL) / hours}
    return intervals


def _units(events: NDArray[np.intp], recording: NDArray[np.int64]) -> NDArray[np.intp]:
    """(N,) a unit ends with each event; what follows a recording's last event belongs to its unit."""
    starts = np.zeros(len(recording), np.intp)
    if not len(recording):
        return starts
    starts[0] = 1
    starts[1:][np.diff(recording) != 0] = 1
    # a later event of the same recording opens its unit on the row after the event before it
    same = recording[events[1:, 0]] == recording[events[:-1, 1]]
    starts[events[:-1, 1][same] + 1] = 1
    return np.cumsum(starts) - 1


def _frame_hours(recording: NDArray[np.int64], frame_time: NDArray[np.int64]) -> float:
    steps = np.diff(frame_time)[np.diff(recording) == 0]
    return (float(np.median(steps)) / _NS if len(steps) else 0.04) / 3600


def _row_quantile(values: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """numpy.quantile of each row, NaN left out; NaN for a row of nothing else."""
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    place = level * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(ordered))
    below, above = ordered[rows, low], ordered[rows, high]
    return np.asarray(below + (place - low) * (above - below), np.float64)


def _percentiles(replicates: NDArray[np.float64]) -> dict[str, Any]:
    finite = replicates[np.isfinite(replicates)]
    if len(finite) < 0.5 * len(replicates):
        return {"low": None, "high": None, "reason": "undefined in most resamples"}
    low, high = np.quantile(finite, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}
