"""The weighted vote, compiled. Imported by `weighted_median` alone, because it needs numba.

Three facts make it fast, and none of them changes a pixel:

1. Where the whole window agrees, the vote is known. Only the *band*, the pixels within the radius of both
   labels, is worked on, and a frame is first cropped to two radii around its abnormal pixels. In the band,
   a vote ends once the votes still to come cannot turn it.
2. Only the sign of sum w (2 l - 1) matters. It is first computed in float32 with a cheap exponential, for
   many pixels at once; the error of that sum is bounded (`doubt`), and the pixels whose sum is not clearly
   on one side (a tie among them) are voted again with the integer weights.
3. Squared colour distances are whole numbers below 2^24, so float32 holds them without error.

The inner loop is written in LLVM's vector instructions, eight neighbouring pixels at once, because numba's
own vectoriser keeps the sums in memory; in registers it takes half the time. All of it stands in one file
because numba's cache of machine code notices changes of the file that a function stands in, and of no
other.
"""

# ruff: noqa: PLR0915
# mypy: disable-error-code="untyped-decorator, no-untyped-call, call-arg, return-value"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["decide", "margins"]

Array = NDArray[Any]

_LANES = 8
# the planes that `_vote_lanes` reads; a plane is padded by the radius on the left and by more on the right
_RED, _GREEN, _BLUE = 0, 1, 2
_VOTE = 3  # -1 normal, +1 abnormal, 0 outside the frame
_ABNORMAL, _NORMAL = 4, 5  # how many of each in the row of the window that begins here
_PLANES = 6

_LANE = ir.FloatType()
_VECTOR = ir.VectorType(_LANE, _LANES)
_WHOLE = ir.VectorType(ir.IntType(32), _LANES)
# 2^f on [-1/2, 1/2] as a cubic: minimax, relative error 7.5e-5
_CUBIC = (0.05517167, 0.24261113, 0.69326099, 0.99992807)
_ROUND = 1.5 * 2**23  # adding it rounds a float32 to a whole number, held in its low bits
_FLOOR = -126.0  # below this, 2^t is not a normal float32; a weight as small is 0 in the integer table
# of a weight in float32: the cubic's 7.5e-5, and the roundings of the exponent (2 * 126 * 2^-24) and of
# products
_ERROR_OF_WEIGHT = 1.2e-4


def _compiled(**options: Any) -> Any:
    """njit, with the machine code kept on disk where a place for it can be found."""

    def wrap(function: Any) -> Any:
        try:
            return njit(cache=True, nogil=True, error_model="numpy", **options)(function)
        except RuntimeError:  # no writable folder for the cache
            return njit(nogil=True, error_model="numpy", **options)(function)

    return wrap


def decide(mask: Array, guide: Array, radius: int, table: Array, sigma: float) -> Array:
    """The refined mask, (H, W) uint8, of a checked mask and guide; `table` from `weight_table(sigma)`."""
    refined = np.zeros(mask.shape, np.uint8)
    crop = _crop(mask, radius)
    if crop is not None:
        exponent = max(-0.5 * math.log2(math.e) / sigma / sigma, -1e6)  # so small a sigma weighs d = 0 alone
        voters = min((2 * radius + 1) ** 2, mask.size)
        # accumulated along a row of the window, then over its rows: 4 radius + 4 roundings of 2^-24 each;
        # the table's own rounding is 2^-41 per voter
        doubt = voters * (_ERROR_OF_WEIGHT + (4 * radius + 4) * 2.0**-24)
        # copies, so that every call has the one array layout that is compiled
        part, frame = np.array(mask[crop], order="C"), np.array(guide[crop], order="C")
        out = np.empty_like(part)
        _decide(part, frame, radius, table, np.float32(exponent), np.float32(doubt), out)
        refined[crop] = out
    return refined


