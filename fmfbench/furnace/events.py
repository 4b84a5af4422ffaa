"""When the melt turns semi-molten: onset, apex and offset of each event, in whole frames.

Only integers and uniform draws are used, so that events and labels are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fmfbench.errors import FailedError
from fmfbench.furnace.streams import Stream
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = [
    "TEST",
    "TEST_PREVALENCE",
    "TRAIN",
    "TRAIN_PREVALENCE",
    "UNUSED",
    "Event",
    "abnormal_frames",
    "plan_events",
]

TRAIN, TEST, UNUSED = 0, 1, 2

TRAIN_PREVALENCE = 0.516  # with the test split's, the paper's Table I: 140,062 of 269,921 frames are abnormal
TEST_PREVALENCE = 0.53

EVENT_SECONDS = (20.0, 150.0)  # chosen; short ones are commoner
NORMAL_SECONDS = (22.0, 130.0)  # chosen
ATTEMPTS = 1000  # at most a dozen or two are needed, by the shortest recording of all presets


@dataclass(frozen=True)
class Event:
    """One anomaly. Frames are inclusive, as in the annotation: onset <= apex <= offset."""

    onset: int
    apex: int
    offset: int

    @property
    def frames(self) -> int:
        return self.offset - self.onset + 1


def plan_events(stream: Stream, split: npt.NDArray[np.uint8], pace: float) -> tuple[Event, ...]:
    """Alternate normal and abnormal stretches over a recording whose frames are split as `split` (T,) says.

    `pace` scales all lengths (1 for the real time scale; the small presets live faster). The ends of events are
    then moved by some frames each until train and test hold the wanted share of abnormal frames, rounded down to a
    whole frame. Stretches of which no event can be moved so far are drawn anew.

    Raises:
        FailedError: no draw of ATTEMPTS could be balanced: the split's parts are too short for events of this pace.
    """
    for _ in range(ATTEMPTS):
        bounds = _draw_bounds(stream, len(split), pace)
        if all(
            _balance(bounds, split == value, wanted, _shortest(pace))
            for value, wanted in ((TRAIN, TRAIN_PREVALENCE), (TEST, TEST_PREVALENCE))
        ):
            break
    else:
        raise FailedError(
            f"events: expected a recording that can be balanced, got {len(split)} frames at pace {pace:g} that "
            f"{ATTEMPTS} draws could not balance; make its parts longer"
        )
    events = tuple(Event(first, first, last) for first, last in bounds)
    return tuple(replace(e, apex=e.onset + (e.frames * (30 + stream.integer(0, 31))) // 100) for e in events)


def _draw_bounds(stream: Stream, frames: int, pace: float) -> list[list[int]]:
    """First and last frame of each event before the shares are balanced."""
    bounds: list[list[int]] = []
    at = _length(stream, NORMAL_SECONDS, pace) // 2
    while at < frames:
        length = _length(stream, EVENT_SECONDS, pace)
        bounds.append([at, min(at + length, frames) - 1])
        at += length + _length(stream, NORMAL_SECONDS, pace)
    if bounds and bounds[-1][1] - bounds[-1][0] < _shortest(pace):
        bounds.pop()
    return bounds


def abnormal_frames(events: tuple[Event, ...], frames: int) -> npt.NDArray[np.bool_]:
    """(T,) which frames lie inside an event."""
    inside = np.zeros(frames, dtype=np.bool_)
    for event in events:
        inside[event.onset : event.offset + 1] = True
    return inside


def _length(stream: Stream, seconds: tuple[float, float], pace: float) -> int:
    share = stream.uniform()
    low, high = seconds
    return max(2, int((low + (high - low) * share * share) * pace * FRAMES_PER_SECOND))


def _shortest(pace: float) -> int:
    """Frames that an event or a normal stretch keeps when its ends are moved."""
    return max(8, int(10 * pace * FRAMES_PER_SECOND))


def _balance(bounds: list[list[int]], region: npt.NDArray[np.bool_], wanted: float, shortest: int) -> bool:
    """Move the ends of events that lie in `region`, one frame at a time in turn, until its share is `wanted`.

    Returns whether it is: events that cannot be moved any further end the attempt.
    """
    frames = len(region)
    need = int(wanted * int(region.sum())) - sum(int(region[a : b + 1].sum()) for a, b in bounds)
    moved = True
    while need and moved:
        moved = False
        for k in range(len(bounds)):
            for end in (1, 0):
                if need and _move(bounds, k, end, 1 if need > 0 else -1, region, shortest, frames):
                    need -= 1 if need > 0 else -1
                    moved = True
    return need == 0


def _move(
    bounds: list[list[int]],
    k: int,
    end: int,
    grow: int,
    region: npt.NDArray[np.bool_],
    shortest: int,
    frames: int,
) -> bool:
    """Move one end of event k outwards (grow 1) or inwards (-1) if that changes one frame of the region."""
    outward = 1 if end else -1
    old = bounds[k][end]
    new = old + outward * grow
    changed = new if grow > 0 else old
    if not 0 <= changed < frames or not region[changed]:
        return False
    if grow < 0 and bounds[k][1] - bounds[k][0] < shortest:
        return False
    if grow > 0:
        neighbour = k + outward
        if 0 <= neighbour < len(bounds) and abs(bounds[neighbour][1 - end] - new) <= shortest:
            return False
    bounds[k][end] = new
    return True
