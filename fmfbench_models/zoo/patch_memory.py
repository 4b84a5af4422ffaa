"""Patch memory: the distance of each place's features to the nearest ones of normal frames, wherever these were.

After PatchCore (Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler, "Towards Total Recall in Industrial Anomaly Detection",
CVPR 2022, arXiv 2106.08265): features averaged over their neighbourhood, a memory of normal ones thinned by a greedy
coreset, the nearest neighbour's distance as anomaly map.

What differs from the original. The features are those of ST-MAE's trunk at stride 4; the image score is the highest
value of the smoothed map, without the paper's reweighting by the neighbour's own neighbourhood; the memory has a fixed
size in the place of a share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.parts.normality import FeatureConfig, TrunkFeatures
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "PatchMemory", "PatchMemoryConfig", "greedy_coreset"]

PROJECTED = 64  # features among which the coreset is chosen, as in the paper's approximation


@dataclass(frozen=True, kw_only=True)
class PatchMemoryConfig(FeatureConfig):
    """Settings of PatchMemory.

    memory: places kept. neighbourhood: of the average over features, in places, odd. seed: of the random projection.
    See `FeatureConfig`.
    """

    memory: int = 2000
    neighbourhood: int = 3
    seed: int = 0
    max_frames: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < 1 or self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise InputError(
                f"patch_memory: expected memory of at least 1 and an odd neighbourhood, got {self.memory} and "
                f"{self.neighbourhood}"
            )


class PatchMemory(TrunkFeatures):
    """Features of normal places, and how far the nearest one is."""

    fitted_buffers = ("memory",)
    memory: Tensor

    def __init__(self, config: PatchMemoryConfig) -> None:
        super().__init__(config)
        self.config = config
        self.register_buffer("memory", torch.zeros(1, self.width))

    def learn(self, frames: Tensor) -> None:
        places = self.all_places(frames).flatten(0, 1)
        generator = torch.Generator().manual_seed(self.config.seed)
        projection = torch.randn(self.width, min(PROJECTED, self.width), generator=generator).to(places)
        chosen = greedy_coreset(places @ projection / projection.shape[1] ** 0.5, self.config.memory)
        self.memory = places[chosen].contiguous()

    def residual(self, frames: Tensor) -> Tensor:
        places = self.places(frames)
        # less the place's own
        squares = self.memory.square().sum(1) - 2 * places @ self.memory.transpose(0, 1)
        # the products tell which is nearest; so near to one another their differences are inexact as distances
        nearest = self.memory[squares.argmin(2)]
        return (places - nearest).square().sum(2).sqrt().reshape(-1, *self.grid)

    def maps(self, frames: Tensor) -> Tensor:
        """The trunk's, each place averaged with its neighbourhood."""
        size = self.config.neighbourhood
        return F.avg_pool2d(super().maps(frames), size, 1, size // 2, count_include_pad=False)


def greedy_coreset(points: Tensor, count: int) -> Tensor:
    """Places of at most `count` of the points (n, d), each the one farthest from those chosen before.

    The first is the point nearest to the mean. Fewer where the others are copies of chosen ones.
    """
    distance = (points - points.mean(0)).square().sum(1)
    chosen = [int(distance.argmin())]
    distance = (points - points[chosen[0]]).square().sum(1)
    while len(chosen) < min(count, len(points)):
        farthest = int(distance.argmax())
        if distance[farthest] <= 0:
            break
        chosen.append(farthest)
        distance = torch.minimum(distance, (points - points[farthest]).square().sum(1))
    return torch.tensor(chosen, device=points.device)


REGISTRATION = Registration(
    name="patch_memory",
    title="Patch memory",
    modality="visual",
    dense=True,
    config=PatchMemoryConfig,
    build=PatchMemory,
    tiny={"size": [16, 24], "trunk_blocks": 2, "memory": 40},
    training="fitted",
    recipe={"normal_only": True},
    source="after PatchCore: Roth et al., CVPR 2022, arXiv 2106.08265",
    provenance={
        "features averaged over 3x3 places, greedy coreset on a random projection, nearest neighbour": "paper",
        "image score: highest value of the map, without reweighting": "choice",
        "a memory of 2,000 places from 200 frames (the paper: 1 to 25 % of all)": "choice",
        "features of ST-MAE's trunk at stride 4, last frame, sigma 1": "choice",
        "trunk weights: random unless published ones are loaded": "choice",
        "pixel threshold: .995, image threshold: .95 quantile of normal validation": "choice",
    },
)
