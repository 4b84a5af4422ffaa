"""ViViT: a transformer over 3-D tubelets, in three of its published variants.

Arnab, Dehghani, Heigold, Sun, Lucic, Schmid, "ViViT: A Video Vision Transformer", ICCV 2021, arXiv 2103.15691.

    joint                        model 1: every token attends to every other
    factorised_encoder           model 2: an encoder within each time index, another over their class tokens
    factorised_self_attention    model 3: in each layer first within a time index, then within a place

What differs from the original. FmFormer names tubes and prints a mean IoU, which needs all tokens, but no variant:
joint is the default, and is then the released video-only FmFormer without its dilated tokens. Model 3 has a class
token in each time index (github.com/lucidrains/vit-pytorch; the paper averages all tokens instead), and the class head
reads their mean. With the factorised encoder the dense head reads the spatial stage, since the temporal one keeps no
places. LayerNorms around the tubelet embedding and attention without qkv biases, as the released FmFormer code and
vit-pytorch have. Model 4 (factorised dot product) is left out. Sizes: FmFormer's (tubelets 2x8x8, width 96, 6
layers, 3 heads) instead of 2x16x16, 768, 12 and 12; no pretrained weights. Training: the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import (
    INIT_STD,
    Attention,
    Encoder,
    Grid,
    Mlp,
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

__all__ = ["REGISTRATION", "ViViT", "ViViTConfig"]

TUBELET = (2, 8, 8)
TUBELET_VALUES = 2 * 8 * 8 * 3


@dataclass(frozen=True, kw_only=True)
class ViViTConfig:
    """Settings of ViViT.

    num_frames T, size (H, W): of the clip; each tubelet has a position of its own. depth: layers; of the factorised
    encoder, the last `temporal_depth` of them are temporal. raw_input: frames enter as they are, 0..255; the first
    LayerNorm makes up for it. init_std: deviation of positions, class tokens and the like at the start. use_validity:
    positions of a window that are not valid are masked in training and prediction, not seen as they are filled.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    dim: int = 96
    depth: int = 6
    temporal_depth: int = 2
    heads: int = 3
    mlp_dim: int = 384
    variant: Literal["joint", "factorised_encoder", "factorised_self_attention"] = "joint"
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    raw_input: bool = False
    init_std: float = INIT_STD
    use_validity: bool = False

    def __post_init__(self) -> None:
        if self.variant == "factorised_encoder" and not 1 <= self.temporal_depth < self.depth:
            raise InputError(
                f"vivit: expected temporal_depth from 1 to depth - 1, got {self.temporal_depth} of {self.depth}"
            )


def encoder(config: ViViTConfig, depth: int) -> Encoder:
    return Encoder(*(PreNormBlock(config.dim, config.heads, config.mlp_dim) for _ in range(depth)))


