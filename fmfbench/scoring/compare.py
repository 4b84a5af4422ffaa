"""Two submissions on the same samples: the paired difference of each metric, with its interval."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.predictions import Predictions
from fmfbench.files.markdown import number, table
from fmfbench.files.remote import parse_place
from fmfbench.scoring import ranks
from fmfbench.scoring.bootstrap import (
    Blocks,
    Interval,
    block_weights,
    check_resampling,
    difference_interval,
)
from fmfbench.scoring.evidence import RANK_RESAMPLES, Tally, error_blocks, tally
from fmfbench.scoring.metrics import COUNT_METRICS, RANK_METRICS, count_metrics, count_replicates, metric
from fmfbench.scoring.provenance import corruption_of
from fmfbench.scoring.score import opened, read_for
from fmfbench.store.reader import StoreReader

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Differences first minus second.

    `rows` maps each metric to first, second, difference, low, high, a verdict ("first is higher", "second is higher",
    "cannot be told apart", "the same" or the reason why there is none), and `better`: "first" or "second" where they
    can be told apart, by the metric's own direction; where they cannot, `needed_hours` of test time, which are
    `needed_samples`, would tell a difference of this size.
    """

    files: tuple[str, str]
    split: str
    num_samples: int
    rows: Mapping[str, Mapping[str, Any]]
    recordings: tuple[str, ...]
    blocks: int
    block_seconds: float
    sample_set: str = "every frame"
    corrupt: tuple[str | None, str | None] = (None, None)

    def to_dict(self) -> dict[str, Any]:
        """What `fmfbench compare --json` prints."""
        return {
            "files": list(self.files),
            "split": self.split,
            "num_samples": self.num_samples,
            "sample_set": self.sample_set,
            "corrupt": list(self.corrupt),
            "recordings": list(self.recordings),
            "metrics": {name: dict(row) for name, row in self.rows.items()},
            "bootstrap": {"level": 0.95, "blocks": self.blocks, "block_seconds": self.block_seconds},
        }

    def to_markdown(self) -> str:
        """A table for people."""
        blocks = f"{self.blocks} blocks of {self.block_seconds:.1f} s"
        title = f"{self.files[0]} (first) against {self.files[1]} (second), split {self.split}"
        if self.sample_set == "per-second":
            title += ", per-second sample set"
        head = ("metric", "first", "second", "first - second", "95 % interval", "verdict")
        rows = [
            (
                metric(name).title,
                number(row["first"]),
                number(row["second"]),
                number(row["difference"]),
                "" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}",
                _told(row),
            )
            for name, row in self.rows.items()
        ]
        warned = [
            f"**WARNING: CORRUPTED INPUT: {file} was predicted under the robustness preset {preset}**"
            for file, preset in zip(self.files, self.corrupt, strict=True)
            if preset is not None
        ]
        return "\n".join(
            [
                *warned,
                f"{title}, {self.num_samples} samples, {blocks}",
                f"recordings: {', '.join(self.recordings)}",
                "",
                *table(head, rows),
            ]
        )


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    data: StoreReader | Labels | str | os.PathLike[str],
    split: str = "test",
    *,
    context: str | None = None,
    protocol: Any = None,
    resamples: int = 2000,
    block_seconds: float | None = None,
    seed: int = 0,
    per_second: bool = False,
    across_corruption: bool = False,
) -> Comparison:
    """Compare two prediction files on the samples of a split, block by block of time.

    Both are resampled with the same blocks, so that what is hard for both drops out. Arguments as `score`.

    Args:
        across_corruption: allow files that were predicted on differently corrupted input: the difference is then
            that of the inputs too.

    Raises:
        PredictionError: as `score` does, for either file; the split has no samples; or the files were predicted on
            input corrupted in different ways and `across_corruption` does not ask for that.
        InputError: as `score` does.

    Example:
        >>> found = fmfbench.compare("predictions.npz", "other.npz", "fmf.zarr")
        >>> row = found.rows["accuracy"]  # one says always normal, the other always abnormal
        >>> round(row["first"] + row["second"], 12)
        1.0
    """
    check_resampling(resamples, block_seconds, seed)
    if isinstance(data, (str, os.PathLike)):
        data = opened(parse_place(data))
    read = [
        read_for(path, data, split, context=context, protocol=protocol, per_second=per_second)
        for path in (first, second)
    ]
    labels = read[0][1]
    if not len(labels):
        raise PredictionError(f"split {split} has no samples; there is nothing to compare")
    pair = [found for found, _ in read]
    corrupt = check_corruption(pair, across_corruption)
    tallies = [tally(labels, found.decision, found.mask_bits) for found in pair]
    rankings = [
        ranks.rank(labels.class_label, found.score)
        for found in pair
        if found.score is not None and labels.class_label is not None
    ]
    blocks = error_blocks(tallies, labels, block_seconds, resamples, rankings)
    weights = block_weights(blocks, resamples, seed)
    rows = _count_rows(tallies, blocks, weights) | _rank_rows(rankings, blocks, weights)
    return Comparison(
        files=(pair[0].file, pair[1].file),
        split=split,
        num_samples=len(labels),
        sample_set="per-second" if per_second else "every frame",
        rows=rows,
        recordings=labels.scored_recordings,
        blocks=len(blocks),
        block_seconds=blocks.seconds,
        corrupt=(corrupt[0], corrupt[1]),
    )


