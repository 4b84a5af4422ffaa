"""How often the 95 % intervals of all metrics hold the truth, on simulated furnaces.

Labels are a two-state Markov process (a third abnormal, mean event three correlation times of the errors); scores rise
after an onset, and lie about the label by a Gaussian process of the correlation time and one of a tenth of it, so that
errors come in episodes and events are found late; masks and pixel scores follow processes of the same time. Seen 16
times a correlation time, at most 5 frames a second and at least one: the times count, not the rate. The truth is that
of a run of 1,200,000 frames.

"segments" are the expected episodes of what goes wrong for a metric (those less than a correlation time apart joined):
errors; for FDR false positives, for MDR misses; for event metrics missed events, events, false alarms. Each cell is the
share of intervals that held the truth, in brackets in how many repetitions there was one, and the mean width.

    python benchmarks/metric_coverage.py --repeats 500 --processes 2 > coverage.md
"""

from __future__ import annotations

import argparse
from itertools import product
from multiprocessing import Pool

import numpy as np
from interval_coverage import labels_of
from scipy.signal import lfilter
from scipy.special import expit, ndtr

from fmfbench.scoring import events, ranks
from fmfbench.scoring.bootstrap import block_weights
from fmfbench.scoring.calibration import BINS, reliability, reliability_bins
from fmfbench.scoring.evidence import RANK_RESAMPLES, Tally, error_blocks
from fmfbench.scoring.figures import count_figures, event_figures, pixel_rank_figures, rank_figures
from fmfbench.scoring.metrics import (
    COUNT_METRICS,
    EVENT_METRICS,
    METRICS,
    RANK_METRICS,
    Figure,
    bearing_blocks,
    count_metrics,
    count_replicates,
    metric,
)
from fmfbench.scoring.pixel_ranks import PixelRanking

FRAMES = 200_000  # of each of six recordings that the truth is of
PIXELS, EDGES, MEANS = 4096, np.linspace(-4, 6, 31), np.linspace(-5, 7, 385)
RECORDINGS = {"1 of 600 s": (600.0,), "3 of 400 to 1,000 s": (400.0, 600.0, 1000.0), "10 of 200 s": (200.0,) * 10,
              "10 of 1,000 s": (1000.0,) * 10}  # fmt: skip
WRONG = {"fdr": "fp", "mdr": "fn", "event_recall": "missed", "delay_median_s": "events", "delay_p95_s": "events",
         "false_alarms_per_hour": "alarms", "alarm_time_normal": "alarms"}  # fmt: skip


def step_of(tau: float) -> float:
    """Seconds between frames."""
    return min(max(tau / 16, 0.2), 1.0)


def markov(length: int, rate: float, tau: float, step: float, rng: np.random.Generator) -> np.ndarray:
    """(length,) two states in continuous time, `rate` of it in the second, autocorrelation exp(-t / tau)."""
    means = (tau / rate, tau / (1 - rate))
    dwells = rng.exponential(1.0, 2 * int(length * step / sum(means)) + 64)
    state = int(rng.random() < rate)
    while True:
        kinds = (np.arange(len(dwells)) + state) % 2
        ends = np.cumsum(np.where(kinds, means[1], means[0]) * dwells)
        if ends[-1] > length * step:
            return kinds[np.searchsorted(ends, np.arange(length) * step, side="right")]
        dwells = np.concatenate([dwells, rng.exponential(1.0, len(dwells))])


def smooth(length: int, tau: float, step: float, rng: np.random.Generator) -> np.ndarray:
    """(length,) standard normal with autocorrelation exp(-t / tau)."""
    keep = np.exp(-step / tau)
    noise = rng.normal(size=length) * (1 - keep**2) ** 0.5
    noise[0] = rng.normal()
    return lfilter([1], [1, -keep], noise)


