"""Excel workbooks as the text of a table, so that one reader knows all dialects."""

from __future__ import annotations

import csv
import datetime
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fmfbench.errors import MissingDependencyError, SourceError
from fmfbench.sources.table.text import TableText, open_text

__all__ = ["workbook_text"]

_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class _Temporary:
    """Folders of texts made from workbooks; they go with the process."""

    folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def path(cls) -> Path:
        if cls.folder is None:
            cls.folder = tempfile.TemporaryDirectory(prefix="fmfbench-workbook-", ignore_cleanup_errors=True)
        return Path(cls.folder.name)


def workbook_text(path: Path) -> TableText | None:
    """The first sheet of a workbook as text, or None where the file is no workbook.

    Raises:
        SourceError: a workbook of the old form (.xls), one of several filled sheets, or a damaged one.
        MissingDependencyError: openpyxl is not installed.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(8)
    except OSError as error:
        raise SourceError(f"{path}: expected a table, got what cannot be read ({error.strerror})") from None
    if head == _OLD:
        raise SourceError(
            f"{path}: expected a table, got an Excel workbook of the old form (.xls); save it as .xlsx or as CSV"
        )
    if not head.startswith(b"PK"):
        return None
    rows = _sheet(path)
    target = _Temporary.path() / f"{len(list(_Temporary.path().iterdir()))}.csv"
    with target.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([[_cell(value) for value in row] for row in rows])
    text = open_text(target)
    return TableText(target, text.encoding, text.start, text.end)


def _sheet(path: Path) -> list[tuple[Any, ...]]:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: openpyxl, which reads Excel workbooks, cannot be imported ({error}); "
            "pip install 'fmfbench[raw]', or save the sheet as CSV"
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheets = {sheet.title: [tuple(row) for row in sheet.values] for sheet in book.worksheets}
        finally:
            book.close()
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise SourceError(
            f"{path}: expected a table, got a zip file that is no whole Excel workbook ({error}); save it as CSV"
        ) from None
    filled = {
        name: rows for name, rows in sheets.items() if any(any(v is not None for v in row) for row in rows)
    }
    if len(filled) != 1:
        shown = ", ".join(filled) or "none"
        raise SourceError(
            f"{path}: expected one filled sheet, got {shown}; save the sheet of currents as CSV"
        )
    return next(iter(filled.values()))


def _cell(value: Any) -> str:
    """As text; times to the millisecond that a workbook's numbers can tell."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        rounded = value + datetime.timedelta(microseconds=500)
        return f"{rounded:%Y-%m-%d %H:%M:%S}.{rounded.microsecond // 1000:03d}"
    if isinstance(value, datetime.time):
        rounded = datetime.datetime.combine(datetime.date(1970, 1, 1), value) + datetime.timedelta(
            microseconds=500
        )
        return f"{rounded:%H:%M:%S}.{rounded.microsecond // 1000:03d}"
    if isinstance(value, datetime.date):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, datetime.timedelta):
        return repr(round(value.total_seconds(), 3))
    return repr(value) if isinstance(value, float) else str(value)
