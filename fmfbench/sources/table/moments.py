"""Times as people and loggers write them, as every reading that a column of text allows.

A column is read by the *shape* of its texts (each digit as 0): tables have few shapes, so that the fields of all
rows of one shape are taken from the bytes at once. `03/04/2023` has two readings, `1683754406000` several; which one
holds is for the caller to say, who knows the rate and the video.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import SourceError
from fmfbench.sources.table.reading import DAY, YEARS, Reading, no_such_day
from fmfbench.sources.table.shapes import digits, shapes

__all__ = ["read_moments"]

_MONTHS = {
    name: i + 1
    for i, names in enumerate(
        [
            "jan january",
            "feb february",
            "mar march",
            "apr april",
            "may",
            "jun june",
            "jul july",
            "aug august",
            "sep sept september",
            "oct october",
            "nov november",
            "dec december",
        ]
    )
    for name in names.split()
}

_DATES = (
    r"(?P<y>0000)(?P<ds>[-/._])(?P<m>00?)(?P=ds)(?P<d>00?)",
    r"(?P<y>0000)(?P<m>00)(?P<d>00)",
    r"(?P<p>00?)(?P<ds>[-/._])(?P<q>00?)(?P=ds)(?P<r>0000|00)",
    r"(?P<d>00?)[-/ ]?(?P<mon>[A-Za-z]{3,9})\.?[-/ ,]*(?P<y>0000|00)",
    r"(?P<mon>[A-Za-z]{3,9})\.? +(?P<d>00?),? +(?P<y>0000)",
    r"(?P<y>0000)[-/ ](?P<mon>[A-Za-z]{3,9})[-/ ](?P<d>00?)",
)
_AMPM = r"(?P<pre>[AP]M)? *"
_CLOCKS = (
    _AMPM
    + r"(?P<H>00?):(?P<M>00?)(?::(?P<S>00?)(?:[.,](?P<f>0{1,12})|:(?P<f3>000))?)?:? *(?P<ap>[AaPp]\.?[Mm]\.?)?",
    r"(?P<H>00)(?P<ts>[-._])(?P<M>00)(?P=ts)(?P<S>00)(?:[.,](?P<f>0{1,12}))?",
    r"(?P<H>00)(?P<M>00)(?P<S>00)(?:[.,]?(?P<f>0{1,12}))?",
)
_OFFSET = r" *(?P<off>Z|z|UTC|GMT|(?:UTC|GMT)? *[+-]00:?(?:00)?)?"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?"
_PATTERNS = [
    *(re.compile(f"{_WEEKDAY}{d}(?:[ T_]+|, *| *- *){c}{_OFFSET}") for d in _DATES for c in _CLOCKS[:2]),
    re.compile(f"{_WEEKDAY}{_DATES[0]}[ T_-]+{_CLOCKS[2]}{_OFFSET}"),
    re.compile(f"{_DATES[1]}[ T_-]?{_CLOCKS[2]}{_OFFSET}"),
    re.compile(rf"{_WEEKDAY}(?P<mon>[A-Za-z]{{3}}) +(?P<d>00?) {_CLOCKS[0]} (?P<y>0000)"),  # ctime
    *(re.compile(c + _OFFSET) for c in _CLOCKS[:1]),
]
_DATE_ONLY = [re.compile(f"{_WEEKDAY}{d}") for d in _DATES]
_ELAPSED = re.compile(r"(?P<M>00?):(?P<S>00)[.,](?P<f>0{1,9})")

_ORDERS = {"dmy": ("r", "q", "p"), "mdy": ("r", "p", "q"), "ymd": ("p", "q", "r")}


def read_moments(  # noqa: PLR0912, PLR0915 - what each shape adds, in one loop
    texts: NDArray[np.bytes_], where: str, rows: Callable[[int], int]
) -> list[Reading]:
    """Readings of dates with clocks, or of clocks alone.

    Args:
        texts: (n,) one a row.
        where: the file, for messages.
        rows: the file's row of an entry, for messages.

    Raises:
        SourceError: a text that no reading takes.
    """
    n = len(texts)
    clock = np.zeros(n, np.int64)
    parts: dict[str, NDArray[np.int64]] = {}  # of dates whose order is open
    elapsed = 0
    orders = set(_ORDERS)
    dated: bool | None = None
    resolution, with_offset, has_seconds, days = NS, 0, True, np.zeros(n, np.int64)
    for shape, index in shapes(texts, where, rows):
        match = next((m for p in _PATTERNS if (m := p.fullmatch(shape))), None)
        got = texts[index[0]].decode()
        if match is None:
            if _DATE_ONLY_MATCH(shape):
                raise SourceError(
                    f"{where}: expected a date and a time of day, got {got!r} in row {rows(index[0])}: dates alone; "
                    "save the table with the time of day in full"
                )
            if (minutes := _ELAPSED.fullmatch(shape)) is not None:
                clock[index], finest = _elapsed(texts[index], minutes)
                resolution, elapsed = min(resolution, finest), elapsed + len(index)
                continue
            raise SourceError(
                f"{where}: expected times of one form, got {got!r} in row {rows(index[0])}, which has none of the "
                "known formats (2023-05-10 21:33:26, ...); say which it is with --time-format"
            )
        groups = match.groupdict()
        is_dated = any(groups.get(k) for k in ("y", "r"))
        if dated is not None and is_dated != dated:
            raise SourceError(
                f"{where}: expected every time with a date or none, got {got!r} in row {rows(index[0])} beside "
                f"{texts[0].decode()!r}"
            )
        dated = is_dated
        part = texts[index].view(np.uint8).reshape(len(index), -1)
        clock[index], finest = _clock(part, match, _Place(texts[index], index, where, rows))
        has_seconds = has_seconds and bool(groups.get("S"))
        resolution = min(resolution, finest)
        clock[index] -= _offset(part, match, shape)
        with_offset += len(index) if groups.get("off") else 0
        if groups.get("y"):
            year = _year(digits(part, match.span("y")), match.span("y"))
            month = _month(part, match, shape)
            days[index] = _days(year, month, digits(part, match.span("d")))
            bad = days[index] == _NO_DAY
            if bad.any():
                at = index[np.flatnonzero(bad)[0]]
                raise no_such_day(texts[at].decode(), where, rows(at))
            orders.discard("-")
        elif groups.get("r"):
            for key in ("p", "q", "r"):
                parts.setdefault(key, np.zeros(n, np.int64))[index] = digits(part, match.span(key))
            if match.end("r") - match.start("r") == 4:
                orders.discard("ymd")
            days[index] = _ASK
    if with_offset not in (0, n):
        raise SourceError(
            f"{where}: expected an offset from UTC in every row or in none, got {with_offset} of {n} rows with one"
        )
    if not has_seconds:
        resolution = 60 * NS
    if elapsed:
        if elapsed < n:
            raise SourceError(f"{where}: expected times of one form, got some of minutes and seconds alone")
        return [Reading("minutes and seconds", "%M:%S.%f", clock, dated=False, resolution=resolution)]
    base = clock
    if not dated:
        time = base + DAY * np.cumsum(np.r_[False, np.diff(base) < -DAY // 2])
        return [Reading("time of day", "%H:%M:%S", time, dated=False, of_day=True, resolution=resolution)]
    ask = days == _ASK
    if not ask.any():
        days *= DAY
        days += base
        return [Reading("date and time", "%Y-%m-%d %H:%M:%S", days, True, resolution=resolution)]
    return _by_orders(parts, days, ask, base, resolution, orders, texts, where, rows)


_ASK = np.iinfo(np.int64).min  # the day depends on the order of day, month and year
_NO_DAY = _ASK + 1


def _DATE_ONLY_MATCH(shape: str) -> bool:
    return any(p.fullmatch(shape) for p in _DATE_ONLY)


def _by_orders(
    fields: dict[str, NDArray[np.int64]], days: NDArray[np.int64], ask: NDArray[np.bool_], base: NDArray[np.int64],
    resolution: int, orders: set[str], texts: NDArray[np.bytes_], where: str, rows: Callable[[int], int],
) -> list[Reading]:  # fmt: skip
    names = {"dmy": "day before month", "mdy": "month before day", "ymd": "year first"}
    out: list[Reading] = []
    for order in ("dmy", "mdy", "ymd"):
        if order not in orders:
            continue
        year, month, day = (fields[key][ask] for key in _ORDERS[order])
        year = np.where(year < 100, year + np.where(year < 70, 2000, 1900), year)
        found = _days(year, month, day)
        if (found == _NO_DAY).any():
            continue
        whole = days.copy()
        whole[ask] = found
        time = whole * DAY + base
        if not any(np.array_equal(time, other.time) for other in out):
            out.append(Reading(names[order], order, time, True, resolution=resolution))
    if not out:
        at = int(np.flatnonzero(ask)[0])
        raise no_such_day(texts[at].decode(), where, rows(at))
    return out


def _elapsed(texts: NDArray[np.bytes_], match: re.Match[str]) -> tuple[NDArray[np.int64], int]:
    """ns of minutes, seconds and a fraction, and the smallest step that the text tells."""
    part = texts.view(np.uint8).reshape(len(texts), -1)
    seconds = 60 * digits(part, match.span("M")) + digits(part, match.span("S"))
    fraction = digits(part, match.span("f"))
    unit = 10 ** (9 - (match.end("f") - match.start("f")))
    return seconds * NS + fraction * unit, unit if fraction.any() else NS


@dataclass(frozen=True)
class _Place:
    """Where the texts of one shape stand, for messages."""

    texts: NDArray[np.bytes_]
    index: NDArray[np.int64]
    where: str
    rows: Callable[[int], int]

    def refuse(self, bad: NDArray[np.bool_], expected: str, got: str = "") -> None:
        """SourceError with the first text that is `bad`, if any is."""
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise SourceError(
                f"{self.where}: expected {expected} in row {self.rows(int(self.index[at]))}, got "
                f"{self.texts[at].decode()!r}{got}; mend the row"
            )


def _clock(codes: NDArray[np.uint8], match: re.Match[str], place: _Place) -> tuple[NDArray[np.int64], int]:
    """ns since midnight, and the smallest step that the text can tell."""
    groups = match.groupdict()
    hour, minute = digits(codes, match.span("H")), digits(codes, match.span("M"))
    second = digits(codes, match.span("S")) if groups.get("S") else np.zeros(len(codes), np.int64)
    half = groups.get("ap") or groups.get("pre")
    if half:
        place.refuse((hour < 1) | (hour > 12), "an hour of 1 to 12 with AM or PM")
        hour = hour % 12 + (12 if half[0] in "Pp" else 0)
    beyond = (hour > 24) | (minute > 59) | (second > 59) | ((hour == 24) & ((minute > 0) | (second > 0)))
    place.refuse(beyond, "a time of day", ", which is beyond 24:00:00")
    time = ((hour * 60 + minute) * 60 + second) * NS
    for key in ("f", "f3"):
        if groups.get(key):
            start, end = match.span(key)
            places = min(9, end - start)
            unit = 10 ** (9 - places)
            fraction = digits(codes, (start, start + places)) * unit
            # Zeros tell nothing: 21:33:26.000 is a whole second, which two rows may share.
            return time + fraction, unit if fraction.any() else NS
    return time, NS


def _offset(codes: NDArray[np.uint8], match: re.Match[str], shape: str) -> NDArray[np.int64]:
    """ns east of UTC."""
    text = match.groupdict().get("off")
    if not text or not any(sign in text for sign in "+-"):
        return np.zeros(len(codes), np.int64)
    start, end = match.span("off")
    at = start + max(text.find("+"), text.find("-"))
    hours = digits(codes, (at + 1, at + 3))
    rest = [i for i in range(at + 3, end) if shape[i] == "0"]
    minutes = digits(codes, (rest[0], rest[-1] + 1)) if rest else 0
    return (hours * 60 + minutes) * 60 * NS * (1 if text.find("-") < 0 else -1)


def _year(year: NDArray[np.int64], span: tuple[int, int]) -> NDArray[np.int64]:
    if span[1] - span[0] == 2:
        return year + np.where(year < 70, 2000, 1900)
    return year


def _month(codes: NDArray[np.uint8], match: re.Match[str], shape: str) -> NDArray[np.int64]:
    name = match.groupdict().get("mon")
    if name is None:
        return digits(codes, match.span("m"))
    return np.full(len(codes), _MONTHS.get(name.casefold(), 0), np.int64)


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since 1970-01-01, `_NO_DAY` where the calendar has no such day."""
    good = (year >= YEARS[0]) & (year <= YEARS[1]) & (month >= 1) & (month <= 12) & (day >= 1)
    months = (np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1
    start = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    length = (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - start
    good &= day <= length
    out: NDArray[np.int64] = np.where(good, start + day - 1, _NO_DAY)
    return out
