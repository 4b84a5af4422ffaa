"""Figures for a page that must stand alone: SVG and PNG written out, no plotting library, no network.

Written out rather than drawn by matplotlib: its SVG has no tooltips and holds letters as outlines, so that pages
grow and cannot be searched, and a timeline of each pixel column's least and greatest value is ours to compute anyway.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.plots.palette import FALSE, GAP, HEAT, INK, PHASES, PREDICTED, RULE, SPLITS, TRUTH, rgb

__all__ = [
    "Column",
    "bar_chart",
    "curve_plot",
    "heat_frame",
    "marked_frame",
    "png_data_uri",
    "reliability_plot",
    "timeline_plot",
]

PLAIN = INK
SHADES = {0: SPLITS["train"], 2: SPLITS["unused"]}
_WIDTH, _LEFT, _RIGHT = 1100, 110, 10
_PLOT = _WIDTH - _LEFT - _RIGHT

Spans = Sequence[tuple[float, float]]


def curve_plot(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    title: str,
    x_title: str,
    y_title: str,
    *,
    step: bool,
    decision: tuple[float, float] | None = None,
) -> str:
    """An SVG of a curve in the unit square; `step` holds y to the left, as precision over recall needs.

    `decision` marks where the decisions of the file stand.
    """
    keep = np.unique(np.linspace(0, len(x) - 1, 600).astype(np.intp))
    px, py = _square(x[keep], y[keep])
    path = f"M{px[0]:.1f} {py[0]:.1f}"
    path += "".join(
        f"V{b:.1f}H{a:.1f}" if step else f"L{a:.1f} {b:.1f}" for a, b in zip(px[1:], py[1:], strict=True)
    )
    mark = ""
    if decision is not None:
        at = _square(*decision)
        mark = (
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="5" fill="{FALSE}"><title>the decisions: {x_title} '
            f"{decision[0]:.3f}, {y_title} {decision[1]:.3f}</title></circle>"
        )
    line = f'<path d="{path}" fill="none" stroke="{PREDICTED}" stroke-width="2"/>{mark}'
    return _square_plot(line, title, x_title, y_title)


def reliability_plot(bins: Sequence[Mapping[str, Any]], title: str) -> str:
    """A reliability diagram as SVG.

    The share of abnormal samples over their mean score, with its interval, bin by bin, and as bars at the bottom the
    share of all samples in each bin.

    Args:
        bins: of `scoring.calibration.Reliability`.
    """
    total = max(sum(row["samples"] for row in bins), 1)
    (left, bottom), (right, top) = _square(0.0, 0.0), _square(1.0, 1.0)
    parts = [f'<path d="M{left} {bottom}L{right} {top}" stroke="{GAP}" stroke-dasharray="4 4"/>']
    marks = []
    for row in bins:
        if not row["samples"]:
            continue
        x, high = _square(row["low"], 0.2 * row["samples"] / total)
        wide = (row["high"] - row["low"]) * (right - left) - 2
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{high:.1f}" width="{wide:.1f}" height="{bottom - high:.1f}" fill="{RULE}"/>'
        )
        at = _square(row["mean_score"], row["abnormal"])
        edges = row["interval"]
        told = f"scores {row['low']:.1f} to {row['high']:.1f}: {row['samples']} samples, mean score "
        told += f"{row['mean_score']:.3f}, {row['abnormal']:.3f} abnormal"
        if edges["low"] is not None:
            told += f" ({edges['low']:.3f} to {edges['high']:.3f})"
            ends = [_square(0.0, edges[name])[1] for name in ("low", "high")]
            parts.append(f'<path d="M{at[0]:.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="{PREDICTED}"/>')
        marks.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4" fill="{PREDICTED}"><title>{told}</title></circle>'
        )
    return _square_plot("".join(parts + marks), title, "mean score", "share abnormal")


_SQUARE, _PAD = 300, 45


def _square(x: Any, y: Any) -> tuple[Any, Any]:
    """From the unit square to pixels."""
    return _PAD + x * _SQUARE, _PAD + (1 - y) * _SQUARE


def _square_plot(inner: str, title: str, x_title: str, y_title: str) -> str:
    """The unit square with its axes, and what is drawn in it."""
    ticks = ""
    for v in (0, 0.25, 0.5, 0.75, 1):
        x, y = _square(v, v)
        ticks += (
            f'<text x="{x}" y="{_PAD + _SQUARE + 16}" text-anchor="middle">{v:g}</text>'
            f'<text x="{_PAD - 6}" y="{y + 4}" text-anchor="end">{v:g}</text>'
            f'<path d="M{x} {_PAD}v{_SQUARE}M{_PAD} {y}h{_SQUARE}" stroke="#ddd"/>'
        )
    middle = _PAD + _SQUARE / 2
    return (
        f"{_svg(_SQUARE + _PAD + 20, _SQUARE + 2 * _PAD, title)}{ticks}{inner}"
        f'<text x="{middle}" y="20" text-anchor="middle" font-weight="bold">{escape(title)}</text>'
        f'<text x="{middle}" y="{_SQUARE + 2 * _PAD - 10}" text-anchor="middle">{escape(x_title)}</text>'
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text></svg>"
    )


class Column:
    """Maps seconds since the start of a recording to the pixels of a timeline."""

    def __init__(self, start: float, stop: float) -> None:
        self.start = start
        self.scale = _PLOT / max(stop - start, 1e-9)
        self.stop = stop

    def x(self, seconds: float) -> float:
        return _LEFT + (min(max(seconds, self.start), self.stop) - self.start) * self.scale

    def bins(self, seconds: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.clip((seconds - self.start) * self.scale, 0, _PLOT - 1).astype(np.intp)


def timeline_plot(
    column: Column,
    *,
    splits: Sequence[tuple[int, float, float]],
    gaps: Spans,
    truth: Sequence[tuple[float, float, bool]],
    alarms: Spans,
    false: Spans,
    score: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    current: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> str:
    """An SVG of one recording.

    Args:
        column: the span of time that is shown.
        splits: (split, start, stop) in seconds; train and unused are shaded.
        gaps: times without frames.
        truth: (onset, offset, detected) of events.
        alarms: (start, stop) of alarms; false: of the parts of them that are false, in normal time.
        score: (seconds (N,), score (N,)) or None.
        current: (seconds (M,), amperes (M, 3)) or None.
    """
    top, rows = 6, []
    height = 6 + 26 + 26 + (86 if score is not None else 0) + (106 if current is not None else 0)
    rows += [_box(column, a, b, 0, height, SHADES[kind]) for kind, a, b in splits if kind in SHADES]
    rows += [_box(column, a, b, 0, height, GAP) for a, b in gaps]
    rows += [_name(top + 14, "truth")] + [
        _box(column, a, b, top, 20, TRUTH if found else "none", TRUTH, "event" if found else "missed event")
        for a, b, found in truth
    ]
    top += 26
    rows += [_name(top + 14, "alarms")] + [
        _box(column, a, b, top, 20, PREDICTED, None, "alarm") for a, b in alarms
    ]
    rows += [_box(column, a, b, top, 20, FALSE, None, "false alarm") for a, b in false]
    top += 26
    if score is not None:
        half = top + 40
        rows += [_name(half + 4, "score"), _edges(top, 80, "1", "0")]
        rows.append(f'<path d="M{_LEFT} {half}h{_PLOT}" stroke="#999" stroke-dasharray="4 4"/>')
        rows.append(_envelope(column, *score, (0.0, 1.0), top, 80, PLAIN))
        top += 86
    if current is not None:
        seconds, amperes = current
        shown = (seconds >= column.start) & (seconds <= column.stop) & np.isfinite(amperes).all(axis=1)
        if shown.any():
            limits = amperes[shown].min(), amperes[shown].max()
            rows += [_name(top + 54, "current (A)"), _edges(top, 100, f"{limits[1]:.0f}", f"{limits[0]:.0f}")]
            rows += [
                _envelope(column, seconds[shown], amperes[shown, phase], limits, top, 100, colour, 0.7)
                for phase, colour in enumerate(PHASES)
            ]
    return (
        f"{_svg(_WIDTH, height + 24, 'timeline')}{''.join(rows)}"
        f'<rect x="{_LEFT}" y="0" width="{_PLOT}" height="{height}" fill="none" stroke="#888"/>'
        f"{_time_axis(column, height)}</svg>"
    )


def marked_frame(
    frame: NDArray[np.uint8], truth: NDArray[np.uint8] | None, pred: NDArray[np.uint8] | None
) -> str:
    """A data URI of a frame (H, W, 3), enlarged, truth outlined in green and prediction in blue."""
    times = max(1, round(192 / max(frame.shape[:2])))
    image = frame.repeat(times, axis=0).repeat(times, axis=1).copy()
    for mask, colour in ((truth, rgb(TRUTH)), (pred, rgb(PREDICTED))):
        if mask is not None:
            large = mask.astype(bool).repeat(times, axis=0).repeat(times, axis=1)
            image[large & ~_eroded(large)] = colour
    return png_data_uri(image)


def png_data_uri(image: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 RGB as a data URI."""
    height, width, _ = image.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * 3)], axis=1)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 6)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def bar_chart(rows: Sequence[tuple[str, float | None, str]], title: str) -> str:
    """An SVG of horizontal bars from 0 to 1: (name, share or None, what is told behind the bar)."""
    left, wide, line = 190, 260, 22
    height = line * len(rows) + 34
    parts = [f'<text x="4" y="16" font-weight="bold">{escape(title)}</text>']
    for place, (name, share, told) in enumerate(rows):
        top = 28 + line * place
        parts.append(f'<text x="{left - 6}" y="{top + 12}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{wide}" height="15" fill="none" stroke="{RULE}"/>')
        if share is not None:
            parts.append(
                f'<rect x="{left}" y="{top}" width="{share * wide:.1f}" height="15" fill="{PREDICTED}"/>'
            )
        parts.append(f'<text x="{left + wide + 6}" y="{top + 12}">{escape(told)}</text>')
    return f"{_svg(left + wide + 130, height, title)}{''.join(parts)}</svg>"


