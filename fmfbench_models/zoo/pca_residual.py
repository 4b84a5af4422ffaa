"""PCA residual: what of a place's features normal frames cannot explain, each place on its own.

After PaDiM (Defard, Setkov, Loesch, Audigier, "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
Localization", ICPR Workshops 2020, arXiv 2011.08785), which keeps a Gaussian of features for every place and takes the
Mahalanobis distance. Here every place keeps the mean and the first principal components of its features over normal
frames, and the distance is what is left outside them, in units of what is left of normal frames: the part of the
Mahalanobis distance that tells of what was never seen, without a covariance of more features than there are frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fmfbench.errors import InputError
from fmfbench_models.parts.normality import FeatureConfig, TrunkFeatures
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "PcaResidual", "PcaResidualConfig"]


@dataclass(frozen=True, kw_only=True)
class PcaResidualConfig(FeatureConfig):
    """components: of each place, at most half as many as frames were learned. See `FeatureConfig`."""

    components: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components < 0:
            raise InputError(f"pca_residual: components: expected 0 or more, got {self.components}")


class PcaResidual(TrunkFeatures):
    """Mean, components and scale of every place."""

    fitted_buffers = ("axes",)
    mean: Tensor
    axes: Tensor
    scale: Tensor

    def __init__(self, config: PcaResidualConfig) -> None:
        super().__init__(config)
        self.config = config
        places = self.grid[0] * self.grid[1]
        self.register_buffer("mean", torch.zeros(places, self.width))
        self.register_buffer("axes", torch.zeros(places, 0, self.width))
        self.register_buffer("scale", torch.ones(places))

    def learn(self, frames: Tensor) -> None:
        values = self.all_places(frames).transpose(0, 1)  # places, frames, features
        count = min(self.config.components, values.shape[1] // 2)
        mean = values.mean(1)
        centred = values - mean[:, None]
        # of few frames with many features, the frames' own products give the same components for less
        strength, coordinates = torch.linalg.eigh((centred @ centred.transpose(1, 2)).double())
        first = strength.shape[1] - count  # ascending: the strongest are the last
        lengths = strength[:, first:].clamp(min=1e-12).sqrt()
        axes = (coordinates[:, :, first:].transpose(1, 2) @ centred.double()) / lengths[:, :, None]
        axes = axes.to(values.dtype)
        self.mean.copy_(mean)
        self.axes = axes.contiguous()
        left = centred - (centred @ axes.transpose(1, 2)) @ axes
        self.scale.copy_(left.square().sum(2).mean(1).sqrt().clamp(min=1e-6))

    def residual(self, frames: Tensor) -> Tensor:
        centred = self.places(frames) - self.mean  # b, places, features
        along = torch.einsum("bpf,pkf->bpk", centred, self.axes)
        left = centred - torch.einsum("bpk,pkf->bpf", along, self.axes)
        return (left.square().sum(2).sqrt() / self.scale).reshape(-1, *self.grid)


REGISTRATION = Registration(
    name="pca_residual",
    title="PCA residual",
    modality="visual",
    dense=True,
    config=PcaResidualConfig,
    build=PcaResidual,
    tiny={"size": [16, 24], "trunk_blocks": 2, "components": 2},
    training="fitted",
    recipe={"normal_only": True},
    source="after PaDiM: Defard et al., ICPR Workshops 2020, arXiv 2011.08785",
    provenance={
        "a model of its own for every place of the trunk's features; distance as anomaly map": "paper",
        "residual of 16 principal components (the paper: Mahalanobis distance of 100 to 550 features)": "choice",
        "features of ST-MAE's trunk at stride 4, last frame, sigma 1": "choice",
        "trunk weights: random unless published ones are loaded": "choice",
        "pixel threshold: .995, image threshold: .95 quantile of normal validation": "choice",
    },
)
