"""Videos by PyAV and by the ffmpeg executable, from pictures that are drawn."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .case import NS

FFMPEG = shutil.which("ffmpeg")
# suffix, codec, pixel format, lossy, rates that it can have, ns by which its stamps are rounded
FORMS = [
    (".mkv", "ffv1", "bgr0", False, (25, 30, 12, 50, "30000/1001"), 1_000_000),
    (".avi", "ffv1", "bgr0", False, (25, 30, 12, 50, "30000/1001"), 0),
    (".avi", "rawvideo", "bgr24", False, (25, 15), 0),
    (".avi", "png", "rgb24", False, (25, 10), 0),
    (".mov", "png", "rgb24", False, (25, 30, "30000/1001"), 0),
    (".mov", "qtrle", "rgb24", False, (25, 30), 0),
    (".mp4", "libx264rgb", "rgb24", False, (25, 30, 12, 50, "30000/1001"), 0),
    (".mp4", "libx264", "yuv420p", True, (25, 30, 12, 50, "30000/1001"), 0),
    (".m4v", "libx264", "yuv420p", True, (25, 30), 0),
    (".mkv", "libx264", "yuv444p", True, (25, 20), 1_000_000),
    (".mov", "libx264", "yuv422p", True, (25, 50), 0),
    (".ts", "libx264", "yuv420p", True, (25, 30, "30000/1001"), 0),
    (".mp4", "libx265", "yuv420p", True, (25, 30), 0),
    (".mp4", "mpeg4", "yuv420p", True, (25, 30), 0),
    (".avi", "mjpeg", "yuvj420p", True, (25, 15), 0),
    (".ts", "mpeg2video", "yuv420p", True, (25, "30000/1001"), 0),
    (".webm", "libvpx-vp9", "yuv420p", True, (25, 30), 1_000_000),
    (".wmv", "wmv2", "yuv420p", True, (25, 30), 1_000_000),
    # FFmpeg's program streams stamp packets, in which pictures share a place: one may stand a step off.
    (".mpg", "mpeg2video", "yuv420p", True, (25, 50), 40_000_000),
]
UNEVEN = (".mkv", ".mp4")  # those that are also drawn with gaps and jitter


@dataclass(kw_only=True)
class Video:
    """A video as drawn."""

    frames: np.ndarray
    times: np.ndarray  # ns since the first frame
    lossy: bool
    slack: int
    suffix: str

    @property
    def seconds(self) -> float:
        return float(self.times[-1] + self.times[1] - self.times[0]) / NS


def pictures(rng: np.random.Generator, count: int, width: int, height: int) -> np.ndarray:
    """Smooth pictures, no two of one brightness."""
    y, x = np.mgrid[:height, :width]
    a, b = rng.uniform(-20, 20, 2)
    slope = a * x / width + b * y / height
    tint = rng.uniform(0.6, 1.0, 3)
    levels = (37 * np.arange(count) + rng.integers(0, 150)) % 181 + 40
    return np.clip((levels[:, None, None] + slope)[..., None] * tint, 0, 255).astype(np.uint8)


def draw(
    rng: np.random.Generator, folder: Path, stem: str, form: int | None = None, *, program: bool = False
) -> Video:
    """Write a video of a random form; of a program stream, whose stamps FFmpeg may give twice, only if it may be."""
    suffix, codec, pixel, lossy, rates, slack = FORMS[
        rng.integers(len(FORMS) - (not program)) if form is None else form
    ]
    rate = Fraction(rates[rng.integers(len(rates))])
    count = int(rng.integers(60, 130))
    width, height = 16 * int(rng.integers(3, 6)), 16 * int(rng.integers(2, 4)) + 8
    if width == height:
        width += 16
    frames = pictures(rng, count, width, height)
    ticks = np.arange(count)
    uneven = suffix in UNEVEN and codec != "libx265" and rng.random() < 0.4
    if uneven:  # a camera that was out, and steps of other lengths; in milliseconds
        steps = rng.choice([40, 40, 40, 41, 39, 80], count - 1)
        steps[rng.integers(20, 40)] = int(rng.integers(300, 1500))
        ticks, rate, slack = np.r_[0, np.cumsum(steps)], Fraction(1000), 0
    times = np.array([round(int(t) * NS / rate) for t in ticks], np.int64)
    shown = suffix.upper() if rng.random() < 0.15 else suffix
    path = folder / f"{stem}{shown}"
    if codec == "libx265" and not FFMPEG:  # its encoder is only used in a process of its own
        codec = "libx264"
    if FFMPEG and (codec == "libx265" or (not uneven and rng.random() < 0.5)):
        by_ffmpeg(
            path, frames, codec, pixel, rate, sound=suffix in (".mp4", ".mkv", ".mov") and rng.random() < 0.3
        )
    else:
        by_pyav(path, frames, codec, pixel, rate, ticks, suffix)
    return Video(frames=frames, times=times, lossy=lossy, slack=slack, suffix=shown)


def by_pyav(
    path: Path, frames: np.ndarray, codec: str, pixel: str, rate: Fraction, ticks: np.ndarray, suffix: str
) -> None:
    form = {".ts": "mpegts", ".m4v": "mp4", ".mpg": "mpeg", ".wmv": "asf", ".mkv": "matroska"}
    with av.open(str(path), "w", format=form.get(suffix, suffix[1:])) as container:
        stream = container.add_stream(codec, rate=Fraction(25) if rate == 1000 else rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel
        stream.codec_context.time_base = 1 / rate
        stream.options = quality(codec)
        for tick, image in zip(ticks.tolist(), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel)
            frame.pts, frame.time_base = tick, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def by_ffmpeg(path: Path, frames: np.ndarray, codec: str, pixel: str, rate: Fraction, *, sound: bool) -> None:
    count, height, width, _ = frames.shape
    tone = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={count / float(rate) + 1.5}", "-c:a", "aac"]
    options = [part for name, value in quality(codec).items() for part in (f"-{name}", value)]
    form = {".ts": "mpegts", ".m4v": "mp4", ".mpg": "mpeg", ".wmv": "asf", ".mkv": "matroska"}
    suffix = path.suffix.lower()
    assert FFMPEG is not None
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate),
         "-i", "-", *(tone if sound else []), "-c:v", codec, "-pix_fmt", pixel, *options,
         "-f", form.get(suffix, suffix[1:]), str(path)],
        input=frames.tobytes(), check=True, capture_output=True,
    )  # fmt: skip


def quality(codec: str) -> dict[str, str]:
    if codec == "libx264rgb":
        return {"crf": "0"}
    if codec == "libx265":
        return {"crf": "8", "x265-params": "log-level=none"}
    if codec == "libx264":
        return {"crf": "8"}
    if codec == "libvpx-vp9":
        return {"crf": "10", "b": "0", "cpu-used": "8"}
    return (
        {"qmin": "1", "qmax": "2", "b": "6000k"} if codec in ("mpeg4", "mjpeg", "mpeg2video", "wmv2") else {}
    )
