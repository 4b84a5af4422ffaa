"""Pixel masks as packed bits: eight pixels a byte, counted 64 at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fmfbench.scoring.metrics import Confusion

__all__ = [
    "mask_counts",
    "pack_masks",
    "packed_length",
    "padding_is_set",
    "pixel_confusion",
    "unpack_masks",
]

_BLOCK_BYTES = 1 << 18  # three such blocks stay in a core's second-level cache


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


def mask_counts(truth: NDArray[np.uint8], pred: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Per sample, from packed masks (N, K): (N, 3) int64 = (TP, pixels predicted, pixels true)."""
    counts = np.empty((len(truth), 3), np.int64)
    for rows, true_words, pred_words in _word_blocks(truth, pred):
        counts[rows, 0] = np.bitwise_count(true_words & pred_words).sum(axis=1, dtype=np.int64)
        counts[rows, 1] = np.bitwise_count(pred_words).sum(axis=1, dtype=np.int64)
        counts[rows, 2] = np.bitwise_count(true_words).sum(axis=1, dtype=np.int64)
    return counts


def pixel_confusion(counts: NDArray[np.int64], num_pixels: int) -> Confusion:
    """Pool what `mask_counts` gives over all samples of `num_pixels` pixels each."""
    tp, predicted, true = (int(value) for value in counts.sum(axis=0))
    fp, fn = predicted - tp, true - tp
    return Confusion(tn=len(counts) * num_pixels - tp - fp - fn, fp=fp, fn=fn, tp=tp)


def _word_blocks(
    truth: NDArray[np.uint8], pred: NDArray[np.uint8]
) -> Iterator[tuple[slice, NDArray[np.uint64], NDArray[np.uint64]]]:
    length = truth.shape[1]
    rows = max(1, _BLOCK_BYTES // max(length, 1))
    for start in range(0, len(truth), rows):
        part = slice(start, start + rows)
        yield part, _as_words(truth[part]), _as_words(pred[part])


def _as_words(block: NDArray[np.uint8]) -> NDArray[np.uint64]:
    short = -block.shape[1] % 8
    if short or not block.flags.c_contiguous:
        block = np.pad(block, ((0, 0), (0, short)))
    return block.view(np.uint64)
