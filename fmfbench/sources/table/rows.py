"""The rows of a table in bulk: texts of its times, numbers of its phases.

pandas parses blocks of lines, typed and in C; what it cannot know is checked around it: that every row has its cells
(it would fill what is missing in silence), and what stands in a cell that is no number.
"""

from __future__ import annotations

import bisect
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.sources.table.cells import MISSING, NumberStyle
from fmfbench.sources.table.columns import Column
from fmfbench.sources.table.dialect import Dialect
from fmfbench.sources.table.shapes import byte_texts
from fmfbench.sources.table.text import TableText

__all__ = ["Rows", "StyleError", "read_rows"]

_MISSING_AS_WRITTEN = sorted(
    {form for word in MISSING for form in (word, word.upper(), word.title(), word.capitalize())}
)


class StyleError(SourceError):
    """A cell that the number style does not read; `cell` may tell of another style."""

    def __init__(self, message: str, cell: str) -> None:
        super().__init__(message)
        self.cell = cell


@dataclass
class Rows:
    """All rows of a table.

    Attributes:
        times: (n,) ASCII texts.
        values: (n, phases) float64, NaN where missing.
    """

    times: NDArray[np.bytes_]
    values: NDArray[np.float64]
    _starts: list[int] = field(default_factory=list)
    _lines: list[NDArray[np.int32]] = field(default_factory=list)

    def line(self, entry: int) -> int:
        """The line of the file (from 1) that an entry stands in."""
        part = bisect.bisect_right(self._starts, entry) - 1
        return int(self._lines[part][entry - self._starts[part]])


def read_rows(
    text: TableText, dialect: Dialect, time: Sequence[Column], phases: Sequence[Column], style: NumberStyle
) -> Rows:
    """Read every row.

    Raises:
        StyleError: a cell of a phase that is no number in this style.
        SourceError: a row with other than its number of cells, or without a time.
    """
    where = str(text.path)
    parts: list[tuple[NDArray[np.bytes_], NDArray[np.float64], NDArray[np.int32]]] = []
    for first_line, block in _data_blocks(text, dialect.first_line):
        lines = _checked_lines(block, first_line, dialect, where)
        if not len(lines):
            continue
        table = _typed(block, dialect, time, phases, style, where, lines)
        texts, values = (
            table if table is not None else _cell_by_cell(block, dialect, time, phases, style, where, lines)
        )
        if len(texts) != len(lines):
            raise SourceError(
                f"{where}: expected one row a line, got {len(texts)} rows in the {len(lines)} lines from row "
                f"{lines[0]}; a quoted cell may run over a line end"
            )
        keep = _kept(texts, values, lines, where)
        if len(keep) < len(texts):
            texts, values, lines = texts[keep], values[keep], lines[keep]
        if len(texts):
            parts.append((byte_texts(texts, where, int(lines[0])), values, lines))
    if not parts:
        return Rows(np.empty(0, "S1"), np.empty((0, len(phases))))
    starts = np.cumsum([0, *(len(p[0]) for p in parts[:-1])]).tolist()
    texts_of, values_of, lines_of = (list(column) for column in zip(*parts, strict=True))
    parts.clear()  # each column is held twice for a moment, not all of them
    times = np.concatenate(texts_of)
    texts_of.clear()
    values = np.concatenate(values_of)
    values_of.clear()
    return Rows(times, values, starts, lines_of)


