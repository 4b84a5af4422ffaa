"""How often the 95 % intervals of all metrics of counts and ranks hold the truth, on simulated furnaces.

Labels are a two-state Markov process (a third abnormal, mean event three correlation times of the errors); scores are
the label's shift plus a Gaussian process of the correlation time and one of a tenth of it, so that errors come in
episodes; a mask's hits, misses and false pixels follow processes of the same time. The truth of each metric is that of
a run of 4,000,000 frames. "segments" are the expected episodes of errors, those less than a correlation time apart
joined. Prints a Markdown table: coverage, and in brackets the share of repetitions in which there was an interval.
Run as `python benchmarks/metric_coverage.py --repeats 400`.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
from family_wise import labels_of
from interval_coverage import FRAME_SECONDS, simulate
from scipy.signal import lfilter

from fmfbench.scoring.bootstrap import block_sums, block_weights
from fmfbench.scoring.events import segments
from fmfbench.scoring.evidence import Tally, error_blocks
from fmfbench.scoring.figures import count_figures, rank_figures
from fmfbench.scoring.metrics import COUNT_METRICS, bearing_blocks, count_metrics, count_replicates

NAMES = ("accuracy", "f1", "fdr", "mdr", "miou", "auroc", "ap")
RECORDINGS = {1: (15_000,), 3: (10_000, 15_000, 25_000), 10: (5_000,) * 10}
PIXELS = 4096


def smooth(length: int, tau: float, rng: np.random.Generator) -> np.ndarray:
    """(length,) standard normal with autocorrelation exp(-t / tau)."""
    keep = np.exp(-FRAME_SECONDS / tau)
    noise = rng.normal(size=length) * (1 - keep**2) ** 0.5
    noise[0] = rng.normal()
    return lfilter([1], [1, -keep], noise)


def furnace(length: int, tau: float, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """(label, score, pixel counts (N, 4) of TN, FP, FN, TP) of one recording."""
    label = simulate(length, 1 / 3, 3 * tau, rng)
    latent = shift * (2 * label - 1) + 0.9 * smooth(length, tau, rng) + 0.436 * smooth(length, tau / 10, rng)
    score = 1 / (1 + np.exp(-latent))
    share = 1 / (1 + np.exp(-(1.5 + smooth(length, tau, rng))))
    hits = np.where(label & (score > 0.5), np.round(300 * share), 0).astype(int)
    missed = np.where(label, 300 - hits, 0)
    false = np.where(score > 0.5, np.round(300 * (1 - share) * (1 + ~label)), 0).astype(int)
    pixel = np.stack([PIXELS - hits - missed - false, false, missed, hits], axis=1)
    return label.astype(np.uint8), score, pixel


def tally_of(label: np.ndarray, score: np.ndarray, pixel: np.ndarray) -> Tally:
    frame = np.zeros((len(label), 4), np.int64)
    frame[np.arange(len(label)), 2 * label.astype(int) + (score > 0.5)] = 1
    return Tally(frame=frame, pixel=pixel)


def joined(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def truth_of(tau: float, shift: float, rng: np.random.Generator) -> tuple[dict[str, float], float]:
    """Long-run values, and episodes of errors an hour."""
    length = 4_000_000
    label, score, pixel = furnace(length, tau, shift, rng)
    counts = tally_of(label, score, pixel)
    values = count_metrics(counts.frame_total, counts.pixel_total)[0]
    from sklearn.metrics import average_precision_score, roc_auc_score

    values |= {"auroc": roc_auc_score(label, score), "ap": average_precision_score(label, score)}
    time = np.arange(length) * round(FRAME_SECONDS * 1e9)
    episodes = len(segments((score > 0.5) != label, np.zeros(length, int), time, tau))
    return values, episodes / (length * FRAME_SECONDS / 3600)


def intervals(parts: list[tuple[np.ndarray, ...]], lengths: tuple[int, ...], resamples: int, seed: int):
    label, score, pixel = joined(parts)
    labels, counts = labels_of(lengths), tally_of(label, score, pixel)
    blocks = error_blocks([counts], labels, None)
    weights = block_weights(blocks, resamples, seed)
    sums = block_sums(blocks, counts.columns())
    values, reasons = count_metrics(counts.frame_total, counts.pixel_total)
    replicates = count_replicates(weights @ sums)
    figures = count_figures(values, reasons, replicates, blocks, bearing_blocks(sums))
    return {f.name: f for f in (*figures, *rank_figures(label, score, blocks, weights[:200]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    assert set(COUNT_METRICS) < set(NAMES)
    print(f"| recordings | correlation time | accuracy | segments | {' | '.join(NAMES)} |")
    print("|" + "---|" * (4 + len(NAMES)))
    for tau, shift, (count, lengths) in product((1.0, 4.0, 16.0, 60.0), (1.0, 2.0), RECORDINGS.items()):
        rng = np.random.default_rng([options.seed, int(tau), int(shift), count])
        truth, rate = truth_of(tau, shift, rng)
        held, known = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
        for repeat in range(options.repeats):
            parts = [furnace(length, tau, shift, rng) for length in lengths]
            for name, figure in intervals(parts, lengths, options.resamples, repeat).items():
                if figure.low is not None:
                    known[name] += 1
                    held[name] += figure.low <= truth[name] <= figure.high
        cells = [
            f"{held[name] / known[name]:.1%} ({known[name] / options.repeats:.0%})"
            if known[name]
            else "- (0%)"
            for name in NAMES
        ]
        expected = rate * sum(lengths) * FRAME_SECONDS / 3600
        line = f"| {count} | {tau:g} s | {truth['accuracy']:.3f} | {expected:.0f} | {' | '.join(cells)} |"
        print(line, flush=True)


if __name__ == "__main__":
    main()
