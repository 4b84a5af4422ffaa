"""Does the test split stay unseen? Windows that reach across split borders, gaps, and near-duplicate frames.

The positions of every window are worked out here from frame times, row times and splits alone, not taken from
the window reader, so that an error there cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import WindowError
from fmfbench.files.markdown import table
from fmfbench.windows.protocol import get_protocol

__all__ = ["Audit", "Reach", "audit", "border_twins", "window_reach"]

NAMES = {0: "train", 1: "test"}
_BORDER_FRAMES = 50
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How the windows of one split of one recording reach into the other split.

    `video`, `current` (n,) count each window's foreign positions, `frames` (n,) are the windows' frames,
    `seconds` is how far into the past the furthest foreign position lies, 0.0 if there is none.
    """

    frames: NDArray[np.int64]
    video: NDArray[np.int64]
    current: NDArray[np.int64]
    video_positions: int
    current_positions: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What `audit` found; `rows` one for each recording and split, `twins` the near-duplicates at borders."""

    protocol: str
    split: str
    rows: tuple[dict[str, Any], ...]
    twins: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """What `fmfbench audit --json` prints."""
        own = {"protocol": self.protocol, "split": self.split}
        return {**own, "splits": list(self.rows), "near_duplicates": list(self.twins)}

    def to_markdown(self) -> str:
        """Tables for people."""
        head = ("recording", "split", "windows", "reach by video", "by current", "by either",
                "furthest (s)", "smallest gap (s)", "masked hides", "strict leaves out")  # fmt: skip
        rows = [
            (
                row["recording"],
                row["split"],
                str(row["windows"]),
                str(row["video"]["windows"]),
                str(row["current"]["windows"]),
                str(row["either"]),
                f"{row['furthest_s']:.2f}",
                "-" if row["smallest_gap_s"] is None else f"{row['smallest_gap_s']:.2f}",
                f"{row['video']['positions']} frames, {row['current']['positions']} currents",
                str(len(row["strict_left_out"])),
            )
            for row in self.rows
        ]
        lines = [
            f"Windows of protocol {self.protocol} that reach into the other split"
            + ("" if self.split == "source" else f", as {self.split} divides the recordings"),
            "",
            *table(head, rows),
        ]
        lines += ["", f"Near-duplicate frames across split borders: {sum(t['pairs'] for t in self.twins)}"]
        twin_rows = [
            (t["recording"], str(t["border_frame"]), str(t["pairs"]), f"{t['closest']:.2f}",
             f"{t['neighbours']:.2f}", ", ".join(f"{a}~{b}" for a, b in t["ids"]))
            for t in self.twins
        ]  # fmt: skip
        if twin_rows:
            twin_head = (
                "recording",
                "border at frame",
                "pairs",
                "closest",
                "neighbours differ by",
                "sample ids",
            )
            lines += table(twin_head, twin_rows)
        return "\n".join(lines)


def audit(
    data: Any, protocol: str | Any = "paper", *, frames: bool = True, split: str | None = None
) -> Audit:
    """Look for ways in which the test split is not unseen.

    Args:
        data: an open data set.
        protocol: of the windows, by name or itself.
        frames: False does not read the video, and looks for no near-duplicates.
        split: a stored split by its name (`derived`); by default the store's default. A part of it (`derived:test`)
            looks only at the windows of that part.

    Raises:
        WindowError: no such protocol, or one that the recordings cannot serve.
    """
    protocol = get_protocol(protocol)
    parts = tuple(NAMES.values())
    if split is not None and split in data.split_names:
        data = data.with_split(split)
    elif split is not None:
        data, part = data.divided(split)
        if part not in parts:
            raise WindowError(f"audit: expected a split, or its train or test, got {split!r}")
        parts = (part,)
    rows: list[dict[str, Any]] = []
    twins: list[dict[str, Any]] = []
    for name, recording in data.recordings.items():
        present = [own for own, part in NAMES.items() if part in parts and np.any(recording.split == own)]
        rows += [_row(name, recording, own, window_reach(recording, own, protocol)) for own in present]
        if frames:
            twins += [{"recording": name, **twin} for twin in border_twins(recording)]
    return Audit(protocol=protocol.name, split=data.split_name, rows=tuple(rows), twins=tuple(twins))


def window_reach(recording: Any, own: int, protocol: Any) -> Reach:
    """Count foreign positions of each window of split `own` (0 train, 1 test), position by position."""
    everyone = np.flatnonzero(recording.split == own)
    times = recording.frame_time
    row_split = _split_of_rows(recording)
    all_video, all_current = np.zeros(len(everyone), np.int64), np.zeros(len(everyone), np.int64)
    # The others span no frame and no row of the other split, wherever their positions lie.
    near = np.flatnonzero(_spans_foreign(recording, everyone, 1 - own, row_split, protocol))
    frames = everyone[near]
    video, current = np.zeros(len(frames), np.int64), np.zeros(len(frames), np.int64)
    oldest = np.full(len(frames), _NEVER)
    for position in _video_positions(frames, protocol):
        there = position >= 0
        foreign = there & (recording.split[np.maximum(position, 0)] == 1 - own)
        video += foreign
        oldest[foreign] = np.minimum(oldest, times[np.maximum(position, 0)])[foreign]
    for position in _current_positions(recording, frames, protocol):
        there = position >= 0
        foreign = there & (row_split[np.maximum(position, 0)] == 1 - own) if len(row_split) else there
        current += foreign
        if foreign.any():
            oldest[foreign] = np.minimum(oldest, recording.current_time[np.maximum(position, 0)])[foreign]
    all_video[near], all_current[near] = video, current
    reached = oldest != _NEVER
    return Reach(
        frames=everyone,
        video=all_video,
        current=all_current,
        video_positions=protocol.num_frames * len(everyone),
        current_positions=protocol.num_current * len(everyone),
        seconds=float((times[frames[reached]] - oldest[reached]).max()) / NS if reached.any() else 0.0,
    )


def border_twins(recording: Any) -> Iterator[dict[str, Any]]:
    """Pairs of a train and a test frame at a split border that differ less than two neighbours do.

    At each border up to 50 frames of either side are compared with one another by their mean absolute
    difference in grey levels; the yardstick is the median of that between frames 40 ms apart on those sides.
    """
    for left, right in _borders(recording.split):
        before = recording.read_video(max(left - _BORDER_FRAMES + 1, 0), left + 1)
        after = recording.read_video(right, min(right + _BORDER_FRAMES, recording.num_frames))
        own = recording.split[left], recording.split[right]
        before = before[_last_run(recording.split[left - len(before) + 1 : left + 1] == own[0]) :]
        stop = np.flatnonzero(recording.split[right : right + len(after)] != own[1])
        after = after[: stop[0] if len(stop) else len(after)]
        steps = [_difference(side[1:], side[:-1]) for side in (before, after) if len(side) > 1]
        neighbours = float(np.median(np.concatenate(steps))) if steps else 0.0
        apart = np.stack([_difference(before, frame[None]) for frame in after], axis=1)
        pairs = np.argwhere(apart <= neighbours)
        if len(pairs):
            closest = pairs[np.argsort(apart[tuple(pairs.T)], kind="stable")][:5]
            first = recording.first_id
            yield {
                "border_frame": right,
                "pairs": len(pairs),
                "closest": float(apart.min()),
                "neighbours": neighbours,
                "ids": [
                    (first + left - len(before) + 1 + int(i), first + right + int(j)) for i, j in closest
                ],
            }


def _row(name: str, recording: Any, own: int, reach: Reach) -> dict[str, Any]:
    either = (reach.video > 0) | (reach.current > 0)
    return {
        "recording": name,
        "split": NAMES[own],
        "windows": len(reach.frames),
        "video": {
            "windows": int((reach.video > 0).sum()),
            "positions": int(reach.video.sum()),
            "of": reach.video_positions,
        },
        "current": {
            "windows": int((reach.current > 0).sum()),
            "positions": int(reach.current.sum()),
            "of": reach.current_positions,
        },
        "either": int(either.sum()),
        "furthest_s": reach.seconds,
        "smallest_gap_s": _smallest_gap(recording),
        "strict_left_out": (recording.first_id + reach.frames[either]).tolist(),
    }


def _spans_foreign(
    recording: Any,
    frames: NDArray[np.int64],
    other: int,
    row_split: NDArray[np.int64],
    protocol: Any,
) -> NDArray[np.bool_]:
    """(n,) windows with a frame or a row of the split `other` anywhere between their oldest position and themselves."""
    first = np.maximum(frames - (protocol.num_frames - 1) * protocol.stride, 0)
    before = np.append(0, np.cumsum(recording.split == other))
    found: NDArray[np.bool_] = before[frames + 1] > before[first]
    if len(row_split):
        rows = recording.current_time
        moments = recording.frame_time[frames]
        reach = round(max(protocol.current_seconds, 1.0) * NS)
        if protocol.alignment == "official":  # counted in seconds that have rows, however far back these lie
            distinct = np.unique(rows // NS)
            last = np.searchsorted(distinct, moments // NS, side="right")
            begin = distinct[np.maximum(last - protocol.num_current // 2, 0)]
            oldest = np.searchsorted(rows // NS, begin, side="left")
            newest = np.searchsorted(rows // NS, moments // NS, side="right")
        else:
            oldest = np.maximum(np.searchsorted(rows, moments - reach, side="right") - 1, 0)
            newest = np.searchsorted(rows, moments, side="right")
        before = np.append(0, np.cumsum(row_split == other))
        found = found | (before[newest] > before[np.minimum(oldest, newest)])
    return found


def _video_positions(frames: NDArray[np.int64], protocol: Any) -> Iterator[NDArray[np.int64]]:
    """Each position's frame for every window, negative where there is none."""
    for back in range(protocol.num_frames):
        position = frames - back * protocol.stride
        yield np.maximum(position, 0) if protocol.alignment == "official" else position


