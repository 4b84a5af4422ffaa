"""Splashes: drops of melt that glow on the shell for a while, one to three pixels, and are no anomaly.

Some fly past within a second, some stick and cool. They come at times of their own and know nothing of the anomaly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.plan import Plan
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = ["Splash", "draw_splashes", "plan_splashes"]

FloatArray = npt.NDArray[np.float32]

PAUSE = (1.5, 22.0)  # s between showers
DROPS = (1, 4)  # in a shower
STICKS = 0.4  # share of drops that stick
STUCK_SECONDS = (2.0, 26.0)
FLIGHT_SECONDS = (0.16, 0.9)
FLIGHT = (0.25, 0.9)  # frame heights a second
BRIGHTNESS = (0.75, 1.6)  # of white
WIDTH = (0.42, 0.72)  # deviation of a drop's disc, pixels of a frame 64 wide
COLOUR = (255.0, 226.0, 168.0)  # at full brightness; cooling takes blue and green first


@dataclass(frozen=True, kw_only=True)
class Splash:
    """One drop: where it is and how bright in each frame of [first, last)."""

    first: int
    last: int
    row: FloatArray  # (n,) pixels
    column: FloatArray
    strength: FloatArray  # (n,) 0..1.6
    width: float  # pixels


def plan_splashes(plan: Plan, seconds: npt.NDArray[np.float64]) -> tuple[Splash, ...]:
    """All drops of a recording, in order of their showers."""
    stream = plan.stream("splashes")
    scale = max(plan.pace, 0.25)
    out: list[Splash] = []
    at, end = float(seconds[0]) + stream.uniform(0.0, 4.0) * scale, float(seconds[-1])
    shower = 0
    while at < end:
        place = (stream.uniform(0.3, 0.92), stream.uniform(0.06, 0.94))
        for k in range(stream.integer(*DROPS)):
            own = plan.stream("splash", 8 * shower + k)
            sticks = own.uniform() < STICKS
            length = own.uniform(*STUCK_SECONDS) * scale if sticks else own.uniform(*FLIGHT_SECONDS)
            start = at + own.uniform(0.0, 0.5)
            first, last = (int(i) for i in np.searchsorted(seconds, [start, start + length]))
            if first >= last:
                continue
            since = (np.arange(last - first) + 0.5) / FRAMES_PER_SECOND
            speed = 0.0 if sticks else own.uniform(*FLIGHT)
            side = 0.0 if sticks else own.uniform(-0.5, 0.5) * speed
            spread = own.normals(2) * 0.07
            cooling = 1.0 - (since / length) ** 2 if sticks else np.ones_like(since)
            out.append(
                Splash(
                    first=first,
                    last=last,
                    row=(plan.height * (place[0] + spread[0] + speed * since)).astype(np.float32),
                    column=(plan.width * (place[1] + spread[1] + side * since)).astype(np.float32),
                    strength=(own.uniform(*BRIGHTNESS) * np.clip(cooling, 0.0, 1.0)).astype(np.float32),
                    width=own.uniform(*WIDTH) * max(plan.width / 64.0, 0.6),
                )
            )
        share, shower = stream.uniform(), shower + 1
        at += scale * (PAUSE[0] + (PAUSE[1] - PAUSE[0]) * share * share)
    return tuple(out)


def draw_splashes(
    splashes: tuple[Splash, ...], start: int, stop: int, height: int, width: int
) -> FloatArray | None:
    """(stop - start, H, W) brightness 0.. of all drops, or None where there is none."""
    seen = [own for own in splashes if own.first < stop and own.last > start]
    if not seen:
        return None
    light = np.zeros((stop - start, height, width), dtype=np.float32)
    for own in seen:
        first, last = max(start, own.first), min(stop, own.last)
        part = slice(first - own.first, last - own.first)
        rows = _profile(height, own.row[part], own.width)
        columns = _profile(width, own.column[part], own.width)
        light[first - start : last - start] += (
            own.strength[part, None, None] * rows[:, :, None] * columns[:, None, :]
        )
    return light


def _profile(length: int, centre: FloatArray, width: float) -> FloatArray:
    """(n, length) a bell of height 1 about `centre` (n,) pixels."""
    off = (np.arange(length, dtype=np.float32) + np.float32(0.5) - centre[:, None]) / np.float32(width)
    return np.exp(np.float32(-0.5) * off * off)
