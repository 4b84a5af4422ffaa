"""Informer: ProbSparse attention over the three-phase current.

Zhou, Zhang, Peng, Zhang, Li, Xiong, Zhang, "Informer: Beyond Efficient Transformer for Long Sequence Time-Series
Forecasting", AAAI 2021, arXiv 2012.07436; github.com/zhouhaoyi/Informer2020.

Most rows of an attention matrix are nearly uniform. Informer finds those that are not from a sample of keys,
attends with them, and gives all other queries the mean of the values.

What differs from the original. Classification: the head (GELU, dropout, all tokens flattened, one Linear) is that
of thuml/Time-Series-Library; decoder and time stamps, which it never uses, are left out, and so is distilling,
which is an option here. Sizes: FmFormer's (width 96, 6 layers, 3 heads) instead of 512, 2 and 8. The sample of
keys is drawn anew at each step of training, but fixed in evaluation, so that a model gives the same answer twice.
The sampled products are read from the whole product Q K^T: at 440 time steps that costs less than gathering 35 keys
for each query. Training: the shared recipe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import PostNormBlock, SeriesEmbedding, SeriesHead, needed
from fmfbench_models.recipe import TIME_SERIES_RECIPE, TIME_SERIES_RECIPE_WITHOUT
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Informer", "InformerConfig"]


@dataclass(frozen=True, kw_only=True)
class InformerConfig:
    """Settings of Informer.

    current_length Tc: time steps at 2 Hz; the head has weights of its own for each. factor: c of the paper. distil:
    halve the sequence after every layer but the last. sample_seed: of the keys sampled in evaluation.
    """

    current_length: int = 440
    dim: int = 96
    depth: int = 6
    heads: int = 3
    mlp_dim: int = 384
    dropout: float = 0.1
    factor: int = 5
    distil: bool = False
    sample_seed: int = 0

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise InputError(f"informer: expected factor of 1 or more, got {self.factor}")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that each layer sees: all of them, or halved (rounded up) from layer to layer."""
        lengths = [self.current_length]
        for _ in range(self.depth - 1):
            lengths.append((lengths[-1] + 1) // 2 if self.distil else lengths[-1])
        return tuple(lengths)


def sample_size(length: int, factor: int) -> int:
    """min(c ceil(ln L), L): keys sampled for a query, and queries kept."""
    return min(factor * math.ceil(math.log(length)), length)


@lru_cache(maxsize=64)
def sampled_keys(queries: int, keys: int, count: int, seed: int) -> Tensor:
    """(queries, count) indices of keys, with replacement, as at a step of training; the same for the same seed.

    Drawn once: in a traced graph they are a constant, as generators have no form there.
    """
    return torch.randint(keys, (queries, count), generator=torch.Generator().manual_seed(seed))


def prob_sparse_attention(q: Tensor, k: Tensor, v: Tensor, index: Tensor, kept: int) -> Tensor:
    """q (b, h, n, d), k and v (b, h, m, d), index (n, U) of the sampled keys -> (b, h, n, d).

    Sparsity (eq. 4, as released): the largest sampled product less the sampled sum over m, not over U. The
    `kept` queries that have most of it attend exactly, the others get the mean of v.
    """
    scores = q @ k.transpose(-1, -2)
    sampled = scores.gather(-1, index.expand_as(scores[..., : index.shape[1]]))
    sparsity = sampled.amax(-1) - sampled.sum(-1) / int(k.shape[2])
    top = sparsity.topk(kept, dim=-1).indices[..., None]
    rows = scores.gather(2, top.expand(-1, -1, -1, k.shape[2])) / math.sqrt(q.shape[-1])
    mean = v.mean(2, keepdim=True).expand(-1, -1, q.shape[2], -1)
    attended = rows.softmax(-1) @ v
    return mean.scatter(2, top.expand(-1, -1, -1, v.shape[3]), attended.to(mean.dtype))


class ProbSparse(nn.Module):
    """The attention of one layer: its factor, and the seed of its keys in evaluation."""

    def __init__(self, factor: int, seed: int) -> None:
        super().__init__()
        self.factor, self.seed = factor, seed

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys = int(q.shape[2]), int(k.shape[2])  # a tracer gives tensors
        count = sample_size(keys, self.factor)
        if self.training:
            index = torch.randint(keys, (queries, count), device=q.device)
        else:
            index = sampled_keys(queries, keys, count, self.seed).to(q.device)
        return prob_sparse_attention(q, k, v, index, sample_size(queries, self.factor))


class Distilling(nn.Module):
    """(b, n, dim) -> (b, ceil(n / 2), dim): circular convolution, batch norm, ELU, maximum of three (eq. 5)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = F.elu(self.norm(self.conv(tokens.transpose(1, 2))))
        return F.max_pool1d(hidden, 3, stride=2, padding=1).transpose(1, 2)


class Informer(Model):
    """Embedding, encoder, head. No dropout inside the attention, as in the released code."""

    def __init__(self, config: InformerConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        self.embed = SeriesEmbedding(config.current_length, config.dim, config.dropout)
        steps: list[nn.Module] = []
        for layer in range(config.depth):
            if layer and config.distil:
                steps.append(Distilling(config.dim))
            mix = ProbSparse(config.factor, config.sample_seed + layer)
            steps.append(PostNormBlock(config.dim, config.heads, config.mlp_dim, config.dropout, mix))
        self.blocks = nn.Sequential(*steps)
        self.head = SeriesHead(config.lengths[-1], config.dim, config.dropout)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (self.config.current_length, 3), what="informer: current")
        return Output(self.head(self.blocks(self.embed(self.input_norm.current(current)))))


REGISTRATION = Registration(
    name="informer",
    title="Informer",
    modality="current",
    dense=False,
    config=InformerConfig,
    build=Informer,
    tiny={"current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48},
    presets={"nano": {"dim": 48, "depth": 2, "mlp_dim": 96}},
    original_recipe=TIME_SERIES_RECIPE,
    original_recipe_without=TIME_SERIES_RECIPE_WITHOUT,
    source="Zhou et al., AAAI 2021, arXiv 2012.07436; zhouhaoyi/Informer2020, thuml/Time-Series-Library",
    provenance={
        "ProbSparse attention, factor 5": "zhouhaoyi/Informer2020",
        "embedding, encoder, class head, no distilling": "thuml/Time-Series-Library",
        "distilling (option)": "zhouhaoyi/Informer2020",
        "keys fixed in evaluation": "choice",
        "width 96, depth 6, 3 heads, MLP 384, dropout 0.1": "choice (FmFormer's; dropout Time-Series-Library's)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
