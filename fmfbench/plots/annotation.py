"""Looking at annotations: a contact sheet of the telling frames, or a clip, with boxes and refined masks outlined."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import AnnotationError
from fmfbench.plots.clip import writing_clip
from fmfbench.plots.palette import COARSE, INK, PHASE_NAMES, PHASES, TRUTH, rgb
from fmfbench.plots.picture import save_figure
from fmfbench.plots.recording import outline
from fmfbench.store.layers import provenance_of
from fmfbench.store.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_clip", "draw_sheet", "write_video"]

_COLUMNS = 5
_MOST_EVENTS = 12
_CONTEXT_SECONDS = 10.0
_CLIP_WIDTH = 640
_CAPTION = 24


def draw_sheet(recording: Recording, boxes: str | None, refined: str | None, out: Path) -> None:
    """Write a contact sheet: for each event the frames around onset, apex and offset, and the currents beneath.

    Args:
        recording: what to show.
        boxes, refined: the layers to outline, yellow and green; None leaves one out.
        out: .png, .pdf or .svg.

    Raises:
        AnnotationError: neither layer tells of an event.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    events = _events(recording, boxes, refined)
    shown = events[:_MOST_EVENTS]
    cell = 1.9
    height = cell * recording.height / recording.width + 0.25
    row_heights = [value for _ in shown for value in (height, 1.5)]
    figure = Figure(figsize=(cell * _COLUMNS + 0.6, sum(row_heights) + 0.6), layout="constrained")
    grid = figure.add_gridspec(2 * len(shown), _COLUMNS, height_ratios=row_heights)
    for row, event in enumerate(shown):
        for column, (frame, what) in enumerate(_telling_frames(event, recording.num_frames)):
            axes = figure.add_subplot(grid[2 * row, column])
            _draw_frame(axes, recording, frame, what, boxes, refined)
        _draw_currents(figure.add_subplot(grid[2 * row + 1, :]), recording, event)
    more = f" (first {len(shown)} of {len(events)} events)" if len(events) > len(shown) else ""
    names = [f"{name} {color}" for name, color in ((boxes, "yellow"), (refined, "green")) if name]
    figure.suptitle(f"{recording.name}{more}: {', '.join(names)}", fontsize=10)
    save_figure(figure, out)


