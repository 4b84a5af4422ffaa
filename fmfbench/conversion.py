"""Sources into a store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import fmfbench
from fmfbench.errors import FailedError, InputError, SourceError
from fmfbench.fingerprint import LabelFacts, fingerprint
from fmfbench.schema import (
    SCHEMA,
    SPLITS,
    UNLABELLED,
    ArraySpec,
    current_spec,
    mask_spec,
    row_spec,
    time_spec,
    video_spec,
)
from fmfbench.shards import ArrayReader, encode_shard
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import FrameStream, Options, Source, SourceRecording
from fmfbench.store import StoreWriter, check_target, file_sha256, open_writer

__all__ = ["convert"]

SOURCE_LAYER = "source"


def convert(
    source: str | Path,
    target: str | Path,
    *,
    layout: str | None = None,
    names: dict[str, str] | None = None,
    time_format: str | None = None,
    fps: float | Fraction = 25,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Convert recordings into a store.

    Args:
        source: a `.mat` file, a folder of V1 files, a V2 tree or its parent, a raw video or a folder of them.
        target: the store to make.
        layout: "v1", "v2" or "recording" where it cannot be detected.
        names: variable names of the source by ours, as `{"video": "Video"}`.
        time_format: `strptime` format of the time strings.
        fps: nominal frames a second.
        crop: x, y, width, height to keep of a raw recording, in its pixels.
        size: width, height to store a raw recording at.
        workers: threads; all cores by default. The bytes do not depend on it.
        overwrite: replace a finished store, and start over where a half-made one is of other input.
        progress: show a bar on stderr.

    Returns:
        The store's path. Killed at any point, the same call continues.

    Raises:
        SourceError: the source cannot be converted; nothing is left behind.
        StoreError: the target is in the way.
        FailedError: the disk is full, or the source changed while it was read.
    """
    target = Path(target)
    options = make_options(layout, names, time_format, fps, crop, size, workers)
    check_target(target, overwrite=overwrite)
    opened = open_source(source, options)
    started = time.time()
    stamps = _file_stamps(opened)
    identity = {"files": stamps, "layout": opened.layout, "options": options.to_dict(), "schema": SCHEMA,
                "version": fmfbench.__version__}  # fmt: skip
    try:
        with open_writer(target, identity, overwrite=overwrite) as writer:
            try:
                _write(writer, opened, options, started, stamps, progress)
            except InputError:
                writer.discard()
                raise
    except OSError as error:
        raise FailedError(
            f"{error.filename or target}: {error.strerror or error}; "
            "what is done is kept: mend it and run the same command again"
        ) from error
    return target


def make_options(
    layout: str | None,
    names: dict[str, str] | None,
    time_format: str | None,
    fps: float | Fraction,
    crop: tuple[int, int, int, int] | None,
    size: tuple[int, int] | None,
    workers: int | None,
) -> Options:
    """Options of a source, checked."""
    if not 0 < fps <= 10_000:
        raise SourceError(f"wanted frames a second above 0, found {fps}")
    workers = workers if workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise SourceError(f"wanted at least one worker, found {workers}")
    rate = Fraction(fps).limit_denominator(1_000_000)
    return Options(
        layout=layout, names=dict(names or {}), time_format=time_format, fps=rate, crop=crop, size=size,
        workers=workers,
    )  # fmt: skip


def _write(
    writer: StoreWriter,
    source: Source,
    options: Options,
    started: float,
    stamps: list[list[Any]],
    progress: bool,
) -> None:
    total = sum(r.num_frames for r in source.recordings)
    with (
        ThreadPoolExecutor(options.workers) as pool,
        tqdm(total=total, unit="frame", desc="convert", disable=None if progress else True) as bar,
    ):
        hashes = [pool.submit(file_sha256, path) for path in source.files]
        writer.write_group("recordings", {})
        facts = [_write_recording(writer, r, pool, options.workers, bar.update) for r in source.recordings]
        sha256 = [future.result() for future in hashes]
    if _file_stamps(source) != stamps:
        writer.discard()
        raise FailedError(
            f"{source.path}: changed while it was read; run the command again when nothing writes to it"
        )
    has_layer = any(r.pixel_labels is not None for r in source.recordings)
    writer.finish(
        {
            "fmfbench.schema": SCHEMA,
            "fmfbench.name": writer.target.stem,
            "fmfbench.created_by": f"fmfbench {fmfbench.__version__}",
            "fmfbench.layout": source.layout,
            "fmfbench.options": options.to_dict(),
            "fmfbench.sources": [
                {"path": stamp[0], "size": stamp[1], "sha256": value}
                for stamp, value in zip(stamps, sha256, strict=True)
            ],
            "fmfbench.default_layer": SOURCE_LAYER if has_layer else None,
            "fmfbench.fingerprint": fingerprint(facts),
            "fmfbench.created": {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "seconds": round(time.time() - started, 3),
            },
        }
    )


