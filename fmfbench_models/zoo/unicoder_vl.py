"""Unicoder-VL: one transformer over a sequence of current and frame patches.

Li, Duan, Fang, Jiang, Zhou, "Unicoder-VL: A Universal Encoder for Vision and Language by Cross-Modal Pre-Training",
AAAI 2020, arXiv 1908.06066. Its abstract was read; code was not released.

What differs from the original. Current instead of words, and the 8x8 patches of all frames instead of detected
regions, as FmFormer describes its use; each patch brings its box and its frame as a region brings its box. There is
neither vocabulary nor detector, so the three pre-training tasks are left out. Pre-norm blocks of FmFormer's sizes
(width 96, 6 layers, 3 heads) instead of BERT's (768, 12, 12). The dense head is FmFormer's, on the visual tokens.
Every token attends to every other: 1,081 x 1,081 products a head and layer at the default sizes, the dearest attention
among the baselines besides BiLM's. Training: the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import (
    INIT_STD,
    CurrentSequence,
    Encoder,
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
from fmfbench_models.parts.locations import LOCATION_VALUES, patch_locations
from fmfbench_models.registry import TINY_CLIP, TINY_CURRENT, TINY_DECODER, TINY_ENCODER, Registration

__all__ = ["REGISTRATION", "UnicoderVL", "UnicoderVLConfig"]

PATCH = (1, 8, 8)
PATCH_VALUES = 8 * 8 * 3


@dataclass(frozen=True, kw_only=True)
class UnicoderVLConfig:
    """Settings of UnicoderVL.

    num_frames T, size (H, W), current_length Tc: of the input; each time step has a position of its own. init_std:
    deviation of positions, class tokens and the like at the start. use_validity: positions of a window that are not
    valid are masked in training and prediction, not seen as they are filled.
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


class PatchTokens(nn.Module):
    """LayerNorm(Linear(patch) + Linear(location) + type): (b, n, 192) -> (b, n, dim)."""

    location: Tensor

    def __init__(self, grid: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.register_buffer("location", patch_locations(grid), persistent=False)
        self.linear = nn.Linear(PATCH_VALUES, dim)
        self.locate = nn.Linear(LOCATION_VALUES, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, patches: Tensor, kind: Tensor) -> Tensor:
        return self.norm(self.linear(patches) + self.locate(self.location) + kind)


class UnicoderVL(Model):
    """[class, current, patches] through one encoder, heads."""

    validity = ("video_valid", "current_valid")

    def __init__(self, config: UnicoderVLConfig) -> None:
        super().__init__(modality="both", dense=config.dense_task)
        self.config = config
        self.use_validity = config.use_validity
        self.grid = patch_grid(config.num_frames, config.size, PATCH, what="unicoder_vl")
        self.current_tokens = CurrentSequence(config.current_length, config.dim, init_std=config.init_std)
        self.patch_tokens = PatchTokens(self.grid, config.dim)
        self.types = learned(2, config.dim, std=config.init_std)  # of current, of video
        self.blocks = Encoder(
            *(PreNormBlock(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth))
        )
        self.head = class_head(config.dim, config.dim)
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
        current_valid: Tensor | None = None,
    ) -> Output:
        """video_valid (B, T), current_valid (B, Tc) bool: what is False has no influence on anything."""
        config = self.config
        video = needed(video, (3, config.num_frames, *config.size), what="unicoder_vl: video")
        current = needed(current, (config.current_length, 3), what="unicoder_vl: current")
        keep = kept(
            [None, current_valid, frames_kept(video_valid, self.grid)],
            (1, config.current_length, self.grid[0] * self.grid[1] * self.grid[2]),
            video,
        )
        patches = self.input_norm.video(patchify(video, PATCH))
        tokens = self.encode(patches, self.input_norm.current(current), keep)
        dense = None
        if self.decoder is not None:
            visual = tokens[:, 1 + config.current_length :]
            if keep is not None:
                visual = visual * keep[:, 1 + config.current_length :, None]
            dense = self.decoder(visual)
        return Output(self.head(tokens[:, 0]), dense)

    def encode(self, patches: Tensor, current: Tensor, keep: Tensor | None = None) -> Tensor:
        """Normalised patches (b, n, 192) and current (b, Tc, 3) -> (b, 1 + Tc + n, dim), the class token first.

        keep: (b, 1 + Tc + n) bool, the tokens that may be attended to.
        """
        tokens = torch.cat(
            [self.current_tokens(current, self.types[0]), self.patch_tokens(patches, self.types[1])], 1
        )
        return self.blocks(tokens, key_mask(keep))


REGISTRATION = Registration(
    name="unicoder_vl",
    title="Unicoder-VL",
    modality="both",
    dense=True,
    config=UnicoderVLConfig,
    build=UnicoderVL,
    tiny=TINY_CLIP | TINY_CURRENT | TINY_ENCODER | TINY_DECODER,
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]}},
    source="Li et al., AAAI 2020, arXiv 1908.06066 (abstract only)",
    provenance={
        "one multi-layer transformer over both modalities": "paper (abstract)",
        "2-D patches of the frames and the current in one sequence": "FmFormer paper",
        "projected content plus projected box, LayerNorm": "general knowledge of the paper, not verified",
        "time in the box vector, order of the sequence, type embeddings": "choice",
        "no pre-training tasks": "choice",
        "pre-norm blocks, width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "class head": "choice",
        "dense head": "FmFormer paper",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
