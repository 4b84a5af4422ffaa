"""DCNN-SVM: a decision from the image, one from the current, and a support vector machine over the two.

A re-interpretation.

Zhou, Gao, Wang, Chai, IEEE Trans. Industrial Electronics 69:3017-3026, 2022. Its text could not be had. FmFormer says
that an image branch and a current branch decide for themselves and an SVM joins the decisions; everything else is ours.

What differs from the original: everything beyond that sentence. The branches are trained together, each by its own
cross-entropy, on nine tenths of the training samples; the SVM is fitted to their log-odds on the last tenth in time,
which they have not seen. Until then the two log-odds are added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.bits import from_bits, to_bits
from fmfbench_models.parts.blocks import needed
from fmfbench_models.parts.current_features import CURRENT_FEATURES, current_features
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "DcnnSvm", "DcnnSvmConfig", "Svm", "fit_svm"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DcnnSvmConfig:
    """Settings of DcnnSvm.

    channels: of the image branch, each halving the frame. hidden: width of the current branch. svm_c: the SVM's C.
    max_rows: how many held-out samples at most, evenly spread, it is fitted to.
    """

    channels: tuple[int, ...] = (32, 64, 96)
    hidden: int = 32
    svm_c: float = 1.0
    max_rows: int = 20_000

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise InputError(f"dcnn_svm: expected one or more channels, each 1 or more, got {self.channels}")
        if not self.svm_c > 0 or self.max_rows < 2:
            raise InputError(
                f"dcnn_svm: expected svm_c above 0 and max_rows of 2 or more, got {self.svm_c} and {self.max_rows}"
            )


@dataclass(frozen=True)
class Svm:
    """A fitted machine with a radial kernel, as plain numbers.

    mean, scale (d,): of the standardisation; support (m, d) standardised; dual (m,): signed multipliers.
    """

    mean: Array
    scale: Array
    support: Array
    dual: Array
    intercept: float
    gamma: float

    def decide(self, points: Array) -> Array:
        """f(x) = sum_i a_i exp(-gamma |x - s_i|^2) + b of points (n, d), above 0 for abnormal: (n,)."""
        x = (points - self.mean) / self.scale
        distance = np.square(x[:, None] - self.support).sum(2)
        return np.exp(-self.gamma * distance) @ self.dual + self.intercept


def fit_svm(points: Array, labels: NDArray[Any], c: float = 1.0) -> Svm:
    """Standardise points (n, d), then C-SVC with gamma = 1 / (d variance), on labels (n,) 0 or 1, both present."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    scaler = StandardScaler().fit(points)
    scaled = scaler.transform(points)
    variance = scaled.var()
    # SVC's "scale", which it keeps to itself
    gamma = 1 / (points.shape[1] * variance) if variance > 0 else 1.0
    svc = SVC(kernel="rbf", C=c, gamma=gamma).fit(scaled, labels)
    return Svm(
        scaler.mean_, scaler.scale_, svc.support_vectors_, svc.dual_coef_[0], float(svc.intercept_[0]), gamma
    )


