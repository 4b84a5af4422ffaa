"""CAPTURE: two encoders of their own, then cross-attention between them, then one joint encoder.

Zhan, Wu, Dong, Wei, Lu, Zhang, Xu, Liang, "Product1M: Towards Weakly Supervised Instance-Level Product Retrieval via
Cross-Modal Pretraining", ICCV 2021, arXiv 2107.14572; github.com/zhanxlin/Product1M, folder CAPTURE.

The modalities meet in stages: not at all in the separate encoders, where a contrastive term may pull a sample's two
class tokens together; across the streams in the middle; as one sequence at the end. FmFormer alternates within every
layer instead.

What differs from the original. Tubelets of 2x8x8 pixels instead of detected regions, with their boxes and times;
current instead of words. Stages of 3, 3 and 3 layers of FmFormer's width (96, 3 heads) instead of 4, 4 and 6 of 768;
cross-attention as FmFormer's, pre-norm and as wide as the streams, instead of a bottleneck. The contrastive weight is 0
by default: with two classes most other samples of a batch are of the same class, and counting them as negatives is
wrong. Masked pre-training is left out. The dense head is FmFormer's, on the visual tokens. Training: the shared recipe
(original pre-training: lr 1e-4, batches of 64).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, Model, Output
from fmfbench_models.parts.blocks import (
    INIT_STD,
    CrossAttention,
    CurrentSequence,
    Encoder,
    Mlp,
    PreNormBlock,
    TokenDecoder,
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

__all__ = ["REGISTRATION", "Capture", "CaptureConfig"]

PATCH = (2, 8, 8)
PATCH_VALUES = 2 * 8 * 8 * 3
# location of the visual class token: all of the frame, its last time
WHOLE_CLIP = (
    0.0,
    0.0,
    1.0,
    1.0,
    1.0,
    1.0,
)


@dataclass(frozen=True, kw_only=True)
class CaptureConfig:
    """num_frames T, size (H, W), current_length Tc: of the input; each token has a position of its own.

    depth, cross_depth, joint_depth: layers of the three stages. dropout: of the class head. contrastive: weight of
    the contrastive term, at `temperature`.
    init_std: deviation of positions, class tokens and the like at the start. use_validity: positions of a window that
    are not valid are masked in training and prediction, not seen as they are filled.
    """

    num_frames: int = 10
    size: tuple[int, int] = (64, 64)
    current_length: int = 440
    dim: int = 96
    depth: int = 3
    cross_depth: int = 3
    joint_depth: int = 3
    heads: int = 3
    mlp_dim: int = 384
    dropout: float = 0.1
    contrastive: float = 0.0
    temperature: float = 0.07
    dense_task: bool = True
    decoder_channels: tuple[int, int, int] = (128, 64, 32)
    init_std: float = INIT_STD
    use_validity: bool = False

    def __post_init__(self) -> None:
        if self.contrastive < 0 or not self.temperature > 0:
            raise InputError(
                f"capture: expected contrastive of 0 or more and temperature above 0, "
                f"got {self.contrastive} and {self.temperature}"
            )


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of B pairs (b, dim) each (Chen et al. 2020, eq. 1).

    Every feature must find its partner among the 2B - 1 others, by cosine similarity. All features equal: log(2B -
    1).
    """
    features = F.normalize(torch.cat([one, other]), dim=1)
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    similarity = (features @ features.T / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(features), device=features.device).roll(len(one))
    return F.cross_entropy(similarity, partner)


class TubeletTokens(nn.Module):
    """LayerNorm(Linear(tubelet) + Linear(location)): (b, n, 384) -> (b, 1 + n, dim), the class token first."""

    location: Tensor

    def __init__(self, grid: tuple[int, int, int], dim: int, init_std: float = INIT_STD) -> None:
        super().__init__()
        location = torch.cat([torch.tensor([WHOLE_CLIP]), patch_locations(grid)])
        self.register_buffer("location", location, persistent=False)
        self.class_token = learned(1, 1, dim, std=init_std)
        self.linear = nn.Linear(PATCH_VALUES, dim)
        self.locate = nn.Linear(LOCATION_VALUES, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tubelets: Tensor) -> Tensor:
        tokens = torch.cat([self.class_token.expand(tubelets.shape[0], -1, -1), self.linear(tubelets)], 1)
        return self.norm(tokens + self.locate(self.location))


