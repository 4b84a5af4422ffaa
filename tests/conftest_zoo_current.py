"""What the tests of current-only models share."""

from __future__ import annotations

import math

import torch

TRANSFORMERS = ["flashformer", "flowformer", "informer", "itransformer"]
PHASE_ORDER = [2, 0, 1]
NANO = {"current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def amperes(size, length, seed=0):
    return 8000 + 2000 * random(size, length, 3, seed=seed, dtype=torch.float32)


def attention(q, k, v):
    """Softmax attention, written out."""
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