def margins(mask: Array, guide: Array, radius: int, table: Array) -> Array:
    """The vote's margin, (H, W) float32 in [-1, 1], from integer sums."""
    margin = np.full(mask.shape, -1, np.float32)
    crop = _crop(mask, radius)
    if crop is not None:
        part, frame = np.array(mask[crop], order="C"), np.array(guide[crop], order="C")
        out = np.empty(part.shape, np.float32)
        _margins(part, frame, radius, table, out)
        margin[crop] = out
    return margin


def _crop(mask: Array, radius: int) -> tuple[slice, slice] | None:
    """Two radii around the abnormal pixels: the band lies within one, its windows within two."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    reach = 2 * radius
    return (
        slice(max(0, int(rows[0]) - reach), int(rows[-1]) + reach + 1),
        slice(max(0, int(columns[0]) - reach), int(columns[-1]) + reach + 1),
    )


@_compiled()
def _next_window_row(mask: Array, y: int, radius: int, column_sum: Array) -> tuple[int, int]:
    """Move the sums of abnormal pixels per column on to the window of row y; returns the window's rows."""
    height, width = mask.shape
    first, last = max(0, y - radius), min(height, y + radius + 1)
    if y == 0:
        for row in range(min(radius, height)):
            for x in range(width):
                column_sum[x] += mask[row, x]
    if y + radius < height:
        for x in range(width):
            column_sum[x] += mask[y + radius, x]
    if y - radius - 1 >= 0:
        for x in range(width):
            column_sum[x] -= mask[y - radius - 1, x]
    return first, last


@_compiled()
def _unanimous(
    column_sum: Array, rows: int, radius: int, verdict: Array, abnormal: Array, normal: Array
) -> None:
    """For one row of pixels: 0 or 1 where the whole window says so, 2 where it is divided; and its voters."""
    width = len(column_sum)
    count = np.int64(0)
    for x in range(min(radius, width)):
        count += column_sum[x]
    for x in range(width):
        if x + radius < width:
            count += column_sum[x + radius]
        if x - radius - 1 >= 0:
            count -= column_sum[x - radius - 1]
        voters = rows * (min(width, x + radius + 1) - max(0, x - radius))
        verdict[x] = 0 if count == 0 else 1 if count == voters else 2
        abnormal[x], normal[x] = count, voters - count


@_compiled()
def _exact(mask: Array, guide: Array, y: int, x: int, radius: int, table: Array) -> tuple[int, int]:
    """sum w (2 l - 1) and sum w of one pixel, in the integer weights."""
    height, width = mask.shape
    red, green, blue = np.int64(guide[y, x, 0]), np.int64(guide[y, x, 1]), np.int64(guide[y, x, 2])
    reach = len(table)
    signed, total = np.int64(0), np.int64(0)
    for row in range(max(0, y - radius), min(height, y + radius + 1)):
        for column in range(max(0, x - radius), min(width, x + radius + 1)):
            distance = (
                (red - guide[row, column, 0]) ** 2
                + (green - guide[row, column, 1]) ** 2
                + (blue - guide[row, column, 2]) ** 2
            )
            if distance < reach:
                weight = table[distance]
                total += weight
                signed += weight if mask[row, column] else -weight
    return signed, total


