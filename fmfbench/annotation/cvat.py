"""CVAT for video 1.1: `annotations.xml`, alone or in a zip, of a task, a job or a project, as keyframes.

A track is visible from its first keyframe to the frame before an `outside="1"` keyframe, and to the task's end
without one; boxes that are not keyframes are dropped, as CVAT's own importer does. Onset, apex and offset
are the values of the attribute `stage`; a value that a keyframe only repeats was inherited from the one
before and says nothing new. On an outside box at frame b, `offset` means b - 1; on a visible box it means
b. Without stages the event is what is visible. A box glides towards the coordinates of an outside keyframe,
so these are kept as a keyframe behind the offset where they differ.

Frame numbers are those of the video: start frame and step of the task are in them. In a project's export CVAT
also adds the frame counts of the tasks before, of the same subset, which is taken off again. A job's export names no
task, and neither does it say what the rest of the task holds.

The file is read as a stream and never trusted: a document type (and with it every entity), a member that
grows past the limit, and anything that is not a box are refused.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from fmfbench.annotation.foreign import foreign_xml, foreign_zip
from fmfbench.annotation.keyframes import (
    Box,
    DrawnFrames,
    Keyframe,
    Keyframes,
    Track,
    clip_box,
    parse_track_id,
)
from fmfbench.annotation.propagate import box_between
from fmfbench.errors import AnnotationError

__all__ = ["DERIVED", "NAME", "STAGE", "Task", "read_cvat"]

STAGE = "stage"  # mutable: none, onset, apex, offset, or several joined by +
DERIVED = "derived"  # mutable: true on a box that propagation put there, not a person
NAME = "track"  # our id; CVAT numbers tracks anew on every import

_LARGEST_XML = 2**28
_BLOCK = 2**16
_MEMBER = "annotations.xml"
_SHAPES = ("polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")
_VIDEO_SUFFIX = re.compile(r"\.(avi|mp4|m4v|mkv|mov|mpg|mpeg|ts|mts|webm|wmv|mat)$", re.IGNORECASE)


@dataclass(kw_only=True)
class Task:
    """What the file says of the video that was drawn on."""

    id: str
    name: str
    frames: range  # frame numbers of its video
    size: tuple[int, int]  # width, height
    subset: str = ""
    offset: int = 0  # what CVAT adds to its frame numbers in a project's export
    is_job: bool = False


@dataclass(kw_only=True)
class _Box:
    frame: int
    outside: bool
    box: Box
    line: int
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class _CvatTrack:
    id: str
    task: str | None
    label: str
    line: int
    boxes: list[_Box] = field(default_factory=list)
    other_shape: tuple[str, int] | None = None  # what it holds that is no box, and the line


def read_cvat(
    path: str | os.PathLike[str],
    recording: str | None = None,
    label: str | None = None,
    *,
    task: str | None = None,
    size: tuple[int, int] | None = None,
    untouched: str = "skip",
) -> tuple[Keyframes, DrawnFrames]:
    """Read the tracks of a CVAT for video 1.1 export.

    Args:
        path: an XML file, or a zip with `annotations.xml`.
        recording: the recording drawn on; by default the task's name, without a video's extension.
        label: take only tracks of this label; by default every track.
        task: name or id of the one task to take of a project.
        size: (width, height) that was drawn on, where the export does not say it.
        untouched: what a task is that nobody has drawn on: "skip" leaves its recording out, "normal" makes it normal
            throughout.

    Returns:
        The keyframes, and for each task's recording, untouched ones too, the frames of its video that the task covers.

    Raises:
        AnnotationError: not such a file, a hostile one, or tracks that contradict themselves.
    """
    path = Path(path)
    try:
        with _open_xml(path) as stream:
            reader = _Reader()
            reader.read(stream)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    try:
        return _keyframes(reader, recording, label, task, size, untouched)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def _keyframes(
    reader: _Reader,
    recording: str | None,
    label: str | None,
    wanted: str | None,
    size: tuple[int, int] | None,
    untouched: str,
) -> tuple[Keyframes, DrawnFrames]:
    if not reader.tasks:
        raise AnnotationError(
            "expected CVAT for video 1.1 with <meta><task>, got no task; export the task again"
        )
    found = [_task(fields | {"is_job": kind}, size) for kind, fields in reader.tasks]
    if len(found) > 1 or reader.is_project:
        _add_offsets(found)
    all_tasks = {task.id: task for task in found}
    if len(all_tasks) < len(found):
        raise AnnotationError("expected tasks of different ids, got one twice; export the project again")
    tasks = all_tasks if wanted is None else {key: all_tasks[key] for key in [_chosen(found, wanted).id]}
    if len({task.size for task in tasks.values()}) > 1:
        raise AnnotationError(
            "expected tasks of one frame size, got several; take them one by one with --task"
        )
    names = _recording_names(tasks, recording)
    tracks: dict[str, list[Track]] = {key: [] for key in tasks}
    labels = set()
    for track in reader.tracks:
        labels.add(track.label)
        task = _task_of(track, all_tasks)
        if task.id in tasks and (label is None or track.label == label):
            tracks[task.id] += _events(track, task)
    if not any(tracks.values()) and untouched != "normal":
        got = f"none of label {label!r} among {', '.join(sorted(labels))}" if label and labels else "none"
        raise AnnotationError(f"expected tracks with boxes that are keyframes, got {got}; draw a box in CVAT")
    for events in tracks.values():
        events.sort(key=lambda event: (str(event.id), event.onset))
    drawn_on = next(iter(tasks.values())).size
    frames = DrawnFrames(
        {names[key]: task.frames for key, task in tasks.items()},
        jobs=[names[key] for key, task in tasks.items() if task.is_job],
    )
    recordings = {
        names[key]: tuple(events) for key, events in tracks.items() if events or untouched == "normal"
    }
    return Keyframes(size=drawn_on, recordings=recordings), frames


def _recording_names(tasks: Mapping[str, Task], recording: str | None) -> dict[str, str]:
    """The recording of each task, by the task's id."""
    if recording is not None:
        if len(tasks) > 1:
            raise AnnotationError(
                f"expected one task for recording {recording!r}, got {len(tasks)} tasks "
                f"({_listed(tasks.values())}); choose one with --task"
            )
        return dict.fromkeys(tasks, recording)
    names = {key: _VIDEO_SUFFIX.sub("", task.name) for key, task in tasks.items()}
    if "" in names.values():
        raise AnnotationError(
            "expected the name of the recording that was drawn on, got a job's export, which has none; give it with "
            "--recording"
        )
    if len(set(names.values())) < len(names):
        raise AnnotationError(
            "expected tasks of different names, got one twice; rename one in CVAT, or choose one with --task ID"
        )
    return names


