"""Batch norm over the batches of all processes, on any device: torch's own `SyncBatchNorm` needs GPUs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["GatheredBatchNorm", "gather_batch_norm"]


class GatheredBatchNorm(_BatchNorm):
    """Normalises by mean and variance over all processes' batches (N,C,...), and lets gradients flow back to all.

    Two sums over the processes a call, of C + 1 and C numbers: the mean first, then the squares about it, which loses
    no digits where the mean is large. Weights, buffers and their names are those of the layer that it stands in for.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected a batch (N,C,...), got shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """(N,C,...) -> (N,C,...)"""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        self._check_input_dim(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        values = input.float()
        count = values.new_full((1,), input.numel() / input.shape[1])
        summed = all_reduce(torch.cat([values.sum(axes), count]))
        total = summed[-1].detach()
        mean = summed[:-1] / total
        centred = values - mean.view(shape)
        variance = all_reduce((centred**2).sum(axes)) / total
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._remember(mean.detach(), variance.detach() * (total / (total - 1).clamp(min=1)))
        out = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for kept, new in ((self.running_mean, mean), (self.running_var, variance)):
            assert kept is not None
            kept.lerp_(new.to(kept.dtype), share)


def gather_batch_norm(module: nn.Module) -> nn.Module:
    """The module with every batch norm in it over all processes; parameters and buffers are the same tensors."""
    if isinstance(module, _BatchNorm):
        made = GatheredBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        made.weight, made.bias = module.weight, module.bias
        made.running_mean, made.running_var = module.running_mean, module.running_var
        made.num_batches_tracked = module.num_batches_tracked
        made.train(module.training)
        return made
    for name, child in module.named_children():
        setattr(module, name, gather_batch_norm(child))
    return module
