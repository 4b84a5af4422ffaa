"""A moving average of the weights, which often is a better model than the last weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """After each update, average += (1 - d) (weight - average) for every trainable weight.

    d is `decay`, but (1 + t) / (10 + t) after t updates where that is less, so that the start is soon forgotten
    (Tarvainen and Valpola 2017; TensorFlow's ExponentialMovingAverage). Buffers are the model's own.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._own = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.tensors = {name: value.detach().clone() for name, value in self._own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update number `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self._own.items():
            self.tensors[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages while this lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """The model has the averages from now on."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._own.items():
            weight = value.detach().clone()
            value.copy_(self.tensors[name])
            self.tensors[name].copy_(weight)
