"""How a table is written: separator, header, units, decimal sign, columns."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fmfbench.errors import SourceError
from fmfbench.sources.table.cells import Kind, kind_of
from fmfbench.sources.table.columns import Column, is_unit_row
from fmfbench.sources.table.text import separator_line

__all__ = ["Dialect", "find_dialect"]

_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_ROWS = 200


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        separator: between cells.
        first_line: lines before the first row of data.
        width: cells a row.
        columns: all of them, with what the header and the units row say.
        sample: the first rows of data, as cells.
        header: the header's text, for remarks.
    """

    separator: str
    first_line: int
    width: int
    columns: tuple[Column, ...]
    sample: tuple[tuple[str, ...], ...]
    header: str


def find_dialect(path: Path, lines: Sequence[str], least: int) -> Dialect:
    """What the first lines of a table show.

    Args:
        path: for messages.
        lines: the first lines.
        least: numbers that a row needs: 3 phases, or none in a table of times.

    Raises:
        SourceError: no rows of data, or rows of other lengths.
    """
    said = separator_line(lines[0]) if lines else None
    skipped = 1 if said else 0
    candidates = (said,) if said else _SEPARATORS
    best = max((_Split(lines[skipped:], s, least) for s in candidates), key=lambda split: split.quality)
    if not best.rows:
        first = next((line for line in lines[skipped:] if line.strip()), "")
        what = "a time and three phases" if least else "one column of times"
        raise SourceError(
            f"{path}: expected rows of {what}, got "
            + (
                "only a header: "
                if len([x for x in lines if x.strip()]) == 1
                else "none in its first lines: "
            )
            + repr(first[:80])
        )
    return best.dialect(path, skipped)


class _Split:
    """The first lines, cut at one separator."""

    def __init__(self, lines: Sequence[str], separator: str, least: int) -> None:
        self.separator = separator
        self.cells = [self._cut(line) for line in lines]
        filled = [row for row in self.cells if any(cell.strip() for cell in row)]
        self.width = Counter(len(row) for row in filled[-_SAMPLE_ROWS:]).most_common(1)[0][0] if filled else 0
        body = [row for row in filled if len(row) == self.width]
        body = body[len(body) // 4 :] if len(body) > 3 else body[-max(1, len(body) - 1) :]
        self.kinds = [self._kind([row[i] for row in body]) for i in range(self.width)]
        self.first = next((i for i, row in enumerate(self.cells) if self._is_row(row)), len(self.cells))
        while self.first > 1 and self._is_damaged(self.first - 1):
            self.first -= 1
        self.rows = (
            [row for row in self.cells[self.first :] if self._is_row(row)] if self._serves(least) else []
        )

    def _cut(self, line: str) -> list[str]:
        try:
            return next(csv.reader([line], delimiter=self.separator, skipinitialspace=True), [])
        except csv.Error:
            return [line]

    @staticmethod
    def _kind(cells: Sequence[str]) -> Kind:
        counts = Counter(kind_of(cell) for cell in cells)
        del counts[Kind.MISSING]
        return counts.most_common(1)[0][0] if counts else Kind.MISSING

    def _serves(self, least: int) -> bool:
        count = Counter(self.kinds)
        times = count[Kind.MOMENT] + count[Kind.CLOCK] + count[Kind.DATE]
        return count[Kind.NUMBER] >= least if least else bool(times or count[Kind.NUMBER])

    def _is_row(self, row: Sequence[str]) -> bool:
        """Whether a line is of the kind that most lines are: a header is what is not."""
        if len(row) < self.width or not any(cell.strip() for cell in row):
            return False
        told = [(kind_of(c), k) for c, k in zip(row, self.kinds, strict=False) if k is not Kind.TEXT]
        said = [(got, kind) for got, kind in told if got is not Kind.MISSING and kind is not Kind.MISSING]
        return bool(said) and all(got is kind for got, kind in said)

    def _is_damaged(self, at: int) -> bool:
        """Whether a line that is no row stands below the names and is a row but for some cells, its time being one."""
        row = self.cells[at]
        told = [
            (kind_of(c), k)
            for c, k in zip(row, self.kinds, strict=False)
            if k not in (Kind.TEXT, Kind.MISSING)
        ]
        like = [got is kind for got, kind in told]
        above = (kind_of(c) for line in self.cells[:at] for c in line)
        return (
            len(row) >= self.width
            and bool(like)
            and like[0]
            and 2 * sum(like) >= len(like)
            and sum(kind is Kind.TEXT for kind in above) >= 2
        )

    @property
    def quality(self) -> tuple[int, int]:
        return len(self.rows), self.width

    def dialect(self, path: Path, skipped: int) -> Dialect:
        before = [row for row in self.cells[: self.first] if any(cell.strip() for cell in row)]
        wide = [row for row in before if len(row) >= self.width - 1 and len(row) <= self.width + 1]
        units = wide.pop() if len(wide) > 1 and is_unit_row(wide[-1]) else []
        names = wide[-1] if wide else []
        pad = [""] * self.width
        names, units = [*names, *pad][: self.width], [*units, *pad][: self.width]
        columns = tuple(
            Column(
                index=i,
                name=names[i].strip().lstrip("#").strip(),
                unit=units[i].strip(),
                kind=kind,
                consecutive=self._consecutive(i),
                example=self.rows[0][i].strip()[:40],
                row=self.first + skipped + 1,
            )
            for i, kind in enumerate(self.kinds)
        )
        return Dialect(
            separator=self.separator,
            first_line=self.first + skipped,
            width=self.width,
            columns=columns,
            sample=tuple(tuple(row) for row in self.rows[:_SAMPLE_ROWS]),
            header=" ".join(" ".join(row) for row in before)[:200],
        )

    def _consecutive(self, index: int) -> bool:
        cells = [row[index].strip() for row in self.rows[:_SAMPLE_ROWS]]
        if len(cells) < 2 or not all(cell.isdecimal() for cell in cells):
            return False
        numbers = [int(cell) for cell in cells]
        return all(b - a == 1 for a, b in pairwise(numbers))
