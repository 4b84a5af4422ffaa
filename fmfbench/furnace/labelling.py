"""Labels as the authors made theirs (paper, section IV-A): boxes on keyframes, propagated, refined, checked.

1. On keyframes a person draws a box around each hot piece, loose by up to a pixel.
2. Between two keyframes the box is interpolated linearly in each coordinate.
3. Each box is refined by a weighted median guided by what is seen: a pixel is abnormal iff the weighted mean of the box
   over its neighbourhood exceeds 1/2; a neighbour of the same shade weighs 1, others less.
4. A check: a box without anything hot in it is dropped, an empty vote keeps its box.

The guide is drawn in whole numbers, as a person sees it who steps back and forth in the video: the heat over a stained
shell, faint in thin mist and nothing behind thick mist and glare. So a label is the same on every machine, stays where
the anomaly is when nothing shows it, and is not the truth: `truth` holds both and how they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from fmfbench.furnace.anomaly import Spot
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.timing import FRAMES_PER_SECOND

__all__ = ["BoxTrack", "Labeller", "box_tracks"]

IntArray = npt.NDArray[np.int64]
Shades = npt.NDArray[np.int32]
Masks = npt.NDArray[np.uint8]

KEYFRAME_SECONDS = 3.0  # between keyframes, beside onset, apex and offset
LOOSE = 2  # a side of a box lies 0 to LOOSE - 1 pixels outside
GREATEST_RADIUS = 7
SIGMA = 25.5  # grey levels, as in `annotate`
STAIN = 9  # grey levels, how uneven the shell is to the eye
HEAT, RIM = 170, 64  # grey levels of the hottest pixel above the shell, and of one at the rim
CLEAR, FAINT = (0.9, 90.0), (2.2, 190.0)  # mist depth and glare below which the heat is seen, or seen faintly
CHUNK = 96  # frames refined at a time

# weight of a neighbour by squared difference of shade, the integer nearest to 2^16 exp(-d / 2 sigma^2)
WEIGHTS = np.rint(65536.0 * np.exp(-(np.arange(256.0) ** 2) / (2.0 * SIGMA * SIGMA))).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class BoxTrack:
    """The boxes of one piece of one event, on its keyframes; a track is there from its first to its last one."""

    event: int
    frames: IntArray  # (K,) keyframes, strictly increasing
    boxes: IntArray  # (K, 4) x0 y0 x1 y1 in pixels, the end exclusive

    def at(self, frames: IntArray) -> IntArray:
        """(n, 4) 1/256 pixel: the propagated boxes at `frames`, all within the track."""
        k = np.clip(np.searchsorted(self.frames, frames, side="right") - 1, 0, max(len(self.frames) - 2, 0))
        after = np.minimum(k + 1, len(self.frames) - 1)
        width = np.maximum(self.frames[after] - self.frames[k], 1)
        since = np.minimum(frames - self.frames[k], width)
        step = (self.boxes[after] - self.boxes[k]) * 256 * since[:, None] // width[:, None]
        return np.asarray(self.boxes[k] * 256 + step, dtype=np.int64)


def box_tracks(plan: Plan, k: int, spot: Spot) -> tuple[BoxTrack, ...]:
    """What a person draws for event number k: a track of boxes for each of its pieces."""
    stream = plan.stream("boxes", k)
    event, tracks = spot.event, []
    step = max(5, int(KEYFRAME_SECONDS * max(plan.pace, 0.25) * FRAMES_PER_SECOND))
    for number in range(int(spot.piece.max()) + 1):
        own = np.sort(spot.rank[spot.piece == number])  # how many of the piece are hot at each area
        hot = np.searchsorted(own, spot.area, side="left") > 0
        if not hot.any():
            continue
        seen = np.flatnonzero(hot)
        first, last = event.onset + int(seen[0]), event.onset + int(seen[-1])
        frames = {first, last, *range(first, last, step)}
        frames |= {event.apex} if first <= event.apex <= last else set()
        boxes: list[tuple[int, int, int, int]] = []
        for frame in sorted(frames):
            loose = [stream.integer(0, LOOSE) for _ in range(4)]
            inside = (spot.rank < spot.area[frame - event.onset]) & (spot.piece == number)
            if inside.any():
                rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
                boxes.append(
                    (
                        max(0, int(columns[0]) - loose[0]),
                        max(0, int(rows[0]) - loose[1]),
                        min(plan.width, int(columns[-1]) + 1 + loose[2]),
                        min(plan.height, int(rows[-1]) + 1 + loose[3]),
                    )
                )
            else:  # nothing to draw around: the box before stays
                boxes.append(boxes[-1])
        tracks.append(
            BoxTrack(
                event=k,
                frames=np.array(sorted(frames), dtype=np.int64),
                boxes=np.array(boxes, dtype=np.int64),
            )
        )
    return tuple(tracks)


class Labeller:
    """The labels of one recording; CHUNK frames of an event at a time, made when asked for, kept packed."""

    def __init__(
        self,
        plan: Plan,
        spots: tuple[Spot, ...],
        mist_depth: npt.NDArray[np.float32],
        glare_level: npt.NDArray[np.float32],
    ) -> None:
        self._plan, self._spots = plan, spots
        self.tracks = tuple(box_tracks(plan, k, spot) for k, spot in enumerate(spots))
        clear = (mist_depth < CLEAR[0]) & (glare_level < CLEAR[1])
        faint = (mist_depth < FAINT[0]) & (glare_level < FAINT[1])
        self._seen = clear.astype(np.int32) + faint.astype(np.int32)  # 2 clear, 1 faint, 0 nothing
        stains = plan.stream("stains").bytes(plan.height * plan.width).reshape(plan.height, plan.width)
        self._stains = stains.astype(np.int32) * STAIN // 255
        self._made: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        self._lock = Lock()

    def draw(self, start: int, stop: int) -> Masks:
        """(stop - start, H, W) 0/1 labels."""
        height, width = self._plan.height, self._plan.width
        masks = np.zeros((stop - start, height, width), dtype=np.uint8)
        for k, spot in enumerate(self._spots):
            onset, offset = spot.event.onset, spot.event.offset
            first, last = max(start, onset), min(stop, offset + 1)
            if first >= last:
                continue
            for chunk in range((first - onset) // CHUNK, -(-(last - onset) // CHUNK)):
                begin, end = onset + chunk * CHUNK, min(onset + (chunk + 1) * CHUNK, offset + 1)
                low, high = max(first, begin), min(last, end)
                packed = self._packed(k, chunk, begin, end)[low - begin : high - begin]
                bits = np.unpackbits(packed, axis=1, count=height * width)
                masks[low - start : high - start] |= bits.reshape(-1, height, width)
        return masks

    def _packed(self, k: int, chunk: int, begin: int, end: int) -> npt.NDArray[np.uint8]:
        """(end - begin, ceil(H * W / 8)) packed labels of a chunk of event number k."""
        with self._lock:
            if (k, chunk) not in self._made:
                masks = self._refine(k, begin, end)
                self._made[k, chunk] = np.packbits(masks.reshape(len(masks), -1), axis=1)
            return self._made[k, chunk]

    def _refine(self, k: int, start: int, stop: int) -> Masks:
        """(stop - start, H, W) labels of frames of event number k."""
        plan, spot = self._plan, self._spots[k]
        masks = np.zeros((stop - start, plan.height, plan.width), dtype=np.uint8)
        area = spot.area[start - spot.event.onset : stop - spot.event.onset]
        for number, track in enumerate(self.tracks[k]):
            first, last = max(start, int(track.frames[0])), min(stop, int(track.frames[-1]) + 1)
            if first >= last:
                continue
            own = slice(first - start, last - start)
            boxes = track.at(np.arange(first, last, dtype=np.int64))
            radius = _radius(boxes)
            top, left, bottom, right = self._window(boxes, int(radius.max()) + 1)
            crop = (slice(None), slice(top, bottom), slice(left, right))
            inside = _inside(boxes, top, left, bottom, right)
            guide = self._guide(spot, first, last, crop[1:])
            voted = _vote(inside, guide, radius)
            voted = np.where(voted.any(axis=(1, 2), keepdims=True), voted, inside)
            hot = (spot.rank[None] < area[own, None, None]) & (spot.piece == number)[None]
            voted &= hot.any(axis=(1, 2))[:, None, None]
            masks[own][crop] |= voted.astype(np.uint8)
        empty = ~masks.any(axis=(1, 2))
        if empty.any():  # between two pieces' turns: what is hot is what a person marks
            masks[empty] = spot.rank[None] < area[empty, None, None]
        return masks

    def _window(self, boxes: IntArray, reach: int) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of the part of the frame that votes `reach` pixels around the boxes can see."""
        left, top = (max(0, int(boxes[:, i].min()) // 256 - reach) for i in (0, 1))
        right = min(self._plan.width, int(boxes[:, 2].max()) // 256 + 1 + reach)
        bottom = min(self._plan.height, int(boxes[:, 3].max()) // 256 + 1 + reach)
        return top, left, bottom, right

    def _guide(self, spot: Spot, start: int, stop: int, crop: tuple[slice, slice]) -> Shades:
        """(n, h, w) 0..255: what a person sees in a part of the frame."""
        onset = spot.event.onset
        order = np.sort(spot.distance, axis=None)
        rim = np.maximum(order[spot.area[start - onset : stop - onset]], 1)[:, None, None]
        heat = np.clip(RIM + (rim - spot.distance[crop][None]) * HEAT // rim, 0, HEAT)
        return 40 + self._stains[crop][None] + heat * self._seen[start:stop, None, None] // 2


def _radius(boxes: IntArray) -> IntArray:
    """(n,) pixels: a third of the box's shorter side, 1 to GREATEST_RADIUS, as `annotate` takes it."""
    shorter = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return np.clip((2 * shorter + 3 * 256) // (6 * 256), 1, GREATEST_RADIUS)


def _inside(boxes: IntArray, top: int, left: int, bottom: int, right: int) -> npt.NDArray[np.bool_]:
    """(n, bottom - top, right - left) which pixels' centres are in the boxes (n, 4)."""
    rows = 256 * np.arange(top, bottom, dtype=np.int64) + 128
    columns = 256 * np.arange(left, right, dtype=np.int64) + 128
    down = (rows >= boxes[:, 1, None]) & (rows < boxes[:, 3, None])
    across = (columns >= boxes[:, 0, None]) & (columns < boxes[:, 2, None])
    return down[:, :, None] & across[:, None, :]


def _vote(inside: npt.NDArray[np.bool_], guide: Shades, radius: IntArray) -> npt.NDArray[np.bool_]:
    """(n, h, w) 1 iff the weighted mean of `inside` over a square of `radius` (n,) exceeds 1/2, windows clipped."""
    reach = int(radius.max())
    height, width = guide.shape[1:]
    pad = ((0, 0), (reach, reach), (reach, reach))
    shades = np.pad(guide, pad)
    signs = np.pad(np.where(inside, 1, -1).astype(np.int32), pad)  # 0 beyond the border: no vote
    balance = np.zeros(guide.shape, dtype=np.int32)  # at most 225 votes of 2^16: below 2^31
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            rows = slice(reach + down, reach + down + height)
            columns = slice(reach + across, reach + across + width)
            weight = WEIGHTS[np.abs(shades[:, rows, columns] - guide)]
            counts = (radius >= max(abs(down), abs(across)))[:, None, None]
            balance += weight * signs[:, rows, columns] * counts
    return np.asarray(balance > 0, dtype=np.bool_)
