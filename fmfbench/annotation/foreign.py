"""Files of other annotation tools, told by their content, and how to bring them here.

What can be imported is `keyframes.json` and CVAT for video 1.1; the rest is named, so that nobody has to guess why a
good file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["foreign_json", "foreign_text", "foreign_xml", "foreign_zip"]

_THROUGH_CVAT = (
    "upload it to a CVAT task of the same video as {format}, check its tracks there, and export the task as "
    "CVAT for video 1.1"
)
_BY_HAND = "write keyframes.json from it ({how}; the format: data_cards/annotation.md), or draw again in CVAT"
_AGAIN = "export the task or project as CVAT for video 1.1"

_REMEDIES = {
    "COCO": _THROUGH_CVAT.format(format="COCO 1.0"),
    "LabelMe": _THROUGH_CVAT.format(format="LabelMe 3.0"),
    "Label Studio": _BY_HAND.format(
        how="of each videorectangle's sequence the frame less 1, and x, y, x + width, y + height in percent of the size"
    ),
    "VIA": _BY_HAND.format(
        how="of each region [2, x, y, w, h] the frame at its time, and the box x, y, x + w, y + h"
    ),
    "Datumaro": _THROUGH_CVAT.format(format="Datumaro 1.0"),
    "CVAT's JSON (a backup)": f"restore it in CVAT and {_AGAIN}",
    "CVAT for images": f"{_AGAIN}, not for images",
    "Pascal VOC": _THROUGH_CVAT.format(format="PASCAL VOC 1.1"),
    "MOT": _THROUGH_CVAT.format(format="MOT 1.1"),
    "YOLO": _THROUGH_CVAT.format(format="YOLO 1.1"),
}

# A member of a zip that only that tool's export has.
_MEMBERS = {
    "CVAT's JSON (a backup)": re.compile(r"(^|/)(task|project)\.json$"),
    "COCO": re.compile(r"^annotations/.*instances.*\.json$"),
    "Datumaro": re.compile(r"^annotations/.*\.json$"),
    "MOT": re.compile(r"(^|/)gt/gt\.txt$"),
    "YOLO": re.compile(r"(^|/)(obj\.data|obj\.names|data\.yaml)$"),
    "Pascal VOC": re.compile(r"(^|/)Annotations/.*\.xml$"),
}


def foreign_json(data: object) -> str | None:
    """A refusal that names the tool whose JSON `data` is; None where it is not one that is known."""
    kind = _json_kind(data)
    return None if kind is None else _refusal(kind, "keyframes.json")


def foreign_text(head: bytes) -> str | None:
    """The same for the first bytes of a file that is no JSON, XML or zip: rows of numbers as MOT and YOLO have them."""
    lines = head.splitlines()
    line = lines[0] if lines else b""
    for kind, separator, counts in (("MOT", b",", range(7, 11)), ("YOLO", None, range(5, 7))):
        parts = line.split(separator)
        if len(parts) in counts and all(_is_number(part) for part in parts):
            return _refusal(kind, "keyframes.json or CVAT for video 1.1")
    return None


def foreign_xml(root: str) -> str | None:
    """The same for the name of an XML document's root element."""
    return _refusal("Pascal VOC", "CVAT for video 1.1") if root == "annotation" else None


def foreign_zip(names: Iterable[str]) -> str | None:
    """The same for the names of a zip's members."""
    names = list(names)
    for kind, pattern in _MEMBERS.items():
        if any(pattern.search(name) for name in names):
            return _refusal(kind, "CVAT for video 1.1")
    return None


def _json_kind(data: object) -> str | None:
    if isinstance(data, list):
        first = data[0] if data and isinstance(data[0], dict) else {}
        if {"tracks", "shapes"} <= set(first):
            return "CVAT's JSON (a backup)"
        return "Label Studio" if {"annotations", "predictions", "video", "data"} & set(first) else None
    if not isinstance(data, dict) or {"schema", "recordings"} <= set(data):
        return None
    keys = set(data)
    signs = (
        ("COCO", keys >= {"images", "annotations"}),
        ("Datumaro", keys >= {"categories", "items"}),
        ("LabelMe", "shapes" in keys and bool(keys & {"imagePath", "imageData", "imageHeight"})),
        ("VIA", bool(keys & {"_via_settings", "_via_img_metadata"}) or keys >= {"project", "metadata"}),
        ("CVAT's JSON (a backup)", keys >= {"tracks", "shapes"} or keys >= {"version", "tags", "tracks"}),
        ("Label Studio", {"annotations", "data"} <= keys or {"result", "task"} <= keys),
        ("VIA", _is_via_2(data)),
    )
    return next((kind for kind, is_it in signs if is_it), None)


def _is_via_2(data: dict[str, object]) -> bool:
    """VIA 2 exports annotations alone as {"NAME SIZE": {"filename", "size", "regions"}}."""
    first = next(iter(data.values()), None)
    return isinstance(first, dict) and {"filename", "regions"} <= set(first)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refusal(kind: str, expected: str) -> str:
    return f"expected {expected}, got {kind}: {_REMEDIES[kind]}"
