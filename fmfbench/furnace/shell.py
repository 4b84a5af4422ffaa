"""The furnace shell under changing light, and the flames at its mouth. Grey levels are linear, 0..255."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream, red_noise
from fmfbench.furnace.texture import DriftingTexture, smooth_noise
from fmfbench.furnace.timing import FRAMES_PER_SECOND, SECOND

__all__ = ["MOUTH", "Flames", "Light", "draw_shell", "make_light"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

MOUTH = 0.2  # share of the frame's height above the shell's rim
STEEL = (80.0, 77.0, 76.0)  # grey levels of the lit shell, R G B
BACKGROUND = (34.0, 32.0, 33.0)
FIRELIGHT = (46.0, 25.0, 10.0)  # added by the flames just below the rim
FLAME_REACH = 0.3  # share of the height over which firelight falls to 1/e

LIGHT_DRIFT = 0.16  # log deviation of the daylight and lamps
LIGHT_DRIFT_SECONDS = 70.0
TINT_DRIFT = 0.04
FLICKER = 0.28  # relative deviation of the flames, frame to frame
FLICKER_SECONDS = 0.12
SURGE = 0.3  # relative deviation of the flames over seconds
SURGE_SECONDS = 4.0
FLAME_RISE = 9.0  # frame heights in 10 s: 0.9 of the frame per second


@dataclass(frozen=True, kw_only=True)
class Light:
    """Per frame: daylight (T,), its warmth (T,) around 0, and the flames' strength (T,), about 1."""

    day: FloatArray
    warmth: FloatArray
    flame: FloatArray


def make_light(plan: Plan) -> Light:
    """Slow drift of the workshop's light and the fast flicker of the flames, one value per frame."""
    count = plan.frames
    drift = _slow(plan.stream("daylight"), count, LIGHT_DRIFT_SECONDS)
    warmth = _slow(plan.stream("warmth"), count, LIGHT_DRIFT_SECONDS)
    flicker = red_noise(plan.stream("flicker"), count, FLICKER_SECONDS * FRAMES_PER_SECOND)
    surge = red_noise(plan.stream("surge"), count, SURGE_SECONDS * FRAMES_PER_SECOND)
    return Light(
        day=np.exp(LIGHT_DRIFT * drift).astype(np.float32),
        warmth=(TINT_DRIFT * warmth).astype(np.float32),
        flame=np.clip(1.0 + FLICKER * flicker + SURGE * surge, 0.15, 2.2).astype(np.float32),
    )


def draw_shell(plan: Plan) -> tuple[FloatArray, FloatArray]:
    """The still scene: (H, W, 3) colour under unit light, and (H, W) how much of firelight reaches a pixel."""
    stream = plan.stream("shell")
    height, width = plan.height, plan.width
    down = ((np.arange(height) + 0.5) / height)[:, None]
    across = ((np.arange(width) + 0.5) / width)[None, :]
    centre, radius = 0.5 + 0.04 * (stream.uniform() - 0.5), 0.42 + 0.03 * stream.uniform()
    around = (across - centre) / radius
    on_shell = np.clip((1.0 - np.abs(around)) * radius * width + 0.5, 0.0, 1.0)
    rim = MOUTH - 0.05 * np.sqrt(np.clip(1.0 - around * around, 0.0, 1.0)) + 0.04
    on_shell = on_shell * np.clip((down - rim) * height + 0.5, 0.0, 1.0)
    roundness = 0.22 + 0.78 * np.sqrt(np.clip(1.0 - around * around, 0.0, 1.0))
    texture = 1.0 + 0.11 * smooth_noise(stream, height, width, height / 1.5, 2.0, slope=1.0)
    ribs = 1.0 - 0.22 * _ribs(stream, down, height)
    seams = 1.0 - 0.2 * np.clip(1.0 - np.abs(around - (stream.uniform() - 0.5)) * radius * width, 0.0, 1.0)
    rust = np.clip(0.5 + 0.5 * smooth_noise(stream, height, width, height / 1.0, 4.0), 0.0, 1.2)
    steel = np.array(STEEL) + rust[..., None] * np.array([14.0, 1.0, -8.0])
    sheen = 1.0 + 0.3 * np.exp(-(((around + 0.35) / 0.2) ** 2))  # a lamp's light along the wet cylinder
    shade = roundness * texture * ribs * seams * sheen
    dark = np.array(BACKGROUND) * (1.0 + 0.15 * smooth_noise(stream, height, width, height, 3.0))[..., None]
    floor = np.clip((down - 0.93) * height, 0.0, 1.0)[..., None]
    colour = (on_shell[..., None] * shade[..., None] * steel + (1.0 - on_shell[..., None]) * dark) * (
        1 - 0.45 * floor
    )
    reach = np.exp(-np.clip(down - rim, 0.0, None) / FLAME_REACH) * (0.25 + 0.75 * on_shell) * texture
    return colour.astype(np.float32), reach.astype(np.float32)


