"""Videos of smooth moving pictures, written by PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, COUNT = 64, 48, 60


def pictures(count: int = COUNT, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> list[np.ndarray]:
    """Smooth moving pictures, each unlike the others."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(0.05, 0.2, 3)
    return [
        np.stack([127 + 120 * np.sin(a * x + b * y + c * i * (k + 1)) for k in range(3)], axis=-1).astype(
            np.uint8
        )
        for i in range(count)
    ]


def write(
    path: Path, codec: str, *, ticks: list[int] | None = None, rate: int = 25, gop: int = 12, bframes: int = 2,
    pixel: str = "yuv420p", images: list[np.ndarray] | None = None, tags: dict[str, Any] | None = None,
    options: dict[str, str] | None = None, turned: int | None = None,
) -> None:  # fmt: skip
    images = images or pictures()
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".ts" else None) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], pixel
        if codec in ("libx264", "libx265", "mpeg2video"):
            stream.codec_context.gop_size = gop
            stream.codec_context.max_b_frames = bframes
        stream.options = {"crf": "10"} if codec.startswith("libx26") else {}
        stream.options = stream.options | {"threads": "1"} | (options or {})  # the same bytes each time
        stream.codec_context.time_base = Fraction(1, rate)
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if turned is not None:
            stream.set_display_rotation(turned)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel)
            frame.pts, frame.time_base = (ticks[i] if ticks else i), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def truncated(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
