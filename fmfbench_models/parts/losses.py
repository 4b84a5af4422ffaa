"""The training objective of the FmFormer paper (section IV-B), shared by all gradient-trained models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["class_labels", "supervised_loss"]

UNLABELLED = 255


def class_labels(mask: Tensor) -> Tensor:
    """G(y) of eq. 13: 1 iff the mask (B, H, W) holds any abnormal pixel (sum > 0.5)."""
    return (mask.flatten(1).sum(1, dtype=torch.float32) > 0.5).long()


def supervised_loss(
    logits: Tensor | None,
    pixel_logits: Tensor | None,
    batch: Mapping[str, Tensor],
    alpha: float = 1.0,
    smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """L = L_pix + alpha L_cls, each the mean cross-entropy over the samples that are labelled.

    logits (B, 2) with batch["class_label"] (B,); pixel_logits (B, 2, H, W) with batch["mask"] (B, H, W). A
    term whose head or labels are absent is left out, and the other stands alone with weight 1. A sample labelled 255
    has no part in L_cls, one whose batch["mask_valid"] (B,) is False none in L_pix; a term of no sample is 0, so that
    every head always has a gradient. Of several processes each takes the mean over its own samples. smoothing: of
    L_cls alone: its targets are 1 - s/2 and s/2.
    """
    terms: dict[str, Tensor] = {}
    if pixel_logits is not None and "mask" in batch:
        mask = batch["mask"].long()
        if "mask_valid" in batch:
            mask = torch.where(batch["mask_valid"][:, None, None], mask, UNLABELLED)
        terms["pixel_loss"] = _mean_cross_entropy(pixel_logits, mask)
    if logits is not None:
        terms["class_loss"] = _mean_cross_entropy(logits, batch["class_label"].long(), smoothing)
    if not terms:
        raise ValueError(
            f"loss: expected logits, or pixel_logits and a mask, got neither, and a batch of {sorted(batch)}"
        )
    if len(terms) == 1:
        (total,) = terms.values()
    else:
        total = terms["pixel_loss"] + alpha * terms["class_loss"]
    return {"loss": total, **terms}


def _mean_cross_entropy(logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """Over the labelled entries; 0 where there are none, of which the mean of torch itself is NaN."""
    total = F.cross_entropy(
        logits, label, ignore_index=UNLABELLED, reduction="sum", label_smoothing=smoothing
    )
    return total / (label != UNLABELLED).sum().clamp(min=1)
