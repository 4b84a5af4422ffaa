import zipfile
from pathlib import Path

import numpy as np
import pytest

from fmfbench.annotation.cvat import read_cvat
from fmfbench.annotation.cvat_export import write_cvat
from fmfbench.annotation.keyframes import Keyframe, Track
from fmfbench.annotation.propagate import boxes_at
from fmfbench.errors import AnnotationError

SAMPLE = Path(__file__).parents[1] / "data" / "cvat" / "annotations.xml"


def xml(*tracks, size=20, start=0, stop=None, step=None, name="run1.avi", extra="", image=(32, 24)):
    stop = start + (size - 1) * (step or 1) if stop is None else stop
    body = "".join(
        f'<track id="{i}" label="abnormal" source="manual">{track}</track>' for i, track in enumerate(tracks)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>{extra}<annotations><version>1.1</version><meta><task><id>3</id>'
        f"<name>{name}</name><size>{size}</size><start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{f'step={step}' if step else ''}</frame_filter><labels><label><name>abnormal</name></label>"
        f"</labels><original_size><width>{image[0]}</width><height>{image[1]}</height></original_size></task></meta>"
        f"{body}</annotations>"
    )


def box(frame, x0, y0, x1, y1, outside=0, keyframe=1, stage=None, more=""):
    inside = "" if stage is None else f'<attribute name="stage">{stage}</attribute>'
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" xtl="{x0}" ytl="{y0}" xbr="{x1}" '
        f'ybr="{y1}" z_order="0" {more}>{inside}</box>'
    )


def read(tmp_path, text, **options):
    path = tmp_path / "annotations.xml"
    path.write_text(text, encoding="utf-8")
    keyframes, frames = read_cvat(path, **options)
    return keyframes, frames


def tracks(tmp_path, text, **options):
    keyframes, _ = read(tmp_path, text, **options)
    (found,) = keyframes.recordings.values()
    return found


def cvat_rule(boxes, size):
    """What CVAT shows on each frame: TrackManager.get_interpolated_shapes, from its published rule."""
    shown = {}
    boxes = sorted((b for b in boxes if b["keyframe"]), key=lambda b: b["frame"])
    for a, b in zip(boxes, [*boxes[1:], None], strict=True):
        if a["outside"]:
            continue
        shown[a["frame"]] = a["points"]
        for frame in range(a["frame"] + 1, b["frame"] if b else size):
            t = (frame - a["frame"]) / (b["frame"] - a["frame"]) if b else 0
            end = b["points"] if b else a["points"]
            shown[frame] = [p + (q - p) * t for p, q in zip(a["points"], end, strict=True)]
    return shown


def test_the_sample_imports_as_it_should():
    keyframes, frames = read_cvat(SAMPLE)
    assert frames == {"SaveToAvi-demo": range(10)}
    assert keyframes.size == (32, 24)
    (track,) = keyframes.recordings["SaveToAvi-demo"]
    assert track == Track(
        id=0,
        onset=2,
        apex=6,
        offset=7,
        keyframes=(Keyframe(frame=2, box=(8, 5, 20, 12)), Keyframe(frame=6, box=(6, 3, 24, 14))),
    )
    boxes = boxes_at(track, np.arange(10))
    assert np.isnan(boxes[[0, 1, 8, 9]]).all()
    for frame in range(2, 7):
        t = (frame - 2) / 4
        assert boxes[frame].tolist() == [8 - 2 * t, 5 - 2 * t, 20 + 4 * t, 12 + 2 * t]
    assert boxes[7].tolist() == boxes[6].tolist()


