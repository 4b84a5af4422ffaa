"""Temperature and threshold of a trained model, found on the validation samples of its own run.

A checkpoint keeps them under `provenance["calibration"]`; prediction, watching and the studio apply them. Logits, masks
and pixel scores stay as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import InputError, PredictionError, StoreError
from fmfbench.exchange.labels import Labels, labels_from_dataset
from fmfbench.files.problems import check_ending, check_target
from fmfbench.files.remote import Place, parse_place
from fmfbench.scoring.calibration import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    fit_temperature,
    reliability_bins,
)
from fmfbench.scoring.counts import Confusion
from fmfbench.scoring.metrics import count_metrics, metric
from fmfbench.scoring.threshold import Rule, parse_rule
from fmfbench.store.split_names import SOURCE
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.windows.protocol import get_protocol
from fmfbench.windows.reader import Windows
from fmfbench_models.checkpoint import WEIGHTS, checkpoint_file, load_checkpoint, save_checkpoint
from fmfbench_models.inference.engine import make_engine
from fmfbench_models.interface import Model
from fmfbench_models.parts.progress import Progress
from fmfbench_models.training.parallel import check_device
from fmfbench_models.training.samples import (
    fit_and_validation,
    normal_windows,
    train_split,
    without_fold,
)
from fmfbench_models.training.step import autocast, to_device, to_float32

__all__ = ["Calibration", "calibrate", "calibration_of"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What is done to a model's scores.

    They are those of logits divided by `temperature`, and abnormal is what lies above `threshold`. rule: by which it
    was chosen; None of a model that was not calibrated.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    rule: str | None = None

    @property
    def origin(self) -> str:
        """Of the threshold, as a prediction file states it."""
        return "fixed" if self.rule in (None, "fixed") else "validation"

    def facts(self) -> dict[str, Any]:
        """What a prediction file's meta says of it."""
        told: dict[str, Any] = {"threshold": self.threshold, "threshold_origin": self.origin}
        if self.rule is not None:
            told["calibration"] = {"temperature": self.temperature, "rule": self.rule}
        return told


def calibration_of(model: Model) -> Calibration:
    """That of a checkpoint; one that changes nothing where there is none, as in those of earlier versions.

    Example:
        >>> from fmfbench_models import create_model
        >>> calibration_of(create_model("vit", size=(16, 16))).threshold
        0.5
    """
    found = model.meta.provenance.get("calibration")
    if not isinstance(found, Mapping):
        return Calibration()
    return Calibration(
        temperature=float(found["temperature"]), threshold=float(found["threshold"]), rule=str(found["rule"])
    )


def calibrate(
    checkpoint: str | os.PathLike[str],
    data: Dataset | Place | str | os.PathLike[str],
    *,
    rule: str = "f1",
    out: str | os.PathLike[str] | None = None,
    device: str | None = None,
    batch_size: int = 64,
    workers: int = 0,
    cache: str | None = None,
) -> dict[str, Any]:
    """Find temperature and threshold on the validation samples of a model's own run, and keep them in its checkpoint.

    The temperature is that of least log loss (see `scoring.calibration.fit_temperature`); it stays 1 where the samples
    are of one class, or no finite one is best, and the facts say why. The threshold follows a rule. The validation
    samples also chose the best epoch: what is reached on them is no estimate of what a test split will show.

    Args:
        checkpoint: a finished run folder (its best, else its last weights), or a .safetensors of one.
        data: the store that it was trained on.
        rule: "f1", "fdr:SHARE", "alarms:NUMBER" or "fixed"; see `scoring.threshold.Rule`.
        out: a checkpoint to write instead of changing the one that is given.
        device: "cpu" or "cuda"; a GPU where there is one.

    Returns:
        the facts that the checkpoint keeps, and "checkpoint", the file.

    Raises:
        InputError: no such rule; a checkpoint without validation samples, of an unfinished run, or of another store; a
            rule that needs a class which the samples lack.
    """
    chosen = parse_rule(rule)
    source = checkpoint_file(Path(checkpoint))
    if source.parent == WEIGHTS and out is None:
        raise InputError(
            f"{checkpoint}: expected -o FILE, a checkpoint to write, got none; shipped weights stay as they are"
        )
    target = source if out is None else Path(out)
    if out is not None:
        check_target(target)
        check_ending(target, (".safetensors",), "a checkpoint")
    _check_finished(source)
    model = load_checkpoint(source)
    model.to(check_device(device)).eval()
    if not isinstance(data, Dataset):
        data = fmfbench.open_dataset(parse_place(data))
    windows = _validation_windows(model, data, source, cache)
    labels = labels_from_dataset(windows.dataset, "train", masks=False)
    labels = labels.take(np.isin(labels.sample_id, windows.sample_ids))
    margin = _margins(model, windows, batch_size, workers)
    facts = _facts(labels, margin, chosen, windows)
    model.cpu()
    model.meta = replace(model.meta, provenance={**model.meta.provenance, "calibration": facts})
    save_checkpoint(target, model)
    return {**facts, "checkpoint": str(target)}


