"""How well outliers of each kind are told from normal samples: AUROC, FPR, TPR and accuracy, with intervals.

TPR is the share of a kind's outliers that are predicted abnormal, FPR the share of the normal samples that are (what
the FmFormer paper calls FDR); each kind is held against all normal samples of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.exchange.outliers import KINDS, Outliers, read_outliers
from fmfbench.exchange.predictions import Predictions, Target, read_predictions
from fmfbench.files.markdown import number, table
from fmfbench.scoring import ranks
from fmfbench.scoring.bootstrap import (
    MOST_WEIGHTS,
    Blocks,
    block_sums,
    block_weights,
    check_resampling,
    correlation_seconds,
    cut_blocks,
    frame_seconds,
    proportion_interval,
)
from fmfbench.scoring.evidence import RANK_RESAMPLES
from fmfbench.scoring.metrics import OUTLIER_METRICS, count_replicates, metric
from fmfbench.scoring.provenance import corruption_warnings

__all__ = ["OutlierScore", "score_outliers"]

_COUNTED = tuple(entry for entry in OUTLIER_METRICS if entry.counted == "frames")


@dataclass(frozen=True, kw_only=True)
class OutlierScore:
    """Figures of each kind that the file holds, and of all kinds together ("overall", the last).

    `rows` maps a kind to {"samples", "auroc", "fpr", "tpr", "accuracy"}, each metric {"value", "low", "high"}, None
    with a "reason" where it cannot be told.
    """

    file: str
    rows: Mapping[str, Mapping[str, Any]]
    num_normal: int
    bootstrap: Mapping[str, Any]
    outliers: Mapping[str, Any]
    meta: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """What `fmfbench outliers score --json` prints."""
        return {
            "file": self.file,
            "num_normal": self.num_normal,
            "kinds": {name: dict(row) for name, row in self.rows.items()},
            "bootstrap": dict(self.bootstrap),
            "outliers": dict(self.outliers),
            "meta": dict(self.meta),
            "warnings": list(corruption_warnings(self.meta)),
        }

    def to_markdown(self) -> str:
        header = ["kind", "outliers", *(entry.title for entry in OUTLIER_METRICS)]
        body = [
            [name, str(row["samples"]), *(_cell(row[entry.name]) for entry in OUTLIER_METRICS)]
            for name, row in self.rows.items()
        ]
        made = self.outliers
        kinds = " to ".join(f"{share}" for share in made.get("ratio", ()))
        warned = [f"**WARNING: {text}**" for text in corruption_warnings(self.meta)]
        return "\n".join(
            [
                *warned,
                f"{Path(self.file).name}: {self.num_normal} normal samples and outliers among them, {kinds}, "
                f"seed {made['seed']}, abnormal by {made.get('abnormal', '?')}",
                "",
                *table(header, body),
                "",
                "FPR: normal samples predicted abnormal; TPR: outliers predicted so. Intervals: 95 %, from a block "
                f"bootstrap in time ({self.bootstrap['blocks']} blocks of {self.bootstrap['block_seconds']:.1f} s).",
            ]
        )


def score_outliers(
    predictions: str | os.PathLike[str],
    outliers: Outliers | str | os.PathLike[str],
    *,
    resamples: int = 2000,
    block_seconds: float | None = None,
    seed: int = 0,
) -> OutlierScore:
    """Score a prediction file on exactly the samples of an outlier file, kind by kind.

    Raises:
        PredictionError: a file that cannot be read, that does not cover exactly those samples, or that says it was
            made on another outlier file.
        InputError: a bootstrap that cannot be.
    """
    check_resampling(resamples, block_seconds, seed)
    made = outliers if isinstance(outliers, Outliers) else read_outliers(outliers)
    target = Target(
        sample_id=made.sample_id, split=str(made.meta.get("split", "all")), fingerprint=made.fingerprint
    )
    found = read_predictions(predictions, target)
    own = json.loads(json.dumps(dict(made.meta)))  # as a prediction file keeps it: lists for tuples
    if found.meta.get("outliers", own) != own:
        raise PredictionError(
            f"{found.file}: expected predictions on this outlier file, got some on another (seed "
            f"{_seed(found.meta['outliers'])}, here {made.seed}); predict again with --outliers"
        )
    wrong = (found.decision != (made.kind > 0)).astype(float)
    correlation = correlation_seconds(wrong, made.recording, frame_seconds(made.recording, made.frame_time))
    blocks = cut_blocks(
        made.recording, made.frame_time, correlation, block_seconds, most=MOST_WEIGHTS // resamples
    )
    weights = block_weights(blocks, resamples, seed)
    present = [number for number in range(1, len(KINDS) + 1) if (made.kind == number).any()]
    groups = {KINDS[number - 1]: made.kind == number for number in present} | {"overall": made.kind > 0}
    return OutlierScore(
        file=found.file,
        rows={name: _row(found, made, outlying, blocks, weights) for name, outlying in groups.items()},
        num_normal=int((made.kind == 0).sum()),
        bootstrap={
            "level": 0.95,
            "blocks": len(blocks),
            "block_seconds": blocks.seconds,
            "correlation_seconds": blocks.correlation,
            "resamples": resamples,
            "seed": seed,
        },
        outliers=made.meta,
        meta=found.meta,
    )


def _seed(meta: Any) -> Any:
    return meta.get("seed", "unknown") if isinstance(meta, Mapping) else "unknown"


def _row(
    found: Predictions,
    made: Outliers,
    outlying: NDArray[np.bool_],
    blocks: Blocks,
    weights: NDArray[np.float64],
) -> dict[str, Any]:
    normal, decided = made.kind == 0, found.decision.astype(bool)
    counted = np.stack(
        [normal & ~decided, normal & decided, outlying & ~decided, outlying & decided], axis=1
    ).astype(np.int64)
    total = count_replicates(counted.sum(axis=0)[None], _COUNTED)
    replicates = count_replicates(weights @ block_sums(blocks, counted), _COUNTED)
    row: dict[str, Any] = {
        "samples": int(outlying.sum()),
        "auroc": _auroc(found, normal, outlying, blocks, weights),
    }
    for name, values in total.items():
        row[name] = _with_interval(float(values[0]), replicates[name], blocks)
    return row


def _auroc(
    found: Predictions,
    normal: NDArray[np.bool_],
    outlying: NDArray[np.bool_],
    blocks: Blocks,
    weights: NDArray[np.float64],
) -> dict[str, Any]:
    if found.score is None:
        return _undefined("the file has decisions but no scores")
    rows = np.flatnonzero(normal | outlying)
    ranking = ranks.rank(outlying[rows].astype(np.uint8), found.score[rows])
    if ranking.one_class:
        return _undefined(ranking.one_class)
    replicates = ranks.rank_replicates(
        ranking, blocks.of_sample[rows], weights[:RANK_RESAMPLES], {"auroc": metric("auroc").formula}
    )
    return _with_interval(ranks.auroc(ranking), replicates["auroc"], blocks)


def _with_interval(value: float, replicates: NDArray[np.float64], blocks: Blocks) -> dict[str, Any]:
    if not np.isfinite(value):
        return _undefined("no such samples")
    return {"value": value, **proportion_interval(value, replicates, blocks).as_dict()}


def _undefined(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason}


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return f"undefined: {figure['reason']}"
    if figure["low"] is None:
        return number(figure["value"])
    return f"{number(figure['value'])} ({figure['low']:.4f} to {figure['high']:.4f})"
