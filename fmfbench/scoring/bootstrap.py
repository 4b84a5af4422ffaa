"""How far a score may be trusted: intervals from a block bootstrap in time within recordings.

Frames 40 ms apart are nearly the same frame, so resampling single frames promises far too much. Here whole
blocks of time are resampled within each recording, the statistic is computed again from the blocks' counts,
and its spread gives an effective number of independent samples, on which an exact binomial interval is laid.
What the intervals are worth is measured in benchmarks/interval_coverage.py and tabulated in data_cards/protocol.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import InputError
from fmfbench.files.wording import counted

__all__ = [
    "Blocks",
    "Interval",
    "block_sums",
    "block_weights",
    "check_resampling",
    "correlation_seconds",
    "correlation_times",
    "cut_blocks",
    "degrees_of_freedom",
    "difference_interval",
    "frame_seconds",
    "long_run_variance",
    "proportion_interval",
    "rate_interval",
]

LEVEL = 0.95
BLOCKS_PER_CORRELATION = 6.0
SHORTEST_BLOCK_SECONDS = 5.0
FINEST_SECONDS = 0.2
FEWEST_BLOCKS = 6
ENOUGH_BLOCKS = 50  # more make the variance no surer than the t quantile shows, and longer ones miss less
FEWEST_BEARING = 5
FEWEST_BLOCKS_APART = (
    6.0  # a recording, on average: with fewer, what a recording's own mean takes away is too much
)
FEWEST_RECORDINGS_WHOLE = 6
LONGEST_CORRELATION_SECONDS = 16.0
FEWEST_RESAMPLES = 20
MOST_WEIGHTS = 25_000_000  # 200 MB
MOST_DRAWN = 1_000_000  # at once


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """N samples cut into B blocks of time, none across recordings.

    `of_sample` (N,) gives each sample's block, ascending; `recording` (B,) the group that each block is drawn within:
    its recording, or 0 for all where recordings are too short to be kept apart; `seconds` is the length asked for,
    `correlation` the correlation time it was derived from, `duration` the time that the samples cover, all in seconds.
    """

    of_sample: NDArray[np.intp]
    recording: NDArray[np.intp]
    seconds: float
    correlation: float
    duration: float

    def __len__(self) -> int:
        return len(self.recording)

    @property
    def degrees(self) -> int:
        """Degrees of freedom: blocks less groups that they are drawn within."""
        return len(self.recording) - len(np.unique(self.recording))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval, or None twice with the reason."""

    low: float | None
    high: float | None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        if self.reason is None:
            return {"low": self.low, "high": self.high}
        return {"low": None, "high": None, "reason": self.reason}


def check_resampling(resamples: int, block_seconds: float | None, seed: int) -> None:
    """Refuse a bootstrap that cannot be.

    Raises:
        InputError: fewer than 20 resamples, blocks that are not a finite time above 0, or a negative seed.
    """
    if resamples < FEWEST_RESAMPLES:
        raise InputError(f"expected at least {FEWEST_RESAMPLES} resamples, got {resamples}")
    if block_seconds is not None and not 0 < block_seconds < inf:
        raise InputError(f"expected blocks of a finite time longer than 0 s, got {block_seconds}")
    if seed < 0:
        raise InputError(f"expected a seed of 0 or more, got {seed}")


def correlation_seconds(
    series: NDArray[np.floating[Any]], recording: NDArray[np.int64], step: float
) -> float:
    """Integrated autocorrelation time of a series, pooled over recordings.

    The sum of the autocorrelations at positive lags, which for exp(-t/tau) is tau, cut at the first lag
    beyond five times the sum so far (Sokal's window), with the loss from subtracting the mean put back. Of faster
    series means over 0.2 s stand for the frames: blocks are never shorter than 5 s.

    Args:
        series: (N,) for example 1 where the decision is wrong.
        recording: (N,) the recording of each sample, in runs.
        step: seconds between samples (`frame_seconds`).

    Returns:
        Seconds; 0.0 for a series that never varies.
    """
    return correlation_times([series], recording, step)[0]