def _chosen(tasks: Sequence[Task], wanted: str) -> Task:
    """The task of that name or id."""
    found = [task for task in tasks if wanted in (task.name, _VIDEO_SUFFIX.sub("", task.name), task.id)]
    if len(found) != 1:
        got = "no such task" if not found else f"{len(found)} of them"
        raise AnnotationError(
            f"expected --task {wanted!r} to name one task, got {got}; the file has {_listed(tasks)}"
        )
    return found[0]


def _listed(tasks: Iterable[Task]) -> str:
    return ", ".join(f"{task.name!r} (id {task.id})" for task in tasks)


def _add_offsets(tasks: Sequence[Task]) -> None:
    """In a project CVAT numbers the frames of a subset's tasks on, from one task to the next."""
    before: dict[str, int] = {}
    for task in tasks:
        task.offset = before.get(task.subset, 0)
        before[task.subset] = task.offset + len(task.frames)


def _task(fields: Mapping[str, str], size: tuple[int, int] | None) -> Task:
    is_job = bool(fields["is_job"])
    name = "" if is_job else fields.get("name", "")
    what = "the job" if is_job else f"task {name!r}"
    start = _whole(fields.get("start_frame") or "0", f"{what}, start_frame")
    count = _whole(fields.get("size", ""), f"{what}, size")
    step = 1
    if fields.get("frame_filter"):
        match = re.fullmatch(r"\s*step\s*=\s*([1-9]\d{0,8})\s*", fields["frame_filter"])
        if not match:
            raise AnnotationError(
                f"{what}: expected frame_filter step=N, got {fields['frame_filter'][:40]!r}"
            )
        step = int(match[1])
    frames = range(start, start + count * step, step)
    stop = fields.get("stop_frame")
    if stop and (count == 0 or not frames[-1] <= _whole(stop, f"{what}, stop_frame") < frames.stop):
        raise AnnotationError(
            f"{what}: expected start_frame, stop_frame and size to agree on the frame count, got {start}, "
            f"{stop[:20]} and {count} at step {step}"
        )
    return Task(
        id=fields.get("id", ""),
        name=name,
        frames=frames,
        size=_drawn_size(fields, size, what),
        subset=fields.get("subset", ""),
        is_job=is_job,
    )


