"""The folder of a run: who may write into it, and the files by which a run resumes.

run.json             all that decides the result, and whether it is finished
log.jsonl            one JSON object a line; curves.png is drawn from it
last, best .safetensors   weights after the last epoch, and after that of lowest validation loss
state.safetensors    all that the next step depends on
"""

from __future__ import annotations

import atexit
import json
import math
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fmfbench
from fmfbench.data import Dataset
from fmfbench.errors import InputError
from fmfbench.files.atomic import write_text
from fmfbench.files.claims import make_folder, read_mark, sweep
from fmfbench.torch import WindowLoader
from fmfbench_models.checkpoint import read_tensors, save_checkpoint, write_tensors
from fmfbench_models.interface import Model
from fmfbench_models.training.average import WeightAverage
from fmfbench_models.training.epoch_loader import EpochLoader
from fmfbench_models.training.parallel import World, first_s_bytes
from fmfbench_models.training.settings import Settings, without_later

__all__ = ["Place", "RunFolder", "git_revision", "versions"]

MODEL = "model."
AVERAGE = "average."  # prefix of the moving average of its weights
COPIED = ("log.jsonl", "best.safetensors", "last.safetensors", "state.safetensors")


@dataclass
class Place:
    """How far a run has come.

    number: of steps. best: lowest validation loss. sums: of the epoch's terms so far. seconds: of wall time spent on
    it, all its calls together. waited: epochs since the lowest validation loss.
    """

    epoch: int = 0
    number: int = 0
    best: float = math.inf
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waited: int = 0


