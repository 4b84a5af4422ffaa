"""What training changes in its windows: mirrored, moved, in another light.

Each change depends on (seed, epoch, sample id) alone: not on order, batch, workers or device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmfbench_models.recipe import Recipe

__all__ = ["augment", "flip_windows", "jitter_windows", "shift_windows", "uniform"]


def augment(
    batch: dict[str, Tensor], recipe: Recipe, seed: int, epoch: int, *, transposed: bool
) -> dict[str, Tensor]:
    """All changes that the recipe asks for; a batch is a mapping of tensors as the loader gives it."""
    batch = flip_windows(batch, recipe.flip, seed, epoch, transposed=transposed)
    batch = shift_windows(batch, recipe.shift, seed, epoch)
    return jitter_windows(batch, recipe.jitter, seed, epoch)


def flip_windows(
    batch: dict[str, Tensor], probability: float, seed: int, epoch: int, *, transposed: bool
) -> dict[str, Tensor]:
    """Mirror left and right, in frames and mask together, a share of a batch.

    Changes the tensors of the batch.
    """
    if probability == 0:
        return batch
    drawn = uniform(batch["sample_id"].cpu().numpy(), seed, epoch)
    which = torch.from_numpy(np.flatnonzero(drawn < probability)).to(batch["video"].device)
    for name in ("video", "mask"):
        if name in batch and len(which):
            horizontal = (
                -2 if transposed else -1
            )  # transposed windows hold a frame's columns in their second last axis
            batch[name][which] = batch[name][which].flip(horizontal)
    return batch


def shift_windows(batch: dict[str, Tensor], pixels: int, seed: int, epoch: int) -> dict[str, Tensor]:
    """Another place for each sample: frames and mask moved together by up to `pixels` along each side.

    What leaves is lost, and the rows and columns at the border are repeated where something came in.
    """
    if pixels == 0:
        return batch
    ids, video = batch["sample_id"].cpu().numpy(), batch["video"]
    moves = [np.floor(uniform(ids, seed, epoch, stream) * (2 * pixels + 1)) - pixels for stream in (3, 4)]
    rows, columns = (
        (torch.arange(side)[None] - torch.from_numpy(move).long()[:, None])
        .clamp_(0, side - 1)
        .to(video.device)
        for side, move in zip(video.shape[-2:], moves, strict=True)
    )
    moved = {name: batch[name].clone() for name in ("video", "mask") if name in batch}
    for value in moved.values():
        for sample, own_rows, own_columns in zip(value, rows, columns, strict=True):
            sample.copy_(sample.index_select(-2, own_rows).index_select(-1, own_columns))
    return batch | moved


def jitter_windows(batch: dict[str, Tensor], strength: float, seed: int, epoch: int) -> dict[str, Tensor]:
    """Another light for each sample: x -> gain x + offset, clipped to 0..255, the same for all its frames.

    gain in 1 +- strength and offset in +- 64 strength.
    """
    if strength == 0:
        return batch
    ids, video = batch["sample_id"].cpu().numpy(), batch["video"]
    draws = (2 * uniform(ids, seed, epoch, stream) - 1 for stream in (1, 2))
    gain, offset = (
        torch.from_numpy(strength * draw).float().to(video.device)[:, None, None, None, None]
        for draw in draws
    )
    changed = video.float().mul_(1 + gain).add_(64 * offset).clamp_(0, 255)
    return batch | {"video": changed.round_().to(video.dtype)}


def uniform(ids: NDArray[np.int64], seed: int, epoch: int, stream: int = 0) -> NDArray[np.float64]:
    """A number in [0, 1) for each id: splitmix64 of (seed, epoch, stream, id)."""
    key = np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        z = key + (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53