def _drawn_size(fields: Mapping[str, str], size: tuple[int, int] | None, what: str) -> tuple[int, int]:
    if "width" not in fields and "height" not in fields:
        if size is None:
            raise AnnotationError(
                f"{what}: expected original_size with width and height, got none, as CVAT writes for extracted frames; "
                "give the size that was drawn on with --size WIDTHxHEIGHT"
            )
        return size
    if "width" not in fields or "height" not in fields:
        raise AnnotationError(f"{what}: expected original_size with width and height, got one of them")
    said = tuple(_whole(fields[side], f"{what}, original_size", 1) for side in ("width", "height"))
    if size is not None and said != size:
        raise AnnotationError(
            f"{what}: expected the size that the export names, {said[0]}x{said[1]}, got --size {size[0]}x{size[1]}; "
            "leave it out"
        )
    return said[0], said[1]


def _task_of(track: _CvatTrack, tasks: Mapping[str, Task]) -> Task:
    if track.task is not None and track.task in tasks:
        return tasks[track.task]
    if len(tasks) == 1 and track.task is None:
        return next(iter(tasks.values()))
    raise AnnotationError(
        f"line {track.line}: expected track {track.id} with the task_id of one of the file's {len(tasks)} tasks, "
        f"got {track.task}"
    )


def _events(track: _CvatTrack, task: Task) -> list[Track]:
    if track.other_shape is not None:
        shape, line = track.other_shape
        raise AnnotationError(
            f"line {line}: expected tracks of boxes, got a {shape} of label {track.label!r}; redraw it as boxes, or "
            "take the tracks of another label with --label"
        )
    boxes = sorted((_of_task(box, task) for box in track.boxes), key=lambda box: box.frame)
    for earlier, later in pairwise(boxes):
        if earlier.frame == later.frame:
            raise AnnotationError(f"line {later.line}: expected one keyframe on frame {later.frame}, got two")
    name = next((box.attributes[NAME] for box in boxes if box.attributes.get(NAME)), track.id)
    track_id = parse_track_id(name.strip(), f"line {track.line}, track")
    last = task.frames.stop - task.frames.step
    return [event.finish(track_id, last) for event in _split(boxes, last)]


def _of_task(box: _Box, task: Task) -> _Box:
    """The box with the frame number of the task's video, clipped to the frame."""
    frame, frames = box.frame - task.offset, task.frames
    closes_at_the_end = (
        box.outside and frame == frames.stop
    )  # CVAT closes a track there that is visible to the end
    if frame not in frames and not closes_at_the_end:
        which = "the job" if task.is_job else f"task {task.name!r}"
        counted = f", numbered on from {task.offset} in this project" if task.offset else ""
        raise AnnotationError(
            f"line {box.line}: expected a frame of {which} ({frames.start + task.offset} to "
            f"{frames.stop - frames.step + task.offset}, step {frames.step}{counted}), got {box.frame}"
        )
    return replace(box, frame=frame, box=clip_box(box.box, task.size))


def _split(boxes: list[_Box], last: int) -> Iterator[_Event]:
    """The events of one track, in order: an outside box ends one, and so does a later onset."""
    event: _Event | None = None
    stage = ""
    for box in boxes:
        given = box.attributes.get(STAGE, stage).strip().lower()
        stages, stage = _stages(given, box.line) if given != stage else (), given
        if box.outside:
            if event is not None:
                event.leave(box, last)
                yield event
            event = None
            continue
        if event is not None and event.offset is not None and "onset" in stages:
            yield event
            event = None
        if event is None:
            event = _Event()
        event.add(box, stages)
    if event is not None:
        yield event


def _stages(text: str, line: int) -> tuple[str, ...]:
    stages = tuple(part.strip() for part in text.split("+")) if text not in ("", "none") else ()
    if any(stage not in ("onset", "apex", "offset") for stage in stages):
        raise AnnotationError(f"line {line}: expected stage none, onset, apex or offset, got {text[:40]!r}")
    return stages


