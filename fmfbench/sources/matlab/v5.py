"""MAT 5 files: v6 (values lie open) and v7 (each variable is a zlib stream).

Layout: MathWorks, "MAT-File Format". A file is a 128-byte header and elements (type, bytes, data); a variable
is an element of type 14, or one of type 15 that inflates to it. Only the first bytes of each are looked at to
list the variables; frames are then read, or inflated, as they are asked for.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.inflate import MAX_RATIO, InflateError, Inflater, new_inflater
from fmfbench.sources.matlab.variable import CLASS_DTYPES, MatVariable, dims_text, place

__all__ = ["read_v5_variables"]

MATRIX, COMPRESSED = 14, 15
HEADER_BYTES = 128
HEAD_BYTES = 4096  # of an element, enough for flags, 32 dimensions, a name and the tag of the values
COMPRESSED_PIECE = 1 << 16
CLASSES = [
    *("unknown", "cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8"),
    *("int16", "uint16", "int32", "uint32", "int64", "uint64", "function_handle", "opaque", "object"),
]
# types 1 to 13
VALUE_KINDS = [
    "i1",
    "u1",
    "<i2",
    "<u2",
    "<i4",
    "<u4",
    "<f4",
    "",
    "<f8",
    "",
    "",
    "<i8",
    "<u8",
]
VALUE_DTYPES = {number: np.dtype(kind) for number, kind in enumerate(VALUE_KINDS, 1) if kind}


class Tag(NamedTuple):
    type: int
    size: int
    data: int  # where the data begins
    end: int  # where the next element begins


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands before the values of a variable."""

    name: str
    matlab_class: str
    shape: tuple[int, ...]
    unreadable: str | None
    values: Tag | None  # offsets count from the beginning of the element


def read_v5_variables(path: Path, file: FileBytes, workers: int) -> tuple[str, dict[str, MatVariable]]:
    """The version ("v6" or "v7") and the variables, in the file's order. Raises SourceError."""
    variables: dict[str, MatVariable] = {}
    version = "v6"
    for kind, start, size in _elements(path, file):
        version = "v7" if kind == COMPRESSED else version
        stored: Stored = Deflated(file, start, size) if kind == COMPRESSED else Plain(file, start - 8)
        where = f"{path}: the variable at byte {start - 8}"
        try:
            element = stored.read_at(0, HEAD_BYTES, whole=False)
            head = _parse_head(element)
        except (InflateError, HeadError, OSError) as error:
            raise SourceError(f"{where} cannot be read: {error}; copy or save the file again") from error
        # an unnamed variable is MATLAB's own workspace of functions and objects
        if not head.name or head.name.startswith("#"):
            continue
        if head.name in variables:
            raise SourceError(f"{path}: variable {head.name!r} is there twice; save the file again")
        variables[head.name] = _variable(path, head, stored, size, workers)
    return version, variables


def _elements(path: Path, file: FileBytes) -> Iterator[tuple[int, int, int]]:
    """(type, start of the data, bytes) of every element, each held against the size of the file."""
    position = HEADER_BYTES
    while position < file.size:
        tag = file.read_at(position, 8)
        if len(tag) < 8:
            raise SourceError(
                f"{path}: cut off at byte {file.size}, within the tag of a variable; copy it again"
            )
        kind, size = struct.unpack("<II", tag)
        if kind not in (MATRIX, COMPRESSED):
            raise SourceError(
                f"{path}: expected a variable (type 14 or 15) at byte {position}, got type {kind}; "
                "the file is damaged"
            )
        end = position + 8 + size
        if end > file.size:
            raise SourceError(
                f"{path}: cut off: {_name_at(file, kind, position + 8)} needs {end} bytes, "
                f"the file has {file.size}; copy or save it again"
            )
        yield kind, position + 8, size
        position = end


def _name_at(file: FileBytes, kind: int, start: int) -> str:
    stored: Stored = Deflated(file, start, file.size) if kind == COMPRESSED else Plain(file, start - 8)
    try:
        return f"variable {_parse_head(stored.read_at(0, HEAD_BYTES, whole=False)).name!r}"
    except (InflateError, HeadError, OSError):
        return f"the variable at byte {start - 8}"


class HeadError(ValueError):
    """Bytes that are not the head of a variable."""


