"""The values of one HDF5 dataset of a v7.3 file, read as its chunks allow.

Three ways: raw chunks on several threads (`chunk_rows`); h5py in blocks of whole chunks, where the values lie
in one piece or the filters are unusual; through a temporary file, where the chunks are as long as the
recording. Never frame by frame: that would inflate such chunks once for each frame.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import FmfbenchError, SourceError
from fmfbench.sources.matlab.chunk_rows import ROW_BYTES, ChunkRows
from fmfbench.sources.matlab.chunks import ChunkTable, Pipeline, ThreadTeam
from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.inflate import MAX_RATIO, InflateError, one_line
from fmfbench.sources.matlab.variable import dims_text, place

__all__ = ["Dataset", "Empty", "hdf5_errors", "missing_filter", "refuse_void_chunks"]

_FILTERS = {
    4: "SZIP", 307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "bitshuffle", 32013: "ZFP",
    32015: "Zstandard", 32017: "SZ", 32026: "Blosc2",
}  # fmt: skip
MOST_CHUNKS = 1 << 22  # of which a table is kept
BLOCK_CHUNKS = 1 << 12
NOTED_CHUNKS = 1 << 14  # entered into the table at once


@contextmanager
def hdf5_errors(where: str) -> Iterator[None]:
    """Damaged metadata makes h5py raise nearly any exception; each becomes one line."""
    try:
        yield
    except FmfbenchError:
        raise
    except Exception as error:
        text = one_line(error)
        if cut := re.search(r"truncated file: eof = (\d+).*base_addr = (\d+), stored_eof = (\d+)", text):
            have, base, wanted = map(int, cut.groups())
            text = f"cut off: it has {have + base} bytes, its HDF5 header says {wanted}"
        raise SourceError(f"{where}: cannot be read: {text}; copy or save the file again") from error


def missing_filter(dataset: h5py.Dataset) -> str | None:
    """What a dataset is compressed with, where HDF5 here has no such filter."""
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        number, _, _, told = properties.get_filter(i)
        if h5py.h5z.filter_avail(number):
            continue
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")  # where the user has installed it, it brings its filters

            if h5py.h5z.filter_avail(number):
                continue
        name = _FILTERS.get(number) or told.decode("ascii", "replace").strip("\0") or "unknown"
        return (
            f"values compressed with the HDF5 filter {name} ({number}), which is not installed; "
            "pip install hdf5plugin, or write the file anew with `h5repack -f GZIP=3 OLD NEW`"
        )
    return None


def refuse_void_chunks(where: str, dataset: h5py.Dataset) -> None:
    """To be asked before HDF5 reads a dataset: its checksum filter crashes on a chunk of no size."""
    if dataset.chunks is None or not hasattr(dataset.id, "chunk_iter"):
        return
    least = 5 if dataset.fletcher32 else 1
    short: list[Any] = []
    dataset.id.chunk_iter(lambda info: short.append(info) if info.size < least else None)
    if short:
        raise SourceError(f"{where}: {len(short)} of its chunks hold no data; copy or save the file again")


class Empty:
    """An array without values: nothing is read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def read_all(self) -> NDArray[Any]:
        return np.zeros(self._shape)

    def read_frames(self, start: int, stop: int, frame_shape: tuple[int, ...]) -> NDArray[Any]:
        return np.zeros((stop - start, *frame_shape))

    def block_frames(self, frame_shape: tuple[int, ...], frames_wanted: int) -> int:
        return frames_wanted


