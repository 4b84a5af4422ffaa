"""Pixel AUROC and AUPRO from a prediction file against scikit-learn's AUROC of the same pixels in memory.

The file holds the scores of many frames of 64 x 64, one in four abnormal, as `fmfbench predict --pixel-scores` writes
them. Ours reads, unpacks and counts the file, with AUPRO and the counts of the bootstrap; scikit-learn is given flat
arrays that are in memory already, and computes AUROC alone. Memory is what each holds at most, beside what it is given.
Prints a Markdown table. Run as `python benchmarks/pixel_score.py`; scikit-learn is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.masks import pack_masks
from fmfbench.exchange.predictions import read_predictions, write_predictions
from fmfbench.scoring.bootstrap import cut_blocks
from fmfbench.scoring.pixel_ranks import rank_pixels


def frames(count: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Masks of one or two boxes in a quarter of the frames, and probabilities as a confident model gives them."""
    rng = np.random.default_rng(0)
    mask = np.zeros((count, size, size), np.uint8)
    for sample in np.flatnonzero(rng.random(count) < 0.25):
        for top, left in rng.integers(0, size * 3 // 4, (rng.integers(1, 3), 2)):
            mask[sample, top : top + size // 5, left : left + size // 4] = 1
    logit = rng.standard_normal(mask.shape, np.float32) * 3 - 6
    logit += 9 * mask
    return mask, 1 / (1 + np.exp(-logit))


Result = tuple[float, float | None]


def held(function: Callable[[], Result]) -> tuple[float, float, Result]:
    """(processor seconds, MiB of resident memory above the start, result), watched a hundred times a second."""
    start, most, done = resident(), [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.process_time()
    result = function()
    seconds = time.process_time() - began
    done.set()
    watcher.join()
    return seconds, (most[0] - start) / 2**20, result


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    mask, probability = frames(options.frames, options.size)
    bits, ids = pack_masks(mask), np.arange(options.frames)
    blocks = cut_blocks(np.zeros(options.frames, np.int64), ids * 40_000_000, 1.0)
    print("| scores | | processor seconds | MiB held | pixel AUROC | AUPRO |\n|---|---|---|---|---|---|")
    for kind in ("uint8", "float16", "float32"):
        scores = np.round(probability * 255).astype("u1") if kind == "uint8" else probability.astype(kind)
        with tempfile.TemporaryDirectory() as folder:
            path = write_predictions(
                Path(folder) / "p.npz", sample_id=ids, score=np.zeros(len(ids)), pixel_score=scores
            )

            def ours(path: Path = path) -> Result:
                found = read_predictions(path).pixel_score
                assert found is not None
                ranking = rank_pixels(found, bits, blocks=blocks)
                assert ranking.auroc is not None
                return ranking.auroc, ranking.aupro

            show(kind, f"fmfbench, file of {path.stat().st_size / 2**20:.0f} MiB", *held(ours))
        try:
            from sklearn.metrics import roc_auc_score
        except ModuleNotFoundError:
            print("(scikit-learn is not installed)")
            continue

        def theirs(scores: NDArray[np.generic] = scores) -> Result:
            return float(roc_auc_score(mask.reshape(-1), scores.reshape(-1))), None

        show(kind, "scikit-learn", *held(theirs))


def show(kind: str, name: str, seconds: float, mebibytes: float, result: Result) -> None:
    auroc, aupro = result
    aupro_text = "" if aupro is None else f"{aupro:.10f}"
    print(f"| {kind} | {name} | {seconds:.2f} | {mebibytes:.0f} | {auroc:.12f} | {aupro_text} |", flush=True)


if __name__ == "__main__":
    main()