def correlation_times(
    series: Sequence[NDArray[np.floating[Any]]], recording: NDArray[np.int64], step: float
) -> list[float]:
    """`correlation_seconds` of several series of the same samples."""
    together = max(1, int(FINEST_SECONDS / step + 1e-9)) if step > 0 else 1
    step *= together
    pieces = [np.stack([_means(each[part], together) for each in series]) for part in _runs(recording)]
    lengths = [piece.shape[1] for piece in pieces]
    longest = max(lengths, default=0)
    if longest < 2:
        return [0.0] * len(series)
    covariance, pairs, power = np.zeros((len(series), longest)), np.zeros(longest), np.zeros(len(series))
    for piece, length in zip(pieces, lengths, strict=True):
        spectrum = np.fft.rfft(
            piece - piece.mean(axis=1, keepdims=True), 1 << int(2 * length - 1).bit_length()
        )
        covariance[:, :length] += np.fft.irfft(spectrum.real**2 + spectrum.imag**2)[:, :length]
        pairs[:length] += np.arange(length, 0, -1)
        power += (piece**2).sum(axis=1)
    duration = sum(lengths) * step / len(lengths)
    return [
        _integrated(each / pairs, step, duration) if each[0] > 1e-12 * most else 0.0
        for each, most in zip(covariance, power, strict=True)
    ]


def _integrated(covariance: NDArray[np.float64], step: float, duration: float) -> float:
    sums = np.cumsum(covariance[1:] / covariance[0])
    beyond = np.arange(1, len(covariance)) >= 5 * np.maximum(sums, 0)
    stop = int(np.argmax(beyond)) if beyond.any() else -1
    raw = max(float(sums[stop]), 0.0) * step
    return raw / max(1 - 2 * raw / duration, 0.5)


def _means(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.floating[Any]]:
    """Means of `count` neighbours; of fewer values themselves."""
    whole = len(values) // count * count
    return values if count == 1 or not whole else values[:whole].reshape(-1, count).mean(axis=1)


def cut_blocks(
    recording: NDArray[np.int64],
    frame_time: NDArray[np.int64],
    correlation: float,
    block_seconds: float | None = None,
    *,
    most: int | None = None,
) -> Blocks:
    """Cut each recording's samples into blocks of equal time, no more than are enough.

    Args:
        recording: (N,) in runs.
        frame_time: (N,) ns, ascending in each recording.
        correlation: what `correlation_seconds` found; a block is six times as long and at least 5 s, longer where
            fifty blocks in all and six a recording remain, and at most so long that six remain in all.
        block_seconds: the length instead.
        most: blocks, which are longer where there would be more of them.

    Where that leaves fewer than six blocks a recording, recordings are not kept apart: blocks are drawn from all of
    them, and of six recordings and more each is a block as a whole. Else the spread within recordings that are hardly
    longer than the errors' correlation would stand for that of all.
    """
    step = frame_seconds(recording, frame_time)
    runs = _runs(recording)
    spans = [float(frame_time[part][-1] - frame_time[part][0]) / NS + step for part in runs]
    seconds = block_seconds
    if seconds is None:
        longest = max(sum(spans) / FEWEST_BLOCKS, SHORTEST_BLOCK_SECONDS)
        seconds = min(max(BLOCKS_PER_CORRELATION * correlation, SHORTEST_BLOCK_SECONDS), longest)
        if most is not None:  # each recording's share may be rounded up
            seconds = max(seconds, sum(spans) / max(1, most - len(runs)))
    together = (
        block_seconds is None and len(runs) > 1 and sum(spans) / seconds < FEWEST_BLOCKS_APART * len(runs)
    )
    if together and len(runs) >= FEWEST_RECORDINGS_WHOLE:
        return Blocks(
            of_sample=np.repeat(np.arange(len(runs)), [part.stop - part.start for part in runs]),
            recording=np.zeros(len(runs), np.intp),
            seconds=sum(spans) / len(runs),
            correlation=0.0,  # nothing of a recording is cut
            duration=sum(spans),
        )
    if block_seconds is None and not together:
        seconds = max(seconds, sum(spans) / max(ENOUGH_BLOCKS, FEWEST_BLOCKS_APART * len(runs)))
    of_sample = np.empty(len(recording), np.intp)
    owner: list[int] = []
    for part, span in zip(runs, spans, strict=True):
        count = max(1, round(span / seconds))
        elapsed = (frame_time[part] - frame_time[part][0]) / NS
        place = np.minimum((elapsed * (count / span)).astype(np.intp), count - 1)
        used, local = np.unique(place, return_inverse=True)
        of_sample[part] = len(owner) + local
        owner += [int(recording[part][0])] * len(used)
    return Blocks(
        of_sample=of_sample,
        recording=np.zeros(len(owner), np.intp) if together else np.array(owner, np.intp),
        seconds=float(seconds),
        correlation=float(correlation),
        duration=sum(spans),
    )


