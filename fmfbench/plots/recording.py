"""A picture of a recording: frames with mask outlines, and the three currents beneath."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS, format_time
from fmfbench.conversion.summary import gaps
from fmfbench.errors import StoreError
from fmfbench.plots.palette import GAP, PHASE_NAMES, PHASES, SPLIT_INKS, TRUTH
from fmfbench.plots.palette import SPLITS as SPLIT_SHADES
from fmfbench.plots.picture import save_figure
from fmfbench.store.recording import Recording
from fmfbench.store.schema import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_FRAMES", "choose_frames", "draw_currents", "draw_frame", "draw_recording"]

MAX_FRAMES = 60
_COLUMNS = 6


def choose_frames(recording: Recording, text: str | None) -> NDArray[np.int64]:
    """Frames of `a:b:step`; without text 12 of them, from normal to abnormal and across the splits."""
    n = recording.num_frames
    if n == 0:
        raise StoreError(f"{recording.path}: has no frames to show")
    if text is None:
        return _telling_frames(recording, 12)
    parts = text.split(":")
    try:
        values = [int(p) if p.strip() else None for p in parts]
        wanted = np.arange(n)[slice(*values)] if len(parts) > 1 else np.arange(n)[[int(text)]]
    except (ValueError, IndexError, TypeError):
        raise StoreError(f"--frames expects a:b:step or one frame below {n}, got {text!r}") from None
    if not 0 < len(wanted) <= MAX_FRAMES:
        raise StoreError(
            f"--frames {text!r}: expected 1 to {MAX_FRAMES} frames, got {len(wanted)} of {n}; take a larger step"
        )
    return wanted


def draw_recording(recording: Recording, frames: NDArray[np.int64], out: Path) -> None:
    """Write the picture of some frames of a recording to `out` (PNG, PDF or SVG by its name)."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(frames))
    rows = math.ceil(len(frames) / columns)
    height = 2.1 * recording.height / recording.width + 0.35
    width = max(2.1 * columns, 8.0)
    figure = Figure(figsize=(width, height * rows + 3.2), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*[height] * rows, 2.6])
    for i, frame in enumerate(frames.tolist()):
        draw_frame(figure.add_subplot(grid[i // columns, i % columns]), recording, frame)
    draw_currents(figure.add_subplot(grid[rows, :]), recording, frames)
    figure.suptitle(
        f"{recording.name}: {recording.num_frames} frames of {recording.width}x{recording.height} (WxH)",
        fontsize=11,
    )
    save_figure(figure, out)


def draw_frame(axes: Axes, recording: Recording, frame: int) -> None:
    """One frame, its abnormal region outlined, its number, class and split above."""
    axes.imshow(recording.read_video(frame, frame + 1)[0], interpolation="nearest")
    label = {0: "normal", 1: "abnormal"}.get(int(recording.class_label[frame]), "unlabelled")
    split = next(name for name, code in SPLITS.items() if code == recording.split[frame])
    if recording.masks is not None:
        outline(axes, recording.read_masks(frame, frame + 1)[0], TRUTH)
    axes.set_title(f"{frame}  {label}", fontsize=8, color=SPLIT_INKS[split])
    axes.set_xticks([0, recording.width - 1])
    axes.set_yticks([0, recording.height - 1])
    axes.tick_params(labelsize=6, length=2)


def outline(axes: Axes, mask: NDArray[np.uint8], color: str) -> None:
    """Draw the border between abnormal and normal pixels along the pixels' edges."""
    padded = np.pad(mask.astype(bool), 1)
    segments: list[list[tuple[float, float]]] = []
    for r, c in zip(*np.nonzero(padded[:, 1:] != padded[:, :-1]), strict=True):
        segments.append([(c - 0.5, r - 1.5), (c - 0.5, r - 0.5)])
    for r, c in zip(*np.nonzero(padded[1:] != padded[:-1]), strict=True):
        segments.append([(c - 1.5, r - 0.5), (c - 0.5, r - 0.5)])
    if segments:
        from matplotlib.collections import LineCollection

        axes.add_collection(LineCollection(segments, colors=color, linewidths=1.2))


def draw_currents(axes: Axes, recording: Recording, frames: NDArray[np.int64] | None = None) -> None:
    """The three currents against time, abnormal stretches beneath them, splits and gaps shaded."""
    if not recording.num_frames:
        return
    start = int(recording.frame_time[0])
    seconds = (recording.frame_time - start) / NS
    if len(recording.current):
        at = (recording.current_time - start) / NS
        for phase, color in enumerate(PHASES):
            axes.plot(at, recording.current[:, phase] / 1000, lw=0.6, color=color, label=PHASE_NAMES[phase])
    else:
        axes.text(0.5, 0.5, "no currents", transform=axes.transAxes, ha="center", color="#888888")
        axes.set_yticks([])
    period = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.04
    # a frame lasts until the next, but not a gap
    ends = np.minimum(np.r_[seconds[1:], np.inf], seconds + period)
    for name, code in SPLITS.items():
        for k, (a, b) in enumerate(runs(recording.split == code)):
            axes.axvspan(seconds[a], ends[b - 1], color=SPLIT_SHADES[name], lw=0,
                         label=name if k == 0 else None)  # fmt: skip
    for k, (a, b) in enumerate(runs(recording.class_label == 1)):
        axes.axvspan(
            seconds[a], ends[b - 1], 0, 0.04, color=TRUTH, lw=0, label=None if k else "labelled abnormal"
        )
    for k, row in enumerate(gaps(recording.frame_time)[0].tolist()):
        axes.axvspan(seconds[row], seconds[row + 1], color=GAP, lw=0.8, label=None if k else "gap")
    for frame in () if frames is None else frames.tolist():
        axes.axvline(seconds[frame], color="#333333", lw=0.5, ls=":")
    axes.set_xlim(seconds[0], ends[-1])
    origin = f" from {format_time(start)}" if recording.time_origin == "clock" else ""
    axes.set_xlabel(f"seconds{origin}", fontsize=8)
    axes.set_ylabel("current (kA)", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, ncols=8, loc="upper center", bbox_to_anchor=(0.5, 1.16), frameon=False)


def runs(flags: NDArray[Any]) -> list[tuple[int, int]]:
    """Half-open runs of true entries."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags.astype(bool), False]))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _telling_frames(recording: Recording, count: int) -> NDArray[np.int64]:
    """Frames spread over the recording, half of them abnormal where there are any."""
    n = recording.num_frames
    abnormal = np.flatnonzero(recording.class_label == 1)
    if not len(abnormal) or len(abnormal) == n:
        return np.unique(np.linspace(0, n - 1, min(n, count)).astype(np.int64))
    others = np.flatnonzero(recording.class_label != 1)
    half = count // 2
    picks = [
        group[np.linspace(0, len(group) - 1, min(len(group), half)).astype(np.int64)]
        for group in (abnormal, others)
    ]
    return np.unique(np.concatenate(picks))
