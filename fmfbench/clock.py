"""Time in integer nanoseconds: stamps of whole seconds, nominal rates, and text in both directions."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError

__all__ = ["NS", "format_time", "nominal_times", "parse_stamps", "seconds_to_ns", "spread_seconds"]

NS = 1_000_000_000
"""Nanoseconds in a second."""

# Each is unambiguous: no format here can read another's text with day and month exchanged.
_DATED_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y.%m.%d %H:%M:%S",
    "%Y%m%d %H:%M:%S",
    "%Y%m%d%H%M%S",
    "%d-%b-%Y %H:%M:%S",  # MATLAB's datestr
)
_CLOCK_FORMATS = ("%H:%M:%S",)
_YEARS = range(1678, 2262)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds_to_ns(seconds: float | Fraction) -> int:
    """Seconds as whole nanoseconds, to the nearest."""
    return round(Fraction(seconds) * NS)


def nominal_times(count: int, rate_hz: Fraction) -> NDArray[np.int64]:
    """Times (count,) in ns of rows taken at a steady rate: row i at i/rate, to the nearest nanosecond."""
    step = Fraction(NS) / rate_hz
    i = np.arange(count, dtype=np.int64)
    if step.denominator == 1:
        return i * step.numerator
    # (i * p + q // 2) // q stays within int64 for years of video: p is about 1e9 * den(rate).
    return (i * step.numerator + step.denominator // 2) // step.denominator


def spread_seconds(stamps: NDArray[np.int64], nominal: int) -> NDArray[np.int64]:
    """Give rows that carry only a whole-second stamp their place within the second.

    Args:
        stamps: (n,) whole seconds, never decreasing.
        nominal: rows that a full second has (25 frames, 2 current rows).

    Returns:
        (n,) int64 ns, strictly increasing. A second stamped on m rows puts row i at i/m s. The
        recording may begin and end inside a second: with m < nominal the first second's row i
        is at 1 - (m - i)/nominal and the last second's at i/nominal.
    """
    times = np.empty(len(stamps), dtype=np.int64)
    if not len(stamps):
        return times
    starts = np.flatnonzero(np.r_[True, np.diff(stamps) != 0])
    counts = np.diff(np.r_[starts, len(stamps)])
    m = np.repeat(counts, counts)
    i = np.arange(len(stamps), dtype=np.int64) - np.repeat(starts, counts)
    times[:] = stamps * NS + (2 * i * NS + m) // (2 * m)
    first, last = counts[0], counts[-1]
    if last < nominal:
        k = np.arange(last, dtype=np.int64)
        times[-last:] = stamps[-1] * NS + (2 * k * NS + nominal) // (2 * nominal)
    if first < nominal:  # after the last: a recording of one second begins in it
        k = nominal - first + np.arange(first, dtype=np.int64)
        times[:first] = stamps[0] * NS + (2 * k * NS + nominal) // (2 * nominal)
    return times


def parse_stamps(
    texts: list[str], where: str, time_format: str | None = None
) -> tuple[NDArray[np.int64], bool, str]:
    """Read second-resolution time strings.

    Args:
        texts: one string a row.
        where: the file, for messages.
        time_format: a `strptime` format; None tries the known unambiguous ones.

    Returns:
        (n,) whole seconds since 1970-01-01, whether the strings hold a date, and the format used.
        Local clock times are taken as UTC. Times of day without a date start on 1970-01-01 and continue
        past midnight.

    Raises:
        SourceError: a string that does not fit, a fraction of a second, or time that runs backwards.
    """
    if not texts:
        return np.empty(0, np.int64), False, time_format or _DATED_FORMATS[0]
    chosen = time_format or _find_format(texts[0], where)
    dated = any(mark in chosen for mark in ("%Y", "%y", "%c", "%x", "%s", "%D", "%F"))
    cache: dict[str, int] = {}
    seconds = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        value = cache.get(text)
        if value is None:
            value = cache[text] = _parse_one(text, chosen, dated, where, row)
        seconds[row] = value
    if not dated:  # a drop of over half a day between two rows is midnight, not time running backwards
        seconds += 86_400 * np.cumsum(np.r_[False, np.diff(seconds) < -43_200])
    back = np.flatnonzero(np.diff(seconds) < 0)
    if len(back):
        row = int(back[0]) + 1
        raise SourceError(
            f"{where}: time runs backwards at row {row + 2}: {texts[row]!r} after {texts[row - 1]!r}; "
            "rows must be in order of time"
        )
    return seconds, dated, chosen


def format_time(ns: int) -> str:
    """`2023-05-10 21:33:26.040`, to the millisecond."""
    seconds, rest = divmod(int(ns), NS)
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"


def _find_format(text: str, where: str) -> str:
    for candidate in (*_DATED_FORMATS, *_CLOCK_FORMATS):
        try:
            datetime.strptime(text, candidate)
        except ValueError:
            continue
        return candidate
    raise SourceError(
        f"{where}: the time {text!r} in row 2 has none of the known formats "
        f"({', '.join(_DATED_FORMATS[:3])}, ...); say which it is with --time-format"
    )


def _parse_one(text: str, time_format: str, dated: bool, where: str, row: int) -> int:
    try:
        moment = datetime.strptime(text, time_format).replace(tzinfo=UTC)
    except ValueError:
        raise SourceError(
            f"{where}: the time {text!r} in row {row + 2} is not of the form {time_format!r} "
            "that the other rows have; mend the row, or say another with --time-format"
        ) from None
    if moment.microsecond:
        raise SourceError(
            f"{where}: the time {text!r} in row {row + 2} has a fraction of a second; "
            "stamps are whole seconds"
        )
    if not dated:
        moment = moment.replace(year=1970, month=1, day=1)
    if moment.year not in _YEARS:
        raise SourceError(
            f"{where}: the time {text!r} in row {row + 2} lies outside the years {_YEARS[0]} to {_YEARS[-1]} that "
            "nanoseconds in 64 bits can tell; mend the row"
        )
    return int((moment - _EPOCH).total_seconds())
