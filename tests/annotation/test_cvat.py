"""CVAT exports: tasks, projects and jobs, tracks with stages, and what is refused.

Also tests fmfbench.annotation: cvat_events, cvat_xml.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from fmfbench.annotation.cvat import read_cvat
from fmfbench.annotation.cvat_export import write_cvat
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track, check_against, parse_keyframes
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


def task_xml(number, name, size, start=0, step=1, subset="default", image=(32, 24)):
    stop = start + (size - 1) * step
    shown = (
        ""
        if image is None
        else (f"<original_size><width>{image[0]}</width><height>{image[1]}</height></original_size>")
    )
    return (
        f"<task><id>{number}</id><name>{name}</name><size>{size}</size><mode>interpolation</mode><subset>{subset}</subset>"
        f"<start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{f'step={step}' if step > 1 else ''}</frame_filter>{shown}</task>"
    )


def project_xml(tasks, *tracks):
    """tracks: (task id, boxes)."""
    body = "".join(
        f'<track id="{i}" label="abnormal" task_id="{task}" subset="s">{boxes}</track>'
        for i, (task, boxes) in enumerate(tracks)
    )
    return (
        "<annotations><version>1.1</version><meta><project><id>1</id><name>p</name>"
        f"<tasks>{''.join(tasks)}</tasks></project></meta>{body}</annotations>"
    )


def test_project_exports_name_their_tasks(tmp_path):
    tasks = [task_xml(3, "a.mp4", 20), task_xml(4, "b", 30)]
    text = project_xml(tasks, (4, box(22, 1, 1, 5, 5)), (3, box(5, 1, 1, 5, 5)))
    keyframes, frames = read(tmp_path, text)
    assert frames == {"a": range(20), "b": range(30)}
    assert [t.onset for t in keyframes.recordings["a"]] == [5]
    assert [(t.onset, t.offset) for t in keyframes.recordings["b"]] == [(2, 29)]
    with pytest.raises(AnnotationError, match="one of the file's 2 tasks"):
        read(tmp_path, text.replace('task_id="4"', 'task_id="5"'))
    with pytest.raises(
        AnnotationError, match="one task for recording 'a', got 2 tasks .*choose one with --task"
    ):
        read(tmp_path, text, recording="a")
    with pytest.raises(
        AnnotationError, match=r"task 'b' \(20 to 49, step 1, numbered on from 20 in this project\), got 2"
    ):
        read(tmp_path, text.replace('frame="22"', 'frame="2"'))


@pytest.mark.parametrize("seed", range(20))
def test_project_frames_are_numbered_on_within_each_subset(tmp_path, seed):
    """CVAT: in order of subset and id, a frame's number is rel * step + start + the sizes of the tasks before."""
    rng = np.random.default_rng(seed)
    described = sorted(
        (str(rng.choice(["default", "train", ""])), k + 1) for k in range(int(rng.integers(1, 6)))
    )
    tasks, tracks, expected, before = [], [], {}, {}
    for subset, number in described:
        size, start, step = int(rng.integers(2, 40)), int(rng.choice([0, 0, 7])), int(rng.choice([1, 1, 3]))
        offset = before.get(subset, 0)
        before[subset] = offset + size
        tasks.append(task_xml(number, f"run{number}.mp4", size, start, step, subset))
        first = int(rng.integers(0, size))
        frame = first * step + start
        tracks.append((number, box(frame + offset, 1, 1, 5, 5)))
        expected[f"run{number}"] = (frame, (size - 1) * step + start)
    keyframes, frames = read(tmp_path, project_xml(tasks, *tracks))
    found = {name: (events[0].onset, events[0].offset) for name, events in keyframes.recordings.items()}
    assert found == expected
    assert all(frames[name][-1] == last for name, (_, last) in expected.items())


