"""A raw recording: NAME.avi, .mp4 or .mkv as the camera wrote it, with NAME.csv of the three currents.

Frames are decoded one by one, cropped to the furnace, and shrunk by area interpolation on the way in, so that
memory does not grow with the video's length. Neither file knows of the other's clock: the table's times are
seconds since the first frame, or times of day, and then the video begins with the table's first row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import nominal_times, seconds_to_ns
from fmfbench.errors import MissingDependencyError, SourceError
from fmfbench.sources.matrecording import clean_current
from fmfbench.sources.source import Options, SourceRecording
from fmfbench.sources.table import StampedCurrent, is_number, read_current_table, read_rows
from fmfbench.store.schema import SPLITS

__all__ = ["RawVideo", "read_recording"]

_NOMINAL_RATE = Fraction(25)
_LARGEST_SIDE = 16_384


@dataclass(frozen=True)
class RawVideo:
    """A video file as a stream of frames: cropped, shrunk, RGB, upright."""

    path: Path
    num_frames: int
    crop: tuple[int, int, int, int]  # x, y, width, height in the file's pixels
    size: tuple[int, int]  # width, height to give out

    def blocks(self, size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from `start` on, (n,H,W,3) uint8, `size` at a time and the rest at the end.

        Raises:
            SourceError: the file holds fewer or more frames than it says.
        """
        import cv2

        capture = _open(self.path)
        try:
            # Frames depend on those before them, so an exact position is reached by passing over them.
            for frame in range(start):
                if not capture.grab():
                    raise self._ended(frame)
            for first in range(start, self.num_frames, size):
                count = min(size, self.num_frames - first)
                block = np.empty((count, self.size[1], self.size[0], 3), np.uint8)
                for i in range(count):
                    ok, image = capture.read()
                    if not ok:
                        raise self._ended(first + i)
                    cv2.cvtColor(self._fit(image, first + i), cv2.COLOR_BGR2RGB, dst=block[i])
                yield block
            if capture.grab():
                raise SourceError(
                    f"{self.path}: expected the {self.num_frames} frames that its header tells of, got more; "
                    "write it anew, as `ffmpeg -i OLD -c copy NEW.mkv` does"
                )
        finally:
            capture.release()

    def _fit(self, image: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
        import cv2

        x, y, width, height = self.crop
        part = image[y : y + height, x : x + width]
        if part.shape != (height, width, 3):
            raise SourceError(
                f"{self.path}: expected all frames of one size, got {image.shape[1]}x{image.shape[0]} in frame {frame}"
            )
        if self.size == (width, height):
            return part
        return np.asarray(cv2.resize(part, self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def _ended(self, frame: int) -> SourceError:
        return SourceError(
            f"{self.path}: expected {self.num_frames} frames, the video ended after {frame}; it is truncated or damaged"
        )


def read_recording(path: Path, options: Options) -> tuple[SourceRecording, tuple[Path, ...]]:
    """Everything about a raw recording but its frames, and the files it is made of.

    Args:
        path: the video; the table of currents lies beside it under the same name.
        options: `crop` in the video's pixels, `size` to store, `fps` over the rate that the video tells,
            `time_format` of the table's times.

    Raises:
        SourceError: no table, a video that cannot be decoded, a crop outside it, or times that run backwards.
        MissingDependencyError: OpenCV is not installed.
    """
    table = path.with_suffix(".csv")
    if not table.is_file():
        raise SourceError(f"{path}: expected its currents in {table.name} beside it, got no such file")
    video, rate = _probe(path, options)
    current = _read_currents(table, options.time_format)
    frame_time = nominal_times(video.num_frames, rate)
    remarks = list(current.remarks)
    if current.dated and len(current.time):
        frame_time = frame_time + current.time[0]
        remarks.append("the video is taken to begin with the first current row")
    if rate != _NOMINAL_RATE:
        remarks.append(f"{float(rate):.6g} frames a second (nominal {_NOMINAL_RATE})")
    recording = SourceRecording(
        name=path.stem,
        num_frames=video.num_frames,
        height=video.size[1],
        width=video.size[0],
        frame_time=frame_time,
        current=current.current,
        current_time=current.time,
        time_origin="clock" if current.dated else "start",
        split=np.full(video.num_frames, SPLITS["unused"], np.uint8),
        video=video,
        remarks=tuple(remarks),
    )
    return recording, (path, table)


def _probe(path: Path, options: Options) -> tuple[RawVideo, Fraction]:
    import cv2

    capture = _open(path)
    try:
        ok, image = capture.read()
        if not ok:
            raise SourceError(f"{path}: expected a video, got no frame that can be decoded; is it whole?")
        told = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate = capture.get(cv2.CAP_PROP_FPS)
        # Matroska tells only a duration; there, and where nothing is told, frames are counted.
        num_frames = int(told)
        if path.suffix.lower() == ".mkv" or not 0 < told < 2**40:
            num_frames = 1
            while capture.grab():
                num_frames += 1
    finally:
        capture.release()
    height, width = image.shape[:2]
    crop = _checked_crop(path, options.crop or (0, 0, width, height), width, height)
    size = options.size or (crop[2], crop[3])
    if not (0 < size[0] <= _LARGEST_SIDE and 0 < size[1] <= _LARGEST_SIDE):
        raise SourceError(
            f"{path}: expected --size of 1 to {_LARGEST_SIDE} pixels a side, got {size[0]}x{size[1]}"
        )
    # The default is not told apart from the same rate given: what the video says goes over it.
    told_rate = _told_rate(rate) if options.fps == _NOMINAL_RATE and 0 < rate < 10_000 else options.fps
    return RawVideo(path, num_frames, crop, size), told_rate


def _told_rate(rate_hz: float) -> Fraction:
    """The rate a container tells; 29.97 and the like are 30000/1001, which a container may round."""
    broadcast = Fraction(round(rate_hz * 1.001) * 1000, 1001)
    if abs(float(broadcast) / rate_hz - 1) < 1e-5:
        return broadcast
    return Fraction(rate_hz).limit_denominator(1000)


def _checked_crop(
    path: Path, crop: tuple[int, int, int, int], width: int, height: int
) -> tuple[int, int, int, int]:
    x, y, w, h = crop
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise SourceError(
            f"{path}: expected --crop X,Y,W,H within the video's {width}x{height}, got {x},{y},{w},{h}"
        )
    return crop


def _open(path: Path) -> Any:
    """The video, opened by OpenCV without its chatter on stderr."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: expected OpenCV to decode it, it cannot be imported ({error}); pip install opencv-python-headless"
        ) from error
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(path))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise SourceError(f"{path}: expected a video, got nothing that OpenCV can decode; is it whole?")
    return capture


def _read_currents(path: Path, time_format: str | None) -> StampedCurrent:
    """Rows of a time and three phases, the time being seconds since the first frame or a time string."""
    rows = read_rows(path, columns=4, wanted="seconds or a time, and three phases")
    if not rows:
        raise SourceError(f"{path}: expected rows of a time and three phases, got only a header")
    first = rows[0][0]
    if time_format is not None or not is_number(first) or (len(first) == 14 and first.isdigit()):
        return read_current_table(path, time_format)
    times = np.empty(len(rows), np.int64)
    values = np.empty((len(rows), 3))
    for i, (time, *phases) in enumerate(rows):
        if not is_number(time) or not abs(float(time)) < 1e9:
            raise SourceError(
                f"{path}: expected seconds since the first frame in row {i + 2}, got {time[:40]!r}"
            )
        times[i] = seconds_to_ns(Fraction(time))
        for phase, text in enumerate(phases):
            if text and not is_number(text):
                raise SourceError(f"{path}: expected a current in A in row {i + 2}, got {text[:40]!r}")
            values[i, phase] = float(text or "nan")
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        row = int(back[0]) + 1
        raise SourceError(
            f"{path}: expected seconds that increase, got {rows[row][0]} after {rows[row - 1][0]} in row {row + 2}"
        )
    current, bad = clean_current(values)
    remarks = (f"{bad} current rows with NaN or Inf, kept as NaN",) if bad else ()
    return StampedCurrent(current, times, False, remarks)
