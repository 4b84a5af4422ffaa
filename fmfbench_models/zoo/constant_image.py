"""Constant image: how far a frame is from the mean normal frame. The floor of all that learns from normal frames.

Nothing is learned but one picture: the mean of normal frames, and how much each pixel varies about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fmfbench_models.parts.normality import NormalityConfig, NormalityModel
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "ConstantImage", "ConstantImageConfig"]


@dataclass(frozen=True, kw_only=True)
class ConstantImageConfig(NormalityConfig):
    """scaled: a pixel's distance in units of its own deviation over normal frames. See `NormalityConfig`."""

    scaled: bool = False
    max_frames: int = 2000


class ConstantImage(NormalityModel):
    """The mean normal frame, and the root mean square distance of each pixel from it."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ConstantImageConfig) -> None:
        super().__init__(config, raw_input=True)
        self.config = config
        self.register_buffer("mean", torch.zeros(3, *config.size))
        self.register_buffer("deviation", torch.ones(config.size))

    def learn(self, frames: Tensor) -> None:
        values = frames.double()
        mean = values.mean(0)
        deviation = (values - mean).square().sum(1).mean(0).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=1.0))  # a level of brightness

    def residual(self, frames: Tensor) -> Tensor:
        distance = (self.input_norm.video(frames) - self.mean).square().sum(1).sqrt()
        return distance / self.deviation if self.config.scaled else distance


REGISTRATION = Registration(
    name="constant_image",
    title="Constant image",
    modality="visual",
    dense=True,
    config=ConstantImageConfig,
    build=ConstantImage,
    tiny={"size": [16, 24]},
    training="fitted",
    recipe={"normal_only": True},
    source="none: the trivial baseline of models that learn from normal frames",
    provenance={
        "distance of each pixel from the mean normal frame, smoothed; highest value as image score": "choice",
        "pixel threshold: .995, image threshold: .95 quantile of normal validation": "choice",
    },
)
