"""Events and alarms: whether, how late, and how often in vain a furnace's keeper would have been called.

Definitions and constants stand in data_cards/protocol.md, section "Events" (version 2 of the card).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS

__all__ = [
    "EventCounts",
    "EventDraw",
    "alarm_time",
    "as_drawn",
    "false_alarm_rate",
    "late_delay",
    "match_events",
    "median_delay",
    "recall",
    "segments",
]

EVENT_JOIN_SECONDS = 1.0
ALARM_HOLD_SECONDS = 2.0
REPEAT_SECONDS = 10.0  # an alarm that is never acknowledged calls again

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """Events and alarms of N samples, and normal time in units for resampling: an event with the normal time around it.

    Attributes:
        events: (E, 2) first and last row of each event.
        alarms: (A, 2) of each alarm, wherever it is.
        delay: (E,) seconds from onset to the first frame predicted abnormal, NaN where the event was missed.
        false_spans: (F, 2) first and last row of each alarm inside a normal stretch.
        false_counts: (F,) how many false alarms each of them counts.
        unit_of_event: (E,) unit of each event.
        unit_false_alarms, unit_normal_hours, unit_alarm_hours: (U,) of each unit; the last is the normal time that is
            predicted abnormal.
        normal, on: (N,) which samples are normal time, and which are predicted abnormal.
    """

    events: NDArray[np.intp]
    alarms: NDArray[np.intp]
    delay: Floats
    false_spans: NDArray[np.intp]
    false_counts: NDArray[np.int64]
    unit_of_event: NDArray[np.intp]
    unit_false_alarms: NDArray[np.int64]
    unit_normal_hours: Floats
    unit_alarm_hours: Floats
    normal: NDArray[np.bool_]
    on: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class EventDraw:
    """R draws of units, as the formulas of event metrics take them.

    `delay` (R, U) seconds, NaN where a unit has no event or it was missed; `events`, `false_alarms`, `normal_hours`,
    `alarm_hours` (R,) sums.
    """

    delay: Floats
    events: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    normal_hours: Floats
    alarm_hours: Floats


def recall(drawn: EventDraw) -> Floats:
    """Share of events detected, (R,); NaN without events."""
    return _ratio(np.isfinite(drawn.delay).sum(axis=1), drawn.events)


def median_delay(drawn: EventDraw) -> Floats:
    """Median delay of detected events in s, (R,); NaN where none was."""
    return _row_quantile(drawn.delay, 0.5)


def late_delay(drawn: EventDraw) -> Floats:
    """95th percentile of the delays in s, (R,); NaN where no event was detected."""
    return _row_quantile(drawn.delay, 0.95)


def false_alarm_rate(drawn: EventDraw) -> Floats:
    """False alarms per hour of normal time, (R,); NaN without normal time."""
    return _ratio(drawn.false_alarms, drawn.normal_hours)


def alarm_time(drawn: EventDraw) -> Floats:
    """Share of normal time that is predicted abnormal, (R,); NaN without normal time."""
    return _ratio(drawn.alarm_hours, drawn.normal_hours)


def as_drawn(found: EventCounts, units: NDArray[np.intp] | None = None) -> EventDraw:
    """The units as they are, one row, or those of (R, U) draws."""
    count = len(found.unit_normal_hours)
    drawn = np.arange(count)[None] if units is None else units
    delay, has_event = np.full(count, np.nan), np.zeros(count, bool)
    delay[found.unit_of_event] = found.delay
    has_event[found.unit_of_event] = True
    return EventDraw(
        delay=delay[drawn],
        events=has_event[drawn].sum(axis=1),
        false_alarms=found.unit_false_alarms[drawn].sum(axis=1),
        normal_hours=found.unit_normal_hours[drawn].sum(axis=1),
        alarm_hours=found.unit_alarm_hours[drawn].sum(axis=1),
    )


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
    apart = (np.diff(recording[rows]) != 0) | (np.diff(frame_time[rows]) >= round(join * NS))
    return np.stack([rows[np.append(True, apart)], rows[np.append(apart, True)]], axis=1)


def match_events(
    label: NDArray[np.integer[Any]],
    decision: NDArray[np.integer[Any]],
    recording: NDArray[np.int64],
    frame_time: NDArray[np.int64],
) -> EventCounts:
    """Match alarms to events; all arguments (N,), recordings in runs, times (ns) ascending in each.

    An event is detected by any frame predicted abnormal from its first to its last frame, with the delay from its
    onset to the first such frame. False alarms are counted inside the normal stretches between events, so that an
    alarm that never stops is counted there, however many events it covers: one that lasts d counts
    1 + floor(d / 10 s).
    """
    # samples a second apart (per-second) would else never join into a run
    usual = 1.5 * _frame_hours(recording, frame_time) * 3600
    hold = max(ALARM_HOLD_SECONDS, usual)
    events = segments(label == 1, recording, frame_time, max(EVENT_JOIN_SECONDS, usual))
    on = decision == 1
    stretch = _normal_stretches(events, recording, frame_time, hold)
    inside = stretch >= 0
    spans = segments(on & inside, stretch, frame_time, hold)
    lasted = (frame_time[spans[:, 1]] - frame_time[spans[:, 0]]) / NS
    counts = (1 + np.floor(lasted / REPEAT_SECONDS)).astype(np.int64)
    unit = _units(events, recording)
    size = int(unit[-1]) + 1 if len(unit) else 0
    hours = np.float64(_frame_hours(recording, frame_time))
    return EventCounts(
        events=events,
        alarms=segments(on, recording, frame_time, hold),
        delay=_delays(events, on, frame_time),
        false_spans=spans,
        false_counts=counts,
        unit_of_event=unit[events[:, 0]],
        unit_false_alarms=np.bincount(unit[spans[:, 0]], counts, minlength=size).astype(np.int64),
        unit_normal_hours=(np.bincount(unit[inside], minlength=size) * hours).astype(np.float64),
        unit_alarm_hours=(np.bincount(unit[inside & on], minlength=size) * hours).astype(np.float64),
        normal=inside,
        on=on,
    )


def _delays(events: NDArray[np.intp], on: NDArray[np.bool_], frame_time: NDArray[np.int64]) -> Floats:
    delay = np.full(len(events), np.nan)
    (rows,) = np.nonzero(on)
    place = np.searchsorted(rows, events[:, 0])
    hit = place < len(rows)
    hit[hit] = rows[place[hit]] <= events[hit, 1]
    delay[hit] = (frame_time[rows[place[hit]]] - frame_time[events[hit, 0]]) / NS
    return delay


def _normal_stretches(
    events: NDArray[np.intp], recording: NDArray[np.int64], frame_time: NDArray[np.int64], hold: float
) -> NDArray[np.int64]:
    """(N,) which stretch of normal time a row is in, -1 for rows of events and those within the hold time of one.

    Stretches lie between events and end where a recording does and where samples are the hold time apart or more.
    """
    count = len(recording)
    if not count:
        return np.empty(0, np.int64)
    steps = np.zeros(count + 1, np.int64)
    steps[events[:, 0]] += 1
    steps[events[:, 1] + 1] -= 1
    in_event = np.cumsum(steps[:-1]) > 0
    hold_ns = round(hold * NS)
    linked = (np.diff(recording) == 0) & (np.diff(frame_time) < hold_ns)
    (first,) = np.nonzero(~in_event & np.append(True, ~linked | in_event[:-1]))
    (last,) = np.nonzero(~in_event & np.append(~linked | in_event[1:], True))
    after_event = np.append(False, linked & in_event[:-1])[first]
    before_event = np.append(linked & in_event[1:], False)[last]
    stretch = np.where(in_event, -1, np.searchsorted(first, np.arange(count), side="right") - 1)
    rows = np.flatnonzero(~in_event)
    own = stretch[rows]
    early = after_event[own] & (frame_time[rows] - frame_time[first[own]] < hold_ns)
    late = before_event[own] & (frame_time[last[own]] - frame_time[rows] < hold_ns)
    stretch[rows[early | late]] = -1
    return stretch


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
    return (float(np.median(steps)) / NS if len(steps) else 0.04) / 3600


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    return np.asarray(numerator / np.where(denominator > 0, denominator, np.nan), np.float64)


def _row_quantile(values: Floats, level: float) -> Floats:
    """numpy.quantile of each row, NaN left out; NaN for a row of nothing else."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    place = level * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(ordered))
    below, above = ordered[rows, low], ordered[rows, high]
    return np.asarray(below + (place - low) * (above - below), np.float64)
