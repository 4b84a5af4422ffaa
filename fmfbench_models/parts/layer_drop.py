"""Layer drop, also called stochastic depth: in training a residual branch is left out now and then.

Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, with its linear rule: of L blocks, block l loses a
branch with probability rate * l / L. Here, as in the vision transformers that use it, each sample and each branch is
drawn on its own, and what is kept is divided by the share that is kept, so that nothing changes in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["Residual", "apply_layer_drop", "trunks"]


@runtime_checkable
class Residual(Protocol):
    """A block that adds to its input what its branches give."""

    def branches(self) -> Iterable[nn.Module]:
        """The modules whose outputs, rows along the first axis, are added."""
        ...


def trunks(model: nn.Module) -> list[list[Residual]]:
    """The residual blocks of a model, sequence by sequence, in order; none in a model without."""
    found: list[list[Residual]] = []
    for module in model.modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            blocks: list[Residual] = [block for block in module if isinstance(block, Residual)]
            if blocks:
                found.append(blocks)
    return found


def apply_layer_drop(model: nn.Module, rate: float) -> None:
    """From now on, in training, each branch of the last block of a trunk is left out with probability `rate`.

    Once for a model; its parameters and their names stay as they are.
    """
    for blocks in trunks(model):
        for number, block in enumerate(blocks, start=1):
            for branch in block.branches():
                branch.register_forward_hook(_Drop(rate * number / len(blocks)))


class _Drop:
    """A forward hook. Both updates of a branch that gives two, as cross-attention does, go together."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(
        self, module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...]:
        if not module.training:
            return output
        first = output[0] if isinstance(output, tuple) else output
        kept = torch.rand(first.shape[0], device=first.device) >= self.rate
        scale = kept.to(first.dtype) / (1 - self.rate)
        if isinstance(output, tuple):
            return tuple(_rows_times(part, scale) for part in output)
        return _rows_times(output, scale)


def _rows_times(update: Tensor, scale: Tensor) -> Tensor:
    return update * scale.reshape(-1, *[1] * (update.dim() - 1))
