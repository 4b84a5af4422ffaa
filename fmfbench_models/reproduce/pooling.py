"""Prediction files of several folds as one: each sample judged by the model that did not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmfbench.errors import PredictionError
from fmfbench.exchange.predictions import Predictions, read_predictions, write_predictions

__all__ = ["pool"]


def pool(parts: Mapping[str, Path], out: Path, meta: Mapping[str, Any]) -> Path:
    """Write the predictions of all folds into one file, in order of sample id.

    Args:
        parts: prediction files by fold; no sample is in two of them.
        out: the file to write.
        meta: joins what all parts say alike; what they say differently is kept by fold under "folds".

    Raises:
        PredictionError: nothing to pool, a sample that two folds judge, or only some files that hold masks or scores.
    """
    read = {fold: read_predictions(path) for fold, path in parts.items()}
    if not read:
        raise PredictionError(f"{out}: expected the predictions of one fold at least, got none")
    files = list(read.values())
    ids = np.concatenate([found.sample_id for found in files])
    order = np.argsort(ids, kind="stable")
    twice = ids[order][1:][np.diff(ids[order]) == 0]
    if len(twice):
        raise PredictionError(
            f"{out}: expected folds that share no sample, got {len(twice)} in two of them, first {twice[0]}"
        )
    arrays: dict[str, Any] = {"sample_id": ids[order]}
    for name in ("score", "mask_bits"):
        column = joined([getattr(found, name) for found in files], name, out)
        if column is not None:
            arrays[name] = column[order]
    if any(found.pred is not None for found in files):
        arrays["pred"] = np.concatenate([found.decision for found in files])[order]
    return write_predictions(
        out, **arrays, mask_shape=shape_of(files, out), meta=pooled_meta(read) | dict(meta)
    )


def joined(columns: Sequence[Any], name: str, out: Path) -> Any:
    missing = sum(column is None for column in columns)
    if missing == len(columns):
        return None
    if missing:
        raise PredictionError(
            f"{out}: expected {name} in the predictions of every fold or of none, "
            f"got {missing} of {len(columns)} without"
        )
    return np.concatenate(columns)


def shape_of(files: Sequence[Predictions], out: Path) -> tuple[int, int] | None:
    shapes = {found.mask_shape for found in files}
    if len(shapes) > 1:
        raise PredictionError(f"{out}: expected masks of one size, got {sorted(map(str, shapes))}")
    return shapes.pop()


def pooled_meta(read: Mapping[str, Predictions]) -> dict[str, Any]:
    metas = {fold: dict(found.meta) for fold, found in read.items()}
    first = next(iter(metas.values()))
    alike = {
        key: value
        for key, value in first.items()
        if all(key in meta and meta[key] == value for meta in metas.values())
    }
    other = {fold: {k: v for k, v in meta.items() if k not in alike} for fold, meta in metas.items()}
    return {**alike, "folds": other}
