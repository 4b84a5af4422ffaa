"""A row of chunks that does not fit in memory, inflated once into a temporary file."""

from __future__ import annotations

import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import FailedError
from fmfbench.sources.matlab.chunks import ChunkTable, ThreadTeam, unshuffle
from fmfbench.sources.matlab.file_bytes import FileBytes

__all__ = ["RowScratch"]

# of chunks that are cut into blocks of frames in memory; a larger one is cut as it comes
GROUP_BYTES = 8 << 20


class RowScratch:
    """`boxes` chunks from number `first` on, by blocks of `block_frames` frames.

    A block holds its frames of every chunk, chunk after chunk: it is read in one piece, however short the run
    of a chunk is. `part` is the shape of one frame of a chunk.
    Raises FailedError where the file cannot be made or written; InflateError, OSError.
    """

    def __init__(
        self,
        table: ChunkTable,
        part: tuple[int, ...],
        *,
        first: int,
        boxes: int,
        block_frames: int,
        folder: Path,
        team: ThreadTeam,
    ) -> None:
        self._table = table
        self._first = first
        self._boxes = boxes
        self._block = block_frames
        self._folder = folder
        self._run = prod(part)  # values of a frame in a chunk
        self._frames = prod(table.chunks) // self._run
        self._in_groups = table.chunk_bytes <= GROUP_BYTES
        try:
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives on
        except OSError as error:
            raise FailedError(
                f"cannot make a temporary file in {folder}: {error.strerror}; set TMPDIR"
            ) from error
        self._file = FileBytes(file)
        try:
            if self._in_groups:
                group = max(1, GROUP_BYTES // table.chunk_bytes)
                starts = range(0, boxes, group)
                team.each(lambda box: self._write_group(box, min(group, boxes - box)), starts, team.workers)
            else:
                team.each(self._write_chunk, range(boxes), team.workers)
        except BaseException:
            self.close()
            raise

    def block(self, number: int) -> NDArray[Any]:
        """The frames number x block_frames, ... of every chunk: (boxes, frames, values of a frame)."""
        table, count = self._table, self._count(number)
        size = self._boxes * count * self._run * table.dtype.itemsize
        values = np.frombuffer(self._file.read_at(self._start(number), size), table.dtype)
        values = values.reshape(self._boxes, count, self._run)
        boxes = () if self._in_groups else range(self._boxes)
        if not any(table.shuffled(self._first + box) for box in boxes):
            return values
        upright = values.copy()
        for box in boxes:
            if table.shuffled(self._first + box):
                data = unshuffle(values[box].tobytes(), table.dtype.itemsize)
                upright[box] = np.frombuffer(data, table.dtype).reshape(count, self._run)
        return upright

    def close(self) -> None:
        self._file.close()

    def _count(self, block: int) -> int:
        return min(self._block, self._frames - block * self._block)

    def _start(self, block: int) -> int:
        return block * self._block * self._boxes * self._run * self._table.dtype.itemsize

    def _write_group(self, box: int, count: int) -> None:
        values = self._table.values_of(self._first + box, count).reshape(count, self._frames, self._run)
        for block in range(-(-self._frames // self._block)):
            first = block * self._block
            piece = np.ascontiguousarray(values[:, first : first + self._block])
            at = box * self._count(block) * self._run * self._table.dtype.itemsize
            self._write(self._start(block) + at, piece.view(np.uint8).reshape(-1).data)

    def _write_chunk(self, box: int) -> None:
        at = 0
        for piece in self._table.pieces(self._first + box):
            done = 0
            while done < len(piece):
                place, size = self._place(box, at)
                size = min(size, len(piece) - done)
                self._write(place, memoryview(piece)[done : done + size])
                done, at = done + size, at + size

    def _place(self, box: int, at: int) -> tuple[int, int]:
        """Where byte `at` of a chunk goes, and how many bytes after it follow on there.

        A shuffled chunk is a plane of first bytes, one of second bytes, ...; a block keeps them as planes.
        """
        itemsize = self._table.dtype.itemsize
        planes = itemsize if self._table.shuffled(self._first + box) else 1
        frame = self._run * itemsize // planes  # bytes of a frame in a plane
        plane, rest = divmod(at, self._frames * frame)
        block = rest // (self._block * frame)
        within = rest - block * self._block * frame
        length = self._count(block) * frame
        return self._start(block) + (box * planes + plane) * length + within, length - within

    def _write(self, at: int, data: memoryview) -> None:
        try:
            self._file.write_at(at, data)
        except OSError as error:
            needs = f"{self._boxes * self._table.chunk_bytes} bytes for one row of chunks"
            raise FailedError(
                f"cannot write a temporary file in {self._folder} ({needs}): {error.strerror}; set TMPDIR"
            ) from error
