"""The furnace shell, which fills the frame: soft, low in contrast, with streaks, stains, ribs and thin lines.

One view for each recording, drawn from its seed. Everything is relative: 1 is the shell's mean reflectance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream
from fmfbench.furnace.texture import smooth_noise

__all__ = ["Shell", "draw_shell"]

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

STREAKS = (0.05, 0.12)  # relative deviation; upright, where water runs down
STAINS = (0.03, 0.13)
GRAIN = (0.022, 0.055)
RIBS = (0.0, 0.07)  # depth of the stiffening bands
LINES = (1, 5)  # scratches and old cracks
LINE_DEPTH = (0.1, 0.34)
FALL = (0.2, 0.5)  # how much darker the foot is than the top
AMBIENT_CONTRAST = 1.4  # power of the reflectance
SOFTNESS = 0.5  # pixels of a frame 64 wide
FLAME_REACH = (0.28, 0.6)  # of the frame, over which light from the top falls to 1/e
BAND = (0.14, 0.34)  # width of the lit band at a side
BAND_EDGE = (0.06, 0.3)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """One view of the shell."""

    reflectance: FloatArray  # (H, W, 3), about 1, in flame light
    diffuse: FloatArray  # the same in ambient light, which flatters less: more contrast
    reach: FloatArray  # (2, H, W) 0..1, how much of a flame's light comes there from its two places


def draw_shell(plan: Plan) -> Shell:
    """The shell of a recording and where flame light falls on it."""
    stream = plan.stream("shell")
    height, width = plan.height, plan.width
    down, across = _places(height, width)
    tall = smooth_noise(stream, max(4, height // 5), width, width / 2.0, 2.5, slope=0.9)
    streaks = zoom(tall, (height / tall.shape[0], 1.0), order=1)[:height]
    stains = np.clip(smooth_noise(stream, height, width, height / 1.0, 3.0, slope=1.5) - 0.3, 0.0, 2.2)
    grain = smooth_noise(stream, height, width, 6.0, 2.0, slope=0.3)
    shade = (
        (1.0 + 0.5 * stream.uniform(*FALL) - stream.uniform(*FALL) * down)
        * (1.0 - stream.uniform(0.05, 0.3) * (2.0 * (across - stream.uniform(0.3, 0.7))) ** 2)
        * (1.0 + stream.uniform(*STREAKS) * streaks * (0.6 + 0.4 * down))
        * (1.0 - stream.uniform(*STAINS) * stains)
        * (1.0 + stream.uniform(*GRAIN) * grain)
        * (1.0 - stream.uniform(*RIBS) * _ribs(stream, down, height))
    )
    shade = shade * _lines(stream, height, width) * _fold(stream, down, across)
    shade = gaussian_filter(shade, SOFTNESS * width / 64.0, mode="nearest")
    warmth = 0.05 * smooth_noise(stream, height, width, height / 1.0, 5.0)[..., None]
    colour = shade[..., None] * (1.0 + warmth * np.array([1.0, 0.1, -1.0]))
    if stream.uniform() < 0.4:
        colour = _bolt(stream, colour)
    reach = np.stack([_from_top(stream, down, across), _from_side(stream, height, width)])
    return Shell(
        reflectance=colour.astype(np.float32),
        diffuse=(colour**AMBIENT_CONTRAST).astype(np.float32),
        reach=reach.astype(np.float32),
    )


def _places(height: int, width: int) -> tuple[Float64Array, Float64Array]:
    """(H, 1) and (1, W) places of pixels as shares of the frame."""
    return ((np.arange(height) + 0.5) / height)[:, None], ((np.arange(width) + 0.5) / width)[None, :]


def _from_top(stream: Stream, down: Float64Array, across: Float64Array) -> Float64Array:
    """(H, W) flame light from above, stronger at one end of the rim."""
    reach, lean = stream.uniform(*FLAME_REACH), stream.uniform(-0.5, 0.5)
    ripple = smooth_noise(stream, len(down), across.size, len(down) / 1.0, 6.0)
    slant = down + lean * (across - 0.5)
    return np.exp(-np.clip(slant, 0.0, None) / reach) * (1.0 + 0.07 * ripple)


def _from_side(stream: Stream, height: int, width: int) -> Float64Array:
    """(H, W) flame light along one side, with a ragged edge."""
    down, across = _places(height, width)
    if stream.uniform() < 0.5:
        across = 1.0 - across
    edge = smooth_noise(stream, height, width, height / 1.5, 4.0)
    inside = (stream.uniform(*BAND) - across + 0.05 * edge) / stream.uniform(*BAND_EDGE)
    step = np.clip(0.5 + inside, 0.0, 1.0)
    ripple = smooth_noise(stream, height, width, height / 2.0, 3.0)
    band = step * step * (3.0 - 2.0 * step) * (1.0 + 0.08 * ripple)
    return np.asarray(0.9 * band * (1.0 - 0.3 * down) + 0.35 * np.exp(-across / 0.4) * (1.0 - 0.6 * down))


def _ribs(stream: Stream, down: Float64Array, height: int) -> Float64Array:
    """(H, 1) 0..1, the stiffening bands around the shell."""
    bands = np.zeros_like(down)
    at = 0.12 * stream.uniform()
    while at < 1.0:
        bands = np.maximum(bands, np.clip(1.3 - np.abs(down - at) * height / 1.3, 0.0, 1.0))
        at += 0.09 + 0.12 * stream.uniform()
    return bands


def _lines(stream: Stream, height: int, width: int) -> Float64Array:
    """(H, W) about 1: wandering dark lines one pixel wide, each with a lit lip beside it."""
    out = np.ones((height, width))
    for _ in range(stream.integer(*LINES)):
        row, column = stream.uniform(0.1, 0.9) * height, stream.uniform(0.05, 0.95) * width
        heading, depth = stream.uniform(0.0, 6.283), stream.uniform(*LINE_DEPTH)
        for _ in range(int(stream.uniform(0.1, 0.5) * width)):
            heading += 0.45 * float(stream.normals(1)[0])
            row, column = row + np.sin(heading), column + np.cos(heading)
            y, x = int(row), int(column)
            if not (0 <= y < height - 1 and 0 <= x < width):
                break
            out[y, x] = 1.0 - depth
            out[y + 1, x] = max(out[y + 1, x], 1.0 + 0.4 * depth)
    return out


def _fold(stream: Stream, down: Float64Array, across: Float64Array) -> Float64Array:
    """(H, W) about 1: a plate or fold at the foot, brighter or darker than the shell above it."""
    top = stream.uniform(0.72, 1.1) + stream.uniform(-0.25, 0.25) * (across - 0.5)
    step = stream.uniform(-0.16, 0.16)
    side = np.clip((across - stream.uniform(0.0, 0.6)) * 30.0, 0.0, 1.0)
    return 1.0 + step * np.clip((down - top) * 40.0, 0.0, 1.0) * side


def _bolt(stream: Stream, colour: Float64Array) -> Float64Array:
    """Put a dark round head into an upper corner."""
    height, width = colour.shape[:2]
    down, across = _places(height, width)
    column = 0.02 if stream.uniform() < 0.5 else 0.98
    distance = np.hypot((down - stream.uniform(0.06, 0.2)) * height, (across - column) * width)
    head = np.clip(1.2 + 0.03 * width - distance, 0.0, 1.0)[..., None]
    return np.asarray(colour * (1.0 - 0.55 * head) + 0.1 * head * np.array([0.0, 0.1, 0.5]))
