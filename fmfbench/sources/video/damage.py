"""What a video lost: packets that gave no frame, concealed frames, an end that is not there.

FFmpeg's decoders go on over most damage and say so only in their log, so the log is read beside the frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fmfbench.files.wording import counted

__all__ = ["Ledger", "decoder_log"]

# What decoders say at level ERROR without any pixel being wrong.
_HARMLESS = re.compile(
    r"mmco: unref|deprecated pixel format|Late SEI|SEI type|timecode|co located POCs", re.I
)
# What demuxers say at level ERROR of what is not read here: other streams, tags, covers.
_ASIDE = re.compile(
    r"unsupported|not supported|not implemented|codec parameters|unknown (stream|codec|format|track)|subtitle|attach|"
    r"audio|chapter|metadata|\btags?\b|side data|language|cover",
    re.I,
)
# A transport stream numbers its pieces; where a number is missing FFmpeg says so at level DEBUG alone.
_PIECES = re.compile(r"Continuity check failed for pid (\d+)|TEI flag set|Packet corrupt|Invalid timestamps")
# a decoder's, at level WARNING
_SKIPPED = re.compile(r"Skipping NALU|skipping invalid|ignoring invalid", re.I)


@dataclass(kw_only=True)
class Ledger:
    """What decoding a video met with, as JSON between two runs of it.

    Every entry stands under a stamp (ticks of the stream), so that a stretch decoded twice, when a run resumes,
    counts once.
    """

    lead: list[int] = field(default_factory=list)  # packets before the first picture that can be decoded
    failed: dict[str, str] = field(default_factory=dict)  # packets the decoder refused, and its words
    concealed: dict[str, str] = field(default_factory=dict)  # where the decoder said that it guesses
    lost: list[int] = field(default_factory=list)  # packets that gave no frame, silently
    # packets in or before which a part of the stream is missing
    torn: list[int] = field(default_factory=list)
    unfound: int = 0  # packets that the file's index lists and that were not there
    backwards: list[int] = field(default_factory=list)  # frames that came out after later ones
    odd: dict[str, str] = field(default_factory=dict)  # what the demuxer said
    interlaced: bool = False
    turned: bool = False
    untagged: bool = False
    by_rate: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def damaged(self) -> bool:
        return bool(self.serious or self.odd)

    @property
    def clean(self) -> bool:
        """Whether nothing was met with that one pass would have to tell of, but colours without a matrix."""
        return self.to_json() == Ledger(untagged=self.untagged).to_json()

    @property
    def serious(self) -> bool:
        """Damage that needs no look at the rest of the file."""
        return bool(self.failed or self.concealed or self.lost or self.torn or self.unfound)

    def problems(self, seconds: Any) -> list[str]:
        """Damage as text; `seconds` turns a stamp into seconds since the first frame."""
        out = []
        for entries, what in (
            (self.failed, "that cannot be decoded"),
            (self.concealed, "with pixels that the decoder had to guess"),
        ):
            if entries:
                first = min(map(int, entries))
                out.append(
                    f"{counted(len(entries), 'packet')} {what}, the first at {seconds(first):.2f} s "
                    f"({entries[str(first)]})"
                )
        if self.lost:
            out.append(
                f"{counted(len(self.lost), 'packet')} that gave no frame, the first at {seconds(min(self.lost)):.2f} s"
            )
        if self.unfound:
            out.append(f"{counted(self.unfound, 'packet')} of those that its index lists could not be found")
        if self.torn:
            out.append(
                f"parts of the stream are missing in or before {counted(len(self.torn), 'packet')}, the first at "
                f"{seconds(min(self.torn)):.2f} s"
            )
        if self.backwards:
            out.append(
                f"{counted(len(self.backwards), 'frame')} left out whose time stamps lie before those of the frames "
                f"that the decoder gave first, the first at {seconds(self.backwards[0]):.2f} s"
            )
        if self.odd:
            first = min(map(int, self.odd))
            out.append(f"{self.odd[str(first)]} (near {seconds(first):.2f} s)")
        return out


@dataclass(frozen=True)
class Complaint:
    """One thing that FFmpeg said and that means damage: by its decoder, its demuxer, or of a piece that is missing."""

    of: Literal["decoder", "demuxer", "piece"]
    text: str


class DecoderLog:
    """The decoder's and demuxer's complaints, in the order in which they come.

    Attributes:
        piece_id: the number of the transport stream that is read; other streams' gaps are not its own.
    """

    def __init__(self, lines: list[tuple[int, str, str]]) -> None:
        self._lines = lines
        self.piece_id: int | None = None

    def quieter(self) -> None:
        """From now on level WARNING alone, which costs less."""
        import av.logging

        av.logging.set_level(av.logging.WARNING)

    def news(self) -> list[Complaint]:
        """What was said since the last call."""
        fresh = self._lines[:]
        del self._lines[: len(fresh)]
        out = []
        for level, name, message in fresh:
            text = " ".join(message.split())
            demuxer = "," in name or name in _DEMUXERS
            if demuxer and (found := _PIECES.search(text)):
                if found[1] is None or self.piece_id in (None, int(found[1])):
                    out.append(Complaint("piece", text[:100]))
            elif (
                text
                and (level <= _ERROR or (_SKIPPED.search(text) and not demuxer))
                and not _HARMLESS.search(text)
                and not (demuxer and _ASIDE.search(text))
            ):
                out.append(Complaint("demuxer" if demuxer else "decoder", text[:100]))
        return out


_ERROR = 16  # as FFmpeg numbers its levels
_DEMUXERS = {"avi", "asf", "mpeg", "mpegts", "flv", "mov", "matroska", "NULL", "file"}


@contextmanager
def decoder_log(*, pieces: bool = False) -> Iterator[DecoderLog]:
    """Catch what FFmpeg logs at level WARNING and above, from all its threads; nothing reaches stderr.

    Args:
        pieces: at level DEBUG too, where a transport stream's missing pieces are told.
    """
    import av.logging

    before = av.logging.get_level()
    with av.logging.Capture(local=False) as lines:
        av.logging.set_level(av.logging.DEBUG if pieces else av.logging.WARNING)
        repeated = av.logging.get_skip_repeated()
        av.logging.set_skip_repeated(False)
        try:
            yield DecoderLog(lines)
        finally:
            av.logging.set_skip_repeated(repeated)
            av.logging.set_level(before)