def _current_positions(
    recording: Any, frames: NDArray[np.int64], protocol: Any
) -> Iterator[NDArray[np.int64]]:
    """Each position's row of current for every window, negative where there is none."""
    moments, rows = recording.frame_time[frames], recording.current_time
    if protocol.alignment != "official":
        for back in range(protocol.num_current):
            lag = round(back * NS / protocol.current_hz)
            yield np.searchsorted(rows, moments - lag, side="right") - 1
        return
    # the released loader: the rows of the last stamped seconds, the sample's own included, stretched
    seconds = rows // NS
    distinct = np.unique(seconds)
    last = np.searchsorted(distinct, moments // NS, side="right")
    begin = np.maximum(last - protocol.num_current // 2, 0)
    bounds = np.append(np.searchsorted(seconds, distinct), len(rows))
    start, count = bounds[begin], bounds[last] - bounds[begin]
    for place in range(protocol.num_current):
        held = start + place * np.maximum(count - 1, 0) // max(protocol.num_current - 1, 1)
        yield np.where(count > 0, held, -1)


def _split_of_rows(recording: Any) -> NDArray[np.int64]:
    """A row of current belongs to the split of the last frame at or before it; -1 before the first frame."""
    frame = np.searchsorted(recording.frame_time, recording.current_time, side="right") - 1
    if not len(recording.split):
        return np.full(len(frame), -1)
    return np.where(frame >= 0, recording.split[np.maximum(frame, 0)].astype(np.int64), -1)


def _smallest_gap(recording: Any) -> float | None:
    """Seconds between the nearest train and test frames, None without one of the splits."""
    gaps = [
        recording.frame_time[right] - recording.frame_time[left] for left, right in _borders(recording.split)
    ]
    return float(min(gaps)) / NS if gaps else None


def _borders(split: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """(last frame before, first frame after) wherever train gives way to test or test to train."""
    (used,) = np.nonzero(split <= 1)
    (change,) = np.nonzero(np.diff(split[used].astype(int)))
    return [(int(used[place]), int(used[place + 1])) for place in change]


def _last_run(same: NDArray[np.bool_]) -> int:
    """Where the run of True that ends the array begins."""
    broken = np.flatnonzero(~same)
    return int(broken[-1]) + 1 if len(broken) else 0


def _difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference in grey levels, frame by frame."""
    return np.abs(first.astype(np.int16) - second).mean(axis=(1, 2, 3))
