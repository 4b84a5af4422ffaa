"""Sources into a store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fmfbench.conversion.recordings import SOURCE_LAYER, write_recording
from fmfbench.conversion.work import Work
from fmfbench.errors import FailedError, InputError, SourceError
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import Options, Source
from fmfbench.store.fingerprint import Fingerprint
from fmfbench.store.schema import SCHEMA
from fmfbench.store.upload import make_behind
from fmfbench.store.writer import StoreWriter, check_target, file_sha256, is_half_made, open_writer
from fmfbench.version import installed_version

__all__ = ["convert", "convert_opened", "file_stamps", "make_options"]


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
    options = make_options(
        layout, names, time_format, fps, crop, size, workers, only=only, allow_damaged=allow_damaged,
        offset=offset, current_hz=current_hz, decimal=decimal,
    )  # fmt: skip

    def make(here: Path, overwrite: bool) -> None:
        with _system_errors(here):
            check_target(here, overwrite=overwrite or is_half_made(here))
            convert_opened(
                open_source(source, options), here, options, overwrite=overwrite, progress=progress
            )

    if isinstance(target, RemotePath):
        facts = {"files": file_stamps(open_source(source, options)), "options": options.to_dict(),
                 "version": installed_version()}  # fmt: skip
        return make_behind(
            target, facts, lambda here: make(here, here.exists() or overwrite), overwrite=overwrite
        )
    make(target, overwrite)
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
        done = [write_recording(writer, r, work, sums, bar.update) for r in source.recordings]
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


def file_stamps(source: Source) -> list[list[Any]]:
    """[path relative to the source, size, time of last change] of every file, in order of path."""
    base = source.path if source.path.is_dir() else source.path.parent
    out = []
    for path in source.files:
        status = path.stat()
        out.append([path.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns])
    return out
