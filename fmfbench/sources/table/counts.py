"""Numbers as times: seconds and their parts, days of a spreadsheet or of MATLAB, each unit that they may count in."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import SourceError
from fmfbench.sources.table.reading import DAY, MILLISECOND, Reading
from fmfbench.sources.table.shapes import digits, shapes

__all__ = ["decimal_ticks", "read_numbers"]

_EXCEL_EPOCH = -25_569  # days from 1970-01-01 to Excel's day 0
_DATENUM_EPOCH = -719_529  # to MATLAB's


def decimal_ticks(
    texts: NDArray[np.bytes_], where: str, rows: Callable[[int], int]
) -> tuple[NDArray[np.int64], int]:
    """Decimal numbers as whole ticks of 10**-places, exactly, and `places`.

    Raises:
        SourceError: a text that is no decimal number of at most 18 digits.
    """
    places = 0
    values, signs = np.zeros(len(texts), np.int64), np.ones(len(texts), np.int64)
    decimals = np.zeros(len(texts), np.int64)
    for shape, index in shapes(texts, where, rows):
        match = re.fullmatch(r"([+-]?)(0*)(?:[.,](0*))?", shape)
        got = texts[index[0]].decode()
        if match is None or not (match[2] or match[3]):
            raise SourceError(
                f"{where}: expected a number as time in row {rows(index[0])}, got {got!r}"
                + (
                    "; a spreadsheet shortened it, format the column with all its digits"
                    if "E" in got.upper()
                    else ""
                )
            )
        if len(match[2]) + len(match[3] or "") > 24:
            raise SourceError(
                f"{where}: expected a time of at most 18 digits in row {rows(index[0])}, got {got!r}"
            )
        part = texts[index].view(np.uint8).reshape(len(index), -1)
        whole = digits(part, match.span(2))
        start, end = match.span(3)
        kept = min(end - start, max(0, 18 - len(match[2]))) if match[3] else 0
        values[index] = whole * 10**kept + (digits(part, (start, start + kept)) if kept else 0)
        decimals[index] = kept
        signs[index] = -1 if match[1] == "-" else 1
        places = max(places, kept)
    scale = 10 ** (places - decimals)
    if len(values) and int(np.abs(values.astype(np.float64) * scale).max()) >= 2**63:
        places, scale = 9, np.ones_like(scale)
        over = decimals > 9
        values = np.where(
            over, values // 10 ** np.maximum(0, decimals - 9), values * 10 ** np.maximum(0, 9 - decimals)
        )
    return signs * values * scale, places


def read_numbers(ticks: NDArray[np.int64], places: int, compact: NDArray[np.bytes_] | None) -> list[Reading]:
    """Every unit and epoch that numbers may be counted in, whatever their rate.

    Args:
        ticks: (n,) whole multiples of 10**-places.
        places: decimals.
        compact: the texts, where they may be dates without marks (20230510213326).
    """
    if not len(ticks):
        return []
    top = float(max(abs(int(ticks[0])), abs(int(ticks[-1])))) / 10**places
    out = []
    units = (
        ("seconds", "s", NS),
        ("milliseconds", "ms", 10**6),
        ("microseconds", "us", 1000),
        ("nanoseconds", "ns", 1),
    )
    for name, option, unit in units:
        if top * unit >= 2**63 or (unit < NS and unit < 10**places):
            continue  # beyond what 64 bits tell, or finer than a nanosecond
        time = _scaled(ticks, Fraction(unit, 10**places))
        dated = top * unit > 5e17  # after 1985: a count since 1970
        step = max(1, unit // 10**places)
        out.append(
            Reading(
                f"{name} since 1970" if dated else name,
                option,
                time,
                dated,
                resolution=_effective(time, step),
            )
        )
    for name, option, epoch, low, high in (
        ("days of Excel", "excel", _EXCEL_EPOCH, 20_000, 80_000),
        ("days of MATLAB", "datenum", _DATENUM_EPOCH, 700_000, 780_000),
    ):
        if low < top < high:
            time = _serial(ticks, places, epoch)
            out.append(Reading(name, option, time, True, resolution=max(MILLISECOND, DAY // 10**places)))
    if places >= 6 and top < 1:
        time = _serial(ticks, places, 0)
        time = time + DAY * np.cumsum(np.r_[False, np.diff(time) < -DAY // 2])
        out.append(
            Reading(
                "a part of the day",
                "excel",
                time,
                False,
                of_day=True,
                resolution=max(MILLISECOND, DAY // 10**places),
            )
        )
    return out


def _effective(time: NDArray[np.int64], step: int) -> int:
    """Whole seconds are told as such, however many zeros stand behind them."""
    return NS if step < NS and not (time % NS).any() else max(step, 1)


def _scaled(ticks: NDArray[np.int64], factor: Fraction) -> NDArray[np.int64]:
    """ticks * factor to the nearest, exactly where factor is whole or 1/10**k."""
    if factor.denominator == 1:
        return ticks * factor.numerator
    return np.floor_divide(ticks * factor.numerator + factor.denominator // 2, factor.denominator)


def _serial(ticks: NDArray[np.int64], places: int, epoch: int) -> NDArray[np.int64]:
    """Days and parts of a day, rounded to the millisecond that such numbers tell."""
    scale = 10**places
    days, rest = np.divmod(ticks, scale)
    part = np.rint(rest.astype(np.longdouble) / scale * 86_400_000).astype(np.int64)
    return (days + epoch) * DAY + part * MILLISECOND
