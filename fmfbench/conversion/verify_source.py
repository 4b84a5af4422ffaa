"""A store compared with the files it was converted from, value by value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.conversion.findings import Findings
from fmfbench.errors import FmfbenchError, SourceError
from fmfbench.files.remote import Place
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import FrameStream, Options, SourceRecording
from fmfbench.store.shards import ArrayReader

__all__ = ["compare_with_source"]

_LAYER = "source"
_NOTED_FRAMES = 64


def compare_with_source(
    store: Place,
    path: Path,
    attributes: Mapping[str, Any] | None,
    names: list[str],
    workers: int,
    findings: Findings,
) -> None:
    """Read `path` as the conversion did, and note every difference as damage.

    What of the store cannot be read is left out; it has been named.

    Raises:
        SourceError: there is nothing to compare with at `path`, which says nothing of the store.
    """
    try:
        source = open_source(path, _options(attributes or {}, workers))
    except (FmfbenchError, OSError) as error:
        raise SourceError(
            f"{path}: expected the source that {store} was converted from, got another: {_own_words(error, path)}"
        ) from error
    theirs = {r.name: r for r in source.recordings}
    for name in sorted(set(theirs) ^ set(names)):
        where = "the source" if name in theirs else "the store"
        findings.damaged(f"recordings/{name}", "source", f"is in {where} only")
    default = (attributes or {}).get("fmfbench.default_layer")
    for name in sorted(set(theirs) & set(names)):
        try:
            _compare_recording(store, theirs[name], default, findings)
        except (FmfbenchError, OSError) as error:
            findings.damaged(f"recordings/{name}", "source", f"cannot be compared: {_own_words(error, path)}")


def _options(attributes: Mapping[str, Any], workers: int) -> Options:
    """The options of the conversion, as the store tells them."""
    given = attributes.get("fmfbench.options")
    given = given if isinstance(given, dict) else {}
    return Options(
        layout=attributes.get("fmfbench.layout"),
        names=dict(given.get("map", {})),
        time_format=given.get("time_format"),
        fps=Fraction(given.get("fps", 25)),
        steady="fps" in given,
        crop=tuple(given["crop"]) if "crop" in given else None,
        size=tuple(given["size"]) if "size" in given else None,
        workers=workers,
        only=tuple(given.get("only", ())),
        allow_damaged=bool(given.get("allow_damaged", False)),
        offset=Fraction(given.get("offset", 0)),
        current_hz=Fraction(given["current_hz"]) if "current_hz" in given else None,
        decimal=given.get("decimal"),
    )


def _compare_recording(
    store: Place, source: SourceRecording, default: str | None, findings: Findings
) -> None:
    base = f"recordings/{source.name}"
    if source.unmeasured is not None:
        notes = [note for _, note in source.unmeasured.timed_blocks(_NOTED_FRAMES, [])]
        source = source.unmeasured.measured(notes)
    rows: dict[str, NDArray[Any]] = {
        "frame_time": source.frame_time,
        "current": source.current,
        "current_time": source.current_time,
        "split": source.split,
    }
    if source.frame_labels is not None and default is None:
        rows["class_label"] = source.frame_labels
    for which, values in rows.items():
        reader = _reader(store / base / which)
        if reader is not None:
            _compare_rows(f"{base}/{which}", reader, values, findings)
    streams: dict[str, FrameStream] = {"video": source.video}
    if source.pixel_labels is not None:
        streams[f"labels/{_LAYER}"] = source.pixel_labels
    for which, stream in streams.items():
        reader = _reader(store / base / which)
        if reader is not None:
            _compare_frames(f"{base}/{which}", reader, stream, source.num_frames, findings)


def _reader(path: Place) -> ArrayReader | None:
    try:
        return ArrayReader(path)
    except (FmfbenchError, OSError):  # named already
        return None


def _compare_rows(where: str, reader: ArrayReader, values: NDArray[Any], findings: Findings) -> None:
    if reader.spec.shape != values.shape:
        findings.damaged(where, "source", f"has shape {reader.spec.shape}, the source {values.shape}")
        return
    try:
        ours = reader.read()
    except (FmfbenchError, OSError):  # named already
        return
    nans = values.dtype.kind == "f"
    same = (ours == values) | (np.isnan(ours) & np.isnan(values)) if nans else ours == values
    wrong = np.flatnonzero(~same.all(axis=tuple(range(1, same.ndim))))
    if len(wrong):
        findings.damaged(
            where, "source", f"{len(wrong)} entries are not the source's, the first is entry {wrong[0]}"
        )


def _compare_frames(
    where: str, reader: ArrayReader, stream: FrameStream, num_frames: int, findings: Findings
) -> None:
    if reader.spec.length != num_frames:
        findings.damaged(where, "source", f"has {reader.spec.length} frames, the source {num_frames}")
        return
    wrong: list[int] = []
    for start, block in _numbered(stream.blocks(reader.spec.shard)):
        if block.shape[1:] != reader.spec.shape[1:]:
            shapes = f"frames of shape {reader.spec.shape[1:]}, the source {block.shape[1:]}"
            findings.damaged(where, "source", f"has {shapes}")
            return
        try:
            ours = reader.read(start, start + len(block))
        except (FmfbenchError, OSError):  # named already
            continue
        differs = (ours != block).reshape(len(block), -1).any(axis=1)
        wrong += (np.flatnonzero(differs) + start).tolist()
    if wrong:
        findings.damaged(
            where, "source", f"{len(wrong)} frames are not the source's, the first is frame {wrong[0]}"
        )


def _numbered(blocks: Iterator[NDArray[Any]]) -> Iterator[tuple[int, NDArray[Any]]]:
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)


def _own_words(error: Exception, path: Path) -> str:
    """The message without the path in front, which a finding names anyway."""
    return str(error).removeprefix(f"{path}: ")
