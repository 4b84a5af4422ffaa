"""The anomaly: a red spot on the shell that grows from onset to apex and fades to offset.

The mask is whole-number arithmetic: pixel p belongs to the spot in frame f iff distance(p) < size(f). It depends on
nothing that hides the spot, so it stays true under mist and glare. What the camera sees is another thing: the
steel warms up and cools down behind the melt's own change, so the glow lags the mask a little and outlives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from fmfbench.furnace.events import Event
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = ["UNIT", "Spot", "draw_masks", "make_spot", "make_spots", "soft_step"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

UNIT = 1 << 16  # the size of a spot at its apex; distance is UNIT there on the mean border
ONSET_SIZE, OFFSET_SIZE = (0.3, 0.6), (0.3, 0.65)  # shares of the apex' area
RADIUS = (0.075, 0.17)  # of the frame's width, down and across alike
LOBES = 8  # of 16: how much the border deviates from an ellipse
GLOW = (75.0, 180.0)  # grey levels of red at the apex
ONSET_GLOW, OFFSET_GLOW = 0.8, 0.65  # of the apex' glow
WARMING_SECONDS = 0.2
COOLING_SECONDS = 0.2  # after the offset
SPREAD_SECONDS = 1.2  # the visible size follows the mask's so late
EDGE = 0.75  # width of the glowing border, in units of the apex' area


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One event's spot. Frames [event.onset, last) show it; the mask ends with the event."""

    event: Event
    distance: npt.NDArray[np.int32]  # (H, W)
    size: IntArray  # (event frames,)
    last: int  # one past the last frame in which a glow remains
    glow: FloatArray  # (last - onset,) grey levels of red in the middle
    visible: FloatArray  # (last - onset,) the size that is seen, as a share of UNIT

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the mask at its largest, in pixels, the end exclusive."""
        rows, columns = np.nonzero(self.distance < int(self.size.max()))
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def make_spots(plan: Plan) -> tuple[Spot, ...]:
    """The spots of all events of a recording."""
    return tuple(make_spot(plan, k) for k in range(len(plan.events)))


def make_spot(plan: Plan, k: int) -> Spot:
    """The spot of event number k: where it is, its shape, and how it grows and fades."""
    event = plan.events[k]
    stream = plan.stream("spot", k)
    distance = _distance(stream, plan.height, plan.width)
    size = _size(stream, event, smallest=int(np.sort(distance, axis=None)[5]) + 1)
    peak = _pick(stream, GLOW)
    tail = int(6 * COOLING_SECONDS * FRAMES_PER_SECOND) + 1
    last = min(event.offset + 1 + tail, plan.frames)
    target = np.zeros(last - event.onset)
    inside = event.frames
    rise, fall = event.apex - event.onset, event.offset - event.apex
    target[: rise + 1] = np.linspace(ONSET_GLOW, 1.0, rise + 1)
    target[rise:inside] = np.linspace(1.0, OFFSET_GLOW, fall + 1)
    warming = _lag(target, WARMING_SECONDS, 0.0)
    if last > event.offset + 1:
        since = np.arange(1, last - event.offset) / FRAMES_PER_SECOND
        warming[inside:] = warming[inside - 1] * np.exp(-since / COOLING_SECONDS)
    held = np.concatenate([size, np.full(last - event.onset - inside, size[-1])]) / UNIT
    return Spot(
        event=event,
        distance=distance,
        size=size,
        last=last,
        glow=(peak * warming).astype(np.float32),
        visible=_lag(held, SPREAD_SECONDS, float(held[0])).astype(np.float32),
    )


def draw_masks(
    spots: tuple[Spot, ...], start: int, stop: int, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """(stop - start, H, W) 0/1, exact."""
    masks = np.zeros((stop - start, height, width), dtype=np.uint8)
    for spot in spots:
        onset, offset = spot.event.onset, spot.event.offset
        first, last = max(start, onset), min(stop, offset + 1)
        if first < last:
            size = spot.size[first - onset : last - onset, None, None]
            masks[first - start : last - start] |= spot.distance[None] < size
    return masks


def draw_glow(spots: tuple[Spot, ...], start: int, stop: int, height: int, width: int) -> FloatArray:
    """(stop - start, H, W) grey levels of red that the spots emit."""
    glow = np.zeros((stop - start, height, width), dtype=np.float32)
    for spot in spots:
        onset = spot.event.onset
        first, last = max(start, onset), min(stop, spot.last)
        if first < last:
            own = slice(first - onset, last - onset)
            depth = spot.visible[own, None, None] - spot.distance[None].astype(np.float32) / np.float32(UNIT)
            heat = soft_step(depth * np.float32(1.0 / EDGE) + np.float32(0.5))
            glow[first - start : last - start] += heat * spot.glow[own, None, None]
    return glow


def soft_step(x: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, and 3x^2 - 2x^3 between."""
    x = np.clip(x, np.float32(0.0), np.float32(1.0))
    return x * x * (np.float32(3.0) - np.float32(2.0) * x)


