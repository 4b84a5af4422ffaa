"""The arc current: three phases at 2 Hz, in A.

current = set point + fluctuation * state of the melt + feeding + exhausting + electrode moves + jolts + drop-outs, and
the semi-molten signature in all of it. The authors' figures show traces that are rough, calm, flat with the phases
lying apart, and with drop-outs to the floor; two rows that their code quotes lie more than 5,000 A apart in all three
phases. Which way semi-molten melt moves the current is not known: the sign of each event's signature is drawn, or set
by the option `signature`, and amplitudes and times are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream, red_noise
from fmfbench.furnace.timing import CURRENT_HZ, SECOND

__all__ = ["SIGNATURES", "STRETCHES", "Current", "SemiMolten", "make_current", "semi_molten"]

FloatArray = npt.NDArray[np.float64]

SET_POINT = (9400.0, 10800.0)  # A, range of a phase's set point
SET_POINT_DRIFT = 420.0  # A, deviation of the electrode controller's wander
SET_POINT_DRIFT_SECONDS = 1500.0
COMMON_NOISE = 500.0  # A, all three arcs share one melt
PHASE_NOISE = 480.0  # A, each arc its own
NOISE_SECONDS = 1.3
WHITE_NOISE = 320.0  # A
SLOW_NOISE = 240.0  # A
SLOW_NOISE_SECONDS = 20.0
DOWNWARD = 1.25  # swings below the mean are so much larger, and as much smaller above it
RESTLESSNESS = 0.05  # log deviation of the slow change of the fluctuation's strength
RESTLESSNESS_SECONDS = 300.0

# Stretches in which the furnace runs otherwise, for reasons of its own; between them it runs as usual.
STRETCHES = ("rough", "calm", "flat", "drop-outs")
USUAL_SECONDS = (150.0, 460.0)
STRETCH_SECONDS = (32.0, 64.0)
ROUGH_STRENGTH, CALM_STRENGTH, FLAT_STRENGTH = (1.9, 2.6), (0.3, 0.45), (0.03, 0.07)
FLAT_APART = 1100.0  # A, deviation of the phases' levels while flat
STRETCH_FLANK = 3.0  # s
DROP_SECONDS = (1.0, 6.0)
DROP_EVERY = (4.0, 16.0)
FLOOR = 250.0  # A, what an ammeter shows of an arc that is out
PARTIAL = 0.35  # share of drop-outs in which some phase keeps a part of its current

FEEDING_EVERY = (24.0, 100.0)  # s between feedings
FEEDING_SECONDS = (4.0, 10.0)
FEEDING_DROP = (100.0, 900.0)  # A, cold ore between electrode and melt
FEEDING_STIR = (0.65, 1.05)  # log of the fluctuation's change, as strong as a burst of the signature
HUSH_EVERY = (28.0, 110.0)  # between moments in which the arcs burn quietly, for no reason that matters
HUSH_SECONDS = (4.0, 10.0)
HUSH_CALM = (0.8, 1.35)
EXHAUST_EVERY = (20.0, 150.0)
EXHAUST_SECONDS = (1.5, 7.0)
EXHAUST_SWING = 900.0  # A, deviation; gas breaks out and shakes one arc
MOVE_EVERY = (25.0, 180.0)  # electrode moves: one phase settles on another level
MOVE_STEP = 330.0  # A, deviation
MOVE_SECONDS = 60.0  # until the controller has taken it back
JOLT_EVERY = (12.0, 150.0)
JOLT_ROWS = (1, 4)
JOLT = (2800.0, 7200.0)  # A: all arcs break down together and come back

SIGNATURES = ("mixed", "calm", "rough")
LEAD_SECONDS = (12.0, 24.0)  # the signature begins so long before onset
AT_ONSET = 0.75  # how far it has developed at onset
FADE_SECONDS = (6.0, 16.0)  # and is gone so long after the fading has begun
SHIFT = (250.0, 750.0)  # A, mean shift at full signature, either way
APART = 460.0  # A, deviation of each phase's own shift
STIR = (1.05, 1.35)  # log of the fluctuation's change at full signature, in a burst of size 1, when rough
CALM = (1.4, 1.9)  # the same when calm
BURST_SHARE = 0.8  # of it comes in bursts, the rest all the time
BURST_SIZE = (0.8, 1.2)
BURST_SECONDS = (5.0, 12.0)
BURST_EVERY = (1.0, 6.0)  # s between bursts
LIMITS = (0.0, 16000.0)  # A


@dataclass(frozen=True, kw_only=True)
class Current:
    """A recording's current and the hidden states it came from."""

    time: npt.NDArray[np.int64]  # (M,) ns
    amperes: FloatArray  # (M, 3), whole hundredths
    signature: FloatArray  # (M,) 0..1, how far the semi-molten signature has developed
    sign: npt.NDArray[np.int8]  # (events,) 1 where an event's signature is rough, -1 where it is calm
    feeding: FloatArray  # (M,) 0..1
    stretch: npt.NDArray[np.int8]  # (M,) number in STRETCHES, -1 as usual


