"""What a column of times may mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import SourceError

__all__ = ["DAY", "MILLISECOND", "YEARS", "Reading", "no_such_day"]

DAY = 86_400 * NS
MILLISECOND = 1_000_000
YEARS = (1678, 2261)


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


def no_such_day(text: str, where: str, row: int) -> SourceError:
    return SourceError(
        f"{where}: expected a time in row {row}, got {text!r}, which is no day of the calendar or lies outside the "
        f"years {YEARS[0]} to {YEARS[1]}; mend the row"
    )
