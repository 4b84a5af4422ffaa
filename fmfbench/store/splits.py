"""Splits derived from train, and the per-second sample set (data_cards/protocol.md, "Sample sets").

`val` and `fit`: in each recording the last fifth of the train frames is `val`; the train frames of the guard
before it are in neither; the rest is `fit`. `loro-val:NAME` and `loro-fit:NAME` leave one recording out: the train
frames of NAME, and those of all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, seconds_to_ns
from fmfbench.errors import WindowError

__all__ = [
    "DERIVED",
    "GUARD_SECONDS",
    "derived_rows",
    "no_validation",
    "parse_derived",
    "per_second_rows",
    "validation_rows",
]

DERIVED = ("val", "fit", "loro-val:NAME", "loro-fit:NAME")
VALIDATION_SHARE = 0.2
GUARD_SECONDS = 221.0  # the longest reach of a named protocol into the past, its tolerance included
_TRAIN = 0


def derived_rows(
    name: str,
    recording: NDArray[np.int64],
    frame_time: NDArray[np.int64],
    split: NDArray[np.uint8],
    names: Sequence[str],
    guard_seconds: float = GUARD_SECONDS,
) -> NDArray[np.bool_]:
    """Which of N frames belong to a derived split.

    Args:
        name: val, fit, loro-val:NAME or loro-fit:NAME.
        recording: (N,) index into `names`.
        frame_time: (N,) ns, ascending in each recording.
        split: (N,) 0 train, 1 test, 2 unused.
        names: of the recordings.
        guard_seconds: how far the windows look back that `val` is to be kept apart from `fit` for.

    Raises:
        WindowError: no such split or recording, or no recording has train time enough for the guard.
    """
    kind, left_out = parse_derived(name, names)
    train = split == _TRAIN
    if left_out is not None:
        own = recording == list(names).index(left_out)
        return train & (own if kind == "loro-val" else ~own)
    out, divided = np.zeros(len(split), bool), False
    for rows in _by_recording(recording):
        val, fit = validation_rows(frame_time[rows], split[rows], guard_seconds)
        out[rows] = val if kind == "val" else fit
        divided |= bool(val.any())
    if not divided:
        raise no_validation(name, guard_seconds)
    return out


def parse_derived(name: str, names: Sequence[str]) -> tuple[str, str | None]:
    """(kind, recording that is left out) of a derived split's name; WindowError where there is none such."""
    kind, _, left_out = name.partition(":")
    if kind in ("loro-val", "loro-fit"):
        if left_out not in names:
            raise WindowError(f"split {name!r}: expected a recording's name, one of {', '.join(names)}")
        return kind, left_out
    if name not in ("val", "fit"):
        raise WindowError(f"split {name!r} is not one of train, test, unused, all, {', '.join(DERIVED)}")
    return kind, None


def validation_rows(
    frame_time: NDArray[np.int64], split: NDArray[np.uint8], guard_seconds: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`val` and `fit`, both (N,), of one recording's frames; no `val` where its train frames are too few."""
    val, fit = np.zeros(len(split), bool), split == _TRAIN
    rows = np.flatnonzero(fit)
    first = _first_validation_frame(frame_time[rows], guard_seconds)
    if first is not None:
        val[rows[first:]] = True
        begins = frame_time[rows[first]]
        fit[rows[frame_time[rows] > begins - seconds_to_ns(guard_seconds)]] = False
    return val, fit


def no_validation(name: str, guard_seconds: float) -> WindowError:
    return WindowError(
        f"split {name!r}: expected a recording with train time for a guard of {guard_seconds:g} s before "
        f"its last fifth and as much again before that, got none; validate on loro-val:NAME"
    )


def _by_recording(recording: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each recording, in order."""
    order = np.argsort(recording, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(recording[order])) + 1) if len(order) else []


def per_second_rows(recording: NDArray[np.int64], frame_time: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of N samples, in order, are the last of their second of their recording."""
    second = frame_time // NS
    last = np.ones(len(second), bool)
    last[:-1] = (np.diff(second) != 0) | (np.diff(recording) != 0)
    return last


def _first_validation_frame(frame_time: NDArray[np.int64], guard_seconds: float) -> int | None:
    """Where the last fifth begins, None if the guard would leave less before it than it holds."""
    first = len(frame_time) - int(len(frame_time) * VALIDATION_SHARE)
    if first >= len(frame_time):
        return None
    kept = np.searchsorted(frame_time, frame_time[first] - seconds_to_ns(guard_seconds), side="right")
    return first if kept >= len(frame_time) - first else None
