"""ViT on video: the patches of all frames in one sequence.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021,
arXiv 2010.11929.

What differs from the original. A clip instead of an image: FmFormer lists ViT as a video method with non-overlapping
2-D patches and does not say how frames enter; here all of their 8x8 patches stand in one sequence, each with a
learnable position (`frames="last"` takes the last frame alone, which the label refers to). LayerNorms around the patch
embedding and attention without qkv biases, as the released FmFormer code and github.com/lucidrains/vit-pytorch have.
Sizes: FmFormer's (width 96, 6 layers, 3 heads) instead of 768, 12 and 12. The dense head is FmFormer's. Training: the
shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import (
    PatchEmbedding,
    PreNormBlock,
    TokenDecoder,
    class_head,
    needed,
    patch_grid,
    patchify,
)
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "ViT", "ViTConfig"]

PATCH = (1, 8, 8)
PATCH_VALUES = 8 * 8 * 3


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """num_frames T, size (H, W): of the clip; each patch has a position of its own. frames: which are seen."""

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    frames: Literal["all", "last"] = "all"
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)


class ViT(Model):
    """Patches, class token and positions, encoder, heads."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(modality="visual", dense=config.dense_task)
        self.config = config
        frames = config.num_frames if config.frames == "all" else 1
        t, h, w = grid = patch_grid(frames, config.size, PATCH, what="vit")
        self.embed = PatchEmbedding(PATCH_VALUES, config.dim, norm=True)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim))
        self.position = nn.Parameter(torch.randn(1, 1 + t * h * w, config.dim))
        self.blocks = nn.Sequential(
            *(PreNormBlock(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth))
        )
        self.head = class_head(config.dim)
        self.decoder = (
            TokenDecoder(config.dim, grid, channels=config.decoder_channels) if config.dense_task else None
        )

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        video = needed(video, (3, self.config.num_frames, *self.config.size), what="vit: video")
        if self.config.frames == "last":
            video = video[:, :, -1:]
        tokens = self.encode(self.input_norm.video(patchify(video, PATCH)))
        dense = None if self.decoder is None else self.decoder(tokens[:, 1:])
        return Output(self.head(tokens[:, 0]), dense)

    def encode(self, patches: Tensor) -> Tensor:
        """(b, n, values) -> (b, 1 + n, dim), the class token first."""
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), self.embed(patches)], 1)
        return self.blocks(tokens + self.position)


REGISTRATION = Registration(
    name="vit",
    title="ViT",
    modality="visual",
    dense=True,
    config=ViTConfig,
    build=ViT,
    tiny={
        "num_frames": 4,
        "size": [16, 24],
        "dim": 24,
        "depth": 1,
        "mlp_dim": 48,
        "decoder_channels": [24, 16, 8],
    },
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]}},
    source="Dosovitskiy et al., ICLR 2021, arXiv 2010.11929",
    provenance={
        "2-D patches, class token, learnable positions, pre-norm encoder": "paper",
        "patches of all frames in one sequence": "choice",
        "LayerNorms of the patch embedding, no qkv biases": "lucidrains/vit-pytorch, FmFormer's official code",
        "8x8 patches, width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "class head": "choice",
        "dense head": "FmFormer paper",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
