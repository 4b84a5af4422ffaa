"""Pictures of FMF-Sim to look at: typical moments with the currents beneath, and a clip of one event."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fmfbench.errors import InputError
from fmfbench.files.atomic import replacing
from fmfbench.furnace import NAME, VERSION
from fmfbench.furnace.plan import make_plan, parse_preset
from fmfbench.furnace.render import BLOCK_FRAMES, Furnace
from fmfbench.furnace.timing import SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PHASE_COLOURS", "Moment", "draw_gallery", "find_moments", "make_furnace", "parse_picture_path"]

# those of fmfbench.plots.palette, which stands after this room
PHASE_COLOURS = (
    "#e07b00",
    "#7b45c4",
    "#6b4a2f",
)


@dataclass(frozen=True)
class Moment:
    """A frame worth looking at."""

    title: str
    frame: int


def find_moments(furnace: Furnace) -> tuple[Moment, ...]:
    """One frame of each kind, as far as the recording has it.

    Normal, onset, apex, offset, mist over an anomaly, glare without one, a reflection and splashes without one.
    """
    plan = furnace.plan
    abnormal = plan.class_label.astype(bool)
    mist, glare = furnace.mist_depth, furnace.glare_level
    shine, sparks = (np.zeros(plan.frames, dtype=np.float32) for _ in range(2))
    for patch in furnace.reflections:
        np.maximum.at(shine, np.arange(patch.first, patch.last), patch.strength)
    for drop in furnace.splashes:
        np.add.at(sparks, np.arange(drop.first, drop.last), drop.strength)
    clear = (mist < 0.4) & (glare < 5.0)
    moments = []
    normal = np.flatnonzero(~abnormal & clear & (shine < 5.0))
    if len(normal):
        moments.append(Moment("normal", int(normal[len(normal) // 2])))
    if furnace.spots:
        spot = max(furnace.spots, key=lambda own: _clearness(own.event, clear))
        event = spot.event
        early, late = event.onset + (event.apex - event.onset) // 4, event.offset
        moments += [Moment("onset", event.onset), Moment("growing", early)]
        moments += [Moment("apex", event.apex), Moment("offset", late)]
    for title, weight in (
        ("mist over an anomaly", mist * abnormal),
        ("thin mist over an anomaly", np.where(mist < 1.1, mist, 0.0) * abnormal * clear_of(glare)),
        ("glare without an anomaly", np.where(glare < 200.0, glare, 0.0) * ~abnormal),
        ("blinding glare over an anomaly", np.where(glare > 250.0, glare, 0.0) * abnormal),
        ("reflection without an anomaly", shine * ~abnormal * clear),
        ("splashes without an anomaly", sparks * ~abnormal * clear),
    ):
        if weight.max(initial=0.0) > 0.0:
            moments.append(Moment(title, int(weight.argmax())))
    return tuple(moments)


def clear_of(glare: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(T,) where there is no glare."""
    return np.asarray(glare < 5.0, dtype=np.bool_)


def draw_gallery(path: str | Path, *, preset: str = "small", seed: int = 0, recording: int = 0) -> Path:
    """Draw typical moments of one recording, masks outlined, with the currents and hidden states beneath.

    Raises:
        InputError: there is no such preset or recording, or `path` is not a .png.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = parse_picture_path(path, ".png")
    furnace = make_furnace(preset, seed, recording)
    moments = find_moments(furnace)
    columns = 5
    rows = -(-len(moments) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows + 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 2, columns, height_ratios=[2.5] * rows + [2.6, 1.6])
    for k, moment in enumerate(moments):
        axes = figure.add_subplot(grid[k // columns, k % columns])
        _draw_frame(axes, furnace, moment)
    _draw_currents(figure.add_subplot(grid[rows, :]), furnace, moments)
    _draw_states(figure.add_subplot(grid[rows + 1, :]), furnace)
    figure.suptitle(f"{NAME} {VERSION} (simulated), preset {preset}, seed {seed}, {furnace.plan.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=90, format="png", metadata={"Software": f"{NAME} {VERSION}"})
    return target


def make_furnace(preset: str, seed: int, recording: int) -> Furnace:
    """The furnace that a picture is of. InputError: no such preset or recording."""
    size = parse_preset(preset)
    if not 0 <= recording < len(size.recordings):
        raise InputError(
            f"recording: expected 0 to {len(size.recordings) - 1}, got {recording}; choose one of these"
        )
    return Furnace(make_plan(size, recording, seed))


def parse_picture_path(path: str | Path, ending: str) -> Path:
    """The path, if its name ends in `ending` and its folder exists; InputError otherwise."""
    target = Path(path)
    if target.suffix.lower() != ending:
        raise InputError(
            f"{target}: expected a file name that ends in {ending}, got {target.suffix!r}; name another"
        )
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: expected an existing folder to write into, got none at {target.parent}")
    if target.is_dir():
        raise InputError(f"{target}: expected the name of a file to write, got a folder")
    return target


def _clearness(event: Any, clear: npt.NDArray[np.bool_]) -> float:
    """How much of an event is seen at its onset, apex and offset; then its length."""
    ends = [event.onset, (3 * event.onset + event.apex) // 4, event.apex, event.offset]
    return float(clear[ends].sum()) + min(event.frames, 10_000) / 20_000


def _draw_frame(axes: Axes, furnace: Furnace, moment: Moment) -> None:
    block = furnace.draw_block(moment.frame // BLOCK_FRAMES)
    k = moment.frame - block.start
    axes.imshow(block.video[k], interpolation="nearest")
    if block.label[k].any():
        axes.contour(block.label[k], [0.5], colors="cyan", linewidths=1.0)
    axes.set_title(f"{moment.title}\nframe {moment.frame}, visibility {block.visibility[k]:.2f}", fontsize=8)
    axes.set_axis_off()


def _draw_currents(axes: Axes, furnace: Furnace, moments: tuple[Moment, ...]) -> None:
    current = furnace.current
    for phase, colour in enumerate(PHASE_COLOURS):
        axes.plot(current.time / SECOND, current.amperes[:, phase] / 1000.0, color=colour, linewidth=0.6)
    for event in furnace.plan.events if furnace.spots else ():
        axes.axvspan(*(furnace.time[[event.onset, event.offset]] / SECOND), color="0.85")
    top = axes.get_ylim()[1]
    for moment in moments:
        at = furnace.time[moment.frame] / SECOND
        axes.axvline(at, color="0.4", linewidth=0.6, linestyle=":")
        axes.text(at, top, moment.title, rotation=30, fontsize=6, ha="left", va="bottom")
    axes.set_ylabel("current, kA")
    axes.set_xlim(current.time[0] / SECOND, current.time[-1] / SECOND)


def _draw_states(axes: Axes, furnace: Furnace) -> None:
    seconds = furnace.time / SECOND
    axes.plot(seconds, furnace.mist_depth, color="0.5", linewidth=0.6, label="mist, optical depth")
    axes.plot(
        seconds, furnace.glare_level / 100.0, color="orange", linewidth=0.6, label="glare, 100 grey levels"
    )
    current = furnace.current.time / SECOND
    axes.plot(current, 4.0 * furnace.current.signature, color="purple", linewidth=1.0, label="signature x 4")
    axes.plot(current, 2.0 * furnace.current.feeding, color="green", linewidth=0.6, label="feeding x 2")
    axes.set_xlim(current[0], current[-1])
    axes.set_xlabel("s from the video's first second; events in grey above")
    axes.legend(fontsize=7, ncols=4, loc="upper right")
