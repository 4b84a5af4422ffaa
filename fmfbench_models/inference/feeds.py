"""Frames and current rows as they come: from files, in their own time; from a camera, in ours."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import InputError, MissingDependencyError
from fmfbench.sources.source import Options
from fmfbench.sources.table.currents import read_raw_currents
from fmfbench.sources.video.reader import open_video_file

__all__ = ["Camera", "Moment", "Row", "Rows", "camera_frames", "file_moments", "follow_file", "parse_row"]

Row = tuple[int, list[float]]
_SHORTEST_WAIT, _LONGEST_WAIT = 0.5, 5.0  # seconds between two tries to reach a camera


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A frame, its number and time in ns, and the current rows that came since the frame before."""

    frame: int
    time: int
    image: NDArray[np.uint8]
    rows: list[Row]


def file_moments(
    video: Path, table: Path | None, options: Options, *, whole_seconds: bool = False
) -> Iterator[Moment]:
    """The moments of a recording, timed as `convert` times it.

    Args:
        video: a video file.
        table: of its currents; None: there are none.
        options: as of `convert`.
        whole_seconds: give a frame every row of its own second, as the `official` protocol sees them.

    Raises:
        SourceError: files that `convert` would refuse.
    """
    opened = open_video_file(
        video,
        crop=options.crop,
        size=options.size,
        fps=options.fps if options.steady or options.fps != Fraction(25) else None,
        threads=options.workers,
    )
    start = round(options.offset * NS)
    times, currents = np.empty(0, np.int64), np.empty((0, 3), np.float32)
    if table is not None:
        stamped = read_raw_currents(table, options, opened.duration)
        times, currents = stamped.time, stamped.current
        if stamped.begins_video:
            start += int(times[0])
    done = 0
    for number, (since, image) in enumerate(opened.frames()):
        moment = start + since
        reach = (moment // NS + 1) * NS - 1 if whole_seconds else moment
        upto = int(np.searchsorted(times, reach, side="right"))
        rows = [(int(times[k]), currents[k].tolist()) for k in range(done, upto)]
        done = max(done, upto)
        yield Moment(frame=number, time=moment, image=image, rows=rows)


def camera_frames(
    address: str, options: Options, sized: Callable[[tuple[int, int]], object] = lambda size: None
) -> Iterator[NDArray[np.uint8]]:
    """Frames of a stream or of camera number N, (H,W,3) uint8 RGB, cropped and shrunk.

    Args:
        address: a URL, or a camera's number.
        options: their crop and size.
        sized: told the whole picture's width and height when the first frame comes.

    Raises:
        OSError: it is lost, or not there.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package av to read a camera, got none; pip install 'fmfbench[raw]'"
        ) from error
    from fmfbench.sources.video.picture import Picture

    place, form = _device(address)
    try:
        with av.open(place, format=form, timeout=10.0) as container:
            stream = container.streams.video[0]
            picture: Picture | None = None
            for number, frame in enumerate(container.decode(stream)):
                if picture is None:
                    size = frame.width, frame.height
                    sized(size)
                    crop = options.crop or (0, 0, *size)
                    picture = Picture(address, size, crop, options.size or (crop[2], crop[3]))
                yield picture(frame, number)
    except (FFmpegError, IndexError) as error:
        raise OSError(f"{address}: {error}") from error
    raise OSError(f"{address}: the stream ended")


def _device(address: str) -> tuple[str, str | None]:
    import sys

    if not address.isdecimal():
        return address, None
    if sys.platform.startswith("linux"):
        return f"/dev/video{address}", "v4l2"
    if sys.platform == "darwin":
        return address, "avfoundation"
    raise InputError(
        f"--video: expected a stream's URL (cameras by number are read on Linux and macOS only), got {address}"
    )


class Camera:
    """Reads frames in a thread of its own, stamps them when they arrive, and comes back when the camera does.

    Args:
        frames: begins to read; its iterator raises OSError where the camera is lost.
        say: told, in one line, what a person has to know.

    `dropped` counts the frames that nobody took in time, the oldest first: neither judged nor in any window.
    """

    def __init__(
        self, frames: Callable[[], Iterator[NDArray[np.uint8]]], say: Callable[[str], object]
    ) -> None:
        self._frames, self._say = frames, say
        self._ended = threading.Event()
        self.dropped = 0
        self.lost_at: float | None = None  # by time.monotonic; None: it is there, or was never reached
        self.arrived: queue.Queue[tuple[int, int, NDArray[np.uint8]]] = queue.Queue(maxsize=100)
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        number, wait = 0, _SHORTEST_WAIT
        while not self._ended.is_set():
            try:
                for image in self._frames():
                    if self.lost_at is not None:
                        self._say(f"the camera is back after {time.monotonic() - self.lost_at:.1f} s")
                        self.lost_at, wait = None, _SHORTEST_WAIT
                    self._put(number, image)
                    number += 1
                    if self._ended.is_set():
                        return
            except OSError as error:
                if self.lost_at is None:
                    self.lost_at = time.monotonic()
                    self._say(f"the camera is lost ({error}); trying again until it is back")
            except Exception as error:  # what no second try mends: handed to whoever waits for frames
                self.problem = error
                return
            self._ended.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _put(self, number: int, image: NDArray[np.uint8]) -> None:
        if self.arrived.full():  # whoever judges stands still: the oldest frame goes, and is counted
            try:
                self.arrived.get_nowait()
                self.dropped += 1
            except queue.Empty:
                pass
        self.arrived.put((number, time.time_ns(), image))


class Rows:
    """Current rows that arrive line by line, stamped when they do.

    Args:
        stream: lines that end in three numbers; others are said once and left out.
        say: told, in one line, what a person has to know.
        follow: go on waiting where the stream ends, as of a file that grows.
    """

    def __init__(self, stream: IO[str], say: Callable[[str], object], *, follow: bool) -> None:
        self._stream, self._say, self._follow = stream, say, follow
        self._ended = threading.Event()
        self._lines: queue.SimpleQueue[Row] = queue.SimpleQueue()
        self._told = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def take(self) -> list[Row]:
        """What has arrived since the last call, in order of time."""
        found = []
        while True:
            try:
                found.append(self._lines.get_nowait())
            except queue.Empty:
                return found

    def _run(self) -> None:
        last, rest = 0, ""
        while not self._ended.is_set():
            text = self._stream.readline()
            if not text:
                if not self._follow:
                    self._say("the stream of currents ended")
                    return
                self._ended.wait(0.05)
                continue
            rest += text
            if not rest.endswith("\n"):  # a line that is still being written
                continue
            line, rest = rest, ""
            row = parse_row(line)
            if row is None:
                if line.strip() and not self._told:
                    self._told = True
                    self._say(f"a line of currents without three numbers is left out: {line.strip()[:60]!r}")
                continue
            last = max(time.time_ns(), last + 1)
            self._lines.put((last, row))


def parse_row(line: str) -> list[float] | None:
    """The last three cells of a line as amperes, NaN for an empty one; None where they are no numbers.

    Example:
        >>> parse_row("2023-05-10 21:33:27,7800,8100.5,7950"), parse_row("time,a,b,c"), parse_row("7800;;7950")
        ([7800.0, 8100.5, 7950.0], None, [7800.0, nan, 7950.0])
    """
    text = line.strip()
    separator = next((mark for mark in (";", "\t", ",") if mark in text), None)
    cells = [cell.strip() for cell in text.split(separator)][-3:]
    if len(cells) < 3 or not any(cells):
        return None
    try:
        return [float(cell) if cell else float("nan") for cell in cells]
    except ValueError:
        return None


def follow_file(path: Path) -> Any:
    """A growing file, opened at its end."""
    stream = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115
    stream.seek(0, 2)
    return stream
