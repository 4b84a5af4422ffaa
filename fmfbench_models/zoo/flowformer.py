"""Flowformer: linear attention from flow conservation, over the three-phase current.

Wu, Wu, Xu, Wang, Long, "Flowformer: Linearizing Transformers with Conservation Flows", ICML 2022,
arXiv 2202.06258; github.com/thuml/Flowformer.

Attention is a flow from sources (values) to sinks (results) of capacity phi(q_i) . phi(k_j). Fixing what each sink
takes in makes the sources compete for it; fixing what each source gives out shares it among the sinks.

What differs from the original. Which of its versions: the time-series one, whose competition is not clamped to
[-1, 1] (about half of all sources lie above 1, so the clamp of the core file matters; `clamp` gives it).
Classification: the head (GELU, dropout, all tokens flattened, one Linear) is common to thuml/Flowformer and
thuml/Time-Series-Library. Embedding: Informer's, as in thuml/iTransformer, so that the four current-only baselines
differ in their attention alone; `embedding="linear"` is that of thuml/Flowformer. Sizes: FmFormer's (width 96, 6
layers, 3 heads) instead of 512, 3 and 8. Training: the shared recipe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import PostNormBlock, SeriesEmbedding, SeriesHead, needed
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Flowformer", "FlowformerConfig"]

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class FlowformerConfig:
    """Settings of Flowformer.

    current_length Tc: time steps at 2 Hz; the head has weights of its own for each. embedding: "conv" over three time
    steps with fixed sinusoids, or "linear" with learnable positions.
    """

    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    dropout: float = 0.1
    embedding: Literal["conv", "linear"] = "conv"
    clamp: bool = False


def flow_attention(q: Tensor, k: Tensor, v: Tensor, *, clamp: bool = False, eps: float = EPS) -> Tensor:
    """Sinks q (..., n, d), sources k (..., m, d), values v (..., m, e) -> (..., n, e), in O((n + m) d e).

    eps: added to both factors of each product that is divided by, and of those made with it, as released.
    """
    sinks, sources = q.shape[-2], k.shape[-2]
    q, k = q.sigmoid(), k.sigmoid()
    incoming = flow(q, k, eps)  # I (..., n, 1)
    outgoing = flow(k, q, eps)  # O (..., m, 1)
    conserved_incoming = flow(q, k / outgoing, eps)  # each source gives out 1
    conserved_outgoing = flow(k, q / incoming, eps)  # each sink takes in 1
    if clamp:
        conserved_outgoing = conserved_outgoing.clamp(-1.0, 1.0)
    competition = sources * conserved_outgoing.softmax(-2)
    allocation = torch.sigmoid(conserved_incoming * sinks / sources)
    return allocation * ((q / incoming) @ (k.transpose(-1, -2) @ (competition * v)))


def flow(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """What each row of a (..., n, d) exchanges with all rows of b (..., m, d): (..., n, 1)."""
    return (a + eps) @ (b.sum(-2, keepdim=True) + eps).transpose(-1, -2)


class FlowAttention(nn.Module):
    def __init__(self, clamp: bool) -> None:
        super().__init__()
        self.clamp = clamp

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flow_attention(q, k, v, clamp=self.clamp)


class LinearEmbedding(nn.Module):
    """(b, n, 3) -> (b, n, dim): Linear times sqrt(dim), and learnable positions."""

    def __init__(self, length: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(3, dim)
        self.position = nn.Parameter(torch.empty(1, length, dim).uniform_(-0.02, 0.02))
        self.dropout = nn.Dropout(dropout)

    def forward(self, series: Tensor) -> Tensor:
        scale = math.sqrt(self.linear.out_features)
        return self.dropout(self.linear(series) * scale + self.position)


class Flowformer(Model):
    """Embedding, encoder, head."""

    def __init__(self, config: FlowformerConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        embedding = SeriesEmbedding if config.embedding == "conv" else LinearEmbedding
        self.embed = embedding(config.current_length, config.dim, config.dropout)
        self.blocks = nn.Sequential(
            *(
                PostNormBlock(
                    config.dim, config.heads, config.mlp_dim, config.dropout, FlowAttention(config.clamp)
                )
                for _ in range(config.depth)
            )
        )
        self.head = SeriesHead(config.current_length, config.dim, config.dropout)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (self.config.current_length, 3), what="flowformer: current")
        return Output(self.head(self.blocks(self.embed(self.input_norm.current(current)))))


REGISTRATION = Registration(
    name="flowformer",
    title="Flowformer",
    modality="current",
    dense=False,
    config=FlowformerConfig,
    build=Flowformer,
    tiny={"current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48},
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    original_recipe={
        "optimiser": "radam",
        "lr": 1e-3,
        "lr_steps": [],
        "weight_decay": 0.0,
        "epochs": 100,
        "batch_size": 16,
    },
    source="Wu et al., ICML 2022, arXiv 2202.06258; thuml/Flowformer, thuml/iTransformer",
    provenance={
        "flow attention": "paper",
        "no clamp, eps": "thuml/Flowformer (time-series version)",
        "embedding, encoder": "thuml/iTransformer",
        "linear embedding (option)": "thuml/Flowformer",
        "class head": "thuml/Flowformer, thuml/Time-Series-Library",
        "width 96, depth 6, 3 heads, MLP 384, dropout 0.1": "choice (FmFormer's; dropout Time-Series-Library's)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
