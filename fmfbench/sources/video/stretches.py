"""A long video in stretches that several processes decode, joined to the frames of one pass from the front.

A stretch begins at a keyframe. That it gives the frames which one pass gives is checked, never assumed: every packet of
the file must have given its frame without a word of the decoder, and each stretch decodes a few frames beyond its end,
which must equal those that the next began with. A file that fails any of it is read in one pass, where damage has its
messages and its place.

stretches = plan_stretches(video, seconds=600)
for number, stretch in enumerate(stretches):  # anywhere, in any order
    decode_stretch(video, stretch, folder, number)
joined = join_stretches(video, stretches, folder)  # None: read it in one pass
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.files.atomic import write_text
from fmfbench.sources.video.container import open_container
from fmfbench.sources.video.damage import Ledger, decoder_log
from fmfbench.sources.video.decoding import PARTS, Pass, is_by_order
from fmfbench.sources.video.notes import CHECKED, Note
from fmfbench.sources.video.reader import RawVideo

__all__ = ["JoinedVideo", "Stretch", "decode_stretch", "join_stretches", "plan_stretches"]

# Frames wait on the disk as they are: what they take is bounded by leaving large ones to one pass.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Stretch:
    """A part of a video from a keyframe to the frame before another.

    stamps: of its frames in order, ticks of the stream. entry: of a keyframe early enough to read from, None for the
    front of the file. beyond: how many frames of the next stretch are decoded too.
    """

    stamps: tuple[int, ...]
    entry: int | None
    beyond: int


def plan_stretches(video: RawVideo, seconds: float) -> list[Stretch]:
    """Stretches of at least `seconds` from keyframe to keyframe, by the packets alone; empty where one pass is needed.

    It reads the file once and decodes nothing.
    """
    from av.error import FFmpegError

    width, height = video.size
    if width * height * 3 > _MOST_BYTES or video.codec in PARTS or video.allow_damaged:
        return []
    stamps: list[int] = []
    keys: list[int] = []
    try:
        with decoder_log():
            container, stream = open_container(video.path, video.stream, look_at_end=False)
            with container:
                if is_by_order(container):
                    return []
                ticks = seconds / float(stream.time_base)
                for packet in container.demux(stream):
                    if not packet.size:
                        continue
                    if packet.pts is None or packet.is_discard or packet.is_corrupt:
                        return []
                    stamps.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
    except (FFmpegError, SourceError):
        return []  # one pass says what is wrong
    stamps.sort()
    if not keys or len(set(stamps)) < len(stamps) or min(keys) != stamps[0]:
        return []
    keys.sort()
    starts: list[int] = [stamps[0]]
    entries: list[int | None] = [None]
    for number, key in enumerate(keys):
        if key - starts[-1] >= ticks and stamps[-1] - key >= ticks / 2:
            starts.append(key)
            # A transport stream is entered somewhat behind the place that is asked for.
            entries.append(keys[max(0, number - 2)])
    bounds = [*np.searchsorted(stamps, starts).tolist(), len(stamps)]
    return [
        Stretch(tuple(stamps[first:stop]), entry, min(CHECKED, len(stamps) - stop))
        for (first, stop), entry in zip(pairwise(bounds), entries, strict=True)
    ]


def decode_stretch(video: RawVideo, stretch: Stretch, folder: Path, number: int) -> None:
    """Decode a stretch into `folder`: its frames, then what they are. One that is there is kept."""
    frames, facts = _files(folder, number)
    if facts.exists():
        return
    try:
        with frames.open("wb") as file:
            found = _decode_into(video, stretch, file)
    except (SourceError, OSError):
        found = None  # one pass says what is wrong, and where
    write_text(facts, json.dumps(found))


def _decode_into(video: RawVideo, stretch: Stretch, file: IO[bytes]) -> dict[str, Any] | None:
    """Facts of a stretch that gave all its frames and nothing else; None of another."""
    picture, count = video.picture(), len(stretch.stamps)
    first: list[int] = []
    beyond: list[int] = []
    written = 0
    with Pass(video) as run:
        if stretch.entry is not None:
            run.enter(stretch.entry, stretch.stamps[0])
        for position, (_, stamp, frame) in enumerate(run.frames()):
            image = picture(frame, position)
            if position >= count:
                beyond.append(zlib.crc32(image.data))
                if len(beyond) == stretch.beyond:  # 0 of the last one: it ends with the file
                    break
                continue
            if stamp != stretch.stamps[position]:
                return None
            file.write(image.data)
            if len(first) < CHECKED:
                first.append(zlib.crc32(image.data))
            written = position + 1
        if written != count or len(beyond) != stretch.beyond or not run.ledger.clean:
            return None
        untagged = run.ledger.untagged
    return {"first": first, "beyond": beyond, "untagged": untagged}


def join_stretches(video: RawVideo, stretches: list[Stretch], folder: Path) -> JoinedVideo | None:
    """The video from its decoded stretches, or None where they are not surely the frames of one pass."""
    if not stretches:
        return None
    facts, size = [], video.size[0] * video.size[1] * 3
    for number, stretch in enumerate(stretches):
        frames, path = _files(folder, number)
        found = json.loads(path.read_text()) if path.exists() else None
        if found is None or not frames.exists() or frames.stat().st_size != len(stretch.stamps) * size:
            return None
        facts.append(found)
    for one, other in pairwise(facts):
        if one["beyond"] != other["first"][: len(one["beyond"])] or not one["beyond"]:
            return None
    return JoinedVideo(video, stretches, folder, untagged=any(own["untagged"] for own in facts))


@dataclass(frozen=True)
class JoinedVideo:
    """Decoded stretches as one video: what `RawVideo.timed_blocks` gives, and no decoding."""

    video: RawVideo
    stretches: list[Stretch]
    folder: Path
    untagged: bool

    def timed_blocks(self, size: int, notes: list[bytes]) -> Iterator[tuple[NDArray[np.uint8], bytes]]:
        """As `RawVideo.timed_blocks`."""
        ledger = Ledger(untagged=self.untagged)
        stamps = [stamp for stretch in self.stretches for stamp in stretch.stamps]
        start = len(notes) * size
        for first in range(start, len(stamps), size):
            images = self._frames(first, min(first + size, len(stamps)))
            yield images, Note.of(stamps[first : first + size], list(images), ledger).to_bytes()

    def _frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        bounds = np.cumsum([0, *(len(stretch.stamps) for stretch in self.stretches)]).tolist()
        shape, parts = self.video.size[::-1], []
        for number, (first, last) in enumerate(pairwise(bounds)):
            if first < stop and start < last:
                begin, count = max(start - first, 0), min(stop, last) - max(start, first)
                with _files(self.folder, number)[0].open("rb") as file:
                    file.seek(begin * shape[0] * shape[1] * 3)
                    data = np.fromfile(file, np.uint8, count * shape[0] * shape[1] * 3)
                parts.append(data.reshape(count, *shape, 3))
        return np.concatenate(parts)


def _files(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{number:05d}.rgb", folder / f"{number:05d}.json"
