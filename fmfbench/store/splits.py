"""Splits derived from train, and the per-second sample set (data_cards/protocol.md, "Sample sets").

`val` and `fit`: in each recording the last fifth of the train frames is `val`; the train frames of the guard
before it are in neither; the rest is `fit`. `loro-val:NAME` and `loro-fit:NAME` leave one recording out: the train
frames of NAME, and those of all others. `kfold-val:I/K` is the I-th of K equal parts, in time, of the train frames of
each recording, I counted from 1 and K being 5 where it is left out; `kfold-fit:I/K` the others, without those of the
guard on both sides of that part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, seconds_to_ns
from fmfbench.errors import WindowError

__all__ = [
    "DERIVED",
    "FOLDS",
    "GUARD_SECONDS",
    "Derived",
    "Found",
    "derived_rows",
    "fold_rows",
    "has_guard",
    "parse_derived",
    "parse_fold",
    "per_second_rows",
    "validation_rows",
]

DERIVED = ("val", "fit", "loro-val:NAME", "loro-fit:NAME", "kfold-val:I/K", "kfold-fit:I/K")
FOLDS = 5  # of kfold where it names no other number
_MOST_FOLDS = 1000
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
        name: val, fit, loro-val:NAME, loro-fit:NAME, kfold-val:I/K or kfold-fit:I/K.
        recording: (N,) index into `names`.
        frame_time: (N,) ns, ascending in each recording.
        split: (N,) 0 train, 1 test, 2 unused.
        names: of the recordings.
        guard_seconds: how far the windows look back that `val` is to be kept apart from `fit` for.

    Raises:
        WindowError: no such split or recording, or no recording has train time enough for the guard.
    """
    derived = parse_derived(name, names)
    out, found = np.zeros(len(split), bool), Found()
    for rows in _by_recording(recording):
        own = names[int(recording[rows[0]])]
        times = partial(np.take, frame_time, rows)
        out[rows] = derived.rows(own, times, split[rows], guard_seconds, found)
    derived.check(found, guard_seconds)
    return out


@dataclass
class Found:
    """Which parts some recording has."""

    val: bool = False
    fit: bool = False


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A derived split, asked of one recording after the other.

    kind: "validation", "loro" or "kfold". part: "val" or "fit" of it. recording: the one that is left out.
    fold: (which, counted from 1, of how many).
    """

    name: str
    kind: str
    part: str
    recording: str = ""
    fold: tuple[int, int] = (0, 0)

    def rows(
        self,
        recording: str,
        frame_time: Callable[[], NDArray[np.int64]],
        split: NDArray[np.uint8],
        guard_seconds: float,
        found: Found,
    ) -> NDArray[np.bool_]:
        """(N,) which frames of a recording it has; its times are asked for where they matter alone."""
        if self.kind == "loro":
            return np.asarray((split == _TRAIN) & ((recording == self.recording) == (self.part == "val")))
        if self.kind == "kfold":
            val, fit = fold_rows(frame_time(), split, *self.fold, guard_seconds)
        else:
            val, fit = validation_rows(frame_time(), split, guard_seconds)
        found.val |= bool(val.any())
        found.fit |= bool(fit.any())
        return val if self.part == "val" else fit

    def check(self, found: Found, guard_seconds: float) -> None:
        """WindowError where no recording has train time enough for both parts."""
        if self.kind == "validation" and not found.val:
            raise WindowError(
                f"split {self.name!r}: expected a recording with train time for a guard of {guard_seconds:g} s before "
                f"its last fifth and as much again before that, got none; a shorter protocol has a shorter "
                f"guard, and whole recordings need none (loro-val:NAME)"
            )
        if self.kind == "kfold" and not (found.val if self.part == "val" else found.fit):
            needed = "train frames"
            if self.part == "fit":
                needed = f"train time for a guard of {guard_seconds:g} s around a fold and frames beyond it"
            raise WindowError(
                f"split {self.name!r}: expected a recording with {needed}, got none; a shorter protocol has a shorter "
                f"guard, and whole recordings need none (loro:NAME)"
            )


def parse_derived(name: str, names: Sequence[str]) -> Derived:
    """A derived split of recordings `names`; WindowError where there is none such.

    >>> parse_derived("kfold-fit:2/4", ["a"]).fold
    (2, 4)
    """
    kind, _, asked = name.partition(":")
    if kind in ("loro-val", "loro-fit"):
        if asked not in names:
            raise WindowError(f"split: expected a recording's name, one of {', '.join(names)}, got {name!r}")
        return Derived(name=name, kind="loro", part=kind[-3:], recording=asked)
    if kind in ("kfold-val", "kfold-fit"):
        return Derived(name=name, kind="kfold", part=kind[-3:], fold=parse_fold(asked, name))
    if name not in ("val", "fit"):
        raise WindowError(
            f"split: expected one of train, test, unused, all, {', '.join(DERIVED)}, got {name!r}"
        )
    return Derived(name=name, kind="validation", part=name)


def has_guard(part: str) -> bool:
    """Whether which samples a part of a split has depends on the length of a guard.

    >>> has_guard("val"), has_guard("kfold-fit:1/5"), has_guard("kfold-val:1/5"), has_guard("loro-fit:val")
    (True, True, False, False)
    """
    return part in ("val", "fit") or part.startswith("kfold-fit:")


def parse_fold(text: str, name: str) -> tuple[int, int]:
    """(which, of how many) of `I/K`, or of `I`, one of five; `name` is for the message.

    >>> parse_fold("2", "kfold:2"), parse_fold("2/4", "kfold:2/4")
    ((2, 5), (2, 4))
    """
    match = re.fullmatch(r"([0-9]{1,4})(?:/([0-9]{1,4}))?", text)
    which, count = (int(match[1]), int(match[2] or FOLDS)) if match else (0, FOLDS)
    if not (2 <= count <= _MOST_FOLDS and 1 <= which <= count):
        raise WindowError(
            f"split: expected which fold of how many, from 1/{FOLDS} to {FOLDS}/{FOLDS} (as 1 to {FOLDS}, or "
            f"2/10 for other numbers of folds, at most {_MOST_FOLDS}), got {name!r}"
        )
    return which, count


def fold_rows(
    frame_time: NDArray[np.int64], split: NDArray[np.uint8], which: int, count: int, guard_seconds: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The `which`-th of `count` equal parts of one recording's train frames, and those beyond the guard around it.

    Both (N,). Where the guard reaches over all other train frames, the second is empty.
    """
    val, fit = np.zeros(len(split), bool), split == _TRAIN
    rows = np.flatnonzero(fit)
    own = rows[len(rows) * (which - 1) // count : len(rows) * which // count]
    if len(own):
        val[own] = True
        guard = seconds_to_ns(guard_seconds)
        fit &= (frame_time <= frame_time[own[0]] - guard) | (frame_time >= frame_time[own[-1]] + guard)
        fit &= ~val
    return val, fit


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
