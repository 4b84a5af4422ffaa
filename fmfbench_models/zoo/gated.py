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
from fmfbench_models.interface import Batch, Model, Output
from fmfbench_models.parts.blocks import INIT_STD
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.registry import Registration
from fmfbench_models.zoo.late_fusion import branch, branch_losses, present, share_norm

__all__ = ["REGISTRATION", "Gated", "GatedConfig"]


@dataclass(frozen=True, kw_only=True)
class GatedConfig:
    """num_frames T, size (H, W), current_length Tc: of the input. gate_dim: inside the gate. branch_weight: of the
    branches' own losses beside that of the fused logits.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    gate_dim: int = 32
    branch_weight: float = 0.5
    init_std: float = INIT_STD
    use_validity: bool = True

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


class Gated(Model):
    """Two branches, the gate, the weighted sum of logits."""

    validity = ("video_valid", "current_valid")

    def __init__(self, config: GatedConfig) -> None:
        super().__init__(modality="both", dense=config.dense_task)
        self.config = config
        self.use_validity = config.use_validity
        self.video = branch(config, "visual", config.dense_task)
        self.current = branch(config, "current", False)
        for part in (self.video, self.current):
            share_norm(part, self.input_norm)
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
        seen, video_feature = self.video.judge(video=video, video_valid=video_valid)
        heard, current_feature = self.current.judge(current=current, current_valid=current_valid)
        assert seen.logits is not None
        assert heard.logits is not None
        there = torch.cat([present(seen.logits, video_valid), present(heard.logits, current_valid)], 1)
        trust = self.gate(video_feature, current_feature, there)
        logits = 2 * (trust[:, :1] * seen.logits + trust[:, 1:] * heard.logits)
        aux = {
            "video_logits": seen.logits,
            "current_logits": heard.logits,
            "video_present": there[:, :1],
            "current_present": there[:, 1:],
            "trust": trust,
        }
        return Output(logits, seen.pixel_logits, aux)

    smooths_labels = True

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
    tiny={
        "num_frames": 4,
        "size": [16, 24],
        "current_length": 32,
        "dim": 24,
        "depth": 1,
        "mlp_dim": 48,
        "gate_dim": 8,
        "decoder_channels": [24, 16, 8],
    },
    presets={
        "nano": {"dim": 48, "depth": 2, "mlp_dim": 96, "gate_dim": 16, "decoder_channels": [48, 32, 16]}
    },
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
