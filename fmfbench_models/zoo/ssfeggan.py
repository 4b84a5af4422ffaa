"""SSFEGGAN: a semi-supervised generative adversarial network over image and current features.
A re-interpretation.

Bu, Liu, Wang, "Process operation performance assessment based on semi-supervised fine-grained generative adversarial
network for EFMF", IEEE Trans. Instrumentation and Measurement 72:1-9, 2023. Its text could not be had. FmFormer says
that CNN features of the image and MLP features of the current predict together; the adversarial part follows the
semi-supervised network of Salimans et al., "Improved Techniques for Training GANs", 2016.

The discriminator has two classes and no logit for "generated", which is fixed at 0. With Z = logsumexp(logits)

    log D = Z - softplus(Z)      log(1 - D) = -softplus(Z)
    L_D = CE(labelled) - E log D(real) - E log(1 - D(G(z)))
    L_G = | E f(real) - E f(G(z)) |^2      f: the features before the logits

What differs from the original: all that its title does not say. The terms without labels have weight 0.1, which
was better than 1 on two seeds of three: on FMF-Sim `small`, after 150 steps of 16 windows at a rate of 1e-3,
accuracy was 0.72, 0.68, 0.65 at weight 1; 0.67, 0.72, 0.80 at 0.1; 0.68, 0.85, 0.75 without them. "Fine-grained"
is left out, for nothing is known of it. Both networks are updated from one loss at once, L_D without gradient to
the generator and L_G without gradient to the discriminator, which is what two optimisers in turn would do but for
the generator seeing the discriminator of one step earlier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, Model, Output
from fmfbench_models.parts.augmentation import uniform
from fmfbench_models.parts.blocks import needed
from fmfbench_models.parts.current_features import CURRENT_FEATURES, current_features
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Ssfeggan", "SsfegganConfig"]

UNLABELLED = 255
LABEL_DRAW = 2**20  # stands where a draw has its epoch's number, so that no epoch's flips draw the same


@dataclass(frozen=True, kw_only=True)
class SsfegganConfig:
    """size (H, W): of a frame, multiples of 2 for each of `channels`. dim: of each branch and of f. hidden: of the
    current's maps. latent: of z. unsupervised: weight of the discriminator's two terms without labels, beside the
    labels' 1. label_share: how many of the training samples show their label, the same ones
    throughout, drawn by label_seed.
    """

    size: tuple[int, int] = (64, 64)
    channels: tuple[int, ...] = (32, 64, 96, 128)
    dim: int = 96
    hidden: int = 64
    latent: int = 100
    unsupervised: float = 0.1
    label_share: float = 1.0
    label_seed: int = 0

    def __post_init__(self) -> None:
        step = 2 ** len(self.channels)
        if not self.channels or any(side < step or side % step for side in self.size):
            raise InputError(
                f"ssfeggan: expected sides that are multiples of {step} for {len(self.channels)} channels, "
                f"got {self.size[0]} x {self.size[1]}; resize the recordings or use fewer channels"
            )
        if not 0 < self.label_share <= 1 or self.unsupervised < 0:
            raise InputError(
                f"ssfeggan: expected label_share in (0, 1] and unsupervised of 0 or more, "
                f"got {self.label_share} and {self.unsupervised}"
            )

    @property
    def smallest(self) -> tuple[int, int, int]:
        """Channels and sides of the smallest map."""
        step = 2 ** len(self.channels)
        return self.channels[-1], self.size[0] // step, self.size[1] // step


def log_real(logits: Tensor) -> Tensor:
    """log D (b,) of logits (b, classes)."""
    z = logits.logsumexp(1)
    return z - F.softplus(z)


def log_generated(logits: Tensor) -> Tensor:
    """log(1 - D) (b,) of logits (b, classes)."""
    return -F.softplus(logits.logsumexp(1))


def feature_matching(real: Tensor, generated: Tensor) -> Tensor:
    """Squared distance of the mean features, each (b, dim)."""
    return (real.mean(0) - generated.mean(0)).square().sum()


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled; 0 where none is."""
    total = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels != UNLABELLED).sum().clamp(min=1)


