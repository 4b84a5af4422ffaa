"""The arc current: three phases at 2 Hz, in A.

current = set point + fluctuation * melt state + feeding + exhausting + semi-molten drift. The paper says which of
these exist (a set point, high-frequency fluctuation from liquid tumbling, alternating ore feeding and smelting,
expert features "tracking error, change rate"); every amplitude and time here is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream, red_noise
from fmfbench.furnace.timing import CURRENT_HZ, SECOND

__all__ = ["Current", "make_current", "semi_molten"]

FloatArray = npt.NDArray[np.float64]

SET_POINT = (8600.0, 10400.0)  # A, range of a phase's set point
SET_POINT_DRIFT = 550.0  # A, deviation of the electrode controller's wander
SET_POINT_DRIFT_SECONDS = 1500.0
COMMON_NOISE = 260.0  # A, all three arcs share one melt
PHASE_NOISE = 220.0  # A, each arc its own
NOISE_SECONDS = 1.6
WHITE_NOISE = 180.0  # A
SLOW_NOISE = 300.0  # A
SLOW_NOISE_SECONDS = 20.0
RESTLESSNESS = 0.16  # log deviation of the slow change of the fluctuation's strength
RESTLESSNESS_SECONDS = 300.0

FEEDING_EVERY = (9.0, 36.0)  # s between feedings
FEEDING_SECONDS = (4.0, 10.0)
FEEDING_DROP = (100.0, 1000.0)  # A, cold ore between electrode and melt
FEEDING_STIR = (1.8, 3.2)  # added relative fluctuation, as strong as a burst of the signature
EXHAUST_EVERY = (20.0, 150.0)
EXHAUST_SECONDS = (1.5, 7.0)
EXHAUST_SWING = 900.0  # A, deviation; gas breaks out and shakes one arc

LEAD_SECONDS = (12.0, 24.0)  # the signature begins so long before onset
AT_ONSET = 0.75  # how far it has developed at onset
FADE_SECONDS = (6.0, 16.0)  # and is gone so long after the fading has begun
DRIFT = (-1000.0, -450.0)  # A, mean shift at full signature
IMBALANCE = 150.0  # A, deviation of each phase's own shift
STIR = (2.2, 3.8)  # added relative fluctuation at full signature, in a burst of size 1
BURST_SHARE = 0.9  # of it comes in bursts, the rest all the time
BURST_SIZE = (0.8, 1.2)
BURST_SECONDS = (4.0, 10.0)
BURST_EVERY = (2.0, 8.0)  # s between bursts
LIMITS = (5000.0, 14000.0)  # A, the range of the dataset's example rows


@dataclass(frozen=True, kw_only=True)
class Current:
    """A recording's current and the hidden states it came from."""

    time: npt.NDArray[np.int64]  # (M,) ns
    amperes: FloatArray  # (M, 3), whole hundredths
    signature: FloatArray  # (M,) 0..1, how far the semi-molten signature has developed
    feeding: FloatArray  # (M,) 0..1


def make_current(plan: Plan) -> Current:
    """The three-phase current of a recording."""
    time = plan.timing.current_time
    seconds = time / SECOND
    signature, drift, stir = semi_molten(plan, seconds)
    feeding, feeding_drop, feeding_stir = _feeding(plan.stream("feeding"), seconds)
    strength = _restlessness(plan.stream("restlessness"), len(seconds)) * (
        1.0 + np.maximum(stir, feeding_stir)
    )
    amperes = (
        _set_point(plan.stream("set point"), len(seconds))
        + _fluctuation(plan.stream("fluctuation"), len(seconds)) * strength[:, None]
        - feeding_drop[:, None]
        + _exhausting(plan.stream("exhausting"), seconds)
        + drift
    )
    return Current(
        time=time,
        amperes=np.asarray(np.round(np.clip(amperes, *LIMITS), 2), dtype=np.float64),
        signature=signature,
        feeding=feeding,
    )


