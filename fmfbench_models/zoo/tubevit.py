"""TubeViT: sparse tubes of several shapes, cut from the clip with one kernel.

Piergiovanni, Kuo, Angelova, "Rethinking Video ViTs: Sparse Video Tubes for Joint Image and Video Learning", CVPR
2023, arXiv 2212.03229. The authors released no code; what the paper's text leaves open follows the unofficial
github.com/daniel-code/TubeViT.

Tubes are far apart and few, some long and thin, some short and wide, one an image's patches; a small transformer reads
them together. Only one kernel is learned. It is resized to each tube's shape.

What differs from the original. Its tubes, for 32 frames of 224x224, do not fit 10 frames of 64x64: here time is a
quarter, spatial strides and offsets are halves, as is the image patch, and spatial extents are kept; see `TUBES`.
(By its own table the original has 539 tubes, its text says 559.) Pooling is attention over all tokens, as in the
unofficial code. The image's patches are cut from the last frame, which the label is of, not from the first. Sizes:
FmFormer's (width 96, 6 layers, 3 heads). No dense head, as in the FmFormer paper's table.
Training: the shared recipe; no joint training with images, no pretrained weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import INIT_STD, Grid, PreNormBlock, learned, needed, sinusoid_table
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "TUBES", "TubeViT", "TubeViTConfig", "tube_grid"]

Tube = tuple[Grid, Grid, Grid]  # extent, stride, offset; each along time, height, width

TUBES: tuple[Tube, ...] = (
    ((2, 8, 8), (4, 16, 16), (0, 0, 0)),
    ((4, 4, 4), (2, 16, 16), (1, 4, 4)),
    ((1, 12, 12), (4, 16, 16), (0, 8, 8)),
    ((1, 8, 8), (10, 8, 8), (0, 0, 0)),
)


@dataclass(frozen=True, kw_only=True)
class TubeViTConfig:
    """Settings of TubeViT.

    num_frames T, size (H, W): of the clip. base: extent of the learned kernel. image: the tubes of one frame and one
    time index stand at the last frame, which the label refers to, or at their offset, as the paper's table has them: on
    the oldest frame, which leaves three quarters of the last one's pixels unseen. init_std: deviation of positions,
    class tokens and the like at the start.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    tubes: tuple[Tube, ...] = TUBES
    base: Grid = (2, 8, 8)
    image: Literal["offset", "last"] = "last"
    init_std: float = INIT_STD

    def __post_init__(self) -> None:
        if self.dim % 6:
            raise InputError(
                f"tubevit: expected dim as a multiple of 6 (three axes, sine and cosine), got {self.dim}"
            )
        if not self.tubes:
            raise InputError("tubevit: expected one tube or more, got none")
        for tube in self.tubes:
            if min(tube_grid(tube, (self.num_frames, *self.size))) < 1:
                raise InputError(
                    f"tubevit: expected tubes within {self.num_frames} frames of {self.size[0]} x {self.size[1]}, "
                    f"got one of extent {tube[0]} at offset {tube[2]}; choose another protocol or other tubes"
                )

    @property
    def placed_tubes(self) -> tuple[Tube, ...]:
        """The tubes, those of an image where `image` puts them."""
        shape = (self.num_frames, *self.size)
        placed = []
        for tube in self.tubes:
            extent, stride, offset = tube
            if self.image == "last" and extent[0] == 1 and tube_grid(tube, shape)[0] == 1:
                offset = (self.num_frames - 1, *offset[1:])
            placed.append((extent, stride, offset))
        return tuple(placed)


def tube_grid(tube: Tube, shape: Grid) -> Grid:
    """How many tubes lie along each axis of a clip of `shape`: floor((size - offset - extent) / stride) + 1."""
    t, h, w = (
        (size - offset - extent) // stride + 1
        for size, extent, stride, offset in zip(shape, *tube, strict=True)
    )
    return t, h, w


