"""ClipBERT: a convolutional trunk, the mean over frames, and one transformer with the current.

Lei, Li, Zhou, Gan, Berg, Bansal, Liu, "Less is More: ClipBERT for Video-and-Language Learning via Sparse Sampling",
CVPR 2021, arXiv 2102.06183; github.com/jayleicn/ClipBERT.

Frames are averaged before anything looks across them, so their order within a clip is invisible, and a mask of the
last frame must be drawn from what all frames have in common.

What differs from the original. Current instead of words. ResNet-18 up to stride 8 instead of ResNet-50, random
weights unless published ones are loaded into `backbone`; no pooling of its map, which keeps the 8x8 grid that the dense
head needs (the original halves it). Pre-norm blocks of FmFormer's sizes (width 96, 6 layers, 3 heads) instead of BERT's
(post-norm, 768, 12, 12). One clip of all frames; `clips` cuts a window into several, whose logits are joined by
log-sum-exp as in the released MSRVTT-QA configuration, the pixels' too. The dense head is FmFormer's, on the visual
tokens. Training: the shared recipe (original: AdamW 5e-5, weight decay 1e-3, betas .9 and .98, 10 epochs, batches of
16, gradient norm 5).
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
    CurrentSequence,
    Encoder,
    InputNorm,
    PreNormBlock,
    TokenDecoder,
    kept,
    key_mask,
    learned,
    needed,
    patch_grid,
)
from fmfbench_models.registry import TINY_CURRENT, TINY_DECODER, TINY_ENCODER, Registration

__all__ = ["REGISTRATION", "ClipBert", "ClipBertConfig"]


@dataclass(frozen=True, kw_only=True)
class ClipBertConfig:
    """Settings of ClipBert.

    size (H, W), current_length Tc: of the input; any number of frames that is a multiple of `clips`. init_std:
    deviation of positions, class tokens and the like at the start. use_validity: positions of a window that are not
    valid are masked in training and prediction, not seen as they are filled.
    """

    size: tuple[int, int] = (64, 64)
    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    clips: int = 1
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    init_std: float = INIT_STD
    use_validity: bool = False

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise InputError(f"clipbert: expected clips of 1 or more, got {self.clips}")


def join_clips(logits: Tensor) -> Tensor:
    """(b, clips, ...) -> (b, ...): log-sum-exp over the clips. Of n equal clips: theirs plus log n."""
    return logits.logsumexp(1)


class GridTokens(nn.Module):
    """A map of the clip as tokens: content plus row, column and type, LayerNorm. (b, dim, h, w) -> (b, h*w, dim)."""

    def __init__(self, height: int, width: int, dim: int, init_std: float = INIT_STD) -> None:
        super().__init__()
        self.row = learned(height, dim, std=init_std)
        self.column = learned(width, dim, std=init_std)
        self.norm = nn.LayerNorm(dim)

    def places(self) -> Tensor:
        """(h*w, dim)."""
        return (self.row[:, None] + self.column).flatten(0, 1)

    def forward(self, image: Tensor, kind: Tensor) -> Tensor:
        return self.norm(image.flatten(2).transpose(1, 2) + self.places() + kind)


class ClipBert(Model):
    """Trunk and mean over frames; [class, current, grid] through one encoder; heads."""

    validity = ("video_valid", "current_valid")

    def __init__(self, config: ClipBertConfig) -> None:
        super().__init__(modality="both", dense=config.dense_task)
        self.config = config
        self.use_validity = config.use_validity
        self.input_norm = InputNorm(imagenet=True)
        self.backbone = ResNet18(stages=2)
        stride = self.backbone.stride
        grid = patch_grid(1, config.size, (1, stride, stride), what="clipbert")
        self.places = grid[1] * grid[2]
        self.squeeze = nn.Conv2d(self.backbone.channels[-1], config.dim, 3, padding=1, bias=False)
        self.current_tokens = CurrentSequence(config.current_length, config.dim, init_std=config.init_std)
        self.grid_tokens = GridTokens(*grid[1:], config.dim, config.init_std)
        self.types = learned(2, config.dim, std=config.init_std)  # of current, of video
        self.blocks = Encoder(
            *(PreNormBlock(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth))
        )
        self.pooler = nn.Linear(config.dim, config.dim)
        self.head = nn.Sequential(
            nn.Linear(config.dim, 2 * config.dim), nn.ReLU(), nn.Linear(2 * config.dim, 2)
        )
        self.decoder = (
            TokenDecoder(config.dim, grid, channels=config.decoder_channels) if config.dense_task else None
        )

    def forward(
        self,
        video: Tensor | None = None,
        current: Tensor | None = None,
        *,
        video_valid: Tensor | None = None,
        current_valid: Tensor | None = None,
    ) -> Output:
        """The judgement of a batch.

        video_valid (B, T), current_valid (B, Tc) bool: frames that are False are left out of the mean, time steps of
        the attention; a clip without a valid frame has no visual tokens.
        """
        config, clips = self.config, self.config.clips
        video = needed(video, (3, None, *config.size), what="clipbert: video")
        current = needed(current, (config.current_length, 3), what="clipbert: current")
        if not video.shape[2] or video.shape[2] % clips:
            raise InputError(
                f"clipbert: video: expected a number of frames that is a multiple of {clips} clips, "
                f"got {tuple(video.shape)}; "
                f"choose another protocol or another number of clips"
            )
        # (b * clips, 3, T / clips, H, W)
        video = video.unflatten(2, (clips, -1)).transpose(1, 2).flatten(0, 1)
        if video_valid is not None:
            video_valid = video_valid.reshape(-1, video_valid.shape[1] // clips)
        if current_valid is not None:
            current_valid = current_valid.repeat_interleave(clips, 0)
        seen = None if video_valid is None else video_valid.any(1, keepdim=True).expand(-1, self.places)
        keep = kept([None, current_valid, seen], (1, config.current_length, self.places), video)
        tokens = self.encode(video, current.repeat_interleave(clips, 0), video_valid, keep)
        logits = self.head(self.pooler(tokens[:, 0]).tanh())
        first = 1 + config.current_length
        visual = tokens[:, first:] if keep is None else tokens[:, first:] * keep[:, first:, None]
        dense = None if self.decoder is None else self.decoder(visual)
        if clips > 1:
            logits = join_clips(logits.unflatten(0, (-1, clips)))
            dense = None if dense is None else join_clips(dense.unflatten(0, (-1, clips)))
        return Output(logits, dense)

    def encode(
        self, video: Tensor, current: Tensor, valid: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """(b, 3, T, H, W) and (b, Tc, 3), as given -> (b, 1 + Tc + h*w, dim), the class token first.

        valid: (b, T) bool, the frames that count. keep: (b, 1 + Tc + h*w) bool, what may be attended to.
        """
        visual = self.grid_tokens(self.mean_map(video, valid), self.types[1])
        tokens = self.current_tokens(self.input_norm.current(current), self.types[0])
        return self.blocks(torch.cat([tokens, visual], 1), key_mask(keep))

    def mean_map(self, video: Tensor, valid: Tensor | None = None) -> Tensor:
        """(b, 3, T, H, W) -> (b, dim, h, w): the mean over frames, which forgets their order.

        Over those that are valid (b, T), 0 where none is.
        """
        frames = self.input_norm.video(video.transpose(1, 2))
        maps = F.relu(self.squeeze(self.backbone(frames.flatten(0, 1))))
        maps = maps.reshape(-1, int(video.shape[2]), *maps.shape[1:])
        if valid is None:
            return maps.mean(1)
        weight = valid.to(maps.dtype)[:, :, None, None, None]
        return (maps * weight).sum(1) / weight.sum(1).clamp(min=1)


REGISTRATION = Registration(
    name="clipbert",
    title="ClipBERT",
    modality="both",
    dense=True,
    config=ClipBertConfig,
    build=ClipBert,
    tiny={**TINY_CURRENT, **TINY_ENCODER, **TINY_DECODER, "size": [16, 24]},
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96, "decoder_channels": [48, 32, 16]}},
    original_recipe={
        "lr": 5e-5,
        "lr_steps": [],
        "weight_decay": 1e-3,
        "betas": [0.9, 0.98],
        "epochs": 10,
        "batch_size": 16,
        "clip": 5.0,
    },
    source="Lei et al., CVPR 2021, arXiv 2102.06183; jayleicn/ClipBERT",
    provenance={
        "mean over frames, row, column and type embeddings, LayerNorm": "jayleicn/ClipBERT",
        "words (here current) first, then the grid; pooler with tanh, Linear-ReLU-Linear": "jayleicn/ClipBERT",
        "log-sum-exp over clips (option)": "jayleicn/ClipBERT",
        "current in place of words": "FmFormer paper",
        "one clip": "choice",
        "ResNet-18 to stride 8, 3x3 convolution without pooling": "choice",
        "pre-norm blocks, width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "dense head": "FmFormer paper",
        "log-sum-exp of the pixels' logits over clips": "choice",
        "input scaling": "choice (ImageNet's for frames)",
        "training recipe": "choice (FmFormer's)",
    },
)
