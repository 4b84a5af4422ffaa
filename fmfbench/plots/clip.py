"""Writing a video that plays in a browser: H.264 in .mp4, or VP9 in .webm, through PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import AnnotationError, FailedError, MissingDependencyError
from fmfbench.files.atomic import replacing

if TYPE_CHECKING:
    import av

__all__ = ["ENDINGS", "writing_clip"]

# Codecs of an ending, the first that the build has; quality so that single pixels of an enlarged frame stay crisp.
_CODECS = {
    ".mp4": (("libx264", {"crf": "18", "preset": "veryfast"}), ("libopenh264", {"b": "4M"})),
    ".webm": (("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "8"}),),
}
ENDINGS = tuple(_CODECS)

Picture = NDArray[np.uint8]


@contextmanager
def writing_clip(out: Path, size: tuple[int, int], rate: float) -> Iterator[Callable[[Picture], None]]:
    """A function that takes RGB pictures (H, W, 3) of `size` (width, height), one a frame; the file is whole or none.

    Args:
        out: .mp4 or .webm.
        rate: frames a second.

    Raises:
        AnnotationError: another ending.
        MissingDependencyError: PyAV is not installed.
        FailedError: the file cannot be written, or this build of PyAV has none of the codecs.
    """
    codecs = _CODECS.get(out.suffix.lower())
    if codecs is None:
        raise AnnotationError(f"expected a video's name that ends in {' or '.join(ENDINGS)}, got {out}")
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            f"{out}: expected PyAV to write video, got none: pip install 'fmfbench[raw]'"
        ) from error
    even = size[0] + size[0] % 2, size[1] + size[1] % 2  # the codecs halve the colour planes
    kind = out.suffix.lower().removeprefix(".")
    try:
        with (
            replacing(out) as part,
            av.open(str(part), "w", kind, {"movflags": "faststart"} if kind == "mp4" else {}) as file,
        ):
            codec, options = _available(codecs, out)
            frames_a_second = Fraction(rate).limit_denominator(1000)
            stream = cast("av.VideoStream", file.add_stream(codec, rate=frames_a_second, options=options))
            stream.width, stream.height, stream.pix_fmt = even[0], even[1], "yuv420p"

            def write(picture: Picture) -> None:
                padded = np.pad(picture, ((0, even[1] - size[1]), (0, even[0] - size[0]), (0, 0)))
                frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
                file.mux(stream.encode(frame))

            yield write
            file.mux(stream.encode(None))
    except (OSError, av.FFmpegError) as error:
        raise FailedError(f"{out}: PyAV cannot open or write it: {error}; check the folder") from error


def _available(codecs: tuple[tuple[str, dict[str, str]], ...], out: Path) -> tuple[str, dict[str, str]]:
    import av

    for name, options in codecs:
        try:
            av.Codec(name, "w")
        except ValueError:
            continue
        return name, options
    raise FailedError(
        f"{out}: expected a PyAV that can encode {' or '.join(name for name, _ in codecs)}, got one that cannot; "
        "install PyAV from PyPI"
    )