def tube_positions(tube: Tube, grid: Grid, dim: int) -> Tensor:
    """Fixed sines and cosines (n, dim) of the tubes' centres, a third of `dim` for each axis.

    A centre is index * stride + offset + extent // 2.
    """
    axes = []
    for count, extent, stride, offset in zip(grid, *tube, strict=True):
        first = offset + extent // 2
        axes.append(sinusoid_table(first + count * stride, dim // 3)[0, first::stride])
    t, h, w = grid
    parts = (axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None])
    return torch.cat([part.expand(t, h, w, -1) for part in parts], -1).flatten(0, 2)


class TubeTokens(nn.Module):
    """Clip (b, 3, T, H, W) -> tokens (b, n, dim), tube shape after tube shape, with their positions."""

    position: Tensor

    def __init__(self, config: TubeViTConfig) -> None:
        super().__init__()
        self.tubes = config.placed_tubes
        self.kernel = nn.Parameter(torch.empty(config.dim, 3, *config.base))
        nn.init.kaiming_uniform_(self.kernel, a=math.sqrt(5))
        self.bias = nn.Parameter(torch.zeros(len(self.tubes), config.dim))
        shape = (config.num_frames, *config.size)
        rows = [tube_positions(tube, tube_grid(tube, shape), config.dim) for tube in self.tubes]
        self.register_buffer("position", torch.cat(rows), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        tokens = []
        for index, (extent, stride, offset) in enumerate(self.tubes):
            seen = clip[:, :, offset[0] :, offset[1] :, offset[2] :]
            features = F.conv3d(seen, self.resized(extent), self.bias[index], stride)
            tokens.append(features.flatten(2).transpose(1, 2))
        return torch.cat(tokens, 1) + self.position

    def resized(self, extent: Grid) -> Tensor:
        """The learned kernel at another extent, by trilinear interpolation; itself at its own."""
        if extent == tuple(self.kernel.shape[2:]):
            return self.kernel
        return F.interpolate(self.kernel, extent, mode="trilinear", align_corners=False)


class AttentionPooling(nn.Module):
    """Tokens (b, n, dim) -> their mean (b, dim), weighted by the softmax of one linear score each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)
        self.score.bias.requires_grad_(False)  # a softmax does not see it; kept since the source counts it

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.score(tokens).softmax(1) * tokens).sum(1)


class TubeViT(Model):
    """Tubes and class token, encoder, pooling, head."""

    def __init__(self, config: TubeViTConfig) -> None:
        super().__init__(modality="visual", dense=False)
        self.config = config
        self.tokens = TubeTokens(config)
        self.class_token = learned(1, 1, config.dim, std=config.init_std)
        self.blocks = nn.Sequential(
            *(PreNormBlock(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth))
        )
        self.norm = nn.LayerNorm(config.dim)
        self.pool = AttentionPooling(config.dim)
        self.head = nn.Linear(config.dim, 2)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        video = needed(video, (3, self.config.num_frames, *self.config.size), what="tubevit: video")
        tubes = self.tokens(self.input_norm.video(video))
        tokens = torch.cat([self.class_token.expand(video.shape[0], -1, -1), tubes], 1)
        return Output(self.head(self.pool(self.norm(self.blocks(tokens)))))


REGISTRATION = Registration(
    name="tubevit",
    title="TubeViT",
    modality="visual",
    dense=False,
    config=TubeViTConfig,
    build=TubeViT,
    tiny={
        "num_frames": 4,
        "size": [16, 24],
        "dim": 24,
        "depth": 1,
        "mlp_dim": 48,
        "tubes": [
            [[2, 8, 8], [2, 8, 8], [0, 0, 0]],
            [[3, 4, 4], [1, 8, 8], [1, 2, 2]],
            [[1, 12, 12], [2, 4, 6], [0, 0, 0]],
            [[1, 8, 8], [4, 8, 8], [0, 0, 0]],
        ],
    },
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    without_gradient=("pool.score.bias",),
    source="Piergiovanni et al., CVPR 2023, arXiv 2212.03229; daniel-code/TubeViT (unofficial)",
    provenance={
        "sparse tubes, one resized kernel, fixed positions": "paper",
        "positions at tube centres, a bias for each tube, attention pooling": "daniel-code/TubeViT",
        "tubes for short, small clips": "choice (the paper's, scaled)",
        "image patches of the last frame": "choice (paper: of the first; option)",
        "base kernel 2x8x8": "choice",
        "width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
