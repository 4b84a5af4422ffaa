"""How a model is trained: the FmFormer paper's recipe (section IV-C), and what it leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from fmfbench.errors import InputError

__all__ = ["TIME_SERIES_RECIPE", "TIME_SERIES_RECIPE_WITHOUT", "Recipe"]

# The classification scripts of thuml/Time-Series-Library, for models that have no recipe of their own there.
TIME_SERIES_RECIPE: dict[str, Any] = {
    "optimiser": "radam",
    "lr": 1e-3,
    "lr_steps": [],
    "weight_decay": 0.0,
    "epochs": 100,
    "batch_size": 16,
    "clip": 4.0,
}
TIME_SERIES_RECIPE_WITHOUT = (
    "early stopping after 10 epochs without progress (the best epoch is kept all the same)"
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Defaults: paper, but alpha, weight_decay and betas (not given there: torch's) and the flip (official code).

    batch_size: over all processes.
    lr falls by lr_gamma after each epoch of lr_steps; with schedule "cosine" along half a cosine to 0 instead.
    warmup: epochs, also parts of one, over which lr rises from 0 to the schedule's (ours; 0 as in the paper).
    decay_all: False spares biases, norms, positions and tokens the weight decay (ours; the paper does not say).
    ema: decay of the moving average of the weights, which is what is validated and saved; 0 for none (ours).
    patience: epochs without a lower validation loss after which training ends; 0 for all epochs (ours).
    alpha: weight of the class term.
    flip: probability of a horizontal flip of frames and mask together.
    jitter: strength of the random gain and offset of a window's light (ours; 0 as in the paper).
    shift: pixels that a window is moved at most, frames and mask together (ours; 0 as in the paper).
    current_jitter: strength of the random gain and level of a window's current (ours; 0 as in the paper).
    shuffle_phases: give each window's phases in a random order (ours; off as in the paper).
    modality_dropout: share of a cross-modal model's training windows that lose one of their modalities, either alike
    (ours; 0 as in the paper).
    layer_drop: probability that, in training, a residual branch of a trunk's last block is left out, falling evenly to
    the first's (Huang et al. 2016); for models with a trunk of blocks (ours; 0 as in the paper).
    label_smoothing: share of the class term that asks for both classes alike (Szegedy et al. 2016), in training alone;
    for models with the shared class term (ours; 0 as in the paper).
    mask_prior: the dense head starts by saying the share of abnormal pixels of the training samples everywhere (Lin et
    al. 2017, section 3.3), in place of one half; for models with a `TokenDecoder` (ours; off as in the paper).
    clip: largest gradient norm, 0 for none.
    normal_only: nothing abnormal is seen before testing: training, validation and `Model.fit` get the windows that
    show normal frames of the train split alone, and the current's statistics are of those.
    every: each how-many-th training sample is used.
    rotate: with every=k each epoch takes the samples one place later, so that k epochs see all; training by gradients
    alone, what a model fits beside it has those of the first (ours; off as in the paper).
    balanced: in each epoch as many normal as abnormal samples, those of the more frequent class drawn anew for each
    (ours; off as in the paper).
    validate_every: the same of the validation samples, after each epoch; what is fitted has them all.
    validate: False trains on the validation samples too, for recordings too short to spare any.
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 5e-4
    lr_steps: tuple[int, ...] = (20,)
    lr_gamma: float = 0.1
    alpha: float = 1.0
    optimiser: Literal["adamw", "adam", "radam"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    schedule: Literal["steps", "cosine"] = "steps"
    warmup: float = 0.0
    decay_all: bool = True
    ema: float = 0.0
    patience: int = 0
    flip: float = 0.5
    jitter: float = 0.0
    shift: int = 0
    current_jitter: float = 0.0
    shuffle_phases: bool = False
    modality_dropout: float = 0.0
    layer_drop: float = 0.0
    label_smoothing: float = 0.0
    mask_prior: bool = False
    clip: float = 0.0
    normal_only: bool = False
    every: int = 1
    rotate: bool = False
    balanced: bool = False
    validate_every: int = 1
    validate: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "every", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"recipe: expected {name} of 1 or more, got {getattr(self, name)}")
        if not self.lr > 0:
            raise InputError(f"recipe: expected lr above 0, got {self.lr}")
        if not 0 <= self.flip <= 1:
            raise InputError(f"recipe: expected flip in [0, 1], got {self.flip}")
        for name in ("jitter", "current_jitter", "modality_dropout", "ema", "layer_drop", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"recipe: expected {name} in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.warmup < self.epochs:
            raise InputError(
                f"recipe: expected warmup of 0 or more and below epochs ({self.epochs}), got {self.warmup}"
            )
        if self.patience < 0:
            raise InputError(f"recipe: expected patience of 0 or more epochs, got {self.patience}")
        if self.patience and not self.validate:
            raise InputError(
                "recipe: expected validate=true, whose loss patience waits for, got false; or give patience=0"
            )
        if self.rotate and self.every == 1:
            raise InputError(
                "recipe: expected every above 1 with rotate, which takes another share of the samples each epoch, got 1"
            )
        if self.balanced and self.normal_only:
            raise InputError(
                "recipe: expected balanced=false with normal_only, which has one class, got true"
            )
        if self.shift < 0:
            raise InputError(f"recipe: expected shift of 0 or more pixels, got {self.shift}")

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of an update, counted from 0.

        Example:
            >>> recipe = Recipe(epochs=4, lr=1.0, schedule="cosine", warmup=1)
            >>> [round(recipe.rate(step, 2), 2) for step in range(8)]
            [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
        """
        if self.schedule == "cosine":
            length = (self.epochs - self.warmup) * steps_per_epoch
            done = max(step - self.warmup * steps_per_epoch, 0.0) / length
            rate = self.lr * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        else:
            epoch = step // steps_per_epoch
            rate = self.lr * self.lr_gamma ** sum(epoch >= at for at in self.lr_steps)
        rising = (step + 1) / (self.warmup * steps_per_epoch) if self.warmup else 1.0
        return rate * min(rising, 1.0)
