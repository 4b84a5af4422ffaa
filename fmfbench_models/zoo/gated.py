"""Gated fusion: two networks and a gate that says, window by window, how far to trust each modality.

The question is that of asymmetry-aware routing (arXiv 2512.24755, of which only the title and abstract's idea were at
hand: modalities are of unequal worth, so a router should weigh them per sample); the form is ours.

    g = softmax(gate(h_video, h_current) + log presence)        two weights that sum to 1
    logits = 2 (g_video l_video + g_current l_current)

h are the branches' class tokens. A modality of which a window holds nothing has presence 0, so its weight is 0 and the
other's is 1. Each branch also learns from its own loss, weighed by `branch_weight`, so that it stands alone when the
other is lost; with the recipe's `modality_dropout` the gate sees such windows in training too. At the start the gate is
nearly even, and the model late fusion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, Output
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.registry import Registration
from fmfbench_models.zoo.late_fusion import (
    NANO_BRANCHES,
    TINY_BRANCHES,
    BranchesConfig,
    TwoBranches,
    branch_losses,
)

__all__ = ["REGISTRATION", "Gated", "GatedConfig"]


@dataclass(frozen=True, kw_only=True)
class GatedConfig(BranchesConfig):
    """Settings of Gated.

    gate_dim: inside the gate. branch_weight: of the branches' own losses beside that of the fused logits. All else is
    of the branches.
    """

    gate_dim: int = 32
    branch_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.branch_weight < 0 or self.gate_dim < 1:
            raise InputError(
                f"gated: expected branch_weight of at least 0 and gate_dim of at least 1, got {self.branch_weight} and "
                f"{self.gate_dim}"
            )


class Gate(nn.Module):
    """Class tokens (b, dim) of both branches and their presence (b, 1) -> weights (b, 2) of video and current."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * dim)
        self.up = nn.Linear(2 * dim, hidden)
        self.down = nn.Linear(hidden, 2)
        nn.init.normal_(self.down.weight, std=0.01)
        nn.init.zeros_(self.down.bias)

    def forward(self, video: Tensor, current: Tensor, there: Tensor) -> Tensor:
        features = torch.cat([video * there[:, :1], current * there[:, 1:]], 1)
        scores = self.down(torch.nn.functional.gelu(self.up(self.norm(features))))
        weights = scores.softmax(1) * there
        return weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


class Gated(TwoBranches):
    """Two branches, the gate, the weighted sum of logits."""

    def __init__(self, config: GatedConfig) -> None:
        super().__init__(config)
        self.config = config
        self.gate = Gate(config.dim, config.gate_dim)

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> Output:
        """The judgement of a batch.

        aux: the branches' own logits (B, 2), whether their modality is there (B, 1), and `trust` (B, 2): the weights
        of video and current, which sum to 1, or are 0 where both are lost.
        """
        heard = self.hear(video, current, video_valid, current_valid)
        seen_logits, heard_logits = heard.logits
        trust = self.gate(*heard.features, torch.cat(heard.there, 1))
        logits = 2 * (trust[:, :1] * seen_logits + trust[:, 1:] * heard_logits)
        return Output(logits, heard.pixel_logits, {**heard.aux(), "trust": trust})

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        terms = supervised_loss(output.logits, output.pixel_logits, batch, alpha, self.smoothing)
        own = branch_losses(output.aux, batch, self.smoothing)
        weight = self.config.branch_weight * (alpha if "pixel_loss" in terms else 1.0)
        return {**terms, **own, "loss": terms["loss"] + weight * (own["video_loss"] + own["current_loss"])}


REGISTRATION = Registration(
    name="gated",
    title="Gated fusion",
    modality="both",
    dense=True,
    config=GatedConfig,
    build=Gated,
    tiny={**TINY_BRANCHES, "gate_dim": 8},
    presets={"nano": {**NANO_BRANCHES, "gate_dim": 16}},
    recipe={"modality_dropout": 0.3},
    source="after the idea of asymmetry-aware routing, arXiv 2512.24755 (its text could not be had)",
    provenance={
        "a weight for each modality, sample by sample": "the idea of arXiv 2512.24755, not verified",
        "form of the gate, presence, factor 2": "choice",
        "branches' own losses, weight 0.5": "choice",
        "modality dropout 0.3": "choice",
        "FmFormer's streams as branches, without dilated tokens": "choice",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
