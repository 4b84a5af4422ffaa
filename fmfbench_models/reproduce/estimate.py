"""How long a plan would take: by the arithmetic of each model at a stored rate, or from a few steps of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from fmfbench.errors import FmfbenchError, InputError, TrainingError
from fmfbench.torch import WindowDataset, make_loader
from fmfbench_models.interface import Batch, Model
from fmfbench_models.registry import create_model, registration
from fmfbench_models.reproduce.experiment import Row, Training, read_toml, variant_of
from fmfbench_models.reproduce.work import Work
from fmfbench_models.reproduce.workplace import read_json
from fmfbench_models.training.parallel import check_device
from fmfbench_models.training.samples import (
    fit_and_validation,
    held_out_part,
    normal_windows,
    without_fold,
)
from fmfbench_models.training.settings import Settings
from fmfbench_models.training.step import make_optimiser, make_step, to_device, to_float32

__all__ = ["Estimator"]


class Estimator:
    """Estimates each network once, and remembers it.

    measure: from a few steps on a batch of the store; otherwise from the rates of `tables/costs.toml`, in no time.
    """

    def __init__(self, work: Work, *, measure: bool = False, other: Estimator | None = None) -> None:
        """other: an estimator of other work of the same preset, which measured some networks already."""
        self.work, self.measure = work, measure
        self.rates = read_toml("costs.toml")
        self.device = torch.device(check_device(work.device))
        self._costs: dict[tuple[str, str | None], dict[str, Any]] = {}
        self._timed_networks: dict[tuple[str, int], tuple[float | None, float | None]] = (
            {} if other is None else other._timed_networks
        )
        self._normal: dict[tuple[Any, ...], NDArray[np.int64]] = {} if other is None else other._normal
        self._batches: dict[tuple[Any, ...], tuple[Batch, float]] = {} if other is None else other._batches

    @property
    def origin(self) -> str:
        """Where the seconds come from, for people."""
        if self.measure:
            return "ESTIMATE from a few steps of each model on this machine as it is now"
        rate = self.rates.get(self.device.type)
        if rate is None:
            return f"no estimate: nothing is stored of {self.device.type}; --measure runs a few steps of each model"
        threads = torch.get_num_threads()
        return (
            f"ESTIMATE by counting each model's arithmetic, at the rate of {rate['processor']}, "
            f"{threads} thread{'s' * (threads > 1)}: right within a factor of two or three; --measure runs a few steps"
        )

    def step(self, row: Row, seed: int, planned: set[tuple[str, int]]) -> dict[str, Any]:
        """One line of a plan. planned: trainings that earlier lines have, which this one adds to."""
        facts: dict[str, Any] = {"row": row.name, "seed": seed, "state": "to do"}
        train: float | None = 0.0
        predict: float | None = 0.0
        steps, epochs = 0, 0
        try:
            facts["parameters"] = self.work.parameters(row)
            for training in row.trainings:
                facts["variant"] = variant_of(registration(training.model), self.work.preset)[0]
                predict = added(
                    predict, self._predict_seconds(row, self._cost(training, self.work.models[0]))
                )
                for fold in self.work.models:
                    folder = self.work.run(training, seed, fold)
                    if (folder.parent.name, seed) in planned or self.work.is_trained(training, seed, fold):
                        continue
                    cost = self._cost(training, fold)
                    self._refuse_other_run(training, seed, fold)
                    planned.add((folder.parent.name, seed))
                    train, steps = added(train, cost["train_seconds"]), steps + cost["steps"]
                    epochs = cost["epochs"]
                    if (folder / "state.safetensors").is_file():
                        facts["state"] = "to resume"
        except (FmfbenchError, RuntimeError, ValueError) as error:  # what training would say too, now
            return facts | {"state": f"will fail: {' '.join(str(error).split())[:200]}"}
        return facts | {
            "epochs": epochs,
            "steps": steps,
            "train_seconds": train,
            "predict_seconds": predict,
            "estimated_seconds": added(
                train, None if predict is None else predict + self.rates["row_seconds"]
            ),
        }

    def _refuse_other_run(self, training: Training, seed: int, fold: str | None) -> None:
        folder = self.work.run(training, seed, fold)
        found = read_json(folder / "run.json")
        differing = self.work.settings(training, seed, fold).differing(found) if found else []
        if differing:
            raise InputError(
                f"{folder}: expected a run of these settings, got one with other {', '.join(differing)}"
            )

    def _cost(self, training: Training, fold: str | None) -> dict[str, Any]:
        key = (training.name, fold)
        if key not in self._costs:
            self._costs[key] = self._estimate(training, fold)
        return self._costs[key]

    def _estimate(self, training: Training, fold: str | None) -> dict[str, Any]:
        """What a training and a prediction take, by counting or by measuring."""
        record, settings = registration(training.model), self.work.settings(training, 0, fold)
        recipe = settings.recipe
        if recipe.validate:
            fit, validation = fit_and_validation(self.work.data, settings.protocol)
        else:
            fit = self.work.data.sample_ids("train")
            validation = fit[:0]
        if fold is not None:
            kept = without_fold(self.work.data, fold, settings.protocol)
            fit, validation = np.intersect1d(fit, kept), np.intersect1d(validation, kept)
        if recipe.normal_only:
            normal = self._normal_ids(settings)
            fit, validation = np.intersect1d(fit, normal), np.intersect1d(validation, normal)
        fit, held = held_out_part(self.work.data, fit, record.held_out)
        fit = fit[:: recipe.every]
        if not len(fit):
            raise TrainingError(f"{self.work.data.path}: expected training samples, got none")
        size = min(recipe.batch_size, len(fit))
        step, forward = self._times(training.name, settings, size)
        steps = 0 if record.training == "fitted" else recipe.epochs * (len(fit) // size)
        seen = 0 if record.training == "gradient" else len(fit) + len(held) + len(validation)
        with torch.device("meta"):
            model = create_model(settings.model, **settings.config)
        seen += 0 if type(model).prepare is Model.prepare else len(fit)
        checked = 0 if record.training == "fitted" else len(validation[:: recipe.validate_every])
        train = None
        if step is not None and forward is not None:
            train = steps * step + (recipe.epochs * checked + seen) * forward
            train += self.rates["epoch_seconds"] * (recipe.epochs if steps else 1)
        return {
            "epochs": recipe.epochs,
            "steps": steps,
            "train_seconds": train,
            "sample_seconds": forward,
        }

    def _normal_ids(self, settings: Settings) -> NDArray[np.int64]:
        """Of the training samples those that show normal frames alone; models share them."""
        key = tuple(settings.protocol.to_dict().values())
        if key not in self._normal:
            windows = self.work.data.windows(
                "train", settings.protocol, settings.context, cache=self.work.cache
            )
            self._normal[key] = normal_windows(windows)
        return self._normal[key]

    def _times(self, name: str, settings: Settings, size: int) -> tuple[float | None, float | None]:
        """Of a network, by counting or by measuring; folds of one training share them."""
        key = (name, size)
        if key not in self._timed_networks:
            self._timed_networks[key] = (self._measured if self.measure else self._counted)(settings, size)
        return self._timed_networks[key]

    def _counted(self, settings: Settings, size: int) -> tuple[float | None, float | None]:
        """Seconds of a step and of one sample's forward pass: the model's arithmetic at the stored rate."""
        rate = self.rates.get(self.device.type)
        if rate is None:
            return None, None
        work = count_operations(settings) / (rate["operations_per_second"] * torch.get_num_threads())
        step = size * (3 * work + rate["sample_seconds"]) + rate["step_seconds"]  # backward is twice forward
        return step, work + rate["sample_seconds"]

    def _measured(self, settings: Settings, size: int) -> tuple[float | None, float | None]:
        """The same from a few steps on a batch of the store."""
        record, recipe = registration(settings.model), settings.recipe
        batch, read = self._batch(settings, size)
        model = create_model(settings.model, **settings.config).to(self.device)
        step = 0.0
        if record.training != "fitted":
            update = make_step(model, make_optimiser(model, recipe), recipe)
            step = read + self._timed(lambda: update(batch))
        model.eval()
        forward = read
        # another package's model may say nothing before it is fitted
        with suppress(*(() if record.training == "gradient" else (Exception,))), torch.inference_mode():
            forward += self._timed(lambda: to_float32(model(**model.takes(batch))))
        return step, forward / size

    def _predict_seconds(self, row: Row, cost: dict[str, Any]) -> float | None:
        """Longer windows cost in proportion to what they hold."""
        if cost["sample_seconds"] is None:
            return None
        plain = self.work.preset.windows
        wide = replace(plain, **row.window)
        factor = max(wide.num_frames / plain.num_frames, wide.num_current / plain.num_current)
        return float(self.work.num_test * cost["sample_seconds"] * factor)

    def _batch(self, settings: Settings, size: int) -> tuple[Batch, float]:
        """A training batch on the device, and the seconds that reading one takes."""
        key = (tuple(settings.protocol.to_dict().values()), size)
        if key not in self._batches:
            windows = self.work.data.windows(
                "train", settings.protocol, settings.context, cache=self.work.cache
            )
            ids = windows.sample_ids[: 2 * size]
            loader = iter(
                make_loader(WindowDataset(windows.select(ids)), batch_size=size, rank=0, world_size=1)
            )
            batch = to_device(next(loader), self.device)
            began = time.perf_counter()
            for second in loader:
                batch = second
            self._batches[key] = to_device(batch, self.device), time.perf_counter() - began
        return self._batches[key]

    def _timed(self, work: Callable[[], object], repeats: int = 2) -> float:
        """Seconds of the fastest of some repeats, after one that is not counted."""
        best = float("inf")
        for _ in range(repeats + 1):
            began = time.perf_counter()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            spent = time.perf_counter() - began
            best = min(best, spent)
        return best


def added(one: float | None, other: float | None) -> float | None:
    """The sum, None where either is not known."""
    return None if one is None or other is None else one + other


def count_operations(settings: Settings) -> float:
    """Floating-point operations of one sample's forward pass; 0 for a model that is no network.

    A multiplication and its addition count as two. Nothing is computed, and no memory taken.
    """
    protocol, config = settings.protocol, settings.config
    with torch.device("meta"):
        model = create_model(settings.model, **config).eval()
        height, width = config.get("size", (64, 64))
        batch = {
            "video": torch.zeros(1, 3, protocol.num_frames, height, width, dtype=torch.uint8),
            "current": torch.zeros(1, protocol.num_current, 3),
        }
    with FlopCounterMode(display=False) as counter, suppress(Exception):
        model(**model.takes(batch))
    return float(counter.get_total_flops())
