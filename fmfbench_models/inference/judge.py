"""A trained model that judges samples of a store when it is asked, for the studio."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from fmfbench.data import Dataset
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.windows.reader import Windows
from fmfbench_models.checkpoint import load_checkpoint
from fmfbench_models.inference.calibration import calibration_of
from fmfbench_models.inference.engine import make_engine
from fmfbench_models.inference.predict import model_protocol

__all__ = ["RunJudge"]


class RunJudge:
    """The model of a run; its scores and masks are those that `predict` writes.

    Args:
        run: what `load_checkpoint` takes.

    Raises:
        InputError: no trained model there.
    """

    def __init__(self, run: str | os.PathLike[str]) -> None:
        model = load_checkpoint(run).eval()
        self.name = model.meta.name
        self._temperature, self.threshold = calibration_of(model).temperature, calibration_of(model).threshold
        self._protocol = model_protocol(model)
        self._context = model.meta.provenance.get("context", "full")
        self._engine = make_engine(model)
        self._windows: Windows | None = None  # of the store that was asked for last

    @torch.inference_mode()
    def __call__(
        self, data: Dataset, sample_ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """score (n,) in [0, 1], and upright masks (n,H,W) of 0 and 1, or None of a model without masks."""
        if self._windows is None or self._windows.dataset is not data:
            self._windows = data.windows("all", self._protocol, self._context)
        windows = self._windows.select(sample_ids)
        loader = make_loader(WindowDataset(windows), batch_size=len(sample_ids), num_workers=0)
        (batch,) = loader
        output = self._engine(batch)
        masks = output.masks()
        if masks is not None and self._protocol.transposed:
            masks = masks.transpose(1, 2)
        score = output.scores(self._temperature).float().cpu().numpy().astype(np.float32)
        return score, None if masks is None else masks.cpu().numpy().astype(np.uint8)
