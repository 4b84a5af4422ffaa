import subprocess
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest

from fmfbench import convert, open_dataset
from fmfbench.errors import SourceError
from fmfbench.sources.layout import open_source
from fmfbench.sources.recording import read_recording
from fmfbench.sources.source import Options

HEIGHT, WIDTH, FRAMES = 36, 48, 23
TABLE = "seconds,a,b,c\n" + "".join(f"{0.5 * i - 1},{6000 + i},{7000 + i}.5,{8000 - i}\n" for i in range(6))


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_video(path, frames, fps=25.0, codec="FFV1"):
    size = frames.shape[2], frames.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


@pytest.fixture
def raw(tmp_path, frames):
    write_video(tmp_path / "run1.avi", frames)
    (tmp_path / "run1.csv").write_text(TABLE)
    return tmp_path / "run1.avi"


def area_mean(image, width, height):
    """Shrinking by area: each new pixel is the mean of the old ones beneath, weighted by overlap."""

    def overlaps(old, new):
        edges = np.arange(new + 1) * old / new
        low, high = edges[:-1, None], edges[1:, None]
        pixel = np.arange(old)
        return np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None) * new / old

    return np.einsum(
        "yi,xj,ijc->yxc", overlaps(image.shape[0], height), overlaps(image.shape[1], width), image
    )


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_frames_arrive_as_they_were_written(tmp_path, frames, suffix):
    path = tmp_path / f"run1{suffix}"
    write_video(path, frames)
    path.with_suffix(".csv").write_text(TABLE)
    recording, files = read_recording(path, Options())
    assert files == (path, path.with_suffix(".csv"))
    assert (recording.name, recording.num_frames, recording.height, recording.width) == (
        "run1",
        FRAMES,
        HEIGHT,
        WIDTH,
    )
    blocks = list(recording.video.blocks(10))
    assert [len(block) for block in blocks] == [10, 10, 3]
    assert np.array_equal(np.concatenate(blocks), frames)
    assert np.array_equal(np.concatenate(list(recording.video.blocks(4, start=13))), frames[13:])
    assert recording.frame_time.tolist() == [40_000_000 * i for i in range(FRAMES)]
    assert recording.time_origin == "start"
    assert recording.split.tolist() == [2] * FRAMES
    assert recording.pixel_labels is None
    assert recording.current_time.tolist() == [(i - 2) * 500_000_000 for i in range(6)]
    assert recording.current[2].tolist() == [6002, 7002.5, 7998]


@pytest.mark.parametrize("size", [(12, 9), (10, 7), (40, 30), None])
def test_crop_and_area_interpolation(raw, frames, size):
    recording, _ = read_recording(raw, Options(crop=(5, 2, 40, 30), size=size))
    (block,) = recording.video.blocks(FRAMES)
    part = frames[:, 2:32, 5:45]
    width, height = size or (40, 30)
    assert block.shape == (FRAMES, height, width, 3)
    assert (recording.height, recording.width) == (height, width)
    for got, image in zip(block, part, strict=True):
        assert np.abs(got - area_mean(image.astype(float), width, height)).max() <= 0.51


def test_converts_to_an_unlabelled_store(raw, frames, tmp_path):
    whole = convert(raw, tmp_path / "a.zarr")
    data = open_dataset(whole)
    recording = data.recordings["run1"]
    assert np.array_equal(recording.read_video(), frames)
    assert recording.class_label.tolist() == [255] * FRAMES
    assert (data.default_layer, recording.layers) == (None, ())
    folder = open_dataset(convert(tmp_path, tmp_path / "b.zarr", crop=(0, 0, 24, 36), size=(8, 6)))
    assert folder.recordings["run1"].read_video().shape == (FRAMES, 6, 8, 3)
    assert folder.attributes["fmfbench.options"] == {"crop": [0, 0, 24, 36], "size": [8, 6]}


