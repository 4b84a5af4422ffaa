"""A plain convolutional network over the three-phase current: what any time series model should beat.

Wang, Yan, Oates, "Time Series Classification from Scratch with Deep Neural Networks: A Strong Baseline", IJCNN 2017,
arXiv 1611.06455: the fully convolutional network (FCN). Three convolutions with batch norm and ReLU, the mean over
time, one linear map. It sees about 7 s at each time step and forgets where in the window that was.

What differs from the original. Convolutions are padded so that the length stays; training is the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fmfbench.errors import InputError
from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import needed
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Conv1d", "Conv1dConfig"]

PHASES = 3


@dataclass(frozen=True, kw_only=True)
class Conv1dConfig:
    """channels, kernels: of each convolution, kernels in time steps."""

    channels: tuple[int, ...] = (128, 256, 128)
    kernels: tuple[int, ...] = (8, 5, 3)

    def __post_init__(self) -> None:
        if (
            len(self.channels) != len(self.kernels)
            or not self.channels
            or min(*self.channels, *self.kernels) < 1
        ):
            raise InputError(
                f"conv1d: expected a number of channels and a kernel of at least 1 for each convolution, got channels "
                f"{self.channels} and kernels {self.kernels}"
            )


class Conv1d(Model):
    """Convolutions, mean over time, one linear map. Windows of any length."""

    def __init__(self, config: Conv1dConfig) -> None:
        super().__init__(modality="current", dense=False)
        self.config = config
        widths = (PHASES, *config.channels)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConstantPad1d(((kernel - 1) // 2, kernel // 2), 0.0),
                    nn.Conv1d(before, after, kernel, bias=False),
                    nn.BatchNorm1d(after),
                    nn.ReLU(),
                )
                for before, after, kernel in zip(widths[:-1], config.channels, config.kernels, strict=True)
            )
        )
        self.head = nn.Linear(config.channels[-1], 2)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (None, PHASES), what="conv1d: current")
        return Output(self.head(self.encode(current)))

    def encode(self, current: Tensor) -> Tensor:
        """(b, Tc, 3) in A -> the mean over time of the last convolution's channels, (b, channels)."""
        return self.blocks(self.input_norm.current(current).transpose(1, 2)).mean(2)


REGISTRATION = Registration(
    name="conv1d",
    title="1-D CNN",
    modality="current",
    dense=False,
    config=Conv1dConfig,
    build=Conv1d,
    tiny={"channels": [24, 24], "kernels": [5, 3]},
    presets={"nano": {"channels": [32, 64, 32]}},
    source="Wang, Yan, Oates, IJCNN 2017, arXiv 1611.06455 (FCN)",
    provenance={
        "three convolutions of 8, 5, 3 steps and 128, 256, 128 channels, batch norm, ReLU, mean over time": "paper",
        "padding that keeps the length": "choice",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
