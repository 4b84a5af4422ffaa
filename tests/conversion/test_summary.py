"""What is told of a source before it is converted, and of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from conftest_tree import TreeRecording, write_tree

from fmfbench.clock import NS
from fmfbench.conversion.summary import describe_source, gaps
from fmfbench.sources.layout import open_source
from fmfbench.sources.source import Options


@pytest.mark.parametrize("kind", ["pixel", "class", "none"])
def test_what_labels_a_source_has(kind: str, tmp_path: Path) -> None:
    """Each frame's masks, one value a frame, or nothing."""
    video = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 5), dtype=np.uint8)
    if kind == "none":
        frames = video.transpose(3, 0, 1, 2)
        path = write_tree(
            tmp_path / "pixel-level",
            {"r": TreeRecording(frames, None, np.zeros(5), np.zeros(2), np.ones((2, 3)))},
        )
    else:
        path = tmp_path / "r.mat"
        label = np.zeros((6, 4, 5) if kind == "pixel" else (1, 5))
        label[..., 2] = 1
        scipy.io.savemat(path, {
            "video": video, "current": np.ones((3, 5)), "label": label, "train_test_index": np.zeros((1, 5)),
        })  # fmt: skip
    facts = describe_source(open_source(path, Options()))
    (recording,) = facts["recordings"]
    assert recording["labels"] == kind
    assert (facts["frames"], facts["video_bytes"]) == (5, video.size)


@pytest.mark.parametrize(
    ("steps", "wide", "longest"),
    [([], [], 0.0), ([2, 2, 6], [], 0.0), ([2, 7, 2, 9, 2], [1, 3], 9.0)],
)
def test_a_gap_is_more_than_three_median_steps(steps: list[int], wide: list[int], longest: float) -> None:
    found = gaps(np.cumsum([5, *steps]) * NS)
    assert (found[0].tolist(), found[1]) == (wide, longest)
