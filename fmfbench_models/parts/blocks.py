"""Blocks that several models use unchanged.

A block that differs stands in its model's file under its own name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.parts.backbones import imagenet_scale

__all__ = [
    "INIT_STD",
    "Attention",
    "ConvUnit",
    "CrossAttention",
    "CurrentSequence",
    "Encoder",
    "InputNorm",
    "Mlp",
    "PatchEmbedding",
    "PostNormBlock",
    "PreNormBlock",
    "SeriesEmbedding",
    "SeriesHead",
    "TokenDecoder",
    "class_head",
    "frames_kept",
    "kept",
    "key_mask",
    "learned",
    "needed",
    "patch_grid",
    "patchify",
    "resize_table",
    "sinusoid_table",
    "start_at_share",
]

Grid = tuple[int, int, int]  # places along time, height, width

# Deviation at which positions and class tokens start unless a configuration says otherwise: that of the released
# FmFormer. Smaller ones were no better in short trainings (data_cards/models.md, "Start").
INIT_STD = 1.0

CURRENT_MEAN_AMPERES, CURRENT_STD_AMPERES = 8000.0, 2000.0  # until a training split's own are known


class InputNorm(nn.Module):
    """Brings raw input to the model's dtype and scale: video (x / 255 - 0.5) / 0.5, current z-scored per phase.

    The identity (in value, not in dtype) if `identity`. imagenet: frames as published backbone weights want them.
    The statistics are buffers and travel with a checkpoint.
    """

    current_mean: Tensor
    current_std: Tensor
    like: Tensor

    def __init__(self, identity: bool = False, imagenet: bool = False) -> None:
        super().__init__()
        self.identity, self.imagenet = identity, imagenet
        # follows the model's dtype and device
        self.register_buffer("like", torch.zeros(()), persistent=False)
        if not identity:
            self.register_buffer("current_mean", torch.full((3,), CURRENT_MEAN_AMPERES))
            self.register_buffer("current_std", torch.full((3,), CURRENT_STD_AMPERES))

    def video(self, video: Tensor) -> Tensor:
        """Frames or patches of frames, any shape, 0..255; if `imagenet`, (..., 3, H, W)."""
        if self.imagenet:
            return imagenet_scale(video, self.like)
        video = video.to(self.like.dtype)
        return video if self.identity else video.div(127.5).sub(1.0)

    def current(self, current: Tensor) -> Tensor:
        """(..., 3) in A."""
        current = current.to(self.like.dtype)
        return current if self.identity else (current - self.current_mean) / self.current_std

    def set_current(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take a training split's statistics, three values each in A. A constant phase is only centred."""
        if self.identity:
            return
        self.current_mean.copy_(torch.as_tensor(mean))
        self.current_std.copy_(torch.as_tensor([value if value > 0 else 1.0 for value in std]))

    def describe(self) -> dict[str, Any]:
        if self.identity:
            return {"video": "identity", "current": "identity"}
        return {
            "video": "(x / 255 - ImageNet mean) / ImageNet std" if self.imagenet else "x / 127.5 - 1",
            "current": "(x - mean) / std",
            "current_mean": self.current_mean.tolist() if not self.current_mean.is_meta else None,
            "current_std": self.current_std.tolist() if not self.current_std.is_meta else None,
        }


def needed(value: Tensor | None, shape: Sequence[int | None], *, what: str) -> Tensor:
    """The input that a model cannot do without, of shape (B, *shape), None where any length will do."""
    came = "None" if value is None else str(tuple(map(int, value.shape)))
    if value is None or value.dim() != len(shape) + 1:
        fits = False
    else:
        # int: while a graph is traced, sizes are tensors
        fits = all(side in {None, int(own)} for side, own in zip(shape, value.shape[1:], strict=True))
    if value is None or not fits:
        sides = ", ".join("any" if side is None else str(side) for side in shape)
        raise InputError(
            f"{what}: expected (B, {sides}), got {came}; choose a protocol of these lengths or build the model "
            f"for the data's"
        )
    return value


def patch_grid(frames: int, size: tuple[int, int], patch: Grid, *, what: str) -> Grid:
    """How many patches lie along time, height and width; InputError where they do not fill the clip."""
    shape = (frames, *size)
    if any(side < p or side % p for side, p in zip(shape, patch, strict=True)):
        raise InputError(
            f"{what}: expected frames and sides that are multiples of {patch}, got {frames} frames of "
            f"{size[0]} x {size[1]}; choose another protocol or resize the recordings"
        )
    return shape[0] // patch[0], shape[1] // patch[1], shape[2] // patch[2]


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(b, n, heads * d) -> (b, heads, n, d)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """(b, heads, n, d) -> (b, n, heads * d)."""
    return tokens.transpose(1, 2).flatten(2)