class RunFolder:
    """The files of one run. It belongs to one run: another's settings are refused, the same ones resume."""

    def __init__(self, path: Path, settings: Settings, data: Dataset, processes: int = 1) -> None:
        self.path, self.settings, self.data, self.processes = path, settings, data, processes

    def seen_by(self, world: World) -> RunFolder:
        """This folder for the first process; a temporary one for others.

        They may be on machines that do not see it: theirs has what a run resumes by, and ends with the process.
        """
        files = {}
        for name in ("run.json", "state.safetensors"):
            path = self.path / name
            here = path.read_bytes() if world.is_first and path.is_file() and world.size > 1 else None
            files[name] = first_s_bytes(world, here)
        if world.is_first:
            return self
        folder = Path(tempfile.mkdtemp(prefix="fmfbench-run-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name, data in files.items():
            if data is not None:
                (folder / name).write_bytes(data)
        return RunFolder(folder, self.settings, self.data, self.processes)

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def has_state(self) -> bool:
        return (self.path / "state.safetensors").is_file()

    def claim(self, longer_than: Path | None = None) -> None:
        """Take a new or empty folder, or one of this very run; InputError otherwise.

        longer_than: a finished run of the same settings but for fewer epochs, which this one begins with.
        """
        found = read_mark(self.path, "run.json", "a run to resume")
        if found is not None:
            differing = self._differing(found)
            if differing:
                raise InputError(
                    f"{self.path}: expected a run of these settings, got one with other {', '.join(differing)}; "
                    "choose another folder or delete it"
                    f"{self._longer_remedy(found, differing)}"
                )
            return
        if longer_than is not None:
            self._check_longer(longer_than)
        make_folder(self.path, "the run")
        sweep(self.path)
        if longer_than is not None:
            for name in COPIED:
                if (longer_than / name).is_file():
                    shutil.copyfile(longer_than / name, self.path / name)
        origin = {} if longer_than is None else {"lengthened_from": longer_than.name}
        self._write(finished=False, **origin)

    def _differing(self, found: Mapping[str, Any]) -> list[str]:
        differing = self.settings.differing(found)
        if found.get("sources") not in (None, self.data.sources_digest):  # None: an older folder
            differing.append("source files of the data")
        return differing

    def _check_longer(self, run: Path) -> None:
        """InputError unless `run` is a finished run that this one can begin with."""
        if not (run / "run.json").is_file():
            raise InputError(f"{run}: expected a run folder to lengthen, got none with run.json")
        found = self._read(run)
        if not found["finished"] or not (run / "state.safetensors").is_file():
            raise InputError(
                f"{run}: expected a finished run with its state.safetensors to lengthen, got one without; "
                f"finish it first: the same call resumes it"
            )
        same = {**found, "recipe": {**found["recipe"], "epochs": self.settings.recipe.epochs}}
        differing = self._differing(same)
        if differing:
            raise InputError(
                f"{run}: expected a run of the same settings but for its epochs, got other {', '.join(differing)}"
            )
        if self.settings.recipe.schedule == "cosine":
            raise InputError(
                f"{run}: expected a schedule of steps to lengthen, got cosine, which had come to its end; train anew"
            )
        if found["recipe"]["epochs"] >= self.settings.recipe.epochs:
            raise InputError(
                f"{run}: expected more epochs than the {found['recipe']['epochs']} that it has, got "
                f"{self.settings.recipe.epochs}"
            )

    def _longer_remedy(self, found: Mapping[str, Any], differing: list[str]) -> str:
        """What to do where the run here is finished and only more epochs of it are asked for."""
        old, own = (without_later(value)["recipe"] for value in (found, self.settings.to_dict()))
        only = differing == ["recipe"] and {**old, "epochs": own["epochs"]} == own
        if not (only and found["finished"] and own["epochs"] > old["epochs"]):
            return ""
        return f"; or lengthen it into a new one: --lengthen {self.path} --out ANOTHER"

    @staticmethod
    def _read(run: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return found

    def _write(self, **more: Any) -> None:
        facts = {"data": str(self.data.path), "sources": self.data.sources_digest, "versions": versions()}
        write_json(
            self.path / "run.json",
            {"schema": 1, **self.settings.to_dict(), **facts, "processes": self.processes, **more},
        )

    @property
    def finished(self) -> bool:
        return bool(self._read(self.path)["finished"])

    def finish(self, seconds: float, device: str) -> None:
        """Mark the run as finished, after so many seconds of wall time on such a device."""
        origin = self._read(self.path).get("lengthened_from")
        more = {} if origin is None else {"lengthened_from": origin}
        self._write(finished=True, train_seconds=round(seconds, 2), device=device, **more)

    def save_model(
        self, model: Model, name: str, place: Place, figures: Mapping[str, Any] | None = None
    ) -> None:
        meta = model.meta
        trained = {"epochs": place.epoch, "steps": place.number, **(figures or {})}
        model.meta = replace(meta, provenance={**meta.provenance, "trained": trained})
        save_checkpoint(self.path / f"{name}.safetensors", model)

    def forget_best(self) -> None:
        """It was saved before the fit."""
        (self.path / "best.safetensors").unlink(missing_ok=True)

    def save_state(
        self,
        model: Model,
        optimiser: torch.optim.Optimizer,
        loader: WindowLoader | EpochLoader,
        place: Place,
        log_length: int,
        average: WeightAverage | None = None,
    ) -> None:
        """All that the next step depends on, in one file that is replaced whole."""
        tensors = {f"{MODEL}{name}": value for name, value in model.state_dict().items()}
        if average is not None:
            tensors |= {f"{AVERAGE}{name}": value for name, value in average.tensors.items()}
        for i, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
        facts = {
            "epoch": place.epoch,
            "number": place.number,
            "best": None if math.isinf(place.best) else place.best,
            "sums": place.sums,
            "seconds": place.seconds,
            "waited": place.waited,
            "loader": loader.state_dict(),
            "log": log_length,
        }
        write_tensors(self.path / "state.safetensors", tensors, facts)

    def restore(
        self,
        model: Model,
        optimiser: torch.optim.Optimizer,
        loader: WindowLoader | EpochLoader,
        average: WeightAverage | None = None,
    ) -> tuple[Place, int]:
        """Take up the saved state, if there is one: how far the run had come, and how long its log was."""
        if not self.has_state:
            return Place(), 0
        tensors, facts = read_tensors(self.path / "state.safetensors")
        model.load_state_dict(
            {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
        )
        if average is not None:
            average.load(
                {
                    name.removeprefix(AVERAGE): value
                    for name, value in tensors.items()
                    if name.startswith(AVERAGE)
                }
            )
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
        loader.load_state_dict(facts["loader"])
        best = math.inf if facts["best"] is None else facts["best"]
        seconds = float(facts.get("seconds", 0.0))  # not in states of 0.1.0
        waited = int(facts.get("waited", 0))
        return Place(facts["epoch"], facts["number"], best, facts["sums"], seconds, waited), int(facts["log"])


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def versions() -> dict[str, str]:
    return {
        "fmfbench": fmfbench.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def git_revision() -> str | None:
    """The commit this package runs from, or None where it does not run from a work tree."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
