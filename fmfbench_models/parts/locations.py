"""Where the patches of a clip lie, as numbers: the box vectors that region models give beside each region."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LOCATION_VALUES", "patch_locations"]

LOCATION_VALUES = 6


def patch_locations(grid: tuple[int, int, int]) -> Tensor:
    """(t*h*w, 6) in [0, 1], tokens ordered (t, h, w): where each patch is.

    Left, top, right, bottom and area as shares of the frame, and the place in time from first (0) to last (1).
    """
    t, h, w = grid
    axes = (torch.arange(side, dtype=torch.get_default_dtype()) for side in grid)
    time, row, column = torch.meshgrid(*axes, indexing="ij")
    area = torch.full_like(row, 1 / (h * w))
    values = (column / w, row / h, (column + 1) / w, (row + 1) / h, area, time / max(t - 1, 1))
    return torch.stack([value.flatten() for value in values], 1)
