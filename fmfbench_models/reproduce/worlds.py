"""Three worlds: what a cross-modal row is worth whole, with the video lost, and with the current lost.

In each world the yardstick is the best row of one modality that still has its input there: of both modalities where
nothing is lost, of current where the video is, of video where the current is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fmfbench_models.registry import list_models, model_info
from fmfbench_models.reproduce.experiment import Experiment, Row

__all__ = ["LOST", "WHOLE", "WORLDS", "build_worlds", "inputs_of", "lost_rows"]

WHOLE = "whole"
# presets of the robustness protocol
LOST = {
    "video-missing": "video lost",
    "current-missing": "current lost",
}
WORLDS = {WHOLE: "whole", **LOST}
LEFT = {WHOLE: ("visual", "current"), "video-missing": ("current",), "current-missing": ("visual",)}
MARGIN = 0.02  # accuracy that a row may lose to the best single modality


def inputs_of(row: Row) -> str | None:
    """ "visual", "current" or "both"; None where this installation lacks a model of the row."""
    if not {training.model for training in row.trainings} <= set(list_models()):
        return None
    found = {
        str(training.options.get("modality", model_info(training.model).modality))
        for training in row.trainings
    }
    return found.pop() if len(found) == 1 else "both"


def lost_rows(experiment: Experiment, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The cross-modal rows of `rows` under each loss; none for a figure, whose rows are one model."""
    if experiment.is_figure:
        return ()
    return tuple(row.under(world) for row in rows if inputs_of(row) == "both" for world in LOST)


def build_worlds(
    rows: Sequence[Mapping[str, Any]], lost: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The three worlds of a table's document; None where no cross-modal row is made or asked for.

    Args:
        rows: the document's.
        lost: (name of a row, world) -> "status", "errors" and "metrics" there, as a row of the document has them.
    """
    crossing = [
        row
        for row in rows
        if row["inputs"] == "both"
        and row["status"] not in ("not asked for", "not available")
        and (row["name"], "video-missing") in lost
    ]
    if not crossing:
        return None
    single = {
        world: best([row for row in rows if row["inputs"] in LEFT[world] and row["status"] == "done"])
        for world in WORLDS
    }
    return {
        "margin": MARGIN,
        "single": {world: None if row is None else shown(row) for world, row in single.items()},
        "rows": [
            world_row(row, {world: lost[row["name"], world] for world in LOST}, single) for row in crossing
        ],
    }


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """By accuracy; the earlier of equal ones."""
    known = [row for row in rows if row["metrics"]["accuracy"]["value"] is not None]
    return max(known, key=lambda row: float(row["metrics"]["accuracy"]["value"]), default=None)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "label": row["label"],
        "inputs": row["inputs"],
        "metrics": {name: bare(cell) for name, cell in row["metrics"].items()},
    }


def bare(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {key: cell[key] for key in ("value", "low", "high")}


def world_row(
    row: Mapping[str, Any],
    lost: Mapping[str, Mapping[str, Any]],
    single: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, Any]:
    """behind: by how much the best single modality is above the row, in accuracy; negative where the row is above.

    keeps: whether it is at most the margin behind in every world, above where it is whole, and there by intervals that
    do not overlap; None while a figure is missing.
    """
    parts = {WHOLE: row, **lost}
    worlds: dict[str, Any] = {}
    for world, found in parts.items():
        own, other = found["metrics"]["accuracy"]["value"], accuracy_of(single[world])
        worlds[world] = {
            "status": found["status"],
            "errors": dict(found["errors"]),
            "metrics": {name: bare(cell) for name, cell in found["metrics"].items()},
            "behind": None if own is None or other is None else other - own,
        }
    behind = [world["behind"] for world in worlds.values()]
    keeps = None if None in behind else all(each <= MARGIN for each in behind) and apart(row, single[WHOLE])
    return {"name": row["name"], "label": row["label"], "worlds": worlds, "keeps": keeps}


def accuracy_of(row: Mapping[str, Any] | None) -> float | None:
    value: float | None = None if row is None else row["metrics"]["accuracy"]["value"]
    return value


def apart(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether the row's interval lies above the other's."""
    if other is None:
        return False
    low, high = row["metrics"]["accuracy"]["low"], other["metrics"]["accuracy"]["high"]
    return low is not None and high is not None and low > high