def test_any_track_without_stages_shows_what_cvat_shows(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = int(rng.integers(5, 25))
        frames = sorted(rng.choice(size, int(rng.integers(1, 5)), replace=False).tolist())
        entries = [
            {
                "frame": frame,
                "outside": bool(rng.random() < 0.4),
                "keyframe": bool(rng.random() < 0.9),
                "points": [*rng.integers(0, 10, 2).tolist(), *rng.integers(11, 24, 2).tolist()],
            }
            for frame in frames
        ]
        expected = cvat_rule(entries, size)
        text = xml(
            "".join(box(e["frame"], *e["points"], int(e["outside"]), int(e["keyframe"])) for e in entries),
            size=size,
        )
        if not expected:
            with pytest.raises(AnnotationError, match="expected tracks"):
                tracks(tmp_path, text)
            continue
        shown = {}
        for event in tracks(tmp_path, text):
            assert event.apex is None
            for frame, points in zip(range(size), boxes_at(event, np.arange(size)), strict=True):
                if not np.isnan(points[0]):
                    shown[frame] = points.tolist()
        assert shown.keys() == expected.keys()
        for frame, points in shown.items():
            assert points == pytest.approx(expected[frame], abs=1e-9)


@pytest.mark.parametrize(
    ("boxes", "onset", "apex", "offset"),
    [
        (box(2, 1, 1, 5, 5) + box(9, 1, 1, 5, 5, outside=1), 2, None, 8),
        (box(2, 1, 1, 5, 5), 2, None, 19),
        (box(2, 1, 1, 5, 5, stage="none") + box(4, 1, 1, 5, 5, stage="onset"), 4, None, 19),
        (box(2, 1, 1, 5, 5, stage="onset") + box(9, 1, 1, 5, 5, stage="offset"), 2, None, 9),
        (box(2, 1, 1, 5, 5, stage="onset") + box(9, 1, 1, 5, 5, 1, stage="offset"), 2, None, 8),
        (box(2, 1, 1, 5, 5) + box(6, 1, 1, 5, 5, stage="apex") + box(9, 1, 1, 5, 5, 1), 2, 6, 8),
        # a later keyframe inherits the stage of the one before: it says nothing new
        (
            box(2, 1, 1, 5, 5, stage="onset") + box(4, 1, 1, 5, 5, stage="onset") + box(9, 1, 1, 5, 5, 1),
            2,
            None,
            8,
        ),
        (box(2, 1, 1, 5, 5, stage="onset") + box(6, 1, 1, 5, 5, stage="apex") + box(7, 1, 1, 5, 5), 2, 6, 19),
        (
            box(2, 1, 1, 5, 5) + box(5, 1, 1, 5, 5, stage="offset") + box(9, 1, 1, 5, 5, 1, stage="offset"),
            2,
            None,
            5,
        ),
    ],
)
def test_stages(tmp_path, boxes, onset, apex, offset):
    (track,) = tracks(tmp_path, xml(boxes))
    assert (track.onset, track.apex, track.offset) == (onset, apex, offset)


def test_a_track_that_comes_back_is_two_events(tmp_path):
    text = xml(box(1, 1, 1, 5, 5) + box(4, 1, 1, 5, 5, 1) + box(8, 2, 2, 6, 6) + box(10, 2, 2, 6, 6, 1))
    first, second = tracks(tmp_path, text)
    assert (first.id, first.onset, first.offset) == (0, 1, 3)
    assert (second.id, second.onset, second.offset) == (0, 8, 9)
    text = xml(
        box(1, 1, 1, 5, 5, stage="onset")
        + box(4, 1, 1, 5, 5, stage="offset")
        + box(8, 2, 2, 6, 6, stage="onset")
        + box(10, 2, 2, 6, 6, stage="offset")
    )
    assert [(t.onset, t.offset) for t in tracks(tmp_path, text)] == [(1, 4), (8, 10)]


def test_start_frame_and_step_are_in_the_frame_numbers(tmp_path):
    text = xml(box(105, 1, 1, 5, 5) + box(120, 1, 1, 5, 5, 1), start=100, step=5, size=10)
    keyframes, frames = read(tmp_path, text)
    assert frames == {"run1": range(100, 150, 5)}
    assert [(t.onset, t.offset) for t in keyframes.recordings["run1"]] == [(105, 119)]
    (held,) = tracks(tmp_path, xml(box(105, 1, 1, 5, 5), start=100, step=5, size=10))
    assert held.offset == 145
    with pytest.raises(AnnotationError, match=r"100 to 145, step 5.*106"):
        tracks(tmp_path, xml(box(106, 1, 1, 5, 5), start=100, step=5, size=10))


def test_project_exports_name_their_tasks(tmp_path):
    one = xml(box(1, 1, 1, 5, 5), name="a.mp4")
    task = one[one.index("<task>") : one.index("</task>") + 7]
    other = task.replace("<id>3</id>", "<id>4</id>").replace("a.mp4", "b").replace("<size>20<", "<size>30<")
    other = other.replace("<stop_frame>19<", "<stop_frame>29<")
    text = (
        f"<annotations><version>1.1</version><meta><project><id>1</id><name>p</name><tasks>{task}{other}</tasks>"
        f'</project></meta><track id="0" label="abnormal" task_id="4" subset="x">{box(2, 1, 1, 5, 5)}</track>'
        f'<track id="1" label="other" task_id="3">{box(5, 1, 1, 5, 5)}</track></annotations>'
    )
    keyframes, frames = read(tmp_path, text)
    assert frames == {"a": range(20), "b": range(30)}
    assert [t.onset for t in keyframes.recordings["a"]] == [5]
    assert [t.offset for t in keyframes.recordings["b"]] == [29]
    assert read(tmp_path, text, label="abnormal")[0].recordings["a"] == ()
    with pytest.raises(AnnotationError, match="one of the file's 2 tasks"):
        read(tmp_path, text.replace('task_id="4"', 'task_id="5"'))
    with pytest.raises(AnnotationError, match="one task"):
        read(tmp_path, text, recording="a")


def test_the_recording_can_be_named(tmp_path):
    assert list(read(tmp_path, xml(box(1, 1, 1, 5, 5)), recording="other")[0].recordings) == ["other"]
    with pytest.raises(AnnotationError, match="none of label 'x' among abnormal"):
        read(tmp_path, xml(box(1, 1, 1, 5, 5)), label="x")


def test_a_zip_is_read_without_extracting(tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", SAMPLE.read_text())
        archive.writestr("images/frame_000000.PNG", b"x")
        archive.writestr("../../evil", b"x")
    assert read_cvat(path) == read_cvat(SAMPLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.zip"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty file"),
        ("<annotations>", "no element|unclosed"),
        ("no xml", "syntax"),
        ("<other/>", "<annotations>"),
        ("<annotations/>", "no task"),
        (xml(), "expected tracks"),
        (xml(box(1, 1, 1, 5, 5, keyframe=0)), "expected tracks"),
        (xml(box(1, 1, 1, 5, 5).replace('keyframe="1"', "")), "line 1: expected a box with keyframe"),
        (xml(box(1, 1, 1, 5, 5).replace('xtl="1"', "")), "xtl"),
        (xml(box(1, 1, 1, 5, 5, keyframe=2)), "keyframe: expected 0 or 1"),
        (xml(box(1, "nan", 1, 5, 5)), "finite"),
        (xml(box(1, 1, 1, "1e999", 5)), "finite"),
        (xml(box(1, 1, 1, "", 5)), "finite"),
        (xml(box(-1, 1, 1, 5, 5)), "whole number"),
        (xml(box(1.5, 1, 1, 5, 5)), "whole number"),
        (xml(box(20, 1, 1, 5, 5)), "0 to 19"),
        (xml(box(1, 5, 1, 1, 5)), "x0 < x1"),
        (xml(box(1, 1, 1, 33, 5)), "within the frame"),
        (xml(box(1, 1, 1, 5, 5) + box(1, 2, 2, 5, 5)), "got two"),
        (xml(box(1, 1, 1, 5, 5, more='rotation="10"')), "upright"),
        (xml('<polygon frame="1" keyframe="1" outside="0" points="1,1;2,2;3,1"/>'), "boxes, got a polygon"),
        (xml('<mask frame="1" keyframe="1" outside="0" rle="1" left="0" top="0" width="1" height="1"/>'), "mask"),
        (xml(box(1, 1, 1, 5, 5, stage="begin")), "'begin'"),
        (xml(box(1, 1, 1, 5, 5, stage="apex") + box(2, 1, 1, 5, 5) + box(3, 1, 1, 5, 5, stage="none")
             + box(4, 1, 1, 5, 5, stage="apex")), "one apex"),
        (xml(box(1, 1, 1, 5, 5, stage="onset") + box(2, 1, 1, 5, 5, stage="none") + box(3, 1, 1, 5, 5, stage="onset")),
         "one onset"),
        (xml(box(1, 1, 1, 5, 5), size=20, stop=30), "agree on the frame count"),
        (xml(box(1, 1, 1, 5, 5), size=20, stop=18), "agree on the frame count"),
        (xml(box(1, 1, 1, 5, 5)).replace("<frame_filter>", "<frame_filter>odd"), "step=N"),
        (xml(box(1, 1, 1, 5, 5)).replace("<width>32</width>", ""), "original_size"),
        (xml(box(1, 1, 1, 5, 5)).replace("<size>20</size>", ""), "size"),
        (xml('<image id="0"/>').replace("<track", "<image/><track"), "CVAT for images"),
    ],
)  # fmt: skip
def test_refuses_in_one_line(tmp_path, text, words):
    with pytest.raises(AnnotationError, match=words) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


