"""Time in integer nanoseconds: stamps of whole seconds, nominal rates, and as text."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["NS", "format_time", "nominal_times", "seconds_to_ns", "spread_seconds", "spread_units"]

NS = 1_000_000_000
"""Nanoseconds in a second."""


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
    return spread_units(stamps, nominal, NS)


def spread_units(stamps: NDArray[np.int64], nominal: int, unit: int) -> NDArray[np.int64]:
    """`spread_seconds` for stamps that count units of `unit` ns, as 100,000,000 for tenths of a second."""
    if not len(stamps):
        return np.empty(0, dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, np.diff(stamps) != 0])
    counts = np.diff(np.r_[starts, len(stamps)])
    # stamps * unit + (2 i unit + m) // (2 m), row i of the m of its unit, in place: columns are long
    times = np.arange(len(stamps), dtype=np.int64)
    times -= np.repeat(starts, counts)
    times *= 2 * unit
    m = np.repeat(counts, counts)
    times += m
    m *= 2
    times //= m
    times += stamps * unit
    first, last = counts[0], counts[-1]
    if last < nominal:
        k = np.arange(last, dtype=np.int64)
        times[-last:] = stamps[-1] * unit + (2 * k * unit + nominal) // (2 * nominal)
    if first < nominal:  # after the last: a recording of one second begins in it
        k = nominal - first + np.arange(first, dtype=np.int64)
        times[:first] = stamps[0] * unit + (2 * k * unit + nominal) // (2 * nominal)
    return times


def format_time(ns: int) -> str:
    """`2023-05-10 21:33:26.040`, to the millisecond."""
    seconds, rest = divmod(int(ns), NS)
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"
