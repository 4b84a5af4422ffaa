"""A decoded frame as a picture: RGB, upright, cropped, shrunk by area interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError

__all__ = ["Picture", "orientation", "upright"]

# Formats whose planes may be cropped before the colours are converted: the conversion looks no further than
# `_MARGIN` pixels around, so that trimming afterwards gives the same values (tests/sources/video).
_CROPPED_FIRST = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "yuv420p10le"}
_MARGIN = 16


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is turned upright: transposed first, then mirrored."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False

    def __bool__(self) -> bool:
        return self.transposed or self.left_right or self.upside_down


def orientation(frame: Any, where: str) -> Orientation:
    """What the frame's display matrix asks for.

    Raises:
        SourceError: it asks for a rotation by other than a multiple of 90 degrees.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    # (x', y') = (a x + c y, b x + d y), in 16.16 fixed point: a b u c d v x y w
    a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].astype(np.int64).tolist()
    if b == c == 0 and a and d:
        return Orientation(left_right=a < 0, upside_down=d < 0)
    if a == d == 0 and b and c:
        return Orientation(transposed=True, left_right=c < 0, upside_down=b < 0)
    raise SourceError(
        f"{where}: expected a rotation by a multiple of 90 degrees, got {frame.rotation} degrees; "
        "turn it with `ffmpeg -i OLD -vf rotate=... NEW.mkv`"
    )


def upright(image: NDArray[np.uint8], turn: Orientation) -> NDArray[np.uint8]:
    """The picture (H,W,3) as a view in which up is up."""
    if turn.transposed:
        image = image.swapaxes(0, 1)
    if turn.left_right:
        image = image[:, ::-1]
    return image[::-1] if turn.upside_down else image


class Picture:
    """Decoded frames of one video into RGB of one size.

    Args:
        where: the file, for messages.
        frame_size: width, height that every frame must have, upright.
        crop: x, y, width, height to keep, in upright pixels.
        size: width, height to give out.
    """

    def __init__(
        self, where: str, frame_size: tuple[int, int], crop: tuple[int, int, int, int], size: tuple[int, int]
    ) -> None:
        self._where = where
        self._frame_size = frame_size
        self._crop = crop
        self._size = size
        self._facts: tuple[Any, ...] = ()
        self._reformatter: Any = None
        self._cropper: _PlaneCrop | None = None
        self._turns: dict[float, Orientation] = {}

    def __call__(self, frame: Any, index: int) -> NDArray[np.uint8]:
        """The picture (H,W,3); `index` is the frame's number, for messages."""
        turn = self._turn(frame)
        size = (frame.height, frame.width) if turn.transposed else (frame.width, frame.height)
        if size != self._frame_size:
            raise SourceError(
                f"{self._where}: expected all frames of one size ({self._frame_size[0]}x{self._frame_size[1]}), "
                f"got {size[0]}x{size[1]} in frame {index}; split the file where its size changes"
            )
        part = self._part(frame, turn)
        if self._size == self._crop[2:]:
            return np.ascontiguousarray(part)
        import cv2

        return np.asarray(
            cv2.resize(np.ascontiguousarray(part), self._size, interpolation=cv2.INTER_AREA), np.uint8
        )

    def _turn(self, frame: Any) -> Orientation:
        """Its orientation, looked up once: side data keep their frame alive until the next garbage collection."""
        if frame.rotation not in self._turns:
            self._turns[frame.rotation] = orientation(frame, self._where)
        return self._turns[frame.rotation]

    def _part(self, frame: Any, turn: Orientation) -> NDArray[np.uint8]:
        facts = (frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range)
        if facts != self._facts:
            self._prepare(facts)
        x, y, width, height = self._crop
        if turn or self._cropper is None:
            return upright(self._rgb(frame), turn)[y : y + height, x : x + width]
        return self._rgb(self._cropper(frame))[self._cropper.inner]

    def _prepare(self, facts: tuple[Any, ...]) -> None:
        """For frames of one kind: one converter, which would cost as much to make as to use."""
        from av.video.reformatter import VideoReformatter

        self._facts, self._reformatter = facts, VideoReformatter()
        _, _, width, height = self._crop
        worth = 2 * width * height < facts[1] * facts[2] and facts[0] in _CROPPED_FIRST
        self._cropper = _PlaneCrop(facts, self._crop) if worth else None

    def _rgb(self, frame: Any) -> NDArray[np.uint8]:
        """The whole frame, by the matrix and range that it is tagged with; untagged is BT.601."""
        image: NDArray[np.uint8] = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return image


class _PlaneCrop:
    """Crops planes through FFmpeg's filter, which moves pointers and copies nothing."""

    def __init__(self, facts: tuple[Any, ...], crop: tuple[int, int, int, int]) -> None:
        import av.filter

        pixel_format, width, height = facts[:3]
        x, y, w, h = crop
        left, top = max(0, x - _MARGIN) // 16 * 16, max(0, y - _MARGIN) // 16 * 16
        right = min(width, -(-(x + w + _MARGIN) // 16) * 16)
        bottom = min(height, -(-(y + h + _MARGIN) // 16) * 16)
        self.inner = slice(y - top, y - top + h), slice(x - left, x - left + w)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format=pixel_format, time_base=Fraction(1, 25))
        cut = graph.add("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1")
        sink = graph.add("buffersink")
        source.link_to(cut)
        cut.link_to(sink)
        graph.configure()
        self._graph = graph

    def __call__(self, frame: Any) -> Any:
        """The part of a frame; `inner` of its picture is the crop."""
        self._graph.push(frame)
        return self._graph.pull()
