"""Masks of a prediction file, packed as they are read: the dense ones are never held whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.masks import pack_masks, packed_length
from fmfbench.files.npz import Header, NpzFile

__all__ = ["pack_stream"]


def pack_stream(archive: NpzFile, header: Header) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pack an (N,H,W) member as it is read; also says which rows hold anything but 0 and 1."""
    length, height, width = header.shape
    if header.fortran:
        return _pack_fortran(archive, header)
    bits = np.empty((length, packed_length(height, width)), np.uint8)
    wrong = np.zeros(length, bool)
    for part, block in archive.blocks("mask", header):
        if block.size and not 0 <= block.min() <= block.max() <= 1:
            wrong[part] = ((block != 0) & (block != 1)).any(axis=(1, 2))
        bits[part] = pack_masks(block)
    return bits, wrong


def _pack_fortran(archive: NpzFile, header: Header) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The same for Fortran order, where a pixel's samples lie together: holds one byte a pixel meanwhile."""
    length, height, width = header.shape
    planes = np.empty((width, height, length), np.bool_)
    wrong = np.zeros(length, bool)
    for part, block in archive.blocks("mask", header):
        if block.size and not 0 <= block.min() <= block.max() <= 1:
            wrong |= ((block != 0) & (block != 1)).any(axis=(0, 1))
        planes[part] = block != 0
    bits = np.empty((length, packed_length(height, width)), np.uint8)
    for start in range(0, length, 256):
        part = slice(start, start + 256)
        bits[part] = pack_masks(np.ascontiguousarray(planes[:, :, part].transpose(2, 1, 0)))
    return bits, wrong
