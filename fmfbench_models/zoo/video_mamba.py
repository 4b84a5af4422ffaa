"""Video Mamba: a state space model that reads the tubelets of a clip from both ends.

Li et al., "VideoMamba: State Space Model for Efficient Video Understanding", ECCV 2024, arXiv 2403.06977; the mixer
after Dao, Gu, "Transformers are SSMs" (Mamba-2), ICML 2024, arXiv 2405.21060. Of the code, OpenGVLab/VideoMamba
(`videomamba.py`, `mamba_simple.py`) and state-spaces/mamba (`mamba2_simple.py`, `ssd_minimal.py`) were read; nothing
was run beside it, and published weights do not fit.

For each head, with x_t of P values, B_t and C_t of N, a step d_t = softplus(...) and a decay a = -exp(A):

    h_t = exp(d_t a) h_{t-1} + d_t x_t B_t^T        y_t = h_t C_t + D x_t

As VideoMamba has it: a class token before the tubelets, which follow each other frame by frame; positions of places and
of times added; in each block x += mixer(RMSNorm x); both directions share the projections in, gate and out, and each
has its own convolution, steps, decay and D; the head reads the class token behind a last norm. As Mamba-2 has it, where
VideoMamba has Mamba-1: one decay a head, B, C and steps from the same projection as x, RMSNorm behind the gate.

What differs from both. Tubelets of 2x8x8 instead of patches of 1x16x16, and FmFormer's width; LayerNorms around the
embedding and the start of positions as in the other models here; no fused kernels: `scan` works on chunks by matrix
products, which is the recurrence above but for rounding. The dense head is FmFormer's, on the normed tubelets.
Training: the shared recipe, from scratch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import (
    INIT_STD,
    PatchEmbedding,
    TokenDecoder,
    learned,
    needed,
    patch_grid,
    patchify,
)
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "VideoMamba", "VideoMambaConfig", "scan"]

TUBELET = (2, 8, 8)
TUBELET_VALUES = 2 * 8 * 8 * 3
SHORTEST_STEP, LONGEST_STEP = 0.001, 0.1  # where steps start, log-uniformly
LEAST_DECAY, MOST_DECAY = 1.0, 16.0  # where -a starts, uniformly


@dataclass(frozen=True, kw_only=True)
class VideoMambaConfig:
    """Settings of VideoMamba.

    num_frames T, size (H, W): of the clip. expand: width of the mixer over dim. head_dim P, state N. kernel: of the
    short convolution. chunk: tokens that `scan` takes together; it changes nothing but rounding and speed. init_std:
    deviation of positions and class token at the start.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    dim: int = 96
    depth: int = 6
    expand: int = 2
    head_dim: int = 32
    state: int = 32
    kernel: int = 4
    chunk: int = 32
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    init_std: float = INIT_STD

    @property
    def inner(self) -> int:
        return self.expand * self.dim

    def __post_init__(self) -> None:
        for name in ("depth", "expand", "head_dim", "state", "kernel", "chunk"):
            if getattr(self, name) < 1:
                raise InputError(f"video_mamba: expected {name} of at least 1, got {getattr(self, name)}")
        if self.inner % self.head_dim:
            raise InputError(
                f"video_mamba: expected expand * dim to be a multiple of head_dim, got {self.inner} and {self.head_dim}"
            )


def scan(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    """y_t = sum over s <= t of exp(l_{s+1} + ... + l_t) (c_t . b_s) x_s: the recurrence with h_0 = 0, in chunks.

    x (B, L, heads, P), log_decay l (B, L, heads) of at most 0, b and c (B, L, N), shared by the heads; y as x. Within a
    chunk all pairs at once, as attention has them; between chunks the state at their ends.

    Example:
        >>> ones = torch.ones(1, 3, 1, 1)
        >>> scan(ones, torch.log(0.5 * ones[..., 0]), ones[..., 0], ones[..., 0], chunk=2).flatten().tolist()
        [1.0, 1.5, 1.75]
    """
    length = x.shape[1]
    short = -length % chunk
    x, log_decay = F.pad(x, (0, 0, 0, 0, 0, short)), F.pad(log_decay, (0, 0, 0, short))
    b, c = F.pad(b, (0, 0, 0, short)), F.pad(c, (0, 0, 0, short))
    x, log_decay, b, c = (part.unflatten(1, (-1, chunk)) for part in (x, log_decay, b, c))  # (B, k, q, ...)
    since = log_decay.cumsum(2)  # log decay from before the chunk to each token
    later = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    between = (since[:, :, :, None] - since[:, :, None]).masked_fill(later[..., None], -torch.inf).exp()
    pairs = torch.einsum("bktn,bksn->bkts", c, b)[..., None] * between  # (B, k, t, s, heads)
    own = torch.einsum("bktsh,bkshp->bkthp", pairs, x)
    to_end = (since[:, :, -1:] - since).exp()
    added = torch.einsum("bksn,bksh,bkshp->bkhpn", b, to_end, x)  # to the state at each chunk's end
    state, before = 0 * added[:, 0], []  # a tracer would keep zeros_like of this batch's size
    for number in range(added.shape[1]):
        before.append(state)
        state = since[:, number, -1].exp()[..., None, None] * state + added[:, number]
    earlier = torch.einsum("bktn,bkth,bkhpn->bkthp", c, since.exp(), torch.stack(before, 1))
    return (own + earlier).flatten(1, 2)[:, :length]


class RmsNorm(nn.Module):
    """x / root of the mean square over features, times a weight each; written out, as ONNX exports it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.weight


class Direction(nn.Module):
    """What each direction has of its own: convolution, steps, decay and D."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        self.config = config
        heads, wide = config.inner // config.head_dim, config.inner + 2 * config.state
        self.conv = nn.Conv1d(wide, wide, config.kernel, groups=wide)
        low, high = math.log(SHORTEST_STEP), math.log(LONGEST_STEP)
        step = torch.exp(low + (high - low) * torch.rand(heads))
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is the step
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(LEAST_DECAY, MOST_DECAY).log())
        self.skip = nn.Parameter(torch.ones(heads))

    def forward(self, mixed: Tensor, steps: Tensor) -> Tensor:
        """mixed (B, L, inner + 2 N), of x, B and C; steps (B, L, heads) before their bias -> (B, L, inner)."""
        config = self.config
        mixed = F.pad(mixed.transpose(1, 2), (config.kernel - 1, 0))
        mixed = F.silu(self.conv(mixed).transpose(1, 2))
        x, b, c = mixed.split([config.inner, config.state, config.state], dim=-1)
        x = x.unflatten(-1, (-1, config.head_dim))
        step = F.softplus(steps + self.step_bias)
        y = scan(x * step[..., None], -step * self.log_rate.exp(), b, c, config.chunk)
        return (y + self.skip[:, None] * x).flatten(2)


