"""Fitted doubles as buffers of integers: a conversion of a model to another precision must not round them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["from_bits", "to_bits"]


def to_bits(values: NDArray[Any]) -> Tensor:
    """An int64 tensor of the shape of `values`, the bits of each as a double."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float64).view(np.int64).copy())


def from_bits(bits: Tensor) -> NDArray[np.float64]:
    """The doubles that `to_bits` was given."""
    return bits.cpu().numpy().view(np.float64)
