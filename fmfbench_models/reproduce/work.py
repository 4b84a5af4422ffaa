"""The work behind a table: one training, one prediction file, one score at a time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from fmfbench.board.bundle import write_bundle
from fmfbench.data import Dataset
from fmfbench.errors import FmfbenchError, InputError, PredictionError
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.pixel_ranks import AUPRO_LIMIT
from fmfbench.scoring.score import score
from fmfbench.windows.corrupt import corruption
from fmfbench_models.checkpoint import load_checkpoint
from fmfbench_models.inference.latency import frame_latency_ms
from fmfbench_models.inference.predict import last_of_each_second, predict
from fmfbench_models.interface import Model
from fmfbench_models.parts.backbones import Trunk, trunk_of
from fmfbench_models.registry import create_model, plain
from fmfbench_models.reproduce.backbones import BackboneFile
from fmfbench_models.reproduce.experiment import Preset, Row, Training, training_options
from fmfbench_models.reproduce.pooling import pool
from fmfbench_models.reproduce.workplace import Stopwatch, Workplace, read_json, write_json
from fmfbench_models.training.samples import left_out_of
from fmfbench_models.training.settings import Settings, make_settings, without_later
from fmfbench_models.training.train import train
from fmfbench_models.zoo.fmformer import FmFormer, fuse_unimodal

__all__ = ["Work", "device_name", "one_line"]

SPLIT = "test"
SCORE_OPTIONS = {
    "context": None,
    "protocol": None,
    "block_seconds": None,
    "seed": 0,
    "aupro_limit": AUPRO_LIMIT,
}
POOLED = "train"  # what leave-one-recording-out is scored on: the test split has no part in it


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything that rows of one reproduction have in common.

    every: in place of the preset's, where not None. validate, loro: see `table.Reproduction`. bundles: keep one of each
    row. backbones: by training, files that trunks begin with.
    """

    data: Dataset
    place: Workplace
    preset: Preset
    epochs: int
    every: int | None
    validate: bool
    simulated: bool
    device: str | None = None
    workers: int = 0
    cache: str | None = None
    per_second: bool = False
    loro: bool = False
    bundles: bool = False
    backbones: Mapping[str, BackboneFile] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """What rows are scored on."""
        return POOLED if self.loro else SPLIT

    @cached_property
    def folds(self) -> tuple[str, ...]:
        """The recordings with train samples, as folds to leave out; none where there is one model for all.

        Raises:
            InputError: fewer than two of them.
        """
        if not self.loro:
            return ()
        number = np.unique(self.data.locate(self.data.sample_ids(POOLED))[0])
        names = [list(self.data.recordings)[i] for i in number.tolist()]
        if len(names) < 2:
            raise InputError(
                f"{self.data.path}: --loro: expected two recordings with train samples or more, got {len(names)}"
            )
        return tuple(f"loro:{name}" for name in names)

    @property
    def models(self) -> tuple[str | None, ...]:
        """The folds that a training is made for: None is the training on all train samples."""
        return self.folds or (None,)

    @property
    def num_test(self) -> int:
        windows = self.data.windows(self.split, self.preset.windows)
        return len(last_of_each_second(windows) if self.per_second else windows)

    def options(self, training: Training) -> dict[str, Any]:
        return {
            **training_options(training, self.preset, self.epochs, self.every),
            "validate": self.validate,
        }

    def settings(self, training: Training, seed: int, fold: str | None = None) -> Settings:
        settings = make_settings(
            training.model,
            self.data,
            options=self.options(training),
            protocol=self.preset.windows,
            seed=seed,
            fold=fold,
        )
        file = self.backbones.get(training.name)
        return settings if file is None else replace(settings, backbone=dict(file.facts))

    def run(self, training: Training, seed: int, fold: str | None = None) -> Path:
        """The run folder of a training; one with another first trunk, or without a recording, has another."""
        name = self._runs().get(training.name, training.name)
        return self.place.run(name if fold is None else f"{name}--{fold.replace(':', '-', 1)}", seed)

    def slug(self, row: Row) -> str:
        return row.slug(self._runs())

    def _runs(self) -> dict[str, str]:
        return {name: f"{name}-{file.mark}" for name, file in self.backbones.items()}

    def trunks(self, rows: Sequence[Row]) -> dict[str, Trunk]:
        """Training name -> its trunk, without storage, for the trainings of `rows` that have one."""
        found = {}
        for training in {training.name: training for row in rows for training in row.trainings}.values():
            try:
                model = self._unallocated(training)
            except InputError:  # making its row will say why
                continue
            if (trunk := trunk_of(model)) is not None:
                found[training.name] = trunk
        return found

    def parameters(self, row: Row) -> int:
        """Of all networks of a row, counted without allocating them."""
        return sum(self._unallocated(training).num_parameters() for training in row.trainings)

    def _unallocated(self, training: Training) -> Model:
        config = self.settings(training, 0).config
        with torch.device("meta"):
            return create_model(training.model, **config)

    def is_trained(self, training: Training, seed: int, fold: str | None = None) -> bool:
        """Whether a finished run of these very settings is there."""
        facts = read_json(self.run(training, seed, fold) / "run.json")
        if not (facts and facts["finished"]):
            return False
        return not self.settings(training, seed, fold).differing(facts)

    def result(self, row: Row, seed: int) -> dict[str, Any] | None:
        """What an earlier call found for a row; None where there is nothing, or something of other settings."""
        found: dict[str, Any] | None = read_json(self.place.result(self.slug(row), seed))
        if self.bundles and not self.place.bundle(self.slug(row), seed).is_file():
            found = None if found and found["status"] == "done" else found  # made by a call without bundles
        if found is None or found["status"] != "done":
            return found
        try:
            return found if known_job(found["job"]) == self.job(row, seed) else None
        except InputError:  # its settings no longer hold; making it will say why
            return None

    def job(self, row: Row, seed: int) -> dict[str, Any]:
        """All that decides a row's score."""
        return plain({
            "trainings": [
                self.settings(training, seed, fold).to_dict() for fold in self.models for training in row.trainings
            ],
            "change": row.change,
            "window": row.window,
            "split": self.split,
            "resamples": self.preset.resamples,
            **({"corrupt": row.world} if row.world else {}),
            **({"sample_set": "per-second"} if self.per_second else {}),
        })  # fmt: skip

    def make(self, row: Row, seed: int, broken: dict[tuple[str, int], str]) -> dict[str, Any]:
        """The result of a row, kept as a file; a failure is a result too.

        broken: trainings that have failed in this call, by name and seed; they are not tried again for other rows.
        """
        try:
            found = self._score(row, seed, broken)
        except (
            Exception
        ) as error:  # whatever fails is to be shown in the table, and the others are still wanted
            found = {"status": "failed", "error": one_line(error)}
        write_json(self.place.result(self.slug(row), seed), found)
        return found

    def _score(self, row: Row, seed: int, broken: dict[tuple[str, int], str]) -> dict[str, Any]:
        job = self.job(row, seed)
        seconds = [
            self._train(training, seed, broken, fold) for fold in self.models for training in row.trainings
        ]
        path = self.place.predictions(self.slug(row), seed)
        if not made_for(path, job):
            self._predict_all(row, seed, path, job)
        scored = score(
            path, self.data, self.split, resamples=self.preset.resamples, per_second=self.per_second
        )
        facts = read_json(seconds_path(path)) or {}
        own = {
            "parameters": self.parameters(row),
            "train_seconds": None if None in seconds else sum(cast(list[float], seconds)),
            "latency_ms": facts.get("latency_ms"),
        }
        if self.bundles:
            target = self.place.bundle(self.slug(row), seed)
            target.parent.mkdir(parents=True, exist_ok=True)
            known = {key: value for key, value in own.items() if value is not None}
            options = {**SCORE_OPTIONS, "resamples": self.preset.resamples, "per_second": self.per_second}
            name = row.name.removesuffix(f"@{row.world}")
            write_bundle(target, path, scored, options, {"model": name, **known})
        return {
            "status": "done",
            "job": job,
            **own,
            "predict_seconds": facts.get("seconds"),
            "device": scored.meta["device"],
            "reinterpretation": bool(scored.meta["reinterpretation"]),
            "backbone": scored.meta.get("backbone"),
            "versions": scored.meta["versions"],
            "score": scored.to_dict(),
        }

    def _train(
        self, training: Training, seed: int, broken: dict[tuple[str, int], str], fold: str | None
    ) -> float | None:
        """Train what is not trained yet; seconds that it took over all calls."""
        key = (self.run(training, seed, fold).parent.name, seed)
        if key in broken:
            raise RuntimeError(broken[key])
        folder, file = self.run(training, seed, fold), self.backbones.get(training.name)
        watch = Stopwatch(folder)
        if not self.is_trained(training, seed, fold):
            folder.parent.mkdir(parents=True, exist_ok=True)
            watch.start()
            try:
                train(
                    training.model,
                    self.data,
                    folder,
                    options=self.options(training),
                    protocol=self.preset.windows,
                    split=fold,
                    seed=seed,
                    device=self.device,
                    workers=self.workers,
                    cache=self.cache,
                    backbone_weights=None if file is None else file.path,
                )
            except Exception as error:
                broken[key] = one_line(error)
                raise
            watch.stop()
        return watch.seconds()

    def _predict_all(self, row: Row, seed: int, path: Path, job: dict[str, Any]) -> None:
        """The file that is scored: of one model, or of one model a fold, pooled."""
        if not self.folds:
            self._predict(row, seed, path, job, None)
            return
        parts = {fold: self.part(path, fold) for fold in self.folds}
        for fold, part in parts.items():
            if not made_for(part, job):
                self._predict(row, seed, part, job, fold)
        pool(parts, path, {"split": self.data.split_label(self.split)})
        seconds = [(read_json(seconds_path(part)) or {}).get("seconds") for part in parts.values()]
        write_json(seconds_path(path), {"seconds": None if None in seconds else sum(seconds)})

    @staticmethod
    def part(path: Path, fold: str) -> Path:
        """The predictions on one fold, beside those of all."""
        return path.with_name(f"{path.stem}--{fold.replace(':', '-', 1)}.npz")

    def _predict(self, row: Row, seed: int, path: Path, job: dict[str, Any], fold: str | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        models = [load_checkpoint(self.run(training, seed, fold)) for training in row.trainings]
        model = changed(models[0], row) if len(models) == 1 else fused(models)
        latency = None if fold is not None or row.world or row.window else latency_ms(model)
        source, transform = corruption(self.data, row.world) if row.world else (self.data, None)
        began = time.monotonic()
        predict(
            model,
            source,
            path,
            transform=transform,
            split=self.split if fold is None else left_out_of(fold),
            protocol=replace(self.preset.windows, **row.window),
            context="full",
            device=self.device,
            workers=self.workers,
            cache=self.cache,
            per_second=self.per_second,
            meta={
                "job": digest(job),
                "seed": seed,
                "simulated": self.simulated,
                "device": device_name(self.device),
                **({"corrupt": row.world} if row.world else {}),
                "reinterpretation": any(m.meta.provenance.get("reinterpretation", False) for m in models),
            },
        )
        write_json(seconds_path(path), {"seconds": time.monotonic() - began, "latency_ms": latency})


def changed(model: Model, row: Row) -> Model:
    """The same weights under a changed configuration."""
    if not row.change:
        return model
    other = create_model(model.meta.name, **{**model.meta.config, **row.change})
    other.load_state_dict(model.state_dict())
    other.meta = replace(other.meta, protocol=model.meta.protocol, provenance=model.meta.provenance)
    return other


def latency_ms(model: Model) -> float | None:
    """Of one frame on the CPU, as at a furnace; None where the model does not say which frames it takes."""
    try:
        return round(frame_latency_ms(model), 3)
    except InputError:
        return None


def fused(models: Sequence[Model]) -> Model:
    visual, current = models
    return fuse_unimodal(cast(FmFormer, visual), cast(FmFormer, current))


def known_job(found: dict[str, Any]) -> dict[str, Any]:
    """A job as this version would write it."""
    return found | {"trainings": [without_later(training) for training in found["trainings"]]}


def made_for(path: Path, job: dict[str, Any]) -> bool:
    """Whether a whole prediction file of this very job is there."""
    if not path.is_file():
        return False
    try:
        return read_predictions(path).meta.get("job") == digest(job)
    except PredictionError:
        return False


def seconds_path(predictions: Path) -> Path:
    return predictions.with_suffix(".seconds.json")


def digest(job: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()


def device_name(device: str | None) -> str:
    """As tables print it."""
    if (device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cuda":
        return torch.cuda.get_device_name()
    return "CPU"


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:500]
    return (
        text
        if isinstance(error, FmfbenchError | RuntimeError) and text
        else f"{type(error).__name__}: {text}"
    )
