"""Times by the `strptime` format that the user gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import SourceError
from fmfbench.sources.table.reading import DAY, YEARS, Reading, no_such_day

__all__ = ["read_with_format"]


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
            f"{where}: expected times of the form {time_format!r}, got {text!r} in row {rows(at)} "
            f"({error}); mend the row, or say another with --time-format"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not dated:
        moment = moment.replace(year=1970, month=1, day=1)
    if not YEARS[0] <= moment.year <= YEARS[1]:
        at = int(np.flatnonzero(texts == text.encode())[0])
        raise no_such_day(text, where, rows(at))
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1000
