"""Pixel confusion of masks against scikit-learn and torchmetrics: the same integers, how much faster.

5,000 masks of 64 x 64 are in memory: packed as the scorer holds them, and as (N, H, W) uint8, packed on the way.
torchmetrics runs without argument validation. The best of several runs of each; prints a Markdown table.
Run as `python benchmarks/score.py`; scikit-learn and torchmetrics are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.masks import pack_masks
from fmfbench.scoring.counts import Confusion, mask_counts, pixel_confusion

Counted = tuple[float, tuple[int, int, int, int]]


def masks(count: int, size: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """True masks of one box each in two samples of five, and predictions of them with errors."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((count, size, size), np.uint8)
    for sample in np.flatnonzero(rng.random(count) < 0.4):
        top, left = rng.integers(0, size // 2, 2)
        truth[sample, top : top + size // 4, left : left + size // 4] = 1
    return truth, truth ^ (rng.random(truth.shape) < 0.02).astype(np.uint8)


def best(function: Callable[[], tuple[int, int, int, int]], repeats: int) -> Counted:
    seconds, counted = [], function()
    for _ in range(repeats):
        start = time.perf_counter()
        counted = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), counted


def ours(truth: NDArray[np.uint8], pred: NDArray[np.uint8]) -> Iterator[tuple[str, Counted]]:
    def of(counts: Confusion) -> tuple[int, int, int, int]:
        return counts.tn, counts.fp, counts.fn, counts.tp

    pixels = truth.shape[1] * truth.shape[2]
    true_bits, pred_bits = pack_masks(truth), pack_masks(pred)
    yield (
        "fmfbench, packed bits",
        best(lambda: of(pixel_confusion(mask_counts(true_bits, pred_bits), pixels)), 20),
    )
    one = best(lambda: of(pixel_confusion(mask_counts(true_bits, pack_masks(pred)), pixels)), 20)
    yield "fmfbench, packing the prediction", one
    both = best(lambda: of(pixel_confusion(mask_counts(pack_masks(truth), pack_masks(pred)), pixels)), 20)
    yield "fmfbench, packing both", both


def theirs(truth: NDArray[np.uint8], pred: NDArray[np.uint8], repeats: int) -> Iterator[tuple[str, Counted]]:
    try:
        import torch
        from torchmetrics.functional.classification import binary_confusion_matrix
    except ModuleNotFoundError as error:
        print(f"({error.name} is not installed)")
    else:
        target, guess = torch.from_numpy(truth).long(), torch.from_numpy(pred).long()

        def by_torchmetrics() -> tuple[int, int, int, int]:
            matrix = binary_confusion_matrix(guess, target, validate_args=False)
            return tuple(int(v) for v in matrix.flatten())  # type: ignore[return-value]

        yield f"torchmetrics, {torch.get_num_threads()} threads", best(by_torchmetrics, repeats)
    try:
        from sklearn.metrics import confusion_matrix
    except ModuleNotFoundError as error:
        print(f"({error.name} is not installed)")
    else:

        def by_sklearn() -> tuple[int, int, int, int]:
            return tuple(int(v) for v in confusion_matrix(truth.ravel(), pred.ravel()).ravel())

        yield "scikit-learn", best(by_sklearn, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=int, default=5000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    truth, pred = masks(options.masks, options.size)
    rows = [*ours(truth, pred), *theirs(truth, pred, options.repeats)]
    fast, expected = rows[0][1]
    print("| | seconds | times packed bits | TN, FP, FN, TP |\n|---|---|---|---|")
    for name, (seconds, counted) in rows:
        print(f"| {name} | {seconds:.5f} | {seconds / fast:.1f} | {', '.join(map(str, counted))} |")
        assert counted == expected, f"{name} counts otherwise"


if __name__ == "__main__":
    main()
