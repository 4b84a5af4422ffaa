"""Keyframes as JSON: what is read, written, and refused.

Also tests fmfbench.annotation: json_values.
"""

import copy
import json

import pytest

from fmfbench.annotation.keyframes import (
    Keyframe,
    Keyframes,
    check_against,
    parse_keyframes,
    read_keyframes,
    write_keyframes,
)
from fmfbench.errors import AnnotationError

GOOD = {
    "schema": 1,
    "size": [32, 24],
    "recordings": {
        "run1": {
            "tracks": [
                {
                    "id": 0,
                    "onset": 2,
                    "apex": 6,
                    "offset": 7,
                    "keyframes": [{"frame": 2, "box": [8, 5, 20, 12]}, {"frame": 6, "box": [6, 3.5, 24, 14]}],
                },
                {"id": "left", "onset": 4, "offset": 9, "keyframes": [{"frame": 4, "box": [0, 0, 32, 24]}]},
            ]
        },
        "run2": {"tracks": []},
    },
}


def edited(path, value):
    data = copy.deepcopy(GOOD)
    target = data
    for key in path[:-1]:
        target = target[key]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return data


TRACK = ("recordings", "run1", "tracks", 0)
KEYFRAME = (*TRACK, "keyframes", 0)


def test_reads_what_the_contract_says(tmp_path):
    path = tmp_path / "keyframes.json"
    path.write_text(json.dumps(GOOD))
    keyframes = read_keyframes(path)
    assert keyframes.size == (32, 24)
    first, second = keyframes.recordings["run1"]
    assert (first.id, first.onset, first.apex, first.offset) == (0, 2, 6, 7)
    assert first.keyframes[1] == Keyframe(frame=6, box=(6.0, 3.5, 24.0, 14.0))
    assert (second.id, second.apex) == ("left", None)
    assert parse_keyframes(edited((*TRACK, "apex"), None)).recordings["run1"][0].apex is None