def draw_clip(recording: Recording, boxes: str | None, refined: str | None, out: Path) -> None:
    """Write a clip (.mp4 or .webm) of the events, a second of context about each, with the layers outlined.

    Raises:
        AnnotationError: neither layer tells of an event, or another ending.
        MissingDependencyError: PyAV is not installed.
        FailedError: such a file cannot be written.
    """
    import cv2

    spans = _spans(_events(recording, boxes, refined), recording.num_frames)
    scale = max(1, _CLIP_WIDTH // recording.width)
    width, height = recording.width * scale, recording.height * scale
    with writing_clip(out, (width, height + _CAPTION), _rate(recording)) as write:
        for start, stop in (block for span in spans for block in _blocks(*span)):
            layers = [
                (recording.read_masks(start, stop, name), color)
                for name, color in ((boxes, COARSE), (refined, TRUTH))
                if name is not None
            ]
            for i, image in enumerate(recording.read_video(start, stop)):
                picture = np.zeros((height + _CAPTION, width, 3), np.uint8)
                picture[:height] = _enlarged(image, scale)
                for masks, color in layers:
                    picture[:height][_edges(masks[i], scale)] = rgb(color)
                text = f"{recording.name} frame {start + i}"
                place = (6, height + _CAPTION - 7)
                cv2.putText(
                    picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA
                )
                write(picture)


def write_video(recording: Recording, out: Path, scale: int = 8) -> None:
    """Write every frame, enlarged, as a video (.mp4 or .webm) to draw boxes on; they are scaled back on import.

    Raises:
        MissingDependencyError: PyAV is not installed.
        FailedError: such a file cannot be written.
    """
    size = recording.width * scale, recording.height * scale
    with writing_clip(out, size, _rate(recording)) as write:
        for start, stop in _blocks(0, recording.num_frames):
            for image in recording.read_video(start, stop):
                write(_enlarged(image, scale))


def _rate(recording: Recording) -> float:
    """Frames a second."""
    steps = np.diff(recording.frame_time)
    return NS / float(np.median(steps)) if len(steps) else 25.0


def _enlarged(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    return np.asarray(image.repeat(scale, axis=0).repeat(scale, axis=1))


def _blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, 256):
        yield start, min(last, start + 256)


def _events(recording: Recording, boxes: str | None, refined: str | None) -> list[dict[str, Any]]:
    for name in (refined, boxes):
        if name is not None and (events := provenance_of(recording, name).get("events")):
            return sorted(events, key=lambda event: int(event["onset"]))
    raise AnnotationError(
        f"{recording.name}: expected an annotated event to show, got none; choose another recording with --recording"
    )


def _telling_frames(event: dict[str, Any], num_frames: int) -> list[tuple[int, str]]:
    """Just before the onset, onset, apex (or the middle), offset, just after it."""
    onset, offset = int(event["onset"]), int(event["offset"])
    apex = event["apex"]
    middle = (int(apex), "apex") if apex is not None else ((onset + offset) // 2, "middle")
    frames = [(onset - 1, "before"), (onset, "onset"), middle, (offset, "offset"), (offset + 1, "after")]
    return [(frame, what) for frame, what in frames if 0 <= frame < num_frames]


def _draw_frame(
    axes: Axes, recording: Recording, frame: int, what: str, boxes: str | None, refined: str | None
) -> None:
    axes.imshow(recording.read_video(frame, frame + 1)[0], interpolation="nearest")
    for name, color in ((boxes, COARSE), (refined, TRUTH)):
        if name is not None:
            outline(axes, recording.read_masks(frame, frame + 1, name)[0], color)
    axes.set_title(f"{what} {frame}", fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_currents(axes: Axes, recording: Recording, event: dict[str, Any]) -> None:
    """The currents about one event, which is shaded; its apex is a line."""
    time = recording.frame_time / NS
    onset, offset = time[event["onset"]], time[event["offset"]]
    low, high = onset - _CONTEXT_SECONDS, offset + _CONTEXT_SECONDS
    at = recording.current_time / NS
    near = (at >= low) & (at <= high)
    if near.any():
        for phase, color in enumerate(PHASES):
            current = recording.current[near, phase] / 1000
            axes.plot(at[near] - time[0], current, lw=0.8, color=color, label=PHASE_NAMES[phase])
        axes.legend(fontsize=6, ncols=3, loc="upper right", frameon=False)
    else:
        axes.text(0.5, 0.5, "no currents here", transform=axes.transAxes, ha="center", color="#888888")
        axes.set_yticks([])
    axes.axvspan(onset - time[0], offset - time[0], color=TRUTH, alpha=0.15, lw=0)
    if event["apex"] is not None:
        axes.axvline(time[event["apex"]] - time[0], color=INK, lw=0.8, ls=":")
    axes.set_xlim(low - time[0], high - time[0])
    axes.set_xlabel(f"seconds; event {event['id']} shaded", fontsize=7)
    axes.set_ylabel("kA", fontsize=7)
    axes.tick_params(labelsize=6)


def _spans(events: list[dict[str, Any]], num_frames: int) -> list[tuple[int, int]]:
    """Half-open runs of frames: the events with 25 frames about them, those that touch joined."""
    spans: list[tuple[int, int]] = []
    for event in events:
        first, last = max(0, int(event["onset"]) - 25), min(num_frames, int(event["offset"]) + 26)
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(last, spans[-1][1]))
        else:
            spans.append((first, last))
    return spans


def _edges(mask: NDArray[np.uint8], scale: int) -> NDArray[np.bool_]:
    """The outline of a mask, enlarged by `scale`: its outermost screen pixels."""
    large = np.pad(np.kron(mask, np.ones((scale, scale), np.uint8)), 1).astype(bool)
    width = max(1, math.ceil(scale / 6))
    inside = large.copy()
    for _ in range(width):
        inside = np.pad(
            inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:],
            1,
        )
    return (large & ~inside)[1:-1, 1:-1]
