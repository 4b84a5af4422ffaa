"""Raw video against what PyAV and ffmpeg say of files that they wrote.

Also tests fmfbench.sources.video: container, damage, decoding, measured, notes, picture, stamps.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest_video import COUNT, HEIGHT, WIDTH, pictures, truncated, write

from fmfbench.errors import SourceError
from fmfbench.sources.video.reader import RawVideo, open_video_file

NS = 1_000_000_000
SUFFIXES = [
    (".mp4", "libx264"), (".mov", "libx264"), (".m4v", "libx264"), (".mkv", "libx264"), (".ts", "libx264"),
    (".avi", "mjpeg"), (".avi", "libx264"), (".mpg", "mpeg2video"), (".wmv", "msmpeg4"), (".webm", "libvpx-vp9"),
    (".mkv", "ffv1"), (".mp4", "libx265"), (".mp4", "libsvtav1"),
]  # fmt: skip


def oracle(path: Path) -> tuple[list[Fraction | None], list[np.ndarray]]:
    """Times and pictures by a plain loop of PyAV."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [None if f.pts is None else f.pts * f.time_base for f in frames]
        return times, [f.to_ndarray(format="rgb24") for f in frames]


def read(video: RawVideo) -> tuple[list[int], np.ndarray]:
    pairs = list(video.frames())
    return [time for time, _ in pairs], np.stack([image for _, image in pairs])