def semi_molten(plan: Plan, seconds: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The signature of semi-molten melt at times `seconds` (M,).

    Returns its development (M,) 0..1, the mean shift it brings (M, 3) A and the added relative fluctuation (M,).
    It begins LEAD_SECONDS * pace before onset, is developed to AT_ONSET there, and fades around the offset. The
    fluctuation comes in bursts that look like feeding and are commoner: a few seconds tell little, a minute more.
    """
    level = np.zeros(len(seconds))
    drift = np.zeros((len(seconds), 3))
    stir = np.zeros(len(seconds))
    if plan.anomaly_free:
        return level, drift, stir
    times = plan.timing.frame_time / SECOND
    for k, event in enumerate(plan.events):
        stream = plan.stream("signature", k)
        onset, offset = float(times[event.onset]), float(times[event.offset])
        lead = stream.uniform(*LEAD_SECONDS) * plan.pace
        fade = stream.uniform(*FADE_SECONDS) * plan.pace
        early = stream.uniform(0.0, 0.6) * fade  # the melt recovers before the shell has cooled
        rise = np.clip((seconds - (onset - lead)) / lead * AT_ONSET, 0.0, 1.0)
        fall = np.clip((offset - early + fade - seconds) / fade, 0.0, 1.0)
        own = np.minimum(rise, fall)
        shift = stream.uniform(*DRIFT) + IMBALANCE * stream.normals(3)
        added = stream.uniform(*STIR)
        bursts = _bursts(stream, seconds, onset - lead, offset + fade)
        level = np.maximum(level, own)
        drift += own[:, None] * shift
        stir = np.maximum(stir, own * added * (BURST_SHARE * bursts + 1.0 - BURST_SHARE))
    return level, drift, stir


def _bursts(stream: Stream, seconds: FloatArray, first: float, last: float) -> FloatArray:
    """(M,) relative strength of the bursts between `first` and `last` s, about 1 in a burst and 0 between.

    Like feeding they keep their own time whatever the pace.
    """
    strength, at = np.zeros(len(seconds)), first
    while at < last:
        length = stream.uniform(*BURST_SECONDS)
        size = stream.uniform(*BURST_SIZE)
        strength = np.maximum(strength, size * _hump(seconds, at, length, rise=0.3 * length))
        at += length + stream.uniform(*BURST_EVERY)
    return strength


def _set_point(stream: Stream, count: int) -> FloatArray:
    """(M, 3) A: a level per phase that the electrode controller lets wander."""
    level = SET_POINT[0] + (SET_POINT[1] - SET_POINT[0]) * stream.uniforms(3)
    steps = SET_POINT_DRIFT_SECONDS * CURRENT_HZ
    wander = np.stack([red_noise(stream, count, steps) for _ in range(4)], axis=1)
    return level + SET_POINT_DRIFT * (0.8 * wander[:, :1] + 0.6 * wander[:, 1:])


def _fluctuation(stream: Stream, count: int) -> FloatArray:
    """(M, 3) A: autocorrelated, coupled between the phases through the common melt, and a white part."""
    fast, slow = NOISE_SECONDS * CURRENT_HZ, SLOW_NOISE_SECONDS * CURRENT_HZ
    common = COMMON_NOISE * red_noise(stream, count, fast) + SLOW_NOISE * red_noise(stream, count, slow)
    own = np.stack([red_noise(stream, count, fast) for _ in range(3)], axis=1)
    white = stream.normals(3 * count).reshape(count, 3)
    return common[:, None] + PHASE_NOISE * own + WHITE_NOISE * white


def _restlessness(stream: Stream, count: int) -> FloatArray:
    """(M,) relative strength of the fluctuation, changing over minutes for no reason that matters."""
    return np.exp(RESTLESSNESS * red_noise(stream, count, RESTLESSNESS_SECONDS * CURRENT_HZ))


def _feeding(stream: Stream, seconds: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ore feeding, which looks like a burst of the signature: state 0..1, drop in A, added fluctuation; (M,)."""
    state, drop, stir = np.zeros(len(seconds)), np.zeros(len(seconds)), np.zeros(len(seconds))
    for start, length in _moments(stream, seconds, FEEDING_EVERY, FEEDING_SECONDS):
        own = _hump(seconds, start, length, rise=0.3 * length)
        deep, lively = stream.uniform(*FEEDING_DROP), stream.uniform(*FEEDING_STIR)
        state, drop, stir = np.maximum(state, own), drop + deep * own, stir + lively * own
    return state, drop, stir


def _exhausting(stream: Stream, seconds: FloatArray) -> FloatArray:
    """(M, 3) A: gas breaking out, a few seconds of swing that one arc feels most."""
    swing = np.zeros((len(seconds), 3))
    for start, length in _moments(stream, seconds, EXHAUST_EVERY, EXHAUST_SECONDS):
        phase = np.full(3, 0.3)
        phase[stream.integer(0, 3)] = 1.0
        size = EXHAUST_SWING * float(stream.normals(1)[0])
        swing += _hump(seconds, start, length, rise=0.4 * length)[:, None] * phase * size
    return np.asarray(lfilter([0.6, 0.4], [1.0], swing, axis=0), dtype=np.float64)


def _moments(
    stream: Stream, seconds: FloatArray, every: tuple[float, float], length: tuple[float, float]
) -> list[tuple[float, float]]:
    """(start, length) in s of disturbances over the whole recording, the first possibly under way."""
    moments = []
    at = float(seconds[0]) - stream.uniform(*every) if len(seconds) else 0.0
    while len(seconds) and at < float(seconds[-1]):
        own = stream.uniform(*length)
        moments.append((at, own))
        at += own + stream.uniform(*every)
    return moments


def _hump(seconds: FloatArray, start: float, length: float, rise: float) -> FloatArray:
    """(M,) 0 outside [start, start + length], 1 inside, with linear flanks of `rise` seconds."""
    return np.clip(np.minimum(seconds - start, start + length - seconds) / rise, 0.0, 1.0)
