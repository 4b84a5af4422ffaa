"""What is to be simulated: the presets, and the plan of one recording (times, splits, events)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fmfbench.errors import InputError
from fmfbench.furnace import NAME
from fmfbench.furnace.events import TEST, TRAIN, UNUSED, Event, abnormal_frames, plan_events
from fmfbench.furnace.streams import Stream, open_stream
from fmfbench.furnace.timing import Timing, make_timing

__all__ = ["PRESETS", "Plan", "Preset", "RecordingSize", "make_plan", "parse_preset"]


@dataclass(frozen=True, kw_only=True)
class RecordingSize:
    """How long a recording is and where its test block lies; a guard block parts train from test."""

    frames: int
    seconds: int  # distinct seconds among the frames' time strings
    test: int
    guard: int
    test_at: Literal["middle", "end"]
    start: str  # of the video's first second; fictional
    missing: int = 1  # seconds without a frame
    lead_seconds: int = 4  # the current starts so long before the video

    @property
    def train(self) -> int:
        return self.frames - self.test - self.guard


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One size of the simulated data set."""

    name: str
    height: int
    width: int
    pace: float  # time scale of events and normal stretches; 1 is the real one
    recordings: tuple[RecordingSize, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of a recording that is known before a pixel is drawn."""

    name: str
    seed: int
    height: int
    width: int
    pace: float
    start: str
    timing: Timing
    split: npt.NDArray[np.uint8]  # (T,) 0 train, 1 test, 2 unused
    events: tuple[Event, ...]
    anomaly_free: bool  # a twin: the same furnace, mist and light, without hot place or signature
    signature: str = (
        "mixed"  # which way the current goes in an event: drawn for each, or always "calm" or "rough"
    )

    @property
    def frames(self) -> int:
        return len(self.split)

    @property
    def class_label(self) -> npt.NDArray[np.uint8]:
        """(T,) 1 in every frame of an event; all 0 in an anomaly-free twin."""
        if self.anomaly_free:
            return np.zeros(self.frames, dtype=np.uint8)
        return abnormal_frames(self.events, self.frames).astype(np.uint8)

    def stream(self, part: str, block: int = 0) -> Stream:
        return open_stream(self.seed, self.name, part, block)


PRESETS = {
    "tiny": Preset(
        name="tiny",
        height=24,
        width=32,
        pace=0.04,
        recordings=(
            RecordingSize(
                frames=500, seconds=21, test=160, guard=16, test_at="middle", start="2023-05-10 21:33:26"
            ),
            RecordingSize(
                frames=330, seconds=14, test=110, guard=11, test_at="end", start="2023-05-11 23:59:52"
            ),
            RecordingSize(
                frames=30, seconds=2, test=10, guard=1, test_at="end", start="2023-05-12 02:10:00", missing=0
            ),
        ),
    ),
    "small": Preset(
        name="small",
        height=48,
        width=64,
        pace=0.25,
        recordings=(
            RecordingSize(
                frames=4000, seconds=162, test=1300, guard=130, test_at="end", start="2023-05-10 21:33:26"
            ),
            RecordingSize(
                frames=6500, seconds=261, test=2000, guard=200, test_at="middle", start="2023-05-11 23:58:10"
            ),
        ),
    ),
    # Frames, seconds, test and guard counts are those of the real pixel-level data.
    "full": Preset(
        name="full",
        height=64,
        width=64,
        pace=1.0,
        recordings=(
            RecordingSize(
                frames=31826, seconds=1298, test=10000, guard=1000, test_at="end", start="2023-05-10 21:33:26"
            ),
            RecordingSize(
                frames=89937,
                seconds=3598,
                test=15000,
                guard=1500,
                test_at="middle",
                start="2023-05-11 23:20:05",
                missing=2,
            ),
            RecordingSize(
                frames=148158,
                seconds=5993,
                test=25000,
                guard=2500,
                test_at="middle",
                start="2023-05-14 08:02:41",
                missing=3,
            ),
        ),
    ),
}


def parse_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}; choose one of these")
    return PRESETS[name]


def make_plan(
    preset: Preset, index: int, seed: int, *, anomaly_free: bool = False, signature: str = "mixed"
) -> Plan:
    """The plan of the preset's recording number `index` (from 0)."""
    size = preset.recordings[index]
    name = f"{NAME}-{index + 1}"
    split = _split(size)
    return Plan(
        name=name,
        seed=seed,
        height=preset.height,
        width=preset.width,
        pace=preset.pace,
        start=size.start,
        timing=make_timing(
            open_stream(seed, name, "timing"),
            size.frames,
            size.seconds,
            missing=size.missing,
            lead_seconds=size.lead_seconds,
        ),
        split=split,
        events=plan_events(open_stream(seed, name, "events"), split, preset.pace),
        anomaly_free=anomaly_free,
        signature=signature,
    )


def _split(size: RecordingSize) -> npt.NDArray[np.uint8]:
    """(T,) one contiguous test block; the guard stands before it, or half on each side."""
    split = np.full(size.frames, TRAIN, dtype=np.uint8)
    if size.test_at == "end":
        first = size.frames - size.test
        split[first - size.guard : first] = UNUSED
    else:
        first = (size.frames - size.test) * 3 // 5
        before = size.guard // 2
        split[first - before : first] = UNUSED
        split[first + size.test : first + size.test + size.guard - before] = UNUSED
    split[first : first + size.test] = TEST
    return split
