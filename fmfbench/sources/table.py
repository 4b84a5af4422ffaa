"""CSV tables of times and phases, as a V2 tree and a raw recording carry them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import parse_stamps, spread_seconds
from fmfbench.errors import SourceError
from fmfbench.files.wording import counted
from fmfbench.sources.matrecording import clean_current

__all__ = ["StampedCurrent", "StampedFrames", "is_number", "read_current_table", "read_rows", "read_stamps"]

_NOMINAL_CURRENT = 2


@dataclass(frozen=True)
class StampedFrames:
    """Frame times of a table, and what is odd about them."""

    time: NDArray[np.int64]
    dated: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class StampedCurrent:
    """Current rows of a table, and what is odd about them."""

    current: NDArray[np.float32]
    time: NDArray[np.int64]
    dated: bool
    remarks: tuple[str, ...]


def read_stamps(path: Path, nominal: int, time_format: str | None) -> StampedFrames:
    """A timestamps table: a header, then one second-resolution time string a frame."""
    rows = read_rows(path, columns=1, wanted="one column of times")
    stamps, dated, _ = parse_stamps([row[0] for row in rows], str(path), time_format)
    remarks = _missing_seconds(stamps, "frame")
    counts = np.unique(stamps, return_counts=True)[1][1:-1]
    if len(counts) and (counts.min() < nominal or counts.max() > nominal):
        span = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else f"{counts.min()}"
        remarks.append(f"seconds with {span} frames (nominal {nominal})")
    return StampedFrames(spread_seconds(stamps, nominal), dated, tuple(remarks))


def read_current_table(path: Path, time_format: str | None) -> StampedCurrent:
    """A currents table: a header, then a time string and three phases, nominally two rows a second."""
    rows = read_rows(path, columns=4, wanted="a time and three phases")
    stamps, dated, _ = parse_stamps([row[0] for row in rows], str(path), time_format)
    values = [[_number(text, path, i, row) for text in row[1:]] for i, row in enumerate(rows)]
    current, bad = clean_current(np.array(values, dtype=np.float64).reshape(-1, 3))
    remarks = _missing_seconds(stamps, "current")
    counts = np.unique(stamps, return_counts=True)[1][1:-1]
    odd = int(np.sum(counts != _NOMINAL_CURRENT))
    if odd:
        remarks.append(f"{counted(odd, 'second')} with other than {_NOMINAL_CURRENT} current rows")
    if bad:
        remarks.append(f"{counted(bad, 'current row')} with NaN or Inf, kept as NaN")
    return StampedCurrent(current, spread_seconds(stamps, _NOMINAL_CURRENT), dated, tuple(remarks))


def read_rows(path: Path, columns: int, wanted: str) -> list[list[str]]:
    """Rows after the header; SourceError when the file has no header or a row has other than `columns`."""
    try:
        # Headers may be in any encoding; what is read from the rows is ASCII.
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise SourceError(
            f"{path}: expected a CSV table with {wanted}, cannot read it ({error.strerror})"
        ) from None
    try:
        table = [
            [cell.strip() for cell in row]
            for row in csv.reader(text.splitlines(), strict=True)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise SourceError(f"{path}: expected a CSV table with {wanted}, got no CSV ({error})") from None
    if not table:
        raise SourceError(f"{path}: expected a header and rows with {wanted}, got an empty file")
    header, rows = table[0], table[1:]
    if len(header) != columns:
        raise SourceError(
            f"{path}: expected {columns} columns ({wanted}), got {len(header)}: {', '.join(header)[:80]}"
        )
    if sum(c.isdigit() for c in header[0]) >= 4 or (columns > 1 and is_number(header[1])):
        raise SourceError(
            f"{path}: expected a header in the first row, got data ({', '.join(header)[:80]}); "
            "put a line of column names before it"
        )
    for i, row in enumerate(rows):
        if len(row) != columns:
            raise SourceError(
                f"{path}: expected {columns} columns ({wanted}) in every row, got {len(row)} in row {i + 2}: "
                f"{', '.join(row)[:80]}"
            )
    return rows


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _number(text: str, path: Path, i: int, row: list[str]) -> float:
    if not text:
        return float("nan")
    if not is_number(text):
        raise SourceError(
            f"{path}: expected three phases in A in row {i + 2}, got {', '.join(row)[:80]}; "
            "write numbers with a point and without separators"
        )
    return float(text)


def _missing_seconds(stamps: NDArray[np.int64], what: str) -> list[str]:
    steps = np.diff(stamps)
    gaps = steps[steps > 1] - 1
    if not len(gaps):
        return []
    missing, where = counted(int(gaps.sum()), "second"), counted(len(gaps), "gap")
    return [f"{missing} without a {what}, in {where} (longest {int(gaps.max())} s)"]
