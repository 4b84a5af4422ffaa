"""How often a table of many equally good models has at least one pair told apart: it should be 5 in 100.

Errors of every model are those of a process of its own or of one that all share (what is hard for all), two-state
Markov processes seen at 25 frames a second as in interval_coverage.py. All models are equally good, so every pair
that is told apart is an error. Beside the simultaneous intervals of `fmfbench board` stand McNemar's test on single
frames with Bonferroni's correction, the textbook's answer, and block intervals that forget how many pairs there are.
Prints a Markdown table; run as `python benchmarks/family_wise.py --repeats 1000`.
"""

from __future__ import annotations

import argparse
from itertools import combinations, product

import numpy as np
from interval_coverage import LENGTHS, labels_of, simulate
from scipy.stats import binom

from fmfbench.exchange.labels import Labels
from fmfbench.scoring.bootstrap import block_sums, block_weights, difference_interval
from fmfbench.scoring.evidence import Tally, error_blocks
from fmfbench.scoring.metrics import count_replicates, metric
from fmfbench.scoring.simultaneous import all_pairs


def errors(
    lengths: tuple[int, ...], models: int, rate: float, tau: float, rng: np.random.Generator
) -> np.ndarray:
    """(M, N) bool: half of the error rate is shared by all models."""
    part = 1 - (1 - rate) ** 0.5
    shared = np.concatenate([simulate(length, part, tau, rng) for length in lengths])
    own = [np.concatenate([simulate(length, part, tau, rng) for length in lengths]) for _ in range(models)]
    return np.stack([shared | each for each in own])


def family_error(wrong: np.ndarray, labels: Labels, resamples: int, seed: int) -> tuple[bool, bool, bool]:
    """Whether any pair is told apart: simultaneously, by one interval a pair, by McNemar with Bonferroni."""
    tallies = []
    for row in wrong:
        frame = np.zeros((len(row), 4), np.int64)
        frame[np.arange(len(row)), row.astype(int)] = 1  # all samples normal: TN or FP
        tallies.append(Tally(frame=frame, pixel=None))
    blocks = error_blocks(tallies, labels, None)
    weights = block_weights(blocks, resamples, seed)
    entry = (metric("accuracy"),)
    drawn = {
        str(k): count_replicates(weights @ block_sums(blocks, each.frame), entry)["accuracy"]
        for k, each in enumerate(tallies)
    }
    values = {str(k): 1 - float(row.mean()) for k, row in enumerate(wrong)}
    found = all_pairs("accuracy", values, drawn, blocks)
    together = bool(((found.low > 0) | (found.high < 0)).any())
    single = mcnemar = False
    pairs = list(combinations(range(len(wrong)), 2))
    for a, b in pairs:
        interval = difference_interval(values[str(a)] - values[str(b)], drawn[str(a)] - drawn[str(b)], blocks)
        single |= interval.low is not None and (interval.low > 0 or interval.high < 0)
        first, second = int((wrong[a] & ~wrong[b]).sum()), int((wrong[b] & ~wrong[a]).sum())
        p_value = min(1.0, 2 * float(binom.cdf(min(first, second), first + second, 0.5)))
        mcnemar |= p_value * len(pairs) < 0.05
    return together, single, mcnemar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--models", type=int, default=18)
    parser.add_argument("--only", choices=LENGTHS, help="one row group of the table")
    parser.add_argument("--tau", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--rate", type=float, nargs="+", default=[0.05, 0.20])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        "| test frames | correlation time | error rate | max-T | one interval a pair | McNemar, Bonferroni |"
    )
    print("|---|---|---|---|---|---|")
    chosen = {options.only: LENGTHS[options.only]} if options.only else LENGTHS
    for (name, lengths), tau, rate in product(chosen.items(), options.tau, options.rate):
        rng = np.random.default_rng([options.seed, sum(lengths), int(tau), int(rate * 100)])
        labels = labels_of(np.zeros(sum(lengths), np.uint8), lengths)
        rows = np.array(
            [
                family_error(errors(lengths, options.models, rate, tau, rng), labels, options.resamples, k)
                for k in range(options.repeats)
            ]
        )
        shares = " | ".join(f"{share:.1%}" for share in rows.mean(axis=0))
        print(f"| {name} | {tau:g} s | {rate:.0%} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