@dataclass(frozen=True, kw_only=True)
class SemiMolten:
    """The signature of semi-molten melt: its development, and what it does to the current."""

    level: FloatArray  # (M,) 0..1
    shift: FloatArray  # (M, 3) A
    stir: FloatArray  # (M,) log of the fluctuation's change, positive when rough
    sign: npt.NDArray[np.int8]  # (events,) 1 rough, -1 calm


def make_current(plan: Plan) -> Current:
    """The three-phase current of a recording."""
    time = plan.timing.current_time
    seconds = time / SECOND
    count = len(seconds)
    melt = semi_molten(plan, seconds)
    feeding, feeding_drop, feeding_stir = _feeding(plan.stream("feeding"), seconds)
    hush = _hushes(plan.stream("hushes"), seconds)
    stretch, strength, apart, gone = _stretches(plan.stream("stretches"), seconds, plan.pace)
    stir = np.where(np.abs(melt.stir) >= np.maximum(feeding_stir, hush), melt.stir, feeding_stir - hush)
    strength = strength * _restlessness(plan.stream("restlessness"), count) * np.exp(stir)
    swing = _fluctuation(plan.stream("fluctuation"), count) * strength[:, None]
    swing = np.where(swing < 0.0, DOWNWARD * swing, swing / DOWNWARD)
    lively = np.minimum(1.0, strength / CALM_STRENGTH[0])[:, None]  # little comes through while it is flat
    amperes = (
        _set_point(plan.stream("set point"), count)
        + swing
        + lively * (_exhausting(plan.stream("exhausting"), seconds) - feeding_drop[:, None])
        + lively * (_jolts(plan.stream("jolts"), seconds) + melt.shift)
        + _moves(plan.stream("moves"), seconds)
        + apart
    )
    amperes = np.where(gone >= 0.0, gone * np.maximum(amperes, 0.0) + FLOOR * (1.0 - gone), amperes)
    return Current(
        time=time,
        amperes=np.asarray(np.round(np.clip(amperes, *LIMITS), 2), dtype=np.float64),
        signature=melt.level,
        sign=melt.sign,
        feeding=feeding,
        stretch=stretch,
    )


def semi_molten(plan: Plan, seconds: FloatArray) -> SemiMolten:
    """The signature of semi-molten melt at times `seconds` (M,).

    It begins LEAD_SECONDS * pace before onset, is developed to AT_ONSET there, and fades around the offset. The
    fluctuation changes in bursts that look like feeding, or like a hush, and are commoner: a few seconds tell little, a
    minute more. Each event has a sign of its own unless the plan's `signature` sets it, and its phases move apart.
    """
    count = len(plan.events)
    level, stir = np.zeros(len(seconds)), np.zeros(len(seconds))
    shift = np.zeros((len(seconds), 3))
    signs = np.zeros(0 if plan.anomaly_free else count, dtype=np.int8)
    times = plan.timing.frame_time / SECOND
    for k in range(len(signs)):
        event, stream = plan.events[k], plan.stream("signature", k)
        onset, offset = float(times[event.onset]), float(times[event.offset])
        lead = stream.uniform(*LEAD_SECONDS) * plan.pace
        fade = stream.uniform(*FADE_SECONDS) * plan.pace
        early = stream.uniform(0.0, 0.6) * fade  # the melt recovers before the shell has cooled
        rise = np.clip((seconds - (onset - lead)) / lead * AT_ONSET, 0.0, 1.0)
        fall = np.clip((offset - early + fade - seconds) / fade, 0.0, 1.0)
        own = np.minimum(rise, fall)
        drawn = 1 if stream.uniform() < 0.5 else -1  # drawn whatever the option says: all else stays as it is
        sign = {"mixed": drawn, "rough": 1, "calm": -1}[plan.signature]
        side = 1.0 if stream.uniform() < 0.5 else -1.0
        moved = side * stream.uniform(*SHIFT) + APART * stream.normals(3)
        share = stream.uniform()
        bounds = STIR if sign > 0 else CALM
        added = sign * (bounds[0] + (bounds[1] - bounds[0]) * share)
        bursts = _bursts(stream, seconds, onset - lead, offset + fade)
        level = np.maximum(level, own)
        shift += own[:, None] * moved
        new = own * added * (BURST_SHARE * bursts + 1.0 - BURST_SHARE)
        stir = np.where(np.abs(new) > np.abs(stir), new, stir)
        signs[k] = sign
    return SemiMolten(level=level, shift=shift, stir=stir, sign=signs)


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