def test_one_task_of_a_project(tmp_path):
    tasks = [task_xml(3, "a.mp4", 20), task_xml(4, "b", 30, image=(64, 48))]
    text = project_xml(tasks, (4, box(22, 1, 1, 5, 5)), (3, box(5, 1, 1, 5, 5)))
    with pytest.raises(
        AnnotationError, match="one frame size, got several; take them one by one with --task"
    ):
        read(tmp_path, text)
    for name in ("b", "4"):
        keyframes, frames = read(tmp_path, text, task=name)
        assert (frames, keyframes.size) == ({"b": range(30)}, (64, 48))
        assert [t.onset for t in keyframes.recordings["b"]] == [2]
    assert list(read(tmp_path, text, task="a.mp4", recording="other")[0].recordings) == ["other"]
    with pytest.raises(AnnotationError, match=r"no such task; the file has 'a.mp4' \(id 3\), 'b' \(id 4\)"):
        read(tmp_path, text, task="c")
    twice = project_xml([task_xml(3, "4", 20), task_xml(4, "b", 30)], (4, box(22, 1, 1, 5, 5)))
    with pytest.raises(AnnotationError, match="got 2 of them"):
        read(tmp_path, twice, task="4")


def test_a_task_that_nobody_has_drawn_on(tmp_path):
    text = project_xml([task_xml(3, "a", 20), task_xml(4, "b", 30)], (4, box(22, 1, 1, 5, 5)))
    keyframes, frames = read(tmp_path, text)
    assert list(keyframes.recordings) == ["b"]
    assert set(frames) == {"a", "b"}
    assert read(tmp_path, text, untouched="normal")[0].recordings["a"] == ()
    assert list(read(tmp_path, text, label="abnormal")[0].recordings) == ["b"]
    alone = xml()
    with pytest.raises(AnnotationError, match="expected tracks with boxes"):
        read(tmp_path, alone)
    assert read(tmp_path, alone, untouched="normal")[0].recordings == {"run1": ()}


def test_tasks_that_name_no_recording_are_listed(tmp_path):
    text = project_xml(
        [task_xml(3, "a", 20), task_xml(4, "b", 30), task_xml(5, "c", 30)], (4, box(22, 1, 1, 5, 5))
    )
    keyframes, frames = read(tmp_path, text)
    with pytest.raises(
        AnnotationError, match=r"recordings of the store \(b\), got 'a', 'c'; take one task with --task"
    ):
        check_against(keyframes, {"b": 30}, frames)
    keyframes, frames = read(tmp_path, text, task="b")
    check_against(keyframes, {"b": 30}, frames)


def job_xml(*boxes, start=0, size=20, beside=True, image=(32, 24)):
    shown = f"<original_size><width>{image[0]}</width><height>{image[1]}</height></original_size>"
    return (
        f"<annotations><version>1.1</version><meta><job><id>7</id><size>{size}</size><subset>default</subset>"
        f"<start_frame>{start}</start_frame><stop_frame>{start + size - 1}</stop_frame><frame_filter></frame_filter>"
        f"{'' if beside else shown}</job>{shown if beside else ''}</meta>"
        f'<track id="0" label="abnormal">{"".join(boxes)}</track></annotations>'
    )


def test_job_exports(tmp_path):
    for beside in (True, False):
        text = job_xml(box(5, 1, 1, 5, 5), box(9, 1, 1, 5, 5, 1), beside=beside)
        keyframes, frames = read(tmp_path, text, recording="run1")
        assert keyframes.size == (32, 24)
        assert [(t.onset, t.offset) for t in keyframes.recordings["run1"]] == [(5, 8)]
        check_against(keyframes, {"run1": 20}, frames)
        assert frames.uncovered({"run1": 20}) == []
    with pytest.raises(AnnotationError, match="a job's export, which has none; give it with --recording"):
        read(tmp_path, text)
    part = job_xml(box(105, 1, 1, 5, 5), start=100, size=20)
    keyframes, frames = read(tmp_path, part, recording="run1")
    assert [(t.onset, t.offset) for t in keyframes.recordings["run1"]] == [(105, 119)]
    check_against(keyframes, {"run1": 500}, frames)
    assert frames.uncovered({"run1": 500}) == [
        "run1: drawn on frames 100 to 119 of 500 only; the others are labelled normal"
    ]
    first = read(tmp_path, job_xml(box(5, 1, 1, 5, 5)), recording="run1")
    check_against(first[0], {"run1": 500}, first[1])
    with pytest.raises(AnnotationError, match="the job"):
        read(tmp_path, job_xml(box(25, 1, 1, 5, 5)), recording="run1")
    with pytest.raises(AnnotationError, match="draw on the video that was converted"):
        check_against(first[0], {"run1": 10}, first[1])


