"""Which reading of a table's times holds: the one that alone gives a likely rate and overlaps the video."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, format_time, spread_units
from fmfbench.errors import SourceError
from fmfbench.sources.table.reading import DAY, Reading

__all__ = ["Expectation", "Times", "choose_times", "header_unit"]

_RATES = (0.5, 50.0)
_MARGIN = 1.1
_LEAST_UNITS = 3  # shared stamps finer than a second must be regular over so many
_UNITS = {
    "ms": r"(?<![a-z])(ms|msec|msecs|millis|milliseconds?)(?![a-z])|毫秒",
    "us": r"(?<![a-z])(us|µs|usec|micros|microseconds?)(?![a-z])|微秒",
    "ns": r"(?<![a-z])(ns|nsec|nanos|nanoseconds?)(?![a-z])|纳秒",
    "s": r"(?<![a-z])(s|sec|secs|seconds?)(?![a-z])|秒",
    "excel": r"excel|serial",
    "datenum": r"datenum|matlab",
}


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What is known of a table's times before they are read.

    Attributes:
        rates: rows a second that are likely.
        nominal: rows a second that the layout has, or None where the rows themselves tell.
        video: seconds of the video that the table goes with, from its first frame, or None.
        unit: what the header says the numbers count (`header_unit`), or None.
        chosen: the reading that the user names, or None.
        what: for messages: "current row".
    """

    rates: tuple[float, float] = _RATES
    nominal: Fraction | None = None
    video: tuple[float, float] | None = None
    unit: str | None = None
    chosen: str | None = None
    what: str = "current row"


@dataclass(frozen=True)
class Times:
    """Times of rows, settled.

    Attributes:
        time: (n,) ns, strictly increasing.
        stamps: (n,) ns as written, before rows that share a stamp got a place of their own.
        reading: how they were read.
        unit: ns that a stamp stands for, where rows share stamps; 0 where every row has its own.
    """

    time: NDArray[np.int64]
    stamps: NDArray[np.int64]
    reading: Reading
    unit: int


def header_unit(text: str) -> str | None:
    """What a header says its numbers count: "s", "ms", "us", "ns", "excel", "datenum", or None."""
    words = re.sub(r"[_/]", " ", text).casefold()
    found = [option for option, pattern in _UNITS.items() if re.search(pattern, words)]
    return found[0] if len(found) == 1 else None


def choose_times(
    readings: Sequence[Reading], expect: Expectation, where: str, line: Callable[[int], int]
) -> Times:
    """The one reading that holds, with rows that share a stamp put at their places.

    Raises:
        SourceError: none or several hold; the message names them and the option that picks one.
    """
    if expect.chosen is not None:
        named = [r for r in readings if r.option == expect.chosen]
        if not named:
            raise SourceError(
                f"{where}: expected times that can be read as {expect.chosen!r} (--time-format), got times that can be "
                f"{_names(readings)}"
            )
        return _settled(named[0], expect, where, line)
    if readings and readings[0].option == "s" and (np.diff(readings[0].time) < 0).any():
        return _settled(readings[0], expect, where, line)  # out of order in any unit
    judged = [(reading, *_judge(reading, expect)) for reading in readings]
    likely = [reading for reading, _, doubt in judged if not doubt]
    unit = expect.unit
    if len(likely) == 1 and unit not in (None, likely[0].option) and any(r.option == unit for r in readings):
        likely = []  # the header and the rate contradict each other
    if len(likely) > 1 and expect.unit is not None:
        likely = [r for r in likely if r.option == expect.unit] or likely
    if len(likely) == 1:
        return _settled(likely[0], expect, where, line)
    if len(readings) == 1:
        times = _settled(readings[0], expect, where, line)  # what is wrong has words of its own
        raise SourceError(f"{where}: {judged[0][2]}; {_advice(readings)}" if times is not None else where)
    shown = "; ".join(f"{r.name}: {facts}{', ' + doubt if doubt else ''}" for r, facts, doubt in judged)
    raise SourceError(
        f"{where}: expected times that can be read in one way, got {'several' if likely else 'none'} that fits: "
        f"{shown}; {_advice(likely or readings)}"
    )


def _advice(readings: Sequence[Reading]) -> str:
    options = "|".join(r.option for r in readings if "%" not in r.option)
    return (
        f"say which with --time-format {options}"
        if options
        else "say what they are with --time-format or --current-hz"
    )


