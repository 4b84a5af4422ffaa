"""BiLM (FrozenBiLM): frames as a prefix of a bidirectional encoder with adapters, the answer read off a mask token.

Yang, Miech, Sivic, Laptev, Schmid, "Zero-Shot Video Question Answering via Frozen Bidirectional Language Models",
NeurIPS 2022, arXiv 2206.08155; github.com/antoyang/FrozenBiLM.

A language model stays frozen; small adapters in its layers, the visual projection and the LayerNorms learn. The
question ends in [MASK], and its output is compared with an embedding of each answer.

What differs from the original. Current instead of words, for which no pre-trained model exists: so everything is
trained by default (the paper's "UnFrozen" variant), and `freeze_encoder` leaves embeddings, adapters, LayerNorms and
heads. ResNet-18 up to stride 8 instead of CLIP, random weights unless published ones are loaded into `backbone`. The
original keeps one vector a frame (`frame_tokens`, which gives no mask); FmFormer reports a mask IoU without saying how
it was had, and here every place of every frame is a token. Pre-norm blocks of FmFormer's sizes (width 96, 6 layers, 3
heads) instead of DeBERTa's. The two answers, normal and abnormal, have learnable embeddings. The dense head is
FmFormer's, on the visual tokens. Training: the shared recipe (original: Adam, betas .9 and .95, lr 5e-5 with linear
warm-up and decay, batches of 32, dropout .1, gradient norm .1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.backbones import ResNet18
from fmfbench_models.parts.blocks import (
    INIT_STD,
    Attention,
    CurrentSequence,
    Encoder,
    InputNorm,
    Mlp,
    TokenDecoder,
    frames_kept,
    kept,
    key_mask,
    learned,
    needed,
    patch_grid,
)
from fmfbench_models.registry import TINY_CLIP, TINY_CURRENT, TINY_DECODER, TINY_ENCODER, Registration

__all__ = ["REGISTRATION", "Bilm", "BilmConfig"]

ADAPTER_STD = 1e-3  # of all of an adapter's weights and biases at the start, cut off at twice that


@dataclass(frozen=True, kw_only=True)
class BilmConfig:
    """num_frames T, size (H, W), current_length Tc: of the input; each token has a position of its own.

    reduction: how much narrower than the stream an adapter is inside. adapters: with them. freeze_encoder: train
    embeddings, adapters, LayerNorms and heads only. frame_tokens: one token a frame, and no dense head.
    init_std: deviation of positions, class tokens and the like at the start. use_validity: positions of a window that
    are not valid are masked in training and prediction, not seen as they are filled.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    reduction: int = 8
    adapters: bool = True
    freeze_encoder: bool = False
    frame_tokens: bool = False
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    init_std: float = INIT_STD
    use_validity: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.reduction <= self.dim:
            raise InputError(f"bilm: expected reduction in 1..{self.dim}, got {self.reduction}")

    @property
    def predicts_pixels(self) -> bool:
        return self.dense_task and not self.frame_tokens


