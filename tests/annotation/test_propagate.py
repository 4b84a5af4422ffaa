import numpy as np

from fmfbench.annotation.keyframes import Keyframe, Track
from fmfbench.annotation.propagate import box_between, boxes_at, coarse_masks


def track(onset, offset, *keyframes, track_id=0):
    return Track(
        id=track_id,
        onset=onset,
        offset=offset,
        keyframes=tuple(Keyframe(frame=frame, box=tuple(map(float, box))) for frame, *box in keyframes),
    )


def by_pixel(tracks, frame, height, width, view):
    """The rule, pixel by pixel, in Python's numbers."""
    mask = np.zeros((height, width), np.uint8)
    for one in tracks:
        if not one.onset <= frame <= one.offset:
            continue
        before = [k for k in one.keyframes if k.frame <= frame]
        after = [k for k in one.keyframes if k.frame >= frame]
        a, b = (before or after)[-1 if before else 0], (after or before)[0 if after else -1]
        part = 0 if a.frame == b.frame else (frame - a.frame) / (b.frame - a.frame)
        x0, y0, x1, y1 = (p + (q - p) * part for p, q in zip(a.box, b.box, strict=True))
        left, top, sx, sy = view[0], view[1], width / view[2], height / view[3]
        for r in range(height):
            for c in range(width):
                across = (x0 - left) * sx <= c + 0.5 < (x1 - left) * sx
                mask[r, c] |= across and (y0 - top) * sy <= r + 0.5 < (y1 - top) * sy
    return mask


def test_boxes_move_linearly_and_are_held():
    one = track(1, 9, (3, 0, 0, 4, 4), (5, 2, 0, 8, 4), (6, 2, 3, 8, 7))
    boxes = boxes_at(one, np.arange(11))
    assert np.isnan(boxes[[0, 10]]).all()
    assert boxes[[1, 2, 3]].tolist() == [[0, 0, 4, 4]] * 3
    assert boxes[4].tolist() == [1, 0, 6, 4]
    assert boxes[[6, 7, 8, 9]].tolist() == [[2, 3, 8, 7]] * 4
    assert box_between(one.keyframes, 4) == (1, 0, 6, 4)


def test_a_keyframe_behind_the_event_steers_it():
    one = track(2, 4, (2, 0, 0, 4, 4), (6, 8, 0, 12, 4))
    assert boxes_at(one, np.arange(7))[:, 0].tolist()[2:5] == [0, 2, 4]
    assert np.isnan(boxes_at(one, np.arange(7))[5:]).all()


def test_whole_corners_are_plain_slices():
    masks = coarse_masks([track(3, 4, (3, 8, 5, 20, 12))], 0, 6, (24, 32), (0, 0, 32, 24))
    expected = np.zeros((6, 24, 32), np.uint8)
    expected[3:5, 5:12, 8:20] = 1
    assert np.array_equal(masks, expected)
    assert masks.dtype == np.uint8


def test_half_open_at_pixel_centres():
    masks = coarse_masks([track(0, 0, (0, 0.5, 1.5, 2.5, 3.5))], 0, 1, (5, 4), (0, 0, 4, 5))
    assert np.argwhere(masks[0]).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


def test_tracks_are_united_scaled_and_cut_by_the_block_as_pixel_by_pixel():
    rng = np.random.default_rng(0)
    for _ in range(30):
        view, (height, width) = (0, 0, 40, 30), rng.integers(3, 20, 2)
        if rng.random() < 0.5:
            view = (*rng.integers(-3, 9, 2).tolist(), *rng.integers(5, 30, 2).tolist())
        tracks = []
        for _ in range(rng.integers(1, 4)):
            onset, offset = sorted(rng.integers(0, 12, 2))
            frames = sorted({int(rng.integers(onset, offset + 1)), *rng.integers(0, 12, 2).tolist()})
            boxes = [[*rng.uniform(0, 15, 2), *rng.uniform(16, 30, 2)] for _ in frames]
            tracks.append(track(onset, offset, *([f, *b] for f, b in zip(frames, boxes, strict=True))))
        start, stop = sorted(rng.integers(0, 13, 2))
        masks = coarse_masks(tracks, start, stop, (height, width), view)
        assert masks.shape == (stop - start, height, width)
        for i, frame in enumerate(range(start, stop)):
            assert np.array_equal(masks[i], by_pixel(tracks, frame, height, width, view))