class CrossLayer(nn.Module):
    """Cross-attention both ways at once, then an MLP of each stream; no self-attention."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.cross = CrossAttention(dim, heads)
        self.mlp_a, self.mlp_b = Mlp(dim, mlp_dim), Mlp(dim, mlp_dim)

    def branches(self) -> tuple[nn.Module, ...]:
        return self.cross, self.mlp_a, self.mlp_b

    def forward(
        self, a: Tensor, b: Tensor, mask_a: Tensor | None = None, mask_b: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        update_a, update_b = self.cross(a, b, mask_a=mask_a, mask_b=mask_b)
        a, b = a + update_a, b + update_b
        return a + self.mlp_a(a), b + self.mlp_b(b)


class Capture(Model):
    """Separate encoders, cross layers, joint encoder, heads."""

    validity = ("video_valid", "current_valid")

    def __init__(self, config: CaptureConfig) -> None:
        super().__init__(modality="both", dense=config.dense_task)
        self.config = config
        self.use_validity = config.use_validity
        grid = self.grid = patch_grid(config.num_frames, config.size, PATCH, what="capture")
        t, h, w = grid
        self.visual_length = 1 + t * h * w
        layer = (config.dim, config.heads, config.mlp_dim)
        self.tubelet_tokens = TubeletTokens(grid, config.dim, config.init_std)
        self.current_tokens = CurrentSequence(config.current_length, config.dim, init_std=config.init_std)
        self.visual_blocks = Encoder(*(PreNormBlock(*layer) for _ in range(config.depth)))
        self.current_blocks = Encoder(*(PreNormBlock(*layer) for _ in range(config.depth)))
        self.cross_layers = nn.ModuleList(CrossLayer(*layer) for _ in range(config.cross_depth))
        self.position = learned(
            1, self.visual_length + 1 + config.current_length, config.dim, std=config.init_std
        )
        self.joint_blocks = Encoder(*(PreNormBlock(*layer) for _ in range(config.joint_depth)))
        self.head = nn.Sequential(
            nn.Linear(2 * config.dim, config.dim), nn.Dropout(config.dropout), nn.Linear(config.dim, 2)
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

        video_valid (B, T), current_valid (B, Tc) bool: tubelets with a frame, and time steps, that are False have no
        influence.
        """
        config = self.config
        video = needed(video, (3, config.num_frames, *config.size), what="capture: video")
        current = needed(current, (config.current_length, 3), what="capture: current")
        tubelets = self.input_norm.video(patchify(video, PATCH))
        steps, visual = 1 + config.current_length, self.visual_length
        keep_v = kept([None, frames_kept(video_valid, self.grid)], (1, visual - 1), video)
        keep_c = kept([None, current_valid], (1, steps - 1), video)
        mask_v, mask_c = key_mask(keep_v), key_mask(keep_c)
        v, c = self.separate(tubelets, self.input_norm.current(current), mask_v, mask_c)
        aux = {"visual_feature": v[:, 0], "current_feature": c[:, 0]} if config.contrastive else {}
        for layer in self.cross_layers:
            v, c = layer(v, c, mask_v, mask_c)
        joint = key_mask(kept([keep_v, keep_c], (visual, steps), video))
        tokens = self.joint_blocks(torch.cat([v, c], 1) + self.position, joint)
        first = torch.cat([tokens[:, 0], tokens[:, visual]], 1)
        places = tokens[:, 1:visual] if keep_v is None else tokens[:, 1:visual] * keep_v[:, 1:, None]
        dense = None if self.decoder is None else self.decoder(places)
        return Output(self.head(first), dense, aux)

    def separate(
        self, tubelets: Tensor, current: Tensor, mask_v: Tensor | None = None, mask_c: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Normalised tubelets (b, n, 384) and current (b, Tc, 3) -> (b, 1 + n, dim), (b, 1 + Tc, dim).

        Each stream by itself, class tokens first.
        """
        visual = self.visual_blocks(self.tubelet_tokens(tubelets), mask_v)
        return visual, self.current_blocks(self.current_tokens(current), mask_c)

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        terms = super().objective(output, batch, alpha)
        if not self.config.contrastive:
            return terms
        features = output.aux["visual_feature"], output.aux["current_feature"]
        contrastive = nt_xent(*features, self.config.temperature)
        loss = terms["loss"] + self.config.contrastive * contrastive
        return {**terms, "loss": loss, "contrastive_loss": contrastive}


REGISTRATION = Registration(
    name="capture",
    title="CAPTURE",
    modality="both",
    dense=True,
    config=CaptureConfig,
    build=Capture,
    tiny={**TINY_CLIP, **TINY_CURRENT, **TINY_ENCODER, **TINY_DECODER, "cross_depth": 1, "joint_depth": 1},
    presets={
        "nano": {
            "dim": 48,
            "depth": 1,
            "cross_depth": 1,
            "joint_depth": 1,
            "mlp_dim": 96,
            "decoder_channels": [48, 32, 16],
        },
        "contrastive": {"contrastive": 0.1},
    },
    source="Zhan et al., ICCV 2021, arXiv 2107.14572; zhanxlin/Product1M",
    provenance={
        "separate, cross and joint stages, joint positions": "zhanxlin/Product1M",
        "content plus box, LayerNorm": "zhanxlin/Product1M",
        "both first tokens, Linear, dropout 0.1, Linear": "zhanxlin/Product1M",
        "contrastive term, temperature 0.07 (option)": "zhanxlin/Product1M",
        "no contrastive term by default, class tokens as its features": "choice",
        "2x8x8 tubelets in place of regions, time in the box vector": "choice",
        "current in place of words": "FmFormer paper",
        "cross-attention of full width, pre-norm blocks": "choice (FmFormer's)",
        "3 layers a stage, width 96, 3 heads, MLP 384": "choice (FmFormer's)",
        "dense head": "FmFormer paper",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
