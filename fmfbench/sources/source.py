"""What every source layout is read into: recordings whose facts are in memory and whose frames are streamed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.store.schema import check_name

__all__ = ["FrameStream", "Options", "Source", "SourceRecording", "Unmeasured", "binary_blocks"]

_PIECE_VALUES = 1 << 18


class FrameStream(Protocol):
    """Frames of one variable, in order."""

    def blocks(self, size: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """Frames from `start` on, `size` at a time and the rest at the end; the first axis is the frame."""
        ...


class Unmeasured(Protocol):
    """A recording whose frames are counted and timed as they are decoded, in the one pass that reads them."""

    def timed_blocks(self, size: int, notes: list[bytes]) -> Iterator[tuple[NDArray[Any], bytes]]:
        """Frames after the blocks that `notes` tell of, `size` at a time, each block with a note of its own."""
        ...

    def measured(self, notes: list[bytes]) -> SourceRecording:
        """The recording as it is, from the notes of all its blocks."""
        ...

    def scanned(self) -> SourceRecording:
        """The recording as its packets tell it, without decoding: for a summary."""
        ...


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user says about a source, over what it says itself. Recorded in the store."""

    layout: str | None = None
    names: dict[str, str] = field(default_factory=dict)  # ours -> the file's
    time_format: str | None = None
    fps: Fraction = Fraction(25)
    steady: bool = False  # `fps` was given: it stands in the place of a raw video's time stamps
    crop: tuple[int, int, int, int] | None = None  # x, y, width, height in source pixels
    size: tuple[int, int] | None = None  # width, height to store
    workers: int = 1
    only: tuple[str, ...] = ()  # names of the recordings to convert; all of them where empty
    allow_damaged: bool = False  # keep what decodes of a damaged video
    offset: Fraction = Fraction(0)  # s, added to the times of a raw video against its table
    current_hz: Fraction | None = None  # rows a second of a table
    decimal: str | None = None  # "." or ",", where a table's numbers can be read both ways

    def name(self, ours: str) -> str:
        return self.names.get(ours, ours)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON."""
        out: dict[str, Any] = {}
        if self.names:
            out["map"] = dict(sorted(self.names.items()))
        if self.time_format is not None:
            out["time_format"] = self.time_format
        if self.fps != 25 or self.steady:
            out["fps"] = str(self.fps)
        if self.crop is not None:
            out["crop"] = list(self.crop)
        if self.size is not None:
            out["size"] = list(self.size)
        if self.only:
            out["only"] = sorted(self.only)
        if self.allow_damaged:
            out["allow_damaged"] = True
        if self.offset:
            out["offset"] = str(self.offset)
        if self.current_hz is not None:
            out["current_hz"] = str(self.current_hz)
        if self.decimal is not None:
            out["decimal"] = self.decimal
        return out


@dataclass(frozen=True, kw_only=True)
class SourceRecording:
    """One furnace run as it lies in its source.

    `pixel_labels` streams (n,H,W) in any numeric type; `frame_labels` (N,) 0/1 stands where a source has
    only one label a frame; both None means unlabelled. Where `unmeasured` is there, number and times of frames
    are what the file's header tells until it has been read.
    """

    name: str
    num_frames: int
    height: int
    width: int
    frame_time: NDArray[np.int64]
    current: NDArray[np.float32]  # (M,3) A, NaN where not finite
    current_time: NDArray[np.int64]
    time_origin: str  # "clock" or "start"
    split: NDArray[np.uint8]
    video: FrameStream
    pixel_labels: FrameStream | None = None
    frame_labels: NDArray[np.uint8] | None = None
    remarks: tuple[str, ...] = ()
    chunks: tuple[int, ...] | None = None  # as the source stores its video, for the summary
    unmeasured: Unmeasured | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "source")
        lengths = {len(self.frame_time), len(self.split), self.num_frames}
        if len(lengths) != 1 or len(self.current) != len(self.current_time):
            raise SourceError(
                f"{self.name}: {self.num_frames} frames, {len(self.frame_time)} frame times, "
                f"{len(self.split)} split values, {len(self.current)} current rows and "
                f"{len(self.current_time)} current times do not agree"
            )


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything that one conversion reads. Recordings are in order of name."""

    path: Path
    layout: str
    recordings: tuple[SourceRecording, ...]
    files: tuple[Path, ...]


def binary_blocks(blocks: Iterator[NDArray[Any]], where: str) -> Iterator[NDArray[np.uint8]]:
    """Labels as 0/1. Accepts 0/1 or 0/255 in any type, one of the two through the whole stream."""
    top: int | None = None
    frame = 0
    for block in blocks:
        out = block if block.dtype == np.uint8 else np.empty(block.shape, np.uint8)
        # A few frames at a time: what compares them stays in the cache.
        step = max(1, _PIECE_VALUES // max(1, math.prod(block.shape[1:])))
        for first in range(0, len(block), step):
            values = block[first : first + step]
            if block.dtype == np.uint8 and top != 255 and values.max(initial=0) <= 1:
                top = 1 if values.any() else top
                continue
            top = _check_binary(values, top, where, frame + first)
            out[first : first + step] = values != 0
        frame += len(block)
        yield out


def _check_binary(values: NDArray[Any], top: int | None, where: str, frame: int) -> int | None:
    """The value that stands for abnormal, None while there is none."""
    ones, tops = values == 1, values == 255
    strange = ~(ones | tops | (values == 0))
    if strange.any():
        at = int(np.argwhere(strange)[0][0])
        raise SourceError(
            f"{where}: expected labels 0/1 or 0/255, got {values[strange].flat[0]!s} in frame {frame + at}; "
            "map it to 0 or 1 in the source"
        )
    seen = {value for value, found in ((1, ones), (255, tops)) if found.any()} | ({top} if top else set())
    if len(seen) > 1:
        raise SourceError(
            f"{where}: expected labels 0/1 or 0/255, got both 1 and 255 by frame {frame + len(values) - 1}; "
            "use one value for abnormal"
        )
    return next(iter(seen), None)
