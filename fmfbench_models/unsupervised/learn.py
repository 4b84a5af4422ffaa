"""ST-MAE on images at hand: learned from normal ones, then scores and maps of others.

The trunk is frozen and the paper augments nothing, so what the trunk gives is computed once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fmfbench.errors import TrainingError
from fmfbench_models.interface import Output
from fmfbench_models.parts.anomaly_map import spread
from fmfbench_models.parts.backbones import check_backbone_weights, load_backbone_weights, random_backbone
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import create_model
from fmfbench_models.training.step import make_optimiser
from fmfbench_models.zoo.st_mae import StMae, warn_if_constant

__all__ = [
    "describe_trunk",
    "judge_images",
    "learn",
    "make_st_mae",
    "trunk_patches",
]

TOGETHER = 16  # images in one pass


def make_st_mae(
    seed: int, *, trunk_seed: int = 0, weights: Path | None = None, preset: str | None = None, **config: Any
) -> StMae:
    """A fresh model. The trunk depends on trunk_seed alone, or is read from `weights`; the rest on `seed`."""
    torch.manual_seed(trunk_seed)
    trunk = create_model("st_mae", preset=preset, **config)
    torch.manual_seed(seed)
    model = create_model("st_mae", preset=preset, **config)
    assert isinstance(trunk, StMae)
    assert isinstance(model, StMae)
    model.backbone.load_state_dict(trunk.backbone.state_dict())
    if weights is not None:
        load_backbone_weights(model.backbone, weights)
    return model


def describe_trunk(
    trunk_seed: int, weights: Path | None, *, preset: str | None = None, **config: Any
) -> dict[str, Any]:
    """What a table says of the trunk that `make_st_mae` would make. InputError: weights that do not fit."""
    with torch.device("meta"):
        model = create_model("st_mae", preset=preset, **config)
    assert isinstance(model, StMae)
    if weights is None:
        return {**random_backbone(model.backbone), "seed": trunk_seed}
    return check_backbone_weights(model.backbone, weights)


@torch.no_grad()
def trunk_patches(model: StMae, images: NDArray[np.uint8]) -> Tensor:
    """What the frozen trunk makes of images (n, 3, H, W), patches (n, places, values)."""
    model.eval()
    parts = [model.patches(torch.from_numpy(part).to(model.device)) for part in chunks(images)]
    return torch.cat(parts)


def chunks(rows: Any) -> list[Any]:
    return [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]


def learn(model: StMae, patches: Tensor, recipe: Recipe, seed: int, *, what: str = "st_mae") -> float:
    """Train on patches (n, places, values) of normal images; the loss of the last epoch, a mean over its batches.

    Says so on stderr if it ends no better than the mean image.

    Order of samples and splits follow from `seed`. TrainingError: a loss that is not finite.
    """
    model.prepare_from(patches)
    model.train()
    torch.manual_seed(seed)
    optimiser = make_optimiser(model, recipe)
    size = min(recipe.batch_size, len(patches))
    steps = len(patches) // size
    mean = float("nan")
    with tqdm(total=recipe.epochs * steps, desc=what, unit="step", disable=None) as bar:
        for epoch in range(recipe.epochs):
            losses = []
            for number, rows in enumerate(torch.randperm(len(patches))[: steps * size].split(size)):
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate(epoch * steps + number, steps)
                output = Output(aux=model.compare_to_learn(patches[rows]))
                loss = model.objective(output, {}, recipe.alpha)["loss"]
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
                bar.update()
            mean = float(np.mean(losses))
            if not np.isfinite(mean):
                raise TrainingError(f"{what}: the loss is not finite in epoch {epoch + 1}; try a lower lr")
            bar.set_postfix(loss=f"{mean:.1f}", refresh=False)
    warn_if_constant(*model.constant_loss(patches), what)
    return mean


@torch.no_grad()
def judge_images(model: StMae, patches: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Image scores (n,), the standard deviation of each map, and the maps (n, H, W), of patches as above."""
    model.eval()
    maps = torch.cat([model.compare(part)["map"] for part in chunks(patches)])
    return spread(maps).double().cpu().numpy(), maps.float().cpu().numpy()
