"""Models of normal frames: how far each place of a frame is from what normal frames show there.

What such a model is made of: `learn` takes normal frames, `residual` says how far a frame is from them on a grid, and
this base makes a map of the frame's size of it, a score, and thresholds from normal validation samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.anomaly_map import anomaly_map
from fmfbench_models.parts.backbones import ResNet18, Trunk, Vgg19
from fmfbench_models.parts.blocks import InputNorm, needed

__all__ = ["FeatureConfig", "NormalityConfig", "NormalityModel", "TrunkFeatures", "evenly"]

STRIDE = 4  # pixels of the frame per place of the feature grid, as ST-MAE has it


@dataclass(frozen=True, kw_only=True)
class NormalityConfig:
    """Settings of Normality.

    size (H, W): of the frames, of which the clip's last is judged. max_frames: normal frames that are learned at most,
    evenly spread over the training samples. sigma: of the smoothing, pixels. pixel_quantile, image_quantile: of normal
    validation samples, which the thresholds are.
    """

    size: tuple[int, int] = (64, 64)
    max_frames: int = 300
    sigma: float = 1.0
    pixel_quantile: float = 0.995
    image_quantile: float = 0.95

    def __post_init__(self) -> None:
        if self.max_frames < 1 or self.sigma < 0 or min(self.size) < 1:
            raise InputError(
                f"expected max_frames of at least 1, sigma of at least 0 and a size of at least 1 x 1, got "
                f"{self.max_frames}, {self.sigma} and {self.size}"
            )
        for name in ("pixel_quantile", "image_quantile"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: expected above 0 and below 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(NormalityConfig):
    """Which features are judged.

    trunk: whose features, all maps together on a grid at stride 4. trunk_blocks: of VGG-19's five, or stages of
    ResNet-18's four.
    """

    trunk: Literal["vgg19", "resnet18"] = "vgg19"
    trunk_blocks: int = 4


class NormalityModel(Model):
    """A map of the last frame, its highest value as the score, thresholds from normal samples."""

    log_pixel_threshold: Tensor
    log_image_threshold: Tensor
    needs_masks = False

    def __init__(self, config: NormalityConfig, *, raw_input: bool = False) -> None:
        super().__init__(modality="visual", dense=True, raw_input=raw_input)
        self.limits = config
        self.register_buffer("log_pixel_threshold", torch.zeros(()))
        self.register_buffer("log_image_threshold", torch.zeros(()))

    def learn(self, frames: Tensor) -> None:
        """Take what is normal from frames (n, 3, H, W) uint8, in the order of the training samples."""
        raise NotImplementedError

    def residual(self, frames: Tensor) -> Tensor:
        """Frames (b, 3, H, W), 0..255 -> how far each place is from normal, (b, h, w), at least 0."""
        raise NotImplementedError

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        """pixel_logits (0, log A - log tau) of the map A, logits (0, log max A - log tau_s); aux: `map`."""
        video = needed(video, (3, None, *self.limits.size), what="video")
        found = anomaly_map(self.residual(video[:, :, -1]), self.limits.size, self.limits.sigma)
        logs = found.clamp(min=torch.finfo(found.dtype).tiny).log()
        pixel, score = logs - self.log_pixel_threshold, logs.flatten(1).amax(1) - self.log_image_threshold
        return Output(
            torch.stack([torch.zeros_like(score), score], 1),
            torch.stack([torch.zeros_like(pixel), pixel], 1),
            {"map": found},
        )

    @torch.no_grad()
    def fit(self, data: FitData) -> None:
        """Learn the normal training frames, and thresholds from normal validation samples.

        From those learned where there are none. meta's provenance says which, under "thresholds".
        """
        self.eval()
        frames = evenly(normal_frames(data.train), self.limits.max_frames)
        if not frames:
            raise InputError("expected training samples that are not labelled abnormal, got none")
        self.learn(torch.stack(frames).to(self.device))
        origin = "train" if data.validation is None else "validation"
        checked = frames
        if data.validation is not None:
            checked = evenly(normal_frames(data.validation), self.limits.max_frames)
            if not checked:
                raise InputError("expected normal validation samples to set thresholds by, got none")
        maps = torch.cat(
            [
                anomaly_map(
                    self.residual(torch.stack(checked[at : at + 32]).to(self.device)),
                    self.limits.size,
                    self.limits.sigma,
                )
                for at in range(0, len(checked), 32)
            ]
        )
        self._set_thresholds(maps.double().cpu().numpy())
        if hasattr(self, "meta"):
            facts = {
                "samples": origin,
                "normal": len(checked),
                "learned": len(frames),
                "pixel": f"{self.limits.pixel_quantile} quantile of normal samples",
                "image": f"{self.limits.image_quantile} quantile of normal samples",
            }
            self.meta = replace(self.meta, provenance={**self.meta.provenance, "thresholds": facts})

    def _set_thresholds(self, maps: np.ndarray) -> None:
        tiny = float(np.finfo(np.float32).tiny)
        pixel = np.quantile(maps, self.limits.pixel_quantile)
        image = np.quantile(maps.reshape(len(maps), -1).max(1), self.limits.image_quantile)
        self.log_pixel_threshold.fill_(float(np.log(max(pixel, tiny))))
        self.log_image_threshold.fill_(float(np.log(max(image, tiny))))


class TrunkFeatures(NormalityModel):
    """A normality model over the features of a frozen trunk: random weights unless published ones are loaded."""

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self.input_norm = InputNorm(imagenet=True)
        self.backbone: Trunk = (
            Vgg19(config.trunk_blocks) if config.trunk == "vgg19" else ResNet18(config.trunk_blocks)
        )
        self.backbone.freeze()
        self.grid = tuple(-(-side // STRIDE) for side in config.size)

    @property
    def width(self) -> int:
        """Features of a place."""
        return sum(self.backbone.channels)

    def maps(self, frames: Tensor) -> Tensor:
        """Frames (b, 3, H, W) -> all maps of the trunk on one grid, (b, width, h, w)."""
        scaled = self.input_norm.video(frames).contiguous(memory_format=torch.channels_last)
        found = self.backbone(scaled)
        parts = found if isinstance(found, tuple) else (found,)
        return torch.cat(
            [F.interpolate(one, self.grid, mode="bilinear", align_corners=False) for one in parts], 1
        )

    def places(self, frames: Tensor) -> Tensor:
        """The features of each place of the grid, (b, h * w, width)."""
        return self.maps(frames).flatten(2).transpose(1, 2)

    def all_places(self, frames: Tensor) -> Tensor:
        """The same of many frames, a few at a time."""
        return torch.cat([self.places(part) for part in frames.split(16)])


def normal_frames(batches: Iterable[Batch]) -> Iterator[Tensor]:
    """The last frame of each sample that is not labelled abnormal, (3, H, W) uint8."""
    for batch in batches:
        yield from batch["video"][batch["class_label"] != 1][:, :, -1].cpu()


def evenly(items: Iterable[Tensor], most: int) -> list[Tensor]:
    """At most `most` of the items, every k-th with the smallest power of two k that does.

    Never more than twice as many are held.
    """
    kept: list[Tensor] = []
    step = 1
    for number, item in enumerate(items):
        if number % step == 0:
            kept.append(item.clone())
        if len(kept) > most:
            kept, step = kept[::2], 2 * step
    return kept