def test_times_of_day_start_the_video_with_the_first_row(tmp_path, frames):
    write_video(tmp_path / "run1.avi", frames)
    rows = [f"2023-05-10 21:33:{25 + i // 2},1,2,3\n" for i in range(1, 7)]
    (tmp_path / "run1.csv").write_text("time,a,b,c\n" + "".join(rows))
    recording, _ = read_recording(tmp_path / "run1.avi", Options())
    assert recording.time_origin == "clock"
    assert recording.frame_time[0] == recording.current_time[0]
    assert np.datetime64(int(recording.frame_time[0]), "ns") == np.datetime64("2023-05-10T21:33:25.5")
    assert any("begin with the first current row" in remark for remark in recording.remarks)


def test_the_rate_comes_from_the_video_unless_one_is_given(tmp_path, frames):
    write_video(tmp_path / "run1.avi", frames, fps=30000 / 1001)
    (tmp_path / "run1.csv").write_text(TABLE)
    recording, _ = read_recording(tmp_path / "run1.avi", Options())
    assert recording.frame_time[1] == 33_366_667
    assert any("29.97" in remark for remark in recording.remarks)
    recording, _ = read_recording(tmp_path / "run1.avi", Options(fps=Fraction(50)))
    assert recording.frame_time[1] == 20_000_000


def test_a_current_that_is_missing_is_nan(raw):
    raw.with_suffix(".csv").write_text("t,a,b,c\n0,1,,3\n0.5,1,nan,inf\n1,1,2,3\n")
    recording, _ = read_recording(raw, Options())
    assert np.isnan(recording.current).tolist() == [[False, True, False], [False, True, True], [False] * 3]
    assert "2 current rows with NaN or Inf, kept as NaN" in recording.remarks
    assert any("outside 100 A to 100 kA" in remark for remark in recording.remarks)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "run1.csv beside it"),
        ("", "empty file"),
        ("seconds,a,b,c\n", "only a header"),
        ("0,1,2,3\n1,1,2,3\n", "header"),
        ("seconds,a,b\n0,1,2\n", "4 columns"),
        ("seconds,a,b,c\n0,1,2,x\n", "current in A in row 2"),
        ("seconds,a,b,c\n0,1,2,3\nnan,1,2,3\n", "a number as time in row 3"),
        ("seconds,a,b,c\n0.2,1,2,3\n0.2,1,2,3\n0.7,1,2,3\n", "increase"),
        ("seconds,a,b,c\n1,1,2,3\n0.5,1,2,3\n", "backwards at row 3: 0.5 s after 1 s"),
        ("time,a,b,c\nyesterday,1,2,3\n", "known formats"),
    ],
)
def test_refuses_tables(raw, table, words):
    raw.with_suffix(".csv").unlink()
    if table is not None:
        raw.with_suffix(".csv").write_text(table)
    with pytest.raises(SourceError, match=words) as caught:
        open_source(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("crop", "good"),
    [
        ((0, 0, 48, 36), True),
        ((47, 35, 1, 1), True),
        ((0, 0, 49, 36), False),
        ((1, 0, 48, 36), False),
        ((0, 1, 48, 36), False),
        ((0, 0, 0, 5), False),
        ((-1, 0, 5, 5), False),
    ],
)
def test_crops(raw, crop, good):
    if good:
        assert read_recording(raw, Options(crop=crop))[0].width == crop[2]
    else:
        with pytest.raises(SourceError, match="within the video's 48x36"):
            read_recording(raw, Options(crop=crop))


def test_sizes(raw):
    with pytest.raises(SourceError, match="pixels a side"):
        read_recording(raw, Options(size=(0, 5)))
    with pytest.raises(SourceError, match="pixels a side"):
        read_recording(raw, Options(size=(5, 20_000)))


def test_files_that_are_no_video(raw):
    whole = raw.read_bytes()
    for content in (b"", b"RIFF", b"not a video at all" * 100, whole[:200]):
        raw.write_bytes(content)
        with pytest.raises(SourceError, match=r"run1\.avi: expected a video"):
            open_source(raw)
    code = f"import fmfbench\nfmfbench.convert({str(raw)!r}, {str(raw) + '.zarr'!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("Traceback")  # and nothing of the decoder's own before it


def test_a_video_that_is_cut_is_refused(raw, tmp_path):
    whole = raw.read_bytes()
    raw.write_bytes(whole[: len(whole) // 2])
    target = tmp_path / "out.zarr"
    with pytest.raises(SourceError, match="run1"):
        convert(raw, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run1.avi", "run1.csv"]