def _facts(labels: Labels, margin: NDArray[np.float32], rule: Rule, windows: Windows) -> dict[str, Any]:
    assert labels.class_label is not None
    label = labels.class_label.astype(np.int64)
    temperature, reason = _temperature(label, margin)
    score = _scores(margin, temperature)
    if rule.needs_abnormal and not label.any():
        raise InputError(
            f"rule {rule}: expected abnormal validation samples, got none among {len(label)}; "
            "choose by fdr:SHARE or alarms:NUMBER, which look at normal ones alone"
        )
    threshold = rule.threshold(labels, score)
    tn, fp, fn, tp = (int(((label == y) & ((score > threshold) == d)).sum()) for y in (0, 1) for d in (0, 1))
    reached, _ = count_metrics(Confusion(tn=tn, fp=fp, fn=fn, tp=tp), None)
    before = _scores(margin, 1.0)
    return {
        "rule": str(rule),
        "threshold": threshold,
        "temperature": temperature,
        "temperature_reason": reason,
        "split": windows.dataset.split_label("val"),
        "fingerprint": windows.dataset.fingerprint,
        "samples": len(label),
        "abnormal": int(label.sum()),
        "validation": {
            "log_loss": {"before": _log_loss(label, margin), "after": _log_loss(label, margin / temperature)},
            "ece": {"before": _ece(label, before), "after": _ece(label, score)},
            **{name: reached[name] for name in ("accuracy", "f1", "fdr", "mdr")},
        },
    }


def _temperature(label: NDArray[np.int64], margin: NDArray[np.float32]) -> tuple[float, str | None]:
    """The temperature, or 1 and why none was fitted."""
    if label.all() or not label.any():
        return 1.0, f"all {len(label)} validation samples are {'abnormal' if label.any() else 'normal'}"
    found = fit_temperature(label, margin)
    if found == LEAST_TEMPERATURE:
        return 1.0, "the validation samples are told apart without a fault: the colder the better"
    if found == MOST_TEMPERATURE:
        return 1.0, "the scores say nothing of the validation samples: the hotter the better"
    return found, None


def _validation_windows(model: Model, data: Dataset, source: Path, cache: str | None) -> Windows:
    """Those that the run validated on; InputError where it did not, or not on this store."""
    told = model.meta.provenance
    if "recipe" not in told or model.meta.protocol is None:
        raise InputError(
            f"{source}: expected a checkpoint of `fmfbench train`, with the samples it was validated on, got one "
            "without; calibrate a run folder"
        )
    if not told["recipe"].get("validate", True) or not told.get("samples", {}).get("validation", 1):
        raise InputError(
            f"{source}: expected a run that kept validation samples apart, got one that was trained on them; "
            "train with validate=true to calibrate"
        )
    trained = told.get("data", {})
    name = str(trained.get("split", SOURCE))
    try:
        data, _ = train_split(data, name)
    except (InputError, StoreError):
        raise InputError(
            f"{data.path}: expected the split {name} that {source} was trained on, got "
            f"{', '.join(data.split_names)}; give the store it was trained on"
        ) from None
    if data.fingerprint != trained.get("fingerprint"):
        raise InputError(
            f"{data.path}: expected the store and split that {source} was trained on (fingerprint "
            f"{str(trained.get('fingerprint'))[:16]}), got fingerprint {data.fingerprint[:16]}"
        )
    windows = data.windows(
        "train", get_protocol(model.meta.protocol), told.get("context", "full"), cache=cache
    )
    ids = np.intersect1d(fit_and_validation(data, windows.protocol)[1], windows.sample_ids)
    if told.get("fold") is not None:
        ids = np.intersect1d(ids, without_fold(data, told["fold"], windows.protocol))
    if told.get("normal_only"):  # whose labels alone it may know
        ids = np.intersect1d(ids, normal_windows(windows))
    recorded = told.get("samples", {}).get("validation", len(ids))
    if len(ids) != recorded:
        raise InputError(
            f"{source}: expected the {recorded} samples that it was validated on, got {len(ids)} in {data.path}; "
            "give the store as it was, and the version that trained it"
        )
    return windows.select(ids)


def _check_finished(source: Path) -> None:
    """InputError in a run folder whose training has not ended: it would write over the checkpoint."""
    try:
        found = json.loads((source.parent / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not found.get("finished", True):
        raise InputError(
            f"{source.parent}: expected a finished run, got one that is not; the same train call resumes it"
        )


@torch.inference_mode()
def _margins(model: Model, windows: Windows, batch_size: int, workers: int) -> NDArray[np.float32]:
    """Log odds of abnormal, (n,), as `predict` would have them."""
    engine, found = make_engine(model), []
    loader = make_loader(
        WindowDataset(windows), batch_size=batch_size, num_workers=workers, rank=0, world_size=1
    )
    with Progress(len(windows), "window", "calibrate") as bar:
        for cpu_batch in loader:
            batch = to_device(cpu_batch, model.device)
            with autocast(model.device):
                output = to_float32(engine(batch))
            found.append(output.margins().float().cpu().numpy())
            bar.update(len(found[-1]))
    margin = np.concatenate(found)
    if not np.isfinite(margin).all():
        raise PredictionError(f"{model.meta.name}: expected finite logits to calibrate, got others")
    return margin


def _scores(margin: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    return (torch.from_numpy(margin) / temperature).sigmoid().numpy()


def _log_loss(label: NDArray[np.int64], margin: NDArray[np.float32]) -> float:
    return float(np.logaddexp(0.0, -np.where(label == 1, 1.0, -1.0) * margin.astype(np.float64)).mean())


def _ece(label: NDArray[np.int64], score: NDArray[np.float32]) -> float:
    gaps = np.bincount(reliability_bins(score), label - score.astype(np.float64))
    return float(metric("ece").formula(gaps / len(label)))