def block_sums(blocks: Blocks, values: NDArray[Any]) -> NDArray[Any]:
    """Sum the rows of (N, ...) by block: (B, ...)."""
    if not len(blocks):
        return np.zeros((0, *values.shape[1:]), values.dtype)
    starts = np.searchsorted(blocks.of_sample, np.arange(len(blocks)))
    return np.add.reduceat(values, starts, axis=0)


def block_weights(blocks: Blocks, resamples: int, seed: int = 0) -> NDArray[np.float64]:
    """(R, B) weights of bootstrap resamples within recordings, or within all where they are not kept apart.

    With n blocks in a recording, n - 1 are drawn with replacement and weighted n/(n-1) (Rao and Wu 1988), so
    that the spread is unbiased however few blocks there are. A recording of one block keeps it.

    Raises:
        InputError: more than 25 million weights, which no memory should be spent on.
    """
    if resamples * len(blocks) > MOST_WEIGHTS:
        raise InputError(
            f"expected at most {MOST_WEIGHTS} resamples x blocks, got {resamples} x {len(blocks)}; "
            "ask for longer blocks or fewer resamples"
        )
    rng = np.random.default_rng(seed)
    weights = np.ones((resamples, len(blocks)))
    for owner in np.unique(blocks.recording):
        (columns,) = np.nonzero(blocks.recording == owner)
        count = len(columns)
        if count > 1:
            for start in range(0, resamples, rows := max(1, MOST_DRAWN // count)):
                draws = _drawn(min(rows, resamples - start), count, rng)
                weights[start : start + rows, columns] = draws * (count / (count - 1))
    return weights


def _drawn(resamples: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(R, n) how often each of n is drawn in n - 1 draws with replacement."""
    drawn = rng.integers(count, size=(resamples, count - 1), dtype=np.uint32).astype(np.intp)
    drawn += np.arange(resamples)[:, None] * count
    return np.bincount(drawn.reshape(-1), minlength=resamples * count).reshape(resamples, count)


def proportion_interval(
    value: float, replicates: NDArray[np.float64], blocks: Blocks, bearing: int | None = None
) -> Interval:
    """95 % interval of a statistic between 0 and 1 from its bootstrap replicates (Korn and Graubard 1998).

    The effective sample size v(1-v)/var, with var the replicates' variance raised for what blocks of finite
    length miss, is shrunk by the squared ratio of the normal to the t quantile and put into the exact
    (Clopper-Pearson) binomial interval. Where nothing varies no correlation can be seen, and a sample is
    counted for each 32 s, as errors correlated over 16 s would leave.

    Args:
        bearing: how many blocks carry the value (`metrics.bearing_blocks`). The variance has no more degrees of
            freedom than these less one, and with one to four of them no interval is given: what so few episodes say
            of the next hundred was seen to be wrong too often. None: not known, and the replicates' kurtosis speaks.
    """
    from scipy.special import betaincinv, stdtrit  # half of a command's start-up time, so not above

    refused = _too_little(replicates, blocks)
    if refused:
        return Interval(low=None, high=None, reason=refused)
    variance = long_run_variance(replicates, blocks)
    if bearing is not None and 0 < bearing < FEWEST_BEARING:
        return Interval(low=None, high=None, reason=borne_by(bearing, blocks))
    size = min(blocks.duration / (2 * LONGEST_CORRELATION_SECONDS), float(len(blocks)))
    if 0 < value < 1 and variance > 0:
        if bearing is None:
            degrees = degrees_of_freedom(replicates, blocks)
        elif bearing < FEWEST_BEARING:
            return Interval(low=None, high=None, reason=borne_by(bearing, blocks))
        else:
            degrees = float(min(blocks.degrees, bearing - 1))
        quantile = float(stdtrit(degrees, (1 + LEVEL) / 2))
        shrink = (NormalDist().inv_cdf((1 + LEVEL) / 2) / quantile) ** 2
        size = min(value * (1 - value) / variance * shrink, float(len(blocks.of_sample)))
    hits, misses, tail = value * size, (1 - value) * size, (1 - LEVEL) / 2
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return Interval(low=low, high=high)


def rate_interval(
    count: float, hours: float, replicates: NDArray[np.float64], blocks: Blocks, bearing: int
) -> Interval:
    """95 % interval of a number of happenings an hour, as `proportion_interval` is of a share.

    The effective count rate^2/var is shrunk by the squared ratio of the normal to the t quantile and put into the
    gamma interval (Fay and Feuer 1997), of which the middle of both bounds' shapes is taken; without a happening the
    exact Poisson bound stands.

    Args:
        count, hours: what happened, and in which time.
        replicates: (R,) of the rate.
        bearing: how many blocks hold a happening.
    """
    from scipy.special import gammaincinv, stdtrit

    if not count:
        return Interval(low=0.0, high=-log((1 - LEVEL) / 2) / hours)
    refused = _too_little(replicates, blocks)
    if refused is None and bearing < FEWEST_BEARING:
        refused = borne_by(bearing, blocks)
    if refused:
        return Interval(low=None, high=None, reason=refused)
    rate, tail = count / hours, (1 - LEVEL) / 2
    degrees = float(min(blocks.degrees, bearing - 1))
    shrink = (NormalDist().inv_cdf(1 - tail) / float(stdtrit(degrees, 1 - tail))) ** 2
    variance = long_run_variance(replicates, blocks)
    size = min(rate**2 / variance * shrink, count) if variance > 0 else count
    low, high = (float(gammaincinv(size + 0.5, q)) * rate / size for q in (tail, 1 - tail))
    return Interval(low=low, high=high)


def borne_by(bearing: int, blocks: Blocks) -> str:
    """Why there is no interval of what so few blocks carry."""
    return (
        f"cannot be had: carried by {counted(bearing, 'block')} of {blocks.seconds:.1f} s, "
        f"expected at least {FEWEST_BEARING}"
    )


def difference_interval(value: float, replicates: NDArray[np.float64], blocks: Blocks) -> Interval:
    """95 % interval of a paired difference: the t interval on the same variance and degrees of freedom."""
    from scipy.special import stdtrit

    refused = _too_little(replicates, blocks)
    if refused:
        return Interval(low=None, high=None, reason=refused)
    quantile = float(stdtrit(degrees_of_freedom(replicates, blocks), (1 + LEVEL) / 2))
    half = quantile * long_run_variance(replicates, blocks) ** 0.5
    return Interval(low=max(value - half, -1.0), high=min(value + half, 1.0))


def long_run_variance(replicates: NDArray[np.float64], blocks: Blocks) -> float:
    """Raised by 1/(1 - tau/L): a mean over blocks of length L keeps that part of the long-run variance."""
    finite = replicates[np.isfinite(replicates)]
    kept = 1 - min(blocks.correlation / blocks.seconds, 0.5) if blocks.seconds else 1.0
    return float(finite.var()) / kept


def degrees_of_freedom(replicates: NDArray[np.float64], blocks: Blocks) -> float:
    """Degrees of freedom of the variance: fewer than blocks less recordings where few blocks carry the errors.

    Satterthwaite's, 2 / (relative variance of the variance), with the excess kurtosis of the replicates, less
    twice its own sampling error, for what heavy tails of the blocks add to 2 / (blocks less recordings).
    """
    finite = replicates[np.isfinite(replicates)]
    spread = finite.std()
    if spread == 0:
        return float(blocks.degrees)
    excess = float((((finite - finite.mean()) / spread) ** 4).mean()) - 3
    return max(2 / (max(excess - 2 * (24 / len(finite)) ** 0.5, 0.0) + 2 / blocks.degrees), 2.0)


def _too_little(replicates: NDArray[np.float64], blocks: Blocks) -> str | None:
    if blocks.degrees < 2:
        return f"only {counted(len(blocks), 'block')} of {blocks.seconds:.1f} s"
    if np.isfinite(replicates).mean() < 0.5:
        return "undefined in most resamples"
    return None


def _runs(recording: NDArray[np.int64]) -> list[slice]:
    edges = [0, *(np.flatnonzero(np.diff(recording)) + 1).tolist(), len(recording)]
    return [slice(start, stop) for start, stop in pairwise(edges) if stop > start]


def frame_seconds(recording: NDArray[np.int64], frame_time: NDArray[np.int64]) -> float:
    """The usual time between samples of one recording, in seconds; 0.04 where none has two."""
    steps = np.diff(frame_time)[np.diff(recording) == 0]
    return float(np.median(steps)) / NS if len(steps) else 0.04
