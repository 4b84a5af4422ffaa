"""Dividing recordings into train and test: the last share of each, whole recordings, or stretches of time.

A window looks back, so at each cut between train and test the train frames within a protocol's reach are *guard*
frames, in neither: those that a test window may still see, and those whose own windows still see test frames. The guard
is as long as the protocol's reach, and longer where a gap in the recording makes a window hold an older row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, seconds_to_ns
from fmfbench.errors import WindowError
from fmfbench.files.local import local_path
from fmfbench.store.named_splits import set_default_split, write_split
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import SPLITS, UNLABELLED
from fmfbench.windows.lines import timeline
from fmfbench.windows.plan import Timeline, official_span
from fmfbench.windows.protocol import PROTOCOLS, WindowProtocol, get_protocol

__all__ = [
    "Division",
    "Stretch",
    "divide",
    "guard_frames",
    "last_share",
    "plan_split",
    "reach_seconds",
    "split_store",
    "stretches",
    "whole_recordings",
]

TRAIN, TEST, UNUSED = (SPLITS[part] for part in ("train", "test", "unused"))
_FITTING_SHARES = ("30%", "20%", "10%", "5%", "2%", "1%")

Marks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Seconds [start, stop) of a recording, counted from its first frame; stop None is its end."""

    recording: str
    start: Fraction
    stop: Fraction | None


