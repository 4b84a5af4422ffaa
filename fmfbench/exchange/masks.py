"""Pixel masks as packed bits: eight pixels a byte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "pack_masks",
    "packed_length",
    "padding_is_set",
    "unpack_masks",
]


def packed_length(height: int, width: int) -> int:
    """Bytes of one packed mask: ceil(H*W / 8)."""
    return (height * width + 7) // 8


def pack_masks(mask: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(N, H, W) of 0/1 -> (N, ceil(H*W/8)) uint8, row i = numpy.packbits(mask[i].ravel())."""
    pixels = mask.reshape(len(mask), mask.shape[1] * mask.shape[2])
    if pixels.dtype.kind not in "bu" or pixels.dtype.itemsize != 1:
        pixels = pixels != 0
    return np.packbits(pixels.view(np.uint8), axis=1)


def unpack_masks(mask_bits: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The inverse of `pack_masks`: (N, ceil(H*W/8)) -> (N, H, W) uint8 0/1."""
    height, width = shape
    pixels = np.unpackbits(mask_bits, axis=1, count=height * width)
    return pixels.reshape(len(mask_bits), height, width)


def padding_is_set(mask_bits: NDArray[np.uint8], num_pixels: int) -> NDArray[np.bool_]:
    """(N,) bool: True where a bit behind the last pixel is not 0."""
    used = num_pixels % 8
    if not used:
        return np.zeros(len(mask_bits), bool)
    behind = mask_bits[:, -1] & np.uint8(0xFF >> used)
    return behind.astype(bool)