BILLION = "<!DOCTYPE a [" + '<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "extra",
    [
        BILLION,
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://localhost:9/a.dtd">',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd">%p;]>',
        "<!DOCTYPE annotations>",
    ],
)
def test_a_document_type_is_refused(tmp_path, extra):
    for name in ("run1", "&i;", "&x;"):
        with pytest.raises(AnnotationError, match="document type"):
            read(tmp_path, xml(box(1, 1, 1, 5, 5), extra=extra, name=name))


def test_entities_without_a_document_type_are_refused(tmp_path):
    with pytest.raises(AnnotationError, match="undefined entity"):
        read(tmp_path, xml(box(1, 1, 1, 5, 5), name="&x;"))
    assert list(read(tmp_path, xml(box(1, 1, 1, 5, 5), name="a&amp;b"))[0].recordings) == ["a&b"]


def test_other_hostile_files(tmp_path, monkeypatch):
    with pytest.raises(AnnotationError, match="nested too deeply"):
        read(tmp_path, "<annotations>" + "<a>" * 100_000)
    monkeypatch.setattr("fmfbench.annotation.cvat._LARGEST_XML", 100_000)
    with pytest.raises(AnnotationError, match="at most 100000 bytes"):
        read(tmp_path, "<annotations>" + " " * 200_000)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", "<annotations>" + " " * 5_000_000)
    assert bomb.stat().st_size < 50_000
    with pytest.raises(AnnotationError, match="at most 100000 bytes"):
        read_cvat(bomb)


