"""A raw recording: a video as the camera wrote it, with a table of the three currents beside it.

Neither file knows of the other's clock. A table of seconds counts them from the first frame; a table of clock times
says when, and then the video begins with the table's first row. `--offset` shifts the video against the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, nominal_times
from fmfbench.errors import SourceError
from fmfbench.files.leavings import without_leavings
from fmfbench.sources.alignment import alignment_remarks, refuse_apart
from fmfbench.sources.source import Options, SourceRecording
from fmfbench.sources.table.currents import TABLE_SUFFIXES, StampedCurrent, read_raw_currents
from fmfbench.sources.video.reader import MeasuredVideo, RawVideo, open_video_file
from fmfbench.sources.video.stretches import JoinedVideo
from fmfbench.store.schema import SPLITS

__all__ = ["JoinedPair", "RawPair", "read_recording", "table_of"]

_NOMINAL_RATE = 25


def read_recording(path: Path, options: Options) -> tuple[SourceRecording, tuple[Path, ...]]:
    """Everything about a raw recording but its frames, and the files it is made of.

    Args:
        path: the video; the table of currents lies beside it under the same name.
        options: `crop` in the video's pixels, `size` to store, `fps` over the stamps that the video tells,
            `time_format` of the table's times, `offset` of the video against the table.

    Raises:
        SourceError: no table, a video that cannot be decoded, a crop outside it, times that can be read in several
            ways or run backwards, a table of another time.
        MissingDependencyError: PyAV is not installed.
    """
    table = table_of(path)
    video = open_video_file(
        path,
        crop=options.crop,
        size=options.size,
        fps=options.fps if options.steady or options.fps != _NOMINAL_RATE else None,
        stream=_stream(options),
        allow_damaged=options.allow_damaged,
        threads=options.workers,
    )
    current = read_raw_currents(table, options, video.duration)
    pair = RawPair(video, table, current, options)
    likely = nominal_times(video.likely_frames, video.fps or video.rate)
    recording = pair.placed(MeasuredVideo(likely, ()), trusted=video.duration is not None)
    return replace(recording, unmeasured=pair), (path, table)


def table_of(path: Path) -> Path:
    """The one table beside a video that has its name.

    Raises:
        SourceError: none, or several.
    """
    found = [
        p
        for p in sorted(without_leavings(path.parent.iterdir()))
        if p.stem == path.stem and p.suffix.lower() in TABLE_SUFFIXES and p.is_file()
    ]
    if not found:
        raise SourceError(f"{path}: expected its currents in {path.stem}.csv beside it, got no such file")
    if len(found) > 1:
        raise SourceError(
            f"{path}: expected one table of its name beside it, got {', '.join(p.name for p in found)}; "
            "move what is not its currents elsewhere"
        )
    return found[0]


def _stream(options: Options) -> int | None:
    number = options.names.get("video")
    if number is None:
        return None
    if not number.isdecimal():
        raise SourceError(
            f"expected the number of a video stream, as --map video=0, got --map video={number}"
        )
    return int(number)


@dataclass(frozen=True)
class RawPair:
    """A video and its currents; the video's frames are counted and timed as they are decoded."""

    video: RawVideo
    table: Path
    current: StampedCurrent
    options: Options

    def timed_blocks(self, size: int, notes: list[bytes]) -> Iterator[tuple[NDArray[np.uint8], bytes]]:
        return self.video.timed_blocks(size, notes)

    def measured(self, notes: list[bytes]) -> SourceRecording:
        return self.placed(self.video.measured(notes), trusted=True)

    def scanned(self) -> SourceRecording:
        return self.placed(self.video.scan(), trusted=True)

    def placed(self, measured: MeasuredVideo, *, trusted: bool) -> SourceRecording:
        """The recording, video and table on one clock.

        Raises:
            SourceError: they hardly overlap, and the video's length is `trusted`.
        """
        current = self.current
        remarks = [*measured.remarks, *current.remarks]
        start = round(self.options.offset * NS)
        if current.begins_video:
            start += int(current.time[0])
            where = f" {float(self.options.offset):+g} s" if self.options.offset else ""
            remarks.append(f"the video is taken to begin with the first current row{where}")
        elif self.options.offset:
            remarks.append(f"the video is shifted by {float(self.options.offset):+g} s against the table")
        frame_time = measured.time + start
        if trusted:
            refuse_apart(str(self.table), frame_time, current.time, clock=current.dated)
        rate = self.video.fps or self.video.rate
        if rate != _NOMINAL_RATE:
            remarks.append(f"{float(rate):.6g} frames a second (nominal {_NOMINAL_RATE})")
        nominal = float(self.options.current_hz or 2)
        remarks += alignment_remarks(frame_time, current.time, nominal)
        return SourceRecording(
            name=self.video.path.stem,
            num_frames=len(frame_time),
            height=self.video.size[1],
            width=self.video.size[0],
            frame_time=frame_time,
            current=current.current,
            current_time=current.time,
            time_origin="clock" if current.dated else "start",
            split=np.full(len(frame_time), SPLITS["unused"], np.uint8),
            video=self.video,
            remarks=tuple(remarks),
        )


@dataclass(frozen=True)
class JoinedPair:
    """A pair whose video was decoded in stretches."""

    pair: RawPair
    joined: JoinedVideo

    def timed_blocks(self, size: int, notes: list[bytes]) -> Iterator[tuple[NDArray[np.uint8], bytes]]:
        return self.joined.timed_blocks(size, notes)

    def measured(self, notes: list[bytes]) -> SourceRecording:
        return self.pair.measured(notes)

    def scanned(self) -> SourceRecording:
        return self.pair.scanned()
