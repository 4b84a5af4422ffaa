"""A demonstration that fits a laptop: FmFormer, preset `demo`, trained on a CPU in less than a minute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from fmfbench.data import Dataset
from fmfbench_models.training.train import train

__all__ = ["NANO_OPTIONS", "train_nano"]

# Preset `small` of FMF-Sim holds a dozen events in its train split: none to spare for validation, and too few to show
# the spot everywhere it can be, hence the shift.
NANO_OPTIONS: dict[str, Any] = {
    "preset": "demo",
    "epochs": 5,
    "batch_size": 16,
    "every": 3,
    "lr": 2e-3,
    "lr_steps": [3],
    "shift": 8,
    "validate": False,
}


def train_nano(
    data: Dataset | str | os.PathLike[str], out: str | os.PathLike[str], *, seed: int = 0, device: str = "cpu"
) -> Path:
    """Train `nano` on windows of the `short` protocol into the run folder `out`, and return it.

    Dense only: a frame's score is its highest abnormal pixel probability. Give `out` to
    `fmfbench_models.inference.predict.predict`; there is no best checkpoint.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its matrices are small: a second thread mostly waits for the first
    try:
        return train(
            "fmformer",
            data,
            out,
            options=NANO_OPTIONS,
            protocol="short",
            seed=seed,
            device=device,
            cache="memory",
        )
    finally:
        torch.set_num_threads(threads)
