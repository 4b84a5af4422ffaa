"""Exact integer counts of two-class decisions: of samples, and of packed mask pixels, 64 at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Confusion", "confusion", "mask_counts", "pixel_confusion"]

_BLOCK_BYTES = 1 << 18  # three such blocks stay in a core's second-level cache


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts of a two-class decision; abnormal is the positive class. Python integers: they cannot wrap."""

    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def total(self) -> int:
        return self.tn + self.fp + self.fn + self.tp

    def as_dict(self) -> dict[str, int]:
        return {"tn": self.tn, "fp": self.fp, "fn": self.fn, "tp": self.tp}


def confusion(label: NDArray[np.integer], pred: NDArray[np.integer]) -> Confusion:
    """Count the four outcomes of 0/1 labels and 0/1 decisions, both of shape (N,)."""
    tn, fp, fn, tp = np.bincount(2 * label.astype(np.intp) + pred, minlength=4).tolist()
    return Confusion(tn=tn, fp=fp, fn=fn, tp=tp)


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