def _stretches(
    stream: Stream, seconds: FloatArray, pace: float
) -> tuple[npt.NDArray[np.int8], FloatArray, FloatArray, FloatArray]:
    """Stretches of another kind: their number (M,), and what they change.

    The fluctuation's strength (M,), what sets the phases apart (M, 3) in A, and the share of its current (M, 3) that
    a phase keeps in a drop-out, -1 where there is none.

    All kinds come once in each four, in an order that is drawn.
    """
    count = len(seconds)
    number = np.full(count, -1, dtype=np.int8)
    strength, apart, gone = np.ones(count), np.zeros((count, 3)), np.full((count, 3), -1.0)
    usual = (USUAL_SECONDS[0] * pace, USUAL_SECONDS[1] * pace)
    length = tuple(bound * min(1.0, max(pace, 0.3)) for bound in STRETCH_SECONDS)
    deck: list[int] = []
    at = float(seconds[0]) + 0.6 * stream.uniform(*usual)
    while at < float(seconds[-1]):
        deck = deck or stream.shuffled(len(STRETCHES)).tolist()
        kind, own = deck.pop(), stream.uniform(*length)
        within = (seconds >= at) & (seconds < at + own)
        number[within] = kind
        flank = _hump(seconds, at, own, rise=min(STRETCH_FLANK, 0.2 * own))
        name = STRETCHES[kind]
        if name == "drop-outs":
            _drop_outs(stream, seconds, at, own, gone)
        else:
            bounds = {"rough": ROUGH_STRENGTH, "calm": CALM_STRENGTH, "flat": FLAT_STRENGTH}[name]
            strength = strength * (1.0 + flank * (stream.uniform(*bounds) - 1.0))
        if name == "flat":
            apart += FLAT_APART * flank[:, None] * stream.normals(3)
        at += own + stream.uniform(*usual)
    return number, strength, apart, gone


def _drop_outs(stream: Stream, seconds: FloatArray, first: float, length: float, gone: FloatArray) -> None:
    """Write into `gone` (M, 3) the share that each phase keeps in the drop-outs of one stretch."""
    at = first + stream.uniform(0.0, 0.2) * length
    while at < first + length:
        own = stream.uniform(*DROP_SECONDS)
        keeps = np.zeros(3)
        if stream.uniform() < PARTIAL:
            keeps[stream.integer(0, 3)] = stream.uniform(0.1, 0.5)
        gone[(seconds >= at) & (seconds < at + own)] = keeps
        at += own + stream.uniform(*DROP_EVERY)


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
    """Ore feeding, which looks like a burst of a rough signature: state 0..1, drop in A, added fluctuation; (M,)."""
    state, drop, stir = np.zeros(len(seconds)), np.zeros(len(seconds)), np.zeros(len(seconds))
    for start, length in _moments(stream, seconds, FEEDING_EVERY, FEEDING_SECONDS):
        own = _hump(seconds, start, length, rise=0.3 * length)
        deep, lively = stream.uniform(*FEEDING_DROP), stream.uniform(*FEEDING_STIR)
        state, drop, stir = np.maximum(state, own), drop + deep * own, np.maximum(stir, lively * own)
    return state, drop, stir


def _hushes(stream: Stream, seconds: FloatArray) -> FloatArray:
    """(M,) how much calmer the arcs burn in moments that look like those of a calm signature."""
    hush = np.zeros(len(seconds))
    for start, length in _moments(stream, seconds, HUSH_EVERY, HUSH_SECONDS):
        hush = np.maximum(hush, stream.uniform(*HUSH_CALM) * _hump(seconds, start, length, rise=0.3 * length))
    return hush


def _exhausting(stream: Stream, seconds: FloatArray) -> FloatArray:
    """(M, 3) A: gas breaking out, a few seconds of swing that one arc feels most."""
    swing = np.zeros((len(seconds), 3))
    for start, length in _moments(stream, seconds, EXHAUST_EVERY, EXHAUST_SECONDS):
        phase = np.full(3, 0.3)
        phase[stream.integer(0, 3)] = 1.0
        size = EXHAUST_SWING * float(stream.normals(1)[0])
        swing += _hump(seconds, start, length, rise=0.4 * length)[:, None] * phase * size
    return np.asarray(lfilter([0.6, 0.4], [1.0], swing, axis=0), dtype=np.float64)


def _moves(stream: Stream, seconds: FloatArray) -> FloatArray:
    """(M, 3) A: an electrode is moved, its phase steps to another level and is brought back slowly."""
    level = np.zeros((len(seconds), 3))
    for start, _ in _moments(stream, seconds, MOVE_EVERY, (0.5, 1.0)):
        phase, step = stream.integer(0, 3), MOVE_STEP * float(stream.normals(1)[0])
        since = np.maximum(seconds - start, 0.0)
        level[:, phase] += step * np.exp(-since / MOVE_SECONDS) * (seconds >= start)
    return level


def _jolts(stream: Stream, seconds: FloatArray) -> FloatArray:
    """(M, 3) A: all arcs break down for a row or a few and are back within half a second."""
    fall = np.zeros((len(seconds), 3))
    for start, _ in _moments(stream, seconds, JOLT_EVERY, (0.5, 2.0)):
        row, rows = int(np.searchsorted(seconds, start)), stream.integer(*JOLT_ROWS)
        size = stream.uniform(*JOLT) * (0.9 + 0.2 * stream.uniforms(3))
        if start >= seconds[0]:  # one before the recording began is over
            fall[row : row + rows] -= size
    return fall


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
