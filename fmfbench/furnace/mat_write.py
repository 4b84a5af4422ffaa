"""Deterministic MATLAB writers for long recordings: v7.3 (HDF5) and v7 (MAT5, zlib), both in constant memory.

Arrays are named by their MATLAB shape (first dimension fastest, time last) and handed over as blocks of
frames along the last dimension, in C order with MATLAB's dimensions reversed: a (H, W, 3, N) variable takes blocks
(n, 3, W, H). The bytes written depend on the data alone: no date, host or library version in them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

import h5py
import numpy as np
import numpy.typing as npt

from fmfbench.errors import InputError

__all__ = [
    "CHUNK_FRAMES",
    "MAT_VERSIONS",
    "Mat5Writer",
    "Mat73Writer",
    "MatWriter",
    "deflate_chunk",
    "open_mat_writer",
]

CREATED = "Created on: Thu Jan  1 00:00:00 1970"  # a constant: the same data gives the same file
MAT_VERSIONS = ("v7.3", "v7")
CHUNK_FRAMES = 8  # whole frames in a v7.3 chunk
LEVEL = 3  # of zlib, MATLAB's own for v7.3
COMPACT_BYTES = 8192  # MATLAB stores arrays below about 10 kB in the object header
VARIABLE_LIMIT = 2**31 - 1  # bytes that one MAT5 variable may hold

Array = npt.NDArray[np.generic]

_CLASSES = {"uint8": "uint8", "float64": "double", "float32": "single"}
_MAT5 = {"uint8": (9, 2), "float64": (6, 9), "float32": (7, 7)}  # mxCLASS, miTYPE
_MI_COMPRESSED, _MI_MATRIX, _MI_INT8, _MI_INT32, _MI_UINT32 = 15, 14, 1, 5, 6


class MatWriter(Protocol):
    """What both writers do."""

    def write(self, name: str, shape: tuple[int, ...], dtype: str, blocks: Iterable[Array]) -> None:
        """Write one variable of MATLAB `shape` from consecutive blocks along its last dimension."""

    def __enter__(self) -> MatWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_mat_writer(path: Path, version: str, text: str) -> MatWriter:
    """A writer of MAT version "v7.3" or "v7"; `text` goes into the file's header.

    Raises:
        InputError: another version.
    """
    if version == "v7.3":
        return Mat73Writer(path, text)
    if version == "v7":
        return Mat5Writer(path, text)
    raise InputError(f"MAT version: expected v7.3 or v7, got {version!r}; choose one of the two")


def deflate_chunk(block: Array) -> bytes:
    """One chunk as HDF5's deflate filter would store it."""
    return zlib.compress(np.ascontiguousarray(block).tobytes(), LEVEL)