def test_bad_zips(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sub/annotations.xml", SAMPLE.read_text())
    with pytest.raises(AnnotationError, match=r"one annotations.xml at its top, got 0"):
        read_cvat(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", SAMPLE.read_text())
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(AnnotationError, match="plain zip"):
        read_cvat(path)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 255, whole[101] ^ 255]) + whole[102:])
    with pytest.raises(AnnotationError, match=r"damaged|expected CVAT"):
        read_cvat(path)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_cvat(tmp_path / "missing.xml")


def test_the_sample_goes_out_and_comes_back(tmp_path):
    keyframes, frames = read_cvat(SAMPLE)
    write_cvat(tmp_path / "out.xml", keyframes, "SaveToAvi-demo", 10)
    assert read_cvat(tmp_path / "out.xml") == (keyframes, frames)


def test_only_keyframes_are_written_and_a_derived_box_that_was_moved_becomes_one(tmp_path):
    track = Track(id=1, onset=2, apex=5, offset=9, keyframes=(
        Keyframe(frame=3, box=(0, 0, 8, 8)), Keyframe(frame=7, box=(4, 0, 12, 8))))  # fmt: skip
    keyframes = read_cvat(SAMPLE)[0]
    keyframes = type(keyframes)(size=(32, 24), recordings={"run": (track,)})
    path = tmp_path / "out.xml"
    write_cvat(path, keyframes, "run", 20)
    text = path.read_text()
    assert text.count("<box ") == 5  # onset and apex (derived), two drawn, and the outside box
    assert text.count('keyframe="1"') == 5
    assert read_cvat(path)[0] == keyframes
    at_apex = text[text.index('frame="5"') :]
    path.write_text(text.replace(at_apex, at_apex.replace('xtl="2.00"', 'xtl="2.01"', 1)))
    assert read_cvat(path)[0] == keyframes  # CVAT rounds to two decimals
    path.write_text(text.replace(at_apex, at_apex.replace('xtl="2.00"', 'xtl="1.50"', 1)))
    moved = read_cvat(path)[0].recordings["run"][0]
    assert [k.frame for k in moved.keyframes] == [3, 5, 7]
    assert moved.keyframes[1].box == (1.5, 0, 10, 8)
