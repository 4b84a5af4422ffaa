"""The light on the shell and the camera's white balance: they jump within tenths of a second, and drift between.

The authors' figures show the same shell in yellow, brown, blue, grey and washed-out light, often in two frames of one
clip. A state of the light is an ambient colour, a flame colour that comes from a side or the top, and where the flame
stands; which state follows is drawn, and knows nothing of the anomaly. Grey levels, 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream, red_noise
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = ["STATES", "Light", "make_light"]

FloatArray = npt.NDArray[np.float32]

# Ambient and flame colour (R, G, B) of each state, and how common it is; after the mean colours of 24 published frames.
STATES: tuple[tuple[str, float, tuple[float, float, float], tuple[float, float, float]], ...] = (
    ("yellow", 1.5, (88.0, 66.0, 2.0), (225.0, 185.0, 8.0)),
    ("olive", 1.6, (80.0, 66.0, 26.0), (220.0, 192.0, 96.0)),
    ("gold", 1.6, (108.0, 88.0, 50.0), (280.0, 258.0, 166.0)),
    ("brown", 1.4, (60.0, 46.0, 14.0), (126.0, 104.0, 40.0)),
    ("purple", 1.0, (76.0, 59.0, 68.0), (92.0, 66.0, 48.0)),
    ("terracotta", 1.0, (90.0, 55.0, 57.0), (130.0, 90.0, 60.0)),
    ("blue", 1.1, (37.0, 43.0, 74.0), (48.0, 48.0, 62.0)),
    ("slate, flame at the side", 1.4, (40.0, 44.0, 58.0), (140.0, 114.0, 14.0)),
    ("grey", 0.9, (92.0, 91.0, 90.0), (185.0, 180.0, 165.0)),
    ("washed out", 0.8, (132.0, 131.0, 114.0), (265.0, 258.0, 225.0)),
)
STATE_SECONDS = (6.0, 70.0)  # short ones are commoner
CHANGE_SECONDS = (0.08, 1.2)
EXPOSURE_SPREAD = 0.09  # log deviation of a state's brightness from the table's
BALANCE_SPREAD = 0.022  # log deviation of each colour's
DRIFT, DRIFT_SECONDS = 0.07, 25.0  # log deviation of the brightness within a state
TINT, TINT_SECONDS = 0.015, 40.0
FLICKER, FLICKER_SECONDS = 0.05, 0.12  # relative deviation of the flame, frame to frame
SURGE, SURGE_SECONDS = 0.14, 3.0


@dataclass(frozen=True, kw_only=True)
class Light:
    """Per frame: the ambient colour (T, 3), the flame's (T, 3), and how much of it comes from the second place (T,)."""

    ambient: FloatArray
    flame: FloatArray
    place: FloatArray
    state: npt.NDArray[np.int8]  # (T,) number in STATES of the state that is setting in or holds

    def level(self, own: slice) -> FloatArray:
        """(n,) mean brightness, about 1 in a well-lit frame."""
        return np.asarray((self.ambient[own] + 0.4 * self.flame[own]).mean(axis=1) / 130.0, dtype=np.float32)


def make_light(plan: Plan, seconds: npt.NDArray[np.float64]) -> Light:
    """The light at each frame; `seconds` (T,) are the frames' times."""
    stream = plan.stream("light")
    scale = max(plan.pace, 0.25)
    weights = np.cumsum([weight for _, weight, _, _ in STATES])
    at, last = float(seconds[0]) - scale * STATE_SECONDS[1] * 0.3 * stream.uniform(), -1
    table = np.empty((len(seconds), 7))
    state = np.zeros(len(seconds), dtype=np.int8)
    before: npt.NDArray[np.float64] | None = None
    while at < seconds[-1] + 1.0:
        number = last
        while number == last:
            number = int(np.searchsorted(weights, stream.uniform() * weights[-1], side="right"))
        own, last = _draw_state(stream, number), number
        share = stream.uniform()
        stop = at + scale * (STATE_SECONDS[0] + (STATE_SECONDS[1] - STATE_SECONDS[0]) * share * share)
        change = stream.uniform(*CHANGE_SECONDS)
        first, end = np.searchsorted(seconds, [at, stop])
        if before is None:
            before = own
        arrived = np.clip((seconds[first:end, None] - at) / change, 0.0, 1.0)
        table[first:end] = before + (own - before) * arrived
        state[first:end] = number
        before, at = own, stop
    count = len(seconds)
    drift = np.exp(DRIFT * _slow(plan.stream("drift"), count, DRIFT_SECONDS))
    tint = TINT * _slow(plan.stream("tint"), count, TINT_SECONDS)
    flicker = red_noise(plan.stream("flicker"), count, FLICKER_SECONDS * FRAMES_PER_SECOND)
    surge = red_noise(plan.stream("surge"), count, SURGE_SECONDS * FRAMES_PER_SECOND)
    flame = np.clip(1.0 + FLICKER * flicker + SURGE * surge, 0.3, 1.9)
    balance = drift[:, None] * (1.0 + tint[:, None] * np.array([1.0, 0.0, -1.0]))
    return Light(
        ambient=(table[:, :3] * balance).astype(np.float32),
        flame=(table[:, 3:6] * balance * flame[:, None]).astype(np.float32),
        place=table[:, 6].astype(np.float32),
        state=state,
    )


def _draw_state(stream: Stream, number: int) -> npt.NDArray[np.float64]:
    """(7,) ambient colour, flame colour and the flame's place, about those of the table."""
    _, _, ambient, flame = STATES[number]
    normals = stream.normals(5)
    balance = np.exp(EXPOSURE_SPREAD * normals[0] + BALANCE_SPREAD * normals[1:4])
    strength = np.exp(0.2 * normals[4])
    return np.concatenate(
        [np.array(ambient) * balance, np.array(flame) * balance * strength, [stream.uniform()]]
    )


def _slow(stream: Stream, count: int, seconds: float) -> npt.NDArray[np.float64]:
    """(count,) smooth noise of deviation about 1: knots each second, joined linearly."""
    knots = red_noise(stream, count // FRAMES_PER_SECOND + 2, seconds)
    return np.interp(np.arange(count) / FRAMES_PER_SECOND, np.arange(len(knots)), knots)