def check_corruption(files: Sequence[Predictions], allowed: bool) -> list[str | None]:
    """The corruption of each file's input, None where it is clean; PredictionError where they differ unasked."""
    presets = [corruption_of(found.meta) for found in files]
    if len(set(presets)) > 1 and not allowed:
        told = ", ".join(
            f"{found.file} on {'clean input' if preset is None else f'CORRUPTED INPUT ({preset})'}"
            for found, preset in zip(files, presets, strict=True)
        )
        raise PredictionError(
            f"compare: expected files predicted on the same input, got {told}; --across-corruption sets them "
            "against each other all the same"
        )
    return presets


def _count_rows(
    tallies: list[Tally], blocks: Blocks, weights: NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    values = [count_metrics(counts.frame_total, counts.pixel_total)[0] for counts in tallies]
    replicates = [count_replicates(weights @ counts.by_block(blocks)) for counts in tallies]
    return {
        name: _row(name, values[0][name], values[1][name], replicates[0][name], replicates[1][name], blocks)
        for name in COUNT_METRICS
    }


def _rank_rows(
    rankings: list[ranks.Ranking], blocks: Blocks, weights: NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    if len(rankings) < 2 or rankings[0].one_class:
        return {}
    formulas = {name: metric(name).formula for name in RANK_METRICS}
    replicates = [
        ranks.rank_replicates(r, blocks.of_sample, weights[:RANK_RESAMPLES], formulas) for r in rankings
    ]
    values = [
        {name: float(formula(*ranks.cumulated(r))) for name, formula in formulas.items()} for r in rankings
    ]
    return {
        name: _row(name, values[0][name], values[1][name], replicates[0][name], replicates[1][name], blocks)
        for name in formulas
    }


def _row(
    name: str,
    first: float | None,
    second: float | None,
    first_replicates: NDArray[np.float64],
    second_replicates: NDArray[np.float64],
    blocks: Blocks,
) -> dict[str, Any]:
    if first is None or second is None:
        row = {"first": first, "second": second, "difference": None, "low": None, "high": None}
        return row | {"verdict": "undefined", "better": None, "needed_hours": None, "needed_samples": None}
    interval = difference_interval(first - second, first_replicates - second_replicates, blocks)
    hours = _needed_hours(first - second, interval, blocks)
    share = None if hours is None else hours * 3600 / blocks.duration
    return {
        "first": first,
        "second": second,
        "difference": first - second,
        "low": interval.low,
        "high": interval.high,
        "verdict": _verdict(first - second, interval),
        "better": _better(name, interval),
        "needed_hours": hours,
        "needed_samples": None if share is None else ceil(share * len(blocks.of_sample)),
    }


def _verdict(difference: float, interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"no interval: {interval.reason}"
    if interval.low > 0:
        return "first is higher"
    if interval.high < 0:
        return "second is higher"
    return "the same" if difference == interval.low == interval.high == 0 else "cannot be told apart"


def _needed_hours(difference: float, interval: Interval, blocks: Blocks) -> float | None:
    """Test time, in hours, in which a difference as large as the one seen would be told apart, were it real.

    Half an interval shrinks with the root of the time. None where it is told apart already, or nothing differs.
    """
    if interval.low is None or interval.high is None or difference == 0:
        return None
    half = max(interval.high - difference, difference - interval.low)
    if abs(difference) > half:
        return None
    return blocks.duration / 3600 * (half / abs(difference)) ** 2


def _told(row: Mapping[str, Any]) -> str:
    """A row's verdict, which is better, and what it would take to know."""
    if row["better"]:
        return f"{row['verdict']}, {row['better']} is better"
    if row["needed_hours"] is not None:
        return (
            f"{row['verdict']}; if it is real, {row['needed_hours']:.2g} h of test time "
            f"({row['needed_samples']:,} samples) would show it"
        )
    return str(row["verdict"])


def _better(name: str, interval: Interval) -> str | None:
    """Which of the two is better, where they can be told apart: higher is not better in every metric."""
    if interval.low is None or interval.high is None or interval.low <= 0 <= interval.high:
        return None
    return "first" if (interval.low > 0) == metric(name).higher_is_better else "second"
