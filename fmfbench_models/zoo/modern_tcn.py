"""ModernTCN: convolutions that look far along time, then along features, then across phases.

Luo, Wang, "ModernTCN: A Modern Pure Convolution Structure for General Time Series Analysis", ICLR 2024.

Each phase is cut into patches by a convolution of its own stride. A block is a depthwise convolution with a long kernel
(each feature of each phase alone), a feed-forward net over the features of each phase, and one over the phases of each
feature; all three in one residual step. Unlike TimesNet, whose periods are the batch's own, what it says of a window
does not depend on the windows beside it.

What differs from the original. One stage; the long kernel alone, without the short one beside it that the paper folds
into it after training. Sizes: kernel 25 patches of 8 values (about 50 s), width 32. Training: the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import needed
from fmfbench_models.recipe import TIME_SERIES_RECIPE, TIME_SERIES_RECIPE_WITHOUT
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "ModernTcn", "ModernTcnConfig"]

PHASES = 3


@dataclass(frozen=True, kw_only=True)
class ModernTcnConfig:
    """Settings of ModernTcn.

    current_length Tc: time steps at 2 Hz. patch, stride: of the patches, in time steps, a patch at most the whole
    window; the last value is repeated for what is missing at the end. kernel: of the depthwise convolutions, in
    patches, odd. ratio: of the feed-forward nets.
    """

    current_length: int = 440
    patch: int = 8
    stride: int = 4
    dim: int = 32
    depth: int = 3
    kernel: int = 25
    ratio: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.patch:
            raise InputError(
                f"modern_tcn: expected 1 <= stride <= patch, got stride {self.stride} and patch {self.patch}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"modern_tcn: kernel: expected an odd number, got {self.kernel}")

    @property
    def steps(self) -> int:
        """Time steps of a patch."""
        return min(self.patch, self.current_length)

    @property
    def patches(self) -> int:
        return -(-self.current_length // self.stride)


class Block(nn.Module):
    """(b, 3 * dim, patches) -> the same: along time, along features, across phases, and the residual."""

    def __init__(self, dim: int, kernel: int, ratio: int, dropout: float) -> None:
        super().__init__()
        wide = PHASES * dim
        self.along_time = nn.Conv1d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.feature_up = nn.Conv1d(wide, ratio * wide, 1, groups=PHASES)
        self.feature_down = nn.Conv1d(ratio * wide, wide, 1, groups=PHASES)
        self.phase_up = nn.Conv1d(wide, ratio * wide, 1, groups=dim)
        self.phase_down = nn.Conv1d(ratio * wide, wide, 1, groups=dim)
        self.dropout = nn.Dropout(dropout)
        self.dim = dim

    def branches(self) -> tuple[nn.Module, ...]:
        return (self.phase_down,)

    def forward(self, series: Tensor) -> Tensor:
        length = series.shape[2]
        hidden = self.norm(self.along_time(series).reshape(-1, self.dim, length))
        hidden = hidden.reshape(-1, PHASES * self.dim, length)
        hidden = self.dropout(self.feature_down(F.gelu(self.dropout(self.feature_up(hidden)))))
        by_feature = hidden.reshape(-1, PHASES, self.dim, length).transpose(1, 2).flatten(1, 2)
        by_feature = self.dropout(self.phase_down(F.gelu(self.dropout(self.phase_up(by_feature)))))
        return series + by_feature.reshape(-1, self.dim, PHASES, length).transpose(1, 2).flatten(1, 2)


class ModernTcn(Model):
    """Patches of each phase, blocks, head over all."""

    def __init__(self, config: ModernTcnConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        self.embed = nn.Conv1d(1, config.dim, config.steps, config.stride)
        self.norm = nn.BatchNorm1d(config.dim)
        self.blocks = nn.Sequential(
            *(Block(config.dim, config.kernel, config.ratio, config.dropout) for _ in range(config.depth))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(PHASES * config.dim * config.patches, 2)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (self.config.current_length, PHASES), what="modern_tcn: current")
        return Output(self.head(self.dropout(F.gelu(self.encode(current)).flatten(1))))

    def encode(self, current: Tensor) -> Tensor:
        """(b, Tc, 3) in A -> (b, 3 * dim, patches), the features of the first phase first."""
        series = self.input_norm.current(current).transpose(1, 2)
        length = (self.config.patches - 1) * self.config.stride + self.config.steps
        series = F.pad(series, (0, length - self.config.current_length), mode="replicate")
        patches = self.norm(self.embed(series.flatten(0, 1)[:, None]))
        return self.blocks(patches.reshape(-1, PHASES * self.config.dim, self.config.patches))


REGISTRATION = Registration(
    name="modern_tcn",
    title="ModernTCN",
    modality="current",
    dense=False,
    config=ModernTcnConfig,
    build=ModernTcn,
    tiny={"current_length": 32, "dim": 24, "depth": 1, "kernel": 5},
    presets={"nano": {"dim": 16, "depth": 2}},
    original_recipe=TIME_SERIES_RECIPE,
    original_recipe_without=TIME_SERIES_RECIPE_WITHOUT,
    source="after Luo, Wang, ICLR 2024; not compared with the authors' code",
    provenance={
        "patches by a strided convolution, depthwise convolution, nets over features and over phases": "paper (idea)",
        "the long kernel alone, one stage": "choice",
        "patch 8, stride 4, kernel 25, width 32, depth 3": "choice",
        "class head over all patches": "thuml/Time-Series-Library",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
