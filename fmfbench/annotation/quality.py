"""What refining did to a layer, in figures: changed pixels, area over time, flicker, agreement with a reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import AnnotationError
from fmfbench.store.layers import provenance_of
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording

__all__ = ["Agreement", "format_report", "report"]

_BLOCK = 512


@dataclass
class Agreement:
    """Pixel counts of a layer against a reference, pooled over everything added."""

    # [reference, layer]
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))

    def add(self, masks: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
        """Both (n, H, W) of 0 and 1."""
        pairs = 2 * reference.ravel() + masks.ravel()
        self.counts += np.bincount(pairs, minlength=4).reshape(2, 2)

    def iou(self, label: int) -> float | None:
        """Intersection over union of one class; None where neither has it."""
        both = int(self.counts[label, label])
        union = int(self.counts[label].sum() + self.counts[:, label].sum()) - both
        return both / union if union else None

    @property
    def miou(self) -> float | None:
        """The mean over both classes, as the benchmark's score; None where one is undefined."""
        normal, abnormal = self.iou(0), self.iou(1)
        return None if normal is None or abnormal is None else (normal + abnormal) / 2


def report(
    data: StoreReader, layer: str, reference: str | None = None, recording: str | None = None
) -> dict[str, Any]:
    """Figures of a layer, per recording that has it.

    Args:
        data: the store.
        layer: the layer to report on, compared with its parent where it has one.
        reference: a layer to hold it against, for example "source"; None for no comparison.
        recording: the one to report on; by default all.

    Returns:
        JSON: per recording the frames, `changed` (pixels that differ from the parent: turned normal, turned
        abnormal, share of the parent's abnormal pixels), `area` (abnormal pixels a frame over each event: at onset,
        apex and offset, mean and largest), `flicker` (1 - IoU of consecutive abnormal frames: mean and largest) and
        `agreement` (mIoU and IoU of the abnormal class of layer and parent against the reference).

    Raises:
        AnnotationError: no recording has the layer, or none of those has the reference.
    """
    asked = [r for r in data.recordings.values() if recording in (None, r.name)]
    recordings = [r for r in asked if layer in r.layers]
    if not recordings:
        raise AnnotationError(
            f"{data.path}: expected layer {layer!r}, got no recording with it; annotate first"
        )
    if reference is not None and not any(reference in r.layers for r in recordings):
        raise AnnotationError(
            f"{data.path}: expected the reference layer {reference!r}, got none; leave it out"
        )
    return {
        "store": str(data.path),
        "layer": layer,
        "reference": reference,
        "recordings": {r.name: _report_recording(r, layer, reference) for r in recordings},
    }


def format_report(facts: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [f"{facts['store']}: layer {facts['layer']}"]
    for name, r in facts["recordings"].items():
        lines.append(f"  {name}: {r['abnormal_frames']} of {r['frames']} frames abnormal")
        if r["changed"]:
            c = r["changed"]
            share = "undefined" if c["share"] is None else f"{c['share']:.1%} of its abnormal pixels"
            lines.append(
                f"    against {c['parent']}: {c['turned_normal']} pixels turned normal, {c['turned_abnormal']} turned "
                f"abnormal ({share})"
            )
        for e in r["area"]:
            apex = "" if e["apex"] is None else f", apex {e['apex'][1]}"
            lines.append(
                f"    event {e['id']} ({e['onset'][0]}..{e['offset'][0]}): area at onset {e['onset'][1]}{apex}, offset "
                f"{e['offset'][1]}, mean {e['mean']:.1f}, largest {e['largest']}"
            )
        f = r["flicker"]
        if f["pairs"]:
            lines.append(
                f"    flicker (1 - IoU of consecutive masks): mean {f['mean']:.4f}, largest {f['largest']:.4f}"
            )
        for name_of, a in (r["agreement"] or {}).items():
            lines.append(
                f"    {name_of} against {facts['reference']}: mIoU {_show(a['miou'])}, IoU of the abnormal class "
                f"{_show(a['iou_abnormal'])}"
            )
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _report_recording(recording: Recording, layer: str, reference: str | None) -> dict[str, Any]:
    provenance = provenance_of(recording, layer)
    parent = provenance.get("parent")
    parent = parent if parent in recording.layers else None
    compared = [layer] if parent is None else [layer, parent]
    agreement = {name: Agreement() for name in compared} if reference in recording.layers else {}
    changes = Agreement()
    area = np.zeros(recording.num_frames, np.int64)
    flicker: list[float] = []
    last: NDArray[np.uint8] | None = None
    for start, stop in _blocks(recording):
        masks = recording.read_masks(start, stop, layer)
        area[start:stop] = masks.sum(axis=(1, 2))
        flicker += _flicker(masks if last is None else np.concatenate([last, masks]))
        last = masks[-1:]
        before = recording.read_masks(start, stop, parent) if parent else None
        if before is not None:
            changes.add(masks, before)
        if agreement:
            truth = recording.read_masks(start, stop, reference)
            agreement[layer].add(masks, truth)
            if parent is not None and before is not None:
                agreement[parent].add(before, truth)
    return {
        "frames": recording.num_frames,
        "abnormal_frames": int((area > 0).sum()),
        "changed": _changed(parent, changes),
        "area": [_event_area(event, area) for event in provenance.get("events", [])],
        "flicker": {
            "pairs": len(flicker),
            "mean": float(np.mean(flicker)) if flicker else None,
            "largest": max(flicker, default=None),
        },
        "agreement": {name: {"miou": a.miou, "iou_abnormal": a.iou(1)} for name, a in agreement.items()}
        or None,
    }


def _blocks(recording: Recording) -> Iterator[tuple[int, int]]:
    for start in range(0, recording.num_frames, _BLOCK):
        yield start, min(recording.num_frames, start + _BLOCK)


def _flicker(masks: NDArray[np.uint8]) -> list[float]:
    """1 - IoU of each mask and the next, where both are abnormal."""
    both = (masks[1:] & masks[:-1]).sum(axis=(1, 2), dtype=np.int64)
    union = (masks[1:] | masks[:-1]).sum(axis=(1, 2), dtype=np.int64)
    counted = masks[1:].any(axis=(1, 2)) & masks[:-1].any(axis=(1, 2))
    flicker: list[float] = (1 - both[counted] / union[counted]).tolist()
    return flicker


def _changed(parent: str | None, changes: Agreement) -> dict[str, Any] | None:
    if parent is None:
        return None
    turned_abnormal, turned_normal = int(changes.counts[0, 1]), int(changes.counts[1, 0])
    abnormal = int(changes.counts[1].sum())
    share = (turned_abnormal + turned_normal) / abnormal if abnormal else None
    return {
        "parent": parent,
        "turned_normal": turned_normal,
        "turned_abnormal": turned_abnormal,
        "share": share,
    }


def _event_area(event: dict[str, Any], area: NDArray[np.int64]) -> dict[str, Any]:
    span = area[event["onset"] : event["offset"] + 1]

    def at(frame: int | None) -> list[int] | None:
        return None if frame is None else [frame, int(area[frame])]

    return {
        "id": event["id"],
        "onset": at(event["onset"]),
        "apex": at(event["apex"]),
        "offset": at(event["offset"]),
        "mean": float(span.mean()),
        "largest": int(span.max()),
    }
