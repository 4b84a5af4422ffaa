"""Late fusion: one network for video, one for current, their logits added. The plain answer to "do both help?".

Nothing is taken from one publication. FmFormer's Table IV adds the logits of two networks that were trained apart and
calls that linear fusion; trained jointly is Table V's row 1. The branches are FmFormer's two streams without its
cross-attention, each with a class head of its own; the dense head is that of the video branch.

    logits = l_video + l_current

A modality of which a window holds nothing says nothing: its logits are left out. What is partly there is masked in the
branch's attention.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from fmfbench_models.interface import Batch, Model, Output
from fmfbench_models.parts.blocks import INIT_STD, InputNorm
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.registry import TINY_CLIP, TINY_CURRENT, TINY_DECODER, TINY_ENCODER, Registration
from fmfbench_models.zoo.fmformer import FmFormer, FmFormerConfig

__all__ = [
    "NANO_BRANCHES",
    "REGISTRATION",
    "TINY_BRANCHES",
    "BranchesConfig",
    "LateFusion",
    "LateFusionConfig",
    "TwoBranches",
    "branch_losses",
]


@dataclass(frozen=True, kw_only=True)
class BranchesConfig:
    """num_frames T, size (H, W), current_length Tc: of the input. The rest are sizes of both branches.

    init_std, use_validity: as of FmFormer; use_validity is on, as a lost modality is what such a model is there for.
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
    init_std: float = INIT_STD
    use_validity: bool = True


TINY_BRANCHES = TINY_CLIP | TINY_CURRENT | TINY_ENCODER | TINY_DECODER
NANO_BRANCHES: dict[str, Any] = {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]}
NOT_OF_A_BRANCH = ("dense_task", "use_validity")


@dataclass(frozen=True, kw_only=True)
class LateFusionConfig(BranchesConfig):
    """Settings of LateFusion.

    trained: jointly, by the loss of the summed logits; or apart, by the sum of each branch's own loss, which is two
    networks trained side by side. All else is of the branches.
    """

    trained: Literal["jointly", "apart"] = "jointly"


def branch(config: BranchesConfig, modality: Literal["visual", "current"], dense: bool) -> FmFormer:
    """FmFormer of one modality, in the sizes of `config`, without dilated tokens."""
    names = (own.name for own in fields(BranchesConfig) if own.name not in NOT_OF_A_BRANCH)
    sizes = {name: getattr(config, name) for name in names}
    return FmFormer(FmFormerConfig(modality=modality, dilated=False, dense_task=dense, **sizes))


def share_norm(part: FmFormer, norm: InputNorm) -> None:
    """Let a branch use the whole model's normalisation, which learns the training split's statistics.

    It is no part of the branch, so that a checkpoint holds it once.
    """
    del part._modules["input_norm"]
    part.__dict__["input_norm"] = norm


def present(like: Tensor, valid: Tensor | None) -> Tensor:
    """(b, 1): 1 where a window holds anything of a modality, 0 where it is lost; valid (b, n) bool, None for all."""
    if valid is None:
        return torch.ones_like(like[:, :1])
    return valid.any(1, keepdim=True).to(like.dtype)


def branch_losses(aux: dict[str, Tensor], batch: Batch, smoothing: float = 0.0) -> dict[str, Tensor]:
    """Each branch's own cross-entropy, over the samples whose modality is there."""
    losses = {}
    for name in ("video", "current"):
        labels = batch["class_label"].long()
        labels = labels.masked_fill(aux[f"{name}_present"][:, 0] == 0, 255)  # 255: counts as unlabelled
        if bool((labels != 255).any()):
            term = supervised_loss(aux[f"{name}_logits"], None, {"class_label": labels}, smoothing=smoothing)[
                "loss"
            ]
        else:
            term = 0.0 * aux[f"{name}_logits"].sum()
        losses[f"{name}_loss"] = term
    return losses


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What both branches say of a batch.

    logits, features (the class tokens) and there (whether the modality is there, (B, 1)) are of video and of current.
    """

    logits: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]
    there: tuple[Tensor, Tensor]
    pixel_logits: Tensor | None

    def aux(self) -> dict[str, Tensor]:
        """The branches' own logits (B, 2) each, and whether their modality is there (B, 1)."""
        return {
            "video_logits": self.logits[0],
            "current_logits": self.logits[1],
            "video_present": self.there[0],
            "current_present": self.there[1],
        }


class TwoBranches(Model):
    """A model with a branch for each modality; what becomes of their logits is its own."""

    validity = ("video_valid", "current_valid")
    smooths_labels = True

    def __init__(self, config: BranchesConfig) -> None:
        super().__init__(modality="both", dense=config.dense_task)
        self.use_validity = config.use_validity
        self.video = branch(config, "visual", config.dense_task)
        self.current = branch(config, "current", False)
        for part in (self.video, self.current):
            share_norm(part, self.input_norm)

    def hear(
        self,
        video: Tensor | None,
        current: Tensor | None,
        video_valid: Tensor | None,
        current_valid: Tensor | None,
    ) -> Heard:
        seen, video_feature = self.video.judge(video=video, video_valid=video_valid)
        heard, current_feature = self.current.judge(current=current, current_valid=current_valid)
        assert seen.logits is not None
        assert heard.logits is not None
        return Heard(
            logits=(seen.logits, heard.logits),
            features=(video_feature, current_feature),
            there=(present(seen.logits, video_valid), present(heard.logits, current_valid)),
            pixel_logits=seen.pixel_logits,
        )


class LateFusion(TwoBranches):
    """Two branches, and the sum of their logits."""

    def __init__(self, config: LateFusionConfig) -> None:
        super().__init__(config)
        self.config = config

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> Output:
        """The judgement of a batch, with the `aux` of `Heard`."""
        heard = self.hear(video, current, video_valid, current_valid)
        (seen_logits, heard_logits), there = heard.logits, heard.there
        logits = there[0] * seen_logits + there[1] * heard_logits
        return Output(logits, heard.pixel_logits, heard.aux())

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        terms = supervised_loss(output.logits, output.pixel_logits, batch, alpha, self.smoothing)
        if self.config.trained == "jointly":
            return terms
        own = branch_losses(output.aux, batch, self.smoothing)
        loss = terms["loss"] - (alpha if "pixel_loss" in terms else 1.0) * terms["class_loss"]
        weight = alpha if "pixel_loss" in terms else 1.0
        return {**terms, **own, "loss": loss + weight * sum(own.values(), torch.zeros_like(loss))}


REGISTRATION = Registration(
    name="late_fusion",
    title="Late fusion",
    modality="both",
    dense=True,
    config=LateFusionConfig,
    build=LateFusion,
    tiny=TINY_BRANCHES,
    presets={
        "nano": NANO_BRANCHES,
        "apart": {"trained": "apart"},
    },
    source="linear fusion of Wu et al., IEEE TCSVT 35(3), 2025 (Tables IV and V)",
    provenance={
        "logits of two networks added": "paper (FmFormer's Table IV)",
        "trained jointly, or apart (option)": "choice",
        "FmFormer's streams as branches, without dilated tokens": "choice",
        "a lost modality's logits left out, masks in attention": "choice",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