@intrinsic
def _vote_lanes(
    typing_context: Any,
    planes: Any,
    y: Any,
    x: Any,
    radius: Any,
    exponent: Any,
    doubt: Any,
    window_abnormal: Any,
    window_normal: Any,
    signed: Any,
) -> Any:
    """Write sum w (2 l - 1), w = 2^(exponent d), of pixels (y, x) .. (y, x + 7) to `signed` (8,) float32.

    The rows of the window are added from the middle outwards, and no more once every pixel's sum is further
    from 0 than all votes still to come can take it (by more than `doubt`, the error of the sum); then only
    the signs of `signed` are those of the whole window.

    planes: (6, H, P) float32; x counts without the padding, so that pixel x lies in column x + radius and
    its window begins in column x; window_abnormal, window_normal: (>= x + 8,) float32, the voters of each
    kind in the windows of row y.
    """
    vector_type = types.Array(types.float32, 1, "C")
    signature = types.void(
        types.Array(types.float32, 3, "C"), *[types.intp] * 3, *[types.float32] * 2, *[vector_type] * 3
    )
    return signature, _emit


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    _, y, x, radius, exponent, doubt, *_ = arguments

    def array(position: int) -> Any:
        return cgutils.create_struct_proxy(signature.args[position])(
            context, builder, value=arguments[position]
        )

    shape = cgutils.unpack_tuple(builder, array(0).shape)
    height, padded = shape[1], shape[2]
    index_type = padded.type
    plane_size = builder.mul(height, padded)

    def number(value: int) -> Any:
        return ir.Constant(index_type, value)

    def vector(value: float) -> Any:
        return ir.Constant(_VECTOR, [float(np.float32(value))] * _LANES)

    def spread(value: Any) -> Any:
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, nothing, ir.Constant(_WHOLE, [0] * _LANES))

    def address(data: Any, offset: Any) -> Any:
        return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())

    def read(data: Any, offset: Any) -> Any:
        return builder.load(address(data, offset), align=4)

    def muladd(a: Any, b: Any, c: Any) -> Any:
        fuse = ("contract",)  # one instruction where the machine has it; the error bound holds either way
        return builder.fadd(builder.fmul(a, b, flags=fuse), c, flags=fuse)

    def plane(which: int, offset: Any) -> Any:
        return read(planes_data, builder.add(offset, builder.mul(plane_size, number(which))))

    def weight(distance: Any) -> Any:
        t = builder.fmul(distance, exponents)
        t = builder.select(builder.fcmp_ordered(">", t, vector(_FLOOR)), t, vector(_FLOOR))
        shifted = builder.fadd(t, vector(_ROUND))
        f = builder.fsub(t, builder.fsub(shifted, vector(_ROUND)))
        p = vector(_CUBIC[0])
        for coefficient in _CUBIC[1:]:
            p = muladd(p, f, vector(coefficient))
        # 2^t = 2^f * 2^round(t): the whole part is added to the exponent bits
        whole = builder.shl(builder.bitcast(shifted, _WHOLE), ir.Constant(_WHOLE, [23] * _LANES))
        return builder.bitcast(builder.add(builder.bitcast(p, _WHOLE), whole), _VECTOR)

    planes_data, signed_data = array(0).data, array(8).data
    exponents, doubts = spread(exponent), spread(doubt)
    pixel = builder.add(builder.add(builder.mul(y, padded), x), radius)
    colour = [plane(channel, pixel) for channel in (_RED, _GREEN, _BLUE)]
    sums = cgutils.alloca_once_value(builder, vector(0))
    row_sums = cgutils.alloca_once(builder, _VECTOR)
    abnormal_left = cgutils.alloca_once_value(builder, read(array(6).data, x))
    normal_left = cgutils.alloca_once_value(builder, read(array(7).data, x))
    span = builder.add(builder.shl(radius, number(1)), number(1))

    with cgutils.for_range(builder, span) as step:
        # 0, 1, -1, 2, -2, ...
        reach = builder.lshr(builder.add(step.index, number(1)), number(1))
        below = builder.trunc(step.index, ir.IntType(1))
        row = builder.select(below, builder.add(y, reach), builder.sub(y, reach))
        inside = builder.and_(
            builder.icmp_signed(">=", row, number(0)), builder.icmp_signed("<", row, height)
        )
        with builder.if_then(inside):
            window = builder.add(builder.mul(row, padded), x)
            builder.store(vector(0), row_sums)
            with cgutils.for_range(builder, span) as column:
                voter = builder.add(window, column.index)
                difference = [builder.fsub(colour[c], plane(c, voter)) for c in (_RED, _GREEN, _BLUE)]
                distance = builder.fmul(difference[0], difference[0])
                for channel in difference[1:]:
                    distance = muladd(channel, channel, distance)
                row_sum = muladd(weight(distance), plane(_VOTE, voter), builder.load(row_sums))
                builder.store(row_sum, row_sums)
            total = builder.fadd(builder.load(sums), builder.load(row_sums))
            abnormal = builder.fsub(builder.load(abnormal_left), plane(_ABNORMAL, window))
            normal = builder.fsub(builder.load(normal_left), plane(_NORMAL, window))
            builder.store(total, sums)
            builder.store(abnormal, abnormal_left)
            builder.store(normal, normal_left)
            up = builder.fcmp_ordered(">", builder.fsub(total, normal), doubts)
            down = builder.fcmp_ordered("<", builder.fadd(total, abnormal), builder.fsub(vector(0), doubts))
            decided = builder.bitcast(builder.or_(up, down), ir.IntType(_LANES))
            everyone = builder.icmp_unsigned("==", decided, ir.Constant(ir.IntType(_LANES), 2**_LANES - 1))
            with builder.if_then(everyone, likely=False):
                step.do_break()
    builder.store(builder.load(sums), address(signed_data, number(0)), align=4)
    return context.get_dummy_value()