class Mat73Writer:
    """MAT v7.3 in MATLAB's own form: 512-byte user block, superblock 0, reversed dimensions, `MATLAB_class`."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text
        self._file = h5py.File(path, "w", libver=("earliest", "v108"), userblock_size=512)

    def write(self, name: str, shape: tuple[int, ...], dtype: str, blocks: Iterable[Array]) -> None:
        """See `MatWriter.write`. Blocks must hold a multiple of CHUNK_FRAMES frames, but for the last."""
        stored = shape[::-1]
        if np.prod(stored, dtype=np.int64) * np.dtype(dtype).itemsize <= COMPACT_BYTES:
            whole = np.concatenate([np.asarray(block, dtype=dtype) for block in blocks])
            _check_length(name, len(whole), stored[0])
            dataset = self._create(name, stored, dtype, None)
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(whole))
            return
        chunk = (CHUNK_FRAMES if len(shape) > 2 else min(stored[0], 4096), *stored[1:])
        dataset = self._create(name, stored, dtype, chunk)
        at = 0
        for piece in _pieces(blocks, chunk[0]):
            whole = piece
            if len(piece) < chunk[0]:  # an edge chunk is stored whole, the rest filled with zeros
                whole = np.zeros(chunk, dtype=dtype)
                whole[: len(piece)] = piece
            dataset.write_direct_chunk(
                (at,) + (0,) * (len(stored) - 1), deflate_chunk(whole.astype(dtype, copy=False))
            )
            at += len(piece)
        _check_length(name, at, stored[0])

    def _create(
        self, name: str, stored: tuple[int, ...], dtype: str, chunk: tuple[int, ...] | None
    ) -> h5py.h5d.DatasetID:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_obj_track_times(False)
        if chunk is None:
            settings.set_layout(h5py.h5d.COMPACT)
        else:
            settings.set_chunk(chunk)
            settings.set_deflate(LEVEL)
            settings.set_fill_time(h5py.h5d.FILL_TIME_IFSET)
        kind = h5py.h5t.py_create(np.dtype(dtype).newbyteorder("<"))
        space = h5py.h5s.create_simple(stored)
        dataset = h5py.h5d.create(self._file.id, name.encode(), kind, space, settings)
        _write_class(dataset, _CLASSES[dtype])
        return dataset

    def __enter__(self) -> Mat73Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is None:
            with self._path.open("r+b") as file:
                text = f"MATLAB 7.3 MAT-file, Platform: any, {CREATED} HDF5 schema 1.00 . {self._text}"
                file.write(_header(text, b"\x00\x02IM"))


class Mat5Writer:
    """MAT v7: each variable one zlib stream inside a miCOMPRESSED element whose length is filled in at its end."""

    def __init__(self, path: Path, text: str) -> None:
        self._file = path.open("wb")
        self._file.write(_header(f"MATLAB 5.0 MAT-file, Platform: any, {CREATED} {text}", b"\x00\x01IM"))

    def write(self, name: str, shape: tuple[int, ...], dtype: str, blocks: Iterable[Array]) -> None:
        """See `MatWriter.write`.

        Raises:
            InputError: the variable is larger than MAT v7 allows.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size > VARIABLE_LIMIT:
            raise InputError(
                f"MAT v7: expected a variable of at most {VARIABLE_LIMIT} bytes, got {size} of {name}; write v7.3"
            )
        start = self._file.tell()
        self._file.write(struct.pack("<II", _MI_COMPRESSED, 0))
        squeeze = zlib.compressobj(LEVEL)
        self._file.write(squeeze.compress(_matrix_header(name, shape, dtype, size)))
        at = 0
        for block in blocks:
            whole = np.ascontiguousarray(block, dtype=np.dtype(dtype).newbyteorder("<"))
            self._file.write(squeeze.compress(whole.tobytes()))
            at += len(block)
        _check_length(name, at, shape[-1])
        self._file.write(squeeze.compress(b"\0" * (-size % 8)) + squeeze.flush())
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(struct.pack("<II", _MI_COMPRESSED, end - start - 8))
        self._file.seek(end)

    def __enter__(self) -> Mat5Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _header(text: str, version: bytes) -> bytes:
    """The 128 bytes that both kinds of file begin with."""
    return text.encode("ascii")[:116].ljust(116, b" ") + b"\0" * 8 + version


def _matrix_header(name: str, shape: tuple[int, ...], dtype: str, size: int) -> bytes:
    """Everything of a MAT5 matrix that stands before its values."""
    array_class, value_type = _MAT5[dtype]
    flags = struct.pack("<IIII", _MI_UINT32, 8, array_class, 0)
    dims = _element(_MI_INT32, struct.pack(f"<{len(shape)}i", *shape))
    label = _element(_MI_INT8, name.encode("ascii"))
    body = flags + dims + label + struct.pack("<II", value_type, size)
    return struct.pack("<II", _MI_MATRIX, len(body) + size + -size % 8) + body


def _element(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload + b"\0" * (-len(payload) % 8)


def _write_class(dataset: h5py.h5d.DatasetID, name: str) -> None:
    """The attribute MATLAB_class as MATLAB writes it: a fixed, null-terminated string of exactly that length."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(name))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    attribute = h5py.h5a.create(dataset, b"MATLAB_class", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(np.array(name.encode(), dtype=f"S{len(name)}"), mtype=kind)


def _pieces(blocks: Iterable[Array], frames: int) -> Iterator[Array]:
    """Blocks cut into pieces of `frames` frames; what a block leaves over waits for the next."""
    rest: Array | None = None
    for block in blocks:
        whole = block if rest is None else np.concatenate([rest, block])
        full = len(whole) - len(whole) % frames
        for at in range(0, full, frames):
            yield whole[at : at + frames]
        rest = whole[full:] if full < len(whole) else None
    if rest is not None:
        yield rest


def _check_length(name: str, got: int, wanted: int) -> None:
    if got != wanted:
        raise InputError(f"variable {name}: expected {wanted} frames, got {got}; hand over all blocks")