def test_a_byte_order_mark_is_good(tmp_path):
    path = tmp_path / "keyframes.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert read_keyframes(path) == parse_keyframes(GOOD)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), 2, "schema 1"),
        (("schema",), KeyError, "schema"),
        (("size",), [32], "list of 2"),
        (("size",), [32, 0], "from 1 up"),
        (("size",), [32, 24.0], "whole number"),
        (("recordings",), [], "an object"),
        (("extra",), 1, "'extra'"),
        ((*TRACK, "onset"), 7.5, "whole number"),
        ((*TRACK, "onset"), -1, "whole number"),
        ((*TRACK, "onset"), True, "whole number"),
        ((*TRACK, "onset"), 8, "onset <= offset"),
        ((*TRACK, "onset"), KeyError, "no onset"),
        ((*TRACK, "apex"), 1, "apex"),
        ((*TRACK, "apex"), 8, "apex"),
        ((*TRACK, "ofset"), 8, "'ofset'"),
        ((*TRACK, "id"), 1.5, "an id"),
        ((*TRACK, "id"), " ", "an id"),
        (
            (*TRACK, "keyframes"),
            [],
            "or that all have none, got boxes for track left and none for track 0",
        ),
        ((*TRACK, "keyframes"), [{"frame": 9, "box": [0, 0, 1, 1]}], "within the event"),
        ((*KEYFRAME, "frame"), 6, "in order"),
        ((*KEYFRAME, "frame"), 7, "in order"),
        ((*KEYFRAME, "box"), [8, 5, 20], "list of 4"),
        ((*KEYFRAME, "box"), [8, 5, 20, "12"], "a number"),
        ((*KEYFRAME, "box"), [8, 5, 20, None], "null"),
        ((*KEYFRAME, "box"), [8, 5, 20, float("nan")], "finite"),
        ((*KEYFRAME, "box"), [8, 5, float("inf"), 12], "finite"),
        ((*KEYFRAME, "box"), [8, 5, 10**400, 12], "finite"),
        ((*KEYFRAME, "box"), [8, 5, 8, 12], "x0 < x1"),
        ((*KEYFRAME, "box"), [8, 12, 20, 5], "y0 < y1"),
        ((*KEYFRAME, "box"), [8, 5, 33.01, 12], "within the frame of 32x24"),
        ((*KEYFRAME, "box"), [8, -1.01, 20, 12], "within the frame"),
        ((*KEYFRAME, "box"), [32, 5, 33, 12], "x0 < x1"),
        ((*KEYFRAME, "box"), [8, 5, 20, 25.5], "within the frame"),
        (("recordings", "run1", "tracks", 1, "id"), 0, "overlap"),
        (("recordings", "run1", "tracks", 1, "id"), "0", "overlap"),
    ],
)
def test_refuses_in_one_line(tmp_path, path, value, words):
    file = tmp_path / "keyframes.json"
    file.write_text(json.dumps(edited(path, value)))
    with pytest.raises(AnnotationError, match=words) as caught:
        read_keyframes(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message


def test_the_other_side_of_each_guard():
    for path, value in [
        ((*TRACK, "apex"), 2),
        ((*TRACK, "apex"), 7),
        ((*TRACK, "onset"), 6),
        ((*KEYFRAME, "frame"), 5),
        ((*KEYFRAME, "box"), [0, 0, 32, 24]),
        (("recordings", "run1", "tracks", 1), {**GOOD["recordings"]["run1"]["tracks"][1], "id": 0, "onset": 8,
                                               "keyframes": [{"frame": 9, "box": [1, 1, 2, 2]}]}),
    ]:  # fmt: skip
        parse_keyframes(edited(path, value))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b" \n", "empty file"),
        (b"{", "line 1"),
        (b"[]", "an object"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 100_000, "nested too deeply|JSON"),
        (b'{"schema": 1, "schema": 1, "size": [1, 1], "recordings": {}}', "twice"),
    ],
)
def test_refuses_files_that_are_no_keyframes(tmp_path, content, words):
    path = tmp_path / "keyframes.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=words):
        read_keyframes(path)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_keyframes(tmp_path / "missing.json")


def test_checks_against_the_recordings():
    keyframes = parse_keyframes(GOOD)
    check_against(keyframes, {"run1": 10, "run2": 3})
    with pytest.raises(AnnotationError, match="count of 9, got 9"):
        check_against(keyframes, {"run1": 9, "run2": 3})
    with pytest.raises(AnnotationError, match=r"expected one of the store's recordings run2, got 'run1'"):
        check_against(keyframes, {"run2": 3})
    with pytest.raises(AnnotationError, match="at least one recording"):
        check_against(Keyframes(size=(1, 1)), {"run2": 3})
    check_against(Keyframes(size=(1, 1), recordings={"run2": ()}), {"run2": 3})


@pytest.mark.parametrize(
    ("frames", "good"),
    [
        (range(10), True),
        (range(9), False),
        (range(11), False),
        (range(2, 10), True),
        (range(2, 11), False),
        (range(0, 10, 3), True),
        (range(1, 11, 3), False),
    ],
)
def test_checks_the_length_of_the_video_drawn_on(frames, good):
    counts, drawn = {"run1": 10, "run2": 3}, {"run1": frames}
    if good:
        check_against(parse_keyframes(GOOD), counts, drawn)
    else:
        with pytest.raises(AnnotationError, match=f"10 frames, got a video of {frames[-1] + 1}"):
            check_against(parse_keyframes(GOOD), counts, drawn)


def test_writes_what_it_reads(tmp_path):
    keyframes = parse_keyframes(GOOD)
    write_keyframes(tmp_path / "k.json", keyframes)
    assert read_keyframes(tmp_path / "k.json") == keyframes
    assert json.loads((tmp_path / "k.json").read_text())["recordings"]["run1"]["tracks"][0]["apex"] == 6
    assert "apex" not in json.loads((tmp_path / "k.json").read_text())["recordings"]["run1"]["tracks"][1]