class Dataset:
    """The values of a dataset, read as its chunks allow."""

    def __init__(
        self,
        where: str,
        dataset: h5py.Dataset,
        shape: tuple[int, ...],
        *,
        file: FileBytes,
        team: ThreadTeam,
        scratch: Path | None,
        filled: bool = False,
    ) -> None:
        self.unwritten = ""
        self._where = where
        self._dataset = dataset
        self._stored_shape = tuple(map(int, dataset.shape)) or (1, 1)
        self._shape = shape
        # HDF5's boolean is an enumeration over bytes; the bytes are handed out
        self._dtype = np.dtype("u1") if dataset.dtype.kind == "b" else dataset.dtype
        self._chunks: tuple[int, ...] | None = dataset.chunks
        self._file = file
        self._team = team
        self._scratch = scratch
        self._rows: dict[int, ChunkRows] = {}
        self._table: ChunkTable | None = None
        self._walked = False
        self._check_storage(filled)

    def read_all(self) -> NDArray[Any]:
        with self._errors():
            rank = len(self._stored_shape) - 1
            if (rows := self._chunk_rows(rank)) is not None:
                return np.moveaxis(rows.read(0, self._stored_shape[0]), 0, -1)
            values = self._native(self._dataset[()]).reshape(self._stored_shape)
        return values.T

    def read_frames(self, start: int, stop: int, frame_shape: tuple[int, ...]) -> NDArray[Any]:
        with self._errors():
            rows = self._chunk_rows(len(frame_shape))
            if rows is not None:
                return rows.read(start, stop)
            return self._read_plain(start, stop, frame_shape)

    def block_frames(self, frame_shape: tuple[int, ...], frames_wanted: int) -> int:
        with self._errors():
            rows = self._chunk_rows(len(frame_shape))
        step = self._frames_per_chunk(len(frame_shape))
        if rows is not None and rows.on_disk:
            return rows.block_frames
        return max(1, frames_wanted // step) * step

    def close(self) -> None:
        for rows in self._rows.values():
            rows.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with hdf5_errors(self._where):
                yield
        except SourceError as error:
            if isinstance(error.__cause__, InflateError):
                raise SourceError(
                    f"{self._where}: {error.__cause__}; copy or save the file again"
                ) from error.__cause__
            raise

    def _check_storage(self, filled: bool) -> None:
        """What is announced must be there: HDF5 hands out a fill value for whatever was never written."""
        dataset, dims = self._dataset, dims_text(self._shape)
        announced = prod(self._stored_shape) * dataset.dtype.itemsize
        properties = dataset.id.get_create_plist()
        if dataset.is_virtual or properties.get_external_count():
            raise SourceError(f"{self._where} ({dims}): its values are in other files; save it as one file")
        have = int(dataset.id.get_storage_size())
        wanted = prod(self._grid()) if self._chunks is not None else 1
        found = int(dataset.id.get_num_chunks()) if self._chunks is not None else int(have >= announced)
        if filled and found < wanted and self._fill_value() is not None:
            self.unwritten = self._tell_unwritten(wanted - found, wanted)
            return
        if self._chunks is None:
            if have < announced:
                raise SourceError(
                    f"{self._where} ({dims}): expected {announced} bytes, got only {have} that were ever written; "
                    "save it again"
                )
            return
        most = MAX_RATIO * max(have, 1)
        chunk_bytes = prod(self._chunks) * dataset.dtype.itemsize
        if wanted > self._file.size or max(chunk_bytes, announced) > most:
            raise SourceError(
                f"{self._where} ({dims}): expected {announced} bytes in {wanted} chunks, got {have} bytes stored, "
                "which cannot hold them; the file is damaged or was not written to its end"
            )
        if found != wanted:
            raise SourceError(
                f"{self._where} ({dims}): expected {wanted} chunks, got only {found} that were ever written; "
                "the file is damaged or was not written to its end"
            )

    def _fill_value(self) -> Any:
        """What HDF5 hands out for what was never written, or None where the writer left that open."""
        told = self._dataset.id.get_create_plist().fill_value_defined()
        return None if told == h5py.h5d.FILL_VALUE_UNDEFINED else self._dataset.fillvalue

    def _tell_unwritten(self, missing: int, wanted: int) -> str:
        value = self._fill_value()
        text = f"read as its fill value {value.item() if hasattr(value, 'item') else value}"
        if self._chunks is None or missing == wanted:
            return f"was never written: all of it is {text}"
        return f"{missing} of {wanted} chunks were never written: they are {text}"

    def _grid(self) -> list[int]:
        assert self._chunks is not None
        return [-(-extent // step) for extent, step in zip(self._stored_shape, self._chunks, strict=True)]

    def _frames_per_chunk(self, frame_ndim: int) -> int:
        if self._chunks is None or len(self._chunks) == frame_ndim:
            return 1
        return min(self._chunks[-frame_ndim - 1], self._stored_shape[-frame_ndim - 1])

    def _chunk_rows(self, frame_ndim: int) -> ChunkRows | None:
        """The way through raw chunks, or None where plain reads of whole blocks serve better."""
        if frame_ndim not in self._rows:
            if self._chunks is None:
                return None
            row_bytes = (
                prod(self._stored_shape[len(self._stored_shape) - frame_ndim :]) * self._dtype.itemsize
            )
            row_bytes *= self._frames_per_chunk(frame_ndim)
            chunk_bytes = prod(self._chunks) * self._dtype.itemsize
            pipeline = None if self.unwritten else self._pipeline()  # h5py knows the fill value
            fits = max(row_bytes, chunk_bytes) <= ROW_BYTES
            if fits and (pipeline is None or prod(self._grid()) > MOST_CHUNKS):
                if not self._walked:
                    refuse_void_chunks(self._where, self._dataset)
                self._walked = True
                return None
            self._table = self._table or self._make_table(pipeline)
            self._rows[frame_ndim] = ChunkRows(self._table, frame_ndim, self._team, self._scratch)
        return self._rows[frame_ndim]

    def _read_plain(self, start: int, stop: int, frame_shape: tuple[int, ...]) -> NDArray[Any]:
        """By h5py, in blocks of whole chunks."""
        rank = len(frame_shape)
        lead = len(self._stored_shape) - rank - 1
        out = np.empty((stop - start, *frame_shape), self._dtype.newbyteorder("="))
        if lead < 0:
            place(out, self._native(self._dataset[()])[None])
            return out
        step = self._frames_per_chunk(rank)
        if self._chunks is not None:
            step *= max(1, BLOCK_CHUNKS // prod(self._grid()[lead + 1 :]))
        else:
            step = max(1, (4 << 20) // max(1, prod(frame_shape) * self._dtype.itemsize))
        first = start
        while first < stop:
            last = min((first // step + 1) * step, stop)
            values = self._dataset[(0,) * lead + (slice(first, last),)]
            place(out[first - start : last - start], self._native(values))
            first = last
        return out

    def _native(self, values: Any) -> NDArray[Any]:
        array: NDArray[Any] = np.asarray(values)
        if array.dtype.kind == "b":
            return array.view(np.uint8)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _pipeline(self) -> Pipeline | None:
        """The filters, if they are ours to undo: shuffle, deflate, fletcher32, in this order, once each."""
        properties = self._dataset.id.get_create_plist()
        names = {h5py.h5z.FILTER_SHUFFLE: "shuffle", h5py.h5z.FILTER_DEFLATE: "deflate"}
        names[h5py.h5z.FILTER_FLETCHER32] = "fletcher32"
        found = [names.get(properties.get_filter(i)[0]) for i in range(properties.get_nfilters())]
        order = [name for name in ("shuffle", "deflate", "fletcher32") if name in found]
        if found != order or not hasattr(self._dataset.id, "chunk_iter"):
            return None
        return Pipeline(**{name: place for place, name in enumerate(order)})

    def _make_table(self, pipeline: Pipeline | None) -> ChunkTable:
        assert self._chunks is not None
        count = prod(self._grid())
        if count > MOST_CHUNKS:
            raise SourceError(
                f"{self._where}: {count} chunks of {self._chunks} are too many; rewrite it with h5repack"
            )
        offsets, sizes = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        masks = np.zeros(count, np.uint32)
        if pipeline is not None:
            grid, cut = self._grid(), np.array(self._chunks)
            first: list[Any] = []
            noted: list[Any] = []

            def enter() -> None:
                places = np.array([info.chunk_offset for info in noted]) // cut
                at = np.ravel_multi_index(tuple(places.T), grid)
                offsets[at] = [info.byte_offset for info in noted]
                sizes[at] = [info.size for info in noted]
                masks[at] = [info.filter_mask for info in noted]
                first[:] = first or noted[:1]
                noted.clear()

            def note(info: Any) -> None:
                noted.append(info)
                if len(noted) == NOTED_CHUNKS:
                    enter()

            self._dataset.id.chunk_iter(note)
            if noted:
                enter()
            if offsets.min() < 0:
                raise SourceError(f"{self._where}: a chunk is listed twice; save the file again")
            offsets += self._base_of(first[0])
            if (offsets + sizes).max() > self._file.size:
                raise SourceError(
                    f"{self._where}: its chunks reach beyond the end of the file; copy it again"
                )
        return ChunkTable(
            shape=self._stored_shape,
            chunks=self._chunks,
            dtype=self._dtype,
            file=self._file,
            pipeline=pipeline or Pipeline(),
            offsets=offsets,
            sizes=sizes,
            masks=masks,
            fetch=None if pipeline else self._fetch,
        )

    def _base_of(self, info: Any) -> int:
        """What to add to HDF5's addresses: versions differ in whether they count the user block."""
        _, stored = self._dataset.id.read_direct_chunk(info.chunk_offset)
        for base in (0, int(self._dataset.file.userblock_size)):
            if self._file.read_at(info.byte_offset + base, info.size) == stored:
                return base
        raise SourceError(f"{self._where}: its first chunk is not where HDF5 says; save the file again")

    def _fetch(self, number: int) -> bytes:
        """A chunk through h5py, padded to its full shape."""
        assert self._chunks is not None
        index = map(int, np.unravel_index(number, self._grid()))
        lows = [i * step for i, step in zip(index, self._chunks, strict=True)]
        highs = [min(a + s, e) for a, s, e in zip(lows, self._chunks, self._stored_shape, strict=True)]
        full = np.zeros(self._chunks, self._dtype)
        values = self._dataset[tuple(slice(a, b) for a, b in zip(lows, highs, strict=True))]
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        full[tuple(slice(extent) for extent in values.shape)] = values
        return full.tobytes()
