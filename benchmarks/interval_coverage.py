"""How often the 95 % interval holds the truth, on simulated errors of known rate and correlation time.

The error indicator is a two-state Markov process in continuous time, seen at 25 frames a second:
stationary rate p, autocorrelation exactly exp(-t / tau). Single recordings of each real test length, and all
three together.
Prints a Markdown table; run as `python benchmarks/interval_coverage.py --repeats 1000`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fmfbench.exchange.labels import Labels
from fmfbench.scoring.bootstrap import (
    Blocks,
    block_sums,
    block_weights,
    correlation_seconds,
    cut_blocks,
    proportion_interval,
)

FRAME_SECONDS = 0.04
LENGTHS = {
    "10,000": (10_000,),
    "15,000": (15_000,),
    "25,000": (25_000,),
    "all three": (10_000, 15_000, 25_000),
}


def simulate(length: int, rate: float, tau: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(length,) errors: dwell times are exponential with means tau/rate (right) and tau/(1-rate) (wrong)."""
    means = {True: tau / (1 - rate), False: tau / rate}
    state = bool(rng.random() < rate)
    expected = int(length * FRAME_SECONDS / (means[True] + means[False]))
    dwells = rng.exponential(1.0, 2 * expected + 64)
    while True:
        kinds = np.arange(len(dwells)) % 2 == (0 if state else 1)
        ends = np.cumsum(np.where(kinds, means[True], means[False]) * dwells)
        if ends[-1] > length * FRAME_SECONDS:
            return kinds[np.searchsorted(ends, np.arange(length) * FRAME_SECONDS, side="right")]
        dwells = np.concatenate([dwells, rng.exponential(1.0, len(dwells))])


def labels_of(label: NDArray[np.uint8], lengths: Sequence[int], step: float = FRAME_SECONDS) -> Labels:
    """Labels of test samples `step` seconds apart, of recordings of these lengths."""
    frame = np.concatenate([np.arange(length) for length in lengths])
    return Labels(
        sample_id=np.arange(len(label)),
        recording=np.repeat(np.arange(len(lengths)), lengths),
        frame=frame,
        frame_time=frame * round(step * 1e9),
        split=np.ones(len(label), np.uint8),
        class_label=label,
        mask_bits=None,
        mask_shape=None,
        recordings=tuple(f"r{k}" for k in range(len(lengths))),
        fingerprint="x",
    )


def covered(lengths: tuple[int, ...], rate: float, tau: float, rng: np.random.Generator, resamples: int):
    """(block interval holds 1 - rate, iid bootstrap does, width of the first, whether there was one)."""
    wrong = np.concatenate([simulate(length, rate, tau, rng) for length in lengths])
    recording = np.repeat(np.arange(len(lengths)), lengths)
    times = np.concatenate([np.arange(length) for length in lengths]) * round(FRAME_SECONDS * 1e9)
    blocks = cut_blocks(recording, times, correlation_seconds(wrong.astype(float), recording, FRAME_SECONDS))
    accuracy = 1 - wrong.mean()
    errors = block_sums(blocks, np.stack([wrong, ~wrong], axis=1).astype(np.int64))
    bearing = int(np.count_nonzero(errors, axis=0).min())
    interval = proportion_interval(accuracy, replicates_of(wrong, blocks, resamples, rng), blocks, bearing)
    iid = np.quantile(rng.binomial(len(wrong), accuracy, resamples) / len(wrong), [0.025, 0.975])
    truth = 1 - rate
    given = interval.low is not None and interval.high is not None
    return (
        interval.low <= truth <= interval.high if given else np.nan,
        iid[0] <= truth <= iid[1],
        interval.high - interval.low if given else np.nan,
        given,
    )


def replicates_of(
    wrong: NDArray[np.bool_], blocks: Blocks, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    counts = block_sums(blocks, np.stack([wrong, np.ones_like(wrong)], axis=1).astype(np.int64))
    totals = block_weights(blocks, resamples, int(rng.integers(1 << 31))) @ counts
    return 1 - totals[:, 0] / totals[:, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--only", choices=LENGTHS, help="one row group of the table")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    head = (
        "test frames",
        "correlation time",
        "error rate",
        "segments",
        "given",
        "block interval",
        "mean width",
    )
    print(f"| {' | '.join(head)} | iid bootstrap |")
    print("|---|---|---|---|---|---|---|---|")
    chosen = {options.only: LENGTHS[options.only]} if options.only else LENGTHS
    for (name, lengths), tau, rate in product(chosen.items(), (1.0, 4.0, 16.0), (0.02, 0.20)):
        rng = np.random.default_rng([options.seed, sum(lengths), int(tau), int(rate * 100)])
        rows = np.array([covered(lengths, rate, tau, rng, options.resamples) for _ in range(options.repeats)])
        block, iid, width, given = np.nanmean(rows.astype(float), axis=0)
        segments = sum(lengths) * FRAME_SECONDS / (tau / rate + tau / (1 - rate))
        cells = (
            f"{tau:g} s",
            f"{rate:.0%}",
            f"{segments:.1f}",
            f"{given:.0%}",
            f"{block:.1%}",
            f"{width:.3f}",
        )
        print(f"| {name} | {' | '.join(cells)} | {iid:.1%} |", flush=True)


if __name__ == "__main__":
    main()
