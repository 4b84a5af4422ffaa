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

The file is untrusted input (`cvat_xml`), and anything that is not a box is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from fmfbench.annotation.cvat_events import split_events
from fmfbench.annotation.cvat_xml import DERIVED, NAME, STAGE, CvatBox, CvatTrack, CvatXml, open_xml, whole
from fmfbench.annotation.keyframes import DrawnFrames, Keyframes, Track, clip_box, parse_track_id
from fmfbench.errors import AnnotationError

__all__ = ["DERIVED", "NAME", "STAGE", "Task", "read_cvat"]

_LARGEST_XML = 2**28
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
        with open_xml(path) as stream:
            reader = CvatXml()
            reader.read(stream, _LARGEST_XML)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    try:
        return _keyframes(reader, recording, label, task, size, untouched)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def _keyframes(
    reader: CvatXml,
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
    start = whole(fields.get("start_frame") or "0", f"{what}, start_frame")
    count = whole(fields.get("size", ""), f"{what}, size")
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
    if stop and (count == 0 or not frames[-1] <= whole(stop, f"{what}, stop_frame") < frames.stop):
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
    said = tuple(whole(fields[side], f"{what}, original_size", 1) for side in ("width", "height"))
    if size is not None and said != size:
        raise AnnotationError(
            f"{what}: expected the size that the export names, {said[0]}x{said[1]}, got --size {size[0]}x{size[1]}; "
            "leave it out"
        )
    return said[0], said[1]


def _task_of(track: CvatTrack, tasks: Mapping[str, Task]) -> Task:
    if track.task is not None and track.task in tasks:
        return tasks[track.task]
    if len(tasks) == 1 and track.task is None:
        return next(iter(tasks.values()))
    raise AnnotationError(
        f"line {track.line}: expected track {track.id} with the task_id of one of the file's {len(tasks)} tasks, "
        f"got {track.task}"
    )


def _events(track: CvatTrack, task: Task) -> list[Track]:
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
    return [event.finish(track_id, last) for event in split_events(boxes, last)]


def _of_task(box: CvatBox, task: Task) -> CvatBox:
    """The box with the frame number of the task's video, clipped to the frame."""
    frame, frames = box.frame - task.offset, task.frames
    # CVAT closes a track there that is visible to the end
    closes_at_the_end = box.outside and frame == frames.stop
    if frame not in frames and not closes_at_the_end:
        which = "the job" if task.is_job else f"task {task.name!r}"
        counted = f", numbered on from {task.offset} in this project" if task.offset else ""
        raise AnnotationError(
            f"line {box.line}: expected a frame of {which} ({frames.start + task.offset} to "
            f"{frames.stop - frames.step + task.offset}, step {frames.step}{counted}), got {box.frame}"
        )
    return replace(box, frame=frame, box=clip_box(box.box, task.size))
