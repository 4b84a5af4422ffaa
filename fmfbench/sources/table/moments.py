"""Times as people and loggers write them, as every reading that a column of text allows.

A column is read by the *shape* of its texts (each digit as 0): tables have few shapes, so that the fields of all
rows of one shape are taken from the bytes at once. `03/04/2023` has two readings, `1683754406000` several; which one
holds is for the caller to say, who knows the rate and the video.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import SourceError

__all__ = [
    "DAY",
    "Reading",
    "byte_texts",
    "decimal_ticks",
    "read_moments",
    "read_numbers",
    "read_with_format",
]

DAY = 86_400 * NS
_MILLISECOND = 1_000_000
_CHUNK = 1 << 18
_MOST_SHAPES = 400
_YEARS = (1678, 2261)
_EXCEL_EPOCH = -25_569  # days from 1970-01-01 to Excel's day 0
_DATENUM_EPOCH = -719_529  # to MATLAB's
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
_CHINESE = str.maketrans({
    "年": "-", "月": "-", "日": " ", "号": " ", "时": ":", "時": ":", "点": ":", "分": ":", "秒": "", "：": ":",
    "／": "/",     "－": "-", "，": ",", "．": ".", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u3000": " ",
    **{chr(0xFF10 + i): str(i) for i in range(10)},
})  # fmt: skip

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


@dataclass(frozen=True)
class Reading:
    """What a column of times may mean.

    Attributes:
        name: for people: "day before month", "milliseconds since 1970".
        option: what `--time-format` takes to choose it.
        time: (n,) ns since 1970-01-01, or since the first frame; as written, so rows may share a stamp.
        dated: the times are dates.
        of_day: times of day without a date.
        resolution: ns between stamps that the text can tell apart.
    """

    name: str
    option: str
    time: NDArray[np.int64]
    dated: bool
    of_day: bool = False
    resolution: int = 1


def byte_texts(texts: NDArray[np.object_], where: str, row: int) -> NDArray[np.bytes_]:
    """Texts (n,) as ASCII bytes of one length, Chinese marks as ASCII's."""
    try:
        return np.char.strip(texts.astype("S"))
    except UnicodeEncodeError:
        pass
    known: dict[str, str] = {}
    out = []
    for i, text in enumerate(texts):
        plain = known.get(text)
        if plain is None:
            plain = str(text).translate(_CHINESE).replace("上午", "AM ").replace("下午", "PM ").strip(" :")
            plain = re.sub(r" +", " ", plain)
            if not plain.isascii():
                raise SourceError(f"{where}: expected a time in row {row + i}, got {text[:40]!r}")
            known[text] = plain
        out.append(plain)
    return np.array(out, dtype="S")


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
    for shape, index in _shapes(texts, where, rows):
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
        clock[index], finest = _clock(part, match, shape, got, where, rows(index[0]))
        has_seconds = has_seconds and bool(groups.get("S"))
        resolution = min(resolution, finest)
        clock[index] -= _offset(part, match, shape)
        with_offset += len(index) if groups.get("off") else 0
        if groups.get("y"):
            year = _year(_digits(part, match.span("y")), match.span("y"))
            month = _month(part, match, shape)
            days[index] = _days(year, month, _digits(part, match.span("d")))
            bad = days[index] == _NO_DAY
            if bad.any():
                at = index[np.flatnonzero(bad)[0]]
                raise _no_such(texts[at].decode(), where, rows(at))
            orders.discard("-")
        elif groups.get("r"):
            for key in ("p", "q", "r"):
                parts.setdefault(key, np.zeros(n, np.int64))[index] = _digits(part, match.span(key))
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
        raise _no_such(texts[at].decode(), where, rows(at))
    return out


def _no_such(text: str, where: str, row: int) -> SourceError:
    return SourceError(
        f"{where}: expected a time in row {row}, got {text!r}, which is no day of the calendar or lies outside the "
        f"years {_YEARS[0]} to {_YEARS[1]}; mend the row"
    )


def _elapsed(texts: NDArray[np.bytes_], match: re.Match[str]) -> tuple[NDArray[np.int64], int]:
    """ns of minutes, seconds and a fraction, and the smallest step that the text tells."""
    part = texts.view(np.uint8).reshape(len(texts), -1)
    seconds = 60 * _digits(part, match.span("M")) + _digits(part, match.span("S"))
    fraction = _digits(part, match.span("f"))
    unit = 10 ** (9 - (match.end("f") - match.start("f")))
    return seconds * NS + fraction * unit, unit if fraction.any() else NS


