"""Pictures of `reproduce all`: how good each row is, whole and with a sensor lost, and how each loss went."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_rows"]

Document = Mapping[str, Any]
# what a row sees, in the colours of the picture of lengths
COLOURS = {"both": "#d95f02", "visual": "#1f77b4", "current": "#1b9e77"}
WORDS = {"both": "video and current", "visual": "video", "current": "current"}
LOST = {"video-missing": ("v", "video lost"), "current-missing": ("^", "current lost")}
PANELS = {"accuracy": "accuracy", "miou": "mIoU"}
COLUMNS = 6  # of curves


def draw_rows(document: Document) -> bytes | None:
    """A PNG of Table II: a line for each row made, best accuracy on top; None where none is made.

    Dots are means over the training seeds, which stand as small dots where there are several; bars span their 95 %
    intervals; triangles are what is left with a sensor lost. The grey line is the best figure that needs no model.
    """
    rows = [row for row in document["rows"] if row["status"] == "done"]
    rows = [row for row in rows if row["metrics"]["accuracy"]["value"] is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: float(row["metrics"]["accuracy"]["value"]))
    lost = {row["name"]: row["worlds"] for row in (document["worlds"] or {"rows": []})["rows"]}
    figure = new_figure(9.6, 1.3 + 0.24 * len(rows))
    figure.suptitle(
        "\n".join(textwrap.wrap(f"{document['title']}. {document['notice']}", 150)),
        fontsize=9,
        x=0.01,
        ha="left",
    )
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for axes, (name, title) in zip((left, right), PANELS.items(), strict=True):
        for place, row in enumerate(rows):
            draw_row(axes, place, row, lost.get(row["name"], {}), name)
        known = [value for facts in without_model(document).values() if (value := facts[name]) is not None]
        axes.axvline(max(known), color="#999999", lw=1.2, zorder=0)
        axes.set_xlabel(title)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=8)
    left.set_ylim(-0.7, len(rows) - 0.3)
    add_legend(figure, rows, lost)
    return png(figure)


def draw_row(axes: Axes, place: int, row: Document, worlds: Mapping[str, Document], name: str) -> None:
    cell = row["metrics"][name]
    if cell["value"] is None:
        return
    colour = COLOURS[row["inputs"]]
    if cell["low"] is not None:
        axes.plot(
            [cell["low"], cell["high"]],
            [place, place],
            color=colour,
            lw=2.2,
            alpha=0.45,
            solid_capstyle="butt",
        )
    seeds = [seed["metrics"][name] for seed in row["per_seed"].values() if seed["metrics"][name] is not None]
    if len(seeds) > 1:
        axes.plot(seeds, [place] * len(seeds), ".", color="#222222", ms=3, zorder=4)
    for world, (marker, _) in LOST.items():
        value = worlds.get(world, {}).get("metrics", {}).get(name, {}).get("value")
        if value is not None:
            axes.plot(value, place, marker, mfc="white", mec=colour, ms=5)
    axes.plot(cell["value"], place, "o", color=colour, ms=6)


def without_model(document: Document) -> Mapping[str, Mapping[str, float | None]]:
    """Trivial baselines that know no label of the test split."""
    return {name: facts for name, facts in document["floor"].items() if name != "last-second persistence"}


def label(row: Document) -> str:
    return f"{row['label']} ({row['name']})" if row["label"] == "FmFormer" else str(row["label"])


def add_legend(figure: Figure, rows: Sequence[Document], lost: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    def mark(marker: str, colour: str, text: str, **style: Any) -> Line2D:
        return Line2D([], [], ls="none", marker=marker, color=colour, label=text, **style)

    seen = {row["inputs"] for row in rows}
    handles = [mark("o", colour, WORDS[inputs]) for inputs, colour in COLOURS.items() if inputs in seen]
    if any(len(row["per_seed"]) > 1 for row in rows):
        handles.append(mark(".", "#222222", "a training seed", ms=3))
    if lost:
        handles += [mark(marker, "#555555", text, mfc="white") for marker, text in LOST.values()]
    handles.append(Line2D([], [], color="#999999", label="best without a model"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)


def draw_curves(curves: Sequence[Document]) -> bytes | None:
    """A PNG: the loss of each training against its epochs, a small panel each; None where nothing was trained.

    A grey band is the last quarter; green where the loss has flattened in it, by `describe_curve`.
    """
    if not curves:
        return None
    lines = math.ceil(len(curves) / COLUMNS)
    figure = new_figure(11, 0.5 + 1.45 * lines)
    grid = figure.subplots(lines, min(COLUMNS, len(curves)), squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, curve in zip(grid.flat, curves, strict=False):
        losses = curve["losses"]
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, color="#222222", lw=1.2, marker="." if len(losses) == 1 else "")
        shade = "#00b050" if curve["flattened"] else "#999999"
        axes.axvspan(len(losses) - len(losses) // 4 + 0.5, len(losses) + 0.5, color=shade, alpha=0.2, lw=0)
        share = curve["last_quarter"]
        told = "" if share is None else f"\nlast quarter {100 * share:.0f} %"
        axes.set_title(f"{curve['training']}{told}", fontsize=7.5)
        axes.tick_params(labelsize=6.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("training loss", fontsize=8)
    return png(figure)


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()