class Mixer(nn.Module):
    """(B, L, dim) -> (B, L, dim): both directions between one projection in and one out."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        heads = config.inner // config.head_dim
        self.sizes = [config.inner, config.inner + 2 * config.state, heads]
        self.into = nn.Linear(config.dim, sum(self.sizes), bias=False)
        self.forwards, self.backwards = Direction(config), Direction(config)
        self.norm = RmsNorm(config.inner)
        self.out = nn.Linear(config.inner, config.dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, mixed, steps = self.into(tokens).split(self.sizes, dim=-1)
        y = self.forwards(mixed, steps) + self.backwards(mixed.flip(1), steps.flip(1)).flip(1)
        return self.out(self.norm(y * F.silu(gate)))


class Block(nn.Module):
    """x += mixer(RMSNorm x)."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        self.norm = RmsNorm(config.dim)
        self.mixer = Mixer(config)
        with torch.no_grad():  # so that the sum over all blocks starts as large as one
            self.mixer.out.weight /= math.sqrt(config.depth)

    def branches(self) -> tuple[nn.Module, ...]:
        return (self.mixer,)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mixer(self.norm(tokens))


class VideoMamba(Model):
    """Tubelets, class token and positions, blocks, heads."""

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__(modality="visual", dense=config.dense_task)
        self.config = config
        t, h, w = self.grid = patch_grid(config.num_frames, config.size, TUBELET, what="video_mamba")
        self.embed = PatchEmbedding(TUBELET_VALUES, config.dim, norm=True)
        self.class_token = learned(1, 1, config.dim, std=config.init_std)
        self.place = learned(1, 1, h * w, config.dim, std=config.init_std)
        self.time = learned(1, t, 1, config.dim, std=config.init_std)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = RmsNorm(config.dim)
        self.head = nn.Linear(config.dim, 2)
        self.decoder = (
            TokenDecoder(config.dim, self.grid, channels=config.decoder_channels)
            if config.dense_task
            else None
        )

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        video = needed(video, (3, self.config.num_frames, *self.config.size), what="video_mamba: video")
        tokens = self.encode(self.input_norm.video(patchify(video, TUBELET)))
        return Output(self.head(tokens[:, 0]), None if self.decoder is None else self.decoder(tokens[:, 1:]))

    def encode(self, tubelets: Tensor) -> Tensor:
        """(b, t*h*w, values) -> (b, 1 + t*h*w, dim), the class token first."""
        tokens = self.embed(tubelets).unflatten(1, (self.grid[0], -1)) + self.place + self.time
        first = self.class_token.expand(tubelets.shape[0], -1, -1)
        return self.norm(self.blocks(torch.cat([first, tokens.flatten(1, 2)], 1)))


REGISTRATION = Registration(
    name="video_mamba",
    title="Video Mamba",
    modality="visual",
    dense=True,
    config=VideoMambaConfig,
    build=VideoMamba,
    tiny={
        "num_frames": 4,
        "size": [16, 24],
        "dim": 24,
        "depth": 1,
        "head_dim": 12,
        "state": 8,
        "chunk": 5,
        "decoder_channels": [24, 16, 8],
    },
    presets={"nano": {"dim": 48, "depth": 2, "head_dim": 16, "state": 16, "decoder_channels": [48, 32, 16]}},
    source="Li et al., ECCV 2024, arXiv 2403.06977; mixer after Dao, Gu, ICML 2024, arXiv 2405.21060",
    provenance={
        "class token first, positions of place and time, RMSNorm, mixer, add": "OpenGVLab/VideoMamba (code read)",
        "two directions with shared projections": "OpenGVLab/VideoMamba (code read)",
        "one decay a head, x, B, C and steps of one projection, gate, then RMSNorm": "state-spaces/mamba (code read)",
        "this mixer in the place of VideoMamba's Mamba-1": "choice",
        "scan in chunks by matrix products": "Mamba-2 paper (idea)",
        "starts of steps, decays and D; projections out divided by the root of the depth": "both codes (read)",
        "starts of positions and class token": "choice",
        "2x8x8 tubelets between LayerNorms, width 96, depth 6, head 32, state 32": "choice (tubelet, width FmFormer's)",
        "dense head": "FmFormer paper",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
