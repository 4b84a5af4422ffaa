"""How good the decisions are under which circumstances: how far from an onset, and behind what.

Bands and definitions stand in data_cards/protocol.md, section "Circumstances".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.truth import Truth

__all__ = ["BANDS", "around_onset", "band_title", "occlusion_bands", "onset_title"]

BEFORE_ONSET = (-inf, -30.0, -10.0, -5.0, -2.0, 0.0)
SINCE_ONSET = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, inf)
BANDS = {
    "visibility": (0.0, 0.1, 0.5, 0.9, inf),
    "mist_depth": (0.0, 0.5, 2.0, inf),
    "glare": (0.0, 10.0, 200.0, inf),
    "reflections": (0.0, 1.0, inf),
}
_TITLES = {
    "visibility": "visibility",
    "mist_depth": "optical depth of mist",
    "glare": "glare (grey levels)",
    "reflections": "red reflections",
}

Metrics = Callable[[NDArray[np.bool_]], dict[str, Any]]


def around_onset(
    labels: Labels, decision: NDArray[np.uint8], events: NDArray[np.intp]
) -> list[dict[str, Any]]:
    """Accuracy of normal frames by the time to the next onset (below 0), of abnormal ones by that since theirs.

    An onset is the first scored frame of an event of `events` (E, 2); a normal frame with no event after it in
    its recording is in no band.
    """
    assert labels.class_label is not None
    if not len(events):
        return []
    onset = events[:, 0]
    rows = np.arange(len(labels))
    abnormal = labels.class_label == 1
    nearest = np.where(
        abnormal,
        np.searchsorted(onset, rows, side="right") - 1,
        np.searchsorted(onset, rows, side="left"),
    )
    known = nearest < len(onset)
    nearest = np.minimum(nearest, len(onset) - 1)
    known &= labels.recording[onset[nearest]] == labels.recording
    distance = (labels.frame_time - labels.frame_time[onset[nearest]]) / NS
    right = decision == labels.class_label
    table = []
    for edges, of_class in ((BEFORE_ONSET, ~abnormal), (SINCE_ONSET, abnormal)):
        for start, stop in pairwise(edges):
            inside = known & of_class & (distance >= start) & (distance < stop)
            table.append(
                {
                    "from_s": _finite(start),
                    "to_s": _finite(stop),
                    "frames": int(inside.sum()),
                    "accuracy": float(right[inside].mean()) if inside.any() else None,
                }
            )
    return table


def occlusion_bands(truth: Truth, labels: Labels, metrics: Metrics) -> list[dict[str, Any]]:
    """The five metrics over the samples of each band of each hidden quantity.

    Args:
        truth: of the very samples of `labels`.
        labels: of the scored samples.
        metrics: gives num_samples, metrics and undefined of the samples where a (N,) bool array is true.
    """
    assert labels.class_label is not None
    table = []
    for quantity, edges in BANDS.items():
        values = truth.values[quantity]
        for start, stop in pairwise(edges):
            inside = (values >= start) & (values < stop)
            abnormal = int(labels.class_label[inside].sum())
            table.append(
                {"of": quantity, "from": start, "to": _finite(stop), "abnormal": abnormal} | metrics(inside)
            )
    return table


def band_title(row: Mapping[str, Any]) -> str:
    """'visibility 0.1 to 0.5': a row of `occlusion_bands` in words, its upper end left out."""
    quantity = _TITLES[row["of"]]
    if row["to"] is None:
        return f"{quantity} {row['from']:g} or more"
    if row["of"] == "reflections":
        return "no red reflections"
    return f"{quantity} {row['from']:g} to {row['to']:g}"


def onset_title(row: Mapping[str, Any]) -> str:
    """'2 to 5 s after': a row of `around_onset` in words."""
    start, stop = row["from_s"], row["to_s"]
    if start is None:
        return f"more than {-stop:g} s before"
    if stop is None:
        return f"{start:g} s after, or later"
    return f"{start:g} to {stop:g} s after" if stop > 0 else f"{-start:g} to {abs(stop):g} s before"


def _finite(edge: float) -> float | None:
    return edge if abs(edge) < inf else None
