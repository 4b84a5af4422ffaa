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

What differs from the original: all that its title does not say. On windows of FMF-Sim (`small`, seed 1) the gradient of
the two terms without labels was 2.4 times that of the labels at the start and 3 to 28 times after 60 steps, as the
features grow until what the generator makes is told apart at a glance: the label drowns. So they are lowered until they
pull at the discriminator no harder than the labels do (`balanced`), and then weighed by `unsupervised`;
`weighting="fixed"` leaves them as they are. The discriminator sees a frame's local contrast (`local_contrast`): on a
dozen events it learned their light instead. "Fine-grained" is left out, for nothing is known of it. Both networks are
updated from one loss at once, L_D without gradient to the generator and L_G without gradient to the discriminator,
which is what two optimisers in turn would do but for the generator seeing the discriminator of one step earlier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

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
NEIGHBOURHOOD = 9  # pixels
FAINT = 0.02  # deviation, of 2 from black to white, below which a frame is not stretched further
LABEL_DRAW = 2**20  # stands where a draw has its epoch's number, so that no epoch's flips draw the same


@dataclass(frozen=True, kw_only=True)
class SsfegganConfig:
    """Settings of Ssfeggan.

    size (H, W): of a frame, multiples of 2 for each of `channels`. dim: of each branch and of f. hidden: of the
    current's maps. latent: of z. unsupervised: weight of the discriminator's two terms without labels, beside the
    labels' 1; weighting "balanced": of their gradient beside the labels', see `balanced`; "fixed": of the terms.
    contrast: "local": the discriminator sees how a frame differs from its surroundings, see `local_contrast`.
    label_share: how many of the training samples show their label, the same ones throughout, drawn by label_seed.
    """

    size: tuple[int, int] = (64, 64)
    channels: tuple[int, ...] = (32, 64, 96, 128)
    dim: int = 96
    hidden: int = 64
    latent: int = 100
    unsupervised: float = 0.3
    weighting: Literal["balanced", "fixed"] = "balanced"
    contrast: Literal["local", "none"] = "local"
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


def balanced(labelled: Tensor, unlabelled: Tensor, parameters: list[Tensor]) -> Tensor:
    """|gradient of `labelled`| / |gradient of `unlabelled`| with respect to all `parameters` together, at most 1.

    Times this, the second term pulls at the network no harder than the first. The idea is that of the adaptive weight
    in Esser et al., "Taming Transformers", CVPR 2021, equation 7, there of the last layer alone.
    """

    def length(term: Tensor) -> Tensor:
        found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        return torch.stack([gradient.norm() for gradient in found if gradient is not None]).norm()

    own, other = length(labelled), length(unlabelled)
    return (own / other.clamp(min=torch.finfo(other.dtype).tiny)).clamp(max=1.0)


def local_contrast(image: Tensor) -> Tensor:
    """Frames (b, 3, H, W) less their mean over NEIGHBOURHOOD x NEIGHBOURHOOD pixels, over the deviation of that.

    Ambient light and white balance go, which a network with a dozen events to learn from takes for the class; after
    the local contrast normalisation of Jarrett et al., "What is the Best Multi-Stage Architecture for Object
    Recognition?", ICCV 2009, with one deviation for each frame.
    """
    around = F.avg_pool2d(image, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2, count_include_pad=False)
    difference = image - around
    return difference / (difference.square().mean((1, 2, 3), keepdim=True) + FAINT**2).sqrt()


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
        self.local = config.contrast == "local"
        self.classify = nn.Linear(config.dim, 2)

    def forward(self, image: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        image = local_contrast(image) if self.local else image
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
        unlabelled = terms["real_loss"] + terms["generated_loss"]
        weight = self.config.unsupervised
        if self.config.weighting == "balanced" and weight and unlabelled.requires_grad:
            terms["balance"] = balanced(
                terms["class_loss"], unlabelled, list(self.discriminator.parameters())
            )
            unlabelled = terms["balance"] * unlabelled
        adversarial = weight * unlabelled
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
    recipe={
        "optimiser": "adam",
        "lr": 1e-3,
        "betas": [0.5, 0.999],
        "weight_decay": 0.0,
        "lr_steps": [24],
        "shift": 8,
    },
    before={"weighting": "fixed", "contrast": "none"},
    reinterpretation=True,
    source="Bu et al., IEEE TIM 72:1-9, 2023 (not to be had; FmFormer's description); Salimans et al., 2016",
    provenance={
        "CNN features of the image and MLP features of the current predict together": "FmFormer paper",
        "semi-supervised GAN, feature matching": "Salimans et al., 2016, from general knowledge",
        "layers of both networks, 24 features of the current": "choice",
        "both networks updated at once": "choice",
        "terms without labels lowered to the labels' pull, then weight 0.3": "choice (Salimans et al.: weight 1)",
        "local contrast of frames, 9 x 9 pixels": "choice (after Jarrett et al., ICCV 2009)",
        "no fine-grained part": "choice",
        "input scaling": "choice",
        "training recipe: Adam 1e-3, betas 0.5 and 0.999, 30 epochs, windows moved by up to 8 pixels": "choice",
    },
)