@dataclass(frozen=True, kw_only=True)
class Division:
    """What `split_store` did.

    Attributes:
        name: of the split.
        default: the store's default split now.
        written: paths of the arrays written, relative to the store; empty where the split was there.
        fingerprint: of the store as this split divides it.
        protocol: whose reach the guards have; None where none is needed.
        counts: recording -> frames in train, test and unused, and how many of each part are unlabelled.
    """

    name: str
    default: str
    written: tuple[str, ...]
    fingerprint: str
    protocol: str | None
    counts: Mapping[str, Mapping[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        own = {"split": self.name, "default_split": self.default, "written": list(self.written)}
        counts = {name: dict(count) for name, count in self.counts.items()}
        return {**own, "fingerprint": self.fingerprint, "protocol": self.protocol, "recordings": counts}


def split_store(
    store: str | Path,
    *,
    name: str = "derived",
    test: Fraction | float | None = None,
    by_recording: Sequence[str] | None = None,
    at: Sequence[Stretch] | None = None,
    protocol: str | WindowProtocol = "paper",
    as_default: bool = False,
) -> Division:
    """Divide the recordings of a store into train and test, and write that into it as a named split.

    Exactly one of `test`, `by_recording` and `at` says how; with none of them and `as_default` a split that is there
    becomes the default.

    Args:
        store: a finished store; its own split stays, as `source`.
        name: of the new split.
        test: the last share of the frames of each recording is test, between 0 and 1.
        by_recording: these recordings are test, the others train.
        at: these stretches are test, all else train.
        protocol: the guards are as long as its windows reach back.
        as_default: windows, training and scores take this split when none is named.

    Raises:
        WindowError: no such recording, a stretch outside one, no such protocol, or a part that is left empty: the
            message says how long the recordings are and what would fit.
        StoreError: a name that cannot be, or a split of that name with other frames.
        BusyError: another process is writing to the store.
    """
    store = local_path(store)
    data = StoreReader.open(store)
    rules = {"test": test, "by_recording": by_recording, "at": at}
    if as_default and not any(value is not None for value in rules.values()):
        set_default_split(store, name)
        return _division(StoreReader.open(store), name, [], None)
    splits, parameters = plan_split(data, test=test, by_recording=by_recording, at=at, protocol=protocol)
    written = write_split(store, name, splits, parameters, as_default=as_default)
    guards = parameters.get("protocol", {}).get("name")
    return _division(StoreReader.open(store), name, written, guards)


def plan_split(
    data: StoreReader,
    *,
    test: Fraction | float | None = None,
    by_recording: Sequence[str] | None = None,
    at: Sequence[Stretch] | None = None,
    protocol: str | WindowProtocol = "paper",
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
    """What `split_store` would write: each recording's split (N,) uint8, and the rule that made it.

    Arguments and errors as there.
    """
    chosen = get_protocol(protocol)
    rules = {"test": test, "by_recording": by_recording, "at": at}
    given = [key for key, value in rules.items() if value is not None]
    if len(given) != 1:
        raise WindowError(
            f"{data.path}: expected one of --test, --by-recording and --at (or --as-default with the name of a split "
            f"that is there: {', '.join(data.split_names)}), got {' and '.join(given) or 'none'}"
        )
    marks, parameters = _marks(data, test, by_recording, at)
    guarded = by_recording is None
    splits = divide(data, marks, chosen if guarded else None)
    _check_parts(data, splits, chosen if guarded else None, test=test)
    if guarded:
        parameters |= {"protocol": chosen.to_dict(), "guard_seconds": reach_seconds(chosen)}
    return splits, parameters


def divide(
    data: StoreReader, test: Mapping[str, NDArray[np.bool_]], protocol: WindowProtocol | None
) -> dict[str, NDArray[np.uint8]]:
    """Each recording's split (N,) uint8: 1 where `test` (N,) is true, 2 in the guards of `protocol`, 0 elsewhere."""
    splits = {}
    for name, recording in data.recordings.items():
        split = np.where(test[name], TEST, TRAIN).astype(np.uint8)
        if protocol is not None:
            split[guard_frames(timeline(recording), test[name], protocol)] = UNUSED
        splits[name] = split
    return splits


def guard_frames(line: Timeline, test: NDArray[np.bool_], protocol: WindowProtocol) -> NDArray[np.bool_]:
    """(N,) frames that are not test, but that a test window may see, or whose own window may see a test frame."""
    n = len(test)
    here = np.arange(n)
    # No window begins before that of an earlier frame, so the nearest test frame on either side decides.
    next_test = np.minimum.accumulate(np.where(test, here, n)[::-1])[::-1]
    last_test = np.maximum.accumulate(np.where(test, here, -1))
    first = first_seen(line, protocol)
    is_seen = np.append(first, n)[next_test] <= here
    sees = first <= last_test
    return np.asarray(~test & (is_seen | sees))


def first_seen(line: Timeline, protocol: WindowProtocol) -> NDArray[np.int64]:
    """(N,) the earliest frame that belongs to each frame's window.

    Within the protocol's reach in time, among its frames, or the one that its oldest current row belongs to.
    """
    times, rows = line.frame_time, line.current_time
    in_time = np.searchsorted(times, times - seconds_to_ns(reach_seconds(protocol)), side="right")
    oldest_frame = np.maximum(np.arange(len(times)) - (protocol.num_frames - 1) * protocol.stride, 0)
    first = np.minimum(in_time, oldest_frame)
    if len(rows):
        if protocol.alignment == "official":
            row = np.minimum(official_span(line, np.arange(len(times)), protocol)[0], len(rows) - 1)
        else:
            oldest = times - protocol.current_lag_ns(protocol.num_current - 1)
            row = np.maximum(np.searchsorted(rows, oldest, side="right") - 1, 0)
        holder = np.searchsorted(times, rows[row], side="right") - 1
        first = np.minimum(first, np.maximum(holder, 0))
    return first.astype(np.int64)


def reach_seconds(protocol: WindowProtocol) -> float:
    """How far a window looks back, its tolerance included."""
    video = (protocol.num_frames - 1) * protocol.stride / protocol.video_hz
    return max(video, protocol.current_seconds) + protocol.tolerance


def last_share(recordings: Mapping[str, Recording], share: Fraction | float) -> Marks:
    """The last `share` of the frames of each recording, whole frames, rounded down."""
    if not 0 < share < 1:
        raise WindowError(
            f"--test: expected a share above 0 and below 1, as in 0.2 or 20%, got {float(share):g}"
        )
    counts = {name: recording.num_frames for name, recording in recordings.items()}
    return {name: np.arange(n) >= n - int(n * Fraction(share)) for name, n in counts.items()}


def whole_recordings(recordings: Mapping[str, Recording], names: Iterable[str]) -> Marks:
    """All frames of the recordings named."""
    wanted = set(names)
    for name in sorted(wanted - set(recordings)):
        raise _unknown("--by-recording", name, recordings)
    return {name: np.full(r.num_frames, name in wanted) for name, r in recordings.items()}


def stretches(recordings: Mapping[str, Recording], wanted: Iterable[Stretch]) -> Marks:
    """Frames whose time since their recording's first frame lies in one of the stretches."""
    marks = {name: np.zeros(recording.num_frames, bool) for name, recording in recordings.items()}
    for stretch in wanted:
        if stretch.recording not in recordings:
            raise _unknown("--at", stretch.recording, recordings)
        times = recordings[stretch.recording].frame_time
        elapsed = times - times[0] if len(times) else times
        seconds = _seconds(recordings[stretch.recording])
        stop = stretch.stop
        inside = elapsed >= seconds_to_ns(stretch.start)
        if stop is not None:
            inside &= elapsed < seconds_to_ns(stop)
        # A second more than the recording has is forgiven: its length is printed rounded.
        if (stop is not None and stop > seconds + 1) or not inside.any():
            until = "" if stop is None else f"{float(stop):g}"
            raise WindowError(
                f"--at: expected seconds of {stretch.recording} that hold a frame, from 0 to {seconds:.2f}, got "
                f"{float(stretch.start):g}-{until}"
            )
        marks[stretch.recording] |= inside
    return marks


def _marks(
    data: StoreReader,
    test: Fraction | float | None,
    by_recording: Sequence[str] | None,
    at: Sequence[Stretch] | None,
) -> tuple[Marks, dict[str, Any]]:
    """Which frames are test, and the rule that says so."""
    if test is not None:
        return last_share(data.recordings, test), {
            "rule": "test",
            "share": str(Fraction(test).limit_denominator()),
        }
    if by_recording is not None:
        names = sorted(set(by_recording))
        return whole_recordings(data.recordings, names), {"rule": "by-recording", "recordings": names}
    assert at is not None
    listed = [
        [s.recording, float(s.start), None if s.stop is None else float(s.stop)]
        for s in sorted(at, key=lambda s: (s.recording, s.start))
    ]
    return stretches(data.recordings, at), {"rule": "at", "stretches": listed}


def _check_parts(
    data: StoreReader,
    splits: Mapping[str, NDArray[np.uint8]],
    protocol: WindowProtocol | None,
    test: Fraction | float | None,
) -> None:
    """WindowError, with what would fit, where no frame is left to train on or to test on."""
    empty = [part for part, code in (("train", TRAIN), ("test", TEST)) if not _has(splits, code)]
    if not empty:
        return
    lengths = [f"{name} {_seconds(recording):.2f} s" for name, recording in data.recordings.items()]
    shown = ", ".join(lengths[:5]) + (", ..." if len(lengths) > 5 else "")
    guard = (
        ""
        if protocol is None
        else (f" beside guards of {reach_seconds(protocol):g} s (protocol {protocol.name})")
    )
    raise WindowError(
        f"{data.path}: expected frames to train on and frames to test on{guard}, got none of {' and '.join(empty)}; "
        f"the recordings last: {shown}; what would fit: {_remedies(data, protocol, test)}"
    )


def _remedies(data: StoreReader, protocol: WindowProtocol | None, test: Fraction | float | None) -> str:
    """Options, tried out, that leave frames in both parts."""
    found = []
    if protocol is not None and test is not None:
        for text in _FITTING_SHARES:
            share = Fraction(text.removesuffix("%")) / 100
            if share < test and _fits(data, share, protocol):
                found.append(f"--test {text}")
                break
        for other in sorted(PROTOCOLS.values(), key=reach_seconds, reverse=True):
            if reach_seconds(other) < reach_seconds(protocol) and _fits(data, test, other):
                found.append(f"--protocol {other.name}")
                break
    elif protocol is not None:
        names = [p.name for p in PROTOCOLS.values() if reach_seconds(p) < reach_seconds(protocol)]
        found.append("a shorter stretch" + (f", or --protocol {' or '.join(names)}" if names else ""))
    filled = [name for name, recording in data.recordings.items() if recording.num_frames]
    if len(filled) > 1:
        found.append(f"--by-recording {filled[-1]}")
    return ", or ".join(found) or "a longer recording, or a second one"


def _fits(data: StoreReader, share: Fraction | float, protocol: WindowProtocol) -> bool:
    """Whether a recording is then divided into both parts."""
    splits = divide(data, last_share(data.recordings, share), protocol)
    return any((split == TRAIN).any() and (split == TEST).any() for split in splits.values())


def _has(splits: Mapping[str, NDArray[np.uint8]], code: int) -> bool:
    return any((split == code).any() for split in splits.values())


def _division(data: StoreReader, name: str, written: Sequence[str], protocol: str | None) -> Division:
    view = data.with_split(name)
    counts = {}
    for recording in view.recordings.values():
        own = {part: int((recording.split == code).sum()) for part, code in SPLITS.items()}
        bare = recording.class_label == UNLABELLED
        counts[recording.name] = own | {"unlabelled": int((bare & (recording.split != UNUSED)).sum())}
    return Division(
        name=name,
        default=data.split_name,
        written=tuple(written),
        fingerprint=view.fingerprint,
        protocol=protocol,
        counts=counts,
    )


def _seconds(recording: Recording) -> float:
    times = recording.frame_time
    return float(times[-1] - times[0]) / NS if len(times) else 0.0


def _unknown(option: str, name: str, recordings: Mapping[str, Recording]) -> WindowError:
    known = ", ".join(list(recordings)[:5]) + (", ..." if len(recordings) > 5 else "")
    return WindowError(f"{option}: expected one of the store's recordings {known}, got {name!r}")
