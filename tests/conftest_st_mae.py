"""What the tests of ST-MAE share."""

from __future__ import annotations

import torch

from fmfbench_models import create_model
from fmfbench_models.registry import registration

TRUNK = 10_585_152
HEIGHT, WIDTH = 16, 24


def small(**config):
    """The tiny model with a patch for each of 24 places: H != W, and enough places to tell halves apart."""
    torch.manual_seed(0)
    return create_model("st_mae", **{**registration("st_mae").tiny, "patch": 1, "dim": 24, **config})


def images(count=3, seed=0, size=(HEIGHT, WIDTH)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


def batch(count=4, seed=0, labels=None, frames=2):
    video = torch.stack([images(count, seed + k) for k in range(frames)], 2)
    labels = torch.zeros(count) if labels is None else torch.tensor(labels)
    return {"video": video, "class_label": labels.to(torch.uint8)}