class JointEncoder(nn.Module):
    """Model 1. Tubelets (b, t, n, dim) without positions -> class feature (b, dim), tubelets (b, t * n, dim).

    keep: (b, t * n) bool, the tubelets that may be attended to; the others come out as 0.
    """

    def __init__(self, config: ViViTConfig, grid: Grid) -> None:
        super().__init__()
        self.class_token = learned(1, 1, config.dim, std=config.init_std)
        self.position = learned(1, 1 + grid[0] * grid[1] * grid[2], config.dim, std=config.init_std)
        self.blocks = encoder(config, config.depth)

    def forward(self, tubelets: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        class_token = self.class_token.expand(tubelets.shape[0], -1, -1)
        tokens = torch.cat([class_token, tubelets.flatten(1, 2)], 1) + self.position
        tokens = self.blocks(tokens, key_mask(kept([None, keep], (1, 0), tokens)))
        return tokens[:, 0], tokens[:, 1:] if keep is None else tokens[:, 1:] * keep[..., None]


class FactorisedEncoder(nn.Module):
    """Model 2, arguments as of JointEncoder. The spatial stage ends in a LayerNorm."""

    def __init__(self, config: ViViTConfig, grid: Grid) -> None:
        super().__init__()
        self.spatial_class = learned(1, 1, 1, config.dim, std=config.init_std)
        self.temporal_class = learned(1, 1, config.dim, std=config.init_std)
        self.position = learned(1, grid[0], grid[1] * grid[2], config.dim, std=config.init_std)
        self.spatial = encoder(config, config.depth - config.temporal_depth)
        self.norm = nn.LayerNorm(config.dim)
        self.temporal = encoder(config, config.temporal_depth)

    def forward(self, tubelets: Tensor) -> tuple[Tensor, Tensor]:
        spatial = self.encode_space(tubelets)
        temporal_class = self.temporal_class.expand(tubelets.shape[0], -1, -1)
        temporal = self.temporal(torch.cat([temporal_class, spatial[:, :, 0]], 1))
        return temporal[:, 0], spatial[:, :, 1:].flatten(1, 2)

    def encode_space(self, tubelets: Tensor) -> Tensor:
        """(b, t, n, dim) -> (b, t, 1 + n, dim), the class token of each time index first."""
        b, t = tubelets.shape[:2]
        tokens = torch.cat([self.spatial_class.expand(b, t, -1, -1), tubelets + self.position], 2)
        return self.norm(self.spatial(tokens.flatten(0, 1))).reshape(b, t, *tokens.shape[2:])


class FactorisedBlock(nn.Module):
    """x += space(x) within a time index; x += time(x) within a place; x += MLP(x). Tokens (b, t, n, dim)."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.space, self.time = Attention(dim, heads), Attention(dim, heads)
        self.mlp = Mlp(dim, mlp_dim)

    def branches(self) -> tuple[nn.Module, ...]:
        return self.space, self.time, self.mlp

    def forward(self, tokens: Tensor) -> Tensor:
        b, t, n, _ = tokens.shape
        tokens = tokens + self.space(tokens.flatten(0, 1)).reshape(tokens.shape)
        places = tokens.transpose(1, 2).flatten(0, 1)
        tokens = tokens + self.time(places).reshape(b, n, t, -1).transpose(1, 2)
        return tokens + self.mlp(tokens)


class FactorisedSelfAttention(nn.Module):
    """Model 3, arguments as of JointEncoder."""

    def __init__(self, config: ViViTConfig, grid: Grid) -> None:
        super().__init__()
        self.class_token = learned(1, 1, 1, config.dim, std=config.init_std)
        self.position = learned(1, grid[0], grid[1] * grid[2], config.dim, std=config.init_std)
        self.blocks = nn.Sequential(
            *(FactorisedBlock(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth))
        )

    def forward(self, tubelets: Tensor) -> tuple[Tensor, Tensor]:
        class_tokens = self.class_token.expand(*tubelets.shape[:2], -1, -1)
        tokens = self.blocks(torch.cat([class_tokens, tubelets + self.position], 2))
        return tokens[:, :, 0].mean(1), tokens[:, :, 1:].flatten(1, 2)


VARIANTS = {
    "joint": JointEncoder,
    "factorised_encoder": FactorisedEncoder,
    "factorised_self_attention": FactorisedSelfAttention,
}


class ViViT(Model):
    """Tubelets, one of the encoders, heads."""

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__(modality="visual", dense=config.dense_task, raw_input=config.raw_input)
        self.config = config
        self.use_validity = config.use_validity
        self.grid = patch_grid(config.num_frames, config.size, TUBELET, what="vivit")
        self.embed = PatchEmbedding(TUBELET_VALUES, config.dim, norm=True)
        self.encoder = VARIANTS[config.variant](config, self.grid)
        self.validity = ("video_valid",) if config.variant == "joint" else ()
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
        """video_valid (B, T) bool: tubelets with a frame that is False have no influence; `joint` alone takes it."""
        video = needed(video, (3, self.config.num_frames, *self.config.size), what="vivit: video")
        t, h, w = self.grid
        tubelets = self.embed(self.input_norm.video(patchify(video, TUBELET)))
        tubelets = tubelets.reshape(-1, t, h * w, self.config.dim)
        if self.validity and video_valid is not None:
            feature, tokens = self.encoder(tubelets, frames_kept(video_valid, self.grid))
        else:
            feature, tokens = self.encoder(tubelets)
        return Output(self.head(feature), None if self.decoder is None else self.decoder(tokens))


REGISTRATION = Registration(
    name="vivit",
    title="ViViT",
    modality="visual",
    dense=True,
    config=ViViTConfig,
    build=ViViT,
    tiny=TINY_CLIP | TINY_ENCODER | TINY_DECODER,
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]}},
    source="Arnab et al., ICCV 2021, arXiv 2103.15691; lucidrains/vit-pytorch",
    provenance={
        "tubelets, models 1 to 3": "paper",
        "joint attention as the default": "choice",
        "LayerNorms of the tubelet embedding, no qkv biases": "lucidrains/vit-pytorch, FmFormer's official code",
        "class token of model 3": "lucidrains/vit-pytorch (one in each time index); choice (their mean)",
        "2x8x8 tubelets, width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "dense head": "FmFormer paper (of the spatial stage in model 2: choice)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
