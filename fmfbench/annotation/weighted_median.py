"""The weighted median of a 0/1 label, guided by a colour frame (Zhang, Xu and Jia, CVPR 2014).

For a 0/1 label the weighted median is a vote: pixel p is abnormal iff

    sum_q w(p, q) l(q) > 1/2 sum_q w(p, q),      w(p, q) = round(2^40 exp(-|I_p - I_q|^2 / 2 sigma^2)),

with q over the square window of radius r around p, clipped at the border, and |I_p - I_q|^2 the squared
difference over the three channels. Weights are integers, so a sum is the same in any order and an exact tie
is a tie everywhere; a tie is normal. `refine_plain` is this definition and nothing else; `refine` gives the
same pixels faster.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import AnnotationError

__all__ = [
    "RADIUS",
    "SIGMA",
    "check_window",
    "for_each_frame",
    "refine",
    "refine_frames",
    "refine_plain",
    "weight_table",
]

RADIUS = 7
SIGMA = 25.5

Mask = NDArray[np.uint8]
Frame = NDArray[np.uint8]
Margin = NDArray[np.float32]

_WEIGHT_BITS = 40
_LARGEST_DISTANCE = 3 * 255**2
# window pixels times 2^40 must stay below 2^63, with one bit to spare for the sign
_MOST_VOTERS = 2**22


@overload
def refine(mask: Mask, guide: Frame, radius: int = ..., sigma: float = ...) -> Mask: ...
@overload
def refine(
    mask: Mask, guide: Frame, radius: int = ..., sigma: float = ..., *, return_margin: Literal[False]
) -> Mask: ...
@overload
def refine(
    mask: Mask, guide: Frame, radius: int = ..., sigma: float = ..., *, return_margin: Literal[True]
) -> tuple[Mask, Margin]: ...
def refine(
    mask: Mask, guide: Frame, radius: int = RADIUS, sigma: float = SIGMA, return_margin: bool = False
) -> Mask | tuple[Mask, Margin]:
    """Refine a coarse label by a weighted median guided by its own frame.

    Args:
        mask: (H, W) uint8 of 0 and 1, the coarse label.
        guide: (H, W, 3) uint8 RGB, the frame that the label belongs to.
        radius: half the window's side in pixels, at least 1; the window is 2 radius + 1 wide.
        sigma: the width of the colour weight, in grey levels.
        return_margin: also return the vote's margin, sum w (2 l - 1) / sum w: float32 in [-1, 1], above 0
            exactly where the refined label is 1.

    Returns:
        (H, W) uint8 of 0 and 1, equal to `refine_plain` on every pixel; (mask, margin) with `return_margin`.

    Raises:
        AnnotationError: a wrong dtype, shape or value.
    """
    mask, guide = _checked(mask, guide)
    radius, sigma = check_window(mask.shape[-2:], radius, sigma)
    if not _has_numba():
        return refine_plain(mask, guide, radius, sigma, return_margin)
    from fmfbench.annotation import weighted_vote

    table = weight_table(sigma)
    if return_margin:
        margin = weighted_vote.margins(mask, guide, radius, table)
        return (margin > 0).astype(np.uint8), margin
    return weighted_vote.decide(mask, guide, radius, table, sigma)


def refine_frames(
    masks: Mask, guides: Frame, radius: int = RADIUS, sigma: float = SIGMA, threads: int = 1
) -> Mask:
    """`refine` for every frame of a block.

    Args:
        masks: (n, H, W) uint8 of 0 and 1.
        guides: (n, H, W, 3) uint8 RGB.
        radius: as in `refine`.
        sigma: as in `refine`.
        threads: how many frames are worked on at once; the result does not depend on it.

    Raises:
        AnnotationError: a wrong dtype, shape or value.
    """
    masks, guides = _checked(masks, guides, dims=3)
    radius, sigma = check_window(masks.shape[-2:], radius, sigma)
    refined = np.zeros_like(masks)
    marked = np.flatnonzero(masks.any(axis=(1, 2)))

    def work(frame: int) -> None:
        refined[frame] = refine(masks[frame], guides[frame], radius, sigma)

    for_each_frame(work, marked, threads)
    return refined


def for_each_frame(work: Callable[[int], None], frames: NDArray[np.intp], threads: int) -> None:
    """Call `work` of each frame, in so many threads."""

    def some(part: NDArray[np.intp]) -> None:
        for frame in part.tolist():
            work(frame)

    if threads > 1 and len(frames) > 1:
        some(frames[:1])  # compile once, before the threads race for it
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, np.array_split(frames[1:], 4 * threads)))
    else:
        some(frames)


def refine_plain(
    mask: Mask, guide: Frame, radius: int = RADIUS, sigma: float = SIGMA, return_margin: bool = False
) -> Mask | tuple[Mask, Margin]:
    """The definition, one window offset at a time. Arguments, results and errors as in `refine`."""
    mask, guide = _checked(mask, guide)
    radius, sigma = check_window(mask.shape, radius, sigma)
    weights = np.zeros(_LARGEST_DISTANCE + 1, np.int64)
    table = weight_table(sigma)
    weights[: len(table)] = table
    red, green, blue = np.moveaxis(guide.astype(np.int32), -1, 0)
    vote = 2 * mask.astype(np.int64) - 1
    signed, total = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
    for here, there in _window_pairs(mask.shape[0], mask.shape[1], radius):
        distance = sum((channel[here] - channel[there]) ** 2 for channel in (red, green, blue))
        weight = weights[distance]
        signed[here] += weight * vote[there]
        total[here] += weight
    refined = (signed > 0).astype(np.uint8)
    return (refined, (signed / total).astype(np.float32)) if return_margin else refined


def _window_pairs(height: int, width: int, radius: int) -> Iterator[tuple[tuple[slice, slice], ...]]:
    """For each offset of the window, the pixels that have a neighbour there, and those neighbours."""
    for dy in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            here = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
            there = slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx))
            yield here, there


@lru_cache(maxsize=16)
def weight_table(sigma: float) -> NDArray[np.int64]:
    """round(2^40 exp(-d / 2 sigma^2)) for d = 0, 1, ... up to the last weight that is not 0.

    Correctly rounded, so that the table is the same whatever exponential function the machine has: an entry
    whose fraction lies so close to 1/2 that double precision cannot tell is worked out with more digits.
    """
    distance = np.arange(_LARGEST_DISTANCE + 1, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.ldexp(np.exp(-0.5 * (distance / sigma / sigma)), _WEIGHT_BITS)
    table = np.rint(exact).astype(np.int64)
    unsure = np.abs(exact - np.floor(exact) - 0.5) < 2**-10
    with decimal.localcontext() as context:
        context.prec = 40
        two_variances = 2 * decimal.Decimal(sigma) ** 2
        for d in np.flatnonzero(unsure & (exact < 2.0**_WEIGHT_BITS)):
            weight = 2**_WEIGHT_BITS * (-decimal.Decimal(int(d)) / two_variances).exp()
            table[d] = int(weight.to_integral_value(rounding=decimal.ROUND_HALF_EVEN))
    table = table[: int(np.count_nonzero(table))]
    table.flags.writeable = False
    return table


@lru_cache(maxsize=1)
def _has_numba() -> bool:
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def _checked(mask: Mask, guide: Frame, dims: int = 2) -> tuple[Mask, Frame]:
    frames = "(n, H, W" if dims == 3 else "(H, W"
    for name, array, wanted in (("mask", mask, f"{frames})"), ("guide", guide, f"{frames}, 3) RGB")):
        if not isinstance(array, np.ndarray) or (
            array.dtype != np.uint8 and not (name == "mask" and array.dtype == bool)
        ):
            came = getattr(array, "dtype", type(array).__name__)
            raise AnnotationError(
                f"refine expects {name} as a uint8 array {wanted}, got {came}; convert it first"
            )
    if mask.ndim != dims or guide.shape != (*mask.shape, 3):
        raise AnnotationError(
            f"refine expects mask {frames}) and guide {frames}, 3) of the same frames, got {mask.shape} and "
            f"{guide.shape}; check the order of the axes"
        )
    if 0 in mask.shape[-2:]:
        raise AnnotationError(f"refine expects at least one pixel, got a mask of shape {mask.shape}")
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    elif (largest := mask.max(initial=0)) > 1:
        raise AnnotationError(f"refine expects a mask of 0 and 1, got the value {largest}; use (mask > 0)")
    return mask, guide


def check_window(shape: tuple[int, ...], radius: int, sigma: float) -> tuple[int, float]:
    """Radius, cut to the frame's size, and sigma of a window on frames of `shape` (H, W); AnnotationError."""
    if isinstance(radius, bool) or not isinstance(radius, int | np.integer) or radius < 1:
        raise AnnotationError(f"refine expects radius as a whole number of pixels from 1 up, got {radius!r}")
    if isinstance(sigma, bool) or not isinstance(sigma, int | float | np.number):
        raise AnnotationError(f"refine expects sigma as a number of grey levels above 0, got {sigma!r}")
    if not (math.isfinite(sigma) and sigma > 0):
        raise AnnotationError(
            f"refine expects sigma as a finite number of grey levels above 0, got {sigma!r}"
        )
    radius = min(int(radius), max(shape))  # no window reaches further than the frame
    voters = min(2 * radius + 1, shape[0]) * min(2 * radius + 1, shape[1])
    if voters > _MOST_VOTERS:
        raise AnnotationError(
            f"refine expects windows of at most {_MOST_VOTERS} pixels, so that votes fit in 64 bits, got "
            f"{voters} for radius {radius} on a frame of {shape[0]}x{shape[1]}; use a smaller radius"
        )
    return radius, float(sigma)
