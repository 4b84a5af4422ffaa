"""A video decoded in stretches is the video of one pass, or is left to one pass."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from conftest_video import pictures, truncated, write

from fmfbench.errors import SourceError
from fmfbench.sources.video import stretches
from fmfbench.sources.video.reader import RawVideo, open_video_file
from fmfbench.sources.video.stretches import decode_stretch, join_stretches, plan_stretches


def joined_blocks(video: RawVideo, folder: Path, seconds: float, size: int = 7):
    """(number of stretches, blocks or None), decoded last stretch first."""
    folder.mkdir(parents=True)
    plan = plan_stretches(video, seconds)
    for number, stretch in reversed(list(enumerate(plan))):
        decode_stretch(video, stretch, folder, number)
    joined = join_stretches(video, plan, folder)
    return len(plan), None if joined is None else list(joined.timed_blocks(size, []))


def same(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for (a, note_a), (b, note_b) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
        assert json.loads(note_a) == json.loads(note_b)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {}),
        ("v.mkv", "libx264", {}),
        ("v.ts", "libx264", {}),
        ("v.mov", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("v.mkv", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("v.mp4", "libx265", {"x265-params": "log-level=none:open-gop=1"}),
        ("v.mkv", "ffv1", {}),
        ("v.mkv", "mjpeg", {}),
    ],
)
def test_stretches_are_one_pass(
    tmp_path: Path, seed: int, name: str, codec: str, options: dict[str, str]
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / name
    count = int(rng.integers(70, 110))
    ticks = None if seed == 0 else np.cumsum(rng.integers(1, 4, count)).tolist()
    pixel = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write(path, codec, gop=9, pixel=pixel, images=pictures(count, seed=seed), ticks=ticks, options=options)
    video = open_video_file(path, crop=(3, 5, 40, 30), size=(16, 12))
    one = list(video.timed_blocks(7, []))
    count, ours = joined_blocks(video, tmp_path / "s", 0.5 * (seed + 1))
    if ours is None:  # open groups whose first pictures the decoder will not give alone
        assert options
        return
    assert count > 1
    same(ours, one)
    notes = [note for _, note in one]
    joined = join_stretches(video, plan_stretches(video, 0.5 * (seed + 1)), tmp_path / "s")
    assert joined is not None
    for done in range(len(notes)):
        same(list(joined.timed_blocks(7, notes[:done])), one[done:])


def test_most_kinds_are_joined_and_not_left_to_one_pass(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.mkv", "ffv1"), ("a.mp4", "libx265")):
        path = tmp_path / codec / name
        path.parent.mkdir(exist_ok=True)
        write(
            path,
            codec,
            gop=9,
            images=pictures(60),
            options={"x265-params": "log-level=none:open-gop=0"} if codec == "libx265" else None,
        )
        count, blocks = joined_blocks(open_video_file(path), tmp_path / codec / f"s{path.suffix}", 0.4)
        assert (count > 2, blocks is not None) == (True, True), (name, codec)


@pytest.mark.parametrize(
    ("name", "codec"), [("v.avi", "libx264"), ("v.webm", "libvpx-vp9"), ("v.mp4", "mpeg4")]
)
def test_what_packets_do_not_tell_is_left_to_one_pass(tmp_path: Path, name: str, codec: str) -> None:
    write(tmp_path / name, codec, gop=9, images=pictures(60))
    assert joined_blocks(open_video_file(tmp_path / name), tmp_path / "s", 0.4) == (0, None)


def test_large_frames_are_left_to_one_pass(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", "libx264", gop=9, images=pictures(40))
    large = open_video_file(tmp_path / "v.mp4", size=(700, 500))
    assert plan_stretches(large, 0.4) == []
    assert len(plan_stretches(open_video_file(tmp_path / "v.mp4", size=(690, 500)), 0.4)) > 1


def test_frames_that_need_what_lies_before_their_keyframe_are_those_of_one_pass(tmp_path: Path) -> None:
    """Pictures that are refreshed column by column: a "keyframe" alone does not give them."""
    path = tmp_path / "v.mkv"
    options = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    write(path, "libx264", images=pictures(90), options=options)
    video = open_video_file(path)
    ours = joined_blocks(video, tmp_path / "s", 0.5)[1]
    if ours is not None:
        same(ours, list(video.timed_blocks(7, [])))


@pytest.mark.parametrize("at", ["first", "beyond"])
def test_stretches_that_disagree_at_a_seam_are_not_joined(tmp_path: Path, at: str) -> None:
    write(tmp_path / "v.mp4", "libx264", gop=9, images=pictures(60))
    video, folder = open_video_file(tmp_path / "v.mp4"), tmp_path / "s"
    assert joined_blocks(video, folder, 0.4)[1] is not None
    facts = json.loads((folder / "00001.json").read_text())
    facts[at][-1] ^= 1
    (folder / "00001.json").write_text(json.dumps(facts))
    assert join_stretches(video, plan_stretches(video, 0.4), folder) is None


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_never_joined(tmp_path: Path, seed: int) -> None:
    """Bytes of one packet are overwritten: what one pass refuses is left to one pass, else the frames are equal."""
    rng = np.random.default_rng(seed)
    path = tmp_path / "v.mp4"
    write(path, "libx264", gop=9, images=pictures(80, seed=seed))
    video = open_video_file(path)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    position, size = packets[int(rng.integers(1, len(packets)))]
    data = bytearray(path.read_bytes())
    at = position + size // 2
    data[at : at + 20] = rng.bytes(len(data[at : at + 20]))
    path.write_bytes(data)
    _, ours = joined_blocks(video, tmp_path / "s", 0.4)
    try:
        one = list(video.timed_blocks(7, []))
    except SourceError:
        assert ours is None
        return
    if ours is not None:
        same(ours, one)


def test_a_file_cut_short_is_left_to_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    write(path, "libx264", gop=9, images=pictures(80))
    video = open_video_file(path)
    truncated(path, 0.6)
    joined = joined_blocks(video, tmp_path / "s", 0.4)[1]
    if joined is not None:  # whole packets up to the cut: the end that the header tells is missed afterwards
        with pytest.raises(SourceError, match="missing"):
            video.measured([note for _, note in joined])


def test_a_stretch_that_is_there_is_kept_and_one_that_is_not_stops_the_join(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write(path, "libx264", gop=9, images=pictures(60))
    video, folder = open_video_file(path), tmp_path / "s"
    _, ours = joined_blocks(video, folder, 0.4)
    assert ours is not None
    plan = plan_stretches(video, 0.4)
    kept = (folder / "00001.rgb").stat().st_mtime_ns
    decode_stretch(video, plan[1], folder, 1)
    assert (folder / "00001.rgb").stat().st_mtime_ns == kept
    (folder / "00001.json").unlink()
    assert join_stretches(video, plan, folder) is None
    decode_stretch(video, plan[1], folder, 1)
    joined = join_stretches(video, plan, folder)
    assert joined is not None
    same(list(joined.timed_blocks(7, [])), ours)


@pytest.mark.parametrize("size", [0, -1, None])
def test_frames_that_a_crash_cut_short_are_not_joined(tmp_path: Path, size: int | None) -> None:
    write(tmp_path / "v.mp4", "libx264", gop=9, images=pictures(60))
    video, folder = open_video_file(tmp_path / "v.mp4"), tmp_path / "s"
    assert joined_blocks(video, folder, 0.4)[1] is not None
    frames = folder / "00001.rgb"
    if size is None:
        frames.unlink()
    else:
        frames.write_bytes(frames.read_bytes()[:size])
    assert join_stretches(video, plan_stretches(video, 0.4), folder) is None


def test_a_disk_that_is_full_leaves_the_video_to_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "v.mp4", "libx264", gop=9, images=pictures(60))
    video = open_video_file(tmp_path / "v.mp4")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stretches, "_decode_into", full)
    assert joined_blocks(video, tmp_path / "s", 0.4)[1] is None
