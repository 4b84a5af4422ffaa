"""The worst errors of a report as pictures: truth and prediction outlined, pixel scores beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.exchange.labels import Labels
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.prediction_reader import Predictions
from fmfbench.plots.page import studio_link
from fmfbench.plots.svg import heat_frame, marked_frame

__all__ = ["worst_errors"]

_MOST_PICTURES = 8
_APART_NS = 5 * NS


def worst_errors(found: Predictions, labels: Labels, data: Any, studio: str | None) -> str:
    """Misses of the lowest and false alarms of the highest scores, as pictures that lie apart in time."""
    if data is None:
        return "<h2>Worst errors</h2><p>Scored without the store: no pictures.</p>"
    assert labels.class_label is not None
    confidence = found.decision.astype(float) if found.score is None else found.score.astype(float)
    missed = np.flatnonzero((labels.class_label == 1) & (found.decision == 0))
    called = np.flatnonzero((labels.class_label == 0) & (found.decision == 1))
    parts = [
        '<h2>Worst errors</h2><p class="key">At least 5 s apart. Truth outlined in green, prediction in blue.</p>'
    ]
    for title, rows in (
        ("Misses, lowest score first", missed[np.argsort(confidence[missed], kind="stable")]),
        ("False alarms, highest score first", called[np.argsort(-confidence[called], kind="stable")]),
    ):
        chosen = _spread(rows, labels)
        heats = _heat_maps(found, chosen)
        pictures = (
            "".join(_picture(row, found, labels, data, heats, studio) for row in chosen) or "<p>None.</p>"
        )
        parts.append(f'<h3>{title}</h3><div class="row">{pictures}</div>')
    return "".join(parts)


def _spread(rows: NDArray[np.intp], labels: Labels) -> list[int]:
    """The first rows of those that lie 5 s or more from every one chosen before."""
    chosen: list[int] = []
    for row in rows.tolist():
        near = [
            other
            for other in chosen
            if labels.recording[other] == labels.recording[row]
            and abs(labels.frame_time[other] - labels.frame_time[row]) < _APART_NS
        ]
        if not near:
            chosen.append(row)
        if len(chosen) == _MOST_PICTURES:
            break
    return chosen


def _heat_maps(found: Predictions, rows: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Pixel scores (H, W) in [0, 1] of some rows, in one pass over the file; empty without them."""
    if found.pixel_score is None:
        return {}
    maps = {}
    for places, block in found.pixel_score.blocks():
        for place, scores in zip(places.tolist(), block, strict=True):
            if place in rows:
                maps[place] = scores.astype(np.float64) / (255 if scores.dtype == np.uint8 else 1)
    return maps


def _picture(
    row: int,
    found: Predictions,
    labels: Labels,
    data: Any,
    heats: Mapping[int, NDArray[np.float64]],
    studio: str | None,
) -> str:
    name = labels.recordings[labels.recording[row]]
    frame = int(labels.frame[row])
    image = data.recordings[name].read_video(frame, frame + 1)[0]
    shape = labels.mask_shape or image.shape[:2]
    masks = [
        None if bits is None else unpack_masks(bits[row : row + 1], shape)[0]
        for bits in (labels.mask_bits if labels.no_mask is None else None, found.mask_bits)
    ]
    score = "" if found.score is None else f", score {float(found.score[row]):.3f}"
    heat = ""
    if row in heats:
        heat = f'<img src="{heat_frame(image, heats[row])}" alt="pixel scores of frame {frame}">'
    return (
        f'<figure><img src="{marked_frame(image, masks[0], masks[1])}" alt="frame {frame}">{heat}'
        f"<figcaption>{studio_link(studio, name, frame, f'{name}, frame {frame}')}, sample "
        f"{labels.sample_id[row]}{score}</figcaption></figure>"
    )
