"""ClipBERT."""

from __future__ import annotations

import math

import pytest
import torch
from conftest_zoo_cross import (
    assert_close,
    differ,
    outputs,
    random,
    tiny,
    windows,
)

from fmfbench.errors import InputError
from fmfbench_models.zoo import clipbert


def test_order_of_frames_is_invisible():
    model, batch = tiny("clipbert", depth=2).double(), windows(2)
    plain = outputs(model, batch)
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        assert_close(outputs(model, {**batch, "video": batch["video"][:, :, order]}), plain)
    other = batch["video"].clone()
    other[:, :, 0] = 255 - other[:, :, 0]
    assert differ(outputs(model, {**batch, "video": other}), plain)


@pytest.mark.parametrize("frames", [2, 7])
def test_a_frame_repeated_is_one_frame(frames):
    model, batch = tiny("clipbert").double(), windows(2, frames=1)
    repeated = {**batch, "video": batch["video"].expand(-1, -1, frames, -1, -1)}
    assert_close(outputs(model, repeated), outputs(model, batch))


def test_places_are_sums_of_row_and_column():
    tokens = clipbert.GridTokens(3, 5, 4)
    places = tokens.places()
    assert places.shape == (15, 4)
    for i in range(3):
        for j in range(5):
            assert torch.equal(places[5 * i + j], tokens.row[i] + tokens.column[j])


def test_clips_are_joined_by_log_sum_exp():
    logits = random(3, 1, 2)
    torch.testing.assert_close(clipbert.join_clips(logits), logits[:, 0])
    for n in (2, 5):
        joined = clipbert.join_clips(logits.expand(-1, n, -1))
        torch.testing.assert_close(joined, logits[:, 0] + math.log(n))
        torch.testing.assert_close(joined.softmax(1), logits[:, 0].softmax(1))


def test_clips_are_those_of_one_clip_models():
    """Two clips of two frames: the log-sum-exp of what each gives alone; frames do not change clips unseen."""
    one, two = tiny("clipbert").double(), tiny("clipbert", clips=2).double()
    two.load_state_dict(one.state_dict())
    batch = windows(2)
    halves = [outputs(one, {**batch, "video": batch["video"][:, :, part]}) for part in ([0, 1], [2, 3])]
    expected = [torch.logaddexp(a, b) for a, b in zip(*halves, strict=True)]
    assert_close(outputs(two, batch), expected)
    assert differ(outputs(two, {**batch, "video": batch["video"][:, :, [0, 2, 1, 3]]}), expected, least=1e-9)
    with pytest.raises(InputError, match=r"multiple of 2 clips, got \(2, 3, 3, 16, 24\); "):
        two(batch["video"][:, :, :3], batch["current"])
