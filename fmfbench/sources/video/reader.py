"""A video file as a stream of frames, each with its own time: decoded once, from front to end.

video = open_video_file(Path("run1.mp4"))
for time_ns, image in video.frames():  # ns since the first frame, (H,W,3) uint8 RGB upright
    ...
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.sources.video.container import first_frame, likely_seconds, open_container, refuse_cut, told_end
from fmfbench.sources.video.damage import decoder_log
from fmfbench.sources.video.decoding import Pass
from fmfbench.sources.video.measured import MeasuredVideo
from fmfbench.sources.video.notes import CHECKED, Note
from fmfbench.sources.video.picture import Picture, orientation
from fmfbench.sources.video.stamps import exact_rate

__all__ = ["VIDEO_SUFFIXES", "MeasuredVideo", "RawVideo", "open_video_file"]

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".ts", ".mpg", ".mpeg", ".wmv", ".webm")
_LARGEST_SIDE = 16_384


@dataclass(frozen=True, kw_only=True)
class RawVideo:
    """A video file: its facts by its header and first frame, and its frames.

    Attributes:
        path: the file.
        stream: its number among the file's video streams, from 0.
        codec: the decoder's name.
        frame_size: width, height of its frames, upright.
        crop: x, y, width, height to keep, in upright pixels.
        size: width, height to give out.
        rate: frames a second as the file tells, the nominal rate.
        fps: a steady rate that stands in the place of the file's stamps, or None.
        duration: seconds by the header, or None where it tells none.
        allow_damaged: keep what decodes of a damaged file.
        threads: of the decoder.
    """

    path: Path
    stream: int
    codec: str
    frame_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    rate: Fraction
    fps: Fraction | None = None
    duration: float | None = None
    allow_damaged: bool = False
    threads: int = 1

    @property
    def likely_frames(self) -> int:
        """About how many frames there are, for a progress bar and estimates."""
        return max(1, round((self.duration or 0) * self.rate))

    def frames(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(time, image) of every frame in order: ns since the first, (H,W,3) uint8 RGB upright.

        Raises:
            SourceError: the file is truncated or damaged (unless `allow_damaged`), its stamps do not advance, or
                its frames change size.
        """
        with Pass(self) as run:
            picture = self.picture()
            for index, stamp, frame in run.frames():
                yield run.time(index, stamp), picture(frame, index)
            run.finish()

    def blocks(self, size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from `start` on, (n,H,W,3) uint8, `size` at a time and the rest at the end."""
        held: list[NDArray[np.uint8]] = []
        for index, (_, image) in enumerate(self.frames()):
            if index >= start:
                held.append(image)
            if len(held) == size:
                yield np.stack(held)
                held = []
        if held:
            yield np.stack(held)

    def timed_blocks(self, size: int, notes: list[bytes]) -> Iterator[tuple[NDArray[np.uint8], bytes]]:
        """Blocks of frames, each with a note of all that a later run needs to resume after it.

        Args:
            size: frames a block; the last may have fewer.
            notes: of the blocks that need not be read again, in order.
        """
        done = [Note.parse(note) for note in notes]
        with _resumed(self, done) as run:
            picture, images, stamps = self.picture(), [], []
            for index, stamp, frame in run.frames():
                images.append(picture(frame, index))
                stamps.append(stamp)
                if len(images) == size:
                    yield np.stack(images), Note.of(stamps, images, run.ledger).to_bytes()
                    images, stamps = [], []
            run.finish()
            if images:
                yield np.stack(images), Note.of(stamps, images, run.ledger).to_bytes()

    def measured(self, notes: list[bytes]) -> MeasuredVideo:
        """Times and remarks, from the notes of all blocks."""
        done = [Note.parse(note) for note in notes]
        stamps = [stamp for note in done for stamp in note.stamps]
        if not stamps:
            raise SourceError(
                f"{self.path}: expected a video, got no frame that can be decoded; is it whole?"
            )
        with Pass(self) as run:
            run.take_up(done)
            return run.measure(stamps)

    def scan(self) -> MeasuredVideo:
        """Times and remarks from the packets alone, without decoding: quick, and right for most files."""
        with Pass(self) as run:
            stamps = run.packet_stamps()
            if not stamps:
                raise SourceError(f"{self.path}: expected a video, got no packet of one; is it whole?")
            return run.measure(stamps)

    def picture(self) -> Picture:
        """What turns its decoded frames into pictures."""
        return Picture(str(self.path), self.frame_size, self.crop, self.size)


@contextmanager
def _resumed(video: RawVideo, notes: list[Note]) -> Iterator[Pass]:
    """A pass that stands after the frames of `notes`: by the keyframe before them, or from the front.

    What lies before the place is decoded again and compared with what the earlier run noted: some files cannot be
    entered at a keyframe and give the same pixels.
    """
    if not notes:
        with Pass(video) as run:
            yield run
        return
    run = Pass(video)
    with run:
        run.take_up(notes)
        if _finds_its_place(run, video, notes):
            yield run
            return
    with Pass(video) as run:
        run.take_up(notes)
        for _ in run.again():
            pass
        yield run


def _finds_its_place(run: Pass, video: RawVideo, notes: list[Note]) -> bool:
    from av.error import FFmpegError

    last = notes[-1]
    sums = dict(zip(last.stamps[-CHECKED:], last.sums, strict=True))
    picture, found = video.picture(), None
    try:
        run.seek()
        for stamp, frame in run.again():
            if stamp in sums:
                if zlib.crc32(picture(frame, 0).data) != sums[stamp]:
                    return False
                found = stamp
    except (FFmpegError, SourceError, OSError):
        return False
    return found == last.stamps[-1]


def open_video_file(
    path: Path,
    *,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    fps: Fraction | None = None,
    stream: int | None = None,
    allow_damaged: bool = False,
    threads: int = 1,
) -> RawVideo:
    """Facts of a video file, by its header and its first frame.

    Args:
        path: the file.
        crop: x, y, width, height to keep, in upright pixels; all of it by default.
        size: width, height to give out; the crop's by default.
        fps: a steady rate that shall stand in the place of the file's stamps.
        stream: which of several video streams, counted from 0.
        allow_damaged: keep what decodes of a damaged file.
        threads: of the decoder.

    Raises:
        SourceError: no video, more than one, a codec that this FFmpeg lacks, a crop outside, cut short.
        MissingDependencyError: PyAV is not installed.
    """
    from av.error import FFmpegError

    with decoder_log():
        container, chosen = open_container(path, stream)
        with container:
            if not allow_damaged:
                refuse_cut(path, container, chosen)
            rate = chosen.guessed_rate or chosen.average_rate or chosen.base_rate
            frame = None
            try:
                frame = next(container.decode(chosen), None)
            except FFmpegError:
                # The first pictures may be damaged; whether any can be decoded shows when all are read.
                frame = first_frame(container, chosen)
            if frame is None:
                raise SourceError(f"{path}: expected a video, got no frame that can be decoded; is it whole?")
            turned = orientation(frame, str(path)).transposed
            frame_size = (frame.height, frame.width) if turned else (frame.width, frame.height)
            codec = chosen.codec_context.name
            duration = told_end(container, chosen) or likely_seconds(container)
            chosen.codec_context.flush_buffers()
    crop = _checked_crop(path, crop or (0, 0, *frame_size), frame_size)
    size = size or crop[2:]
    if not (0 < size[0] <= _LARGEST_SIDE and 0 < size[1] <= _LARGEST_SIDE):
        raise SourceError(
            f"{path}: expected --size of 1 to {_LARGEST_SIDE} pixels a side, got {size[0]}x{size[1]}"
        )
    return RawVideo(
        path=path,
        stream=stream or 0,
        codec=codec,
        frame_size=frame_size,
        crop=crop,
        size=size,
        rate=exact_rate(Fraction(rate)) if rate and 0 < rate < 10_000 else Fraction(25),
        fps=fps,
        duration=duration,
        allow_damaged=allow_damaged,
        threads=threads,
    )


def _checked_crop(
    path: Path, crop: tuple[int, int, int, int], frame_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    x, y, w, h = crop
    width, height = frame_size
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise SourceError(
            f"{path}: expected --crop X,Y,W,H within the video's {width}x{height}, got {x},{y},{w},{h}"
        )
    return crop