@_compiled()
def _planes(mask: Array, guide: Array, radius: int) -> Array:
    """What `_vote_lanes` reads: colours, votes, and how many voters of each kind a row of the window holds."""
    height, width = mask.shape
    planes = np.zeros((_PLANES, height, width + 2 * radius + _LANES), np.float32)
    for y in range(height):
        for x in range(width):
            planes[_RED, y, x + radius] = guide[y, x, 0]
            planes[_GREEN, y, x + radius] = guide[y, x, 1]
            planes[_BLUE, y, x + radius] = guide[y, x, 2]
            planes[_VOTE, y, x + radius] = 1 if mask[y, x] else -1
        abnormal = np.int64(0)
        for x in range(min(radius, width)):
            abnormal += mask[y, x]
        for x in range(width):
            if x + radius < width:
                abnormal += mask[y, x + radius]
            if x - radius - 1 >= 0:
                abnormal -= mask[y, x - radius - 1]
            planes[_ABNORMAL, y, x] = abnormal
            planes[_NORMAL, y, x] = min(width, x + radius + 1) - max(0, x - radius) - abnormal
    return planes


@_compiled()
def _decide(
    mask: Array, guide: Array, radius: int, table: Array, exponent: float, doubt: float, refined: Array
) -> None:
    height, width = mask.shape
    planes = _planes(mask, guide, radius)
    column_sum = np.zeros(width, np.int64)
    verdict = np.zeros(width + 1, np.uint8)
    abnormal, normal = np.zeros(width + _LANES, np.float32), np.zeros(width + _LANES, np.float32)
    signed = np.zeros(_LANES, np.float32)
    for y in range(height):
        first, last = _next_window_row(mask, y, radius, column_sum)
        _unanimous(column_sum, last - first, radius, verdict, abnormal, normal)
        x = 0
        while x < width:
            if verdict[x] < 2:
                refined[y, x] = verdict[x]
                x += 1
                continue
            _vote_lanes(planes, y, x, radius, exponent, doubt, abnormal, normal, signed)
            lane = 0
            while lane < _LANES and verdict[x] == 2:  # verdict[width] is 0
                if abs(signed[lane]) > doubt:
                    refined[y, x] = signed[lane] > 0
                else:
                    refined[y, x] = _exact(mask, guide, y, x, radius, table)[0] > 0
                lane += 1
                x += 1


@_compiled()
def _margins(mask: Array, guide: Array, radius: int, table: Array, margin: Array) -> None:
    height, width = mask.shape
    column_sum = np.zeros(width, np.int64)
    verdict = np.zeros(width, np.uint8)
    abnormal, normal = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for y in range(height):
        first, last = _next_window_row(mask, y, radius, column_sum)
        _unanimous(column_sum, last - first, radius, verdict, abnormal, normal)
        for x in range(width):
            if verdict[x] < 2:
                margin[y, x] = 2 * np.float32(verdict[x]) - 1
            else:
                signed, total = _exact(mask, guide, y, x, radius, table)
                margin[y, x] = signed / total
