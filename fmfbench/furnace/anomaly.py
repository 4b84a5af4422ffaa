"""The anomaly: molten metal that shows through the shell, white and yellow with a red halo, ragged, in 1 to 3 pieces.

Where it is hot is whole-number arithmetic: pixel p is hot in frame f iff rank(p) < area(f), where `rank` orders the
frame's pixels by a distance from the pieces' centres. So its area is exact, pieces appear, grow along a crack and merge
as it grows, and it depends on nothing that hides it. What the camera sees is another thing: the steel warms up and
cools down behind the melt's own change, and its halo reaches beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label as label_pieces
from scipy.signal import lfilter

from fmfbench.furnace.events import Event
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.streams import Stream, red_noise
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = [
    "MOST_PIECES",
    "UNIT",
    "Spot",
    "count_pieces",
    "draw_glow",
    "draw_masks",
    "make_spot",
    "make_spots",
]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

UNIT = 1 << 12  # the squared distance at which a piece's rim lies when the anomaly is at its largest
MOST_PIECES = 3
# Of the frame, at the apex: quantiles, joined linearly. Published labels take 0.09 to 2.6 %, median 0.65 %.
APEX_AREA = (0.0034, 0.0056, 0.0082, 0.0122, 0.025)
ONSET_SHARE, OFFSET_SHARE = (0.16, 0.42), (0.18, 0.5)  # of the apex' area
BREATH = (0.72, 1.12)  # the area between is this much of the straight line's
BREATH_SECONDS = (3.0, 14.0)
LEAST_PIXELS = 2
PIECES = (0.3, 0.66)  # one piece up to the first share of events, two up to the second, else three
SATELLITE = (0.12, 0.55)  # of UNIT: how late another piece appears
SATELLITE_SIZE = (0.4, 0.9)  # its radius over the first one's
SPACING = (1.5, 3.0)  # radii between pieces, along the crack
ELONGATION = (1.0, 2.6)  # along the crack over across
ROUGHNESS = (14, 11, 8, 5, 2, 0)  # of 16: how far the rim is from an ellipse; the first that leaves no crumbs

GLOW = (0.7, 1.2)  # brightness at the apex; 1 saturates the red
ONSET_GLOW, OFFSET_GLOW = 0.8, 0.65  # of the apex' glow
SHIMMER, SHIMMER_SECONDS = 0.06, 0.6  # relative deviation
WARMING_SECONDS = 0.2
COOLING_SECONDS = 0.2  # after the offset
SPREAD_SECONDS = 0.6  # the visible size follows the true one so late
RIM = 1.5  # how steeply it glows up from its rim


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One event's hot place. Frames [event.onset, last) show it; it is hot until the event ends."""

    event: Event
    distance: npt.NDArray[np.int32]  # (H, W) about UNIT at the rim at the apex
    rank: npt.NDArray[np.int32]  # (H, W) 0..H*W-1, each once, in the order of `distance`
    piece: npt.NDArray[np.int8]  # (H, W) which centre is nearest
    area: IntArray  # (event frames,) pixels
    last: int  # one past the last frame in which a glow remains
    glow: FloatArray  # (last - onset,) brightness in the middle, 1 saturates the red
    level: FloatArray  # (last - onset,) the distance at which the rim is seen

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the hot pixels at the largest, the end exclusive."""
        rows, columns = np.nonzero(self.rank < int(self.area.max()))
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def make_spots(plan: Plan) -> tuple[Spot, ...]:
    """The hot places of all events of a recording."""
    return tuple(make_spot(plan, k) for k in range(len(plan.events)))


def make_spot(plan: Plan, k: int) -> Spot:
    """Event number k: where its pieces are, their shape, and how they grow and fade."""
    event = plan.events[k]
    stream = plan.stream("spot", k)
    pixels = plan.height * plan.width
    largest = max(LEAST_PIXELS + 1, int(pixels * _from_quantiles(stream.uniform(), APEX_AREA)))
    distance, piece = _shape(stream, plan.height, plan.width, largest)
    order = np.argsort(distance, axis=None, kind="stable")
    rank = np.empty(pixels, dtype=np.int32)
    rank[order] = np.arange(pixels, dtype=np.int32)
    area = _area(stream, event, largest, plan.pace)
    tail = int(6 * COOLING_SECONDS * FRAMES_PER_SECOND) + 1
    last = min(event.offset + 1 + tail, plan.frames)
    inside, since = event.frames, np.arange(last - event.onset - event.frames)
    sizes = distance.reshape(-1)[order].astype(np.float64)
    rim = sizes[np.concatenate([area, np.full(len(since), area[-1])])]
    rise, fall = event.apex - event.onset, event.offset - event.apex
    target = np.concatenate(
        [np.linspace(ONSET_GLOW, 1.0, rise + 1)[:-1], np.linspace(1.0, OFFSET_GLOW, fall + 1)]
    )
    warming = np.empty(last - event.onset)
    warming[:inside] = _lag(target, WARMING_SECONDS, 0.0)
    warming[inside:] = warming[inside - 1] * np.exp(-(since + 1) / (COOLING_SECONDS * FRAMES_PER_SECOND))
    shimmer = 1.0 + SHIMMER * red_noise(stream, len(warming), SHIMMER_SECONDS * FRAMES_PER_SECOND)
    return Spot(
        event=event,
        distance=distance,
        rank=rank.reshape(plan.height, plan.width),
        piece=piece,
        area=area,
        last=last,
        glow=(stream.uniform(*GLOW) * warming * np.clip(shimmer, 0.7, 1.3)).astype(np.float32),
        level=_lag(rim, SPREAD_SECONDS, float(rim[0])).astype(np.float32),
    )


def draw_masks(
    spots: tuple[Spot, ...], start: int, stop: int, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """(stop - start, H, W) 0/1: where it is hot, exact. Not the label, which people made."""
    masks = np.zeros((stop - start, height, width), dtype=np.uint8)
    for spot in spots:
        onset, offset = spot.event.onset, spot.event.offset
        first, last = max(start, onset), min(stop, offset + 1)
        if first < last:
            area = spot.area[first - onset : last - onset, None, None]
            masks[first - start : last - start] |= spot.rank[None] < area
    return masks


def draw_glow(spots: tuple[Spot, ...], start: int, stop: int, height: int, width: int) -> FloatArray | None:
    """(stop - start, H, W) brightness of what is hot, 1 where the red saturates; None if no frame has any."""
    glow: FloatArray | None = None
    for spot in spots:
        onset = spot.event.onset
        first, last = max(start, onset), min(stop, spot.last)
        if first < last:
            if glow is None:
                glow = np.zeros((stop - start, height, width), dtype=np.float32)
            own = slice(first - onset, last - onset)
            depth = np.float32(1.0) - spot.distance[None].astype(np.float32) / spot.level[own, None, None]
            heat = soft_step(np.float32(RIM) * depth + np.float32(0.5))
            heat *= np.float32(0.6) + np.float32(0.8) * np.maximum(depth, np.float32(0.0))
            glow[first - start : last - start] += heat * spot.glow[own, None, None]
    return glow


def soft_step(x: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, and 3x^2 - 2x^3 between."""
    x = np.clip(x, np.float32(0.0), np.float32(1.0))
    return x * x * (np.float32(3.0) - np.float32(2.0) * x)


