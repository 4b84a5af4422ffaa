"""What is in a store or a source, as a mapping and as text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, format_time
from fmfbench.errors import FailedError
from fmfbench.files.remote import Place, RemotePath
from fmfbench.files.wording import counted
from fmfbench.sources.source import Source, SourceRecording
from fmfbench.store.digest import file_names
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import SPLITS, UNLABELLED, video_spec

__all__ = ["describe", "describe_source", "format_description", "gaps", "recording_lines"]

# What a conversion was seen to do on two cores, in bytes of video a second: for the estimate of a dry run.
_BYTES_PER_SECOND = 200e6
_GAP_FACTOR = 3.0


def describe(data: StoreReader) -> dict[str, Any]:
    """Facts of a store, as JSON."""
    sources = data.attributes["fmfbench.sources"]
    recordings = [_describe_recording(r) for r in data.recordings.values()]
    return {
        "store": str(data.path),
        "name": data.name,
        "layout": data.attributes["fmfbench.layout"],
        "created_by": data.attributes["fmfbench.created_by"],
        "fingerprint": data.fingerprint,
        "default_layer": data.default_layer,
        "default_split": data.split_name,
        "named_splits": {name: data.fingerprint_of(name) for name in data.split_names},
        "recordings": recordings,
        "frames": data.num_samples,
        "splits": _sum(recordings, "splits"),
        "classes": _sum(recordings, "classes"),
        "duration_seconds": sum(r["duration_seconds"] for r in recordings),
        "source_bytes": sum(s["size"] for s in sources),
        "store_bytes": _folder_bytes(data.path),
    }


def describe_source(source: Source) -> dict[str, Any]:
    """Facts of a source before it is converted, as JSON."""
    found = [r.unmeasured.scanned() if r.unmeasured else r for r in source.recordings]
    recordings = [_describe_source_recording(r) for r in found]
    video_bytes = sum(r.num_frames * r.height * r.width * 3 for r in found)
    return {
        "source": str(source.path),
        "layout": source.layout,
        "recordings": recordings,
        "frames": sum(r["frames"] for r in recordings),
        "splits": _sum(recordings, "splits"),
        "duration_seconds": sum(r["duration_seconds"] for r in recordings),
        "source_bytes": sum(p.stat().st_size for p in source.files),
        "video_bytes": video_bytes,
        "estimated_seconds": round(1 + video_bytes / _BYTES_PER_SECOND, 1),
    }


def gaps(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
    """Rows after which time jumps by more than three median steps, and the longest jump in seconds."""
    steps = np.diff(times)
    if not len(steps):
        return np.empty(0, np.int64), 0.0
    wide = np.flatnonzero(steps > _GAP_FACTOR * np.median(steps))
    return wide, float(steps[wide].max() / NS) if len(wide) else 0.0


def format_description(facts: dict[str, Any]) -> str:
    """The same facts for a person, one recording a paragraph."""
    lines = [f"{facts.get('store') or facts['source']}  (layout {facts['layout']})"]
    for r in facts["recordings"]:
        lines += ["", *recording_lines(r)]
    lines.append("")
    found = f"{counted(len(facts['recordings']), 'recording')}, {counted(facts['frames'], 'frame')}"
    total = f"{found}, {_counts(facts['splits'])}"
    lines.append(f"total     {total}")
    if "classes" in facts:
        lines.append(f"classes   {_balance(facts['classes'])}")
    lines.append(f"duration  {_duration(facts['duration_seconds'])}")
    if "store_bytes" in facts:
        lines.append(f"size      source {_size(facts['source_bytes'])}, store {_size(facts['store_bytes'])}")
        if len(facts["named_splits"]) > 1:
            lines.append(
                f"splits    {', '.join(facts['named_splits'])}; the default is {facts['default_split']}"
            )
        lines.append(f"identity  {facts['fingerprint']}")
    else:
        lines.append(
            f"size      source {_size(facts['source_bytes'])}, video {_size(facts['video_bytes'])} uncompressed; "
            f"about {facts['estimated_seconds']:.0f} s to convert; nothing was written"
        )
    return "\n".join(lines)


def _describe_recording(r: Recording) -> dict[str, Any]:
    return {
        **_common(r.name, r.num_frames, r.height, r.width, r.frame_time, r.time_origin, r.current, r.current_time,
                  r.split),
        "classes": _classes(r.class_label),
        "layers": list(r.layers),
        "remarks": list(r.attributes.get("fmfbench.remarks", [])),
    }  # fmt: skip


def _describe_source_recording(r: SourceRecording) -> dict[str, Any]:
    spec = video_spec(r.num_frames, r.height, r.width)
    labels = "pixel" if r.pixel_labels is not None else "class" if r.frame_labels is not None else "none"
    return {
        **_common(r.name, r.num_frames, r.height, r.width, r.frame_time, r.time_origin, r.current, r.current_time,
                  r.split),
        "labels": labels,
        "source_chunks": list(r.chunks) if r.chunks else None,
        "store_chunks": list(spec.chunk_shape),
        "remarks": list(r.remarks),
    }  # fmt: skip


def _common(
    name: str, n: int, height: int, width: int, frame_time: NDArray[np.int64], origin: str,
    current: NDArray[np.float32], current_time: NDArray[np.int64], split: NDArray[np.uint8],
) -> dict[str, Any]:  # fmt: skip
    wide, longest = gaps(frame_time)
    current_wide, current_longest = gaps(current_time)
    return {
        "name": name,
        "frames": n,
        "height": height,
        "width": width,
        "splits": {s: int(np.sum(split == code)) for s, code in SPLITS.items()},
        "start": format_time(int(frame_time[0])) if n and origin == "clock" else None,
        "duration_seconds": float(frame_time[-1] - frame_time[0]) / NS if n else 0.0,
        "frame_rate": _rate(frame_time),
        "frame_gaps": len(wide),
        "longest_frame_gap_seconds": longest,
        "current_rows": len(current),
        "current_rate": _rate(current_time),
        "current_gaps": len(current_wide),
        "longest_current_gap_seconds": current_longest,
        "current_nan_rows": int(np.sum(~np.isfinite(current).all(axis=1))),
    }


def recording_lines(r: dict[str, Any]) -> list[str]:
    rate = f"{r['frame_rate']:.2f} fps" if r["frame_rate"] else "no rate"
    chunks = ""
    if "store_chunks" in r:
        chunks = (
            f", chunks {r['source_chunks'] or 'none'} -> {r['store_chunks'][0]} frames, labels: {r['labels']}"
        )
    lines = [
        r["name"],
        f"  frames  {r['frames']} of {r['width']}x{r['height']} (WxH), {rate}, {_duration(r['duration_seconds'])}"
        + (f" from {r['start']}" if r["start"] else "")
        + chunks,
        f"  split   {_counts(r['splits'])}",
    ]
    if "classes" in r:
        lines.append(f"  class   {_balance(r['classes'])}, layers: {', '.join(r['layers']) or 'none'}")
    if "label_values" in r:
        shown = ", ".join(f"{value:g}" for value in r["label_values"]) or "none"
        lines.append(f"  labels  values {shown}; {r['abnormal_frames']} of {r['frames']} frames abnormal")
    current_rate = f", {r['current_rate']:.2f} a second" if r["current_rate"] else ""
    lines.append(
        f"  current {counted(r['current_rows'], 'row')}{current_rate}, {r['current_nan_rows']} with NaN"
    )
    lines += [
        f"  gaps    {r[f'{what}_gaps']} in {what}s, longest {r[f'longest_{what}_gap_seconds']:.2f} s"
        for what in ("frame", "current")
        if r[f"{what}_gaps"]
    ]
    lines += [f"  note    {remark}" for remark in r["remarks"]]
    return lines


def _classes(label: NDArray[np.uint8]) -> dict[str, int]:
    codes = {"normal": 0, "abnormal": 1, "unlabelled": UNLABELLED}
    return {name: int(np.sum(label == code)) for name, code in codes.items()}


def _sum(recordings: list[dict[str, Any]], key: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for r in recordings:
        for name, count in r[key].items():
            total[name] = total.get(name, 0) + count
    return total


def _rate(times: NDArray[np.int64]) -> float | None:
    """Rows a second by the median step, so that gaps do not count."""
    return float(NS / np.median(np.diff(times))) if len(times) > 1 else None


def _counts(splits: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in splits.items())


def _balance(classes: dict[str, int]) -> str:
    labelled = classes["normal"] + classes["abnormal"]
    if not labelled:
        return f"{classes['unlabelled']} unlabelled"
    share = classes["abnormal"] / labelled
    rest = f", {classes['unlabelled']} unlabelled" if classes["unlabelled"] else ""
    return f"normal {classes['normal']}, abnormal {classes['abnormal']} ({share:.1%}){rest}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:.2f} s" if minutes else f"{rest:.2f} s"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _folder_bytes(path: Place) -> int | None:
    """None where it cannot be known: plain HTTP lists no files."""
    if isinstance(path, RemotePath):
        try:
            return sum(path.sizes().values())
        except FailedError:
            return None
    return sum((path / name).stat().st_size for name in file_names(path))