class Discriminator(nn.Module):
    """Frame (b, 3, H, W) in [-1, 1] and current features (b, 24) -> features f (b, dim), logits (b, 2)."""

    def __init__(self, config: SsfegganConfig) -> None:
        super().__init__()
        image: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *config.channels)):
            image += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        image += [nn.Flatten(), nn.Linear(math.prod(config.smallest), config.dim), nn.LeakyReLU(0.2)]
        self.image = nn.Sequential(*image)
        self.current = nn.Sequential(
            nn.Linear(CURRENT_FEATURES, config.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden, config.dim),
            nn.LeakyReLU(0.2),
        )
        self.fuse = nn.Sequential(nn.Linear(2 * config.dim, config.dim), nn.LeakyReLU(0.2))
        self.classify = nn.Linear(config.dim, 2)

    def forward(self, image: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        features = self.fuse(torch.cat([self.image(image), self.current(current)], 1))
        return features, self.classify(features)


class Generator(nn.Module):
    """z (b, latent) -> frame (b, 3, H, W) in [-1, 1], current features (b, 24)."""

    def __init__(self, config: SsfegganConfig) -> None:
        super().__init__()
        widths = [*reversed(config.channels), 3]
        image: list[nn.Module] = [
            nn.Linear(config.latent, math.prod(config.smallest)),
            nn.Unflatten(1, config.smallest),
        ]
        for inputs, outputs in pairwise(widths):
            image += [nn.BatchNorm2d(inputs), nn.ReLU()]
            image.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))
        self.image = nn.Sequential(*image, nn.Tanh())
        self.current = nn.Sequential(
            nn.Linear(config.latent, config.hidden), nn.ReLU(), nn.Linear(config.hidden, CURRENT_FEATURES)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.image(z), self.current(z)


class Ssfeggan(Model):
    """The discriminator classifies; in training the generator plays against it."""

    def __init__(self, config: SsfegganConfig) -> None:
        super().__init__(modality="both", dense=False)
        self.config = config
        self.discriminator = Discriminator(config)
        self.generator = Generator(config)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        """In training aux holds what the adversarial terms need: features and logits of as many generated samples."""
        video = needed(video, (3, None, *self.config.size), what="ssfeggan: video")
        current = needed(current, (None, 3), what="ssfeggan: current")
        if not video.shape[2]:
            raise InputError(
                f"ssfeggan: video: expected one frame or more, got {tuple(video.shape)}; choose another protocol"
            )
        image = self.input_norm.video(video[:, :, -1])
        features, logits = self.discriminator(image, current_features(self.input_norm.current(current)))
        return Output(logits, None, self._play(features) if self.training else {})

    def _play(self, real_features: Tensor) -> dict[str, Tensor]:
        like = self.input_norm.like
        z = torch.randn(len(real_features), self.config.latent, device=like.device, dtype=like.dtype)
        image, current = self.generator(z)
        _, logits = self.discriminator(image.detach(), current.detach())
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        features, _ = functional_call(self.discriminator, fixed, (image, current))
        return {
            "real_features": real_features.detach(),
            "generated_features": features,
            "generated_logits": logits,
        }

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        """In training the gradients of L_D + L_G, at the value of L_D; in evaluation the cross-entropy, of all labels.

        The sum of a game says nothing, and the generator's own term stands beside it.
        """
        assert output.logits is not None
        labels = batch["class_label"].long()
        if not output.aux:
            return {"loss": labelled_cross_entropy(output.logits, labels)}
        if self.config.label_share < 1:
            drawn = uniform(batch["sample_id"].cpu().numpy(), self.config.label_seed, LABEL_DRAW)
            shown = torch.from_numpy(drawn < self.config.label_share).to(labels.device)
            labels = labels.where(shown, UNLABELLED)
        terms = {
            "class_loss": labelled_cross_entropy(output.logits, labels),
            "real_loss": -log_real(output.logits).mean(),
            "generated_loss": -log_generated(output.aux["generated_logits"]).mean(),
            "generator_loss": feature_matching(output.aux["real_features"], output.aux["generated_features"]),
        }
        adversarial = self.config.unsupervised * (terms["real_loss"] + terms["generated_loss"])
        play = terms["generator_loss"] - terms["generator_loss"].detach()
        return {"loss": terms["class_loss"] + adversarial + play, **terms}


REGISTRATION = Registration(
    name="ssfeggan",
    title="SSFEGGAN",
    modality="both",
    dense=False,
    config=SsfegganConfig,
    build=Ssfeggan,
    tiny={"size": [16, 24], "channels": [8, 16, 24], "dim": 24, "hidden": 16, "latent": 12},
    recipe={"optimiser": "adam", "lr": 2e-4, "betas": [0.5, 0.999], "weight_decay": 0.0, "lr_steps": []},
    reinterpretation=True,
    source="Bu et al., IEEE TIM 72:1-9, 2023 (not to be had; FmFormer's description); Salimans et al., 2016",
    provenance={
        "CNN features of the image and MLP features of the current predict together": "FmFormer paper",
        "semi-supervised GAN, feature matching": "Salimans et al., 2016, from general knowledge",
        "layers of both networks, 24 features of the current": "choice",
        "both networks updated at once": "choice",
        "weight 0.1 of the terms without labels": "choice (Salimans et al.: 1)",
        "no fine-grained part": "choice",
        "input scaling": "choice",
        "training recipe: Adam 2e-4, betas 0.5 and 0.999, 30 epochs": "choice",
    },
)
