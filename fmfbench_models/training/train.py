"""Training: settings, data, loop. The same function under `fmfbench train`, in a notebook, and under torchrun.

A run folder holds run.json (all that decides the result), log.jsonl, curves.png, last.safetensors, best.safetensors
(lowest validation loss) and state.safetensors, from which the same call resumes after any interruption.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import InputError, TrainingError
from fmfbench.files.local import local_path
from fmfbench.files.remote import parse_place
from fmfbench.torch import WindowDataset, WindowLoader, make_loader
from fmfbench.windows.division import reach_seconds
from fmfbench.windows.protocol import WindowProtocol
from fmfbench.windows.reader import Windows
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.augmentation import augment
from fmfbench_models.parts.backbones import load_backbone_weights, random_backbone, trunk_of
from fmfbench_models.parts.blocks import start_at_share
from fmfbench_models.parts.layer_drop import apply_layer_drop
from fmfbench_models.parts.progress import Progress
from fmfbench_models.registry import create_model, plain, registration
from fmfbench_models.training.average import WeightAverage
from fmfbench_models.training.batch_norm import gather_batch_norm
from fmfbench_models.training.epoch_loader import EpochLoader, epoch_ids, used_ids
from fmfbench_models.training.folder import Place, RunFolder, git_revision, versions
from fmfbench_models.training.logs import check_logs, log_forms
from fmfbench_models.training.parallel import World, joined
from fmfbench_models.training.runlog import RunLog, draw_curves
from fmfbench_models.training.samples import (
    Ids,
    abnormal_pixel_share,
    check_labelled,
    current_statistics,
    fit_and_validation,
    held_out_part,
    normal_windows,
    train_split,
    without_fold,
)
from fmfbench_models.training.settings import Settings, make_settings
from fmfbench_models.training.step import Step, make_optimiser, make_step, to_device
from fmfbench_models.training.validation import evaluate

__all__ = ["train"]


def train(
    model: str,
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    protocol: str | WindowProtocol | None = None,
    context: str = "full",
    split: str | None = None,
    seed: int = 0,
    device: str | None = None,
    workers: int = 0,
    cache: str | None = None,
    backbone_weights: str | os.PathLike[str] | None = None,
    save_seconds: float = 120.0,
    lengthen: str | os.PathLike[str] | None = None,
    logs: Sequence[str] = (),
) -> Path:
    """Train `model` on the training samples of a store into the run folder `out`.

    Called again, it resumes where an earlier call stopped.

    Args:
        model: a name of `list_models()`.
        options: keys of the recipe and of the model's configuration; "preset"; "recipe", which is "shared" or
            "original"; "protocol.KEY" for a protocol's fields.
        protocol: a name, or one of your own; "paper" unless the preset is "official".
        context: which splits a window may see ("full", "masked", "strict").
        split: a stored split by its name (`derived`, or `derived:train`), whose train samples these are; by default the
            store's default. Or a fold of train that is left out: `loro:NAME`, all recordings but NAME; `kfold:I/K`,
            all but the I-th of K parts of each recording's train time. See `samples.left_out_of` for what to score.
        device: "cpu" or "cuda"; a GPU where there is one.
        workers: processes that read windows. cache: "memory" keeps recordings in memory.
        backbone_weights: published weights for the model's convolutional trunk (see `backbones`); drawn at random
            without.
        save_seconds: how often the state is saved between the ends of epochs.
        lengthen: a finished run of the same settings but for fewer epochs; this one begins where it ended, and ends as
            one run of all its epochs would.
        logs: forms of the log beside log.jsonl: "csv" (log.csv), "tensorboard" (a folder of that name).

    Raises:
        InputError: unknown keys, backbone weights that do not fit, a run folder that holds another run, recordings too
            short for validation, nothing to train on (with the fold's name), `normal_only` without a normal sample, or
            a run that cannot be lengthened.
        TrainingError: a loss that is not finite.
    """
    if not isinstance(data, Dataset):
        data = fmfbench.open_dataset(parse_place(data))
    data, fold = (data, None) if split is None else train_split(data, split)
    settings = make_settings(
        model,
        data,
        options=options,
        protocol=protocol,
        context=context,
        seed=seed,
        backbone_weights=backbone_weights,
        fold=fold,
    )
    check_logs(logs)
    if logs and registration(model).training == "fitted":
        raise InputError(
            f"{model}: log: expected a model that gradients train, got one that is fitted in one pass"
        )
    with joined(device) as world:
        run = _Run(
            settings,
            data,
            local_path(out),
            world,
            workers=workers,
            cache=cache,
            backbone_weights=None if backbone_weights is None else Path(backbone_weights),
            save_seconds=save_seconds,
            longer_than=None if lengthen is None else local_path(lengthen),
            logs=logs,
        )
        run.execute()
    return Path(out)


class _Run:
    """One run folder and everything that is in motion while it is trained."""

    def __init__(
        self,
        settings: Settings,
        data: Dataset,
        out: Path,
        world: World,
        *,
        workers: int,
        cache: str | None,
        backbone_weights: Path | None,
        save_seconds: float,
        longer_than: Path | None,
        logs: Sequence[str] = (),
    ) -> None:
        self.settings, self.data, self.world = settings, data, world
        self.folder = RunFolder(out, settings, data, world.size)
        self.record = registration(settings.model)
        self.recipe = settings.recipe
        self.workers, self.backbone_weights, self.save_seconds = workers, backbone_weights, save_seconds
        self.logs = logs
        self.windows = data.windows("train", settings.protocol, settings.context, cache=cache)
        self.kept = None if settings.fold is None else without_fold(data, settings.fold, settings.protocol)
        self.fit_ids, self.held_ids, self.val_ids = self._samples(self.windows)
        self.with_masks = self._count_masks()
        if world.is_first:  # the others would see a folder half made
            self.folder.claim(longer_than)
        self.folder = self.folder.seen_by(world)
        self.model = self._fresh_model().to(world.device)
        self.place = Place()

    @property
    def number(self) -> int:
        """Of steps so far."""
        return self.place.number

    # --- what is trained on
    # -------------------------------------------------------------------------------------------

    def _samples(self, windows: Windows) -> tuple[Ids, Ids, Ids]:
        """Ids for gradients, for `Model.fit` alone, and for validation."""
        fit, validation = windows.sample_ids, windows.sample_ids[:0]
        if self.kept is not None:
            fit = np.intersect1d(fit, self.kept)
        if self.recipe.validate:
            fit, validation = (
                np.intersect1d(ids, fit) for ids in fit_and_validation(self.data, self.settings.protocol)
            )
            if self.kept is not None and not len(validation):
                raise InputError(
                    f"{self.data.path}: {self.settings.fold}: expected validation samples outside the fold, got none; "
                    f"train without validation (validate=false)"
                )
        check_labelled(self.data, np.concatenate([fit, validation]))
        if self.recipe.normal_only:
            fit, validation = self._normal(windows, fit, validation)
        fit, held = held_out_part(self.data, fit, self.record.held_out)
        self.pool = fit
        fit = used_ids(fit, self.data.class_labels(fit), self.recipe)
        if not len(fit):
            where, remedy = str(self.data.path), "is there a train split?"
            if self.kept is not None:
                where, remedy = f"{where}: {self.settings.fold}", "take more folds, or another recording"
            raise InputError(f"{where}: expected training samples, got none; {remedy}")
        return fit, held, validation

    def _count_masks(self) -> int:
        """How many training samples have a mask; InputError where a model that learns from masks would see none."""
        rows = np.searchsorted(self.windows.sample_ids, self.fit_ids)
        count = int(self.windows.samples.mask_valid[rows].sum())
        with torch.device("meta"):
            model = create_model(self.settings.model, **self.settings.config)
        if model.dense and model.needs_masks and not count:
            classes = "dense_task" in self.record.config.__dataclass_fields__
            remedy = (
                "train the class task alone: dense_task=false"
                if classes
                else "choose a model of classes alone"
            )
            raise InputError(
                f"{self.data.path}: {self.settings.model} learns masks: expected training samples with pixel labels, "
                f"got none among {len(self.fit_ids)}; add a label layer (`fmfbench annotate`), or {remedy}"
            )
        return count

    def _normal(self, windows: Windows, fit: Ids, validation: Ids) -> tuple[Ids, Ids]:
        """Those that show normal frames alone; InputError where a part that is asked for has none."""
        normal = normal_windows(windows)
        kept = np.intersect1d(fit, normal), np.intersect1d(validation, normal)
        remedies = {"training": "convert more recordings", "validation": "train without it: validate=false"}
        for (part, remedy), before, after in zip(remedies.items(), (fit, validation), kept, strict=True):
            if not len(after) and (part == "training" or self.recipe.validate):
                raise InputError(
                    f"{self.data.path}: normal_only: expected {part} samples of the train split whose frames are all "
                    f"normal, got none among {len(before)}; {remedy}"
                )
        return kept

    def _loader(self, ids: Ids, *, training: bool) -> WindowLoader:
        size, share = self.recipe.batch_size, self.world.size
        if training:  # every batch is full: with fewer samples than one batch, they are the batch
            size = min(size, len(ids) - len(ids) % share)
        return make_loader(
            WindowDataset(self.windows.select(ids)),
            batch_size=size,
            shuffle=training,
            num_workers=self.workers,
            seed=self.settings.seed,
            drop_last=training,
            rank=self.world.rank,
            world_size=share,
            pin_memory=self.world.device.type == "cuda",
        )

    def _training_loader(self) -> WindowLoader | EpochLoader:
        """Of the same samples in every epoch, or of others in each."""
        if not (self.recipe.rotate or self.recipe.balanced):
            return self._loader(self.fit_ids, training=True)
        labels, seed = self.data.class_labels(self.pool), self.settings.seed
        return EpochLoader(
            lambda ids: self._loader(ids, training=True),
            lambda epoch: epoch_ids(self.pool, labels, self.recipe, seed, epoch),
        )

    def _fresh_model(self) -> Model:
        torch.manual_seed(self.settings.seed)
        model = create_model(self.settings.model, **self.settings.config)
        trunk, backbone = trunk_of(model), None
        if trunk is not None:
            weights = self.backbone_weights
            backbone = random_backbone(trunk) if weights is None else load_backbone_weights(trunk, weights)
        statistics = current_statistics(self.data, normal_only=self.recipe.normal_only, within=self.kept)
        if statistics is not None:
            model.input_norm.set_current(*statistics)
        if self.recipe.mask_prior:
            start_at_share(model, abnormal_pixel_share(self.data, self.fit_ids))
        provenance = {
            **model.meta.provenance,
            "data": {
                "name": self.data.name,
                "fingerprint": self.data.fingerprint,
                "simulated": self.data.simulated,
                "split": self.data.split_name,
                "options": self.data.attributes.get("fmfbench.options", {}),
                "frame_size": sorted({(r.width, r.height) for r in self.data.recordings.values()}),
            },
            "backbone": backbone,
            "seed": self.settings.seed,
            "context": self.settings.context,
            "recipe": plain(asdict(self.recipe)),
            "recipe_name": self.settings.recipe_name,
            "normal_only": self.recipe.normal_only,
            "samples": {
                "training": len(self.fit_ids),
                "held_out": len(self.held_ids),
                "validation": len(self.val_ids),
            },
            "versions": versions(),
            "git": git_revision(),
            **({} if self.settings.fold is None else {"fold": self.settings.fold}),
        }
        model.meta = replace(model.meta, protocol=self.settings.protocol.to_dict(), provenance=provenance)
        return model

    # --- the loop
    # -----------------------------------------------------------------------------------------------------

    def execute(self) -> None:
        if self.folder.finished:
            if self.world.is_first:
                for form in log_forms(self.logs, self.folder.log):
                    form.close()
            return
        self.began = time.monotonic()
        if self.record.training != "fitted":
            self._gradients()
        if self.record.training != "gradient" and self.world.is_first:
            self.model.cpu().eval()
            self.model.fit(self._fit_data())
            self.folder.save_model(self.model, "last", self.place)
            self.folder.forget_best()
        if self.world.is_first:
            self.folder.finish(time.monotonic() - self.began, _device_name(self.world.device))
        self.world.wait()

    def _gradients(self) -> None:
        torch.set_float32_matmul_precision("high")
        if not self.folder.has_state:
            self.model.prepare(self._fit_data())
            self.model.train()
        self.model.label_smoothing = self.recipe.label_smoothing
        if self.recipe.layer_drop:
            apply_layer_drop(self.model, self.recipe.layer_drop)
        forward = self._wrapped()
        self.optimiser = make_optimiser(self.model, self.recipe)
        step = make_step(self.model, self.optimiser, self.recipe, forward)
        self.average = WeightAverage(self.model, self.recipe.ema) if self.recipe.ema else None
        loader = self._training_loader()
        checked = self.val_ids[:: self.recipe.validate_every]
        validation = self._loader(checked, training=False) if len(checked) else None
        self.place, log_length = self.folder.restore(self.model, self.optimiser, loader, self.average)
        self.began -= self.place.seconds  # of earlier calls
        self.log = RunLog(self.folder.log, log_length) if self.world.is_first else None
        if self.log is not None:
            self.log.forms = log_forms(self.logs, self.folder.log)
        if self.log is not None and not self.log.length:
            share = self.with_masks / len(self.fit_ids)
            self.log.write(
                kind="samples",
                training=len(self.fit_ids),
                with_masks=self.with_masks,
                share=share,
                validation=len(self.val_ids),
                **({"each_epoch": loader.samples} if isinstance(loader, EpochLoader) else {}),
                guard_seconds=reach_seconds(self.settings.protocol) if self.recipe.validate else None,
            )
        total = self.recipe.epochs * len(loader)
        with Progress(
            total, "step", self.settings.model, initial=self.place.number, hidden=not self.world.is_first
        ) as bar:
            while self.place.epoch < self.recipe.epochs and not self._waited_enough():
                self._epoch(step, loader, bar)
                with self.average.applied() if self.average else nullcontext():
                    figures = self._judge_epoch(validation)
                self._end_epoch(figures, loader)
        if self.average is not None:
            self.average.keep()
        for form in self.log.forms if self.log is not None else ():
            form.close()

    def _waited_enough(self) -> bool:
        return bool(self.recipe.patience) and self.place.waited >= self.recipe.patience

    def _wrapped(self) -> Callable[..., Output]:
        """The model for several processes, and compiled on a GPU."""
        model: nn.Module = self.model
        gpu = self.world.device.type == "cuda"
        if self.world.size > 1:
            if gpu:
                self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
            else:
                gather_batch_norm(self.model)
            unused = bool(self.record.without_gradient) or self.model.has_unused
            model = nn.parallel.DistributedDataParallel(self.model, find_unused_parameters=unused)
        return torch.compile(model) if gpu else model

    def _epoch(self, step: Step, loader: WindowLoader | EpochLoader, bar: Progress) -> None:
        self.model.train()
        saved = time.monotonic()
        check_every = 1 if self.world.device.type == "cpu" else 25
        for cpu_batch in loader:
            batch = augment(
                to_device(cpu_batch, self.world.device),
                self.recipe,
                self.settings.seed,
                self.place.epoch,
                transposed=self.settings.protocol.transposed,
            )
            # Dropout draws from (seed, step, rank): a resumed run draws what an undisturbed one would.
            torch.manual_seed(_mixed(self.settings.seed, self.place.number, self.world.rank))
            rate = self.recipe.rate(self.place.number, len(loader))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            terms = step(batch)
            self.place.number += 1
            if self.average is not None:
                self.average.update(self.place.number)
            done = loader.state_dict()["batch"]
            if self.place.number % check_every == 0 or done == len(loader):
                values = {name: value.item() for name, value in terms.items()}
                self._check(values, batch)
                for name, value in values.items():
                    self.place.sums[name] = self.place.sums.get(name, 0.0) + value
                self.place.sums["checks"] = self.place.sums.get("checks", 0.0) + 1
                bar.tell(epoch=self.place.epoch + 1, loss=f"{values['loss']:.4f}", lr=f"{rate:.1e}")
                if self.log is not None and (self.place.number % 50 == 0 or self.place.number == 1):
                    self.log.write(
                        kind="step", epoch=self.place.epoch, step=self.place.number, lr=rate, **values
                    )
            bar.update()
            if time.monotonic() - saved >= self.save_seconds and done < len(loader):
                self._save_state(loader)
                saved = time.monotonic()

    def _check(self, values: dict[str, float], batch: Batch) -> None:
        if all(math.isfinite(value) for value in values.values()):
            return
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        ids = batch["sample_id"].tolist()
        raise TrainingError(
            f"{self.folder.path}: the loss is not finite at epoch {self.place.epoch + 1}, step {self.place.number} "
            f"({told}), samples {ids[0]} and {len(ids) - 1} others of that batch; try a lower lr or clip=1.0"
        )

    def _judge_epoch(self, validation: WindowLoader | None) -> dict[str, Any]:
        """Means of the epoch's terms, and what validation says of the model, which is saved."""
        checks = self.place.sums.pop("checks", 1.0)
        means: dict[str, Any] = {name: value / checks for name, value in self.place.sums.items()}
        if validation is not None:
            means |= evaluate(self.model, validation, self.world, self.recipe.alpha)
        self.place.sums = {}
        self.place.epoch += 1
        loss = means.get("val_loss")
        better = loss is not None and loss < self.place.best
        self.place.waited = 0 if better else self.place.waited + 1
        if loss is not None:
            self.place.best = min(self.place.best, loss)
        if self.world.is_first:
            self.folder.save_model(self.model, "last", self.place, means)
            if better:
                self.folder.save_model(self.model, "best", self.place, means)
        return means

    def _end_epoch(self, figures: dict[str, Any], loader: WindowLoader | EpochLoader) -> None:
        loader.set_epoch(self.place.epoch)
        if self.log is not None:
            lr = self.recipe.rate(self.place.number - 1, len(loader))
            self.log.write(kind="epoch", epoch=self.place.epoch - 1, step=self.place.number, lr=lr, **figures)
            if self._waited_enough() and self.place.epoch < self.recipe.epochs:
                self.log.write(kind="stopped", epoch=self.place.epoch - 1, waited=self.place.waited)
            title = f"{self.settings.model} on {self.data.name}, seed {self.settings.seed}"
            draw_curves(self.log.path, self.folder.path / "curves.png", title)
        self._save_state(loader)

    def _save_state(self, loader: WindowLoader | EpochLoader) -> None:
        self.place.seconds = time.monotonic() - self.began
        if self.log is not None:
            self.folder.save_state(
                self.model, self.optimiser, loader, self.place, self.log.length, self.average
            )

    def _fit_data(self) -> FitData:
        """For `prepare` and `fit`, which pass over their samples once or more: of `rotate` the first epoch's alone."""

        def batches(ids: Ids) -> Iterable[Batch] | None:
            return _Again(partial(self._passing, ids)) if len(ids) else None

        still = replace(self.recipe, rotate=False)
        train = batches(used_ids(self.pool, self.data.class_labels(self.pool), still))
        assert train is not None
        return FitData(train, batches(self.held_ids), batches(self.val_ids), self.settings.seed)

    def _passing(self, ids: Ids) -> Iterator[Batch]:
        """Batches of `ids` in their order, the same in every process, and how far it is."""
        dataset = WindowDataset(self.windows.select(ids))
        size, workers = self.recipe.batch_size, self.workers
        loader = make_loader(dataset, batch_size=size, num_workers=workers, rank=0, world_size=1)
        what = f"{self.settings.model}, fit"
        with Progress(len(ids), "window", what, hidden=not self.world.is_first) as bar:
            for batch in loader:
                yield batch
                bar.update(len(batch["class_label"]))


def _device_name(device: torch.device) -> str:
    """As a reader of a training time wants it: a GPU by its name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


class _Again:
    """An iterable that starts from the beginning each time."""

    def __init__(self, make: Callable[[], Iterator[Batch]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Batch]:
        return self._make()


def _mixed(*values: int) -> int:
    return int(np.random.SeedSequence(values).generate_state(1, np.uint64)[0] >> np.uint64(1))
