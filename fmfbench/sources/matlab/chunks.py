"""Chunks of a v7.3 dataset: read as bytes, inflated on several threads, laid upright into frames.

HDF5 hands out one chunk at a time from under one lock. Here the library is asked only where the chunks lie;
the bytes are read, inflated and transposed side by side. Filters other than those of the MAT files' writers
(shuffle, deflate, fletcher32) are left to h5py, chunk by chunk.

A *row* is all chunks that hold the same frames. A row that fits in memory is built there; one that does not
(chunks may be as long as the recording) is inflated once into a temporary file, chunk after chunk. In a chunk
the frames are the slowest axis, so a few frames of it are one run of bytes.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import FailedError
from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.inflate import PIECE, InflateError, inflate, inflate_whole
from fmfbench.sources.matlab.variable import place

__all__ = ["ChunkRows", "ChunkTable", "Pipeline", "ThreadTeam"]

ROW_BYTES = 32 << 20  # a row of chunks larger than this goes through a temporary file
BATCH_BYTES = 1 << 18  # of chunks that one thread takes at a time
SHARED_BYTES = 1 << 15  # chunks smaller than this are inflated by one thread
Item = TypeVar("Item")


class ThreadTeam:
    """Threads that start when they are first needed, shared by the variables of a file."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[Item], None], items: Iterable[Item], lanes: int) -> None:
        """work(item) for every item, at most `lanes` at a time; the first error stops the rest."""
        if lanes <= 1:
            for item in items:
                work(item)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, "fmfbench-chunks")
        todo, lock, failed = iter(items), threading.Lock(), threading.Event()

        def lane() -> None:
            try:
                while not failed.is_set():
                    with lock:
                        item = next(todo, None)
                    if item is None:
                        return
                    work(item)
            except BaseException:
                failed.set()
                raise

        futures: list[Future[None]] = [self._pool.submit(lane) for _ in range(lanes)]
        for error in [future.exception() for future in futures]:
            if error is not None:
                raise error

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The filters of a dataset, each by its place in the pipeline (its bit in a chunk's mask), or None."""

    shuffle: int | None = None
    deflate: int | None = None
    fletcher32: int | None = None


class ChunkTable:
    """The chunks of one dataset, by their place in the grid (C order), as inflated bytes.

    `offsets`, `sizes` and `masks` say where each lies and which filters it skipped; `fetch`, where given,
    gets a chunk's bytes instead (from h5py), whole, edge chunks padded.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        file: FileBytes,
        pipeline: Pipeline,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        masks: NDArray[np.uint32],
        fetch: Callable[[int], bytes] | None,
    ) -> None:
        self.shape = shape
        self.chunks = chunks
        self.dtype = dtype
        self.chunk_bytes = prod(chunks) * dtype.itemsize
        self._file = file
        self._pipeline = pipeline
        self._offsets = offsets
        self._sizes = sizes
        self._masks = masks
        self._fetch = fetch
        self._special = fetch is not None or pipeline.deflate is None or pipeline.fletcher32 is not None

    def pieces(self, number: int) -> Iterator[bytes]:
        """The bytes of a chunk, in pieces; still shuffled where `shuffled`. Raises InflateError, OSError."""
        if self._fetch is not None:
            yield self._fetch(number)
            return
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        if self._uses(self._pipeline.fletcher32, number):
            size -= 4
            stored = int.from_bytes(self._file.read_at(offset + size, 4), "little")
            if size < 0 or not same_fletcher32(fletcher32(self._stored(offset, size)), stored):
                raise InflateError(f"chunk {number} does not match its checksum")
        pieces: Iterable[bytes] = self._stored(offset, size)
        if self._uses(self._pipeline.deflate, number):
            yield from inflate(pieces, self.chunk_bytes)
        elif size != self.chunk_bytes:
            raise InflateError(f"chunk {number} holds {size} bytes, expected {self.chunk_bytes}")
        else:
            yield from pieces

    def shuffled(self, number: int) -> bool:
        """The bytes lie in planes: all first bytes of the values, all second bytes, ..."""
        return self._fetch is None and self.dtype.itemsize > 1 and self._uses(self._pipeline.shuffle, number)

    def values(self, number: int) -> NDArray[Any]:
        """A chunk of shape `chunks`, in the type stored, read-only. Raises InflateError, OSError."""
        data = self._in_one_step(number) or b"".join(self.pieces(number))
        if self.shuffled(number):
            data = unshuffle(data, self.dtype.itemsize)
        return np.frombuffer(data, self.dtype).reshape(self.chunks)

    def _in_one_step(self, number: int) -> bytes | None:
        """A chunk that is merely deflated, and small; None for the others and for damaged ones."""
        if self._special or self._masks[number]:
            return None
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        return inflate_whole(self._file.read_at(offset, size), self.chunk_bytes) if size <= PIECE else None

    def _stored(self, offset: int, size: int) -> Iterator[bytes]:
        for at in range(offset, offset + size, PIECE):
            wanted = min(PIECE, offset + size - at)
            piece = self._file.read_at(at, wanted)
            if len(piece) < wanted:
                raise InflateError(f"a chunk lies beyond byte {at + len(piece)}, where the file ends")
            yield piece

    def _uses(self, place: int | None, number: int) -> bool:
        return place is not None and not int(self._masks[number]) >> place & 1


def unshuffle(data: bytes, itemsize: int) -> bytes:
    """Values from planes of their bytes (HDF5's shuffle filter, undone)."""
    return np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()


def fletcher32(pieces: Iterable[bytes]) -> int:
    """HDF5's checksum of pieces of even length (the last may be odd): big-endian words, sums modulo 65535."""
    low = high = 0
    for piece in pieces:
        words = np.frombuffer(piece + b"\0" * (len(piece) % 2), ">u2").astype(np.int64)
        for first in range(0, len(words), 1 << 16):
            part = words[first : first + (1 << 16)]
            weighted = int(part @ np.arange(len(part), 0, -1))
            low, high = (low + int(part.sum())) % 65535, (high + len(part) * low + weighted) % 65535
    return high << 16 | low


def same_fletcher32(made: int, stored: int) -> bool:
    """Equal sums; HDF5 writes 65535 where the remainder is 0."""
    return made >> 16 == (stored >> 16) % 65535 and made & 0xFFFF == (stored & 0xFFFF) % 65535


class Box(NamedTuple):
    """Where the frame part of a chunk belongs."""

    crop: tuple[slice, ...]  # of the chunk's axes after the frame axis: the data in a padded edge chunk
    spot: tuple[slice, ...]  # of the upright frame's axes


class ChunkRows:
    """Upright frames from a table of chunks. `frame_ndim` axes are a frame's, the one before them counts."""

    def __init__(self, table: ChunkTable, frame_ndim: int, team: ThreadTeam, scratch: Path | None) -> None:
        self._table = table
        self._team = team
        self._scratch_folder = scratch
        lead = (
            len(table.shape) - frame_ndim - 1
        )  # axes of extent 1 before the frame axis; -1: none counts frames
        dims = table.shape[lead:] if lead >= 0 else (1, *table.shape)
        cut = table.chunks[lead:] if lead >= 0 else (1, *table.chunks)
        self._num_frames, self._frame = dims[0], dims[:0:-1]
        self.row_frames, self._part = cut[0], cut[1:]
        self._boxes = list(_boxes(dims[1:], cut[1:]))
        self.row_bytes = min(self.row_frames, self._num_frames) * prod(dims[1:]) * table.dtype.itemsize
        self.on_disk = max(self.row_bytes, table.chunk_bytes) > ROW_BYTES
        self._lock = threading.Lock()
        self._kept: tuple[int, NDArray[Any]] | None = None  # the last row that was not used up
        self._scratch: tuple[int, FileBytes] | None = None  # the last row that went to disk

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames start..stop-1, upright. Raises InflateError, OSError, FailedError."""
        out = np.empty((stop - start, *self._frame), self._table.dtype.newbyteorder("="))
        each = self.row_frames
        with self._lock:
            whole: list[int] = []
            for row in range(start // each, (stop - 1) // each + 1):
                a, b = row * each, min((row + 1) * each, self._num_frames)
                first, last = max(a, start), min(b, stop)
                target = out[first - start : last - start]
                if self.on_disk:
                    self._from_disk(row, first - a, last - a, target)
                elif (first, last) == (a, b):
                    whole.append(row)
                else:
                    target[...] = self._kept_row(row)[first - a : last - a]
            self._decode(whole, out, start)
        return out

    def close(self) -> None:
        if self._scratch is not None:
            self._scratch[1].close()

    def _kept_row(self, row: int) -> NDArray[Any]:
        if self._kept is None or self._kept[0] != row:
            count = min(self.row_frames, self._num_frames - row * self.row_frames)
            frames = np.empty((count, *self._frame), self._table.dtype.newbyteorder("="))
            self._kept = None
            self._decode([row], frames, row * self.row_frames)
            self._kept = (row, frames)
        return self._kept[1]

    def _decode(self, rows: list[int], out: NDArray[Any], first_frame: int) -> None:
        """Whole rows into `out`, whose first frame is `first_frame`."""

        def lay(batch: range) -> None:
            for job in batch:
                row, box = rows[job // len(self._boxes)], job % len(self._boxes)
                values = self._table.values(row * len(self._boxes) + box).reshape(-1, *self._part)
                begin = row * self.row_frames
                count = min(self.row_frames, self._num_frames - begin)
                crop, spot = self._boxes[box]
                target = out[(slice(begin - first_frame, begin - first_frame + count), *spot)]
                place(target, values[(slice(count), *crop)])

        jobs = len(rows) * len(self._boxes)
        batch = max(1, min(BATCH_BYTES // self._table.chunk_bytes, jobs // self._team.workers))
        lanes = min(self._lanes(), -(-jobs // batch))
        self._team.each(lay, (range(j, min(j + batch, jobs)) for j in range(0, jobs, batch)), lanes)

    def _lanes(self) -> int:
        """Threads at work: each holds a chunk and its stored bytes; small chunks are not worth a second."""
        if self._table.chunk_bytes < SHARED_BYTES:
            return 1
        return max(1, min(self._team.workers, 2 * ROW_BYTES // max(1, self._table.chunk_bytes)))

    def _from_disk(self, row: int, first: int, last: int, target: NDArray[Any]) -> None:
        file = self._row_on_disk(row)
        table, size = self._table, self._table.dtype.itemsize
        per_frame = prod(self._part)
        plane = table.chunk_bytes // size

        def lay(box: int) -> None:
            slot = box * table.chunk_bytes
            count, at = (last - first) * per_frame, first * per_frame
            if table.shuffled(row * len(self._boxes) + box):
                planes = [file.read_at(slot + p * plane + at, count) for p in range(size)]
                data = unshuffle(b"".join(planes), size)
            else:
                data = file.read_at(slot + at * size, count * size)
            values = np.frombuffer(data, table.dtype).reshape(last - first, *self._part)
            crop, spot = self._boxes[box]
            place(target[(slice(None), *spot)], values[(slice(None), *crop)])

        self._team.each(lay, range(len(self._boxes)), self._team.workers)

    def _row_on_disk(self, row: int) -> FileBytes:
        if self._scratch is not None and self._scratch[0] == row:
            return self._scratch[1]
        self.close()
        self._scratch = None
        wanted = len(self._boxes) * self._table.chunk_bytes
        folder = str(self._scratch_folder or tempfile.gettempdir())
        try:
            file = FileBytes(tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115 - lives on
        except OSError as error:
            raise FailedError(
                f"cannot make a temporary file in {folder}: {error.strerror}; set TMPDIR"
            ) from error

        def inflate_to_disk(box: int) -> None:
            at = box * self._table.chunk_bytes
            for piece in self._table.pieces(row * len(self._boxes) + box):
                try:
                    file.write_at(at, piece)
                except OSError as error:
                    needs = f"{wanted} bytes for one row of chunks"
                    raise FailedError(
                        f"cannot write a temporary file in {folder} ({needs}): {error.strerror}; set TMPDIR"
                    ) from error
                at += len(piece)

        try:
            self._team.each(inflate_to_disk, range(len(self._boxes)), self._team.workers)
        except BaseException:
            file.close()
            raise
        self._scratch = (row, file)
        return file


def _boxes(dims: tuple[int, ...], part: tuple[int, ...]) -> Iterator[Box]:
    """Every chunk of a row, in the order of the grid; `dims` and `part` without the frame axis."""
    grid = [range(-(-extent // step)) for extent, step in zip(dims, part, strict=True)]
    for index in itertools.product(*grid):
        lows = [i * step for i, step in zip(index, part, strict=True)]
        highs = [min(low + step, extent) for low, step, extent in zip(lows, part, dims, strict=True)]
        yield Box(
            crop=tuple(slice(high - low) for low, high in zip(lows, highs, strict=True)),
            spot=tuple(slice(low, high) for low, high in zip(lows[::-1], highs[::-1], strict=True)),
        )
