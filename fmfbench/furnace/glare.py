"""Flame glare, which washes the frame out for moments, and reflections of flames, which look like the anomaly.

Both move and flicker, and neither knows of the anomaly. Where they come from is in the paper (light impact from the
furnace flame, Figs. 1 and 5; hard case 1 of its results); times and strengths are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.episodes import Episode, envelope, plan_episodes
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import red_noise
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = ["Reflection", "draw_reflection", "glare_level", "glare_veil", "plan_reflections"]

FloatArray = npt.NDArray[np.float32]

GLARE_PAUSE = (9.0, 130.0)  # s
GLARE_SECONDS = (0.8, 6.0)
GLARE_FLANK = 0.3
GLARE_WEAK, GLARE_BLINDING = (50.0, 150.0), (260.0, 560.0)  # grey levels added where the flame stands
GLARE_BLINDING_SHARE = 0.4
GLARE_FLICKER = 0.14
GLARE_COLOUR = (1.0, 0.97, 0.84)
GLARE_REACH = (0.5, 0.9)  # of the frame, over which it falls to a half

REFLECTION_PAUSE = (8.0, 130.0)
REFLECTION_SECONDS = (0.6, 3.5)
REFLECTION_STRENGTH = (22.0, 110.0)  # grey levels of red
REFLECTION_ORANGE = (0.55, 0.8)  # green over red: flame light is yellower than a halo
REFLECTION_BLUE = 0.12
REFLECTION_SPEED = (0.16, 0.4)  # frame widths a second
REFLECTION_FLICKER = (0.2, 0.55)  # relative deviation
REFLECTION_FLICKER_SECONDS = 0.14
REFLECTION_ROWS, REFLECTION_COLUMNS = (0.2, 0.94), (0.06, 0.94)  # of the frame
REFLECTION_RADIUS = (0.03, 0.09)  # of the frame's width


def glare_level(plan: Plan, seconds: npt.NDArray[np.float64]) -> tuple[FloatArray, tuple[Episode, ...]]:
    """(T,) grey levels of glare where the flame stands, and the episodes it comes in."""
    level = np.zeros(len(seconds))
    scale = max(plan.pace, 0.4)
    pause = (GLARE_PAUSE[0] * scale, GLARE_PAUSE[1] * scale)
    length = (GLARE_SECONDS[0] * scale, GLARE_SECONDS[1] * scale)
    episodes = plan_episodes(plan.stream("glare"), float(seconds[-1]) + 1.0, pause, length)
    for episode in episodes:
        first, last = np.searchsorted(seconds, [episode.start, episode.stop])
        level[first:last] += peak_glare(episode) * envelope(
            seconds[first:last], episode, GLARE_FLANK, GLARE_FLANK
        )
    flicker = red_noise(plan.stream("glare flicker"), len(seconds), 0.1 * FRAMES_PER_SECOND)
    return (level * np.clip(1.0 + GLARE_FLICKER * flicker, 0.5, 1.5)).astype(np.float32), episodes


def peak_glare(episode: Episode) -> float:
    """The grey levels that an episode of glare adds at its height."""
    if episode.draw < GLARE_BLINDING_SHARE:
        bounds, share = GLARE_BLINDING, episode.draw / GLARE_BLINDING_SHARE
    else:
        bounds, share = GLARE_WEAK, (episode.draw - GLARE_BLINDING_SHARE) / (1.0 - GLARE_BLINDING_SHARE)
    return bounds[0] + (bounds[1] - bounds[0]) * share


def glare_veil(plan: Plan) -> FloatArray:
    """(H, W) 0..1, how the glare spreads over the frame from a place at its top."""
    stream = plan.stream("veil")
    down = ((np.arange(plan.height) + 0.5) / plan.height)[:, None]
    across = ((np.arange(plan.width) + 0.5) / plan.width)[None, :]
    distance = np.hypot((across - stream.uniform(0.1, 0.9)) * 0.7, down)
    return (1.0 / (1.0 + (distance / stream.uniform(*GLARE_REACH)) ** 3)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Reflection:
    """One red patch: where it is and how bright, for each frame of [first, last)."""

    first: int
    last: int
    row: FloatArray  # (n,) of the centre, in pixels
    column: FloatArray
    strength: FloatArray  # (n,) grey levels of red
    radius: tuple[float, float]  # down, across; pixels
    orange: float  # green over red


def plan_reflections(plan: Plan, seconds: npt.NDArray[np.float64]) -> tuple[Reflection, ...]:
    """All red reflections of a recording, in order of their beginning."""
    scale = max(plan.pace, 0.4)
    pause = (REFLECTION_PAUSE[0] * scale, REFLECTION_PAUSE[1] * scale)
    length = (REFLECTION_SECONDS[0] * scale, REFLECTION_SECONDS[1] * scale)
    episodes = plan_episodes(plan.stream("reflections"), float(seconds[-1]) + 1.0, pause, length)
    return tuple(_reflection(plan, k, episode, seconds) for k, episode in enumerate(episodes))


def _reflection(plan: Plan, k: int, episode: Episode, seconds: npt.NDArray[np.float64]) -> Reflection:
    stream = plan.stream("reflection", k)
    first, last = (int(i) for i in np.searchsorted(seconds, [episode.start, episode.stop]))
    since = seconds[first:last] - episode.start
    speed = stream.uniform(*REFLECTION_SPEED) * plan.width
    along = stream.normals(2)
    along /= max(float(np.hypot(along[0], along[1])), 1e-6)
    row = plan.height * _fold(stream.uniform() + speed * along[0] * since / plan.height, *REFLECTION_ROWS)
    column = plan.width * _fold(stream.uniform() + speed * along[1] * since / plan.width, *REFLECTION_COLUMNS)
    wander = 0.01 * plan.width
    count = last - first
    size = stream.uniform(*REFLECTION_RADIUS) * plan.width
    aspect = 0.6 + 0.8 * stream.uniform()
    depth = stream.uniform(*REFLECTION_FLICKER)
    strength = stream.uniform(*REFLECTION_STRENGTH)
    orange = stream.uniform(*REFLECTION_ORANGE)
    flicker = red_noise(stream, count, REFLECTION_FLICKER_SECONDS * FRAMES_PER_SECOND)
    shake = [red_noise(stream, count, 0.5 * FRAMES_PER_SECOND) for _ in range(2)]
    level = envelope(seconds[first:last], episode, 0.4, 0.4) * np.clip(1.0 + depth * flicker, 0.05, 2.0)
    return Reflection(
        first=first,
        last=last,
        row=(row + wander * shake[0]).astype(np.float32),
        column=(column + wander * shake[1]).astype(np.float32),
        strength=(strength * level).astype(np.float32),
        radius=(size * aspect, size / aspect),
        orange=orange,
    )


def _fold(share: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    """A place between `low` and `high` that turns back at either end; `share` 0..1 is the first way along."""
    span = high - low
    return low + span * (1.0 - np.abs(1.0 - np.mod(share, 2.0)))


def draw_reflection(reflection: Reflection, start: int, stop: int, height: int, width: int) -> FloatArray:
    """(stop - start, H, W) grey levels of red of one reflection in frames start..stop."""
    out = np.zeros((stop - start, height, width), dtype=np.float32)
    first, last = max(start, reflection.first), min(stop, reflection.last)
    if first >= last:
        return out
    own = slice(first - reflection.first, last - reflection.first)
    row = (np.arange(height, dtype=np.float32) - reflection.row[own, None]) / np.float32(reflection.radius[0])
    column = (np.arange(width, dtype=np.float32) - reflection.column[own, None]) / np.float32(
        reflection.radius[1]
    )
    square = (row * row)[:, :, None] + (column * column)[:, None, :]
    shape = np.exp(np.float32(-1.1) * square)
    out[first - start : last - start] = shape * reflection.strength[own, None, None]
    return out
