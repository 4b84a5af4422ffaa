"""Things that come and go: mist, glare, reflections. When, how long, how strong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.streams import Stream

__all__ = ["Episode", "envelope", "plan_episodes"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Episode:
    """One stretch of time, in s, and a number in [0, 1) that says which of its kind it is."""

    start: float
    stop: float
    draw: float


def plan_episodes(
    stream: Stream, duration: float, pause: tuple[float, float], length: tuple[float, float]
) -> tuple[Episode, ...]:
    """Episodes from 0 to `duration` s with pauses and lengths (s) drawn from two ranges, short ones commoner."""
    episodes = []
    at = _skewed(stream, pause) * stream.uniform()
    while at < duration:
        own = _skewed(stream, length)
        episodes.append(Episode(at, at + own, stream.uniform()))
        at += own + _skewed(stream, pause)
    return tuple(episodes)


def envelope(seconds: FloatArray, episode: Episode, rise: float, fall: float) -> FloatArray:
    """(n,) 0 outside the episode, 1 inside, with smooth flanks of `rise` and `fall` seconds within it."""
    up = np.clip((seconds - episode.start) / rise, 0.0, 1.0)
    down = np.clip((episode.stop - seconds) / fall, 0.0, 1.0)
    level = np.minimum(up, down)
    return np.asarray(level * level * (3.0 - 2.0 * level), dtype=np.float64)


def _skewed(stream: Stream, bounds: tuple[float, float]) -> float:
    share = stream.uniform()
    return bounds[0] + (bounds[1] - bounds[0]) * share * share