def _parse_head(element: bytes | bytearray) -> Head:
    matrix = _tag(element, 0)
    if matrix.type != MATRIX:
        raise HeadError(f"expected type 14, got type {matrix.type}")
    flags_tag = _tag(element, 8)
    if flags_tag.type != 6 or flags_tag.size != 8:
        raise HeadError("its flags are missing")
    (flags,) = _numbers("<I", element, flags_tag.data)
    number, is_complex, is_logical = flags & 0xFF, flags & 0x0800, flags & 0x0200
    matlab_class = CLASSES[number] if number < len(CLASSES) else f"class {number}"
    if matlab_class == "opaque":  # objects: a name, but no dimensions
        name = _text(element, _tag(element, flags_tag.end))
        return Head(name=name, matlab_class="opaque", shape=(), unreadable="an object", values=None)
    dims_tag = _tag(element, flags_tag.end)
    if dims_tag.type not in (5, 6) or not 4 <= dims_tag.size <= 128 or dims_tag.size % 4:
        raise HeadError("its dimensions are missing")
    shape = _numbers(f"<{dims_tag.size // 4}i", element, dims_tag.data)
    name_tag = _tag(element, dims_tag.end)
    name = _text(element, name_tag)
    if min(shape) < 0:
        raise HeadError(f"{name!r} has dimensions {dims_text(shape)}")
    unreadable, values = None, None
    if matlab_class not in CLASS_DTYPES:
        unreadable = f"a {matlab_class}"
    elif is_complex:
        unreadable = f"complex {matlab_class}"
    else:
        values = _tag(element, name_tag.end)
        if values.data + values.size > matrix.data + matrix.size:
            raise HeadError(f"the values of {name!r} reach beyond it")
    if is_logical and not unreadable:
        matlab_class = "logical"
    return Head(name=name, matlab_class=matlab_class, shape=shape, unreadable=unreadable, values=values)