class Flames:
    """Tongues of fire above the rim: noise that rises, thinned with height."""

    def __init__(self, plan: Plan) -> None:
        height, width = plan.height, plan.width
        self.rows = max(4, round(0.36 * height))
        stream = plan.stream("flames")
        tile = smooth_noise(stream, 4 * height, 4 * width, 0.8 * height, 4.0, slope=1.3)
        self._texture = DriftingTexture(tile, self.rows, width, 2)
        down = ((np.arange(self.rows) + 0.5) / height)[:, None]
        across = ((np.arange(width) + 0.5) / width)[None, :]
        base = MOUTH + 0.02 - 0.03 * np.cos((across - 0.5) * np.pi)
        above = (base - down) / MOUTH
        wide = np.clip(1.0 - np.abs(across - 0.5) / 0.44, 0.0, 1.0)
        self._profile = (
            np.where(above >= 0.0, 1.0 - 1.15 * above, 1.0 + 7.0 * above) - 0.85 * (1.0 - wide) ** 2
        )
        self._profile = self._profile.astype(np.float32)
        self._speed = round(FLAME_RISE / 10.0 * height * 2)  # tile pixels a second

    def brightness(self, time: IntArray, strength: FloatArray) -> FloatArray:
        """(n, rows, W) 0..1, the flames' brightness in the frame's top rows at times (n,) ns."""
        moved = -(time * self._speed) // SECOND
        noise = self._texture.frames(moved, moved // 9)
        level = self._profile + 0.33 * noise + 0.55 * (strength[:, None, None] - 1.0) - 0.22
        return np.clip(level, 0.0, 1.0, out=level)

    @staticmethod
    def colour(brightness: FloatArray) -> FloatArray:
        """(..., 3) grey levels of fire: red first, then yellow, then white."""
        b = brightness
        return np.stack([255.0 * np.minimum(1.0, 1.9 * b), 225.0 * b, 165.0 * b * b], axis=-1).astype(
            np.float32
        )


def _slow(stream: Stream, count: int, seconds: float) -> npt.NDArray[np.float64]:
    """(count,) smooth noise of deviation about 1: knots each second, joined linearly."""
    knots = red_noise(stream, count // FRAMES_PER_SECOND + 2, seconds)
    return np.interp(np.arange(count) / FRAMES_PER_SECOND, np.arange(len(knots)), knots)


def _ribs(stream: Stream, down: npt.NDArray[np.float64], height: int) -> npt.NDArray[np.float64]:
    """(H, 1) 0..1, the stiffening bands around the shell."""
    bands = np.zeros_like(down)
    at = MOUTH + 0.1 + 0.05 * stream.uniform()
    while at < 0.95:
        bands = np.maximum(bands, np.clip(1.3 - np.abs(down - at) * height / 1.2, 0.0, 1.0))
        at += 0.2 + 0.06 * stream.uniform()
    return bands
