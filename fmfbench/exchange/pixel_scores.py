"""Pixel scores of a prediction file, read again from the file whenever they are wanted and never held whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.files.npz import Header, NpzFile

__all__ = ["MOST_PIXELS", "PIXEL_TYPES", "PixelScores", "in_range", "pixel_keys", "top_key"]

NAME = "pixel_score"
PIXEL_TYPES = ("uint8", "float16", "float32")
MOST_PIXELS = 1 << 31  # so that counts of pairs stay below 2^63
_BLOCK_PIXELS = 1 << 19


@dataclass(frozen=True, kw_only=True)
class PixelScores:
    """Scores of all pixels of N samples, as they lie in a file.

    Attributes:
        path: of the file, which must not change meanwhile.
        shape: (N, H, W).
        dtype: float16 or float32 in [0, 1], or uint8, a value v meaning v / 255.
        place: (N,) where each row of the file belongs in the order of sample id.
    """

    path: Path
    header: Header
    place: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int, int]:
        count, height, width = self.header.shape
        return count, height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.header.dtype.newbyteorder("=")

    def blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[Any]]]:
        """(places (k,), scores (k, H, W) as stored, native) of some samples after the other, in the file's order.

        Valid until the next one.
        """
        with NpzFile(self.path) as archive:
            for rows, block in c_blocks(archive, self.header):
                yield self.place[rows], block

    def load(self) -> NDArray[Any]:
        """All of them (N, H, W), in order of sample id, as stored."""
        out = np.empty(self.shape, self.dtype)
        for places, block in self.blocks():
            out[places] = block
        return out

    def reordered(self, order: NDArray[np.intp]) -> PixelScores:
        """The same with the samples in another order: place i holds what place order[i] held."""
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return replace(self, place=place[self.place])


def c_blocks(archive: NpzFile, header: Header) -> Iterator[tuple[slice, NDArray[Any]]]:
    """(rows, block (k, H, W)) of the member, in order, whatever the order that it is stored in."""
    if not header.fortran:
        yield from archive.blocks(NAME, header)
        return
    # Here a pixel's samples lie together: turned in a file of its own, not in memory.
    with tempfile.TemporaryFile() as file:
        if not header.nbytes:
            return
        turned = np.memmap(file, header.dtype.newbyteorder("="), "w+", shape=header.shape)
        for part, block in archive.blocks(NAME, header):
            turned.T[part] = block
        step = max(1, _BLOCK_PIXELS // max(header.shape[1] * header.shape[2], 1))
        for start in range(0, len(turned), step):
            yield slice(start, start + step), np.array(turned[start : start + step])
        del turned  # a file cannot go while it is mapped on some systems


def check_header(header: Header) -> str | None:
    """What is wrong with the array's type or shape, in one line, or None."""
    if len(header.shape) != 3 or header.dtype.newbyteorder("=").name not in PIXEL_TYPES:
        return (
            f"{NAME} has shape {header.shape} and type {header.dtype}; write (N, H, W) of float16 or float32 in "
            "[0,1], or of uint8 for 255 times that"
        )
    if not (header.shape[1] and header.shape[2]):
        return f"{NAME} has shape {header.shape}; write the height and width of the frames"
    if header.shape[0] * header.shape[1] * header.shape[2] > MOST_PIXELS:
        return f"{NAME} has shape {header.shape}; at most {MOST_PIXELS} pixels can be scored"
    return None


def wrong_rows(archive: NpzFile, header: Header) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) twice: which samples hold NaN, and which values outside [0, 1]. Reads the whole array once.

    Raises:
        PredictionError: the array cannot be read.
    """
    nan, outside = np.zeros(header.shape[0], bool), np.zeros(header.shape[0], bool)
    for rows, block in c_blocks(archive, header):
        if not in_range(block):
            nan[rows] = np.isnan(block).any(axis=(1, 2))
            good = ((block >= 0) & (block <= 1)) | np.isnan(block)
            outside[rows] = ~good.all(axis=(1, 2))
    return nan, outside


def in_range(block: NDArray[Any]) -> bool:
    """Whether all values are in [0, 1] for certain; -0.0 leaves it open.

    Exists because the largest of the bits is found many times faster than NaN and limits are looked for: bits of
    NaN, of infinity, of what is negative and of what is above 1 are above those of 1.
    """
    if block.dtype == np.uint8 or not block.size:
        return True
    bits = block.view(f"u{block.dtype.itemsize}")
    return bool(bits.max() <= top_key(block.dtype))


def pixel_keys(block: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers in the order of the scores, equal where the scores are: the bits, without the sign of zero."""
    if block.dtype == np.uint8:
        return block
    bits = block.view(f"u{block.dtype.itemsize}")
    return np.bitwise_and(bits, bits.dtype.type((1 << (8 * bits.dtype.itemsize - 1)) - 1))


def top_key(dtype: np.dtype[Any]) -> int:
    """The key of the highest score."""
    if dtype == np.uint8:
        return 255
    return int(np.ones(1, dtype).view(f"u{dtype.itemsize}")[0])


def check_values(array: NDArray[Any]) -> None:
    """Refuse to write what would be refused when read, as far as type and shape tell.

    Raises:
        PredictionError: neither (N, H, W) of float16, float32 or uint8.
    """
    header = Header(dtype=array.dtype, shape=array.shape, fortran=False, offset=0)
    wrong = check_header(header)
    if wrong:
        raise PredictionError(wrong)
