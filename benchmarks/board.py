"""Seconds that `fmfbench board` takes for bundles of as many masks as the real test split has, 64 x 64 pixels each.

Labels and predictions are made up: events of 10 s, masks of one spot, errors that last. Prints processor and wall
seconds; run as `python benchmarks/board.py`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from fmfbench.board.board import make_board
from fmfbench.board.bundle import write_bundle
from fmfbench.exchange.labels import Labels, read_labels, write_labels
from fmfbench.exchange.masks import pack_masks
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring.score import score

LENGTHS = (10_000, 15_000, 25_000)
OPTIONS = {"context": None, "protocol": None, "resamples": 2000, "block_seconds": None, "seed": 0, "per_second": False,
           "aupro_limit": 0.3}  # fmt: skip


def labels_of(rng: np.random.Generator) -> Labels:
    count = sum(LENGTHS)
    label = np.repeat(rng.random(count // 250) < 0.5, 250).astype(np.uint8)
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    mask = np.zeros((count, 64, 64), np.uint8)
    mask[label == 1, 20:34, 25:41] = 1
    return Labels(
        sample_id=np.arange(count),
        recording=np.repeat(np.arange(3), LENGTHS),
        frame=frame,
        frame_time=frame * 40_000_000,
        split=np.ones(count, np.uint8),
        class_label=label,
        mask_bits=pack_masks(mask),
        mask_shape=(64, 64),
        recordings=("a", "b", "c"),
        fingerprint="ab" * 32,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = labels_of(rng)
    count = len(labels)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = read_labels(write_labels(folder / "labels.npz", labels))
        paths = []
        for k in range(options.bundles):
            p = 0.3 + 0.4 * labels.class_label + np.repeat(rng.normal(0, 0.2, count // 100), 100)
            p = np.clip(p + rng.normal(0, 0.05, count), 0, 1)
            mask = np.zeros((count, 64, 64), np.uint8)
            mask[p > 0.5, 21:35, 26:42] = 1
            file = write_predictions(folder / f"{k}.npz", sample_id=np.arange(count), score=p, mask=mask)
            paths.append(write_bundle(folder / f"{k}.fmfb", file, score(file, truth, "test"), OPTIONS))
        for reports in (True, False):
            start, used = time.perf_counter(), time.process_time()
            make_board(paths, folder / "labels.npz", folder / f"board-{reports}", reports=reports)
            told = f"{time.process_time() - used:.1f} s of a processor, {time.perf_counter() - start:.1f} s"
            print(
                f"{options.bundles} bundles of {count:,} masks, {'with' if reports else 'without'} reports: {told}"
            )


if __name__ == "__main__":
    main()
