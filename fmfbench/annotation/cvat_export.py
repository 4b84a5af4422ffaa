"""Keyframes as CVAT for video 1.1, so that a person can correct them there and import them again.

Only keyframes are written, for CVAT drops everything else. Onset, apex and offset need a box to stand on;
where a person drew none, the box that propagation puts there is written with the attribute `derived` set,
and reading the file leaves it out again unless it was moved. Each event is a track of its own; its id is in
the attribute `track`, because CVAT numbers tracks anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from fmfbench.annotation.cvat import DERIVED, NAME, STAGE
from fmfbench.annotation.keyframes import Box, Keyframes, Track
from fmfbench.annotation.propagate import box_between
from fmfbench.errors import AnnotationError
from fmfbench.files.atomic import write_text

__all__ = ["write_cvat"]

_STAGES = (
    "none",
    "onset",
    "apex",
    "offset",
    "onset+apex",
    "apex+offset",
    "onset+offset",
    "onset+apex+offset",
)


def write_cvat(
    path: str | os.PathLike[str],
    keyframes: Keyframes,
    recording: str,
    num_frames: int,
    label: str = "abnormal",
) -> None:
    """Write the tracks of one recording; what `read_cvat` gives back is equal.

    Args:
        path: the XML file to write.
        keyframes: what was drawn.
        recording: whose tracks to write; it becomes the task's name.
        num_frames: the recording's frame count.
        label: the label of the tracks.

    Raises:
        AnnotationError: an event without a box, which CVAT cannot hold.
    """
    for track in keyframes.recordings[recording]:
        if not track.keyframes:
            raise AnnotationError(
                f"{recording}, track {track.id}: expected events with boxes, got one without, which CVAT has no "
                "place for; export keyframes.json"
            )
    lines = [*_head(recording, num_frames, keyframes.size, label)]
    for number, track in enumerate(keyframes.recordings[recording]):
        lines.append(f'  <track id="{number}" label={quoteattr(label)} source="manual">')
        lines += [_box(*entry, track) for entry in _boxes(track, num_frames)]
        lines.append("  </track>")
    lines.append("</annotations>")
    write_text(Path(path), "\n".join(lines) + "\n")


def _boxes(track: Track, num_frames: int) -> Iterator[tuple[int, Box, str, bool, bool]]:
    """(frame, box, stage, derived, outside) of every keyframe to write, in order."""
    drawn = {keyframe.frame: keyframe.box for keyframe in track.keyframes}
    leave = track.offset + 1
    steered = {frame for frame in drawn if frame > track.offset}
    # An outside box ends the event, unless boxes that only steer stand behind it or the recording ends.
    ends_outside = leave < num_frames and steered <= {leave}
    stages: dict[int, list[str]] = {}
    for stage in ("onset", "apex", "offset"):
        frame = getattr(track, stage)
        if frame is not None and not (stage == "offset" and (ends_outside or leave >= num_frames)):
            stages.setdefault(frame, []).append(stage)
    for frame in sorted({*drawn, *stages} - ({leave} if ends_outside else set())):
        stage = "+".join(stages.get(frame, [])) or "none"
        box = drawn.get(frame) or box_between(track.keyframes, frame)
        yield frame, box, stage, frame not in drawn, False
    if ends_outside:
        held = drawn[max(frame for frame in drawn if frame < leave)]
        yield leave, drawn.get(leave, held), "offset", leave not in drawn, True
    elif steered and max(steered) + 1 < num_frames:
        yield max(steered) + 1, drawn[max(steered)], "none", True, True


def _box(frame: int, box: Box, stage: str, derived: bool, outside: bool, track: Track) -> str:
    x0, y0, x1, y1 = (f"{value:.2f}" if float(f"{value:.2f}") == value else repr(value) for value in box)
    values = {STAGE: stage, DERIVED: str(derived).lower(), NAME: str(track.id)}
    inner = "".join(f'<attribute name="{key}">{escape(value)}</attribute>' for key, value in values.items())
    return (
        f'    <box frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" xtl="{x0}" ytl="{y0}" '
        f'xbr="{x1}" ybr="{y1}" z_order="0">{inner}</box>'
    )


def _head(recording: str, num_frames: int, size: tuple[int, int], label: str) -> Iterable[str]:
    attributes = (
        (STAGE, "True", "select", "none", "\n".join(_STAGES)),
        (DERIVED, "True", "checkbox", "false", "false"),
        (NAME, "False", "text", "", ""),
    )
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>"
    yield "  <version>1.1</version>"
    yield "  <meta>"
    yield "    <task>"
    yield f"      <id>0</id><name>{escape(recording)}</name><size>{num_frames}</size><mode>interpolation</mode>"
    yield "      <overlap>0</overlap><bugtracker></bugtracker>"
    yield f"      <start_frame>0</start_frame><stop_frame>{num_frames - 1}</stop_frame><frame_filter></frame_filter>"
    yield f"      <labels><label><name>{escape(label)}</name><type>rectangle</type><attributes>"
    for name, mutable, kind, default, values in attributes:
        yield (
            f"        <attribute><name>{name}</name><mutable>{mutable}</mutable><input_type>{kind}</input_type>"
            f"<default_value>{default}</default_value><values>{values}</values></attribute>"
        )
    yield "      </attributes></label></labels>"
    yield f"      <original_size><width>{size[0]}</width><height>{size[1]}</height></original_size>"
    yield "    </task>"
    yield "  </meta>"
