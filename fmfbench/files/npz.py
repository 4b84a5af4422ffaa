"""A reader of .npz files that may come from strangers, and a writer that leaves a whole file or none.

Reading, nothing is unpickled, extracted or written, and no array is allocated before its header, its announced size
and the caller's limits agree. A member is read once, in blocks. What numpy.load would trust is checked here:
the size of the zip's directory, the number and names of members, doubles, encryption, the .npy header (read
with a regular expression: numpy's own parser reads as much as a header announces before it looks at it, evaluates
literals and takes negative lengths) against the size of the member, and the checksum.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.files.atomic import replacing
from fmfbench.files.zips import ZIP_TROUBLE, BoundedFile, checked_members

__all__ = ["Header", "NpzFile", "writing_npz"]

_BLOCK_BYTES = 1 << 20
_MAX_MEMBERS = 64
_MAX_HEADER = 4096
_MAGIC = b"\x93NUMPY"
_FIELD = (
    r"""['"](?:descr['"] ?: ?['"][<>|=]?[a-zA-Z][0-9]{0,9}['"]"""
    r"""|fortran_order['"] ?: ?(?:True|False)|shape['"] ?: ?\([0-9L, ]*\))"""
)
_HEADER = re.compile(rf"\{{ ?{_FIELD}(?: ?, ?{_FIELD}){{2}} ?,? ?\}}")
_DESCR = re.compile(r"""['"]descr['"] ?: ?['"]([^'"]+)['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"] ?: ?(\w+)""")
_SHAPE = re.compile(r"""['"]shape['"] ?: ?\(([^)]*)\)""")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a member announces: its element type as stored, its shape, and whether in Fortran order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def vector_length(self) -> int | None:
        """N of a shape (N,), (N, 1) or (1, N), which MATLAB knows instead; None of any other."""
        if len(self.shape) == 1:
            return self.shape[0]
        return prod(self.shape) if len(self.shape) == 2 and 1 in self.shape else None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the order of the bytes: reversed for Fortran order."""
        return self.shape[::-1] if self.fortran else self.shape


class NpzFile:
    """An open .npz file whose directory has been checked; a context manager.

    Raises:
        PredictionError: the file cannot be read as a plain .npz archive.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise PredictionError(
                f"{path}: expected an .npz file, got {'a folder' if path.is_dir() else 'nothing'}"
            )
        self.path = path
        self._file = BoundedFile(path)
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._members = checked_members(self._zip, path, _MAX_MEMBERS, ".npy")
        except ZIP_TROUBLE as error:
            self._file.close()
            if isinstance(error, PredictionError):
                raise
            raise PredictionError(
                f"{path}: expected an .npz file as numpy.savez writes it, got a file that is none: {error}"
            ) from None

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in the file's order, without '.npy'."""
        return tuple(self._members)

    def header(self, name: str) -> Header:
        """Parse the .npy header of a member; its announced size must be exactly the member's.

        Raises:
            PredictionError: object, structured or otherwise unreadable arrays, and headers that do not fit.
        """
        try:
            with self._zip.open(self._members[name]) as stream:
                header = _parse_header(stream)
        except ZIP_TROUBLE as error:
            raise self._refusal(name, error) from None
        size = self._members[name].file_size
        if header.offset + header.nbytes != size:
            raise PredictionError(
                f"{name}: expected {header.nbytes} bytes of shape {header.shape}, which its header announces, "
                f"got {size - header.offset}"
            )
        return header

    def read(self, name: str, header: Header) -> NDArray[Any]:
        """The whole array in native byte order, in memory as stored (Fortran order is a transposed view).

        Booleans come as the uint8 that is stored, so that a byte of 2 can be seen. The caller has bounded
        `header.shape` before.
        """
        array = np.empty(header.stored_shape, _raw(header.dtype))
        flat = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        try:
            with self._zip.open(self._members[name]) as stream:
                _skip(stream, header.offset)
                _fill(stream, flat)
                _expect_end(stream)
        except ZIP_TROUBLE as error:
            raise self._refusal(name, error) from None
        array = _native(array)
        return array.T if header.fortran else array

    def blocks(self, name: str, header: Header) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Read an array of one or more dimensions in blocks along the first axis of its stored order.

        Yields:
            (part, block): `block` of shape (rows, *stored_shape[1:]), native; valid until the next one.
        """
        length, *rest = header.stored_shape
        row_bytes = prod(rest) * header.dtype.itemsize
        rows = max(1, _BLOCK_BYTES // max(row_bytes, 1))
        buffer = np.empty((min(rows, length), *rest), _raw(header.dtype))
        flat = memoryview(buffer.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        try:
            with self._zip.open(self._members[name]) as stream:
                _skip(stream, header.offset)
                for start in range(0, length, rows):
                    count = min(rows, length - start)
                    _fill(stream, flat[: count * row_bytes])
                    yield slice(start, start + count), _native(buffer[:count])
                _expect_end(stream)
        except ZIP_TROUBLE as error:
            raise self._refusal(name, error) from None

    def _refusal(self, name: str, error: Exception) -> PredictionError:
        if isinstance(error, PredictionError):
            return PredictionError(f"{name}: {error}")
        return PredictionError(f"{name}: cannot be read: {str(error) or type(error).__name__}")


def _parse_header(stream: IO[bytes]) -> Header:
    start = stream.read(8)
    if len(start) < 8 or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
        raise PredictionError("expected an .npy array of format 1, 2 or 3, got something else")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _MAX_HEADER:
        raise PredictionError(f"expected an .npy header of at most {_MAX_HEADER} bytes, got {length}")
    text = " ".join(stream.read(length).decode("latin-1").split())
    if not _HEADER.fullmatch(text):
        raise PredictionError(f"expected the .npy header of a plain array, got {text[:80]!a}")
    descr, order, shape = (_once(pattern, text) for pattern in (_DESCR, _ORDER, _SHAPE))
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError):
        raise PredictionError(f"expected a known element type, got {descr!r}") from None
    if dtype.kind == "O":
        raise PredictionError(
            "expected plain numbers or text, got pickled objects, which are never read; save plain numeric arrays"
        )
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise PredictionError(f"expected plain numbers or text, got elements of type {descr!r}")
    return Header(dtype=dtype, shape=_parse_shape(shape), fortran=order == "True", offset=8 + width + length)


def _once(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.findall(text)
    if len(found) != 1:
        raise PredictionError(f"expected the .npy header of a plain array, got {text[:80]!a}")
    return str(found[0])


def _parse_shape(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":
        parts.pop()
    elif len(parts) == 1:
        parts = ["?"]  # (3) is a number, not a shape
    parts = [part.removesuffix("L") for part in parts]  # Python 2 wrote (280L,)
    if len(parts) > 8 or not all(part.isdecimal() and part.isascii() and len(part) <= 18 for part in parts):
        raise PredictionError(f"expected a shape, got ({text[:80]})")
    return tuple(map(int, parts))


def _raw(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _skip(stream: IO[bytes], count: int) -> None:
    _fill(stream, memoryview(bytearray(count)))


def _fill(stream: IO[bytes], target: memoryview) -> None:
    for start in range(0, len(target), _BLOCK_BYTES):
        piece = target[start : start + _BLOCK_BYTES]
        data = stream.read(len(piece))
        if len(data) != len(piece):
            raise EOFError("its data end early")
        piece[:] = data


def _expect_end(stream: IO[bytes]) -> None:
    if stream.read(1):  # the last read also checks the checksum
        raise EOFError("its data are longer than announced")


@contextmanager
def writing_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Iterator[Path]:
    """Write `arrays` under a temporary name beside `path`; it takes the place of `path` when the block is left.

    What the block does with the temporary file, which it is given, belongs to the writing: if it raises, `path` is
    as it was.
    """
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        yield temporary