class _Event:
    """One visible stretch of a track, as its boxes arrive."""

    def __init__(self) -> None:
        self.boxes: list[_Box] = []
        self.steering: Keyframe | None = None
        self.onset: int | None = None
        self.apex: int | None = None
        self.offset: int | None = None

    def add(self, box: _Box, stages: tuple[str, ...]) -> None:
        self.boxes.append(box)
        for stage in stages:
            if getattr(self, stage) is not None:
                raise AnnotationError(
                    f"line {box.line}: expected one {stage} in an event, got frames {getattr(self, stage)} and "
                    f"{box.frame}; end the event before the next one begins"
                )
            setattr(self, stage, box.frame)

    def leave(self, box: _Box, last: int) -> None:
        """The outside box that ends the stretch; past the `last` frame it only steers."""
        if box.box != self.boxes[-1].box or box.attributes.get(DERIVED) == "false":
            self.steering = Keyframe(frame=box.frame, box=box.box)
        if box.frame > last:
            if self.steering is not None and last > self.boxes[-1].frame:
                there = (Keyframe(frame=self.boxes[-1].frame, box=self.boxes[-1].box), self.steering)
                self.steering = Keyframe(frame=last, box=box_between(there, last))
            else:
                self.steering = None
        if self.offset is None:
            self.offset = min(box.frame - 1, last)

    def finish(self, track_id: int | str, last: int) -> Track:
        drawn = [Keyframe(frame=box.frame, box=box.box) for box in self.boxes if not _is_derived(box)]
        keyframes = drawn + ([self.steering] if self.steering and drawn else [])
        for box in self.boxes:
            # a derived box that a person has moved since is a keyframe like any other
            if _is_derived(box) and not (drawn and _close(box_between(keyframes, box.frame), box.box)):
                drawn.append(Keyframe(frame=box.frame, box=box.box))
        keyframes = sorted([*drawn, *([self.steering] if self.steering else [])], key=lambda k: k.frame)
        return Track(
            id=track_id,
            onset=self.boxes[0].frame if self.onset is None else self.onset,
            apex=self.apex,
            offset=last if self.offset is None else self.offset,
            keyframes=tuple(keyframes),
        )


def _is_derived(box: _Box) -> bool:
    return box.attributes.get(DERIVED, "").strip().lower() == "true"


def _close(a: Box, b: Box) -> bool:
    return all(abs(p - q) <= 0.011 for p, q in zip(a, b, strict=True))  # CVAT writes two decimals


