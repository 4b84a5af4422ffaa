"""The XML of CVAT for video 1.1, read as a stream and never trusted.

A document type (and with it every entity), a member of a zip that grows past the limit, and what is nested too deeply
are refused. What the tracks mean is `cvat`'s to say.
"""

from __future__ import annotations

import math
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from fmfbench.annotation.foreign import foreign_xml, foreign_zip
from fmfbench.annotation.keyframes import Box
from fmfbench.errors import AnnotationError

__all__ = ["DERIVED", "NAME", "STAGE", "CvatBox", "CvatTrack", "CvatXml", "open_xml", "whole"]

STAGE = "stage"  # mutable: none, onset, apex, offset, or several joined by +
DERIVED = "derived"  # mutable: true on a box that propagation put there, not a person
NAME = "track"  # our id; CVAT numbers tracks anew on every import

_BLOCK = 2**16
_MEMBER = "annotations.xml"
_SHAPES = ("polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


@dataclass(kw_only=True)
class CvatBox:
    """A box that is a keyframe, as it stands there."""

    frame: int
    outside: bool
    box: Box
    line: int
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class CvatTrack:
    """A track, and its boxes that are keyframes."""

    id: str
    task: str | None
    label: str
    line: int
    boxes: list[CvatBox] = field(default_factory=list)
    other_shape: tuple[str, int] | None = None  # what it holds that is no box, and the line


def open_xml(path: Path) -> IO[bytes]:
    """The stream of an XML file, or of the one in a zip; AnnotationError: neither."""
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


class CvatXml:
    """The parts of the XML that matter, gathered while it streams past."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, dict[str, str]]] = []  # "job" or "" for a task, and its fields
        self.is_project = False
        self.tracks: list[CvatTrack] = []
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._box: CvatBox | None = None
        self._attribute = ""
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_doctype

    def read(self, stream: IO[bytes], largest: int) -> None:
        """Read it all; AnnotationError: it is longer than `largest` bytes, damaged, or no such XML."""
        total = 0
        try:
            while block := stream.read(_BLOCK):
                total += len(block)
                if total > largest:
                    raise AnnotationError(f"expected XML of at most {largest} bytes, got more")
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
            CvatTrack(
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
        frame = whole(attributes["frame"], f"{where}, frame")
        if not _flag(attributes["keyframe"], f"{where}, keyframe"):
            return
        box = tuple(_number(attributes[key], f"{where}, {key}") for key in ("xtl", "ytl", "xbr", "ybr"))
        if _number(attributes.get("rotation", "0"), f"{where}, rotation") % 360:
            raise AnnotationError(
                f"{where}: expected an upright box, got one turned by {attributes['rotation'][:20]}"
            )
        self._box = CvatBox(
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


def whole(text: str, where: str, smallest: int = 0) -> int:
    """A whole number of at most nine digits; AnnotationError otherwise."""
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
