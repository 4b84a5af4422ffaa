"""A picture of predictions: frames of the scored split with their true and predicted outlines."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import read_predictions
from fmfbench.plots.palette import PREDICTED, TRUTH
from fmfbench.plots.picture import save_figure
from fmfbench.plots.recording import outline
from fmfbench.store.reader import StoreReader

__all__ = ["draw_predictions"]

_COLUMNS, _ROWS = 6, 2


def draw_predictions(
    data: StoreReader, predictions: str | os.PathLike[str], out: str | os.PathLike[str]
) -> None:
    """Draw frames spread over the samples of a prediction file, half of them abnormal where there are any.

    Args:
        data: the store that the samples are of.
        predictions: a prediction file with scores.
        out: the picture to write (.png, .pdf, .svg).

    Raises:
        PredictionError: the file has no scores.
    """
    from matplotlib.figure import Figure

    found = read_predictions(predictions)
    if found.score is None:
        raise PredictionError(f"{predictions}: expected scores to show, got decisions only")
    chosen = _spread(data.class_labels(found.sample_id), _COLUMNS * _ROWS)
    masks = None
    if found.mask_bits is not None and found.mask_shape is not None:
        masks = unpack_masks(found.mask_bits[chosen], found.mask_shape)
    recordings = list(data.recordings.values())
    figure = Figure(figsize=(2.2 * _COLUMNS, 2.2 * _ROWS), layout="constrained")
    for place, (row, k, frame) in enumerate(
        zip(chosen.tolist(), *(a.tolist() for a in data.locate(found.sample_id[chosen])), strict=True)
    ):
        recording = recordings[k]
        axes = figure.add_subplot(_ROWS, _COLUMNS, place + 1)
        axes.imshow(recording.read_video(frame, frame + 1)[0], interpolation="nearest")
        if recording.masks is not None:
            outline(axes, recording.read_masks(frame, frame + 1)[0], TRUTH)
        if masks is not None:
            outline(axes, masks[place], PREDICTED)
        truth = {0: "normal", 1: "abnormal"}.get(int(recording.class_label[frame]), "unlabelled")
        axes.set_title(f"{recording.name} {frame}\n{truth}, score {float(found.score[row]):.2f}", fontsize=7)
        axes.set_axis_off()
    figure.suptitle(f"{Path(predictions).name}: green true outline, blue predicted", fontsize=10)
    save_figure(figure, Path(out))


def _spread(label: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    abnormal, others = np.flatnonzero(label == 1), np.flatnonzero(label != 1)
    half = count // 2 if len(others) else count
    picks = [
        group[np.linspace(0, len(group) - 1, min(len(group), n)).astype(np.int64)]
        for group, n in ((abnormal, half), (others, count - min(half, len(abnormal))))
        if len(group)
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *picks]))
