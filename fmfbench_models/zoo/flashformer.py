"""Flashformer: a plain Transformer encoder over the three-phase current.

Dao, Fu, Ermon, Rudra, Re, "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness",
NeurIPS 2022; the name is that of github.com/thuml/iTransformer, where it is the vanilla Transformer of Vaswani
et al. 2017 with a tiled softmax.

Tiling changes the order of a sum, not the sum: this is exact softmax attention, computed by whichever kernel
torch chooses. Its distance to Informer and Flowformer is therefore that of full attention to theirs.

What differs from the original. Classification: the source only forecasts; the head (GELU, dropout, all tokens
flattened, one Linear) is that of thuml/Time-Series-Library, whose unused decoder and time stamps are left out.
Sizes: FmFormer's (width 96, 6 layers, 3 heads) instead of 512, 2 and 8, so that the four current-only baselines
differ in their attention alone. Training: the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import PostNormBlock, SeriesEmbedding, SeriesHead, needed
from fmfbench_models.recipe import TIME_SERIES_RECIPE, TIME_SERIES_RECIPE_WITHOUT
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Flashformer", "FlashformerConfig"]


@dataclass(frozen=True, kw_only=True)
class FlashformerConfig:
    """current_length Tc: time steps at 2 Hz; the head has weights of its own for each."""

    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    dropout: float = 0.1


class Flashformer(Model):
    """Embedding, encoder, head. No dropout inside the attention, as in the source."""

    def __init__(self, config: FlashformerConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        self.embed = SeriesEmbedding(config.current_length, config.dim, config.dropout)
        self.blocks = nn.Sequential(
            *(
                PostNormBlock(config.dim, config.heads, config.mlp_dim, config.dropout)
                for _ in range(config.depth)
            )
        )
        self.head = SeriesHead(config.current_length, config.dim, config.dropout)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (self.config.current_length, 3), what="flashformer: current")
        return Output(self.head(self.blocks(self.embed(self.input_norm.current(current)))))


REGISTRATION = Registration(
    name="flashformer",
    title="Flashformer",
    modality="current",
    dense=False,
    config=FlashformerConfig,
    build=Flashformer,
    tiny={"current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48},
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    original_recipe=TIME_SERIES_RECIPE,
    original_recipe_without=TIME_SERIES_RECIPE_WITHOUT,
    source="Dao et al., NeurIPS 2022; thuml/iTransformer",
    provenance={
        "exact attention": "paper",
        "embedding, encoder, no dropout inside the attention": "thuml/iTransformer",
        "class head": "thuml/Time-Series-Library",
        "width 96, depth 6, 3 heads, MLP 384": "choice (FmFormer's)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
