"""PatchTST: each phase on its own, cut into patches of time, through one encoder.

Nie, Nguyen, Sinthong, Kalagnanam, "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers", ICLR
2023, arXiv 2211.14730; github.com/yuqinie98/PatchTST.

The patches of a phase overlap by half; all phases share embedding, positions and encoder (channel independence), and
meet only in the head.

What differs from the original. Classification, as in thuml/Time-Series-Library: every patch of every phase flattened,
dropout, one linear map. `instance_norm` takes mean and deviation of a window away from each phase, as the paper does
for forecasting; it is off, because level and spread of the current tell of the melt. Blocks are this family's
(LayerNorm after each part) where the paper has batch norm. Sizes: the paper's patches, FmFormer's width. Training: the
shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import PostNormBlock, learned, needed
from fmfbench_models.recipe import TIME_SERIES_RECIPE, TIME_SERIES_RECIPE_WITHOUT
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "PatchTst", "PatchTstConfig"]

PHASES = 3


@dataclass(frozen=True, kw_only=True)
class PatchTstConfig:
    """Settings of PatchTst.

    current_length Tc: time steps at 2 Hz. patch, stride: of the patches, in time steps, a patch at most the whole
    window; the last value is repeated for one patch more. instance_norm: each phase of a window to mean 0 and deviation
    1.
    """

    current_length: int = 440
    patch: int = 16
    stride: int = 8
    dim: int = 96
    depth: int = 3
    heads: int = 3
    mlp_dim: int = 192
    dropout: float = 0.1
    instance_norm: bool = False
    init_std: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.patch:
            raise InputError(
                f"patchtst: expected 1 <= stride <= patch, got stride {self.stride} and patch {self.patch}"
            )

    @property
    def steps(self) -> int:
        """Time steps of a patch."""
        return min(self.patch, self.current_length)

    @property
    def patches(self) -> int:
        """Patches of a phase, the padded one with them."""
        return (self.current_length - self.steps) // self.stride + 2


class PatchTst(Model):
    """Patches, one encoder for every phase, head over all."""

    def __init__(self, config: PatchTstConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        self.embed = nn.Linear(config.steps, config.dim)
        self.position = learned(1, config.patches, config.dim, std=config.init_std)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(
            *(
                PostNormBlock(config.dim, config.heads, config.mlp_dim, config.dropout)
                for _ in range(config.depth)
            )
        )
        self.head = nn.Linear(PHASES * config.patches * config.dim, 2)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (self.config.current_length, PHASES), what="patchtst: current")
        return Output(self.head(self.dropout(self.encode(current).flatten(1))))

    def encode(self, current: Tensor) -> Tensor:
        """(b, Tc, 3) in A -> tokens of each phase's patches, oldest first, (b, 3, patches, dim)."""
        series = self.input_norm.current(current).transpose(1, 2)
        if self.config.instance_norm:
            series = series - series.mean(2, keepdim=True)
            series = series / (series.square().mean(2, keepdim=True) + 1e-5).sqrt()
        series = torch.cat([series, series[:, :, -1:].expand(-1, -1, self.config.stride)], 2)
        patches = series.unfold(2, self.config.steps, self.config.stride)
        tokens = self.dropout(self.embed(patches) + self.position[:, None])
        return self.blocks(tokens.flatten(0, 1)).reshape(-1, PHASES, self.config.patches, self.config.dim)


REGISTRATION = Registration(
    name="patchtst",
    title="PatchTST",
    modality="current",
    dense=False,
    config=PatchTstConfig,
    build=PatchTst,
    tiny={"current_length": 32, "patch": 8, "stride": 4, "dim": 24, "depth": 1, "mlp_dim": 48},
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    original_recipe=TIME_SERIES_RECIPE,
    original_recipe_without=TIME_SERIES_RECIPE_WITHOUT,
    source="Nie et al., ICLR 2023, arXiv 2211.14730; thuml/Time-Series-Library",
    provenance={
        "patches of 16 at stride 8, last value repeated; shared by all phases; learned positions; depth 3": "paper",
        "class head over all patches": "thuml/Time-Series-Library",
        "LayerNorm after each part (the paper: batch norm)": "thuml/Time-Series-Library",
        "no normalisation of each window": "choice",
        "width 96, 3 heads, MLP 192": "choice (FmFormer's width)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
