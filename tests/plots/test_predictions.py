"""The picture of predictions shows both outlines, and refuses what it cannot show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.errors import PredictionError
from fmfbench.plots.palette import PREDICTED, TRUTH
from fmfbench.plots.predictions import draw_predictions


def count(picture: np.ndarray, colour: str) -> int:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int(np.all(np.abs(picture[..., :3] - wanted) < 0.03, axis=-1).sum())


def test_both_outlines_are_drawn(awkward_store: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    data = fmfbench.open_dataset(awkward_store)
    ids = data.sample_ids("test")
    mask = np.zeros((len(ids), 6, 9), np.uint8)
    mask[:, 4:6, 0:3] = 1
    with_masks = fmfbench.write_predictions(
        tmp_path / "p.npz", sample_id=ids, score=np.full(len(ids), 0.25), mask=mask
    )
    draw_predictions(data, with_masks, tmp_path / "p.png")
    picture = imread(tmp_path / "p.png")
    assert count(picture, TRUTH) > 50
    assert count(picture, PREDICTED) > 50
    without = fmfbench.write_predictions(tmp_path / "q.npz", sample_id=ids, score=np.full(len(ids), 0.25))
    draw_predictions(data, without, tmp_path / "q.png")
    assert count(imread(tmp_path / "q.png"), PREDICTED) == 0
    decided = fmfbench.write_predictions(tmp_path / "r.npz", sample_id=ids, pred=np.zeros(len(ids), int))
    with pytest.raises(PredictionError, match="got decisions only"):
        draw_predictions(data, decided, tmp_path / "r.png")