def heat_frame(frame: NDArray[np.uint8], score: NDArray[np.floating[Any]]) -> str:
    """A data URI of a frame (H, W, 3), enlarged, with scores of its pixels (H, W) in [0, 1] over it, dark to bright."""
    times = max(1, round(192 / max(frame.shape[:2])))
    share = np.clip(score.astype(np.float64), 0, 1)[..., None]
    grey = np.broadcast_to(frame.mean(axis=-1, keepdims=True) * 0.5, frame.shape)
    hot = np.array(rgb(HEAT), np.float64)
    mixed = (grey * (1 - share) + hot * share).astype(np.uint8)
    return png_data_uri(mixed.repeat(times, axis=0).repeat(times, axis=1))


def _svg(width: float, height: float, title: str) -> str:
    """The opening tag: as wide as stated where there is room, narrower where there is not."""
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">'
    )


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    framed = np.pad(mask, 1)
    return framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:] & mask


def _box(
    column: Column,
    start: float,
    stop: float,
    top: float,
    height: float,
    fill: str,
    stroke: str | None = None,
    title: str | None = None,
) -> str:
    if stop < column.start or start > column.stop:
        return ""
    left = column.x(start)
    width = max(column.x(stop) - left, 1.0)
    tip = f"<title>{escape(title)}, {start:.2f} s to {stop:.2f} s</title>" if title else ""
    line = f' stroke="{stroke}" stroke-width="1.5"' if stroke else ""
    return f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="{fill}"{line}>{tip}</rect>'


