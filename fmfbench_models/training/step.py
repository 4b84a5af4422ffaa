"""One update of the weights, and the precision it is computed in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fmfbench_models.interface import Batch, Model, Output
from fmfbench_models.recipe import Recipe

__all__ = ["Step", "autocast", "decay_groups", "make_optimiser", "make_step", "to_device", "to_float32"]

Step = Callable[[Batch], dict[str, Tensor]]


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over what is trainable; one fused kernel a step where torch has it."""
    parameters: Any = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not recipe.decay_all:
        parameters = decay_groups(model)
    common: dict[str, Any] = {"lr": recipe.lr, "betas": recipe.betas, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "radam":
        return torch.optim.RAdam(parameters, **common)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, fused=True, **common)


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """What is trainable, in two groups: what decays, and what does not.

    Weights of linear maps and convolutions decay; biases, norms, positions, class and mask tokens do not.
    """
    decaying = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        for parameter in module.parameters(recurse=False)
        if parameter.dim() > 1
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trainable if id(parameter) in decaying]
    others = [parameter for parameter in trainable if id(parameter) not in decaying]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_step(
    model: Model,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    forward: Callable[..., Output] | None = None,
) -> Step:
    """One update: batch -> the objective's terms.

    forward: the model as wrapped or compiled, itself by default.
    """
    forward = forward or model
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def step(batch: Batch) -> dict[str, Tensor]:
        with autocast(model.device):
            output = forward(**model.takes(batch))
        with autocast(model.device, enabled=False):
            terms = model.objective(to_float32(output), batch, recipe.alpha)
        optimiser.zero_grad()
        terms["loss"].backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimiser.step()
        return {name: value.detach() for name, value in terms.items()}

    return step


def autocast(device: torch.device, enabled: bool = True) -> Any:
    """bf16 on a GPU, nothing elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16, enabled=enabled)


def to_float32(output: Output) -> Output:
    """The output in single precision at least: losses are not taken in bf16."""

    def widen(value: Tensor | None) -> Tensor | None:
        return value.float() if value is not None and value.dtype == torch.bfloat16 else value

    aux = {name: widen(value) for name, value in output.aux.items()}
    return Output(widen(output.logits), widen(output.pixel_logits), aux)  # type: ignore[arg-type]


def to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
