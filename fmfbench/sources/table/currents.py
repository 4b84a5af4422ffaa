"""Tables of currents and of frame times: from a file to arrays, or to a refusal that says what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, nominal_times
from fmfbench.errors import SourceError
from fmfbench.files.wording import counted
from fmfbench.sources.matrecording import clean_current
from fmfbench.sources.source import Options
from fmfbench.sources.table.cells import Kind, NumberStyle, StyleEvidence, kind_of, number_style
from fmfbench.sources.table.choice import Expectation, Times, choose_times, header_unit
from fmfbench.sources.table.columns import Column, choose_roles, unit_factor
from fmfbench.sources.table.counts import decimal_ticks, read_numbers
from fmfbench.sources.table.dialect import Dialect, find_dialect
from fmfbench.sources.table.formats import read_with_format
from fmfbench.sources.table.moments import read_moments
from fmfbench.sources.table.reading import Reading
from fmfbench.sources.table.rows import Rows, StyleError, read_rows
from fmfbench.sources.table.text import TableText, open_text
from fmfbench.sources.table.workbook import workbook_text

__all__ = [
    "TABLE_SUFFIXES", "StampedCurrent", "StampedFrames", "read_current_table", "read_raw_currents", "read_stamps",
]  # fmt: skip

TABLE_SUFFIXES = (".csv", ".txt", ".tsv", ".dat", ".xlsx", ".xlsm", ".xls")
_HEAD_LINES = 400
_LIKELY_AMPERES = (100.0, 100_000.0)
_FRAME_RATES = (1.0, 1000.0)
_MEDIAN_ROWS = 100_000  # of a long table, evenly spread


@dataclass(frozen=True)
class StampedFrames:
    """Frame times of a table, and what is odd about them."""

    time: NDArray[np.int64]
    dated: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class StampedCurrent:
    """Current rows of a table, and what is odd about them.

    Attributes:
        current: (M,3) A.
        time: (M,) ns.
        dated: the times are dates.
        remarks: what is odd.
        begins_video: the times are a clock's, so that a video without one begins with the first row.
    """

    current: NDArray[np.float32]
    time: NDArray[np.int64]
    dated: bool
    remarks: tuple[str, ...]
    begins_video: bool = False


def read_stamps(path: Path, nominal: int, options: Options) -> StampedFrames:
    """A table of frame times, one a row; whole seconds that frames share are filled evenly.

    Args:
        path: the table.
        nominal: frames that a whole second has.
        options: `time_format`, `names`.
    """
    table = _Table(path, options, phases=False, header=True)
    if table.empty:
        return StampedFrames(np.empty(0, np.int64), True, ())
    times = table.times(
        Expectation(rates=_FRAME_RATES, nominal=Fraction(nominal), chosen=options.time_format, what="frame")
    )
    remarks = list(table.remarks)
    if times.unit == NS:
        stamps = times.stamps // NS
        remarks += _missing_seconds(stamps, "frame")
        counts = _inner_counts(stamps)
        if len(counts) and (counts.min() < nominal or counts.max() > nominal):
            span = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else f"{counts.min()}"
            remarks.append(f"seconds with {span} frames (nominal {nominal})")
    return StampedFrames(times.time, times.reading.dated, tuple(remarks))


def read_current_table(path: Path, options: Options) -> StampedCurrent:
    """A table of times and three phases of a V2 tree, nominally two rows a second."""
    table = _Table(path, options, phases=True, header=True)
    if table.empty:
        return StampedCurrent(np.empty((0, 3), np.float32), np.empty(0, np.int64), True, ())
    hz = options.current_hz
    return table.current(Expectation(rates=_rates(hz), nominal=hz or Fraction(2), chosen=options.time_format))


def read_raw_currents(path: Path, options: Options, seconds: float | None) -> StampedCurrent:
    """A table beside a raw video.

    Args:
        path: the table.
        options: `time_format`, `current_hz`, `decimal`, `offset`, `names`.
        seconds: how long the video is by its header, or None.
    """
    table = _Table(path, options, phases=True)
    if table.empty:
        raise SourceError(f"{path}: expected rows of a time and three phases, got only a header")
    start = float(options.offset)
    video = None if seconds is None else (start, start + seconds)
    hz = options.current_hz
    return table.current(
        Expectation(rates=_rates(hz), nominal=hz, video=video, chosen=options.time_format, unit=table.unit)
    )


def _rates(hz: Fraction | None) -> tuple[float, float]:
    return (0.5, 50.0) if hz is None else (float(hz) / 2, float(hz) * 2)


class _Table:
    """One table, its dialect found and its rows read."""

    def __init__(self, path: Path, options: Options, *, phases: bool, header: bool = False) -> None:
        self.path = path
        self._options = options
        text = workbook_text(path) or open_text(path)
        lines = text.head(_HEAD_LINES)
        self.remarks: list[str] = []
        self.empty = _only_a_header(lines)
        if self.empty:
            return
        self._dialect = find_dialect(path, lines, 3 if phases else 0)
        if not self._dialect.header:
            if header:  # others who read such a tree take the first row for one
                raise SourceError(
                    f"{path}: expected a header in the first row, got data ({lines[0][:80]}); put a line of column "
                    "names before it"
                )
            self.remarks.append("the table has no header: all its rows are data")
        self._by_index = options.current_hz is not None and not _has_clock(self._dialect)
        self.roles = choose_roles(
            str(path), self._dialect.columns, options.names, phases=phases, by_index=self._by_index
        )
        self._index = self._index_column() if self._by_index else None
        self._rows = self._read(text)
        self.remarks += self.roles.remarks

    @property
    def unit(self) -> str | None:
        time = self.roles.time
        return header_unit(f"{time[0].name} {time[0].unit}") if len(time) == 1 else None

    def current(self, expect: Expectation) -> StampedCurrent:
        """Rows in A at their times."""
        times = self.times(expect)
        values = self._rows.values
        factors = [unit_factor(c) for c in self.roles.phases]
        if len(set(factors)) > 1:
            self._say(f"phases in different units: {', '.join(c.label for c in self.roles.phases)}")
        values *= np.array(factors)
        current, bad = clean_current(values)
        remarks = [*self.remarks, *self._time_remarks(times, expect)]
        if bad:
            remarks.append(f"{counted(bad, 'current row')} with NaN or Inf, kept as NaN")
        remarks += _odd_amperes(current)
        reading = times.reading
        return StampedCurrent(
            current, times.time, reading.dated, tuple(remarks), begins_video=reading.dated or reading.of_day
        )

    def times(self, expect: Expectation) -> Times:
        """The times of all rows, by the one reading that holds."""
        where, rows = str(self.path), self._rows
        chosen = expect.chosen
        if not self.roles.time:
            return self._counted()
        if chosen is not None and "%" in chosen:
            reading = read_with_format(rows.times, chosen, where, rows.line)
            return choose_times([reading], expect, where, rows.line)
        if self.roles.time[0].kind is Kind.NUMBER and len(self.roles.time) == 1:
            readings = self._number_readings()
        else:
            readings = read_moments(rows.times, where, rows.line)
            if chosen is not None and chosen not in {r.option for r in readings}:
                raise SourceError(
                    f"{where}: expected --time-format as {' or '.join(r.option for r in readings)} or a strptime "
                    f"format, got {chosen!r} for times such as {rows.times[0].decode()!r}"
                )
        return choose_times(readings, expect, where, rows.line)

    def _number_readings(self) -> list[Reading]:
        where, rows = str(self.path), self._rows
        first = rows.times[0]
        lengths = {len(rows.times[0]), len(rows.times[-1])}
        if (
            first.isdigit()
            and lengths <= {14, 16, 17, 20}
            and len(lengths) == 1
            and 1900 <= int(first[:4]) <= 2262
        ):
            return read_moments(rows.times, where, rows.line)
        ticks, places = decimal_ticks(rows.times, where, rows.line)
        return read_numbers(ticks, places, None)

    def _counted(self) -> Times:
        hz = self._options.current_hz
        assert hz is not None
        count = len(self._rows.values)
        time = nominal_times(count, hz)
        if self._index is not None:
            ticks, places = decimal_ticks(self._rows.times, str(self.path), self._rows.line)
            numbers = (ticks - ticks[0]) // 10**places
            if (np.diff(numbers) <= 0).any():
                row = int(np.flatnonzero(np.diff(numbers) <= 0)[0]) + 1
                raise SourceError(f"{self.path}: expected a count of rows that increases, got {numbers[row]} in row "
                                  f"{self._rows.line(row)}")  # fmt: skip
            time = np.array([round(Fraction(int(n) * NS) / hz) for n in numbers], np.int64)
        self.remarks.append(f"times by --current-hz {float(hz):g}")
        reading = Reading("a count of rows", "index", time, dated=False)
        return Times(time, time, reading, 0)

    def _index_column(self) -> Column | None:
        used = {c.index for c in self.roles.phases}
        return next((c for c in self._dialect.columns if c.consecutive and c.index not in used), None)

    def _read(self, text: TableText) -> Rows:
        """All rows, in the number style that their cells tell; cells further down may tell more."""
        time = (self._index,) if self._index is not None else self.roles.time
        numbers = [c for c in (*self.roles.phases, *time) if c.kind is Kind.NUMBER]
        cells = [row[c.index] for row in self._dialect.sample for c in numbers]
        cells = [cell for cell in cells if kind_of(cell) is Kind.NUMBER]
        for _ in range(3):
            style = self._style(number_style(cells))
            try:
                return read_rows(text, self._dialect, time, self.roles.phases, style)
            except StyleError as error:
                if (
                    kind_of(error.cell) is not Kind.NUMBER
                    or self._style(number_style([*cells, error.cell])) == style
                ):
                    raise
                cells.append(error.cell)
        return read_rows(text, self._dialect, time, self.roles.phases, style)

    def _style(self, told: StyleEvidence) -> NumberStyle:
        """The decimal sign: what some cell proves, what the user says, or what alone gives likely currents."""
        grouped = told.grouped
        given = self._options.decimal
        if told.point and told.comma:
            raise SourceError(
                f"{self.path}: expected numbers with one decimal sign, got {told.point.strip()!r} "
                f"and {told.comma.strip()!r}"
            )
        if given == "." or (given is None and told.point):
            return NumberStyle(
                ".", grouped + ("," if told.ambiguous_comma or _grouped(told.point, ",") else "")
            )
        if given == "," or told.comma:
            return NumberStyle(
                ",", grouped + ("." if told.ambiguous_point or _grouped(told.comma, ".") else "")
            )
        if told.ambiguous_comma:
            return self._likely(
                told.ambiguous_comma, NumberStyle(",", grouped), NumberStyle(".", grouped + ",")
            )
        if told.ambiguous_point and self._dialect.separator == ";":
            plain, other = NumberStyle(".", grouped), NumberStyle(",", grouped + ".")
            return (
                plain
                if self._is_likely(told.ambiguous_point, plain)
                else self._likely(told.ambiguous_point, plain, other)
            )
        return NumberStyle(".", grouped)

    def _likely(self, cell: str, *styles: NumberStyle) -> NumberStyle:
        fit = [style for style in styles if self._is_likely(cell, style)]
        if len(fit) == 1 and fit[0].thousands.strip(" ") == "" and "," in cell:
            self._say(f"{cell.strip()} is read with a decimal comma")
            return fit[0]
        if len(fit) == 1 and "," in cell:
            self._say(f"{cell.strip()} is read with a comma between thousands")
            return fit[0]
        shown = " or ".join(f"{style.parse(cell):g} (--decimal {style.decimal})" for style in styles)
        raise SourceError(
            f"{self.path}: expected numbers that can be read in one way, got {cell.strip()!r}, which is {shown}; "
            f"say which with --decimal"
        )

    def _say(self, remark: str) -> None:
        if remark not in self.remarks:
            self.remarks.append(remark)

    def _is_likely(self, cell: str, style: NumberStyle) -> bool:
        value = style.parse(cell)
        factor = unit_factor(self.roles.phases[0]) if self.roles.phases else 1.0
        return value is not None and _LIKELY_AMPERES[0] <= value * factor <= _LIKELY_AMPERES[1]

    def _time_remarks(self, times: Times, expect: Expectation) -> list[str]:
        out = []
        header = " ".join(f"{c.name} {c.unit}" for c in self.roles.time)
        if times.reading.dated and (zone := re.search(r"(?:UTC|GMT) ?[+-]\d{1,2}(?::?\d{2})?", header)):
            out.append(f"the header says {zone[0]}: times are kept as the clock shows them")
        if times.unit == NS:
            seconds = times.stamps // NS
            out += _missing_seconds(seconds, "current") if _rate_of(seconds) >= 1 else []
            nominal = int(expect.nominal) if expect.nominal is not None and expect.nominal >= 1 else None
            counts = _inner_counts(seconds)
            if nominal is None and len(counts):
                values, often = np.unique(counts, return_counts=True)
                nominal = int(values[often == often.max()].max())
            odd = int(np.sum(counts != nominal))
            if odd:
                out.append(f"{counted(odd, 'second')} with other than {nominal} current rows")
        elif times.reading.name.startswith(("days", "a part")) and times.reading.resolution > 10_000_000:
            out.append(f"times are told to {times.reading.resolution / NS:.3g} s only")
        return out


def _grouped(cell: str | None, sign: str) -> bool:
    return cell is not None and sign in cell


def _only_a_header(lines: Sequence[str]) -> bool:
    filled = [line for line in lines if line.strip()]
    if len(filled) != 1:
        return False
    return not any(kind_of(cell) in (Kind.MOMENT, Kind.CLOCK) or re.fullmatch(r"[\d.]+", cell.strip())
                   for cell in re.split(r"[,;\t|]", filled[0]))  # fmt: skip


def _has_clock(dialect: Dialect) -> bool:
    kinds = {c.kind for c in dialect.columns}
    return bool(kinds & {Kind.MOMENT, Kind.CLOCK}) or any(
        c.kind is Kind.NUMBER and not c.consecutive and header_unit(f"{c.name} {c.unit}")
        for c in dialect.columns
    )


def _rate_of(seconds: NDArray[np.int64]) -> float:
    span = int(seconds[-1] - seconds[0])
    return (len(seconds) - 1) / span if span else float(len(seconds))


def _odd_amperes(current: NDArray[np.float32]) -> list[str]:
    some = current[:: max(1, len(current) // _MEDIAN_ROWS)]
    finite = some[np.isfinite(some)]
    if not len(finite):
        return []
    median = float(np.median(np.abs(finite)))
    out = []
    if not _LIKELY_AMPERES[0] <= median <= _LIKELY_AMPERES[1]:
        out.append(
            f"currents of {median:.4g} A in the median, outside 100 A to 100 kA: is the unit A? (a header with (kA) is "
            "multiplied by 1000)"
        )
    below = int((current < 0).sum())
    if below:
        out.append(f"{counted(below, 'value')} below 0 A")
    return out


def _inner_counts(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of each second but the first and the last, of seconds that never decrease."""
    return np.diff(np.flatnonzero(np.r_[True, np.diff(seconds) > 0, True]))[1:-1]


def _missing_seconds(stamps: NDArray[np.int64], what: str) -> list[str]:
    steps = np.diff(stamps)
    gaps = steps[steps > 1] - 1
    if not len(gaps):
        return []
    missing, where = counted(int(gaps.sum()), "second"), counted(len(gaps), "gap")
    return [f"{missing} without a {what}, in {where} (longest {int(gaps.max())} s)"]