def _judge(reading: Reading, expect: Expectation) -> tuple[str, str]:  # noqa: PLR0911 - one doubt a line
    """Facts of a reading, and why it is not likely ("" where it is)."""
    time = reading.time
    if len(time) < 2:
        return "one row", ""
    steps = np.diff(time)
    if steps.min() < 0:
        return "times that run backwards", "not in order"
    rate = _rate(time)
    low, high = expect.rates
    facts = f"{rate:.3g} rows a second, {_tell(reading, time[0])} to {_tell(reading, time[-1])}"
    if reading.resolution >= 60 * NS:
        return facts, "times without seconds"
    if not low / _MARGIN <= rate <= high * _MARGIN:
        return facts, f"expected {low:g} to {high:g} {expect.what}s a second, got {rate:.3g}"
    if expect.video is not None and not reading.dated and not reading.of_day:
        start, end = (s * NS for s in expect.video)
        shared = min(end, time[-1] + NS / rate) - max(start, time[0])
        shorter = min(end - start, time[-1] - time[0] + NS / rate)
        if shared < 0.5 * shorter:
            return (
                facts,
                f"hardly any of it within the video's {expect.video[0]:.2f} to {expect.video[1]:.2f} s",
            )
        counted = reading.option == "s" and expect.unit is None and bool((steps == NS).all())
        if counted and abs((time[-1] - time[0] + NS) - (end - start)) > max(2 * NS, 0.1 * (end - start)):
            return facts, "seconds or a count of rows (--current-hz)"
    return facts, ""


def _rate(time: NDArray[np.int64]) -> float:
    """Rows a second: by the median step where rows have stamps of their own, else by all rows over all the time."""
    steps = np.diff(time)
    median = float(np.median(steps))
    if (steps > 0).all():
        return NS / median
    filled = steps[steps > 0]
    if not len(filled):
        return float(len(time))
    # In the median stamp, so that gaps do not count.
    starts = np.flatnonzero(np.r_[True, steps > 0, True])
    counts = np.diff(starts)
    inner = counts[1:-1] if len(counts) > 2 else counts
    return float(np.median(inner)) * NS / float(np.median(filled))


def _tell(reading: Reading, time: np.int64) -> str:
    if reading.dated:
        return format_time(int(time))
    if reading.of_day:
        return format_time(int(time)).split(" ")[1]
    return f"{time / NS:.6g} s"


def _settled(reading: Reading, expect: Expectation, where: str, line: Callable[[int], int]) -> Times:
    """Strictly increasing times of a reading."""
    time = reading.time
    steps = np.diff(time)
    back = np.flatnonzero(steps < 0)
    if len(back):
        row = int(back[0]) + 1
        raise SourceError(
            f"{where}: expected rows in order of time, got time that runs backwards at row {line(row)}: "
            f"{_tell(reading, time[row])} after {_tell(reading, time[row - 1])}"
        )
    whole = reading.resolution >= NS and reading.resolution < 60 * NS
    shared = bool((steps == 0).any())
    if shared and reading.resolution >= 60 * NS:
        counts = np.unique(time, return_counts=True)[1]
        raise SourceError(
            f"{where}: expected times with seconds, got times without: up to {int(counts.max())} rows share one "
            f"minute ({_tell(reading, time[0])}); save the table with seconds, or count its rows with --current-hz, "
            "without the column of times"
        )
    if not len(time) or (not shared and not (whole and expect.nominal is not None)):
        return Times(time, time, reading, 0)
    unit = NS if whole else reading.resolution
    counts = _interior_counts(time)
    regular = counts.max() == counts.min() and len(counts) >= _LEAST_UNITS
    if not whole and (not regular or DAY % unit):
        at = int(np.flatnonzero(steps == 0)[0]) + 1
        raise SourceError(
            f"{where}: expected times that increase, got {_tell(reading, time[at])} after "
            f"{_tell(reading, time[at - 1])} in row {line(at)}; each row needs a time of its own"
        )
    nominal = round(expect.nominal * Fraction(unit, NS)) if expect.nominal is not None else 0
    if nominal < 1:
        values, often = np.unique(counts, return_counts=True)
        nominal = int(values[often == often.max()].max())
    spread = spread_units(time // unit, nominal, unit)
    return Times(spread, time, reading, unit)


def _interior_counts(time: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = np.flatnonzero(np.r_[True, np.diff(time) > 0, True])
    counts = np.diff(starts)
    return counts[1:-1] if len(counts) > 2 else counts.max(keepdims=True)


def _names(readings: Sequence[Reading]) -> str:
    return ", ".join(f"{r.name} ({r.option})" for r in readings) or "nothing known"
