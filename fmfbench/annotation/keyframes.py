"""What a person draws: tracks of onset, apex, offset and boxes on a few frames, as `keyframes.json`.

    {"schema": 1, "size": [W, H], "recordings": {NAME: {"tracks": [
        {"id": 0, "onset": 2, "apex": 6, "offset": 7,
         "keyframes": [{"frame": 2, "box": [x0, y0, x1, y1]}, ...]}, ...]}}}

Frames count from 0; onset and offset are the first and the last abnormal frame, both included; the apex may
be absent (or null). Boxes are in pixels of `size`, the size that was drawn on, with corners as continuous
coordinates: [0, 0, W, H] is the whole frame; what reaches out of it by up to one pixel is clipped. `"keyframes": []` is
an event without a box: its frames are abnormal, and nothing says where. A recording's events either all have boxes or
none has. One `id` may have several events, as several entries; they must not overlap in time. Besides those inside its
event a track may have keyframes before or after it, which only steer the interpolation.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from fmfbench.annotation.foreign import foreign_json, foreign_text
from fmfbench.annotation.json_values import as_list, as_number, as_object, as_whole, unique_keys
from fmfbench.errors import AnnotationError
from fmfbench.files.atomic import write_text

__all__ = [
    "Box",
    "DrawnFrames",
    "Keyframe",
    "Keyframes",
    "Track",
    "check_against",
    "clip_box",
    "parse_keyframes",
    "read_keyframes",
    "write_keyframes",
]

SCHEMA = 1
_LARGEST_FILE = 2**28
_CLIPPED = 1.0  # pixels of the size that was drawn on

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """A box (x0, y0, x1, y1) that a person drew on one frame."""

    frame: int
    box: Box


@dataclass(frozen=True, kw_only=True)
class Track:
    """One event of one anomaly: abnormal from frame `onset` to frame `offset`, both included.

    Without keyframes nothing says where it is: only its frames are labelled.
    """

    id: int | str
    onset: int
    apex: int | None = None
    offset: int
    keyframes: tuple[Keyframe, ...]

    def __post_init__(self) -> None:
        where = f"track {self.id}"
        frames = [k.frame for k in self.keyframes]
        for earlier, later in pairwise(frames):
            if later <= earlier:
                raise AnnotationError(
                    f"{where}: expected keyframes in order of frame, each frame once, got {later} after {earlier}; "
                    "sort them"
                )
        if not 0 <= self.onset <= self.offset:
            raise AnnotationError(
                f"{where}: expected 0 <= onset <= offset, got onset {self.onset} and offset {self.offset}"
            )
        if frames and not any(self.onset <= frame <= self.offset for frame in frames):
            raise AnnotationError(
                f"{where}: expected a keyframe within the event {self.onset}..{self.offset}, got frames "
                f"{frames[:5]} only"
            )
        if self.apex is not None and not self.onset <= self.apex <= self.offset:
            raise AnnotationError(
                f"{where}: expected the apex between onset {self.onset} and offset {self.offset}, got {self.apex}"
            )


@dataclass(frozen=True, kw_only=True)
class Keyframes:
    """The tracks of some recordings, in pixels of `size` (width, height)."""

    size: tuple[int, int]
    recordings: Mapping[str, tuple[Track, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tracks in self.recordings.items():
            for track in tracks:
                for keyframe in track.keyframes:
                    _check_box(keyframe.box, self.size, f"{name}, track {track.id}, frame {keyframe.frame}")
            _check_overlaps(name, tracks)
            _check_kinds(name, tracks)

    def to_dict(self) -> dict[str, Any]:
        """The content of `keyframes.json`."""
        return {
            "schema": SCHEMA,
            "size": list(self.size),
            "recordings": {
                name: {"tracks": [_track_to_dict(track) for track in tracks]}
                for name, tracks in self.recordings.items()
            },
        }


class DrawnFrames(dict[str, range]):
    """Recording name -> the frames of the video that was drawn on.

    Attributes:
        jobs: names of those of which a job shows a part, whatever the length of the video.
    """

    def __init__(self, frames: Mapping[str, range], jobs: Iterable[str] = ()) -> None:
        super().__init__(frames)
        self.jobs = frozenset(jobs)

    def uncovered(self, frame_counts: Mapping[str, int]) -> list[str]:
        """A remark for each recording of which a part was not drawn on, and is normal for want of a box."""
        remarks = []
        for name, frames in self.items():
            count = frame_counts.get(name, 0)
            last = frames[-1] + frames.step - 1 if len(frames) else -1
            if len(frames) and (frames.start > 0 or last < count - 1):
                remarks.append(
                    f"{name}: drawn on frames {frames.start} to {frames[-1]} of {count} only; the others are labelled "
                    "normal"
                )
        return remarks


def read_keyframes(path: str | os.PathLike[str]) -> Keyframes:
    """Read `keyframes.json`.

    Raises:
        AnnotationError: not JSON, not this schema, or tracks that contradict themselves; the message says
        where.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise AnnotationError(f"{path}: expected keyframes of at most {_LARGEST_FILE} bytes, got more")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(
            f"{path}: expected a keyframes.json, got what cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: expected JSON in UTF-8, got other bytes at {error.start}") from error
    if not text.strip():
        raise AnnotationError(f"{path}: expected keyframes, got an empty file; draw at least one box")
    try:
        data = json.loads(text, object_pairs_hook=unique_keys)
        if other := foreign_json(data):
            raise AnnotationError(other)
        return parse_keyframes(data)
    except json.JSONDecodeError as error:
        if other := foreign_text(text[:4096].encode()):
            raise AnnotationError(f"{path}: {other}") from error
        raise AnnotationError(
            f"{path}: expected JSON, got an error in line {error.lineno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise AnnotationError(f"{path}: expected keyframes, got JSON nested too deeply") from error
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def parse_keyframes(data: object) -> Keyframes:
    """Keyframes from parsed JSON.

    Raises:
        AnnotationError: a key that is missing, unknown or of a wrong kind; tracks that contradict
        themselves.
    """
    top = as_object(data, "the file", required=("schema", "size", "recordings"))
    if top["schema"] != SCHEMA or isinstance(top["schema"], bool):
        raise AnnotationError(f"expected schema {SCHEMA}, got {top['schema']!r}")
    size = as_list(top["size"], "size", 2)
    width, height = (as_whole(value, "size", smallest=1) for value in size)
    recordings = as_object(top["recordings"], "recordings")
    return Keyframes(
        size=(width, height),
        recordings={
            name: _parse_recording(name, value, (width, height)) for name, value in recordings.items()
        },
    )


def write_keyframes(path: str | os.PathLike[str], keyframes: Keyframes) -> None:
    """Write `keyframes.json`; what `read_keyframes` gives back is equal."""
    text = json.dumps(keyframes.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(Path(path), text + "\n")


def check_against(
    keyframes: Keyframes, frame_counts: Mapping[str, int], drawn_frames: Mapping[str, range] | None = None
) -> None:
    """Check that the keyframes fit the recordings of a store.

    Args:
        keyframes: what was drawn.
        frame_counts: recording name -> number of frames.
        drawn_frames: recording name -> the frames of the video that was drawn on, where that is known.

    Raises:
        AnnotationError: an unknown recording, nothing to do, a frame past a recording's end, or a video of
            another length.
    """
    unknown = [name for name in (drawn_frames or {}) if name not in frame_counts]
    if unknown and len(drawn_frames or {}) > 1:
        known = ", ".join(sorted(frame_counts)[:5]) + (", ..." if len(frame_counts) > 5 else "")
        raise AnnotationError(
            f"expected tasks that name recordings of the store ({known}), got {', '.join(map(repr, unknown))}; take "
            "one task with --task, or rename them in CVAT"
        )
    if not keyframes.recordings:
        raise AnnotationError(
            "expected the tracks of at least one recording, got none; draw a box on one frame"
        )
    for name, tracks in keyframes.recordings.items():
        if name not in frame_counts:
            known = ", ".join(sorted(frame_counts)[:5]) + (", ..." if len(frame_counts) > 5 else "")
            raise AnnotationError(
                f"expected one of the store's recordings {known}, got {name!r}; use one of these names, or say with "
                "--recording which one was drawn on"
            )
        count = frame_counts[name]
        frames = (drawn_frames or {}).get(name, range(count))
        is_job = isinstance(drawn_frames, DrawnFrames) and name in drawn_frames.jobs
        every = frames.start == 0 and frames.step == 1 and not is_job
        if (every and len(frames) != count) or (len(frames) and frames[-1] >= count):
            raise AnnotationError(
                f"{name}: expected boxes drawn on the recording's {count} frames, got a video of "
                f"{frames[-1] + 1 if len(frames) else 0}; draw on the video that was converted"
            )
        for track in tracks:
            last = max([track.offset, *(keyframe.frame for keyframe in track.keyframes)])
            if last >= count:
                raise AnnotationError(
                    f"{name}, track {track.id}: expected frames below the recording's count of {count}, got {last}; "
                    "were they drawn on another recording?"
                )


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """The box within a frame of `size` (width, height), where it reaches out by one pixel at most."""
    x0, y0, x1, y1 = box
    inside = min(x0, y0) >= -_CLIPPED and x1 <= size[0] + _CLIPPED and y1 <= size[1] + _CLIPPED
    return (max(x0, 0.0), max(y0, 0.0), min(x1, size[0]), min(y1, size[1])) if inside else box


def _parse_recording(name: str, value: object, size: tuple[int, int]) -> tuple[Track, ...]:
    tracks = as_object(value, f"recording {name}", required=("tracks",))["tracks"]
    return tuple(
        _parse_track(f"{name}, track number {i}", track, size)
        for i, track in enumerate(as_list(tracks, name))
    )


def _parse_track(where: str, data: object, size: tuple[int, int]) -> Track:
    track = as_object(data, where, required=("id", "onset", "offset", "keyframes"), optional=("apex",))
    apex = track.get("apex")
    keyframes = []
    for value in as_list(track["keyframes"], f"{where}, keyframes"):
        entry = as_object(value, f"{where}, a keyframe", required=("frame", "box"))
        frame = as_whole(entry["frame"], f"{where}, frame")
        x0, y0, x1, y1 = (
            as_number(v, f"{where}, frame {frame}, box")
            for v in as_list(entry["box"], f"{where}, frame {frame}, box", 4)
        )
        keyframes.append(Keyframe(frame=frame, box=clip_box((x0, y0, x1, y1), size)))
    try:
        return Track(
            id=parse_track_id(track["id"], where),
            onset=as_whole(track["onset"], f"{where}, onset"),
            apex=None if apex is None else as_whole(apex, f"{where}, apex"),
            offset=as_whole(track["offset"], f"{where}, offset"),
            keyframes=tuple(keyframes),
        )
    except AnnotationError as error:
        raise error if str(error).startswith(where) else AnnotationError(f"{where}, {error}") from error


def parse_track_id(value: object, where: str) -> int | str:
    """An id is a whole number or a name; digits in quotes are the number, as in XML."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value and value == value.strip() and value.isprintable():
        return int(value) if value.isascii() and value.isdigit() and str(int(value)) == value else value
    raise AnnotationError(f"{where}: expected an id that is a whole number or a name, got {value!r}")


def _track_to_dict(track: Track) -> dict[str, Any]:
    apex = {} if track.apex is None else {"apex": track.apex}
    keyframes = [{"frame": k.frame, "box": list(k.box)} for k in track.keyframes]
    return {"id": track.id, "onset": track.onset, **apex, "offset": track.offset, "keyframes": keyframes}


def _check_box(box: Box, size: tuple[int, int], where: str) -> None:
    x0, y0, x1, y1 = box
    if not all(math.isfinite(value) for value in box):
        raise AnnotationError(f"{where}: expected a box of finite coordinates, got {list(box)}")
    if not (x0 < x1 and y0 < y1):
        raise AnnotationError(
            f"{where}: expected a box [x0, y0, x1, y1] with x0 < x1 and y0 < y1, got {list(box)}"
        )
    if min(x0, y0) < 0 or x1 > size[0] or y1 > size[1]:
        raise AnnotationError(
            f"{where}: expected a box within the frame of {size[0]}x{size[1]} (width x height), got {list(box)}; "
            "is `size` the size that was drawn on?"
        )


def _check_kinds(name: str, tracks: Iterable[Track]) -> None:
    with_boxes, without = (
        [track.id for track in tracks if bool(track.keyframes) is kind] for kind in (True, False)
    )
    if with_boxes and without:
        raise AnnotationError(
            f"{name}: expected events that all have boxes, or that all have none, got boxes for track {with_boxes[0]} "
            f"and none for track {without[0]}; draw a box for it, or leave all of the recording's boxes out"
        )


def _check_overlaps(name: str, tracks: Iterable[Track]) -> None:
    by_id: dict[int | str, list[Track]] = {}
    for track in tracks:
        by_id.setdefault(track.id, []).append(track)
    for track_id, events in by_id.items():
        events.sort(key=lambda event: (event.onset, event.offset))
        for earlier, later in pairwise(events):
            if later.onset <= earlier.offset:
                raise AnnotationError(
                    f"{name}, track {track_id}: expected events that do not overlap, got "
                    f"{earlier.onset}..{earlier.offset} and {later.onset}..{later.offset}; give one another id"
                )
