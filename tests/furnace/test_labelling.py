"""Labels as people make them: boxes, propagated, voted, checked; and how far they are from what is hot."""

from __future__ import annotations

import numpy as np
import pytest

from fmfbench.furnace import labelling
from fmfbench.furnace.anomaly import MOST_PIECES, count_pieces
from fmfbench.furnace.plan import PRESETS, make_plan
from fmfbench.furnace.render import Furnace


@pytest.fixture(scope="module", params=[("small", 0, 3), ("full", 0, 1)], ids=["small", "full"])
def furnace(request: pytest.FixtureRequest) -> Furnace:
    preset, k, seed = request.param
    return Furnace(make_plan(PRESETS[preset], k, seed))


def plain_vote(inside: np.ndarray, guide: np.ndarray, radius: int) -> np.ndarray:
    """The definition, pixel by pixel, of one frame."""
    height, width = inside.shape
    out = np.zeros_like(inside)
    for r in range(height):
        for c in range(width):
            rows, columns = (
                slice(max(0, r - radius), r + radius + 1),
                slice(max(0, c - radius), c + radius + 1),
            )
            weight = labelling.WEIGHTS[np.abs(guide[rows, columns] - guide[r, c])].astype(np.int64)
            out[r, c] = 2 * weight[inside[rows, columns]].sum() > weight.sum()
    return out


@pytest.mark.parametrize("seed", range(6))
def test_vote_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, height, width = 5, int(rng.integers(4, 14)), int(rng.integers(4, 14))
    inside = np.zeros((n, height, width), dtype=bool)
    for mask in inside:
        top, left = rng.integers(0, height - 2), rng.integers(0, width - 2)
        mask[top : top + rng.integers(1, 8), left : left + rng.integers(1, 8)] = True
    guide = rng.integers(0, 256, (n, height, width)).astype(np.int32) // int(rng.integers(1, 9))
    radius = rng.integers(1, labelling.GREATEST_RADIUS + 1, n)
    got = labelling._vote(inside, guide, radius)
    for k in range(n):
        np.testing.assert_array_equal(got[k], plain_vote(inside[k], guide[k], int(radius[k])))


def test_weights_are_those_of_the_annotation() -> None:
    shade = np.arange(256)
    np.testing.assert_allclose(
        labelling.WEIGHTS / 65536.0, np.exp(-(shade**2) / (2 * 25.5**2)), atol=0.5 / 65536.0 + 1e-12
    )


def test_boxes_are_propagated_linearly_as_annotate_does() -> None:
    from fmfbench.annotation.keyframes import Keyframe, Track
    from fmfbench.annotation.propagate import coarse_masks

    own = labelling.BoxTrack(
        event=0,
        frames=np.array([3, 7, 20], dtype=np.int64),
        boxes=np.array([[2, 1, 6, 5], [4, 1, 10, 9], [3, 2, 5, 4]], dtype=np.int64),
    )
    frames = np.arange(3, 21, dtype=np.int64)
    got = labelling._inside(own.at(frames), 0, 0, 12, 14)
    track = Track(
        id=0,
        onset=3,
        offset=20,
        keyframes=tuple(
            Keyframe(frame=int(f), box=tuple(float(v) for v in box))
            for f, box in zip(own.frames, own.boxes, strict=True)
        ),
    )
    wanted = coarse_masks((track,), 3, 21, (12, 14), (0, 0, 14, 12)) > 0
    # boxes are kept to 1/256 pixel, rounded down: a centre on the very edge may fall either way
    assert (got != wanted).mean() < 0.005


@pytest.mark.parametrize(
    ("box", "radius"), [((0, 0, 1, 1), 1), ((0, 0, 5, 9), 2), ((0, 0, 40, 12), 4), ((0, 0, 60, 60), 7)]
)
def test_radius_is_a_third_of_the_shorter_side(box: tuple[int, int, int, int], radius: int) -> None:
    assert labelling._radius(256 * np.array([box], dtype=np.int64)).tolist() == [radius]


def test_every_abnormal_frame_has_a_label_and_no_other(furnace: Furnace) -> None:
    stop = min(furnace.plan.frames, 6000)
    label = furnace.draw_labels(0, stop)
    np.testing.assert_array_equal(label.any(axis=(1, 2)), furnace.plan.class_label[:stop] > 0)
    shown = label[label.any(axis=(1, 2))][::5]
    assert np.mean(count_pieces(shown) <= MOST_PIECES) > 0.98


def test_labels_come_close_to_what_is_hot_and_are_not_it(furnace: Furnace) -> None:
    stop = min(furnace.plan.frames, 6000)
    label, hot = furnace.draw_labels(0, stop) > 0, furnace.draw_hot(0, stop) > 0
    overlap = (label & hot).sum() / (label | hot).sum()
    assert 0.3 < overlap < 0.9
    outside = label & ~hot
    assert outside.sum() > (hot & ~label).sum()  # people draw boxes around things, not inside them


def test_labels_stay_where_nothing_is_seen(furnace: Furnace) -> None:
    hidden = np.flatnonzero((furnace.mist_depth > 3.0) & (furnace.plan.class_label > 0))[::20]
    assert len(hidden) > 3
    for frame in hidden.tolist():
        label, hot = furnace.draw_labels(frame, frame + 1)[0], furnace.draw_hot(frame, frame + 1)[0]
        assert (label & hot).sum() > 0.3 * hot.sum()


def test_any_part_is_drawn_alone_and_in_any_order(furnace: Furnace) -> None:
    again = Furnace(furnace.plan)
    event = furnace.plan.events[2]
    late = again.draw_labels(event.offset - 40, event.offset + 20)
    early = again.draw_labels(event.onset - 5, event.onset + 60)
    np.testing.assert_array_equal(late, furnace.draw_labels(event.offset - 40, event.offset + 20))
    whole = furnace.draw_labels(event.onset - 5, event.onset + 60)
    np.testing.assert_array_equal(early, whole)
    one = np.concatenate([furnace.draw_labels(f, f + 1) for f in range(event.onset - 5, event.onset + 60)])
    np.testing.assert_array_equal(one, whole)
