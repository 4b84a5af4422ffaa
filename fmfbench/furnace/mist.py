"""Water mist: optical depth of two drifting layers, thick for seconds at a time.

A pixel behind optical depth d shows J exp(-d) + A (1 - exp(-d)), J its own colour and A the mist's (the usual law of
scattering, Koschmieder 1924). The shell is sprayed with water, hence the mist (paper, Fig. 1); depths and times are
chosen. Mist knows nothing of the anomaly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.episodes import Episode, envelope, plan_episodes
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import red_noise
from fmfbench.furnace.texture import DriftingTexture, smooth_noise
from fmfbench.furnace.timing import FRAMES_PER_SECOND, SECOND

__all__ = ["Mist", "mist_depth"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

HAZE = 0.16  # optical depth between the episodes
HAZE_SPREAD = 0.6  # log deviation
HAZE_SECONDS = 12.0
EPISODE_PAUSE = (6.0, 56.0)  # s
EPISODE_SECONDS = (3.5, 9.0)
FLANK_SECONDS = 0.9
THIN, THICK = (0.5, 2.6), (3.6, 7.5)  # peak optical depth; THICK hides everything
THICK_SHARE = 0.5
STRUCTURE = 0.4  # relative deviation of the depth over the frame
BRIGHTNESS = (1.02, 1.05, 1.1)  # of the mist over the light that falls on it


def mist_depth(plan: Plan, seconds: npt.NDArray[np.float64]) -> tuple[FloatArray, tuple[Episode, ...]]:
    """(T,) mean optical depth at each frame, and the episodes it is made of."""
    count = len(seconds)
    knots = red_noise(plan.stream("haze"), count // FRAMES_PER_SECOND + 2, HAZE_SECONDS)
    haze = HAZE * np.exp(
        HAZE_SPREAD * np.interp(np.arange(count) / FRAMES_PER_SECOND, np.arange(len(knots)), knots)
    )
    scale = max(plan.pace, 0.4)
    length = (EPISODE_SECONDS[0] * scale, EPISODE_SECONDS[1] * scale)
    pause = (EPISODE_PAUSE[0] * scale, EPISODE_PAUSE[1] * scale)
    episodes = plan_episodes(plan.stream("mist episodes"), float(seconds[-1]) + 1.0, pause, length)
    for episode in episodes:
        first, last = np.searchsorted(seconds, [episode.start, episode.stop])
        level = envelope(seconds[first:last], episode, FLANK_SECONDS * scale, FLANK_SECONDS * scale)
        haze[first:last] += peak_depth(episode) * level
    return haze.astype(np.float32), episodes


def peak_depth(episode: Episode) -> float:
    """The optical depth that an episode reaches."""
    if episode.draw < THICK_SHARE:
        return THICK[0] + (THICK[1] - THICK[0]) * episode.draw / THICK_SHARE
    return THIN[0] + (THIN[1] - THIN[0]) * (episode.draw - THICK_SHARE) / (1.0 - THICK_SHARE)


class Mist:
    """The mist's shape: two layers of noise carried by their own winds, so that it rolls and never repeats."""

    def __init__(self, plan: Plan) -> None:
        height, width = plan.height, plan.width
        stream = plan.stream("mist")
        coarse = smooth_noise(stream, 6 * height, 6 * width, 3.0 * height, 5.0, slope=1.9)
        fine = smooth_noise(stream, 5 * height, 5 * width, 1.2 * height, 4.0, slope=1.6)
        self._layers = (DriftingTexture(coarse, height, width, 2), DriftingTexture(fine, height, width, 2))
        side = 1 if stream.uniform() < 0.5 else -1
        # tile pixels a second; a tile pixel is half a frame pixel
        self._winds = (
            (-round(0.35 * 2 * height), side * round(0.16 * 2 * width)),
            (-round(0.62 * 2 * height), side * round(0.05 * 2 * width)),
        )
        down = ((np.arange(height) + 0.5) / height)[None, :, None]
        self._profile = (0.82 + 0.36 * down).astype(np.float32)  # denser low down, where the water lands

    def structure(self, time: IntArray) -> tuple[FloatArray, FloatArray]:
        """(n, H, W) relative depth, about 1 and never below 0.22, and (n, H, W) the layers' brightness -1..1."""
        first, second = (
            layer.frames((time * down) // SECOND, (time * right) // SECOND)
            for layer, (down, right) in zip(self._layers, self._winds, strict=True)
        )
        shape = (1.0 + STRUCTURE * (0.8 * first + 0.6 * second)) * self._profile
        return np.maximum(shape, 0.22, out=shape), 0.7 * first - 0.5 * second