class Adapter(nn.Module):
    """x + up(ReLU(down x)), nearly the identity at the start."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=ADAPTER_STD).clamp_(-2 * ADAPTER_STD, 2 * ADAPTER_STD)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.up(F.relu(self.down(tokens)))


class AdaptedBlock(nn.Module):
    """x += adapter(attention(LN x)); x += adapter(MLP(LN x))."""

    def __init__(self, config: BilmConfig) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.heads)
        self.mlp = Mlp(config.dim, config.mlp_dim)
        self.adapters = nn.ModuleList(
            Adapter(config.dim, config.dim // config.reduction) if config.adapters else nn.Identity()
            for _ in range(2)
        )

    def branches(self) -> tuple[nn.Module, ...]:
        return tuple(self.adapters)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = tokens + self.adapters[0](self.attention(tokens, mask))
        return tokens + self.adapters[1](self.mlp(tokens))

    def freeze(self) -> None:
        """All but LayerNorms and adapters."""
        for part in (self.attention.qkv, self.attention.out, self.mlp.up, self.mlp.down):
            part.requires_grad_(False)


class FrameTokens(nn.Module):
    """Maps of the frames as tokens: Linear, plus row, column, frame and type, LayerNorm.

    (b, T, channels, h, w) -> (b, T*h*w, dim); if `pooled` the mean over places, without row and column: (b, T, dim).
    """

    def __init__(
        self, channels: int, grid: tuple[int, int, int], dim: int, pooled: bool, init_std: float = INIT_STD
    ) -> None:
        super().__init__()
        t, h, w = grid
        self.pooled = pooled
        self.linear = nn.Linear(channels, dim)
        if not pooled:
            self.row, self.column = learned(h, dim, std=init_std), learned(w, dim, std=init_std)
        self.frame = learned(t, dim, std=init_std)
        self.norm = nn.LayerNorm(dim)

    def forward(self, maps: Tensor, kind: Tensor) -> Tensor:
        if self.pooled:
            tokens = self.linear(maps.mean((3, 4))) + self.frame
        else:
            places = self.frame[:, None, None] + self.row[:, None] + self.column
            tokens = (self.linear(maps.permute(0, 1, 3, 4, 2)) + places).flatten(1, 3)
        return self.norm(tokens + kind)


class Bilm(Model):
    """Trunk on each frame; [MASK, current, places of all frames] through one encoder; heads."""

    validity = ("video_valid", "current_valid")

    def __init__(self, config: BilmConfig) -> None:
        super().__init__(modality="both", dense=config.predicts_pixels)
        self.config = config
        self.use_validity = config.use_validity
        self.input_norm = InputNorm(imagenet=True)
        self.backbone = ResNet18(stages=2)
        stride = self.backbone.stride
        grid = self.grid = patch_grid(config.num_frames, config.size, (1, stride, stride), what="bilm")
        self.frame_tokens = FrameTokens(
            self.backbone.channels[-1], grid, config.dim, config.frame_tokens, config.init_std
        )
        # its first: [MASK]
        self.current_tokens = CurrentSequence(
            config.current_length, config.dim, norm=False, init_std=config.init_std
        )
        self.types = learned(2, config.dim, std=config.init_std)  # of current, of video
        blocks = [AdaptedBlock(config) for _ in range(config.depth)]
        self.blocks = Encoder(*blocks)
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        self.answers = nn.Linear(config.dim, 2)  # its rows: embeddings of "normal" and "abnormal"
        self.decoder = (
            TokenDecoder(config.dim, grid, channels=config.decoder_channels)
            if config.predicts_pixels
            else None
        )
        if config.freeze_encoder:
            self.backbone.freeze()
            for block in blocks:
                block.freeze()

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> Output:
        """video_valid (B, T), current_valid (B, Tc) bool: frames and time steps that are False have no influence."""
        config = self.config
        video = needed(video, (3, config.num_frames, *config.size), what="bilm: video")
        current = needed(current, (config.current_length, 3), what="bilm: current")
        grid = (self.grid[0], 1, 1) if config.frame_tokens else self.grid
        sizes = (1, config.current_length, grid[0] * grid[1] * grid[2])
        keep = kept([None, current_valid, frames_kept(video_valid, grid)], sizes, video)
        tokens = self.encode(video, current, keep)
        logits = self.answers(self.head(tokens[:, 0]))
        first = 1 + config.current_length
        visual = tokens[:, first:] if keep is None else tokens[:, first:] * keep[:, first:, None]
        dense = None if self.decoder is None else self.decoder(visual)
        return Output(logits, dense)

    def encode(self, video: Tensor, current: Tensor, keep: Tensor | None = None) -> Tensor:
        """(b, 3, T, H, W) and (b, Tc, 3), as given -> (b, 1 + Tc + n, dim), [MASK] first, n = T*h*w or T.

        keep: (b, 1 + Tc + n) bool, the tokens that may be attended to.
        """
        frames = self.input_norm.video(video.transpose(1, 2))
        maps = self.backbone(frames.flatten(0, 1)).unflatten(0, (-1, self.config.num_frames))
        visual = self.frame_tokens(maps, self.types[1])
        tokens = self.current_tokens(self.input_norm.current(current), self.types[0])
        return self.blocks(torch.cat([tokens, visual], 1), key_mask(keep))


REGISTRATION = Registration(
    name="bilm",
    title="BiLM",
    modality="both",
    dense=True,
    config=BilmConfig,
    build=Bilm,
    tiny=TINY_CLIP | TINY_CURRENT | TINY_ENCODER | TINY_DECODER,
    presets={
        "nano": {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]},
        "frozen": {"freeze_encoder": True},
        "literal": {"frame_tokens": True},
    },
    original_recipe={
        "optimiser": "adam",
        "lr": 5e-5,
        "lr_steps": [],
        "betas": [0.9, 0.95],
        "weight_decay": 0.0,
        "batch_size": 32,
        "clip": 0.1,
    },
    original_recipe_without="linear warm-up and decay of the learning rate, dropout; epochs not told: the shared 30",
    source="Yang et al., NeurIPS 2022, arXiv 2206.08155; antoyang/FrozenBiLM",
    provenance={
        "adapters: place, reduction 8, start": "antoyang/FrozenBiLM",
        "[MASK] output against answer embeddings": "antoyang/FrozenBiLM",
        "frozen encoder, one token a frame (options)": "antoyang/FrozenBiLM",
        "current in place of words": "FmFormer paper",
        "everything trained by default": "choice (the paper's UnFrozen variant)",
        "spatial tokens of every frame, row, column, frame and type embeddings": "choice",
        "ResNet-18 to stride 8": "choice",
        "pre-norm blocks, width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "dense head": "FmFormer paper",
        "input scaling": "choice (ImageNet's for frames)",
        "training recipe": "choice (FmFormer's)",
    },
)
