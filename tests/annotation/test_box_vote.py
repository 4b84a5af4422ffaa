"""Boxes voted one by one: the fast path equals the definition, small boxes survive, empty votes keep their box."""

import numpy as np
import pytest

from fmfbench.annotation.box_vote import (
    box_radius,
    margins_of_boxes,
    refine_boxes,
    refine_boxes_frames,
    refine_boxes_plain,
)
from fmfbench.annotation.propagate import box_masks
from fmfbench.annotation.weighted_median import refine_plain


def draw(rng, height, width):
    """A frame with a few flat patches and noise, and boxes that may overlap, touch the border or be NaN."""
    guide = np.repeat(np.repeat(rng.integers(0, 256, (4, 5, 3)), -(-height // 4), 0), -(-width // 5), 1)[
        :height, :width
    ]
    guide = np.clip(guide + rng.integers(-20, 21, guide.shape), 0, 255).astype(np.uint8)
    boxes = []
    for _ in range(int(rng.integers(0, 4))):
        x0, y0 = rng.uniform(-2, width - 1), rng.uniform(-2, height - 1)
        boxes.append([x0, y0, x0 + rng.uniform(0.1, width), y0 + rng.uniform(0.1, height)])
    boxes += [[np.nan] * 4] * int(rng.integers(0, 2))
    return np.array(boxes, float).reshape(-1, 4), guide


@pytest.mark.parametrize("seed", range(150))
def test_the_fast_path_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(3, 40, 2))
    boxes, guide = draw(rng, height, width)
    sigma = float(rng.choice([3.0, 25.5, 80.0]))
    got = refine_boxes(boxes, guide, sigma)
    np.testing.assert_array_equal(got, refine_boxes_plain(boxes, guide, sigma))
    expected = np.zeros((height, width), np.uint8)
    for x0, y0, x1, y1 in boxes[~np.isnan(boxes).any(axis=1)]:
        inside = np.array(
            [[x0 <= c + 0.5 < x1 and y0 <= r + 0.5 < y1 for c in range(width)] for r in range(height)]
        )
        radius = min(max(round(min(x1 - x0, y1 - y0) / 3), 1), 7)
        vote = refine_plain(inside.astype(np.uint8), guide, radius, sigma)
        expected |= vote if vote.any() else inside.astype(np.uint8)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(margins_of_boxes(boxes, guide, sigma) > 0, got.astype(bool))


def test_blocks_are_their_frames_on_any_number_of_threads():
    rng = np.random.default_rng(0)
    found = [draw(rng, 21, 30) for _ in range(17)]
    boxes = np.full((17, 4, 4), np.nan)
    for frame, (own, _) in enumerate(found):
        boxes[frame, : len(own)] = own
    guides = np.stack([guide for _, guide in found])
    expected = np.stack([refine_boxes(own, guide) for own, guide in found])
    for threads in (1, 3):
        np.testing.assert_array_equal(refine_boxes_frames(boxes, guides, threads=threads), expected)


@pytest.mark.parametrize(
    ("sides", "radius"),
    [
        ((1, 30), 1),
        ((4.4, 4.4), 1),
        ((5, 9), 2),
        ((7.4, 8), 2),
        ((9, 9), 3),
        ((20.9, 21), 7),
        ((90, 60), 7),
        ((0.2, 1), 1),
    ],
)
def test_the_radius_is_a_third_of_the_shorter_side(sides, radius):
    for w, h in (sides, sides[::-1]):
        assert box_radius(np.array([3, 2, 3 + w, 2 + h], float)) == radius


def test_an_empty_vote_keeps_its_box():
    guide = np.full((20, 30, 3), 90, np.uint8)
    boxes = np.array([[5.0, 6, 6, 12], [15.0, 3, 27, 16]])  # a line one pixel wide: outvoted on a flat frame
    line = box_masks(boxes[:1], (20, 30))[0]
    assert not refine_plain(line.astype(np.uint8), guide, 1).any()
    got = refine_boxes(boxes, guide)
    assert got[line].all()
    assert not refine_boxes(boxes[1:], guide)[line].any()
    assert (margins_of_boxes(boxes, guide)[line] == 1).all()


def test_a_small_spot_survives_beside_a_large_one():
    """A 5x5 spot, as real ones are: radius 7 for both would erase it."""
    rng = np.random.default_rng(1)
    guide = np.clip(rng.normal(70, 5, (64, 64, 3)), 0, 255)
    guide[10:15, 8:13] += [120, 20, 0]
    guide[30:55, 30:58] += [120, 20, 0]
    guide = np.clip(guide, 0, 255).astype(np.uint8)
    boxes = np.array([[6.0, 8, 15, 17], [28.0, 28, 60, 57]])
    got = refine_boxes(boxes, guide)
    assert got[10:15, 8:13].sum() >= 20
    assert got[30:55, 30:58].mean() > 0.9
    assert refine_boxes(boxes[:1], guide).any()