class ImageBranch(nn.Module):
    """Convolutions, each halving the frame, mean over places, Linear: (b, 3, H, W) -> logits (b, 2)."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *channels)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(channels[-1], 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(self.layers(image).mean((2, 3)))


class DcnnSvm(Model):
    """Two branches and, once fitted, the machine over their log-odds."""

    fitted_buffers = ("support_bits", "dual_bits")
    support_bits: Tensor
    dual_bits: Tensor
    scalar_bits: Tensor

    def __init__(self, config: DcnnSvmConfig) -> None:
        super().__init__(modality="both", dense=False)
        self.config = config
        self.image = ImageBranch(config.channels)
        self.current = nn.Sequential(
            nn.Linear(CURRENT_FEATURES, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2)
        )
        # Doubles as their bits: a conversion of the model to another precision must not round them.
        self.register_buffer("support_bits", torch.zeros(0, 2, dtype=torch.int64))
        self.register_buffer("dual_bits", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("scalar_bits", torch.zeros(6, dtype=torch.int64))

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        """aux holds the branches' own logits, (B, 2) each."""
        video = needed(video, (3, None, None, None), what="dcnn_svm: video")
        current = needed(current, (None, 3), what="dcnn_svm: current")
        least = 2 ** len(self.config.channels)
        if min(video.shape[3:]) < least or not video.shape[2]:
            raise InputError(
                f"dcnn_svm: video: expected one frame or more of {least} x {least} pixels or more, got "
                f"{tuple(video.shape)}; use fewer channels"
            )
        image_logits = self.image(self.input_norm.video(video[:, :, -1]))
        current_logits = self.current(current_features(self.input_norm.current(current)))
        aux = {"image_logits": image_logits, "current_logits": current_logits}
        odds = log_odds(aux)
        svm = self.svm()
        if svm is None:
            decision = odds.sum(1) / 2  # logits (-s, s) have log-odds 2 s
        else:
            fused = svm.decide(odds.detach().cpu().double().numpy())
            decision = torch.as_tensor(fused, device=odds.device).to(self.input_norm.like.dtype)
        return Output(torch.stack([-decision, decision], 1), None, aux)

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        """Each branch's own cross-entropy."""
        image = supervised_loss(output.aux["image_logits"], None, batch)["loss"]
        current = supervised_loss(output.aux["current_logits"], None, batch)["loss"]
        return {"loss": image + current, "image_loss": image, "current_loss": current}

    def svm(self) -> Svm | None:
        """The fitted machine, or None before the fit."""
        if not len(self.dual_bits):
            return None
        scalars, support, dual = map(from_bits, (self.scalar_bits, self.support_bits, self.dual_bits))
        return Svm(scalars[:2], scalars[2:4], support, dual, float(scalars[4]), float(scalars[5]))

    def fit(self, data: FitData) -> None:
        """Fit the machine to samples the branches have not seen.

        The held-out ones, and the validation split's too where those hold one class only.
        """
        points, labels = self._decisions(data.held_out or ())
        if len(np.unique(labels)) < 2:
            more, more_labels = self._decisions(data.validation or ())
            points, labels = np.concatenate([points, more]), np.concatenate([labels, more_labels])
        if len(np.unique(labels)) < 2:
            counts = f"{(labels == 0).sum()} normal and {(labels == 1).sum()} abnormal"
            raise InputError(
                f"dcnn_svm: expected normal and abnormal samples held out from training, got {counts}; "
                f"the SVM needs a longer training split"
            )
        pick = np.unique(np.linspace(0, len(labels) - 1, self.config.max_rows).round().astype(int))
        if len(np.unique(labels[pick])) < 2:
            raise InputError(
                f"dcnn_svm: expected both classes among {len(pick)} of {len(labels)} held-out samples, got one; "
                f"raise max_rows"
            )
        svm = fit_svm(points[pick], labels[pick], self.config.svm_c)
        device = self.dual_bits.device
        self.support_bits, self.dual_bits = to_bits(svm.support).to(device), to_bits(svm.dual).to(device)
        scalars = np.concatenate([svm.mean, svm.scale, [svm.intercept, svm.gamma]])
        self.scalar_bits.copy_(to_bits(scalars))

    @torch.no_grad()
    def _decisions(self, batches: Iterable[Batch]) -> tuple[Array, NDArray[np.int64]]:
        """Log-odds of both branches (n, 2) and labels (n,) of the labelled samples."""
        self.eval()
        points, labels = [np.zeros((0, 2))], [np.zeros(0, np.int64)]
        for batch in batches:
            inputs = {name: value.to(self.device) for name, value in self.takes(batch).items()}
            label = batch["class_label"].cpu().numpy().astype(np.int64)
            odds = log_odds(self(**inputs).aux).cpu().double().numpy()
            points.append(odds[label <= 1])
            labels.append(label[label <= 1])
        return np.concatenate(points), np.concatenate(labels)


def log_odds(branches: dict[str, Tensor]) -> Tensor:
    """(b, 2): abnormal against normal, by the image and by the current."""
    pairs = (branches["image_logits"], branches["current_logits"])
    return torch.stack([logits[:, 1] - logits[:, 0] for logits in pairs], 1)


REGISTRATION = Registration(
    name="dcnn_svm",
    title="DCNN-SVM",
    modality="both",
    dense=False,
    config=DcnnSvmConfig,
    build=DcnnSvm,
    tiny={"channels": [8, 16], "hidden": 16},
    training="both",
    held_out=0.1,
    no_onnx="its decision is a support vector machine's, in double precision and outside of torch",
    reinterpretation=True,
    source="Zhou et al., IEEE TIE 69:3017-3026, 2022 (not to be had; FmFormer's description)",
    provenance={
        "a decision from image and current each, joined by an SVM": "FmFormer paper",
        "image branch: three convolutions on the last frame": "choice",
        "current branch: 24 features, MLP": "choice",
        "radial kernel, C 1, on standardised log-odds of held-out samples": "choice",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
