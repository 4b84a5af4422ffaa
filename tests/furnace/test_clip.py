"""The clip of a furnace: every moment of the gallery, and the currents beneath.

Also tests fmfbench.furnace: gallery.
"""

from __future__ import annotations

import numpy as np
import pytest

from fmfbench.errors import InputError
from fmfbench.furnace import clip
from fmfbench.furnace.gallery import find_moments, make_furnace
from fmfbench.furnace.plan import PRESETS, make_plan
from fmfbench.furnace.render import Furnace

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(clip.write_clip(tmp_path_factory.mktemp("clip") / "c.avi", preset="tiny")))
    assert video.get(cv2.CAP_PROP_FPS) == 25.0
    found = []
    while True:
        read, frame = video.read()
        if not read:
            return found
        found.append(frame)


def test_clip_shows_three_seconds_of_each_moment(frames: list[np.ndarray]) -> None:
    furnace = make_furnace("tiny", 0, 0)
    moments = find_moments(furnace)
    assert {"normal", "onset", "apex", "offset"} <= {moment.title for moment in moments}
    pieces = [(max(0, m.frame - 38), min(furnace.plan.frames, m.frame + 38)) for m in moments]
    assert len(frames) == sum(stop - start for start, stop in pieces)
    height, width = furnace.plan.height * clip.SCALE, furnace.plan.width * clip.SCALE
    assert {frame.shape for frame in frames} == {(height + clip.TRACE_HEIGHT, width, 3)}
    places = np.concatenate([np.arange(*piece) for piece in pieces])
    for number in range(0, len(frames), 29):
        block = furnace.draw_block(places[number] // clip.BLOCK_FRAMES)
        wanted = block.video[places[number] - block.start][..., ::-1].astype(float)
        shown = frames[number][3 : height : clip.SCALE, 3 :: clip.SCALE].astype(float)
        assert np.abs(shown - wanted).mean() < 12.0  # the codec, and the outline


def test_trace_ends_with_the_frame_and_is_red_where_it_was_abnormal() -> None:
    furnace = make_furnace("small", 0, 0)
    event = furnace.plan.events[3]
    normal, abnormal = (
        clip._trace(furnace, frame, 384, "", cv2)[:, -1] for frame in (event.onset - 1, event.onset + 9)
    )
    assert (abnormal == (205, 205, 250)).all(axis=-1).mean() > 0.8
    assert not (normal == (205, 205, 250)).all(axis=-1).any()
    start = clip._trace(furnace, 0, 384, "", cv2)  # the recording has only begun
    assert (start[20:, :300] == 250).all()  # below the name
    assert (start[:, -20:] != 250).any()


def test_a_recording_without_events_is_refused(tmp_path, monkeypatch) -> None:
    twin = Furnace(make_plan(PRESETS["tiny"], 0, 0, anomaly_free=True))
    monkeypatch.setattr(clip, "make_furnace", lambda *_: twin)
    with pytest.raises(InputError, match="expected a recording with an event"):
        clip.write_clip(tmp_path / "c.avi", preset="tiny")
    assert not (tmp_path / "c.avi").exists()