def _open_xml(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        head = file.read(4)
    if not head:
        raise AnnotationError("expected CVAT for video 1.1, got an empty file")
    if head[:2] != b"PK":
        return open(path, "rb")
    try:
        archive = zipfile.ZipFile(path)
        members = [info for info in archive.infolist() if info.filename == _MEMBER]
        if not members and (other := foreign_zip(archive.namelist())):
            raise AnnotationError(other)
        if len(members) != 1:
            raise AnnotationError(f"expected a zip with one {_MEMBER} at its top, got {len(members)}")
        return archive.open(members[0])  # read as a stream: nothing is ever extracted
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise AnnotationError(f"expected a plain zip, got one that cannot be read: {error}") from error


class _Reader:
    """The parts of the XML that matter, gathered while it streams past."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, dict[str, str]]] = []  # "job" or "" for a task, and its fields
        self.is_project = False
        self.tracks: list[_CvatTrack] = []
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._box: _Box | None = None
        self._attribute = ""
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_doctype

    def read(self, stream: IO[bytes]) -> None:
        total = 0
        try:
            while block := stream.read(_BLOCK):
                total += len(block)
                if total > _LARGEST_XML:
                    raise AnnotationError(f"expected XML of at most {_LARGEST_XML} bytes, got more")
                self._parser.Parse(block, False)
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise AnnotationError(f"line {error.lineno}: expected CVAT's XML, got {reason}") from error
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
            raise AnnotationError(f"expected a whole zip, got a damaged one: {error}") from error
        except Exception as error:
            if type(error).__module__ == "zlib":
                raise AnnotationError(f"expected a whole zip, got a damaged one: {error}") from error
            raise

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

    def _refuse_doctype(self, *_: Any) -> None:
        raise AnnotationError(
            f"line {self._line}: expected CVAT's plain XML, got a document type or an entity"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._path and tag != "annotations":
            if other := foreign_xml(tag):
                raise AnnotationError(other)
            raise AnnotationError(f"expected CVAT's <annotations>, got <{tag[:40]}>")
        if len(self._path) > 32:
            raise AnnotationError(f"line {self._line}: expected CVAT's XML, got elements nested too deeply")
        self._path.append(tag)
        self._text = None
        parent = self._path[-2] if len(self._path) > 1 else ""
        if tag in ("task", "job") and parent in ("meta", "tasks", "project"):
            self.tasks.append(("job" if tag == "job" else "", {}))
            self.is_project |= parent != "meta"
        elif self._field() is not None:
            self._text = []
        elif tag == "image" and parent == "annotations":
            raise AnnotationError(
                f"line {self._line}: expected CVAT for video 1.1, got CVAT for images; export the task for video"
            )
        elif tag == "track" and parent == "annotations":
            self._start_track(attributes)
        elif parent == "track" and tag == "box":
            self._start_box(attributes)
        elif parent == "track" and tag in _SHAPES:
            self.tracks[-1].other_shape = self.tracks[-1].other_shape or (tag, self._line)
        elif parent == "box" and tag == "attribute" and self._box is not None:
            self._attribute, self._text = attributes.get("name", ""), []

    def _field(self) -> str | None:
        """The task's field that the current element gives."""
        match self._path:
            case [
                *_,
                "task" | "job",
                ("id" | "name" | "size" | "start_frame" | "stop_frame" | "frame_filter" | "subset") as field,
            ] if self.tasks:
                return field
            case [*_, "task" | "job" | "meta", "original_size", ("width" | "height") as field] if self.tasks:
                return field  # a job's stands beside it
        return None

    def _start_track(self, attributes: dict[str, str]) -> None:
        self.tracks.append(
            _CvatTrack(
                id=attributes.get("id", str(len(self.tracks))),
                task=attributes.get("task_id"),
                label=attributes.get("label", ""),
                line=self._line,
            )
        )

    def _start_box(self, attributes: dict[str, str]) -> None:
        where = f"line {self._line}"
        missing = [key for key in ("frame", "keyframe", "xtl", "ytl", "xbr", "ybr") if key not in attributes]
        if missing:
            raise AnnotationError(f"{where}: expected a box with {', '.join(missing)}, got none")
        frame = _whole(attributes["frame"], f"{where}, frame")
        if not _flag(attributes["keyframe"], f"{where}, keyframe"):
            return
        box = tuple(_number(attributes[key], f"{where}, {key}") for key in ("xtl", "ytl", "xbr", "ybr"))
        if _number(attributes.get("rotation", "0"), f"{where}, rotation") % 360:
            raise AnnotationError(
                f"{where}: expected an upright box, got one turned by {attributes['rotation'][:20]}"
            )
        self._box = _Box(
            frame=frame,
            outside=_flag(attributes.get("outside", "0"), f"{where}, outside"),
            box=(box[0], box[1], box[2], box[3]),
            line=self._line,
        )
        self.tracks[-1].boxes.append(self._box)

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)
            if len(self._text) > 1000:
                raise AnnotationError(
                    f"line {self._line}: expected a short text, got more than a thousand pieces"
                )

    def _end(self, tag: str) -> None:
        if self._text is not None:
            text = "".join(self._text).strip()
            field = self._field()
            if field is not None:
                self.tasks[-1][1][field] = text
            elif self._box is not None and tag == "attribute":
                self._box.attributes[self._attribute] = text
            self._text = None
        if tag == "box":
            self._box = None
        self._path.pop()


def _whole(text: str, where: str, smallest: int = 0) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text.strip()) and int(text) >= smallest:
        return int(text)
    raise AnnotationError(f"{where}: expected a whole number from {smallest} up, got {text[:40]!r}")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AnnotationError(f"{where}: expected a finite number, got {text[:40]!r}")
    return value


def _flag(text: str, where: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise AnnotationError(f"{where}: expected 0 or 1, got {text[:40]!r}")
    return text.strip() == "1"
