"""A video file as a stream of frames, each with its own time: decoded once, from front to end.

video = open_video_file(Path("run1.mp4"))
for time_ns, image in video.frames():  # ns since the first frame, (H,W,3) uint8 RGB upright
    ...
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, nominal_times
from fmfbench.errors import MissingDependencyError, SourceError
from fmfbench.files.wording import counted
from fmfbench.sources.kinds import identify
from fmfbench.sources.video.damage import DecoderLog, Ledger, decoder_log
from fmfbench.sources.video.picture import Picture, orientation
from fmfbench.sources.video.stamps import Stamps, exact_rate

__all__ = ["VIDEO_SUFFIXES", "MeasuredVideo", "RawVideo", "open_video_file"]

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".ts", ".mpg", ".mpeg", ".wmv", ".webm")
_LARGEST_SIDE = 16_384
_CHECKED = 8  # frames at the end of a block whose sums a resumed run compares
_BY_ORDER = {"avi"}  # containers without presentation stamps
_NO_DURATION = {"mpegts", "mpeg"}  # what FFmpeg tells there is an estimate from the last stamps
# Packets of these may hold pictures that are not shown, or half a picture: their count says nothing.
_PARTS = {"vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "msmpeg4v3"}


@dataclass(frozen=True)
class MeasuredVideo:
    """What is known of a video once all of it was decoded."""

    time: NDArray[np.int64]  # (N,) ns since the first frame
    remarks: tuple[str, ...]


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
        with _Pass(self) as run:
            picture = self._picture()
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
        done = [_Note.parse(note) for note in notes]
        with _resumed(self, done) as run:
            picture, images, stamps = self._picture(), [], []
            for index, stamp, frame in run.frames():
                images.append(picture(frame, index))
                stamps.append(stamp)
                if len(images) == size:
                    yield np.stack(images), _Note.of(stamps, images, run.ledger).to_bytes()
                    images, stamps = [], []
            run.finish()
            if images:
                yield np.stack(images), _Note.of(stamps, images, run.ledger).to_bytes()

    def measured(self, notes: list[bytes]) -> MeasuredVideo:
        """Times and remarks, from the notes of all blocks."""
        done = [_Note.parse(note) for note in notes]
        stamps = [stamp for note in done for stamp in note.stamps]
        if not stamps:
            raise SourceError(
                f"{self.path}: expected a video, got no frame that can be decoded; is it whole?"
            )
        with _Pass(self) as run:
            run.take_up(done)
            return run.measure(stamps)

    def scan(self) -> MeasuredVideo:
        """Times and remarks from the packets alone, without decoding: quick, and right for most files."""
        with _Pass(self) as run:
            stamps = run.packet_stamps()
            if not stamps:
                raise SourceError(f"{self.path}: expected a video, got no packet of one; is it whole?")
            return run.measure(stamps)

    def _picture(self) -> Picture:
        return Picture(str(self.path), self.frame_size, self.crop, self.size)


@dataclass(kw_only=True)
class _Note:
    """What a run leaves beside a block of frames."""

    stamps: list[int]
    sums: list[int]
    ledger: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stamps: list[int], images: list[NDArray[np.uint8]], ledger: Ledger) -> _Note:
        return cls(
            stamps=stamps, sums=[zlib.crc32(i.data) for i in images[-_CHECKED:]], ledger=ledger.to_json()
        )

    @classmethod
    def parse(cls, data: bytes) -> _Note:
        return cls(**json.loads(data))

    def to_bytes(self) -> bytes:
        return json.dumps(vars(self)).encode()


class _Pass:
    """One way through a file, from the front or from the frame after which another run ended."""

    def __init__(self, video: RawVideo) -> None:
        self.video = video
        self.ledger = Ledger()
        self._index = 0
        self._first: int | None = None
        self._after: int | None = None
        self._pending: set[int] = set()
        self._reached = 0  # the highest stamp seen in a packet
        self._last: int | None = None  # stamp of the last frame

    def __enter__(self) -> _Pass:
        self._container, self._stream = _open(self.video.path, self.video.stream)
        self._context = self._stream.codec_context
        self._context.thread_type = "AUTO"
        self._context.thread_count = self.video.threads
        name = self._container.format.name
        self._by_order = name in _BY_ORDER
        self._stamps = Stamps(
            str(self.video.path), self._stream.time_base, self.video.rate, by_order=self._by_order
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def take_up(self, notes: list[_Note]) -> None:
        """Resume after the last frame of `notes`."""
        if notes:
            self.ledger = Ledger(**notes[-1].ledger)
            self._index = sum(len(note.stamps) for note in notes)
            self._last = notes[-1].stamps[-1]
            self._first = notes[0].stamps[0]
            self._after = notes[-1].stamps[-1]
            self._stamps.by_rate = self.ledger.by_rate

    def seek(self) -> None:
        """To the keyframe before the frame after which to resume."""
        self._container.seek(self._after, stream=self._stream, backward=True, any_frame=False)

    def frames(self) -> Iterator[tuple[int, int, Any]]:
        """(index, stamp, frame) of every frame that comes after those taken up."""
        for stamp, frame in self._decode():
            if self._after is not None and stamp <= self._after:
                continue
            if self._first is None:
                self._first = stamp
            index, self._index = self._index, self._index + 1
            self._last = stamp
            yield index, stamp, frame

    def again(self) -> Iterator[tuple[int, Any]]:
        """(stamp, frame) of the frames up to the last that was taken up."""
        for stamp, frame in self._decode():
            assert self._after is not None
            yield stamp, frame
            if stamp >= self._after:
                return

    def _decode(self) -> Iterator[tuple[int, Any]]:
        if not hasattr(self, "_decoded"):
            self._decoded = self._decode_all()
        return self._decoded

    def _decode_all(self) -> Iterator[tuple[int, Any]]:
        ledger, count = self.ledger, 0
        with decoder_log() as log:
            try:
                for packet, frames in self._packets(log):
                    for frame in frames:
                        stamp = self._stamps.frame(frame, self._index)
                        self._pending.discard(stamp)
                        self._note_facts(frame)
                        count += 1
                        yield stamp, frame
                        del frame
                    self._note_news(log, packet, count > 0 or self._after is not None)
            finally:
                self._drain()
        if self._by_order or (self.video.codec not in _PARTS and not ledger.interlaced):
            known = set(ledger.lead) | {int(stamp) for stamp in ledger.failed}
            lost = {p for p in self._pending if p not in known and not self._is_old(p)}
            ledger.lost = sorted({*ledger.lost, *lost})
            self._refuse_damage()

    def _packets(self, log: DecoderLog) -> Iterator[tuple[Any, list[Any]]]:
        """Every packet with the frames that came out of the decoder with it; the last is the decoder's rest."""
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                self._note_failure(self._reached, f"the file cannot be read on: {_words(error)}")
                packet = None
            if packet is not None and not packet.size:
                packet = None
            if packet is None:
                break
            stamp = self._expect(packet)
            try:
                yield packet, packet.decode()
            except EndOfFile:
                break
            except FFmpegError as error:
                self._stamps.lost(packet)
                self._pending.discard(stamp)
                if self._index or self._first is not None:
                    self._note_failure(stamp, _words(error))
                else:
                    self.ledger.lead.append(stamp)
        try:
            rest = self._context.decode(None)
        except FFmpegError as error:
            self._note_failure(self._reached, _words(error))
            rest = []
        yield None, rest

    def _expect(self, packet: Any) -> int:
        """Note a packet that should give a frame; its stamp, or that of the one before it."""
        self._stamps.packet(packet)
        stamp = packet.dts if self._by_order or packet.pts is None else packet.pts
        if stamp is None:
            return self._reached
        if not packet.is_discard:
            self._pending.add(stamp)
        self._reached = max(self._reached, stamp)
        return int(stamp)

    def _note_facts(self, frame: Any) -> None:
        ledger = self.ledger
        ledger.interlaced |= frame.interlaced_frame
        ledger.by_rate = self._stamps.by_rate
        ledger.untagged |= frame.colorspace == 2 and frame.format.name.startswith("yuv4")
        if self._pending and not ledger.lead and self._first is None:
            start = min(self._pending)
            if not self._by_order and frame.pts is not None and start < frame.pts:
                ledger.lead = sorted(p for p in self._pending if p < frame.pts)
                self._pending.difference_update(ledger.lead)

    def _note_news(self, log: DecoderLog, packet: Any, begun: bool) -> None:
        for decoder, text in log.news():
            if decoder and not begun:
                continue  # before the first picture a decoder complains of those it has not seen
            stamp = self._reached
            if self._is_old(stamp):
                continue
            entries = self.ledger.concealed if decoder else self.ledger.odd
            entries.setdefault(str(stamp), text)
        self._refuse_damage()

    def _is_old(self, stamp: int) -> bool:
        """Whether the run that is resumed has been there: what was wrong there is in its ledger."""
        return self._after is not None and stamp <= self._after

    def _note_failure(self, stamp: int, words: str) -> None:
        if self._is_old(stamp):
            return
        self.ledger.failed.setdefault(str(stamp), words)
        self._refuse_damage()

    def _refuse_damage(self) -> None:
        ledger = self.ledger
        # What the demuxer says waits for the end, when it is known how much is missing.
        if (ledger.failed or ledger.concealed or ledger.lost) and not self.video.allow_damaged:
            raise self._damage(self.ledger.problems(self._since_first))

    def _damage(self, problems: list[str]) -> SourceError:
        return SourceError(
            f"{self.video.path}: expected a whole video, got a truncated or damaged one: {'; '.join(problems)}; "
            "copy it again, or keep what can be decoded with --allow-damaged"
        )

    def _drain(self) -> None:
        """Let the decoder's threads end: one that logs while the context is closed would wait for ever."""
        from av.error import FFmpegError

        with suppress(FFmpegError):
            self._context.decode(None)

    def _since_first(self, stamp: int) -> float:
        return self._stamps.seconds(stamp - (self._first or 0))

    def time(self, index: int, stamp: int) -> int:
        """ns since the first frame."""
        if self.video.fps is not None:
            return int(nominal_times(index + 1, self.video.fps)[-1])
        return self._stamps.nanoseconds(stamp - (self._first or 0))

    def packet_stamps(self) -> list[int]:
        """Stamps of the packets that should give a frame, in order of time."""
        from av.error import FFmpegError

        with decoder_log() as log:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        self._expect(packet)
                    for decoder, text in log.news():
                        if not decoder:
                            self.ledger.odd.setdefault(str(self._reached), text)
            except FFmpegError as error:
                self._note_failure(self._reached, f"the file cannot be read on: {_words(error)}")
        stamps = sorted(self._pending)
        self._first = stamps[0] if stamps else None
        return stamps

    def finish(self) -> None:
        """All was read.

        Raises:
            SourceError: no frame was in it, or it is damaged or ends before its header says, and `allow_damaged`
                is not set.
        """
        if self._last is None:
            raise SourceError(
                f"{self.video.path}: expected a video, got no frame that can be decoded; is it whole?"
            )
        if not self.video.allow_damaged and (problems := self._problems()):
            raise self._damage(problems)

    def _problems(self) -> list[str]:
        """Damage as text, what is missing at the end first."""
        short = self._missing_end()
        return [*([short] if short else []), *self.ledger.problems(self._since_first)]

    def measure(self, stamps: list[int]) -> MeasuredVideo:
        """Times and remarks of all frames, given their stamps.

        Raises:
            SourceError: as `finish`.
        """
        self._first, self._last, self._index = stamps[0], stamps[-1], len(stamps)
        self.finish()
        fps = self.video.fps
        time = (
            nominal_times(len(stamps), fps)
            if fps is not None
            else np.array([self._stamps.nanoseconds(s - stamps[0]) for s in stamps], np.int64)
        )
        remarks = [f"truncated or damaged: {problem}" for problem in self._problems()]
        return MeasuredVideo(time, (*remarks, *self._remarks(time)))

    def _remarks(self, time: NDArray[np.int64]) -> list[str]:
        video, ledger, out = self.video, self.ledger, []
        if video.fps is not None:
            out.append(f"times by --fps {video.fps}, not by the file's own stamps")
        elif ledger.by_rate:
            out.append(
                f"{counted(ledger.by_rate, 'frame')} without a time stamp, placed by the nominal "
                f"{float(video.rate):.6g} frames a second"
            )
        if ledger.lead:
            out.append(
                f"{counted(len(ledger.lead), 'packet')} before the first picture that can be decoded; "
                "times count from that picture"
            )
        steps = np.diff(time)
        wide = np.flatnonzero(steps > 3 * np.median(steps)) if len(steps) else np.empty(0, np.int64)
        if len(wide):
            out.append(
                f"{counted(len(wide), 'gap')} between frames (longest {steps[wide].max() / NS:.2f} s; "
                f"the first after frame {wide[0]}, at {time[wide[0]] / NS:.2f} s)"
            )
        if ledger.interlaced:
            out.append("interlaced: the two fields of a frame are kept as they are woven")
        if ledger.untagged:
            out.append("colours without a matrix in the file, taken as BT.601")
        return out

    def _missing_end(self) -> str | None:
        """What is missing between the last frame's end and the end that the header tells."""
        end = _told_end(self._container, self._stream)
        if end is None or self._last is None or self._first is None:
            return None
        step = float(1 / self.video.rate)
        if self._index > 1:  # of a slow or uneven video, the mean
            step = max(step, self._since_first(self._last) / (self._index - 1))
        start = self._first if self._stream.start_time is None else self._stream.start_time
        have = self._stamps.seconds(self._last - start) + step
        if end - have <= 1.5 * step + _slack(self._container):
            return None
        missing = counted(round((end - have) * float(self.video.rate)), "frame")
        return (
            f"it ends after {have:.2f} s of the {end:.2f} s that its header tells "
            f"({(end - have) / end:.0%} missing, about {missing})"
        )