def test_extracted_frames_need_their_size_said(tmp_path):
    text = xml(box(1, 1, 1, 5, 5))
    bare = text[: text.index("<original_size>")] + text[text.index("</original_size>") + 16 :]
    with pytest.raises(AnnotationError, match="give the size that was drawn on with --size"):
        read(tmp_path, bare)
    assert read(tmp_path, bare, size=(64, 48))[0].size == (64, 48)
    assert read(tmp_path, text, size=(32, 24))[0].size == (32, 24)
    with pytest.raises(AnnotationError, match="names, 32x24, got --size 64x48"):
        read(tmp_path, text, size=(64, 48))


@pytest.mark.parametrize(("start", "step", "size"), [(0, 1, 20), (100, 5, 10), (3, 2, 7)])
def test_a_track_closed_past_the_end_lasts_to_the_end(tmp_path, start, step, size):
    last = start + (size - 1) * step
    closed = box(last - step, 1, 1, 5, 5) + box(last + step, 1, 1, 5, 5, 1)
    (track,) = tracks(tmp_path, xml(closed, start=start, step=step, size=size))
    assert (track.onset, track.offset) == (last - step, last)
    assert [k.frame for k in track.keyframes] == [last - step]
    gliding = box(last - step, 1, 1, 5, 5) + box(last + step, 3, 3, 9, 9, 1)
    (track,) = tracks(tmp_path, xml(gliding, start=start, step=step, size=size))
    assert boxes_at(track, np.array([last])).tolist() == [[2, 2, 7, 7]]
    check_against(Keyframes(size=(32, 24), recordings={"r": (track,)}), {"r": last + 1})
    for beyond in (box(last + step, 1, 1, 5, 5), box(last + 2 * step, 1, 1, 5, 5, 1)):
        with pytest.raises(AnnotationError, match=f"got {last + step}|got {last + 2 * step}"):
            tracks(tmp_path, xml(beyond, start=start, step=step, size=size))


def test_other_labels_may_have_other_shapes(tmp_path):
    shapes = (
        '<polygon frame="0" keyframe="1" outside="0" points="1,1;2,2;3,1"/>'
        '<mask frame="1" keyframe="1" outside="0" rle="1" left="0" top="0" width="1" height="1"/>'
        '<skeleton frame="1" keyframe="1"><points label="p" points="1,1"/></skeleton>'
    )
    text = xml(box(4, 1, 1, 5, 5)).replace(
        "</annotations>", f'<track id="9" label="shell">{shapes}</track></annotations>'
    )
    (track,) = tracks(tmp_path, text, label="abnormal")
    assert track.onset == 4
    with pytest.raises(AnnotationError, match="got a polygon of label 'shell'.*another label with --label"):
        read(tmp_path, text)
    with pytest.raises(AnnotationError, match="polygon"):
        read(tmp_path, text, label="shell")


@pytest.mark.parametrize(
    ("corners", "clipped"),
    [
        ((24, 16, 32.01, 24), (24, 16, 32, 24)),
        ((-1, -0.5, 4, 25), (0, 0, 4, 24)),
        ((-1, -1, 33, 25), (0, 0, 32, 24)),
        ((24, 16, 33.01, 24), None),
        ((-1.01, 0, 4, 4), None),
        ((4, 4, 8, 25.5), None),
        ((32, 4, 33, 8), None),
    ],
)
def test_up_to_a_pixel_outside_is_clipped(tmp_path, corners, clipped):
    text = xml(box(4, *corners))
    data = {"schema": 1, "size": [32, 24], "recordings": {"r": {"tracks": [
        {"id": 0, "onset": 1, "offset": 5, "keyframes": [{"frame": 4, "box": list(corners)}]}]}}}  # fmt: skip
    if clipped is None:
        for refused in (lambda: tracks(tmp_path, text), lambda: parse_keyframes(data)):
            with pytest.raises(AnnotationError, match="within the frame|x0 < x1"):
                refused()
    else:
        (track,) = tracks(tmp_path, text)
        assert track.keyframes[0].box == clipped
        assert parse_keyframes(data).recordings["r"][0].keyframes[0].box == clipped


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
        (xml(box(1, 1, 1, 33.01, 5)), "within the frame"),
        (xml(box(1, 32, 1, 33, 5)), "x0 < x1"),
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