@pytest.mark.parametrize(("suffix", "codec"), SUFFIXES)
def test_containers_and_codecs(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"v{suffix}"
    write(path, codec, pixel="yuv420p" if codec != "mjpeg" else "yuvj420p")
    times, images = oracle(path)
    got, frames = read(open_video_file(path))
    assert len(frames) == COUNT
    assert np.array_equal(frames, np.stack(images))
    if suffix != ".avi":
        assert got == [round((t - times[0]) * NS) for t in times]
    assert (
        np.abs(np.array(got) - np.arange(COUNT) * NS // 25).max() <= 1_000_000
    )  # containers count milliseconds


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("seed", range(4))
def test_jitter_gaps_and_variable_rates(tmp_path: Path, suffix: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ticks = np.cumsum(
        rng.choice([20, 40, 41, 39, 80, 1960], COUNT, p=[0.1, 0.4, 0.2, 0.2, 0.08, 0.02])
    ).tolist()
    path = tmp_path / f"v{suffix}"
    write(path, "libx264", ticks=ticks, rate=1000)
    got, frames = read(open_video_file(path))
    assert len(frames) == COUNT
    assert got == [(t - ticks[0]) * 1_000_000 for t in ticks]
    video = open_video_file(path)
    measured = video.measured([note for _, note in video.timed_blocks(7, [])])
    assert measured.time.tolist() == got
    assert video.scan().time.tolist() == got
    assert any("gap" in r for r in measured.remarks) == (max(np.diff(got)) > 3 * np.median(np.diff(got)))


@pytest.mark.parametrize(
    "pixel", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "yuvj420p", "yuv422p10le", "gray"]
)
@pytest.mark.parametrize(
    "crop", [(5, 3, 40, 30), (70, 51, 31, 33), (0, 0, 160, 120), (101, 77, 9, 7), (33, 1, 64, 64)]
)
def test_crops_are_those_of_the_whole_picture(
    tmp_path: Path, pixel: str, crop: tuple[int, int, int, int]
) -> None:
    path = tmp_path / "v.mkv"
    codec = {"nv12": "rawvideo", "yuvj420p": "mjpeg"}.get(pixel, "ffv1")
    write(path, codec, pixel=pixel, images=pictures(4, 160, 120, seed=3))
    x, y, w, h = crop
    _, images = oracle(path)
    _, frames = read(open_video_file(path, crop=crop))
    assert np.array_equal(frames, np.stack(images)[:, y : y + h, x : x + w])
    _, small = read(open_video_file(path, crop=crop, size=(5, 4)))
    expected = [cv2.resize(i[y : y + h, x : x + w], (5, 4), interpolation=cv2.INTER_AREA) for i in images]
    assert np.array_equal(small, np.stack(expected))


@pytest.mark.parametrize("space", [1, 5, 9])
@pytest.mark.parametrize("value_range", [1, 2])
def test_colours_are_by_the_streams_matrix_and_range(tmp_path: Path, space: int, value_range: int) -> None:
    path = tmp_path / "v.mkv"
    write(
        path, "libx264", tags={"colorspace": space, "color_range": value_range}, images=pictures(3, 160, 120)
    )
    for crop in (None, (17, 9, 40, 30)):
        _, frames = read(open_video_file(path, crop=crop))
        x, y, w, h = crop or (0, 0, 160, 120)
        assert np.array_equal(frames, np.stack(oracle(path)[1])[:, y : y + h, x : x + w])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg turns pictures upright by itself")
@pytest.mark.parametrize("turned", [0, 90, -90, 180])
def test_rotation_is_undone_as_ffmpeg_does(tmp_path: Path, turned: int) -> None:
    path = tmp_path / "v.mp4"
    write(path, "libx264", turned=turned, images=pictures(3))
    video = open_video_file(path)
    _, frames = read(video)
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout  # fmt: skip
    expected = np.frombuffer(raw, np.uint8).reshape(3, *frames.shape[1:3], 3)
    assert np.abs(frames.astype(int) - expected).mean() < 3
    assert video.frame_size == ((HEIGHT, WIDTH) if turned % 180 else (WIDTH, HEIGHT))


def fast_start(path: Path) -> None:
    write(path, "libx264", options={})
    moved = path.with_name("f.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("name", ["v.mkv", "v.avi", "v.mp4", "v.webm"])
def test_cut_files_never_pass_as_whole(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    codec = {"v.avi": "mjpeg", "v.webm": "libvpx-vp9"}.get(name, "libx264")
    fast_start(path) if name == "v.mp4" else write(
        path, codec, pixel="yuvj420p" if codec == "mjpeg" else "yuv420p"
    )
    whole = np.stack(oracle(path)[1])
    truncated(path, share)
    with pytest.raises(SourceError, match=r"truncated|no frame that can be decoded") as caught:
        read(open_video_file(path))
    assert "\n" not in str(caught.value)
    video = open_video_file(path, allow_damaged=True)
    blocks = list(video.timed_blocks(16, []))
    frames = np.concatenate([block for block, _ in blocks])
    remarks = video.measured([note for _, note in blocks]).remarks
    assert 0 < len(frames) < COUNT
    good = len(frames) - 8  # those that the cut reaches may be concealed
    assert np.array_equal(frames[:good], whole[:good])
    assert any("truncated or damaged" in remark for remark in remarks)


def packets(path: Path) -> list[tuple[int, int]]:
    """(byte, size) of every packet, in the order of the file."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def times_by_pyav(path: Path) -> list[Fraction | None]:
    try:
        return oracle(path)[0]
    except av.error.FFmpegError:
        return []


def damage_within(path: Path, seed: int) -> bool:
    """Put noise into pictures amid a file and read it; whether it passes for a sound one."""
    write(path, "libx264")
    times, images = oracle(path)
    whole, places = np.stack(images), packets(path)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    least = places[12][0]
    middle = int(rng.integers(least, least + (len(data) - least) * 6 // 10))
    length = int(rng.integers(20, 500))
    data[middle : middle + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    got, frames, said = [], whole[:0], ""
    try:
        got, frames = read(open_video_file(path))
    except SourceError as error:
        said = str(error)
    assert got or re.search("damaged|advance", said)
    if got:
        # Noise in what no picture needs, or that is a picture too: nothing is lost, and no time is wrong.
        if path.suffix == ".ts" and len(got) < len(times):
            # A picture whose start code is gone is not announced by anything but the time that it leaves empty.
            assert any("gap between frames" in remark for remark in open_video_file(path).scan().remarks)
            return False
        assert times_by_pyav(path) == times
        assert got == [round((t - times[0]) * NS) for t in times] or path.suffix == ".avi"
        return not np.array_equal(frames, whole)
    video = open_video_file(path, allow_damaged=True)
    blocks = list(video.timed_blocks(16, []))
    frames = np.concatenate([block for block, _ in blocks])
    measured = video.measured([note for _, note in blocks])
    good = sum(pos + size <= middle for pos, size in places) - 3  # those held back for B-frames
    assert len(frames) >= good
    assert np.array_equal(frames[:good], whole[:good])
    assert (np.diff(measured.time) > 0).all()
    assert any("damaged" in remark for remark in measured.remarks)
    return False


@pytest.mark.parametrize("name", ["v.mkv", "v.avi", "v.mp4", "v.ts"])
@pytest.mark.parametrize("seed", range(6))
def test_damage_within_is_refused_or_remarked(tmp_path: Path, name: str, seed: int) -> None:
    damage_within(tmp_path / name, seed)


@pytest.mark.parametrize(("codec", "options"), [
    ("libx264", {}), ("libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3"}), ("mpeg2video", {}),
    ("libx265", {"x265-params": "open-gop=1:keyint=12:bframes=3:log-level=none"}),
])  # fmt: skip
def test_a_transport_stream_may_begin_amid_its_pictures(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    write(tmp_path / "v.ts", codec, options=options)
    times, images = oracle(tmp_path / "v.ts")
    data = (tmp_path / "v.ts").read_bytes()
    for share in (0.2, 0.3, 0.37, 0.45, 0.5, 0.61, 0.7):
        (tmp_path / "c.ts").write_bytes(data[int(len(data) * share) // 188 * 188 :])
        video = open_video_file(tmp_path / "c.ts")
        got, frames = read(video)
        assert np.array_equal(frames, np.stack(images[-len(frames) :]))
        assert got == [round((t - times[-len(frames)]) * NS) for t in times[-len(frames) :]]


@pytest.mark.parametrize("seed", range(4))
def test_a_sound_transport_stream_of_any_length_is_whole(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(40, 90))
    noise = list(rng.integers(0, 256, (count, 120, 160, 3), np.uint8))  # megabytes, whose end FFmpeg looks at
    write(tmp_path / "v.ts", "mpeg2video" if seed % 2 else "libx264", images=noise)
    video = open_video_file(tmp_path / "v.ts")
    blocks = list(video.timed_blocks(16, []))
    notes = [note for _, note in blocks]
    assert len(video.measured(notes).time) == count
    assert not any("damaged" in remark for remark in video.scan().remarks)
    again = list(video.timed_blocks(16, notes[:2]))
    assert np.array_equal(np.concatenate([b for b, _ in again]), np.concatenate([b for b, _ in blocks[2:]]))


@pytest.mark.long
@pytest.mark.parametrize("name", ["v.mkv", "v.avi", "v.mp4", "v.ts"])
def test_damage_within_is_refused_or_remarked_of_many(tmp_path: Path, name: str) -> None:
    unseen = [damage_within(tmp_path / name, seed) for seed in range(200)]
    assert sum(unseen) <= 10  # noise that is a picture too


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.ts", "libx264"), ("v.avi", "libx264"),
                        ("v.mpg", "mpeg2video"), ("v.avi", "mjpeg"), ("v.webm", "libvpx-vp9")]
)  # fmt: skip
def test_resumed_after_any_block_the_rest_is_the_same(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    write(path, codec, gop=9, pixel="yuvj420p" if codec == "mjpeg" else "yuv420p")
    video = open_video_file(path, crop=(3, 5, 40, 30), size=(16, 12))
    blocks = list(video.timed_blocks(7, []))
    notes = [note for _, note in blocks]
    for done in range(1, len(blocks)):
        again = list(video.timed_blocks(7, notes[:done]))
        assert np.array_equal(
            np.concatenate([b for b, _ in again]), np.concatenate([b for b, _ in blocks[done:]])
        )
        assert (
            video.measured(notes[:done] + [n for _, n in again]).time.tolist()
            == video.measured(notes).time.tolist()
        )


def test_a_file_that_cannot_be_entered_at_a_keyframe_is_read_from_the_front(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    write(path, "libx264", gop=250, options={"x264-params": "intra-refresh=1:keyint=20:bframes=0"})
    video = open_video_file(path)
    blocks = list(video.timed_blocks(13, []))
    for done in range(1, len(blocks)):
        again = list(video.timed_blocks(13, [note for _, note in blocks[:done]]))
        assert np.array_equal(
            np.concatenate([b for b, _ in again]), np.concatenate([b for b, _ in blocks[done:]])
        )


def test_two_streams_are_named(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 32 + 16 * number, 24, "yuv420p"
        for number, stream in enumerate(streams):
            for image in pictures(3, 32 + 16 * number, 24):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    with pytest.raises(SourceError, match="0: 32x24, 1: 48x24.*--map video=0"):
        open_video_file(path)
    assert open_video_file(path, stream=1).frame_size == (48, 24)


def test_a_steady_rate_stands_in_the_place_of_stamps(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write(path, "libx264", ticks=[i * i for i in range(COUNT)], rate=1000)
    got, _ = read(open_video_file(path, fps=Fraction(50)))
    assert got == [i * 20_000_000 for i in range(COUNT)]


def write_in_parts(path: Path, parts: list[tuple[int, int, str]]) -> None:
    """One stream of 20 pictures of each (width, height, pixel format)."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
        for part, (width, height, pixel) in enumerate(parts):
            encoder = av.CodecContext.create("mpeg2video", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, pixel
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            for i, image in enumerate([*pictures(20, width, height), None]):
                frame = None
                if image is not None:
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel)
                    frame.pts, frame.time_base = 20 * part + i, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)


def test_frames_that_change_size_are_refused_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "v.ts"
    write_in_parts(path, [(WIDTH, HEIGHT, "yuv420p"), (96, 64, "yuv420p")])
    with pytest.raises(
        SourceError, match=r"64x48\), got 96x64 in frame (19|20); split the file where its size changes"
    ):
        read(open_video_file(path))
    with pytest.raises(SourceError, match="got 96x64 in frame (19|20)"):  # no damage that could be kept
        list(open_video_file(path, allow_damaged=True).timed_blocks(16, []))


@pytest.mark.parametrize("crop", [None, (5, 3, 20, 11)])
def test_frames_that_change_their_pixel_format(
    tmp_path: Path, crop: tuple[int, int, int, int] | None
) -> None:
    path = tmp_path / "v.ts"
    write_in_parts(path, [(WIDTH, HEIGHT, "yuv420p"), (WIDTH, HEIGHT, "yuv422p")])
    x, y, w, h = crop or (0, 0, WIDTH, HEIGHT)
    expected = np.stack(oracle(path)[1])[:, y : y + h, x : x + w]
    video = open_video_file(path, crop=crop, allow_damaged=True)
    frames = np.stack([image for _, image in video.frames()])
    assert np.array_equal(frames, expected)
    assert len(frames) > 35


def sounds(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b""), "empty file"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\nsize 12\n"), "Git LFS pointer"),
        (lambda p: p.write_text("<!DOCTYPE html><html></html>"), "web page"),
        (lambda p: p.write_bytes(b"PK\3\4" + b"\0" * 90), "zip archive"),
        (lambda p: p.write_bytes(np.random.default_rng(0).bytes(4000)), "expected a video"),
        (lambda p: p.write_bytes(b"\0" * 4000), "zeros"),
        (sounds, "without a video stream"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "v.mkv"
    make(path)
    with pytest.raises(SourceError, match=words) as caught:
        open_video_file(path)
    assert "\n" not in str(caught.value)