def _data_blocks(text: TableText, skip: int) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, lines) of the rows of data."""
    line = 1
    for block in text.blocks():
        count = block.count(b"\n")
        at = 0
        while skip and at < len(block):
            at = block.find(b"\n", at) + 1
            skip -= 1
            line += 1
            count -= 1
        if at < len(block):
            yield line, block[at:]
            line += count


def _checked_lines(block: bytes, first_line: int, dialect: Dialect, where: str) -> NDArray[np.int32]:
    """Numbers of the lines that are rows, each with its number of cells."""
    if b'"' in block:
        return _checked_quoted(block, first_line, dialect, where)
    codes = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(codes == 10)
    separators = np.flatnonzero(codes == ord(dialect.separator))
    counts = np.diff(np.searchsorted(separators, ends), prepend=0)
    lengths = np.diff(ends, prepend=-1) - 1
    filled = lengths > 0
    wrong = np.flatnonzero((counts != dialect.width - 1) & filled)
    for i in wrong.tolist():
        start = int(ends[i - 1]) + 1 if i else 0
        line = block[start : int(ends[i])]
        if not line.strip(b" \t"):
            filled[i] = False  # pandas passes over it too
            continue
        raise _wrong_width(where, first_line + i, int(counts[i]) + 1, dialect.width, line)
    return (np.flatnonzero(filled) + first_line).astype(np.int32)


def _checked_quoted(block: bytes, first_line: int, dialect: Dialect, where: str) -> NDArray[np.int32]:
    out = []
    lines = block.decode("utf-8").split("\n")[:-1]
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        if line.count('"') % 2:
            raise SourceError(
                f"{where}: expected quotes in pairs, got one that is not closed in row {first_line + i}: {line[:80]!r}"
            )
        cells = next(csv.reader([line], delimiter=dialect.separator, skipinitialspace=True))
        if len(cells) != dialect.width:
            raise _wrong_width(where, first_line + i, len(cells), dialect.width, line.encode())
        out.append(first_line + i)
    return np.array(out, np.int32)


def _wrong_width(where: str, row: int, got: int, expected: int, line: bytes) -> SourceError:
    text = line.decode("utf-8", "replace")[:80]
    return SourceError(
        f"{where}: expected {expected} columns in every row, got {got} in row {row}: {text!r}; "
        + ("the row is cut off, remove it or copy the table again" if got < expected else "mend the row")
    )


def _typed(
    block: bytes, dialect: Dialect, time: Sequence[Column], phases: Sequence[Column], style: NumberStyle, where: str,
    lines: NDArray[np.int32],
) -> tuple[NDArray[np.object_], NDArray[np.float64]] | None:  # fmt: skip
    """By pandas, or None where a cell is not as the style says."""
    import pandas as pd

    if style.thousands:
        return None
    wanted = {c.index: object for c in time} | {c.index: np.float64 for c in phases}
    try:
        frame = pd.read_csv(
            io.BytesIO(block), sep=dialect.separator, header=None, names=list(range(dialect.width)),
            usecols=sorted(wanted), dtype=wanted, index_col=False, engine="c", encoding="utf-8",
            keep_default_na=False, na_values={c.index: _MISSING_AS_WRITTEN for c in phases},
            decimal=style.decimal, skipinitialspace=True, skip_blank_lines=True,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError):
        return None
    if len(frame) != len(lines):
        return None
    texts = frame[time[0].index].to_numpy(dtype=object) if time else np.full(len(frame), "", object)
    for column in time[1:]:
        texts = texts + " " + frame[column.index].to_numpy(dtype=object)
    values = np.empty((len(frame), len(phases)))
    for i, column in enumerate(phases):
        values[:, i] = frame[column.index].to_numpy(dtype=np.float64)
    return texts, values


def _cell_by_cell(
    block: bytes, dialect: Dialect, time: Sequence[Column], phases: Sequence[Column], style: NumberStyle, where: str,
    lines: NDArray[np.int32],
) -> tuple[NDArray[np.object_], NDArray[np.float64]]:  # fmt: skip
    """Slowly: every way to write a number, and the place of what is none."""
    texts: list[str] = []
    values: list[list[float]] = []
    known: dict[str, float] = {}
    reader = csv.reader(block.decode("utf-8").split("\n"), delimiter=dialect.separator, skipinitialspace=True)
    rows = [row for row in reader if len(row) == dialect.width and (dialect.width > 1 or row[0].strip())]
    for i, row in enumerate(rows):
        line = int(lines[i]) if i < len(lines) else int(lines[-1])
        texts.append(" ".join(row[c.index].strip() for c in time))
        numbers = []
        for column in phases:
            cell = row[column.index]
            number = known.get(cell)
            if number is None:
                number = style.parse(cell)
                if number is None:
                    raise StyleError(
                        f"{where}: expected a current in A in row {line}, got {cell[:40]!r} in {column.label}; write "
                        "what is missing as an empty cell or NA",
                        cell,
                    )
                known[cell] = number
            numbers.append(number)
        values.append(numbers)
    return np.array(texts, dtype=object), np.array(values, dtype=np.float64).reshape(-1, len(phases))


def _kept(
    texts: NDArray[np.object_], values: NDArray[np.float64], lines: NDArray[np.int32], where: str
) -> NDArray[np.int64]:
    """Rows that are not empty.

    Raises:
        SourceError: a row with currents but without a time.
    """
    blank = np.flatnonzero(texts == "")
    if not len(blank):
        return np.arange(len(texts))
    told = [i for i in blank.tolist() if np.isfinite(values[i]).any()]
    if told:
        raise SourceError(
            f"{where}: expected a time in every row, got none in row {lines[told[0]]}"
            + (f" and {len(told) - 1} more" if len(told) > 1 else "")
            + "; give the rows without a time one, or remove them"
        )
    return np.setdiff1d(np.arange(len(texts)), blank)
