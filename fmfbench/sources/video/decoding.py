"""One way through a video file: its frames in order, each with its stamp, and all that went wrong."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from fmfbench.clock import nominal_times
from fmfbench.errors import SourceError
from fmfbench.sources.video.container import open_container, slack, told_end, words
from fmfbench.sources.video.damage import Complaint, Ledger, decoder_log
from fmfbench.sources.video.measured import MeasuredVideo, VideoFacts, missing_end, remarks
from fmfbench.sources.video.notes import Note
from fmfbench.sources.video.stamps import Stamps

__all__ = ["PARTS", "Pass", "is_by_order"]

_BY_ORDER = {"avi"}  # containers without presentation stamps
# Packets of these may hold pictures that are not shown, or half a picture: their count says nothing.
PARTS = {"vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "msmpeg4v3"}


class Pass:
    """One way through a file, from the front or from the frame after which another run ended."""

    def __init__(self, video: VideoFacts) -> None:
        self.video = video
        self.ledger = Ledger()
        self._index = 0
        self._first: int | None = None
        self._after: int | None = None
        self._pending: set[int] = set()
        self._reached = 0  # the highest stamp seen in a packet
        self._last: int | None = None  # stamp of the last frame
        self._key: int | None = None  # stamp of the first keyframe's packet
        self._starts_whole = False  # the first packet is a keyframe
        self._current = 0  # stamp of the packet that was read last
        self._entered: int | None = None  # byte of the first packet
        self._packets_read = 0
        self._decoded: Generator[tuple[int, Any]] | None = None

    def __enter__(self) -> Pass:
        self._kept_log = ExitStack()
        with ExitStack() as stack:
            # A transport stream is read ahead while it is opened, and what is missing there is told only then.
            self._log = stack.enter_context(decoder_log(pieces=True))
            self._container, self._stream = open_container(
                self.video.path, self.video.stream, look_at_end=False
            )
            stack.callback(self._container.close)
            if self._container.format.name == "mpegts":
                self._log.piece_id = self._stream.id
            else:
                self._log.quieter()
            self._at_opening = [c for c in self._log.news() if c.of != "decoder"]
            self._prepare()
            self._kept_log = stack.pop_all()
        return self

    def _prepare(self) -> None:
        self._context = self._stream.codec_context
        self._context.thread_type = "AUTO"
        self._context.thread_count = self.video.threads
        self._by_order = is_by_order(self._container)
        self._stamps = Stamps(
            str(self.video.path),
            self._stream.time_base,
            self.video.rate,
            by_order=self._by_order,
            steady=self.video.fps is not None,
            out_of_order=self.ledger.backwards if self.video.allow_damaged else None,
        )

    def __exit__(self, *_: object) -> None:
        if self._decoded is not None:
            self._decoded.close()
        self._kept_log.close()

    def take_up(self, notes: list[Note]) -> None:
        """Resume after the last frame of `notes`."""
        if notes:
            self.ledger = Ledger(**notes[-1].ledger)
            self._index = sum(len(note.stamps) for note in notes)
            self._last = notes[-1].stamps[-1]
            self._first = notes[0].stamps[0]
            self._after = notes[-1].stamps[-1]
            self._stamps.by_rate = self.ledger.by_rate
            if self.video.allow_damaged:
                self._stamps.out_of_order = self.ledger.backwards

    def seek(self) -> None:
        """To the keyframe before the frame after which to resume."""
        self._container.seek(self._after, stream=self._stream, backward=True, any_frame=False)

    def enter(self, entry: int, stamp: int) -> None:
        """Read from the keyframe of stamp `entry` on, and leave out the frames before `stamp`."""
        self._first, self._after = stamp, stamp - 1
        self._container.seek(entry, stream=self._stream, backward=True, any_frame=False)

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
        if self._decoded is None:
            self._decoded = self._decode_all()
        return self._decoded

    def _decode_all(self) -> Generator[tuple[int, Any]]:
        try:
            for frames in self._packets():
                for frame in frames:
                    stamp = self._stamps.frame(frame, self._index)
                    if stamp is None:
                        self._pending.discard(frame.pts)
                        continue
                    self._pending.discard(stamp)
                    self._note_facts(frame, stamp)
                    yield stamp, frame
                    del frame
                self._note_news()
        finally:
            self._drain()
        self._note_lost()

    def _packets(self) -> Iterator[list[Any]]:
        """The frames that came out of the decoder with each packet; the last are the decoder's rest."""
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                self._note_failure(self._reached, f"the file cannot be read on: {words(error)}")
                packet = None
            if packet is None or not packet.size:
                break
            stamp = self._expect(packet)
            try:
                yield packet.decode()
            except EndOfFile:
                break
            except FFmpegError as error:
                self._stamps.lost(packet)
                self._pending.discard(stamp)
                if self._begun:
                    self._note_failure(stamp, words(error))
                else:
                    self.ledger.lead.append(stamp)
        try:
            rest = self._context.decode(None)
        except FFmpegError as error:
            self._note_failure(self._reached, words(error))
            rest = []
        yield rest

    @property
    def _begun(self) -> bool:
        """Whether the decoder has all that it needs: without a keyframe it complains of what it has not seen.

        A stream that was entered amid a group of pictures shows its first picture late; those that come after a
        keyframe but are shown before it may need what lies before it.
        """
        if self._first is not None or self._after is not None:
            return True
        return self._key is not None and self._starts_whole and self._current >= self._key

    def _expect(self, packet: Any) -> int:
        """Note a packet that should give a frame; its stamp, or that of the one before it."""
        self._stamps.packet(packet)
        self._packets_read += 1
        if self._entered is None:
            self._entered = packet.pos
        stamp = packet.dts if self._by_order or packet.pts is None else packet.pts
        if stamp is None:
            return self._reached
        self._current = stamp
        if packet.is_keyframe and self._key is None:
            self._key, self._starts_whole = stamp, self._packets_read == 1
        if not packet.is_discard:
            self._pending.add(stamp)
        self._reached = max(self._reached, stamp)
        for complaint in self._at_opening:
            self._note_complaint(complaint, stamp)
        self._at_opening = []
        if packet.is_corrupt:
            self._note_complaint(Complaint("piece", ""), stamp)
        return int(stamp)

    def _note_facts(self, frame: Any, stamp: int) -> None:
        ledger = self.ledger
        ledger.interlaced |= frame.interlaced_frame
        ledger.by_rate = self._stamps.by_rate
        ledger.untagged |= frame.colorspace == 2 and frame.format.name.startswith("yuv4")
        if self._pending and not ledger.lead and self._first is None:
            start = min(self._pending)
            if not self._by_order and frame.pts is not None and start < frame.pts:
                # From the first keyframe on every packet should give its frame.
                whole = self._key if self._key is not None and self._starts_whole else frame.pts
                whole = min(whole, frame.pts)
                ledger.lead = sorted(p for p in self._pending if p < whole)
                self._pending.difference_update(ledger.lead)
        if frame.is_corrupt and self._begun:
            self._note_complaint(Complaint("decoder", "marked as damaged by the decoder"), stamp)

    def _note_news(self) -> None:
        for complaint in self._log.news():
            if complaint.of == "demuxer" or self._begun:
                self._note_complaint(complaint, self._reached)
        self._refuse_damage()

    def _note_complaint(self, complaint: Complaint, stamp: int) -> None:
        ledger = self.ledger
        if self._is_old(stamp):
            return
        if complaint.of == "piece":
            ledger.torn = sorted({*ledger.torn, stamp})
        else:
            entries = ledger.concealed if complaint.of == "decoder" else ledger.odd
            entries.setdefault(str(stamp), complaint.text)

    def _note_lost(self) -> None:
        """All was read: which packets gave no frame, and which are in the file's index and were not there."""
        ledger = self.ledger
        if self._by_order or (self.video.codec not in PARTS and not ledger.interlaced):
            known = set(ledger.lead) | {int(stamp) for stamp in ledger.failed}
            lost = {p for p in self._pending if p not in known and not self._is_old(p)}
            ledger.lost = sorted({*ledger.lost, *lost})
        ledger.unfound = max(ledger.unfound, self._indexed() - self._packets_read)
        self._refuse_damage()

    def _indexed(self) -> int:
        """Packets that the index of an AVI lists from the first that was read; its reader seeks the next by itself."""
        if not self._by_order or self._entered is None:
            return 0
        entries = self._stream.index_entries
        return sum(e.size > 0 and e.pos + 16 >= self._entered for e in entries)

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
        if ledger.serious and not self.video.allow_damaged:
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

        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    self._expect(packet)
                for complaint in self._log.news():
                    if complaint.of != "decoder":
                        self._note_complaint(complaint, self._reached)
        except FFmpegError as error:
            self._note_failure(self._reached, f"the file cannot be read on: {words(error)}")
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
        problems = self.ledger.problems(self._since_first)
        end = told_end(self._container, self._stream)
        if end is None or self._last is None or self._first is None:
            return problems
        start = self._first if self._stream.start_time is None else self._stream.start_time
        short = missing_end(
            end,
            self._stamps.seconds(self._last - start),
            self._since_first(self._last) / max(self._index - 1, 1),
            self.video.rate,
            slack(self._container),
        )
        return [*([short] if short else []), *problems]

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
        damage = [f"truncated or damaged: {problem}" for problem in self._problems()]
        return MeasuredVideo(time, (*damage, *remarks(self.video, self.ledger, time)))


def is_by_order(container: Any) -> bool:
    """Whether the container numbers its frames and tells no times."""
    return container.format.name in _BY_ORDER