def _shapes(
    texts: NDArray[np.bytes_], where: str, rows: Callable[[int], int]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each shape, and entries that have it, a chunk of the column at a time: what is made of them stays small."""
    width = texts.dtype.itemsize
    found: set[bytes] = set()
    for first in range(0, len(texts), _CHUNK):
        part = np.ascontiguousarray(texts[first : first + _CHUNK])
        codes = part.view(np.uint8).reshape(len(part), width)
        shape = np.where((codes >= 48) & (codes <= 57), np.uint8(48), codes).view(f"S{width}")[:, 0]
        left = np.arange(len(part))
        while len(left):
            key = bytes(shape[left[0]])
            found.add(key)
            if len(found) > _MOST_SHAPES:
                raise SourceError(
                    f"{where}: expected times of one form, got more than {_MOST_SHAPES} by row {rows(first)}"
                )
            same = shape[left] == key
            yield key.decode(), left[same] + first
            left = left[~same]


def _digits(codes: NDArray[np.uint8], span: tuple[int, int]) -> NDArray[np.int64]:
    out = np.zeros(len(codes), np.int64)
    for i in range(*span):
        out = out * 10 + (codes[:, i] - 48)
    return out


def _clock(
    codes: NDArray[np.uint8], match: re.Match[str], shape: str, got: str, where: str, row: int
) -> tuple[NDArray[np.int64], int]:
    """ns since midnight, and the smallest step that the text can tell."""
    groups = match.groupdict()
    hour, minute = _digits(codes, match.span("H")), _digits(codes, match.span("M"))
    second = _digits(codes, match.span("S")) if groups.get("S") else np.zeros(len(codes), np.int64)
    half = groups.get("ap") or groups.get("pre")
    if half:
        if ((hour < 1) | (hour > 12)).any():
            raise SourceError(
                f"{where}: expected an hour of 1 to 12 with AM or PM near row {row}, got {got!r}"
            )
        hour = hour % 12 + (12 if half[0] in "Pp" else 0)
    if (hour > 24).any() or (minute > 59).any() or (second > 59).any():
        raise SourceError(
            f"{where}: expected a time of day, got one beyond 24:59:59 near row {row}, as in {got!r}"
        )
    time = ((hour * 60 + minute) * 60 + second) * NS
    for key in ("f", "f3"):
        if groups.get(key):
            start, end = match.span(key)
            places = min(9, end - start)
            unit = 10 ** (9 - places)
            fraction = _digits(codes, (start, start + places)) * unit
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
    hours = _digits(codes, (at + 1, at + 3))
    rest = [i for i in range(at + 3, end) if shape[i] == "0"]
    minutes = _digits(codes, (rest[0], rest[-1] + 1)) if rest else 0
    return (hours * 60 + minutes) * 60 * NS * (1 if text.find("-") < 0 else -1)


def _year(year: NDArray[np.int64], span: tuple[int, int]) -> NDArray[np.int64]:
    if span[1] - span[0] == 2:
        return year + np.where(year < 70, 2000, 1900)
    return year


def _month(codes: NDArray[np.uint8], match: re.Match[str], shape: str) -> NDArray[np.int64]:
    name = match.groupdict().get("mon")
    if name is None:
        return _digits(codes, match.span("m"))
    return np.full(len(codes), _MONTHS.get(name.casefold(), 0), np.int64)


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since 1970-01-01, `_NO_DAY` where the calendar has no such day."""
    good = (year >= _YEARS[0]) & (year <= _YEARS[1]) & (month >= 1) & (month <= 12) & (day >= 1)
    months = (np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1
    start = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    length = (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64) - start
    good &= day <= length
    out: NDArray[np.int64] = np.where(good, start + day - 1, _NO_DAY)
    return out


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
    for shape, index in _shapes(texts, where, rows):
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
        whole = _digits(part, match.span(2))
        start, end = match.span(3)
        kept = min(end - start, max(0, 18 - len(match[2]))) if match[3] else 0
        values[index] = whole * 10**kept + (_digits(part, (start, start + kept)) if kept else 0)
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
            out.append(Reading(name, option, time, True, resolution=max(_MILLISECOND, DAY // 10**places)))
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
                resolution=max(_MILLISECOND, DAY // 10**places),
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
    return (days + epoch) * DAY + part * _MILLISECOND


def read_with_format(
    texts: NDArray[np.bytes_], time_format: str, where: str, rows: Callable[[int], int]
) -> Reading:
    """By the `strptime` format that the user gives; `%z` is honoured, `%f` may have up to nine digits.

    Raises:
        SourceError: a text that does not fit, or a year that nanoseconds cannot tell.
    """
    import pandas as pd

    dated = any(mark in time_format for mark in ("%Y", "%y", "%c", "%x", "%s", "%D", "%F", "%G", "%+"))
    unique, inverse = np.unique(texts, return_inverse=True)
    words = [text.decode() for text in unique]
    try:
        parsed = pd.to_datetime(pd.Series(words, dtype=object), format=time_format, utc=True, exact=True)
        values = parsed.to_numpy(dtype="M8[ns]").astype(np.int64)
        if not dated:
            values = values % DAY
    except (ValueError, OverflowError):
        values = np.array([_one(w, time_format, dated, texts, where, rows) for w in words], np.int64)
    time = values[inverse]
    if not dated and len(time):
        time = time + DAY * np.cumsum(np.r_[False, np.diff(time) < -DAY // 2])
    told = re.findall(r"%(.)", time_format)
    seconds = set(told) & set("STXcsfr+")
    resolution = 60 * NS if not seconds else NS if not (time % NS).any() else 1
    return Reading("the format given", time_format, time, dated, of_day=not dated, resolution=resolution)


def _one(
    text: str,
    time_format: str,
    dated: bool,
    texts: NDArray[np.bytes_],
    where: str,
    rows: Callable[[int], int],
) -> int:
    try:
        moment = datetime.strptime(text, time_format)
    except (ValueError, re.error) as error:
        at = int(np.flatnonzero(texts == text.encode())[0])
        raise SourceError(
            f"{where}: the time {text!r} in row {rows(at)} is not of the form {time_format!r} "
            f"({error}); mend the row, or say another with --time-format"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not dated:
        moment = moment.replace(year=1970, month=1, day=1)
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        at = int(np.flatnonzero(texts == text.encode())[0])
        raise _no_such(text, where, rows(at))
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1000