def _distance(stream: Stream, height: int, width: int) -> npt.NDArray[np.int32]:
    """(H, W) squared distance from the spot's centre in units of its radius squared, times UNIT, with lobes."""
    centre = (_whole(stream, 0.4, 0.86, height), _whole(stream, 0.16, 0.84, width))
    radius = [max(2 * 64, _whole(stream, *RADIUS, width)) for _ in range(2)]
    rows = 64 * np.arange(height, dtype=np.int64) + 32 - centre[0]
    columns = 64 * np.arange(width, dtype=np.int64) + 32 - centre[1]
    down, across = rows * 256 // radius[0], columns * 256 // radius[1]  # 256 is one radius
    square = np.minimum((down * down)[:, None] + (across * across)[None, :], 20 * UNIT)
    rough = stream.bytes(height * width).reshape(height, width).astype(np.int64)
    reach = max(1, height // 20)
    for _ in range(3):
        rough = _box_sum(rough, reach) // (2 * reach + 1) ** 2
    spread = max(1, int(np.abs(rough - 127).max()))
    lobes = np.clip((rough - 127) * 256 // spread, -256, 256)
    return (square * (16 * 256 + LOBES * lobes) // (16 * 256)).astype(np.int32)


def _size(stream: Stream, event: Event, smallest: int) -> IntArray:
    """(event frames,) straight from the onset's size to UNIT at the apex and down to the offset's size."""
    first, last = (_whole_share(stream, bounds) for bounds in (ONSET_SIZE, OFFSET_SIZE))
    frame = np.arange(event.onset, event.offset + 1, dtype=np.int64)
    rise, fall = max(1, event.apex - event.onset), max(1, event.offset - event.apex)
    growing = first + (UNIT - first) * (frame - event.onset) // rise
    fading = last + (UNIT - last) * (event.offset - frame) // fall
    return np.maximum(np.where(frame <= event.apex, np.minimum(growing, UNIT), fading), smallest)


def _box_sum(field: IntArray, reach: int) -> IntArray:
    """Sum over a square window, the border repeated."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (reach + 1, reach)
        total = np.cumsum(np.pad(field, pad, mode="edge"), axis=axis)
        width = 2 * reach + 1
        high = np.take(total, np.arange(width, total.shape[axis]), axis=axis)
        low = np.take(total, np.arange(0, total.shape[axis] - width), axis=axis)
        field = high - low
    return field


def _lag(target: npt.NDArray[np.float64], seconds: float, start: float) -> npt.NDArray[np.float64]:
    """First-order lag behind `target` (n,), from `start` on."""
    gain = 1.0 - float(np.exp(-1.0 / (seconds * FRAMES_PER_SECOND)))
    lagged, _ = lfilter([gain], [1.0, gain - 1.0], target, zi=[(1.0 - gain) * start])
    return np.asarray(lagged, dtype=np.float64)


def _pick(stream: Stream, bounds: tuple[float, float]) -> float:
    return stream.uniform(*bounds)


def _whole(stream: Stream, low: float, high: float, pixels: int) -> int:
    """A length between two shares of `pixels`, in 1/64 pixel."""
    return int(stream.uniform(low, high) * pixels * 64)


def _whole_share(stream: Stream, bounds: tuple[float, float]) -> int:
    return int(stream.uniform(*bounds) * UNIT)
