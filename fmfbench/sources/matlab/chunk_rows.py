"""Upright frames from the chunks of a v7.3 dataset, row by row.

A *row* is all chunks that hold the same frames. A row that fits in memory is built there; one that does not
(chunks may be as long as the recording) goes once through a temporary file. In a chunk the frames are the
slowest axis, so a few frames of it are one run of bytes.
"""

from __future__ import annotations

import tempfile
import threading
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.sources.matlab.chunks import ChunkTable, ThreadTeam
from fmfbench.sources.matlab.frame_grid import FrameGrid
from fmfbench.sources.matlab.row_scratch import RowScratch

__all__ = ["ROW_BYTES", "ChunkRows"]

ROW_BYTES = 32 << 20  # a row of chunks larger than this goes through a temporary file
SCRATCH_BLOCK_BYTES = 16 << 20  # of such a row, read back at a time
BATCH_BYTES = 1 << 18  # of chunks that one thread takes at a time
SMALL_BYTES = 1 << 15  # chunks smaller than this are inflated in groups, by one thread
GROUP_BYTES = 1 << 20  # of small chunks laid out at once: what a processor's cache holds


class ChunkRows:
    """Upright frames from a table of chunks. `frame_ndim` axes are a frame's, the one before them counts."""

    def __init__(self, table: ChunkTable, frame_ndim: int, team: ThreadTeam, scratch: Path | None) -> None:
        self._table = table
        self._team = team
        self._folder = scratch or Path(tempfile.gettempdir())
        # axes of extent 1 before the frame axis; -1: none counts frames
        lead = len(table.shape) - frame_ndim - 1
        dims = table.shape[lead:] if lead >= 0 else (1, *table.shape)
        cut = table.chunks[lead:] if lead >= 0 else (1, *table.chunks)
        self._num_frames, self._frame = dims[0], dims[:0:-1]
        self.row_frames = cut[0]
        self._grid = FrameGrid(dims[1:], cut[1:])
        row_bytes = min(self.row_frames, self._num_frames) * prod(dims[1:]) * table.dtype.itemsize
        self.on_disk = max(row_bytes, table.chunk_bytes) > ROW_BYTES
        padded = self._grid.boxes * table.chunk_bytes // self.row_frames
        self.block_frames = min(self.row_frames, max(1, SCRATCH_BLOCK_BYTES // padded))  # of a row on disk
        self._lock = threading.Lock()
        self._kept: tuple[int, NDArray[Any]] | None = None  # the last frames that were not used up, and where
        self._scratch: tuple[int, RowScratch] | None = None  # the last row that went to disk

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames start..stop-1, upright. Raises InflateError, OSError, FailedError."""
        out = self._empty(stop - start)
        with self._lock:
            whole: list[int] = []
            at = start
            while at < stop:
                first, last = self._unit(at)
                target = out[max(first, start) - start : min(last, stop) - start]
                if len(target) < last - first:
                    target[...] = self._kept_unit(first, last)[at - first : min(last, stop) - first]
                elif self.on_disk:
                    self._from_disk(first, target)
                else:
                    whole.append(first // self.row_frames)
                at = last
            if whole:
                begin = whole[0] * self.row_frames - start
                self._decode(whole[0], len(whole), out[begin : begin + len(whole) * self.row_frames])
        return out

    def close(self) -> None:
        if self._scratch is not None:
            self._scratch[1].close()

    def _empty(self, count: int) -> NDArray[Any]:
        return np.empty((count, *self._frame), self._table.dtype.newbyteorder("="))

    def _unit(self, frame: int) -> tuple[int, int]:
        """The frames that are had together with this one: a row, or a block of a row on disk."""
        row = frame // self.row_frames * self.row_frames
        end = min(row + self.row_frames, self._num_frames)
        if not self.on_disk:
            return row, end
        first = row + (frame - row) // self.block_frames * self.block_frames
        return first, min(first + self.block_frames, end)

    def _kept_unit(self, first: int, last: int) -> NDArray[Any]:
        if self._kept is None or self._kept[0] != first:
            self._kept = None
            frames = self._empty(last - first)
            if self.on_disk:
                self._from_disk(first, frames)
            else:
                self._decode(first // self.row_frames, 1, frames)
            self._kept = (first, frames)
        return self._kept[1]

    def _decode(self, first_row: int, rows: int, out: NDArray[Any]) -> None:
        """Whole rows into `out`, which ends where the frames end."""
        table, boxes, each = self._table, self._grid.boxes, self.row_frames
        small = table.chunk_bytes < SMALL_BYTES

        def lay_rows(row: int) -> None:
            count = min(group, rows - row)
            values = table.values_of((first_row + row) * boxes, count * boxes)
            target = out[row * each : (row + count) * each]
            frames = values.reshape(count, boxes, -1, prod(self._grid.part))[:, :, :each]
            self._grid.lay(target, frames)

        def lay_chunks(batch: range) -> None:
            for job in batch:
                row, box = divmod(job, boxes)
                values = table.values((first_row + row) * boxes + box)
                frames = values.reshape(-1, *self._grid.part)
                self._grid.lay_box(out[row * each : (row + 1) * each], box, frames)

        if small:
            group = max(1, GROUP_BYTES // (boxes * table.chunk_bytes))
            self._team.each(lay_rows, range(0, rows, group), 1)
            return
        jobs = rows * boxes
        size = max(1, min(BATCH_BYTES // table.chunk_bytes, jobs // self._team.workers))
        # each thread holds a chunk and its stored bytes
        lanes = max(1, min(self._team.workers, 2 * ROW_BYTES // table.chunk_bytes, -(-jobs // size)))
        self._team.each(lay_chunks, (range(j, min(j + size, jobs)) for j in range(0, jobs, size)), lanes)

    def _from_disk(self, first: int, target: NDArray[Any]) -> None:
        """A block of a row on disk into `target`."""
        row, within = divmod(first, self.row_frames)
        values = self._row_on_disk(row).block(within // self.block_frames)
        self._grid.lay(target, values[None])

    def _row_on_disk(self, row: int) -> RowScratch:
        if self._scratch is None or self._scratch[0] != row:
            self.close()
            self._scratch = None
            boxes = self._grid.boxes
            scratch = RowScratch(
                self._table,
                self._grid.part,
                first=row * boxes,
                boxes=boxes,
                block_frames=self.block_frames,
                folder=self._folder,
                team=self._team,
            )
            self._scratch = (row, scratch)
        return self._scratch[1]
