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
from torch import Tensor

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import (
    INIT_STD,
    Encoder,
    PatchEmbedding,
    PreNormBlock,
    TokenDecoder,
    class_head,
    frames_kept,
    kept,
    key_mask,
    learned,
    needed,
    patch_grid,
    patchify,
)
from fmfbench_models.registry import TINY_CLIP, TINY_DECODER, TINY_ENCODER, Registration

__all__ = ["REGISTRATION", "ViT", "ViTConfig"]

PATCH = (1, 8, 8)
PATCH_VALUES = 8 * 8 * 3


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Settings of ViT.

    num_frames T, size (H, W): of the clip; each patch has a position of its own. frames: which are seen. init_std:
    deviation of positions, class tokens and the like at the start. use_validity: positions of a window that are not
    valid are masked in training and prediction, not seen as they are filled.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    frames: Literal["all", "last"] = "all"
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    init_std: float = INIT_STD
    use_validity: bool = False


class ViT(Model):
    """Patches, class token and positions, encoder, heads."""

    validity = ("video_valid",)

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(modality="visual", dense=config.dense_task)
        self.config = config
        self.use_validity = config.use_validity
        frames = config.num_frames if config.frames == "all" else 1
        t, h, w = self.grid = patch_grid(frames, config.size, PATCH, what="vit")
        self.embed = PatchEmbedding(PATCH_VALUES, config.dim, norm=True)
        self.class_token = learned(1, 1, config.dim, std=config.init_std)
        self.position = learned(1, 1 + t * h * w, config.dim, std=config.init_std)
        self.blocks = Encoder(
            *(PreNormBlock(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth))
        )
        self.head = class_head(config.dim)
        self.decoder = (
            TokenDecoder(config.dim, self.grid, channels=config.decoder_channels)
            if config.dense_task
            else None
        )

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
    ) -> Output:
        """video_valid (B, T) bool: patches of frames that are False have no influence."""
        video = needed(video, (3, self.config.num_frames, *self.config.size), what="vit: video")
        if self.config.frames == "last":
            video = video[:, :, -1:]
            video_valid = None if video_valid is None else video_valid[:, -1:]
        keep = kept([None, frames_kept(video_valid, self.grid)], (1, 0), video)
        tokens = self.encode(self.input_norm.video(patchify(video, PATCH)), keep)
        visual = tokens[:, 1:] if keep is None else tokens[:, 1:] * keep[:, 1:, None]
        dense = None if self.decoder is None else self.decoder(visual)
        return Output(self.head(tokens[:, 0]), dense)

    def encode(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        """(b, n, values) -> (b, 1 + n, dim), the class token first. keep: (b, 1 + n) bool, what may be attended to."""
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), self.embed(patches)], 1)
        return self.blocks(tokens + self.position, key_mask(keep))


REGISTRATION = Registration(
    name="vit",
    title="ViT",
    modality="visual",
    dense=True,
    config=ViTConfig,
    build=ViT,
    tiny=TINY_CLIP | TINY_ENCODER | TINY_DECODER,
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
