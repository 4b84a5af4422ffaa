"""Cells of a table: what stands for a missing value, and numbers in the ways people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["MISSING", "Kind", "NumberStyle", "is_missing", "kind_of", "number_style"]

_WORDS = [
    "na",
    "n/a",
    "#n/a",
    "#na",
    "nan",
    "-nan",
    "+nan",
    "null",
    "none",
    "nil",
    "bad",
    "no_data",
    "nodata",
    "missing",
    "error",
    "err",
    "invalid",
    "void",
    "-",
    "--",
    "---",
    "#div/0!",
    "#value!",
    "#ref!",
    "#num!",
    "#name?",
    "#null!",
    "1.#qnan",
    "-1.#qnan",
    "1.#snan",
    "1.#ind",
    "-1.#ind",
    "1.#inf",
    "-1.#inf",
    "inf",
    "-inf",
    "+inf",
    "infinity",
    "-infinity",
    "offline",
    "timeout",
    "?",
    "??",
    "???",
]
_PHRASES = ("no data", "bad input", "i/o timeout", "not a number", "no value", "out of service", "scan off")
MISSING = frozenset([*_WORDS, *_PHRASES, ""])
"""What people write for a value that is not there, lower case; rows of stars or hashes are too (`is_missing`)."""

_FILL = re.compile(r"[*#?~_\-.]+")
_DIGITS = re.compile(r"[+-]?\d")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?[\d.,' \u00a0\u202f]*\d[.,]?([eE][+-]?\d+)?")
_DATE_MARKS = re.compile(
    r"\d[-/.年]\d{1,4}[-/.月]\d|\d[- /]?[A-Za-z]{3,9}\.?[- ,/]+\d|[A-Za-z]{3,9}\.? \d{1,2},? "
)
_BARE_MOMENT = re.compile(
    r"\d{4}.\d{1,2}.\d{1,2}[T_ -]\d{1,2}[-.]\d{1,2}[-.]\d{1,2}.*|\d{8}[T _-](\d{6}.*|\d{1,2}:\d{2}.*)"
)
_CLOCK = re.compile(r"\d{1,2}[:时時点]\d{1,2}")


class Kind(Enum):
    """What a cell looks like."""

    MISSING = "missing"
    NUMBER = "number"
    DATE = "date"
    CLOCK = "clock"
    MOMENT = "moment"  # a date and a clock
    TEXT = "text"


def is_missing(cell: str) -> bool:
    text = cell.strip().casefold()
    return text in MISSING or bool(_FILL.fullmatch(text))


def kind_of(cell: str) -> Kind:
    """What a cell looks like, by its marks; whether it is a real date is seen when it is read."""
    text = cell.strip()
    if is_missing(text):
        return Kind.MISSING
    if _NUMBER.fullmatch(text) and not _DATE_MARKS.match(text):
        return Kind.NUMBER
    if not _DIGITS.search(text) or len(text) > 60:
        return Kind.TEXT
    date, clock = _DATE_MARKS.search(text), _CLOCK.search(text)
    if (date and clock) or _BARE_MOMENT.fullmatch(text):
        return Kind.MOMENT
    if clock and re.match(r"[\d上下AP]", text):
        return Kind.CLOCK
    return Kind.DATE if date else Kind.TEXT


@dataclass(frozen=True)
class NumberStyle:
    """How a table writes numbers.

    Attributes:
        decimal: "." or ",".
        thousands: the sign that groups digits, or "".
    """

    decimal: str = "."
    thousands: str = ""

    def parse(self, cell: str) -> float | None:
        """The number, NaN for what stands for a missing value, None for what is neither."""
        text = cell.strip()
        if is_missing(text):
            return float("nan")
        if self.thousands and any(sign in text for sign in self.thousands):
            whole = re.split(f"[{re.escape(self.decimal)}eE]", text, maxsplit=1)[0]
            if not re.fullmatch(rf"[+-]?\d{{1,3}}([{re.escape(self.thousands)}]\d{{3}})*", whole):
                return None
            digits = re.sub(f"[{re.escape(self.thousands)}]", "", whole)
            text = digits + text[len(whole) :]
        if self.decimal == ",":
            if "." in text:
                return None
            text = text.replace(",", ".")
        return float(text) if _PLAIN.fullmatch(text) else None


_SPACES = "'\u2019\u00a0\u202f "


@dataclass(frozen=True)
class StyleEvidence:
    """What the cells of a table say of its decimal sign; `ambiguous` cells, as 6,342, say nothing."""

    point: str | None = None  # a cell that is a number only with a decimal point
    comma: str | None = None  # a cell that is a number only with a decimal comma
    ambiguous_comma: str | None = None
    ambiguous_point: str | None = None
    grouped: str = ""


def number_style(cells: Iterable[str]) -> StyleEvidence:  # noqa: PLR0912 - one table of cases
    """Look through cells for what tells a decimal point from a decimal comma."""
    point = comma = ambiguous_comma = ambiguous_point = None
    grouped: set[str] = set()
    for cell in cells:
        text = cell.strip().lstrip("+-")
        groups = {sign for sign in _SPACES if sign in text}
        if groups:
            grouped |= groups
            text = re.sub(f"[{_SPACES}]", "", text)
        commas, points = text.count(","), text.count(".")
        if not commas and not points:
            continue
        if commas and points:
            if text.rfind(",") > text.rfind("."):
                comma = comma or cell
            else:
                point = point or cell
        elif commas > 1:
            point = point or cell
        elif points > 1:
            comma = comma or cell
        elif commas:
            if re.fullmatch(r"[1-9]\d{0,2},\d{3}", text) and not groups:
                ambiguous_comma = ambiguous_comma or cell
            else:
                comma = comma or cell
        elif re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", text) and not groups:
            ambiguous_point = ambiguous_point or cell
        else:
            point = point or cell
    return StyleEvidence(point, comma, ambiguous_comma, ambiguous_point, "".join(sorted(grouped)))
