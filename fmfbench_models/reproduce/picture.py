"""Fig. 6 as a picture: metrics against the lengths of the windows, from a table's document."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from fmfbench.scoring.metrics import metric
from fmfbench_models.reproduce.overview import new_figure, png

__all__ = ["draw_lengths"]

COLUMNS = {"video": "video, first to last frame (s)", "current": "current (s)"}
PANELS = (("accuracy",), ("fdr", "mdr"), ("miou",))
COLORS = {"accuracy": "#1f77b4", "fdr": "#9467bd", "mdr": "#d95f02", "miou": "#1b9e77"}
PAPER, TRAINED, BROKEN, WAITING = "#222222", "#999999", "#c00000", "#999999"
WIDTH = 150  # characters of a line below the panels


def draw_lengths(document: Mapping[str, Any]) -> bytes:
    """A PNG: a column of panels for video and one for current, intervals as bands.

    A row without a figure breaks the line; failed ones are crossed at the foot of their column and named below, those
    not made yet are rings. The paper's figures stand at the lengths they are for.
    """
    rows = {of: sorted_rows(document["rows"], of) for of in COLUMNS}
    panels = [names for names in PANELS if names[0] != "miou" or has_values(document["rows"], names)]
    notes = [line for text in footnotes(document, rows) for line in textwrap.wrap(text, WIDTH)]
    title = textwrap.wrap(document["title"], 90)
    height = 2.2 * len(panels) + 0.2 * len(notes) + 0.25 * len(title) + 0.6
    figure = new_figure(9.6, height)
    figure.suptitle("\n".join(title), fontsize=10)
    grid = figure.subplots(len(panels), len(COLUMNS), squeeze=False, sharex="col", sharey="row")
    for line, names in zip(grid, panels, strict=True):
        for axes, of in zip(line, COLUMNS, strict=True):
            for name in names:
                draw_metric(axes, rows[of], name)
            draw_paper(axes, document, of, names)
            axes.axvline(document["trained_lengths"][of], color=TRAINED, ls=":", lw=1.2, label="trained with")
            mark_missing(axes, rows[of])
            axes.grid(alpha=0.25)
        bottom, top = line[0].get_ylim()  # shared by the line
        line[0].set_ylim(max(bottom, -0.04), min(top, 1.04))
        line[0].set_ylabel(", ".join(metric(name).short for name in names))
        drawn = {
            label: handle
            for axes in line
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        style = {"fontsize": 7, "loc": "center left", "bbox_to_anchor": (1.01, 0.5), "frameon": False}
        line[-1].legend(drawn.values(), drawn.keys(), **style)
    for axes, label in zip(grid[-1], COLUMNS.values(), strict=True):
        axes.set_xlabel(label)
    figure.supxlabel("\n".join(notes), fontsize=7.5, x=0.01, ha="left")
    return png(figure)


def sorted_rows(rows: Sequence[Mapping[str, Any]], of: str) -> list[Mapping[str, Any]]:
    own = [row for row in rows if row["length"] and row["length"]["of"] == of]
    return sorted(own, key=lambda row: float(row["length"]["seconds"]))


def has_values(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    return any(row["metrics"][name]["value"] is not None for row in rows for name in names)


def draw_metric(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    seconds = [row["length"]["seconds"] for row in rows]
    cells = [row["metrics"][name] if row["status"] == "done" else {} for row in rows]
    value, low, high = ([number(cell.get(key)) for cell in cells] for key in ("value", "low", "high"))
    axes.plot(seconds, value, color=COLORS[name], marker="o", ms=4, lw=1.5, label=metric(name).short)
    axes.fill_between(seconds, low, high, color=COLORS[name], alpha=0.18, lw=0)
    # an interval between two gaps has no width to fill
    axes.vlines(seconds, low, high, color=COLORS[name], alpha=0.35, lw=1)


def number(value: float | None) -> float:
    return math.nan if value is None else value


def draw_paper(axes: Axes, document: Mapping[str, Any], of: str, names: Sequence[str]) -> None:
    reference = document["reference"] or {}
    told = "paper, real data" if document["data"]["simulated"] else "paper"
    for name in names:
        if name in reference and of in reference:
            label = f"{metric(name).short}, {told}"
            style: dict[str, Any] = {"marker": "D", "ms": 6, "ls": "none", "mew": 1.3}
            axes.plot(reference[of], reference[name], **style, mfc=COLORS[name], mec=PAPER, label=label)


def mark_missing(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """On the foot of the panel: crosses where a row failed, rings where it is still to be made."""
    marks = {"failed": ("x", BROKEN, "failed"), "other": ("o", WAITING, "not made")}
    for kind, (marker, color, label) in marks.items():
        seconds = [
            row["length"]["seconds"]
            for row in rows
            if row["status"] != "done" and (row["status"] == "failed") == (kind == "failed")
        ]
        if seconds:
            foot = axes.get_xaxis_transform()
            style: dict[str, Any] = {
                "marker": marker,
                "ls": "none",
                "ms": 6,
                "clip_on": False,
                "mfc": "none",
                "mec": color,
            }
            axes.plot(seconds, [0.0] * len(seconds), **style, transform=foot, label=label)


def footnotes(document: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    every = [row for of in rows for row in rows[of]]
    notes = [document["notice"]] if document["data"]["simulated"] else []
    trained = document["trained_lengths"]
    notes.append(
        f"One model, trained with {trained['video']:g} s of video and {trained['current']:g} s of current; only the "
        f"windows at prediction change. Bands: 95 % intervals. {document['data']['test_samples']} test frames"
        + (", the last of each second." if document["sample_set"] == "per-second" else ".")
    )
    reference = document["reference"]
    if reference:
        notes.append(
            f"The paper prints no figures for its plot. Diamonds: what it has in {reference['source']}, at "
            f"{reference['video']:g} s of video and {reference['current']:g} s of current"
            + (", on the real recordings." if document["data"]["simulated"] else ".")
        )
    failed: dict[str, dict[str, None]] = {}
    for row in every:
        for error in row["errors"].values():
            failed.setdefault(error[:300], {})[row["label"]] = None
    notes += [f"FAILED: {', '.join(labels)}: {error}" for error, labels in failed.items()]
    waiting = [row["label"] for row in every if row["status"] not in ("done", "failed")]
    if waiting:
        notes.append(f"Not made: {', '.join(waiting)}.")
    return notes
