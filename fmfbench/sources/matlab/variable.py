"""One variable of a MAT file, whatever its version: facts first, then frames in bounded blocks.

MATLAB stores arrays column by column, so the last dimension is the slowest: a video (H, W, C, N) lies in the
file as N frames, each (C, W, H). `read_frames` hands out what a person would call upright: (n, H, W, C).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError

__all__ = ["CLASS_DTYPES", "MatVariable", "Storage", "dims_text", "place"]

CLASS_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "double": "f8",
        "single": "f4",
        "int8": "i1",
        "uint8": "u1",
        "int16": "i2",
        "uint16": "u2",
        "int32": "i4",
        "uint32": "u4",
        "int64": "i8",
        "uint64": "u8",
        "logical": "u1",  # the bytes as stored: a caller that wants 0/1 checks them
    }.items()
}
BLOCK_BYTES = 16 << 20  # of the values handed out, per block of iter_frames
MOST_PLACES = 1 << 40  # 500 times the largest recording
READ_LIMIT = 1 << 30  # bytes that `read` will hold at once


class Storage(Protocol):
    """How one kind of file gets at the values of one variable."""

    def read_all(self) -> NDArray[Any]:
        """Every value, in MATLAB order and the type stored."""

    def read_frames(self, start: int, stop: int, frame_shape: tuple[int, ...]) -> NDArray[Any]:
        """Frames start..stop-1, (n, *frame_shape), C-contiguous, in the type stored."""

    def block_frames(self, frame_shape: tuple[int, ...], frames_wanted: int) -> int:
        """About `frames_wanted` frames: as many as the file gives most cheaply at a time."""


class MatVariable:
    """Facts of one variable, and its values.

    Attributes:
        name: as in the file.
        shape: MATLAB order, as stored (trailing ones may or may not be there).
        matlab_class: "uint8", "double", "logical", "struct", "char", ...
        dtype: of the values handed out; "logical" is uint8, values as stored. None if unreadable.
        chunks: chunk shape in HDF5's (reversed) order, or None.
        stored_bytes: what the values take in the file, compressed as they are.
        unwritten: what was never written and reads as a fill value, as one line, or "".
        unreadable: why no values are to be had (a struct, complex values, damage), as one line, or None.
    """

    def __init__(
        self,
        *,
        where: str,
        name: str,
        shape: tuple[int, ...],
        matlab_class: str,
        stored_bytes: int,
        storage: Storage | None,
        unreadable: str | None = None,
        chunks: tuple[int, ...] | None = None,
        unwritten: str = "",
        workers: int = 1,
    ) -> None:
        self.name = name
        self.shape = shape
        self.matlab_class = matlab_class
        self.dtype = CLASS_DTYPES.get(matlab_class) if storage else None
        self.chunks = chunks
        self.stored_bytes = stored_bytes
        self.unreadable = unreadable
        self.unwritten = unwritten
        assert (storage is None) == (unreadable is not None)
        self._where = f"{where}: variable {name!r}"
        self._storage = storage
        self._workers = workers

    def __repr__(self) -> str:
        return f"<{self.name} {dims_text(self.shape)} {self.matlab_class}>"

    def read(self) -> NDArray[Any]:
        """The whole array in MATLAB order, for small variables. Raises SourceError."""
        storage, dtype = self._readable()
        size = prod(self.shape) * dtype.itemsize
        if size > READ_LIMIT:
            raise SourceError(f"{self._where} is {size} bytes: too large to be read whole; read its frames")
        values = np.zeros(self.shape, dtype) if not size else storage.read_all()
        return np.require(self._as_class(values, dtype), requirements="W")

    def num_frames(self, frame_ndim: int) -> int:
        """N: the extent of MATLAB's dimension `frame_ndim`, 1 where a trailing one was dropped."""
        return self._split(frame_ndim)[0]

    def frame_shape(self, frame_ndim: int) -> tuple[int, ...]:
        """The dimensions of one frame, e.g. (H, W, C)."""
        return self._split(frame_ndim)[1]

    def read_frames(self, start: int, stop: int, frame_ndim: int) -> NDArray[Any]:
        """Frames start..stop-1, upright: (n, H, W, C), (n, H, W) or (n, P) for frame_ndim 3, 2 or 1.

        C-contiguous, of `dtype`. Cheap in ascending order; v7 must start again from the front to go back.
        Raises SourceError for damaged values, IndexError for frames outside 0..N.
        """
        storage, dtype = self._readable()
        num_frames, frame = self._split(frame_ndim)
        if not 0 <= start <= stop <= num_frames:
            raise IndexError(f"frames {start}..{stop} of {num_frames}")
        if start == stop or not prod(frame):
            return np.zeros((stop - start, *frame), dtype)
        return self._as_class(storage.read_frames(start, stop, frame), dtype)

    def block_frames(self, frame_ndim: int) -> int:
        """The frames in a block of `iter_frames`: whole chunks, about 16 MiB."""
        storage, dtype = self._readable()
        num_frames, frame = self._split(frame_ndim)
        wanted = max(1, BLOCK_BYTES // max(1, prod(frame) * dtype.itemsize))
        if not num_frames or not prod(frame):
            return wanted
        return max(1, storage.block_frames(frame, wanted))

    def iter_frames(
        self, frame_ndim: int, block: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[NDArray[Any]]:
        """Blocks of upright frames from `start` to `stop`, in ascending order.

        `block` frames at a time (default `block_frames`), cut at multiples of `block`. With more than one
        worker the next block is read while the caller works on this one, so two blocks are held.
        """
        end = self.num_frames(frame_ndim) if stop is None else stop
        size = block or self.block_frames(frame_ndim)
        first = (start // size + 1) * size
        cuts = [start, *range(first, end, size), end] if start < end else []
        spans = list(itertools.pairwise(cuts))
        if self._workers == 1 or len(spans) < 2:
            for a, b in spans:
                yield self.read_frames(a, b, frame_ndim)
            return
        with ThreadPoolExecutor(1, "fmfbench-mat") as ahead:
            coming = ahead.submit(self.read_frames, *spans[0], frame_ndim)
            for span in spans[1:]:
                ready, coming = coming, ahead.submit(self.read_frames, *span, frame_ndim)
                yield ready.result()
                del ready
            yield coming.result()

    def _readable(self) -> tuple[Storage, np.dtype[Any]]:
        if self._storage is None or self.dtype is None:
            raise SourceError(self.unreadable)
        if prod(max(1, extent) for extent in self.shape) > MOST_PLACES:  # an empty array may have any extents
            raise SourceError(f"{self._where} is {dims_text(self.shape)}: no array is that large")
        return self._storage, self.dtype

    def _split(self, frame_ndim: int) -> tuple[int, tuple[int, ...]]:
        self._readable()
        dims = self.shape
        while len(dims) > frame_ndim + 1 and dims[-1] == 1:
            dims = dims[:-1]
        if len(dims) == frame_ndim:
            dims = (*dims, 1)
        if len(dims) != frame_ndim + 1:
            wanted = f"{frame_ndim} dimensions and one of frames"
            raise SourceError(f"{self._where}: expected {wanted}, got {dims_text(self.shape)}")
        return dims[-1], dims[:-1]

    def _as_class(self, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        stored = values.dtype
        if stored == dtype:
            return values
        fits = np.can_cast(stored, dtype) or stored.kind == dtype.kind == "f" or not values.size
        if not fits and dtype.kind in "iu":
            limits = np.iinfo(dtype)  # compared as Python numbers, which do not wrap around
            fits = limits.min <= values.min().item() and values.max().item() <= limits.max
            fits = fits and (stored.kind != "f" or bool((values == np.floor(values)).all()))
        elif not fits:
            fits = np.array_equal(values.astype(dtype).astype(stored), values)
        if not fits:
            raise SourceError(
                f"{self._where} is {self.matlab_class} but holds {stored} values that do not fit"
            )
        return values.astype(dtype)


def place(out: NDArray[Any], values: NDArray[Any]) -> None:
    """Puts `values` (n, C, W, H) as the file has them into `out` (n, H, W, C); also without C, or n and P."""
    if values.ndim == 4 and values.shape[1] <= 4:
        # by channel: numpy's inner loop then runs along H and not over three channels, 4 times as fast
        for channel in range(values.shape[1]):
            out[..., channel] = values[:, channel].swapaxes(1, 2)
    else:
        out[...] = values.transpose(0, *range(values.ndim - 1, 0, -1))


def dims_text(shape: tuple[int, ...]) -> str:
    """24x32x3x10."""
    return "x".join(map(str, shape)) or "scalar"
