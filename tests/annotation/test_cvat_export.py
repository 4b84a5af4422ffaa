import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fmfbench.annotation.cvat import read_cvat
from fmfbench.annotation.cvat_export import write_cvat
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track, parse_keyframes


@st.composite
def keyframes_and_count(draw):
    """Any keyframes that are allowed, of one recording of `count` frames."""
    count = draw(st.integers(1, 30))
    width, height = draw(st.integers(1, 50)), draw(st.integers(1, 40))

    def box():
        edges = [
            sorted(draw(st.lists(st.floats(0, limit), min_size=2, max_size=2, unique=True)))
            for limit in (width, height)
        ]
        return edges[0][0], edges[1][0], edges[0][1], edges[1][1]

    tracks = []
    for track_id in draw(
        st.lists(st.sampled_from([0, 7, "left", "a & <b>", "12x"]), max_size=3, unique=True)
    ):
        cuts = sorted(draw(st.sets(st.integers(0, count), min_size=2, max_size=6)))
        for onset, end in zip(cuts[::2], cuts[1::2], strict=False):
            inside = draw(st.sets(st.integers(onset, end - 1), min_size=1, max_size=5))
            around = draw(st.sets(st.integers(0, count - 1), max_size=2))
            tracks.append(
                Track(
                    id=track_id,
                    onset=onset,
                    apex=draw(st.none() | st.integers(onset, end - 1)),
                    offset=end - 1,
                    keyframes=tuple(Keyframe(frame=frame, box=box()) for frame in sorted(inside | around)),
                )
            )
    tracks.sort(key=lambda track: (str(track.id), track.onset))
    return Keyframes(size=(width, height), recordings={"run": tuple(tracks)}), count


@given(keyframes_and_count())
def test_json_loses_nothing(given_keyframes):
    keyframes, _ = given_keyframes
    assert parse_keyframes(json.loads(json.dumps(keyframes.to_dict()))) == keyframes


@settings(max_examples=300)
@given(keyframes_and_count())
def test_cvat_loses_nothing(tmp_path_factory, given_keyframes):
    keyframes, count = given_keyframes
    if not keyframes.recordings["run"]:
        return
    path = tmp_path_factory.mktemp("cvat") / "out.xml"
    write_cvat(path, keyframes, "run", count)
    back, frames = read_cvat(path)
    assert back == keyframes
    assert frames == {"run": range(count)}