def _write_recording(
    writer: StoreWriter,
    recording: SourceRecording,
    pool: ThreadPoolExecutor,
    workers: int,
    advance: Callable[[int], Any],
) -> LabelFacts:
    base = f"recordings/{recording.name}"
    n, h, w = recording.num_frames, recording.height, recording.width
    _write_stream(writer, f"{base}/video", video_spec(n, h, w), recording.video, pool, workers, advance)
    writer.write_group(f"{base}/labels", {})
    class_label = np.full(n, UNLABELLED, np.uint8)
    layer = None
    if recording.pixel_labels is not None:
        layer = f"{base}/labels/{SOURCE_LAYER}"
        provenance: dict[str, Any] = {
            "tool": "fmfbench convert", "version": fmfbench.__version__, "parameters": {}, "parent": None,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "events": [],
        }  # fmt: skip
        spec = mask_spec(n, h, w, {"fmfbench.provenance": provenance})
        _write_stream(writer, layer, spec, recording.pixel_labels, pool, workers, None)
    elif recording.frame_labels is not None:
        class_label = recording.frame_labels
    if layer is not None:
        reader = ArrayReader(writer.root / layer)
        for start, block in _shards(reader):
            class_label[start : start + len(block)] = block.any(axis=(1, 2))
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
            writer.commit_shard(f"{base}/{name}", row, index, encode_shard(row, values[first:last]))
    writer.write_group(base, {"fmfbench.remarks": list(recording.remarks)})
    return LabelFacts(
        name=recording.name, num_frames=n, height=h, width=w, split=recording.split, class_label=class_label,
        masks=(block for _, block in _shards(ArrayReader(writer.root / layer))) if layer else (),
    )  # fmt: skip


def _shards(reader: ArrayReader) -> Iterator[tuple[int, NDArray[Any]]]:
    for index in range(reader.spec.num_shards):
        first, last = reader.spec.shard_range(index)
        yield first, reader.read(first, last)


def _write_stream(
    writer: StoreWriter,
    name: str,
    spec: ArraySpec,
    stream: FrameStream,
    pool: ThreadPoolExecutor,
    workers: int,
    advance: Callable[[int], Any] | None,
) -> None:
    """Encode and commit a stream of frames; shards that an earlier run committed are kept."""
    writer.write_array(name, spec)
    there = [writer.has_shard(name, spec, index) for index in range(spec.num_shards)]
    first = there.index(False) if False in there else spec.num_shards
    start = min(spec.length, first * spec.shard)
    if advance is not None:
        advance(start)
    if start >= spec.length:
        return
    pending: set[Future[None]] = set()
    position, index = start, first
    for block in stream.blocks(spec.shard, start):
        if len(pending) > workers:  # the memory that a conversion may take
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
        if not there[index]:
            pending.add(pool.submit(_commit, writer, name, spec, index, block))
        position, index = position + len(block), index + 1
        if advance is not None:
            advance(len(block))
    for future in pending:
        future.result()
    if position != spec.length:
        raise SourceError(
            f"{name}: wanted {spec.length} frames, the source ended after {position}; it is truncated"
        )


def _commit(writer: StoreWriter, name: str, spec: ArraySpec, index: int, block: NDArray[Any]) -> None:
    writer.commit_shard(name, spec, index, encode_shard(spec, block))


def _file_stamps(source: Source) -> list[list[Any]]:
    """[path relative to the source, size, time of last change] of every file, in order of path."""
    base = source.path if source.path.is_dir() else source.path.parent
    out = []
    for path in source.files:
        status = path.stat()
        out.append([path.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns])
    return out
