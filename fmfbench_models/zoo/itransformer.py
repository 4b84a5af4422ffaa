"""iTransformer: attention between the three phases, each a token.

Liu, Hu, Zhang, Wu, Wang, Ma, Long, "iTransformer: Inverted Transformers Are Effective for Time Series
Forecasting", ICLR 2024, arXiv 2310.06625; github.com/thuml/iTransformer.

A phase's whole series goes through one linear map and becomes one token, so that attention relates phases, not
time steps. There are no positions: the encoder does not know which phase is which, only the head does.

What differs from the original. Classification, as in thuml/Time-Series-Library: its head (GELU, dropout, all
tokens flattened, one Linear) and no normalisation of each series, which the forecasting path has. Sizes:
FmFormer's (width 96, 6 layers, 3 heads) instead of 512, 2 and 8. Training: the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import PostNormBlock, SeriesHead, needed
from fmfbench_models.recipe import TIME_SERIES_RECIPE, TIME_SERIES_RECIPE_WITHOUT
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "ITransformer", "ITransformerConfig"]

PHASES = 3


@dataclass(frozen=True, kw_only=True)
class ITransformerConfig:
    """current_length Tc: time steps at 2 Hz; the embedding has weights of its own for each."""

    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    dropout: float = 0.1


class ITransformer(Model):
    """Embedding of whole series, encoder over phases, head."""

    def __init__(self, config: ITransformerConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        self.embed = nn.Linear(config.current_length, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(
            *(
                PostNormBlock(config.dim, config.heads, config.mlp_dim, config.dropout)
                for _ in range(config.depth)
            )
        )
        self.head = SeriesHead(PHASES, config.dim, config.dropout)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (self.config.current_length, PHASES), what="itransformer: current")
        return Output(self.head(self.encode(current)))

    def encode(self, current: Tensor) -> Tensor:
        """(b, Tc, 3) in A -> one token a phase (b, 3, dim), before the final LayerNorm."""
        series = self.input_norm.current(current).transpose(1, 2)
        return self.blocks(self.dropout(self.embed(series)))


REGISTRATION = Registration(
    name="itransformer",
    title="iTransformer",
    modality="current",
    dense=False,
    config=ITransformerConfig,
    build=ITransformer,
    tiny={"current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48},
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    original_recipe=TIME_SERIES_RECIPE,
    original_recipe_without=TIME_SERIES_RECIPE_WITHOUT,
    source="Liu et al., ICLR 2024, arXiv 2310.06625; thuml/iTransformer, thuml/Time-Series-Library",
    provenance={
        "one token a phase, no positions, encoder": "paper",
        "class head, no normalisation of each series": "thuml/Time-Series-Library",
        "width 96, depth 6, 3 heads, MLP 384, dropout 0.1": "choice (FmFormer's; dropout Time-Series-Library's)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
