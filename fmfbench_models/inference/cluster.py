"""Predicting on many processes or machines through Dask distributed (extra `[dask]`).

Each task writes the prediction file of some whole batches beside the target; when all are there they are joined, in
order of id, into the file that one process would have written. All machines see model, store and target under the
same paths. A task that is there already, of an earlier call with the same input, is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmfbench.conversion.cluster import run_tasks
from fmfbench.data import open_dataset
from fmfbench.errors import InputError
from fmfbench.exchange.outliers import Outliers
from fmfbench.exchange.predictions import read_predictions, write_predictions
from fmfbench.files.lock import target_lock
from fmfbench.files.remote import Place, parse_place
from fmfbench_models.inference.predict import PredictionJob

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["predict_on"]

_BATCHES_A_TASK = 64
# in the identity by their contents, or a part's own
_ELSEWHERE = (
    "model",
    "data",
    "out",
    "outliers",
    "part",
)


def predict_on(
    client: Client,
    model: str | os.PathLike[str],
    data: str | Place,
    out: str | os.PathLike[str],
    **options: Any,
) -> Path:
    """`predict` in tasks of whole batches.

    Args:
        client: of `conversion.cluster.joined_cluster`.
        model, data: paths, or a URL of the store.
        out, options: those of `PredictionJob`.

    Raises:
        InputError: what `predict` refuses; nothing is left behind.
        FailedError: workers died at one task again and again.
    """
    out = Path(out).absolute()
    model = Path(model).absolute()
    data = parse_place(data)
    data = data.absolute() if isinstance(data, Path) else data
    job = PredictionJob(model=model, data=data, out=out, **options)
    count = job.plan()["num_samples"]
    step = job.batch_size * _BATCHES_A_TASK
    parts = out.with_name(f"{out.name}.parts")
    with target_lock(parts):
        _begin(parts, _identity(job, model, open_dataset(data).attributes["fmfbench.digest"]))
        shares = [slice(start, min(start + step, count)) for start in range(0, count, step)]
        files = [parts / f"{share.start:012}.npz" for share in shares]
        tasks = [
            (_predict_part, replace(job, out=file, part=share))
            for file, share in zip(files, shares, strict=True)
        ]
        try:
            run_tasks(client, tasks, "predict", "task")
        except InputError:
            shutil.rmtree(parts, ignore_errors=True)
            raise
        _join(files, out)
        shutil.rmtree(parts, ignore_errors=True)
    return out


def _identity(job: PredictionJob, model: Path, digest: str) -> str:
    """What the parts depend on."""
    files = [model] if model.is_file() else sorted(model.rglob("*.safetensors"))
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    options = {item.name: getattr(job, item.name) for item in fields(job) if item.name not in _ELSEWHERE}
    own = None if job.outliers is None else _digest(job.outliers)
    return json.dumps([sums, digest, sorted((key, repr(value)) for key, value in options.items()), own])


def _digest(outliers: Outliers) -> str:
    found = hashlib.sha256(repr(outliers.meta).encode())
    for value in vars(outliers).values():
        if isinstance(value, np.ndarray):  # all of it: its repr leaves out the middle
            found.update(value.tobytes())
    return found.hexdigest()


def _begin(parts: Path, identity: str) -> None:
    """The folder of the parts, empty unless it holds those of the same call."""
    mark = parts / "identity.json"
    if not mark.exists() or mark.read_text() != identity:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        mark.write_text(identity)


def _predict_part(job: PredictionJob) -> None:
    if not Path(job.out).exists():
        job.run()


def _join(parts: list[Path], out: Path) -> None:
    """One prediction file of those of its parts, which follow each other."""
    found = [read_predictions(path) for path in parts]
    arrays: dict[str, Any] = {
        "sample_id": np.concatenate([part.sample_id for part in found]),
        "score": np.concatenate([part.score for part in found if part.score is not None]),
    }
    if found[0].pred is not None:
        arrays["pred"] = np.concatenate([part.pred for part in found if part.pred is not None])
    if found[0].mask_bits is not None:
        arrays["mask_bits"] = np.concatenate([part.mask_bits for part in found if part.mask_bits is not None])
        arrays["mask_shape"] = found[0].mask_shape
    if found[0].pixel_score is not None:
        arrays["pixel_score"] = np.concatenate([_pixel_scores(path) for path in parts])
    write_predictions(out, meta=dict(found[0].meta), **arrays)


def _pixel_scores(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        return archive["pixel_score"]
