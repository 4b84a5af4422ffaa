"""ST-MAE: anomalies are features of a frozen network that cannot be predicted from those around them.

It learns from normal images alone.

Yao, Wang, Yu, "Siamese Transition Masked Autoencoders as Uniform Unsupervised Visual Anomaly Detector". The features
of an image are cut into patches and split at random into two halves; one encoder sees each half on its own, the
encoded halves change places, and a decoder predicts all features from there. Where it fails, the image is abnormal.

What differs from the original. The default configuration is for frames of 64 x 64: the last frame of the clip, the
grid of features at stride 4 as in both of the paper's settings, 2 x 2 of its places a patch, width 96, smoothing with
sigma 1 (4 pixels of 256). The presets paper-nano, paper-tiny, paper-base and paper-large are Table II for images of 256
x 256; for 32 x 32 take size 32, patch 1, sigma 0.5. The trunk has random weights unless published ones are loaded into
`backbone`. Not said in the paper, and chosen: the split at test time (drawn once from `split_seed`; `splits` above 1
averages the maps of several), bilinear interpolation, learned positions, the thresholds of pixels and images.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.anomaly_map import anomaly_map, intensity, orientation, spread, youden_threshold
from fmfbench_models.parts.backbones import Vgg19
from fmfbench_models.parts.blocks import InputNorm, PreNormBlock, learned, needed, patch_grid
from fmfbench_models.registry import Registration

__all__ = [
    "REGISTRATION",
    "StMae",
    "StMaeConfig",
    "gather_halves",
    "scatter_halves",
    "to_features",
    "to_patches",
]

CHECKED = 256  # samples on which a training is held against the mean image
STRIDE = 4  # pixels of the image per place of the feature grid: 64 places for 256, 8 for 32


@dataclass(frozen=True, kw_only=True)
class StMaeConfig:
    """size (H, W): of the frames. frames: which of the clip are judged; "all" takes the mean of their maps.

    patch: places of the feature grid along each side of a patch (the paper's K). design: s_mae leaves out the
    transition, ae the split as well. trunk_blocks: of VGG-19. orientation_weight: lambda of eq. (8). sigma: of the
    smoothing, pixels. splits: how many at test time, drawn from split_seed. image_threshold: the quantile of normal
    validation scores, or Youden's, which needs abnormal validation labels too (train with normal_only=false; the
    objective leaves abnormal samples out). pixel_quantile, image_quantile: of normal validation.
    init_std: deviation of the positions at the start: at 1 the network does not see its input beside them.
    """

    size: tuple[int, int] = (64, 64)
    frames: Literal["last", "all"] = "last"
    patch: int = 2
    dim: int = 96
    depth: int = 6
    heads: int = 3
    decoder_dim: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3
    mlp_ratio: int = 4
    design: Literal["st_mae", "s_mae", "ae"] = "st_mae"
    trunk_blocks: int = 4
    orientation_weight: float = 5.0
    sigma: float = 1.0
    splits: int = 1
    split_seed: int = 0
    image_threshold: Literal["normal_quantile", "youden"] = "normal_quantile"
    pixel_quantile: float = 0.995
    image_quantile: float = 0.95
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("patch", "depth", "decoder_depth", "mlp_ratio", "splits", "heads", "decoder_heads"):
            if getattr(self, name) < 1:
                raise InputError(f"st_mae: {name}: expected 1 or more, got {getattr(self, name)}")
        for width, heads in (("dim", "heads"), ("decoder_dim", "decoder_heads")):
            if getattr(self, width) < 1 or getattr(self, width) % getattr(self, heads):
                raise InputError(
                    f"st_mae: {width}: expected a multiple of {heads} {getattr(self, heads)}, "
                    f"got {getattr(self, width)}"
                )
        for name in ("pixel_quantile", "image_quantile"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"st_mae: {name}: expected above 0 and below 1, got {getattr(self, name)}")
        if self.sigma < 0 or self.orientation_weight < 0:
            raise InputError(
                f"st_mae: expected sigma and orientation_weight of 0 or more, got {self.sigma} and "
                f"{self.orientation_weight}"
            )


class StMae(Model):
    """Frozen trunk, patches, one encoder for both halves, transition, decoder; then maps and scores."""

    splits: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    log_pixel_threshold: Tensor
    log_image_threshold: Tensor
    needs_masks = False

    def __init__(self, config: StMaeConfig) -> None:
        super().__init__(modality="visual", dense=True)
        self.config = config
        side = STRIDE * config.patch
        _, *self.grid = patch_grid(1, config.size, (1, side, side), what="st_mae")
        count = self.grid[0] * self.grid[1]
        if config.design != "ae" and count % 2:
            raise InputError(
                f"st_mae: expected an even number of patches, to be split in halves, got {self.grid[0]} x "
                f"{self.grid[1]}; choose another size or patch"
            )
        self.input_norm = InputNorm(imagenet=True)
        self.backbone = Vgg19(config.trunk_blocks)
        self.backbone.freeze()
        values = config.patch**2 * sum(self.backbone.channels)
        self.embed = nn.Linear(values, config.dim)
        self.position = learned(1, count, config.dim, std=config.init_std)
        self.norm = nn.LayerNorm(config.dim)
        self.encoder = blocks(config.depth, config.dim, config.heads, config.mlp_ratio)
        self.link = nn.Linear(config.dim, config.decoder_dim)
        self.decoder_position = learned(1, count, config.decoder_dim, std=config.init_std)
        self.decoder = blocks(
            config.decoder_depth, config.decoder_dim, config.decoder_heads, config.mlp_ratio
        )
        self.out = nn.Linear(config.decoder_dim, values)
        drawn = np.random.default_rng(config.split_seed).permuted(
            np.tile(np.arange(count), (config.splits, 1)), axis=1
        )
        # What the training images' features are at each place, and how far they lie from it: see `prepare`.
        self.register_buffer("feature_mean", torch.zeros(count, values))
        self.register_buffer("feature_scale", torch.ones(()))
        self.register_buffer("splits", torch.tensor(drawn.tolist(), dtype=torch.int64))
        self.register_buffer("log_pixel_threshold", torch.zeros(()))
        self.register_buffer("log_image_threshold", torch.zeros(()))

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        """aux: the two terms of the objective, and `map`, the anomaly map A, all of each sample.

        pixel_logits (0, log A - log tau), logits (0, log s - log tau_s), s being the standard deviation of A.
        """
        video = needed(video, (3, None, *self.config.size), what="st_mae: video")
        frames = video[:, :, -1:] if self.config.frames == "last" else video
        if not frames.shape[2]:
            raise InputError(f"st_mae: video: expected one frame or more, got {tuple(video.shape)}")
        judged = self.judge(frames.transpose(1, 2).flatten(0, 1))
        aux = {
            name: value.reshape(-1, int(frames.shape[2]), *value.shape[1:]).mean(1)
            for name, value in judged.items()
        }
        tiny = torch.finfo(aux["map"].dtype).tiny
        pixel = aux["map"].clamp(min=tiny).log() - self.log_pixel_threshold
        score = spread(aux["map"]).clamp(min=tiny).log() - self.log_image_threshold
        return Output(
            torch.stack([torch.zeros_like(score), score], 1),
            torch.stack([torch.zeros_like(pixel), pixel], 1),
            aux,
        )

    def judge(self, images: Tensor) -> dict[str, Tensor]:
        """Images (b, 3, H, W), 0..255 -> intensity (b,), orientation (b,), map (b, H, W).

        While training each image is split anew; otherwise by the model's own splits, over which it takes the mean.
        """
        return self.compare(self.patches(images))

    def compare(self, patches: Tensor) -> dict[str, Tensor]:
        """As `judge`, from patches (b, n, K K C) that `patches` gave."""
        places = to_features(patches, self.grid, self.config.patch)
        found: list[dict[str, Tensor]] = []
        for rebuilt in self._rebuilt(patches):
            with torch.autocast(patches.device.type, enabled=False):
                there = to_features(rebuilt, self.grid, self.config.patch)
                residual = intensity(there, places) * orientation(there, places)
                found.append(
                    {
                        **errors(rebuilt, patches),
                        "map": anomaly_map(residual, self.config.size, self.config.sigma),
                    }
                )
        return {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}

    def compare_to_learn(self, patches: Tensor) -> dict[str, Tensor]:
        """The two terms of the objective that `compare` gives, without the map, which learning has no use for."""
        (rebuilt,) = self._rebuilt(patches)
        with torch.autocast(patches.device.type, enabled=False):
            return errors(rebuilt, patches)

    def _rebuilt(self, patches: Tensor) -> Iterator[Tensor]:
        """Patches as predicted from each of the splits that `_orders` gives, in the patches' precision."""
        for order in self._orders(patches.shape[0], patches.device):
            yield self.rebuild(patches, order).to(patches.dtype)

    def patches(self, images: Tensor) -> Tensor:
        """The trunk's maps on one grid, all channels together (eqs. 1 and 2), as patches (b, n, K K C)."""
        height, width = (length // STRIDE for length in self.config.size)
        with torch.no_grad():
            scaled = self.input_norm.video(images)
            maps = self.backbone(scaled.contiguous(memory_format=torch.channels_last))  # faster
            resized = [
                F.interpolate(one, (height, width), mode="bilinear", align_corners=False) for one in maps
            ]
        return to_patches(torch.cat(resized, 1), self.config.patch).to(self.input_norm.like.dtype)

    def rebuild(self, patches: Tensor, order: Tensor) -> Tensor:
        """Patches (b, n, values) as predicted from their latents, of the same shape.

        The network sees and predicts how they differ from the mean image of training, in units of the mean difference.
        """
        tokens = self.embed((patches - self.feature_mean) / self.feature_scale) + self.position
        latents = self.link(self.latents(tokens, order)) + self.decoder_position
        return self.feature_mean + self.feature_scale * self.out(self.decoder(latents))

    def prepare(self, data: FitData) -> None:
        """Take the mean image and the scale of features from training samples that are not labelled abnormal."""
        self.prepare_from(self._normal_patches(data.train))

    @torch.no_grad()
    def prepare_from(self, patches: Tensor | Iterable[Tensor]) -> None:
        """The same from patches (b, n, values), or batches of them: their mean, and the root mean square about it."""
        count, total, squares = 0, torch.zeros_like(self.feature_mean, dtype=torch.float64), 0.0
        for part in [patches] if isinstance(patches, Tensor) else patches:
            own = part.double()
            count += len(own)
            total += own.sum(0)
            squares += float(own.square().sum())
        if not count:
            return
        mean = total / count
        variance = squares / (count * mean.numel()) - float(mean.square().mean())
        self.feature_mean.copy_(mean)
        self.feature_scale.fill_(variance**0.5 if variance > 0 else 1.0)

    @torch.no_grad()
    def constant_loss(self, patches: Tensor) -> tuple[float, float]:
        """(the model's objective, that of predicting the mean image of training), of patches (b, n, values).

        A model that does not lie below the second has learned nothing of the images that it is shown.
        """
        self.eval()
        rebuilt = self.rebuild(patches, self.splits[:1].expand(len(patches), -1))
        weight, losses = self.config.orientation_weight, []
        for guess in (rebuilt, self.feature_mean.expand_as(patches)):
            terms = errors(guess, patches)
            losses.append(float((terms["intensity"] + weight * terms["orientation"]).mean()))
        return losses[0], losses[1]

    @torch.no_grad()
    def _normal_patches(self, batches: Iterable[Batch], most: int | None = None) -> Iterator[Tensor]:
        """Patches of frames that are not labelled abnormal, of `most` samples at most."""
        self.eval()
        left = math.inf if most is None else most
        for batch in batches:
            video = batch["video"][batch["class_label"] != 1].to(self.device)
            video = video[: None if left == math.inf else int(left)]
            frames = video[:, :, -1:] if self.config.frames == "last" else video
            if len(frames):
                yield self.patches(frames.transpose(1, 2).flatten(0, 1))
            left -= len(video)
            if left <= 0:
                return

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Checkpoints of 0.1.0 have no mean image: 0, and a scale of 1, are what they mean."""
        for name in ("feature_mean", "feature_scale"):
            state_dict.setdefault(f"{prefix}{name}", getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def latents(self, tokens: Tensor, order: Tensor) -> Tensor:
        """Tokens (b, n, dim) encoded and reassembled, (b, n, dim).

        order (b, n): the first half of the places is one subset, the second half the other.

        With the transition, what stands at a place comes from the other subset alone.
        """
        tokens = self.norm(tokens)
        if self.config.design == "ae":
            return self.encoder(tokens)
        halves = gather_halves(tokens, order)
        halves = self.encoder(halves.flatten(0, 1)).reshape(halves.shape)
        return scatter_halves(halves.flip(1) if self.config.design == "st_mae" else halves, order)

    def _orders(self, count: int, device: torch.device) -> Iterable[Tensor]:
        if self.training:
            length = self.splits.shape[1]
            return [torch.rand(count, length, device=device).argsort(1)]
        return [order.expand(count, -1) for order in self.splits]

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        """Eq. (8), over the samples that are not labelled abnormal; alpha has no part in it."""
        terms = {name: output.aux[name] for name in ("intensity", "orientation")}
        if "class_label" in batch:
            weight = (batch["class_label"] != 1).to(terms["intensity"].dtype)
        else:
            weight = torch.ones_like(terms["intensity"])
        means = {name: (value * weight).sum() / weight.sum().clamp(min=1) for name, value in terms.items()}
        loss = means["intensity"] + self.config.orientation_weight * means["orientation"]
        return {"loss": loss, **means}

    def fit(self, data: FitData) -> None:
        """Set the thresholds from the validation split, or from the training samples where there is none.

        meta's provenance says which, under "thresholds".
        """
        origin = "train" if data.validation is None else "validation"
        judged_on = data.train if data.validation is None else data.validation
        parts = list(self._normal_patches(judged_on, CHECKED))
        constant: dict[str, Any] = {}
        if parts:
            own, mean = self.constant_loss(torch.cat(parts))
            constant = {"loss": own, "constant_loss": mean, "samples": origin}
            warn_if_constant(own, mean, "st_mae")
        maps, scores, labels = self._judged(data.train if data.validation is None else data.validation)
        normal = labels != 1
        if not normal.any():
            raise InputError(
                f"st_mae: expected normal {origin} samples to set thresholds by, got none among {len(labels)}"
            )
        config = self.config
        pixel = float(np.quantile(np.concatenate([own.ravel() for own in maps]), config.pixel_quantile))
        if config.image_threshold == "youden":
            image = youden_threshold(scores, labels)
        else:
            image = float(np.quantile(scores[normal], config.image_quantile))
        tiny = float(np.finfo(np.float32).tiny)
        self.log_pixel_threshold.fill_(float(np.log(max(pixel, tiny))))
        self.log_image_threshold.fill_(float(np.log(max(image, tiny))))
        facts = {
            "samples": origin,
            "normal": int(normal.sum()),
            "pixel": f"{config.pixel_quantile} quantile of normal samples",
            "image": "Youden, by labels of both classes"
            if config.image_threshold == "youden"
            else f"{config.image_quantile} quantile of normal samples",
            "abnormal_labels_used": int((~normal).sum()) if config.image_threshold == "youden" else 0,
        }
        if hasattr(self, "meta"):
            self.meta = replace(
                self.meta,
                provenance={**self.meta.provenance, "thresholds": facts, "constant_image": constant},
            )

    @torch.no_grad()
    def _judged(
        self, batches: Iterable[Batch]
    ) -> tuple[list[NDArray[np.floating[Any]]], NDArray[np.float64], NDArray[np.int64]]:
        """Maps of the normal samples; scores and labels of the labelled ones."""
        self.eval()
        maps, scores, labels = [], [np.zeros(0)], [np.zeros(0, np.int64)]
        for batch in batches:
            found = self(**{name: value.to(self.device) for name, value in self.takes(batch).items()}).aux[
                "map"
            ]
            label = batch["class_label"].cpu().numpy().astype(np.int64)
            maps.append(found.cpu().numpy()[label == 0])
            scores.append(spread(found).cpu().double().numpy()[label <= 1])
            labels.append(label[label <= 1])
        return maps, np.concatenate(scores), np.concatenate(labels)


def warn_if_constant(loss: float, constant: float, what: str) -> bool:
    """Say on stderr, where it is so, that a training ended no better than the mean image; whether it did better."""
    if loss < constant:
        return True
    tqdm.write(
        f"WARNING: {what}: NO BETTER THAN THE MEAN IMAGE: the loss is {loss:.4g} against {constant:.4g} of an output "
        f"that never changes; its maps say how far an image is from the mean, nothing more. Train longer, or with "
        f"another lr or init_std",
        file=sys.stderr,
    )
    return False


def errors(rebuilt: Tensor, patches: Tensor) -> dict[str, Tensor]:
    """Eqs. (6) and (7) of patches (b, n, K K C) twice, summed over the places: (b,) each."""
    return {
        "intensity": intensity(rebuilt, patches).sum(1),
        "orientation": orientation(rebuilt, patches).sum(1),
    }


def blocks(depth: int, dim: int, heads: int, mlp_ratio: int) -> nn.Sequential:
    """Eq. (5) after its first line."""
    return nn.Sequential(*(PreNormBlock(dim, heads, mlp_ratio * dim, qkv_bias=True) for _ in range(depth)))


def to_patches(features: Tensor, patch: int) -> Tensor:
    """Features (b, C, h, w) -> (b, n, K K C), patches by rows, inside one (row, column, channel)."""
    b, c, h, w = features.shape
    cut = features.reshape(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(b, (h // patch) * (w // patch), patch * patch * c)


def to_features(patches: Tensor, grid: list[int], patch: int) -> Tensor:
    """The way back, channels last: (b, n, K K C) of a grid of patches -> (b, h, w, C)."""
    rows, columns = grid
    cut = patches.reshape(-1, rows, columns, patch, patch, patches.shape[2] // patch**2).transpose(2, 3)
    return cut.reshape(-1, rows * patch, columns * patch, cut.shape[-1])


def gather_halves(tokens: Tensor, order: Tensor) -> Tensor:
    """(b, n, d) by places (b, n) -> (b, 2, n/2, d), eq. (4)."""
    found = tokens.gather(1, order[:, :, None].expand_as(tokens))
    return found.reshape(-1, 2, tokens.shape[1] // 2, tokens.shape[2])


def scatter_halves(halves: Tensor, order: Tensor) -> Tensor:
    """(b, 2, n/2, d) -> (b, n, d): the k-th of a half goes to that half's k-th place."""
    tokens = halves.flatten(1, 2)
    return torch.zeros_like(tokens).scatter(1, order[:, :, None].expand_as(tokens), tokens)


PAPER = {"size": [256, 256], "patch": 4, "sigma": 4.0, "mlp_ratio": 4, "decoder_heads": 16}

REGISTRATION = Registration(
    name="st_mae",
    title="ST-MAE",
    modality="visual",
    dense=True,
    config=StMaeConfig,
    build=StMae,
    tiny={
        "size": [16, 24],
        "patch": 2,
        "dim": 24,
        "depth": 1,
        "heads": 3,
        "decoder_dim": 24,
        "decoder_depth": 1,
        "decoder_heads": 3,
        "mlp_ratio": 2,
        "trunk_blocks": 2,
    },
    training="both",
    without_gradient=("backbone.*",),
    presets={
        "nano": {"dim": 48, "depth": 2, "decoder_dim": 48, "decoder_depth": 1, "mlp_ratio": 2},
        "paper-nano": {**PAPER, "dim": 120, "depth": 6, "heads": 12, "decoder_dim": 128, "decoder_depth": 4},
        "paper-tiny": {**PAPER, "dim": 240, "depth": 12, "heads": 12, "decoder_dim": 256, "decoder_depth": 8},
        "paper-base": {**PAPER, "dim": 768, "depth": 12, "heads": 12, "decoder_dim": 512, "decoder_depth": 8},
        "paper-large": {
            **PAPER,
            "dim": 1024,
            "depth": 24,
            "heads": 16,
            "decoder_dim": 512,
            "decoder_depth": 8,
        },
    },
    recipe={"normal_only": True, "lr": 1e-3, "lr_steps": [], "flip": 0.0},
    original_recipe={
        "normal_only": True,
        "lr": 1e-4,
        "lr_steps": [],
        "epochs": 400,
        "batch_size": 8,
        "flip": 0.0,
    },
    source='Yao, Wang, Yu, "Siamese Transition Masked Autoencoders as Uniform Unsupervised Visual Anomaly Detector"',
    provenance={
        "last ReLU of VGG-19's first four blocks on one grid, frozen": "paper",
        "random split, one encoder for both halves, transition, decoder": "paper",
        "squared distance + 5 (1 - cosine); map of their product; standard deviation as image score": "paper",
        "Table II's four sizes at 256 x 256 (presets)": "paper",
        "normal samples only; AdamW, no schedule, no augmentation": "paper",
        "the split at test time: drawn once, from a seed": "choice",
        "bilinear interpolation, learned positions of unit variance, biases of qkv": "choice",
        "learning rate 1e-3 for this width, by the loss on normal validation (the paper: 1e-4)": "choice",
        "last frame, 2x2 patches of the stride-4 grid, width 96, depth 6 and 2, 3 heads, sigma 1": "choice",
        "pixel threshold: .995 quantile of normal validation pixels": "choice",
        "image threshold: .95 quantile of normal validation scores": "choice",
        "trunk weights: random unless published ones are loaded": "choice",
        "30 epochs of batches of 64 (the paper: 400 of 8)": "choice (FmFormer's)",
    },
)
