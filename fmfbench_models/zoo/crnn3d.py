"""3DCRNN: a convolutional stem, convolutional LSTM cells over the frames. A re-interpretation.

Liu, Zhang, Wu, Fan, "Disturbance Robust Abnormality Diagnosis of Fused Magnesium Furnaces Using Deep Neural
Networks", IEEE Trans. Artificial Intelligence 4:669-678, 2023. Its text could not be had; FmFormer's describes it as
a convolution-recurrent framework whose 2-D convolutional LSTM cells extract spatio-temporal features. The cell is
that of Shi et al., "Convolutional LSTM Network", NeurIPS 2015.

    i, f, o = sigmoid(W * [x, h] + b),  g = tanh(W * [x, h] + b)
    c' = f c + i g,                     h' = o tanh(c')

What differs from the original: all sizes are ours (width 96, as FmFormer); no peepholes by default, which Shi et al.
have; the dense head is FmFormer's. Temporal residual images, which the authors' earlier work feeds (Acta Automatica
Sinica 45(8), 2019), are the option `residual_input`. Training: the shared recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fmfbench_models.interface import Model, Output
from fmfbench_models.parts.blocks import TokenDecoder, class_head, needed, patch_grid
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Crnn3d", "Crnn3dConfig"]

STRIDE = 8  # of the stem


@dataclass(frozen=True, kw_only=True)
class Crnn3dConfig:
    """Settings of Crnn3d.

    size (H, W): of the frames; any number of them. depth: of the stack of cells. stem_channels: before the last of its
    three steps. residual_input: each frame comes with its difference to the first.
    """

    size: tuple[int, int] = (64, 64)
    dim: int = 96
    depth: int = 2
    stem_channels: tuple[int, int] = (32, 64)
    peepholes: bool = False
    residual_input: bool = False
    decoder_channels: tuple[int, int, int] = (128, 64, 32)


class ConvLstmCell(nn.Module):
    """One step of a convolutional LSTM. x (b, inputs, h, w), state (hidden, cell) each (b, outputs, h, w).

    4 outputs (inputs + outputs) k^2 + 4 outputs parameters; `peephole` (h, w) adds 3 outputs h w: the gates then
    see the cell, i and f the old one, o the new one.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, peephole: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + outputs, 4 * outputs, kernel, padding=kernel // 2)
        self.outputs = outputs
        self.peephole = None if peephole is None else nn.Parameter(torch.zeros(3, outputs, *peephole))

    def start(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The state before the first frame: zero."""
        zero = torch.zeros_like(like[:, :1]).expand(-1, self.outputs, -1, -1)
        return zero, zero

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden, cell = state
        i, f, g, o = self.gates(torch.cat([x, hidden], 1)).chunk(4, dim=1)
        if self.peephole is not None:
            i, f = i + self.peephole[0] * cell, f + self.peephole[1] * cell
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        if self.peephole is not None:
            o = o + self.peephole[2] * cell
        return o.sigmoid() * cell.tanh(), cell


class Stem(nn.Sequential):
    """Three times: 3x3 convolution of stride 2 without bias, batch norm, ReLU.

    Frames (n, c, H, W) to (n, dim, H / 8, W / 8).
    """

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise((channels, *widths)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            steps += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*steps)


class Crnn3d(Model):
    """Stem of each frame, cells over the frames, heads on the last hidden state."""

    def __init__(self, config: Crnn3dConfig) -> None:
        super().__init__(modality="visual", dense=True)
        self.config = config
        _, *grid = patch_grid(1, config.size, (1, STRIDE, STRIDE), what="crnn3d")
        places = (grid[0], grid[1]) if config.peepholes else None
        self.stem = Stem(6 if config.residual_input else 3, (*config.stem_channels, config.dim))
        self.cells = nn.ModuleList(
            ConvLstmCell(config.dim, config.dim, peephole=places) for _ in range(config.depth)
        )
        self.head = class_head(config.dim)
        self.decoder = TokenDecoder(config.dim, (1, grid[0], grid[1]), channels=config.decoder_channels)

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        video = needed(video, (3, None, *self.config.size), what="crnn3d: video")
        hidden = self.last_hidden(self.input_norm.video(video))
        tokens = hidden.flatten(2).transpose(1, 2)
        return Output(self.head(hidden.mean((2, 3))), self.decoder(tokens))

    def last_hidden(self, video: Tensor) -> Tensor:
        """(b, 3, T, H, W) -> (b, dim, H / 8, W / 8)."""
        frames = video.transpose(1, 2)  # (b, T, 3, H, W)
        if self.config.residual_input:
            frames = torch.cat([frames, frames - frames[:, :1]], 2)
        maps = self.stem(frames.flatten(0, 1))
        sequence = list(maps.reshape(-1, int(video.shape[2]), *maps.shape[1:]).unbind(1))
        for cell in self.cells:
            assert isinstance(cell, ConvLstmCell)
            state = cell.start(sequence[0])
            for time, features in enumerate(sequence):
                state = cell(features, state)
                sequence[time] = state[0]
        return sequence[-1]


REGISTRATION = Registration(
    name="crnn3d",
    title="3DCRNN",
    modality="visual",
    dense=True,
    config=Crnn3dConfig,
    build=Crnn3d,
    tiny={
        "size": [16, 24],
        "dim": 24,
        "depth": 1,
        "stem_channels": [8, 16],
        "decoder_channels": [24, 16, 8],
    },
    presets={"nano": {"dim": 48, "depth": 1, "stem_channels": [16, 32], "decoder_channels": [48, 32, 16]}},
    reinterpretation=True,
    source="Liu et al., IEEE TAI 4:669-678, 2023 (as described in the FmFormer paper); Shi et al., NeurIPS 2015",
    provenance={
        "convolutions, then 2-D convolutional LSTM cells": "FmFormer paper",
        "cell": "Shi et al. 2015, without peepholes",
        "stem, widths, depth, class head": "choice",
        "dense head": "FmFormer paper",
        "residual input (option)": "predecessor of 2019 (abstract)",
        "input scaling": "choice",
        "training recipe": "choice (FmFormer's)",
    },
)