def packed_qkv(
    linear: nn.Linear, tokens: Tensor, heads: int, rows: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the first `rows` tokens (None: of all), keys and values of all: (b, heads, n, d) each."""
    if rows is None:
        q, k, v = linear(tokens).chunk(3, dim=-1)
    else:
        q_weight, kv_weight = linear.weight.split([tokens.shape[-1], 2 * tokens.shape[-1]])
        q = F.linear(tokens[:, :rows], q_weight)
        k, v = F.linear(tokens, kv_weight).chunk(2, dim=-1)
    return split_heads(q, heads), split_heads(k, heads), split_heads(v, heads)


def learned(*shape: int, std: float = INIT_STD) -> nn.Parameter:
    """Positions, class tokens and the like, of `shape`, drawn from a normal distribution of deviation `std`."""
    return nn.Parameter(std * torch.randn(*shape))


def key_mask(keep: Tensor | None) -> Tensor | None:
    """Which tokens may be attended to, (b, n) bool, as the mask of an attention over them: (b, 1, 1, n)."""
    return None if keep is None else keep[:, None, None]


def frames_kept(video_valid: Tensor | None, grid: Grid) -> Tensor | None:
    """Valid frames (b, T) bool as kept tokens (b, t*h*w) of a grid of patches; one of several frames needs them all."""
    if video_valid is None:
        return None
    t, h, w = grid
    whole = video_valid.reshape(video_valid.shape[0], t, -1).all(2)
    return whole.repeat_interleave(h * w, 1)


def kept(parts: Sequence[Tensor | None], sizes: Sequence[int], like: Tensor) -> Tensor | None:
    """Parts of a sequence, (b, size) bool each or None for all of it, as one; None where all are None."""
    if all(part is None for part in parts):
        return None
    whole = [
        torch.ones(like.shape[0], size, dtype=torch.bool, device=like.device) if part is None else part
        for part, size in zip(parts, sizes, strict=True)
    ]
    return torch.cat(whole, 1)


class Encoder(nn.Sequential):
    """Blocks in turn, each given the same mask."""

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self:
            tokens = block(tokens, mask)
        return tokens


class Attention(nn.Module):
    """Multi-head self-attention behind a LayerNorm.

    Packed qkv, bias-free unless `qkv_bias`, output map with bias, scale 1/sqrt(d/heads).

    Returns the update only; the caller adds it. mask: bool, True = may attend, (..., n, n), or (..., 1, n) for all
    queries alike (`key_mask`). rows: the update of the first so many tokens only, without the work for the others;
    with a mask only for all queries alike.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, qkv_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, rows: int | None = None) -> Tensor:
        q, k, v = packed_qkv(self.qkv, self.norm(tokens), self.heads, rows)
        dropout = self.dropout if self.training else 0.0
        return self.out(
            merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout))
        )


class CrossAttention(nn.Module):
    """Bidirectional cross-attention (FmFormer eqs. 7-8): both updates from the same pair of inputs, at once.

    The queries of a stream meet the keys and values of the other. forward(a, b) -> (update of a, update of
    b), each of the first rows_a and rows_b tokens only where these are given. mask_a, mask_b: which tokens of a, of b
    may be attended to, as of `key_mask`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_a, self.norm_b = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv_a, self.qkv_b = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, 3 * dim, bias=False)
        self.out_a, self.out_b = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(
        self,
        a: Tensor,
        b: Tensor,
        rows_a: int | None = None,
        rows_b: int | None = None,
        *,
        mask_a: Tensor | None = None,
        mask_b: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        qa, ka, va = packed_qkv(self.qkv_a, self.norm_a(a), self.heads, rows_a)
        qb, kb, vb = packed_qkv(self.qkv_b, self.norm_b(b), self.heads, rows_b)
        from_b = F.scaled_dot_product_attention(qa, kb, vb, attn_mask=mask_b)
        from_a = F.scaled_dot_product_attention(qb, ka, va, attn_mask=mask_a)
        return self.out_a(merge_heads(from_b)), self.out_b(merge_heads(from_a))


class Mlp(nn.Module):
    """LayerNorm, Linear, GELU, Linear; returns the update only."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.down(self.dropout(F.gelu(self.up(self.norm(tokens))))))


class PreNormBlock(nn.Module):
    """x += attention(LN x); x += MLP(LN x). 111,552 parameters at dim 96, mlp_dim 384."""

    def __init__(
        self, dim: int, heads: int, mlp_dim: int, dropout: float = 0.0, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout, qkv_bias)
        self.mlp = Mlp(dim, mlp_dim, dropout)

    def branches(self) -> tuple[nn.Module, ...]:
        return self.attention, self.mlp

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = tokens + self.attention(tokens, mask)
        return tokens + self.mlp(tokens)