def _name(y: float, text: str) -> str:
    return f'<text x="4" y="{y}">{escape(text)}</text>'


def _edges(top: float, height: float, high: str, low: str) -> str:
    return (
        f'<text x="{_LEFT - 4}" y="{top + 10}" text-anchor="end">{high}</text>'
        f'<text x="{_LEFT - 4}" y="{top + height}" text-anchor="end">{low}</text>'
    )


def _envelope(
    column: Column,
    seconds: NDArray[np.float64],
    values: NDArray[np.float64],
    limits: tuple[float, float],
    top: float,
    height: float,
    colour: str,
    opacity: float = 1.0,
) -> str:
    """A line from the least to the greatest value in each column of pixels, joined within one second."""
    if not len(seconds):
        return ""
    place = column.bins(seconds)
    starts = np.flatnonzero(np.append(True, np.diff(place) != 0))
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    middle = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    first = seconds[starts]
    last = seconds[np.append(starts[1:] - 1, len(seconds) - 1)]
    joined = np.append(False, first[1:] - last[:-1] < 1.0 + 1 / column.scale)
    span = max(limits[1] - limits[0], 1e-12)

    def y(value: float) -> float:
        return top + height * (1 - (value - limits[0]) / span)

    path = "".join(
        f"{'L' if join else 'M'}{_LEFT + p + 0.5:.1f} {y(m):.1f}"
        + (f"M{_LEFT + p + 0.5:.1f} {y(b):.1f}V{y(a):.1f}M{_LEFT + p + 0.5:.1f} {y(m):.1f}" if b > a else "")
        for p, a, b, m, join in zip(place[starts], low, high, middle, joined, strict=True)
    )
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="{opacity}"/>'


def _time_axis(column: Column, top: float) -> str:
    span = column.stop - column.start
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200) if span / s <= 12), 3600)
    marks = np.arange(np.ceil(column.start / step) * step, column.stop + 1e-9, step)
    return "".join(
        f'<path d="M{column.x(m):.1f} {top}v5" stroke="#444"/>'
        f'<text x="{column.x(m):.1f}" y="{top + 18}" text-anchor="middle">{m:g} s</text>'
        for m in marks
    )
