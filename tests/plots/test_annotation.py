import cv2
import matplotlib.image
import numpy as np
import pytest

import fmfbench
from fmfbench.annotation.annotate import annotate
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track
from fmfbench.errors import AnnotationError, FailedError
from fmfbench.plots.annotation import draw_clip, draw_sheet, write_video
from fmfbench.plots.palette import COARSE, TRUTH, rgb

YELLOW, GREEN = rgb(COARSE), rgb(TRUTH)


@pytest.fixture
def recordings(store):
    box = (Keyframe(frame=8, box=(2.0, 6.0, 19.0, 18.0)), Keyframe(frame=30, box=(10.0, 6.0, 27.0, 18.0)))
    tracks = (
        Track(id=0, onset=8, apex=20, offset=30, keyframes=box),
        Track(id=1, onset=58, offset=59, keyframes=(Keyframe(frame=58, box=(2.0, 6.0, 19.0, 18.0)),)),
    )
    annotate(store, Keyframes(size=(32, 24), recordings={"run1": tracks, "run2": ()}))
    return fmfbench.open_dataset(store).recordings


def count(picture, color):
    return int((np.abs(picture[..., :3].astype(int) - color).max(axis=-1) < 12).sum())


def test_a_contact_sheet_shows_both_outlines(recordings, tmp_path):
    out = tmp_path / "look.png"
    draw_sheet(recordings["run1"], "boxes", "refined", out)
    picture = (matplotlib.image.imread(out) * 255).astype(np.uint8)
    both = count(picture, YELLOW), count(picture, GREEN)
    assert min(both) > 40  # exact colours only: edges are blended
    draw_sheet(recordings["run1"], "boxes", None, out)
    picture = (matplotlib.image.imread(out) * 255).astype(np.uint8)
    assert count(picture, YELLOW) >= both[0]
    assert count(picture, GREEN) == 0


def test_a_clip_covers_the_events(recordings, tmp_path):
    out = tmp_path / "look.mp4"
    draw_clip(recordings["run1"], "boxes", "refined", out)
    assert [path.name for path in tmp_path.iterdir() if "look" in path.name] == ["look.mp4"]
    capture = cv2.VideoCapture(str(out))
    frames = []
    while (got := capture.read())[0]:
        frames.append(got[1][..., ::-1])
    # 25 frames before the first event and after it reach to frame 56; the second begins within
    assert len(frames) == 60
    assert frames[0].shape == (24 * 20 + 24, 640, 3)
    close = [(np.abs(frames[20].astype(int) - color).max(axis=-1) < 60).sum() for color in (YELLOW, GREEN)]
    assert min(close) > 300
    assert (np.abs(frames[2].astype(int) - YELLOW).max(axis=-1) < 60).sum() == 0


def test_a_video_to_draw_on_has_every_frame_enlarged(recordings, tmp_path):
    out = tmp_path / "run2.mp4"
    write_video(recordings["run2"], out, scale=5)
    capture = cv2.VideoCapture(str(out))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (37, 25)
    image = capture.read()[1]
    assert image.shape == (120, 160, 3)
    small = image.reshape(24, 5, 32, 5, 3).mean(axis=(1, 3))[..., ::-1]
    assert np.abs(small - recordings["run2"].read_video(0, 1)[0]).mean() < 12  # the codec loses some


def test_nothing_to_show(recordings, tmp_path):
    for draw in (draw_sheet, draw_clip):
        with pytest.raises(AnnotationError, match="expected an annotated event"):
            draw(recordings["run2"], "boxes", "refined", tmp_path / "a.mp4")
    with pytest.raises(FailedError, match="cannot open"):
        draw_clip(recordings["run1"], "boxes", None, tmp_path / "none" / "a.mp4")