def _tag(element: bytes | bytearray, at: int) -> Tag:
    first, size = _numbers("<II", element, at)
    if small := first >> 16:  # up to four bytes of data stand in the tag itself
        if small > 4:
            raise HeadError(f"a small element of {small} bytes")
        return Tag(first & 0xFFFF, small, at + 4, at + 8)
    return Tag(first, size, at + 8, at + 8 + (size + 7) // 8 * 8)


def _numbers(layout: str, element: bytes | bytearray, at: int) -> tuple[int, ...]:
    if len(element) < at + struct.calcsize(layout):
        raise HeadError("it ends before its values")
    return struct.unpack_from(layout, element, at)


def _text(element: bytes | bytearray, tag: Tag) -> str:
    data = element[tag.data : tag.data + tag.size]
    if tag.type not in (1, 2, 16) or len(data) != tag.size:
        raise HeadError("its name is missing")
    return data.rstrip(b"\0").decode("utf-8", "backslashreplace")


def _variable(path: Path, head: Head, stored: Stored, size: int, workers: int) -> MatVariable:
    where = f"{path}: variable {head.name!r}"
    storage, unreadable = None, f"{where} is {head.unreadable}: expected real numbers"
    if head.values is not None:
        try:
            storage = ColumnMajor(where, stored, head, _value_dtype(where, head, head.values, stored, size))
        except SourceError as error:
            unreadable = str(error)
    return MatVariable(
        where=str(path),
        name=head.name,
        shape=head.shape,
        matlab_class=head.matlab_class,
        stored_bytes=size,
        storage=storage,
        unreadable=None if storage else unreadable,
        workers=workers,
    )


def _value_dtype(where: str, head: Head, values: Tag, stored: Stored, size: int) -> np.dtype[Any]:
    """The type the values are stored in, which may be smaller than the class. Raises SourceError on lies."""
    dims = f"{dims_text(head.shape)} {head.matlab_class}"
    dtype = VALUE_DTYPES.get(values.type)
    count = prod(head.shape)
    if dtype is None:
        if count or values.size:
            raise SourceError(f"{where} ({dims}): expected numbers, got values of type {values.type}")
        return np.dtype("u1")
    if count * dtype.itemsize != values.size:
        raise SourceError(
            f"{where} ({dims}): expected {count * dtype.itemsize} bytes of {dtype.name}, "
            f"got {values.size} announced by its header; the file is damaged"
        )
    room = size * (MAX_RATIO if isinstance(stored, Deflated) else 1) + 8
    if values.data + values.size > room:
        raise SourceError(
            f"{where} ({dims}): expected {values.size} bytes, got {size} stored, which cannot hold them; "
            "the file is damaged"
        )
    return dtype


class ColumnMajor:
    """The values of a variable: column-major, so a frame is one run of bytes."""

    def __init__(self, where: str, stored: Stored, head: Head, dtype: np.dtype[Any]) -> None:
        self._where = where
        self._stored = stored
        self._shape = head.shape
        self._dtype = dtype
        self._data = head.values.data if head.values else 0

    def read_all(self) -> NDArray[Any]:
        return self._values(0, prod(self._shape)).reshape(self._shape[::-1]).T

    def read_frames(self, start: int, stop: int, frame_shape: tuple[int, ...]) -> NDArray[Any]:
        each = prod(frame_shape)
        values = self._values(start * each, stop * each).reshape(stop - start, *frame_shape[::-1])
        frames = np.empty((stop - start, *frame_shape), values.dtype)
        place(frames, values)
        return frames

    def block_frames(self, frame_shape: tuple[int, ...], frames_wanted: int) -> int:
        return frames_wanted

    def _values(self, first: int, last: int) -> NDArray[Any]:
        begin, end = first * self._dtype.itemsize, last * self._dtype.itemsize
        total = prod(self._shape) * self._dtype.itemsize
        try:
            data = self._stored.read_at(self._data + begin, end - begin, whole=end == total)
        except (InflateError, OSError) as error:
            raise SourceError(f"{self._where}: {error}; copy or save the file again") from error
        if len(data) != end - begin:
            raise SourceError(
                f"{self._where}: expected {total} bytes of values, got {begin + len(data)} before the file ends; "
                "copy or save it again"
            )
        return np.frombuffer(data, self._dtype).astype(self._dtype.newbyteorder("="), copy=False)


class Plain:
    """An element that lies open in the file."""

    def __init__(self, file: FileBytes, start: int) -> None:
        self._file = file
        self._start = start

    def read_at(self, offset: int, size: int, whole: bool) -> bytes:
        return self._file.read_at(self._start + offset, size)


class Deflated:
    """An element inside a zlib stream, which stays open between reads that go forward."""

    def __init__(self, file: FileBytes, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._end = start + size
        self._lock = threading.Lock()
        self._stream: Inflater | None = None
        self._rewind()

    def read_at(self, offset: int, size: int, whole: bool) -> bytes | bytearray:
        """`size` inflated bytes from `offset`; with `whole`, the stream must then end as it should.

        Fewer bytes only without `whole`. Raises InflateError, OSError.
        """
        with self._lock:
            if self._stream is None or offset < self._position:
                self._rewind()
            while self._position < offset and self._more(min(offset - self._position, COMPRESSED_PIECE * 16)):
                pass
            out = bytearray()
            while len(out) < size and self._position >= offset:
                part = self._more(size - len(out))
                if not part:
                    break
                out += part
            if whole and len(out) == size:
                self._expect_end()
            elif whole or (len(out) < size and not self._ended()):
                raise InflateError(
                    f"the compressed data ends after {self._position} of {offset + size} bytes"
                )
            if self._position <= HEAD_BYTES:
                self._stream = None  # only the list of variables was wanted: keep no window for each of them
            return out

    def _rewind(self) -> None:
        self._stream = new_inflater()
        self._position = 0  # inflated bytes given so far
        self._next = self._start  # compressed bytes read so far
        self._pending = b""

    def _ended(self) -> bool:
        return self._stream is not None and self._stream.ended

    def _more(self, limit: int) -> bytes:
        """Some of the next `limit` inflated bytes; none at the end of the stream or of its element."""
        assert self._stream is not None
        while not self._stream.ended:
            if not self._pending:
                self._pending = self._file.read_at(self._next, min(COMPRESSED_PIECE, self._end - self._next))
                self._next += len(self._pending)
            before = len(self._pending)
            part = self._stream.feed(self._pending, limit)
            self._pending = self._stream.pending
            self._position += len(part)
            if part or not before or len(self._pending) == before:
                return part
        return b""

    def _expect_end(self) -> None:
        """Inflates the padding and the checksum that follow the values."""
        room = 64
        while room and (part := self._more(room)):
            room -= len(part)
        if not self._ended():
            trouble = "ends without its checksum" if room else "goes on after the values"
            raise InflateError(f"the compressed data {trouble}")


Stored = Plain | Deflated
