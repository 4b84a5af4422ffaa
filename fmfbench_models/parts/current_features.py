"""A window of three-phase current as 24 numbers, for models that do not read it step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from fmfbench.errors import InputError

__all__ = ["CURRENT_FEATURES", "current_features"]

CURRENT_FEATURES = 24


def current_features(current: Tensor) -> Tensor:
    """(b, n, 3), z-scored by the training split's statistics, n >= 2 -> (b, 24): eight features of three phases each.

    Mean, standard deviation, minimum, maximum, last value; tracking error, the mean distance from the training
    split's mean, which stands for the set point; mean step between time steps; slope, the rise of the least-squares
    line over half the window.
    """
    if current.shape[1] < 2:
        raise InputError(
            f"current features: expected a window of 2 time steps or more, got {current.shape[1]}; "
            f"choose a protocol with more current"
        )
    time = torch.linspace(-1, 1, current.shape[1], device=current.device, dtype=current.dtype)[:, None]
    features = (
        current.mean(1),
        current.std(1, correction=0),
        current.amin(1),
        current.amax(1),
        current[:, -1],
        current.abs().mean(1),
        (current[:, 1:] - current[:, :-1]).abs().mean(1),
        (current * time).sum(1) / time.square().sum(),
    )
    return torch.cat(features, 1)
