"""How long a plan would take, from a few steps of each model on a batch of the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from fmfbench.errors import FmfbenchError, InputError, TrainingError
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.windows.protocol import get_protocol
from fmfbench_models.interface import Batch
from fmfbench_models.registry import create_model, registration
from fmfbench_models.reproduce.experiment import Row, Training, variant_of
from fmfbench_models.reproduce.work import Work
from fmfbench_models.reproduce.workplace import read_json
from fmfbench_models.training.parallel import check_device
from fmfbench_models.training.samples import fit_and_validation, held_out_part
from fmfbench_models.training.settings import Settings
from fmfbench_models.training.step import make_optimiser, make_step, to_device, to_float32

__all__ = ["Estimator"]

PREDICT_BATCH = 64


class Estimator:
    """Measures each network once, and remembers it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.device = torch.device(check_device(work.device))
        self._costs: dict[str, dict[str, Any]] = {}
        self._batches: dict[tuple[Any, ...], tuple[Batch, float]] = {}

    def step(self, row: Row, seed: int, planned: set[tuple[str, int]]) -> dict[str, Any]:
        """One line of a plan. planned: trainings that earlier lines have, which this one adds to."""
        facts: dict[str, Any] = {"row": row.name, "seed": seed, "state": "to do"}
        train, predict, steps, epochs = 0.0, 0.0, 0, 0
        try:
            facts["parameters"] = self.work.parameters(row)
            for training in row.trainings:
                cost = self._cost(training)
                predict += self._predict_seconds(row, cost)
                facts["variant"] = variant_of(registration(training.model), self.work.preset)[0]
                if (training.name, seed) in planned or self.work.is_trained(training, seed):
                    continue
                self._refuse_other_run(training, seed)
                planned.add((training.name, seed))
                train, steps, epochs = train + cost["train_seconds"], steps + cost["steps"], cost["epochs"]
                if (self.work.run(training, seed) / "state.safetensors").is_file():
                    facts["state"] = "to resume"
        except (FmfbenchError, RuntimeError, ValueError) as error:  # what training would say too, now
            return facts | {"state": f"will fail: {' '.join(str(error).split())[:200]}"}
        return facts | {
            "epochs": epochs,
            "steps": steps,
            "train_seconds": train,
            "predict_seconds": predict,
            "estimated_seconds": train + predict,
        }

    def _refuse_other_run(self, training: Training, seed: int) -> None:
        folder = self.work.run(training, seed)
        found = read_json(folder / "run.json")
        differing = self.work.settings(training, seed).differing(found) if found else []
        if differing:
            raise InputError(f"{folder}: holds a run with other {', '.join(differing)}")

    def _cost(self, training: Training) -> dict[str, Any]:
        if training.name not in self._costs:
            self._costs[training.name] = self._measure(training)
        return self._costs[training.name]

    def _measure(self, training: Training) -> dict[str, Any]:
        record, settings = registration(training.model), self.work.settings(training, 0)
        recipe = settings.recipe
        fit, validation = fit_and_validation(self.work.data)
        fit, held = held_out_part(self.work.data, fit, record.held_out)
        fit = fit[:: recipe.every]
        if not len(fit):
            raise TrainingError(f"{self.work.data.path}: expected training samples, got none")
        size = min(recipe.batch_size, len(fit))
        batch, read = self._batch(settings, size)
        model = create_model(training.model, **settings.config).to(self.device)
        steps, step_seconds = 0, 0.0
        if record.training != "fitted":
            update = make_step(model, make_optimiser(model, recipe), recipe)
            steps, step_seconds = recipe.epochs * (len(fit) // size), self._timed(lambda: update(batch))
        model.eval()
        forward = read
        # another package's model may say nothing before it is fitted
        with suppress(*(() if record.training == "gradient" else (Exception,))), torch.inference_mode():
            forward += self._timed(lambda: to_float32(model(**model.takes(batch))))
        seen = 0 if record.training == "gradient" else len(fit) + len(held) + len(validation)
        once = seen / size * forward
        checked = len(validation[:: recipe.validate_every])
        checks = 0.0 if record.training == "fitted" else recipe.epochs * checked / size * forward
        return {
            "epochs": recipe.epochs,
            "steps": steps,
            "train_seconds": steps * (read + step_seconds) + checks + once,
            "sample_seconds": forward / size,
        }

    def _predict_seconds(self, row: Row, cost: dict[str, Any]) -> float:
        """Longer windows cost in proportion to what they hold."""
        plain = get_protocol(self.work.preset.protocol)
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