@contextmanager
def _resumed(video: RawVideo, notes: list[_Note]) -> Iterator[_Pass]:
    """A pass that stands after the frames of `notes`: by the keyframe before them, or from the front.

    What lies before the place is decoded again and compared with what the earlier run noted: some files cannot be
    entered at a keyframe and give the same pixels.
    """
    if not notes:
        with _Pass(video) as run:
            yield run
        return
    run = _Pass(video)
    with run:
        run.take_up(notes)
        if _finds_its_place(run, video, notes):
            yield run
            return
    with _Pass(video) as run:
        run.take_up(notes)
        for _ in run.again():
            pass
        yield run


def _finds_its_place(run: _Pass, video: RawVideo, notes: list[_Note]) -> bool:
    from av.error import FFmpegError

    last = notes[-1]
    sums = dict(zip(last.stamps[-_CHECKED:], last.sums, strict=True))
    picture, found = video._picture(), None
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
        container, chosen = _open(path, stream)
        with container:
            if not allow_damaged:
                _refuse_cut(path, container, chosen)
            rate = chosen.guessed_rate or chosen.average_rate or chosen.base_rate
            frame = None
            try:
                frame = next(container.decode(chosen), None)
            except FFmpegError:
                # The first pictures may be damaged; whether any can be decoded shows when all are read.
                frame = _first_frame(container, chosen)
            if frame is None:
                raise SourceError(f"{path}: expected a video, got no frame that can be decoded; is it whole?")
            turned = orientation(frame, str(path)).transposed
            frame_size = (frame.height, frame.width) if turned else (frame.width, frame.height)
            codec = chosen.codec_context.name
            duration = _told_end(container, chosen) or _estimate(container)
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


