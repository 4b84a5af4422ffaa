"""What a video lost: packets that gave no frame, concealed frames, an end that is not there.

FFmpeg's decoders go on over most damage and say so only in their log, so the log is read beside the frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from fmfbench.files.wording import counted

__all__ = ["Ledger", "decoder_log"]

# What decoders say at level ERROR without any pixel being wrong.
_HARMLESS = re.compile(
    r"mmco: unref|deprecated pixel format|Late SEI|SEI type|timecode|co located POCs", re.I
)
# What a demuxer says when the file is not whole; its other complaints are about streams that are not read.
_DEMUXER = re.compile(r"prematurely|truncat|corrupt|partial file|exceeds|beyond|end of file", re.I)


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
    odd: dict[str, str] = field(default_factory=dict)  # what the demuxer said
    interlaced: bool = False
    turned: bool = False
    untagged: bool = False
    by_rate: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def damaged(self) -> bool:
        return bool(self.failed or self.concealed or self.lost or self.odd)

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
        if self.odd:
            first = min(map(int, self.odd))
            out.append(f"{self.odd[str(first)]} (near {seconds(first):.2f} s)")
        return out


class DecoderLog:
    """The decoder's and demuxer's complaints, in the order in which they come."""

    def __init__(self, lines: list[tuple[int, str, str]]) -> None:
        self._lines = lines
        self._seen = 0

    def news(self) -> list[tuple[bool, str]]:
        """(whether it is the decoder's, the text) of what was said since the last call and means damage."""
        fresh, self._seen = self._lines[self._seen :], len(self._lines)
        out = []
        for _, name, message in fresh:
            text = " ".join(message.split())
            demuxer = "," in name or name in _DEMUXERS
            if not text or _HARMLESS.search(text) or (demuxer and not _DEMUXER.search(text)):
                continue
            out.append((not demuxer, text[:100]))
        return out


_DEMUXERS = {"avi", "asf", "mpeg", "mpegts", "flv", "mov", "matroska", "NULL", "file"}


@contextmanager
def decoder_log() -> Iterator[DecoderLog]:
    """Catch what FFmpeg logs at level ERROR, from all its threads; nothing reaches stderr."""
    import av.logging

    before = av.logging.get_level()
    with av.logging.Capture(local=False) as lines:
        av.logging.set_level(av.logging.ERROR)
        repeated = av.logging.get_skip_repeated()
        av.logging.set_skip_repeated(False)
        try:
            yield DecoderLog(lines)
        finally:
            av.logging.set_skip_repeated(repeated)
            av.logging.set_level(before)