def furnace(seconds: float, tau: float, shift: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Labels, scores, pixel counts (N, 4) of TN, FP, FN, TP, and of pixel scores the size and both means."""
    step = step_of(tau)
    length = round(seconds / step)
    label = markov(length, 1 / 3, 3 * tau, step, rng)
    onsets = np.flatnonzero(np.diff(label, prepend=0) == 1)
    place = np.arange(length)
    since = (
        place - onsets[np.maximum(np.searchsorted(onsets, place, "right") - 1, 0)] if len(onsets) else place
    )
    grown = np.where(label, 1 - np.exp(-since * step / (0.4 * tau)), 0)
    slow = smooth(length, tau, step, rng)
    score = expit(shift * (2.4 * grown - 1) + 0.9 * slow + 0.436 * smooth(length, tau / 10, step, rng))
    size = np.round(300 * np.exp(0.5 * smooth(length, 3 * tau, step, rng))).clip(20, 1500)
    share = expit(1.5 + smooth(length, tau, step, rng))
    hits = np.where((label == 1) & (score > 0.5), np.round(size * share), 0).astype(int)
    missed = np.where(label, size - hits, 0).astype(int)
    false = np.where(score > 0.5, np.round(300 * (1 - share) * (2 - label)), 0).astype(int)
    return {
        "label": label.astype(np.uint8),
        "score": score,
        "pixel": np.stack([PIXELS - hits - missed - false, false, missed, hits], axis=1),
        "size": np.where(label, size, 0),
        "normal_mean": 0.5 * smooth(length, tau, step, rng),
        "abnormal_mean": shift + 0.8 * slow,
    }


def pixel_levels(found: dict[str, np.ndarray], block: np.ndarray, blocks: int) -> np.ndarray:
    """(3, B, G) normal pixels, abnormal ones and shares of the region, by block and group of scores, lowest first.

    Scores of a frame's pixels are normal around its means, which are rounded to one of `MEANS`.
    """
    table = np.diff(ndtr(EDGES - MEANS[:, None]), axis=1, prepend=0, append=1)

    def sums(mean: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        near = np.round((mean - MEANS[0]) / (MEANS[1] - MEANS[0])).astype(np.intp).clip(0, len(MEANS) - 1)
        cells = np.bincount(block * len(MEANS) + near, pixels, minlength=blocks * len(MEANS))
        return cells.reshape(blocks, -1) @ table

    size = found["size"]
    return np.stack(
        [
            sums(found["normal_mean"], PIXELS - size),
            sums(found["abnormal_mean"], size),
            sums(found["abnormal_mean"], size > 0),
        ]
    )


def pixel_ranking(blocks: np.ndarray) -> PixelRanking:
    """Of (3, B, G) counts: both areas."""
    normal, abnormal, share = (np.append(0.0, np.cumsum(row[::-1])) for row in blocks.sum(axis=1))
    rate = normal / normal[-1]
    return PixelRanking(
        auroc=ranks.staircase_area(rate, abnormal / abnormal[-1]),
        aupro=ranks.staircase_area(rate, share / share[-1], 0.3) / 0.3,
        limit=0.3,
        regions=1,
        blocks=blocks,
    )


def tally_of(found: dict[str, np.ndarray]) -> Tally:
    label = found["label"].astype(int)
    frame = np.zeros((len(label), 4), np.int64)
    frame[np.arange(len(label)), 2 * label + (found["score"] > 0.5)] = 1
    return Tally(frame=frame, pixel=found["pixel"])


def truth_of(tau: float, shift: float, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, float]]:
    """Long-run values, and episodes an hour of what goes wrong."""
    parts = [furnace(FRAMES * step_of(tau), tau, shift, rng) for _ in range(6)]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    counts, labels = tally_of(found), labels_of(found["label"], [FRAMES] * 6, step_of(tau))
    values = count_metrics(counts.frame_total, counts.pixel_total)[0]
    cumulated = ranks.cumulated(ranks.rank(found["label"], found["score"]))
    values |= {name: metric(name).formula(*cumulated) for name in RANK_METRICS}
    pixels = pixel_ranking(pixel_levels(found, np.zeros(len(found["size"]), np.intp), 1))
    values |= {"pixel_auroc": pixels.auroc, "aupro": pixels.aupro}
    gaps = np.bincount(reliability_bins(found["score"]), found["label"] - found["score"], minlength=BINS)
    values["ece"] = float(metric("ece").formula(gaps / len(found["label"])))
    on = found["score"] > 0.5
    matched = events.match_events(found["label"], on.astype(np.uint8), labels.recording, labels.frame_time)
    plain = events.as_drawn(matched)
    values |= {name: float(metric(name).formula(plain)[0]) for name in EVENT_METRICS}

    def episodes(wrong: np.ndarray) -> int:
        return len(events.segments(wrong, labels.recording, labels.frame_time, tau))

    normal = found["label"] == 0
    number = {
        "errors": episodes(on == normal),
        "fp": episodes(on & normal),
        "fn": episodes(~on & ~normal),
        "missed": int(np.isnan(matched.delay).sum()),
        "events": len(matched.events),
        "alarms": len(matched.false_spans),
    }
    hours = len(on) * step_of(tau) / 3600
    return values, {key: value / hours for key, value in number.items()}


def figures_of(arguments: tuple[float, float, tuple[float, ...], list[int], int]) -> dict[str, Figure]:
    """The figures of one test set, by the product's own functions."""
    tau, shift, recordings, seed, resamples = arguments
    rng = np.random.default_rng(seed)
    parts = [furnace(seconds, tau, shift, rng) for seconds in recordings]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    labels = labels_of(found["label"], [len(part["label"]) for part in parts], step_of(tau))
    counts = tally_of(found)
    ranking = ranks.rank(found["label"], found["score"])
    blocks = error_blocks([counts], labels, None, rankings=[ranking])
    weights = block_weights(blocks, resamples, int(rng.integers(1 << 31)))
    sums = counts.by_block(blocks)
    values, reasons = count_metrics(counts.frame_total, counts.pixel_total)
    drawn = count_replicates(weights @ sums)
    figures = [*count_figures(values, reasons, drawn, blocks, bearing_blocks(sums))]
    figures += rank_figures(ranking, blocks, weights[:RANK_RESAMPLES])
    if 0 < found["label"].sum() < len(found["label"]):
        levels = pixel_levels(found, blocks.of_sample, len(blocks))
        figures += pixel_rank_figures(pixel_ranking(levels), None, blocks, weights[:RANK_RESAMPLES])
    decision = (found["score"] > 0.5).astype(np.uint8)
    matched = events.match_events(found["label"], decision, labels.recording, labels.frame_time)
    figures += event_figures(matched, resamples, 0, blocks, weights)
    figures.append(reliability(found["label"], found["score"], blocks, weights).ece)
    return {figure.name: figure for figure in figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tau", type=float, nargs="+", default=[1.0, 4.0, 16.0, 60.0])
    parser.add_argument("--recordings", nargs="+", default=list(RECORDINGS), choices=list(RECORDINGS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    assert set(COUNT_METRICS) < {entry.name for entry in METRICS}
    print("| recordings | correlation time | shift | metric | truth | segments | held (given) | mean width |")
    print("|---|---|---|---|---|---|---|---|")
    with Pool(options.processes) as pool:
        for tau, shift in product(options.tau, (1.0, 2.0)):
            truth, rates = truth_of(tau, shift, np.random.default_rng([options.seed, int(tau), int(shift)]))
            for name in options.recordings:
                recordings = RECORDINGS[name]
                seeds = [[options.seed, int(tau), int(shift), len(name), k] for k in range(options.repeats)]
                made = pool.map(
                    figures_of,
                    [(tau, shift, recordings, seed, options.resamples) for seed in seeds],
                    chunksize=8,
                )
                for entry in METRICS:
                    given = [
                        f for row in made if (f := row.get(entry.name)) is not None and f.low is not None
                    ]
                    held = np.mean([f.low <= truth[entry.name] <= f.high for f in given]) if given else np.nan
                    width = np.mean([f.high - f.low for f in given]) if given else np.nan
                    segments = rates[WRONG.get(entry.name, "errors")] * sum(recordings) / 3600
                    print(
                        f"| {name} | {tau:g} s | {shift:g} | {entry.name} | {truth[entry.name]:.3f} | {segments:.1f} | "
                        f"{held:.1%} ({len(given) / len(made):.0%}) | {width:.3g} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
