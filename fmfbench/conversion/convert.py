"""Sources into a store."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fmfbench.errors import FailedError, InputError, SourceError
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import FrameStream, Options, Source, SourceRecording
from fmfbench.store.fingerprint import Fingerprint, LabelFacts
from fmfbench.store.schema import (
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
from fmfbench.store.shards import ArrayReader, shard_pieces
from fmfbench.store.upload import make_behind
from fmfbench.store.writer import StoreWriter, check_target, file_sha256, is_half_made, open_writer
from fmfbench.version import installed_version

__all__ = ["convert", "convert_opened", "file_stamps", "make_options"]

SOURCE_LAYER = "source"
_MOST_LANES = 8  # each holds a shard


def convert(
    source: str | Path,
    target: str | Place,
    *,
    layout: str | None = None,
    names: dict[str, str] | None = None,
    time_format: str | None = None,
    fps: float | Fraction | None = None,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    only: Iterable[str] = (),
    allow_damaged: bool = False,
    offset: float | Fraction = 0,
    current_hz: float | Fraction | None = None,
    decimal: str | None = None,
) -> Place:
    """Convert recordings into a store.

    Args:
        source: a `.mat` file, a folder of V1 files, a V2 tree or its parent, a raw video or a folder of them.
        target: the store to make: a path, or the URL of a bucket (extra `[cloud]`), where it is put together on
            this machine first and its root comes last.
        layout: "v1", "v2" or "recording" where it cannot be detected.
        names: variable names of the source by ours, as `{"video": "Video"}`.
        time_format: `strptime` format of the time strings.
        fps: nominal frames a second (25); of a raw video, a steady rate in the place of its time stamps.
        crop: x, y, width, height to keep of a raw recording, in its pixels.
        size: width, height to store a raw recording at.
        workers: threads; all cores by default. The bytes do not depend on it.
        overwrite: replace a finished store, and start over where a half-made one is of other input.
        progress: show a bar on stderr.
        only: names of the recordings to convert, where not all of a source's are wanted or there.
        allow_damaged: keep what decodes of a truncated or damaged video; what is lost stands in the remarks.
        offset: seconds added to the times of a raw video, against those of its table.
        current_hz: rows a second of a table without times, or with times of whole seconds.
        decimal: "." or ",", where the numbers of a table can be read both ways.

    Returns:
        The store's path. Killed at any point, the same call continues.

    Raises:
        SourceError: the source cannot be converted; nothing is left behind.
        StoreError: the target is in the way.
        FailedError: the disk is full, or the source changed while it was read.

    Example:
        >>> fmfbench.convert("furnace", "again.zarr").name
        'again.zarr'
    """
    target = parse_place(target)
    if isinstance(target, RemotePath):
        options = make_options(
            layout, names, time_format, fps, crop, size, workers, only=only, allow_damaged=allow_damaged,
            offset=offset, current_hz=current_hz, decimal=decimal,
        )  # fmt: skip
        facts = {"files": file_stamps(open_source(source, options)), "options": options.to_dict(),
                 "version": installed_version()}  # fmt: skip

        def make(here: Path) -> None:
            convert(
                source, here, layout=layout, names=names, time_format=time_format, fps=fps, crop=crop, size=size,
                workers=workers, overwrite=here.exists() or overwrite, progress=progress, only=only,
                allow_damaged=allow_damaged, offset=offset, current_hz=current_hz, decimal=decimal,
            )  # fmt: skip

        return make_behind(target, facts, make, overwrite=overwrite)
    options = make_options(
        layout, names, time_format, fps, crop, size, workers, only=only, allow_damaged=allow_damaged,
        offset=offset, current_hz=current_hz, decimal=decimal,
    )  # fmt: skip
    with _system_errors(target):
        check_target(target, overwrite=overwrite or is_half_made(target))
        convert_opened(open_source(source, options), target, options, overwrite=overwrite, progress=progress)
    return target


def convert_opened(
    opened: Source, target: Path, options: Options, *, overwrite: bool = False, progress: bool = False
) -> None:
    """`convert` of a source that was opened with `options`, into a path."""
    with _system_errors(target):
        stamps = file_stamps(opened)
        identity = {"files": stamps, "layout": opened.layout, "options": options.to_dict(), "schema": SCHEMA,
                    "version": installed_version()}  # fmt: skip
        with open_writer(target, identity, overwrite=overwrite) as writer:
            if not writer.finished:
                _write_or_discard(writer, opened, options, stamps, progress)


@contextmanager
def _system_errors(target: Path) -> Iterator[None]:
    """FailedError in the place of an error of the file system."""
    try:
        yield
    except OSError as error:
        raise FailedError(
            f"{error.filename or target}: {error.strerror or error}; once that is mended, the same command "
            "resumes where it was"
        ) from error


def make_options(
    layout: str | None = None,
    names: dict[str, str] | None = None,
    time_format: str | None = None,
    fps: float | Fraction | None = None,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    workers: int | None = None,
    *,
    only: Iterable[str] = (),
    allow_damaged: bool = False,
    offset: float | Fraction = 0,
    current_hz: float | Fraction | None = None,
    decimal: str | None = None,
) -> Options:
    """Options of a source, checked."""
    if current_hz is not None and not 0 < current_hz <= 10_000:
        raise SourceError(f"expected current rows a second above 0 and at most 10000, got {current_hz}")
    if not -1e9 < offset < 1e9:
        raise SourceError(f"expected an offset in seconds, got {offset}")
    if decimal not in (None, ".", ","):
        raise SourceError(f"expected a decimal sign of . or , , got {decimal!r}")
    if fps is not None and not 0 < fps <= 10_000:
        raise SourceError(f"expected frames a second above 0 and at most 10000, got {fps}")
    workers = workers if workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise SourceError(f"expected at least one worker, got {workers}")
    rate = Fraction(25 if fps is None else fps).limit_denominator(1_000_000)
    return Options(
        layout=layout, names=dict(names or {}), time_format=time_format, fps=rate, crop=crop, size=size,
        steady=fps is not None,
        workers=workers, only=tuple(only), allow_damaged=allow_damaged,
        offset=Fraction(offset).limit_denominator(1_000_000_000),
        current_hz=None if current_hz is None else Fraction(current_hz).limit_denominator(1_000_000),
        decimal=decimal,
    )  # fmt: skip


def _write_or_discard(
    writer: StoreWriter, source: Source, options: Options, stamps: list[list[Any]], progress: bool
) -> None:
    """A half-made store stays when the work was interrupted, and goes when its source was at fault."""
    try:
        _write(writer, source, options, stamps, progress)
    except InputError:
        writer.discard()
        _check_unchanged(source, stamps)  # else the fault may be that of whoever writes to the source
        raise


def _write(
    writer: StoreWriter, source: Source, options: Options, stamps: list[list[Any]], progress: bool
) -> None:
    started = time.time()
    total = sum(r.num_frames for r in source.recordings)
    work = Work(options.workers)
    sums = Fingerprint()
    with (
        work,
        tqdm(total=total, unit="frame", desc="convert", disable=None if progress else True) as bar,
    ):
        hashes = [work.aside(file_sha256, path, work.stopped) for path in source.files]
        writer.write_group("recordings", {})
        done = [_write_recording(writer, r, work, sums, bar.update) for r in source.recordings]
        for future in done:
            future.result()
        sha256 = [future.result() for future in hashes]
    _check_unchanged(source, stamps, writer)
    has_layer = any(r.pixel_labels is not None for r in source.recordings)
    writer.finish(
        {
            "fmfbench.schema": SCHEMA,
            "fmfbench.name": writer.target.stem,
            "fmfbench.created_by": f"fmfbench {installed_version()}",
            "fmfbench.layout": source.layout,
            "fmfbench.options": options.to_dict(),
            "fmfbench.sources": [
                {"path": stamp[0], "size": stamp[1], "sha256": value}
                for stamp, value in zip(stamps, sha256, strict=True)
            ],
            "fmfbench.default_layer": SOURCE_LAYER if has_layer else None,
            "fmfbench.fingerprint": sums.hexdigest(),
            "fmfbench.created": {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "seconds": round(time.time() - started, 3),
            },
        }
    )


def _check_unchanged(source: Source, stamps: list[list[Any]], writer: StoreWriter | None = None) -> None:
    """FailedError where a file of the source is not what it was when the conversion began."""
    try:
        if file_stamps(source) == stamps:
            return
    except OSError:  # no longer there
        pass
    if writer is not None:
        writer.discard()
    raise FailedError(
        f"{source.path}: changed while it was read; run the command again when nothing writes to it"
    )


class Work:
    """Threads of one conversion: those that encode, and two that hash beside them."""

    def __init__(self, workers: int) -> None:
        self.lanes = min(workers, _MOST_LANES)
        self.stopped = threading.Event()
        self._encoders = ThreadPoolExecutor(self.lanes, "fmfbench-encode")
        self._hashers = ThreadPoolExecutor(1, "fmfbench-hash")
        self._accounts = ThreadPoolExecutor(1, "fmfbench-fingerprint")

    def encode(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._encoders.submit(task, *arguments)

    def aside(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """One after the other, beside the encoding: hashes of source files."""
        return self._hashers.submit(task, *arguments)

    def in_order(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """One after the other, in the order given: what the fingerprint is made of."""
        return self._accounts.submit(task, *arguments)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            self.stopped.set()
        for pool in (self._encoders, self._hashers, self._accounts):
            pool.shutdown(cancel_futures=error is not None)


def _write_recording(
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
    pending: set[Future[None]] = set()
    for block, note in unmeasured.timed_blocks(shard, list(notes)):
        if len(pending) > work.lanes:  # bounds the memory that a conversion takes
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
        index = len(notes)
        writer.write_note(name, index, note)
        spec = spec_up_to(index * shard + len(block))
        pending.add(work.encode(_commit, writer, name, spec, index, block))
        notes.append(note)
        advance(len(block))
    for future in pending:
        future.result()
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
    pending: set[Future[None]] = set()
    for block in stream.blocks(spec.shard, position):
        if len(pending) > work.lanes:  # bounds the memory that a conversion takes
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
        if index < len(there) and not there[index]:
            pending.add(work.encode(_commit, writer, name, spec, index, block))
        position, index = position + len(block), index + 1
        advance(len(block))
    for future in pending:
        future.result()
    if position != spec.length:
        raise SourceError(
            f"{name}: expected {spec.length} frames, got {position} before the source ended; it is truncated"
        )


def _commit(writer: StoreWriter, name: str, spec: ArraySpec, index: int, block: NDArray[Any]) -> None:
    writer.commit_shard(name, spec, index, shard_pieces(spec, block))


def file_stamps(source: Source) -> list[list[Any]]:
    """[path relative to the source, size, time of last change] of every file, in order of path."""
    base = source.path if source.path.is_dir() else source.path.parent
    out = []
    for path in source.files:
        status = path.stat()
        out.append([path.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns])
    return out
