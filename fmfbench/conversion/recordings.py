"""One recording of a source into the store; shards that an earlier run committed are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.conversion.work import Work
from fmfbench.errors import SourceError
from fmfbench.sources.source import FrameStream, SourceRecording
from fmfbench.store.fingerprint import Fingerprint, LabelFacts
from fmfbench.store.schema import (
    SPLITS,
    UNLABELLED,
    ArraySpec,
    current_spec,
    mask_spec,
    row_spec,
    time_spec,
    video_spec,
)
from fmfbench.store.shards import ArrayReader, shard_pieces
from fmfbench.store.writer import StoreWriter
from fmfbench.version import installed_version

__all__ = ["SOURCE_LAYER", "write_recording"]

SOURCE_LAYER = "source"


def write_recording(
    writer: StoreWriter,
    recording: SourceRecording,
    work: Work,
    sums: Fingerprint,
    advance: Callable[[int], Any],
) -> Future[Any]:
    """Labels first: the fingerprint is then made while the video is written. Its future is returned."""
    base = f"recordings/{recording.name}"
    measured = recording.unmeasured is not None
    if measured:
        recording = _write_and_measure(writer, recording, work, advance)
    n, h, w = recording.num_frames, recording.height, recording.width
    writer.write_group(f"{base}/labels", {})
    class_label = np.full(n, UNLABELLED, np.uint8)
    masks: Iterable[NDArray[np.uint8]] = ()
    if recording.pixel_labels is not None:
        layer = f"{base}/labels/{SOURCE_LAYER}"
        provenance: dict[str, Any] = {
            "tool": "fmfbench convert", "version": installed_version(), "parameters": {}, "parent": None,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "events": [],
        }  # fmt: skip
        spec = mask_spec(n, h, w, {"fmfbench.provenance": provenance})
        # From the first frame even when some are there: 0/1 and 0/255 are told apart over the whole stream.
        _write_stream(writer, layer, spec, recording.pixel_labels, work, skip=False)
        reader = ArrayReader(writer.root / layer)
        for start, block in _shards(reader):
            class_label[start : start + len(block)] = block.reshape(len(block), -1).max(axis=1, initial=0)
        masks = (block for _, block in _shards(reader))
    elif recording.frame_labels is not None:
        class_label = recording.frame_labels
    facts = LabelFacts(
        name=recording.name, num_frames=n, height=h, width=w, split=recording.split, class_label=class_label,
        masks=masks,
    )  # fmt: skip
    added = work.in_order(sums.add, facts)
    rows: dict[str, tuple[ArraySpec, NDArray[Any]]] = {
        "frame_time": (time_spec(n, "frame", recording.time_origin), recording.frame_time),
        "current": (current_spec(len(recording.current)), recording.current),
        "current_time": (
            time_spec(len(recording.current), "sample", recording.time_origin),
            recording.current_time,
        ),
        "split": (row_spec(n, SPLITS), recording.split),
        "class_label": (row_spec(n, {"normal": 0, "abnormal": 1, "unlabelled": UNLABELLED}), class_label),
    }
    for name, (row, values) in rows.items():
        writer.write_array(f"{base}/{name}", row)
        for index in range(row.num_shards):
            first, last = row.shard_range(index)
            writer.commit_shard(f"{base}/{name}", row, index, shard_pieces(row, values[first:last]))
    counts = {name: int((recording.split == value).sum()) for name, value in SPLITS.items()}
    writer.write_group(
        base,
        {"fmfbench.counts": {"frames": n, **counts}, "fmfbench.remarks": list(recording.remarks)},
    )
    if measured:
        writer.write_array(f"{base}/video", video_spec(n, h, w))
    else:
        _write_stream(writer, f"{base}/video", video_spec(n, h, w), recording.video, work, advance)
    return added


def _write_and_measure(
    writer: StoreWriter, recording: SourceRecording, work: Work, advance: Callable[[int], Any]
) -> SourceRecording:
    """Write the frames of a recording that is counted and timed as it is read; what it then is.

    A shard's note is there before the shard: a resumed run reads on after the last whole shard whose note is there.
    """
    unmeasured = recording.unmeasured
    assert unmeasured is not None
    name = f"recordings/{recording.name}/video"
    shard = video_spec(0, recording.height, recording.width).shard

    def spec_up_to(frames: int) -> ArraySpec:
        return video_spec(frames, recording.height, recording.width)

    notes: list[bytes] = []
    while (note := writer.read_note(name, len(notes))) is not None:
        if not writer.has_shard(name, spec_up_to((len(notes) + 1) * shard), len(notes)):
            break
        notes.append(note)
        advance(shard)
    shards = work.shards()
    for block, note in unmeasured.timed_blocks(shard, list(notes)):
        shards.wait_for_room()
        index = len(notes)
        writer.write_note(name, index, note)
        spec = spec_up_to(index * shard + len(block))
        shards.add(_commit, writer, name, spec, index, block)
        notes.append(note)
        advance(len(block))
    shards.finish()
    return unmeasured.measured(notes)


def _shards(reader: ArrayReader) -> Iterator[tuple[int, NDArray[Any]]]:
    for index in range(reader.spec.num_shards):
        first, last = reader.spec.shard_range(index)
        yield first, reader.read(first, last)


def _write_stream(
    writer: StoreWriter,
    name: str,
    spec: ArraySpec,
    stream: FrameStream,
    work: Work,
    advance: Callable[[int], Any] = lambda frames: None,
    *,
    skip: bool = True,
) -> None:
    """Encode and commit a stream of frames; shards that an earlier run committed are kept.

    With `skip`, reading begins with the first frame of the first shard that is not there.
    """
    writer.write_array(name, spec)
    checks = [work.encode(writer.has_shard, name, spec, index) for index in range(spec.num_shards)]
    there: list[bool] = [check.result() for check in checks]
    if all(there):
        advance(spec.length)
        return
    index = there.index(False) if skip else 0
    position = index * spec.shard
    advance(position)
    shards = work.shards()
    for block in stream.blocks(spec.shard, position):
        shards.wait_for_room()
        if index < len(there) and not there[index]:
            shards.add(_commit, writer, name, spec, index, block)
        position, index = position + len(block), index + 1
        advance(len(block))
    shards.finish()
    if position != spec.length:
        raise SourceError(
            f"{name}: expected {spec.length} frames, got {position} before the source ended; it is truncated"
        )


def _commit(writer: StoreWriter, name: str, spec: ArraySpec, index: int, block: NDArray[Any]) -> None:
    writer.commit_shard(name, spec, index, shard_pieces(spec, block))
