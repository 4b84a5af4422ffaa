"""From a reconstruction to an anomaly map, an image score and their thresholds.

Yao, Wang, Yu, "Siamese Transition Masked Autoencoders as Uniform Unsupervised Visual Anomaly Detector", equations
(6) to (9) and the lines after them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fmfbench.errors import InputError

__all__ = ["anomaly_map", "blur", "intensity", "orientation", "spread", "youden_threshold"]

KERNEL_SIGMAS = 4.0  # where the Gaussian is cut, as scipy.ndimage does


def intensity(rebuilt: Tensor, original: Tensor) -> Tensor:
    """Squared Euclidean distance over the last axis, eqs. (6) and (9): (..., c) twice -> (...)."""
    return (rebuilt - original).square().sum(-1)


def orientation(rebuilt: Tensor, original: Tensor) -> Tensor:
    """One minus the cosine over the last axis: (..., c) twice -> (...) in [0, 2].

    Eqs. (7) and (9); 1 where either vector is 0.
    """
    return (1 - F.cosine_similarity(rebuilt, original, dim=-1)).clamp(min=0)


def anomaly_map(residual: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Residuals (b, h, w) brought to the image's size (H, W) bilinearly, then smoothed: (b, H, W).

    sigma: of the Gaussian, in pixels of the image.
    """
    large = F.interpolate(residual[:, None], size, mode="bilinear", align_corners=False)
    return blur(large[:, 0], sigma)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of images (b, H, W), edge values repeated outside; the kernel is cut at 4 sigma.

    The identity where sigma is 0 or too small for the kernel to reach a neighbour (below 1/8).
    """
    radius = int(KERNEL_SIGMAS * sigma + 0.5)
    if radius == 0:
        return image
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = kernel / kernel.sum()
    image = F.pad(image[:, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(image, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]


def spread(maps: Tensor) -> Tensor:
    """The image score: standard deviation over the pixels of each map, (b, H, W) -> (b,)."""
    return maps.flatten(1).std(1, correction=0)


def youden_threshold(score: NDArray[np.floating[Any]], label: NDArray[np.integer[Any]]) -> float:
    """The threshold of largest true positive rate minus false positive rate, for the rule score > threshold.

    score (N,) at or above 0, label (N,) 0 or 1. Halfway between the lowest score predicted abnormal and the next one
    below it, or 0; the highest score where it is best to call none. InputError: one of the classes is not there.
    """
    if len(np.unique(label)) < 2:
        raise InputError(
            f"Youden threshold: expected normal and abnormal validation samples, got {(label == 0).sum()} and "
            f"{(label == 1).sum()}; use image_threshold=normal_quantile, or give labels of both classes"
        )
    from sklearn.metrics import roc_curve

    false, true, thresholds = roc_curve(label, score, drop_intermediate=False)
    chosen = thresholds[np.argmax(true - false)]
    if np.isinf(chosen):
        return float(score.max())
    lower = score[score < chosen]
    return float((chosen + (lower.max() if len(lower) else 0.0)) / 2)
