"""A track of CVAT as events: what is visible, with onset, apex and offset as the attribute `stage` says."""

from __future__ import annotations

from collections.abc import Iterator

from fmfbench.annotation.cvat_xml import DERIVED, STAGE, CvatBox
from fmfbench.annotation.keyframes import Box, Keyframe, Track
from fmfbench.annotation.propagate import box_between
from fmfbench.errors import AnnotationError

__all__ = ["Event", "split_events"]


def split_events(boxes: list[CvatBox], last: int) -> Iterator[Event]:
    """The events of one track, in order: an outside box ends one, and so does a later onset."""
    event: Event | None = None
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
            event = Event()
        event.add(box, stages)
    if event is not None:
        yield event


def _stages(text: str, line: int) -> tuple[str, ...]:
    stages = tuple(part.strip() for part in text.split("+")) if text not in ("", "none") else ()
    if any(stage not in ("onset", "apex", "offset") for stage in stages):
        raise AnnotationError(f"line {line}: expected stage none, onset, apex or offset, got {text[:40]!r}")
    return stages


class Event:
    """One visible stretch of a track, as its boxes arrive."""

    def __init__(self) -> None:
        self.boxes: list[CvatBox] = []
        self.steering: Keyframe | None = None
        self.onset: int | None = None
        self.apex: int | None = None
        self.offset: int | None = None

    def add(self, box: CvatBox, stages: tuple[str, ...]) -> None:
        self.boxes.append(box)
        for stage in stages:
            if getattr(self, stage) is not None:
                raise AnnotationError(
                    f"line {box.line}: expected one {stage} in an event, got frames {getattr(self, stage)} and "
                    f"{box.frame}; end the event before the next one begins"
                )
            setattr(self, stage, box.frame)

    def leave(self, box: CvatBox, last: int) -> None:
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


def _is_derived(box: CvatBox) -> bool:
    return box.attributes.get(DERIVED, "").strip().lower() == "true"


def _close(a: Box, b: Box) -> bool:
    return all(abs(p - q) <= 0.011 for p, q in zip(a, b, strict=True))  # CVAT writes two decimals
