"""What every model is: tensors in, `Output` out, facts in `.meta`.

Nothing here knows a model by name; training, prediction, checkpoints and the contract test rely on this file
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fmfbench_models.parts.blocks import InputNorm
from fmfbench_models.parts.losses import supervised_loss

__all__ = ["Batch", "FitData", "Meta", "Modality", "Model", "Output"]

Modality = Literal["both", "visual", "current"]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Output:
    """What a model says of a batch.

    logits (B, 2) unnormalised, column 1 abnormal; pixel_logits (B, 2, H, W) of the last frame. Either is None
    where the model has no such head. `aux` carries what a model's own objective needs.
    """

    logits: Tensor | None = None
    pixel_logits: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)

    def scores(self, temperature: float = 1.0) -> Tensor:
        """Probability of abnormal, (B,) in [0, 1]; without a class head the highest abnormal pixel's.

        temperature: what logits are divided by before.
        """
        if temperature != 1:
            return (self.margins() / temperature).sigmoid()
        if self.logits is not None:
            return self.logits.softmax(1)[:, 1]
        if self.pixel_logits is None:
            raise ValueError("scores: expected logits or pixel_logits, got an output with neither")
        return self.pixel_logits.softmax(1)[:, 1].flatten(1).amax(1)

    def margins(self) -> Tensor:
        """Log odds of abnormal, (B,): what `scores` are the sigmoid of."""
        if self.logits is not None:
            return self.logits[:, 1] - self.logits[:, 0]
        if self.pixel_logits is None:
            raise ValueError("margins: expected logits or pixel_logits, got an output with neither")
        return (self.pixel_logits[:, 1] - self.pixel_logits[:, 0]).flatten(1).amax(1)

    def pixel_scores(self) -> Tensor | None:
        """Probability of abnormal of each pixel, (B, H, W) in [0, 1], or None without a dense head."""
        return None if self.pixel_logits is None else self.pixel_logits.softmax(1)[:, 1]

    def masks(self) -> Tensor | None:
        """Pixels predicted abnormal, (B, H, W) bool (a tie is normal), or None without a dense head."""
        if self.pixel_logits is None:
            return None
        return self.pixel_logits[:, 1] > self.pixel_logits[:, 0]


@dataclass(frozen=True, kw_only=True)
class Meta:
    """The facts of one model; all plain JSON values, so that they travel with its checkpoint.

    protocol: window rules it was trained with (None: untrained). normalisation: what the input goes through.
    provenance: where its parts come from, and after training also data, seed, recipe and versions.
    """

    name: str
    config: dict[str, Any]
    modality: Modality
    dense: bool
    protocol: dict[str, Any] | None = None
    normalisation: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitData:
    """What a fitted model learns from: batches on the CPU, iterable as often as wanted, always in the same order.

    train: what gradient training sees in an epoch; with the recipe's `rotate` in the first one. held_out: training
    samples that it does not see (see `Registration.held_out`).
    validation: the validation split; each None where there is none. With the recipe's `normal_only` all three show
    normal frames alone.
    """

    train: Iterable[Batch]
    held_out: Iterable[Batch] | None = None
    validation: Iterable[Batch] | None = None
    seed: int = 0


class Model(nn.Module):
    """Base of all models.

    A model implements `forward`, takes a frozen configuration in its constructor, and uses `self.input_norm`
    on what it is given. A convolutional trunk that published weights fit is a `backbones.Trunk` among its modules.
    It overrides `objective` for a loss of its own and `fit` if part of it is fitted.
    """

    # Those of "video_valid" (B, T) and "current_valid" (B, Tc), bool, that `forward` takes as keywords: what is False
    # has no influence on the output. use_validity: whether training and prediction give them.
    validity: tuple[str, ...] = ()
    use_validity: bool = False
    # Whether the objective leaves some parameters without a gradient in this configuration.
    has_unused: bool = False
    # Buffers whose shape is known only after `fit`: a checkpoint's shape wins when it is loaded.
    fitted_buffers: tuple[str, ...] = ()
    # Whether a dense model learns from masks; False for one that learns its maps from normal frames alone.
    needs_masks: bool = True
    # Share of the class term's targets that training spreads over the classes; set by training where `smooths_labels`.
    label_smoothing: float = 0.0
    meta: Meta

    def __init__(self, *, modality: Modality, dense: bool, raw_input: bool = False) -> None:
        super().__init__()
        self.modality: Modality = modality
        self.dense = dense
        self.input_norm = InputNorm(identity=raw_input)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        """video (B, 3, T, H, W) uint8 or float, 0..255; current (B, Tc, 3) in A.

        What is not used is ignored.
        """
        raise NotImplementedError

    def objective(self, output: Output, batch: Batch, alpha: float) -> dict[str, Tensor]:
        """Scalars of one batch, each a mean over its samples; "loss" is minimised, the others are logged."""
        return supervised_loss(output.logits, output.pixel_logits, batch, alpha, self.smoothing)

    @property
    def smooths_labels(self) -> bool:
        """Whether the objective has the shared class term, with `smoothing`; by default where it is the shared one."""
        return type(self).objective is Model.objective

    @property
    def smoothing(self) -> float:
        """Of labels in the objective: none in validation."""
        return self.label_smoothing if self.training else 0.0

    def prepare(self, data: FitData) -> None:
        """Take what the start of gradient training depends on from the training samples. Called once, before it."""

    def fit(self, data: FitData) -> None:
        """Fit what no gradient reaches. Called once, after gradient training where there is any."""
        raise NotImplementedError

    def takes(self, batch: Batch) -> dict[str, Tensor]:
        """The inputs of `batch` that this model uses, as keyword arguments of `forward`.

        With `use_validity` also which positions are valid, where not all are: without a mask attention is faster.
        """
        wanted = {"both": ("video", "current"), "visual": ("video",), "current": ("current",)}[self.modality]
        told = self.validity if self.use_validity else ()
        partly = [name for name in told if name in batch and not bool(batch[name].all())]
        return {name: batch[name] for name in (*wanted, *partly)}

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next((tensor.device for tensor in self.parameters()), torch.device("cpu"))
