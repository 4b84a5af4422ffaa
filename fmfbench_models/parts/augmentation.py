"""What training changes in its windows: mirrored, moved, in another light; other levels and phases of the current.

Each change depends on (seed, epoch, sample id) alone: not on order, batch, workers or device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmfbench_models.recipe import Recipe

__all__ = [
    "augment",
    "flip_windows",
    "jitter_current",
    "jitter_windows",
    "lose_modality",
    "shift_windows",
    "shuffle_phases",
    "uniform",
]

LEVEL = 1500.0  # A by which a strength of 1 moves the current


def augment(
    batch: dict[str, Tensor], recipe: Recipe, seed: int, epoch: int, *, transposed: bool
) -> dict[str, Tensor]:
    """All changes that the recipe asks for; a batch is a mapping of tensors as the loader gives it."""
    batch = flip_windows(batch, recipe.flip, seed, epoch, transposed=transposed)
    batch = shift_windows(batch, recipe.shift, seed, epoch)
    batch = jitter_windows(batch, recipe.jitter, seed, epoch)
    batch = jitter_current(batch, recipe.current_jitter, seed, epoch)
    batch = shuffle_phases(batch, seed, epoch) if recipe.shuffle_phases else batch
    return lose_modality(batch, recipe.modality_dropout, seed, epoch)


def lose_modality(batch: dict[str, Tensor], probability: float, seed: int, epoch: int) -> dict[str, Tensor]:
    """Take one modality, video or current alike, from a share of a batch: zeros, of which nothing is valid.

    What a window without frames shows has no mask: mask_valid is False there.
    """
    if probability == 0:
        return batch
    drawn = uniform(batch["sample_id"].cpu().numpy(), seed, epoch, 13)
    batch = dict(batch)
    for name, lost in (("video", drawn < probability / 2), ("current", drawn >= 1 - probability / 2)):
        gone = torch.from_numpy(lost).to(batch[name].device)
        for key in (name, f"{name}_valid", *(["mask_valid"] if name == "video" else [])):
            if key in batch:
                value = batch[key]
                batch[key] = value.masked_fill(gone.reshape(-1, *[1] * (value.dim() - 1)), 0)
    return batch


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
            # transposed windows hold a frame's columns in their second last axis
            horizontal = -2 if transposed else -1
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


def jitter_current(batch: dict[str, Tensor], strength: float, seed: int, epoch: int) -> dict[str, Tensor]:
    """Another furnace's level and restlessness for each sample: x -> m + gain (x - m) + offset, m a phase's mean.

    gain in 1 +- strength, one for the window; offset in +- 1500 A strength for all phases, and as much again for
    each its own. What a window tells by change alone is left as it is.
    """
    if strength == 0 or "current" not in batch:
        return batch
    ids, current = batch["sample_id"].cpu().numpy(), batch["current"]
    draws = (
        np.stack([2 * uniform(ids, seed, epoch, stream) - 1 for stream in range(5, 10)], axis=1) * strength
    )
    gain, together, own = (torch.from_numpy(part).to(current) for part in np.split(draws, (1, 2), axis=1))
    mean = current.mean(dim=1, keepdim=True)
    changed = mean + (1 + gain[:, None]) * (current - mean) + LEVEL * (together + own)[:, None]
    return batch | {"current": changed}


def shuffle_phases(batch: dict[str, Tensor], seed: int, epoch: int) -> dict[str, Tensor]:
    """The three phases of each sample in an order of its own: a furnace does not care which is called A."""
    if "current" not in batch:
        return batch
    ids, current = batch["sample_id"].cpu().numpy(), batch["current"]
    order = np.argsort([uniform(ids, seed, epoch, stream) for stream in range(10, 13)], axis=0).T
    index = torch.from_numpy(order).to(current.device)[:, None].expand_as(current)
    return batch | {"current": current.gather(2, index)}


def uniform(ids: NDArray[np.int64], seed: int, epoch: int, stream: int = 0) -> NDArray[np.float64]:
    """A number in [0, 1) for each id: splitmix64 of (seed, epoch, stream, id)."""
    key = np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        z = key + (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53