def count_pieces(masks: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(n,) pieces of each mask of (n, H, W); pixels that touch by a corner belong together."""
    flat = np.zeros((3, 3, 3), dtype=np.int8)
    flat[1] = 1
    numbered, _ = label_pieces(masks, structure=flat)
    high = numbered.reshape(len(masks), -1).max(axis=1, initial=0)
    before = np.concatenate([[0], np.maximum.accumulate(high)[:-1]])
    return np.asarray(np.where(high > 0, high - before, 0), dtype=np.int64)


def _shape(
    stream: Stream, height: int, width: int, largest: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """(H, W) squared distance from the pieces with a ragged rim; and which piece is nearest.

    About UNIT where `largest` pixels are within it.
    """
    share = stream.uniform()
    number = 1 if share < PIECES[0] else 2 if share < PIECES[1] else MOST_PIECES
    radius = max(96, int(64 * (largest / (3.0 * (0.75 + 0.25 * number))) ** 0.5))  # 1/64 pixel
    crack = (stream.integer(-8, 9), stream.integer(1, 9))  # columns and rows it runs
    length = isqrt(crack[0] ** 2 + crack[1] ** 2)
    row = int(stream.uniform(0.34, 0.9) * height * 64)
    column = int(stream.uniform(0.08, 0.92) * width * 64)
    rows = 64 * np.arange(height, dtype=np.int64)[:, None] + 32
    columns = 64 * np.arange(width, dtype=np.int64)[None, :] + 32
    fields = []
    for k in range(number):
        late = 0 if k == 0 else int(stream.uniform(*SATELLITE) * UNIT)
        own = radius if k == 0 else int(radius * stream.uniform(*SATELLITE_SIZE))
        along = int(own * stream.uniform(*ELONGATION) ** 0.5)
        across = max(32, own * own // along)
        down, right = rows - row, columns - column
        with_crack = (down * crack[1] + right * crack[0]) // length
        off_crack = (right * crack[1] - down * crack[0]) // length
        square = (with_crack * 64 // along) ** 2 + (off_crack * 64 // across) ** 2  # 64 squared is the rim
        fields.append(late + (UNIT - late) * np.minimum(square, 40 * UNIT) // UNIT)
        step = int(radius * stream.uniform(*SPACING)) * (1 if stream.uniform() < 0.5 else -1)
        row, column = row + step * crack[1] // length, column + step * crack[0] // length
        row += int(0.4 * radius * (2.0 * stream.uniform() - 1.0))
        column += int(0.6 * radius * (2.0 * stream.uniform() - 1.0))
        row, column = min(max(row, 64), 64 * height - 64), min(max(column, 64), 64 * width - 64)
    smooth = np.min(fields, axis=0)
    rough = _box_sum(stream.bytes(height * width).reshape(height, width).astype(np.int64), 1) // 9
    rough = np.clip((rough - 127) * 256 // max(1, int(np.abs(rough - 127).max())), -256, 256)
    areas = np.unique(np.linspace(LEAST_PIXELS, largest, 24).astype(np.int64))
    for much in ROUGHNESS:
        distance = smooth * (16 * 256 + much * rough) // (16 * 256) + UNIT * much * (rough + 256) // (
            64 * 512
        )
        order = np.argsort(np.argsort(distance, axis=None, kind="stable"), kind="stable")
        masks = order.reshape(1, height, width) < areas[:, None, None]
        if count_pieces(masks).max() <= MOST_PIECES:
            break
    return distance.astype(np.int32), np.argmin(fields, axis=0).astype(np.int8)


def _area(stream: Stream, event: Event, largest: int, pace: float) -> IntArray:
    """(event frames,) pixels: from the onset's area to `largest` at the apex and down, with a breath between."""
    scale = 1 << 10
    knots = [(event.onset, int(stream.uniform(*ONSET_SHARE) * scale)), (event.apex, scale)]
    knots.append((event.offset, int(stream.uniform(*OFFSET_SHARE) * scale)))
    frame = np.arange(event.onset, event.offset + 1, dtype=np.int64)
    straight = _joined(frame, knots)
    step = max(pace, 0.2) * FRAMES_PER_SECOND
    breath, at = [(event.onset, scale)], event.onset
    while at < event.offset:
        at += 1 + int(stream.uniform(*BREATH_SECONDS) * step)
        breath.append((at, int(stream.uniform(*BREATH) * scale)))
    away = np.minimum(np.abs(frame - event.apex) * scale // (1 + int(2 * step)), scale)  # none at the apex
    breathing = scale + (_joined(frame, breath) - scale) * away // scale
    share = np.minimum(straight * breathing // scale, scale)
    return np.asarray(np.maximum(largest * share // scale, LEAST_PIXELS), dtype=np.int64)


def _joined(frame: IntArray, knots: list[tuple[int, int]]) -> IntArray:
    """Whole numbers on the straight lines between `knots` (frame, value), at each frame."""
    at, value = (np.array(column, dtype=np.int64) for column in zip(*knots, strict=True))
    k = np.clip(np.searchsorted(at, frame, side="right") - 1, 0, len(at) - 2)
    width = np.maximum(at[k + 1] - at[k], 1)
    return np.asarray(value[k] + (value[k + 1] - value[k]) * np.minimum(frame - at[k], width) // width)


def _from_quantiles(share: float, quantiles: tuple[float, ...]) -> float:
    """The number at `share` 0..1 of a distribution whose equally spaced quantiles are these."""
    place = share * (len(quantiles) - 1)
    k = min(int(place), len(quantiles) - 2)
    return quantiles[k] + (quantiles[k + 1] - quantiles[k]) * (place - k)


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