class PostNormBlock(nn.Module):
    """The time-series family's block: x = LN(x + attention); x = LN(x + ffn). 111,840 parameters at 96 / 384.

    `mix` is the attention itself: (q, k, v), each (b, heads, n, d), -> (b, heads, n, d); by default exact
    softmax attention. The two 1x1 convolutions of the published code are linear maps of each token, and stand
    here as such.
    """

    def __init__(
        self, dim: int, heads: int, mlp_dim: int, dropout: float = 0.0, mix: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.heads = heads
        self.mix = mix
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def branches(self) -> tuple[nn.Module, ...]:
        return self.out, self.down

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (split_heads(linear(tokens), self.heads) for linear in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v) if self.mix is None else self.mix(q, k, v)
        tokens = self.norm1(tokens + self.dropout(self.out(merge_heads(mixed))))
        hidden = self.dropout(F.gelu(self.up(tokens)))
        return self.norm2(tokens + self.dropout(self.down(hidden)))


class SeriesEmbedding(nn.Module):
    """The time-series family's embedding: (b, n, 3) -> (b, n, dim).

    A circular convolution over three time steps without bias, and fixed sinusoids.
    """

    position: Tensor

    def __init__(self, length: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, dim, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.register_buffer("position", sinusoid_table(length, dim), persistent=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, series: Tensor) -> Tensor:
        return self.dropout(self.conv(series.transpose(1, 2)).transpose(1, 2) + self.position)


class SeriesHead(nn.Module):
    """The time-series family's classifier: LayerNorm of each token, GELU, dropout, and one Linear map of them all."""

    def __init__(self, tokens: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(tokens * dim, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(self.dropout(F.gelu(self.norm(tokens))).flatten(1))


def patchify(video: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Non-overlapping 3-D patches, flattened: (b, c, T, H, W) -> (b, t*h*w, ph*pw*pt*c), tokens ordered (t, h, w).

    Inside a patch the order is (row, column, frame, channel), as in the official code. No arithmetic: on
    uint8 frames it moves a quarter of the bytes that it would move on floats.
    """
    pt, ph, pw = patch
    b, c, frames, height, width = video.shape
    blocks = video.reshape(b, c, frames // pt, pt, height // ph, ph, width // pw, pw)
    tokens = blocks.permute(0, 2, 4, 6, 5, 7, 3, 1)  # b t h w ph pw pt c
    return tokens.reshape(b, (frames // pt) * (height // ph) * (width // pw), ph * pw * pt * c)


class PatchEmbedding(nn.Module):
    """Flattened patches (b, n, values) -> tokens (b, n, dim): one Linear, between two LayerNorms if `norm`."""

    def __init__(self, values: int, dim: int, norm: bool = False) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(values) if norm else nn.Identity()
        self.linear = nn.Linear(values, dim)
        self.norm_out = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, patches: Tensor) -> Tensor:
        return self.norm_out(self.linear(self.norm_in(patches)))


class CurrentSequence(nn.Module):
    """Current (b, n, 3) as tokens (b, 1 + n, dim).

    A learnable first token, then one linear map of each time step, learnable positions, and LayerNorm if `norm`.
    kind: (dim,), what marks this modality in a joint sequence.
    """

    def __init__(self, length: int, dim: int, norm: bool = True, init_std: float = INIT_STD) -> None:
        super().__init__()
        self.first = learned(1, 1, dim, std=init_std)
        self.linear = nn.Linear(3, dim)
        self.position = learned(1, 1 + length, dim, std=init_std)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, current: Tensor, kind: Tensor | None = None) -> Tensor:
        first = self.first.expand(current.shape[0], -1, -1)
        tokens = torch.cat([first, self.linear(current)], 1) + self.position
        return self.norm(tokens if kind is None else tokens + kind)


def resize_table(table: Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> Tensor:
    """Resize a learnable position table (1, prod(grid), dim) by linear interpolation that keeps both ends.

    grid: (n,) of time, (h, w), or (t, h, w), time from oldest to newest. The native grid gives the table itself,
    untouched. An axis cut to one place cannot keep both ends: time keeps the newest, which the label is of, and a side
    of the frame its middle.
    """
    if tuple(grid) == tuple(new_grid):
        return table
    image = table.transpose(1, 2).unflatten(2, tuple(grid))
    for axis, (length, new) in enumerate(zip(grid, new_grid, strict=True), start=2):
        if new == 1 and length > 1:
            last = (length - 1,) if axis == 2 and len(grid) != 2 else ((length - 1) // 2, length // 2)
            places = torch.tensor(last, device=table.device)
            image = image.index_select(axis, places).mean(axis, keepdim=True)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
    return F.interpolate(image, tuple(new_grid), mode=mode, align_corners=True).flatten(2).transpose(1, 2)


def sinusoid_table(length: int, dim: int) -> Tensor:
    """Fixed sine and cosine positions (1, length, dim), interleaved, base 10,000 (Vaswani et al. 2017)."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    rate = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    table = torch.zeros(length, dim, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate[: dim // 2])
    return table[None].to(torch.get_default_dtype())


def class_head(dim: int, hidden: int | None = None) -> nn.Sequential:
    """LayerNorm, Linear(dim, 2); or with `hidden` LayerNorm, Linear, GELU, Linear."""
    if hidden is None:
        return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2))
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 2))


class ConvUnit(nn.Module):
    """A convolution with its norm, as the paper has it or as the released code.

    paper: ReLU(BN(conv3x3 x)). official: r = ReLU(x); conv3x3(BN(r)) + r, its skip being of ReLU(x), not of x.
    """

    def __init__(self, channels: int, style: Literal["paper", "official"]) -> None:
        super().__init__()
        self.style = style
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, image: Tensor) -> Tensor:
        if self.style == "paper":
            return F.relu(self.norm(self.conv(image)))
        image = F.relu(image)
        return self.conv(self.norm(image)) + image


