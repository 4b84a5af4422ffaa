"""Which column of a table is the time, which are the three phases, and in what unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fmfbench.errors import SourceError
from fmfbench.sources.table.cells import Kind

__all__ = ["Column", "Roles", "choose_roles", "is_unit_row", "unit_factor"]

_TIME_WORDS = {
    "time", "times", "timestamp", "timestamps", "datetime", "date", "clock", "t", "sec", "secs", "second", "seconds",
    "s", "ms", "millis", "milliseconds", "us", "ns", "elapsed", "epoch", "unix", "utc", "zeit", "datum", "uhrzeit",
    "temps", "fecha", "hora", "stamp", "datenum", "serial",
}  # fmt: skip
_TIME_TEXT = re.compile(r"时间|時間|日期|时刻|秒|time|stamp|datum|zeit", re.I)
_INDEX_WORDS = {
    "", "index", "idx", "no", "nr", "n", "row", "rows", "id", "sample", "samples", "record", "rec", "count", "i", "k",
    "unnamed", "entry", "point", "seq",
}  # fmt: skip
_INDEX_TEXT = re.compile(r"序号|编号|行号|^#$")
_PHASES: tuple[tuple[str, ...], ...] = (
    ("a", "b", "c"),
    ("1", "2", "3"),
    ("l1", "l2", "l3"),
    ("r", "s", "t"),
    ("u", "v", "w"),
    ("ab", "bc", "ca"),
)
_CURRENT = re.compile(r"curr|amp|电流|電流|strom|courant|intens|(?<![a-z])i(?![a-z])|^i[_ ]?$", re.I)
_NOT_CURRENT = re.compile(
    r"volt|spannung|tension|电压|電壓|pow|功率|temp|温度|(?<![a-z])[uvpqt](?![a-z])", re.I
)
_UNIT = re.compile(r"(?<![A-Za-z])(kA|KA|mA|A|Amp|Amps|amp|amps|Ampere|ampere|安培|安|千安|毫安)(?![A-Za-z])")
_FACTORS = {"kA": 1000.0, "KA": 1000.0, "千安": 1000.0, "mA": 0.001, "毫安": 0.001}
_UNIT_CELLS = re.compile(
    r"[(\[]?\s*(s|sec|seconds?|ms|us|µs|ns|min|h|kA|KA|mA|A|amps?|V|kV|kW|MW|W|%|°C|C|Hz|-|hh:mm:ss.*|dd.*|yyyy.*|秒|毫秒|安|千安)\s*[)\]]?"
)


@dataclass(frozen=True)
class Column:
    """One column as its first rows show it."""

    index: int
    name: str  # "" where the table has no header
    unit: str
    kind: Kind
    consecutive: bool  # whole numbers, each one more than the last
    example: str = ""  # its cell in the first row
    row: int = 2  # the line of the file that this is

    @property
    def label(self) -> str:
        return self.name or f"column {self.index + 1}"


@dataclass(frozen=True)
class Roles:
    """Columns by what they are for.

    Attributes:
        time: one column, two (date and clock), or none where rows are counted.
        phases: three columns, or none of a table of times.
        remarks: what was chosen where more than one choice was there.
    """

    time: tuple[Column, ...]
    phases: tuple[Column, ...]
    remarks: tuple[str, ...] = ()


def choose_roles(
    where: str, columns: Sequence[Column], names: dict[str, str], *, phases: bool, by_index: bool
) -> Roles:
    """Time and phases among the columns of a table.

    Args:
        where: the file, for messages.
        columns: all of them.
        names: what `--map` says: `time`, and `a`, `b`, `c` or `current=A,B,C`.
        phases: whether the table has currents, or only times.
        by_index: rows are counted and have no time (`--current-hz`).

    Raises:
        SourceError: none, or more than one choice.
    """
    used = [c for c in columns if c.kind is not Kind.MISSING or c.name]
    mapped = _mapped_phases(where, used, names) if phases else ()
    rest = [c for c in used if c not in mapped]
    time = _time(where, rest, names, len(mapped) == 3, by_index, phases)
    if not phases:
        return Roles(time, ())
    rest = [c for c in rest if c not in time and c.kind in (Kind.NUMBER, Kind.MISSING)]
    if time or by_index:
        rest = [c for c in rest if not _is_index(c)]
    if mapped:
        return Roles(time, mapped)
    chosen, remark = _phases(where, rest, columns)
    return Roles(time, chosen, remark)


def unit_factor(column: Column) -> float:
    """What turns a column's numbers into A: by its units row, by brackets in its name, or by a word of it.

    A name may have an A that is a phase: `I_A (kA)`.
    """
    bracketed = " ".join(re.findall(r"[(\[（]([^)\]）]*)[)\]）]", column.name))
    for text in (column.unit, bracketed, column.name.replace("_", " ")):
        found = _UNIT.findall(text)
        if found:
            return next((_FACTORS[unit] for unit in found if unit in _FACTORS), 1.0)
    return 1.0


def is_unit_row(cells: Sequence[str]) -> bool:
    """Whether a row of text holds only units: `s;A;A;A`."""
    texts = [c.strip() for c in cells if c.strip()]
    return bool(texts) and all(_UNIT_CELLS.fullmatch(text) for text in texts)


def _mapped_phases(where: str, columns: Sequence[Column], names: dict[str, str]) -> tuple[Column, ...]:
    given = [names[k] for k in ("a", "b", "c") if k in names]
    if "current" in names:
        given = [part.strip() for part in names["current"].split(",")]
    if not given:
        return ()
    if len(given) != 3:
        raise SourceError(
            f"{where}: expected three phases, as --map a=IA --map b=IB --map c=IC, got {', '.join(given)}"
        )
    return tuple(_by_name(where, columns, name) for name in given)


def _by_name(where: str, columns: Sequence[Column], name: str) -> Column:
    for same in (str, str.casefold):
        found = [c for c in columns if same(c.name) == same(name)]
        if len(found) == 1:
            return found[0]
    if name.isdecimal() and 1 <= int(name) <= len(columns):
        return columns[int(name) - 1]
    raise SourceError(f"{where}: expected a column {name!r} (--map), got {_listing(columns)}")


def _time(  # noqa: PLR0911 - one kind of column a return
    where: str, columns: Sequence[Column], names: dict[str, str], mapped: bool, by_index: bool, phases: bool
) -> tuple[Column, ...]:
    if "time" in names:
        return tuple(_by_name(where, columns, part.strip()) for part in names["time"].split(","))
    moments = [c for c in columns if c.kind is Kind.MOMENT]
    dates = [c for c in columns if c.kind is Kind.DATE or (c.kind is Kind.NUMBER and _is_date_named(c))]
    clocks = [c for c in columns if c.kind is Kind.CLOCK]
    if by_index and not moments and not clocks:
        return ()
    if len(moments) == 1:
        return (moments[0],)
    if not moments and len(clocks) == 1:
        return (dates[0], clocks[0]) if len(dates) == 1 else (clocks[0],)
    if not moments and not clocks and len(dates) == 1 and dates[0].kind is Kind.DATE:
        return (dates[0],)  # what is missing is told where times are read
    if len(moments) > 1 or len(clocks) > 1:
        found = moments or clocks
        raise SourceError(
            f"{where}: expected one column of times, got {', '.join(c.label for c in found)}; "
            f"say which with --map time={found[0].name or found[0].index + 1}"
        )
    numbers = [c for c in columns if c.kind is Kind.NUMBER]
    named = [c for c in numbers if _is_time_named(c)]
    if len(named) > 1:
        raise SourceError(
            f"{where}: expected one column of times, got {', '.join(c.label for c in named)}; "
            f"say which with --map time={named[0].name}"
        )
    if named:
        return (named[0],)
    free = [c for c in numbers if not _is_index(c)]
    if numbers and not phases:
        return ((free or numbers)[0],)
    index = [c for c in numbers if _is_index(c)]
    phase_like = {c for triple in _triples(free) for c in triple}
    # Beside a count of rows a column with another name is no time.
    open_ = [c for c in free if c not in phase_like and not (index and c.name and not mapped)]
    if open_ and (mapped or (len(numbers) > 3 and (len(free) > 3 or not index))):
        return (open_[0],)
    if index:
        raise SourceError(
            f"{where}: expected a column of times, got only a count of rows ({index[0].label}"
            f"{'' if index[0].name else ', the table has no header'}); say how many rows a "
            "second it has with --current-hz, for example --current-hz 2"
        )
    raise SourceError(
        f"{where}: expected a column of times and three of phases, got {_listing(columns)}, none of them with "
        "times in one of the known formats; name the columns with --map "
        "time=NAME, or say how many rows a second it has with --current-hz"
    )


def _phases(
    where: str, rest: Sequence[Column], columns: Sequence[Column]
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    triples = _triples(rest)
    if len(triples) > 1:
        likely = [t for t in triples if _says_current(t) and not _says_other(t)]
        triples = likely if len(likely) == 1 else [t for t in triples if not _says_other(t)]
    if len(triples) != 1 and len(rest) == 3:
        return tuple(rest), ()
    if len(triples) != 1:
        by_unit = [c for c in rest if _UNIT.search(c.unit) or _UNIT.search(c.name.replace("_", " "))]
        triples = [tuple(by_unit)] if len(by_unit) == 3 else []
    texts = [c for c in columns if c.kind is Kind.TEXT]
    if len(triples) != 1 and len(rest) < 3 and texts and len(columns) == 4:
        raise SourceError(
            f"{where}: expected a current in A in row {texts[0].row}, got {texts[0].example!r} in {texts[0].label}"
        )
    if len(triples) != 1:
        raise SourceError(
            f"{where}: expected at least 4 columns, of a time and three phases, got {_listing(columns)}; say "
            "which with --map a=NAME --map b=NAME --map c=NAME"
        )
    chosen = triples[0]
    if len(rest) == 3:
        return chosen, ()
    return chosen, (f"phases are the columns {', '.join(c.label for c in chosen)}",)


def _triples(columns: Sequence[Column]) -> list[tuple[Column, ...]]:
    """Columns whose names differ in the name of a phase only, in the order of phases."""
    found: dict[tuple[str, tuple[str, ...]], dict[str, Column]] = {}
    for column in columns:
        for family in _PHASES:
            for stem, phase in _stems(column.name, family):
                found.setdefault((stem, family), {}).setdefault(phase, column)
    out: list[tuple[Column, ...]] = []
    for (_, family), members in found.items():
        triple = tuple(members[p] for p in family if p in members)
        if len(triple) == 3 and len(set(triple)) == 3 and set(triple) not in [set(t) for t in out]:
            out.append(triple)
    return out


def _stems(name: str, family: tuple[str, ...]) -> list[tuple[str, str]]:
    text = re.sub(r"[(\[（].*?[)\]）]", "", name).strip().casefold()
    # The A at the end may be a phase or a unit.
    texts = {text, re.sub(r"[/_\s]+(ka|ma|a|v|kv)$", "", text) if len(text) > 3 else text}
    out = []
    for phase in family:
        for pattern in (rf"(.*?)[_ .\-]*{phase}(相|phase)?", rf"{phase}(相|[_ .\-]+)(.*)"):
            for match in filter(None, (re.fullmatch(pattern, t) for t in sorted(texts))):
                stem = match[1] if pattern.startswith("(") else match[2]
                stem = stem.strip("_ .-")
                if phase.isalpha() and stem and stem[-1:].isalpha() and stem not in _STEMS:
                    continue  # a word that happens to end in the letter
                out.append((stem, phase))
    return out


_STEMS = {
    "i", "u", "v", "p", "q", "phase", "current", "curr", "amp", "volt", "voltage", "power", "ph", "cur",
    "current phase", "phase current", "strom", "irms", "vrms", "urms", "il", "ul", "vl", "electrode", "i_",
    "电流", "电压", "功率", "temp",
}  # fmt: skip


def _says_current(triple: Sequence[Column]) -> bool:
    return _in_amperes(triple) or all(_CURRENT.search(_spread(c.name)) for c in triple)


def _says_other(triple: Sequence[Column]) -> bool:
    return not _in_amperes(triple) and all(_NOT_CURRENT.search(_spread(c.name)) for c in triple)


def _in_amperes(triple: Sequence[Column]) -> bool:
    """Whether all three have a unit of current: an A in one name alone is a phase."""
    return all(_UNIT.search(c.unit) or _UNIT.search(_spread(c.name)) for c in triple)


def _spread(name: str) -> str:
    """`Ia` as `I a`, so that a symbol stands alone."""
    text = re.sub(r"^([A-Za-z])([abcABCrstRSTuvwUVW123]|[Ll][123])(?![A-Za-z])", r"\1 \2", name)
    return text.replace("_", " ")


def _is_time_named(column: Column) -> bool:
    words = set(re.split(r"[^0-9A-Za-zµ]+", column.name.casefold())) - {""}
    return bool(words & _TIME_WORDS or _TIME_TEXT.search(column.name))


def _is_date_named(column: Column) -> bool:
    return column.name.casefold() in {"date", "datum", "日期", "day"}


def _is_index(column: Column) -> bool:
    words = set(re.split(r"[^0-9A-Za-z#]+", column.name.casefold()))
    named = words <= _INDEX_WORDS | {"0"} or bool(_INDEX_TEXT.search(column.name.strip()))
    return column.kind is Kind.NUMBER and column.consecutive and named


def _listing(columns: Sequence[Column]) -> str:
    shown = [f"{c.label[:30]} ({c.kind.value})" for c in columns]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