def _first_frame(container: Any, stream: Any) -> Any:
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return None
            for frame in packet.decode():
                return frame
        except FFmpegError:
            continue


def _open(path: Path, wanted: int | None) -> tuple[Any, Any]:
    """The container and the video stream to read."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: expected PyAV to decode it, it cannot be imported ({error}); pip install 'fmfbench[raw]'"
        ) from error
    try:
        container = av.open(str(path), metadata_errors="replace")
    except FFmpegError as error:
        kind = identify(path)
        if kind.problem or kind.name not in ("video", "unknown"):
            raise SourceError(f"{path}: {kind.sentence('a video')}") from None
        raise SourceError(
            f"{path}: expected a video, got nothing that FFmpeg can open ({_words(error)}); is it whole?"
        ) from None
    try:
        # Pictures of a cover or a preview are streams too.
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise SourceError(f"{path}: expected a video, got a file without a video stream")
        if wanted is None and len(streams) > 1:
            shown = ", ".join(
                f"{i}: {s.codec_context.width}x{s.codec_context.height}" for i, s in enumerate(streams)
            )
            raise SourceError(
                f"{path}: expected one video stream, got {len(streams)} ({shown}); "
                "say which with --map video=0, or split the file"
            )
        if wanted is not None and not 0 <= wanted < len(streams):
            raise SourceError(f"{path}: expected one of its {len(streams)} video streams, got {wanted}")
        chosen = streams[wanted or 0]
        if chosen.codec_context is None:
            raise SourceError(
                f"{path}: expected a codec that this build of FFmpeg decodes, got one that it does not know; "
                "write it anew with `ffmpeg -i OLD -c:v libx264 -crf 10 NEW.mkv`"
            )
    except BaseException:
        container.close()
        raise
    return container, chosen


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


def _told_end(container: Any, stream: Any) -> float | None:
    """Seconds from the track's start to its end, as the file's header tells, or None."""
    names = set(container.format.name.split(","))
    if names & _NO_DURATION:
        return None
    if stream.duration:
        return float(stream.duration * stream.time_base)
    for key, value in stream.metadata.items():
        if key.upper().startswith("DURATION"):
            return _clock_seconds(value)
    if container.duration and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


def _estimate(container: Any) -> float | None:
    return float(container.duration / 1_000_000) if container.duration else None


def _clock_seconds(text: str) -> float | None:
    """`00:00:04.000000000` as seconds."""
    try:
        hours, minutes, seconds = text.strip("\0 ").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _slack(container: Any) -> float:
    """By how many seconds a sound file's header may differ from its last frame."""
    names = set(container.format.name.split(","))
    return 1.0 if names & {"asf", "flv"} else 0.002


def _refuse_cut(path: Path, container: Any, stream: Any) -> None:
    """A file whose index names places beyond its end is cut: said before hours of decoding."""
    entries = stream.index_entries
    if "mov" not in container.format.name or not len(entries):
        return
    last = entries[len(entries) - 1]
    size = path.stat().st_size
    if last.pos + last.size > size:
        gone = sum(e.pos + e.size > size for e in entries)
        raise SourceError(
            f"{path}: expected a whole video, got a truncated one: {gone} of its {len(entries)} frames lie beyond "
            f"its {size} bytes; copy it again, or keep what can be decoded with --allow-damaged"
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


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)[:100]