def upsampling(inputs: int, outputs: int, style: Literal["paper", "official"]) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, stride=2), ConvUnit(outputs, style))


def start_at_share(model: nn.Module, share: float) -> None:
    """Let each dense head say, before anything is learned, that this share of the pixels is abnormal.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, section 3.3: else the first hundreds of steps teach
    that most pixels are normal, and nothing else.

    Example:
        >>> import torch
        >>> decoder = TokenDecoder(8, (1, 2, 2), channels=(8,))
        >>> start_at_share(decoder, 0.25)
        >>> [round(value, 3) for value in torch.softmax(decoder.out.bias, 0).tolist()]
        [0.75, 0.25]
    """
    odds = share / (1.0 - share)
    for module in model.modules():
        if isinstance(module, TokenDecoder):
            with torch.no_grad():
                module.out.bias.copy_(torch.tensor([0.0, math.log(odds)]))  # type: ignore[union-attr]


class TokenDecoder(nn.Module):
    """The dense head: visual tokens reassembled into an image and upsampled (FmFormer eqs. 9-11).

    standard (b, t*h*w, dim) without class token; dilated (b, t*h'*w', dim) or None. Returns (b, 2, 8h, 8w):
    one doubling for each of `channels`.
    """

    def __init__(
        self,
        dim: int,
        grid: tuple[int, int, int],
        dilated_grid: tuple[int, int, int] | None = None,
        *,
        style: Literal["paper", "official"] = "paper",
        channels: Sequence[int] = (128, 64, 32),
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(grid[0] * dim, dim, 1)
        if dilated_grid is not None:
            self.squeeze_dilated = nn.Conv2d(dilated_grid[0] * dim, dim, 1)
            self.blend = upsampling(dim, dim, style)
        widths = [dim, *channels]
        self.stages = nn.Sequential(*(upsampling(i, o, style) for i, o in pairwise(widths)))
        self.out = nn.Conv2d(widths[-1], 2, 1)
        self.grid, self.dilated_grid = grid, dilated_grid

    def forward(
        self,
        standard: Tensor,
        dilated: Tensor | None = None,
        grid: tuple[int, int, int] | None = None,
        dilated_grid: tuple[int, int, int] | None = None,
    ) -> Tensor:
        """grid, dilated_grid: of this input, where its frames are of another size than the model's own."""
        image = self.squeeze(self._image(standard, grid or self.grid))
        if self.dilated_grid is not None:
            assert dilated is not None
            blended = self.blend(
                self.squeeze_dilated(self._image(dilated, dilated_grid or self.dilated_grid))
            )
            if (
                blended.shape != image.shape
            ):  # frame sides where twice the dilated grid is not the standard one
                blended = F.interpolate(blended, image.shape[2:], mode="bilinear", align_corners=False)
            image = image + blended
        return self.out(self.stages(image))

    @staticmethod
    def _image(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(b, t*h*w, c) -> (b, t*c, h, w), channels time-major."""
        b, _, c = tokens.shape
        t, h, w = grid
        return tokens.reshape(b, t, h, w, c).permute(0, 1, 4, 2, 3).reshape(b, t * c, h, w)
