"""Frames of the raw video that a store was made from, in its own resolution, to guide a refinement."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import AnnotationError
from fmfbench.files.local import local_path
from fmfbench.sources.video.reader import VIDEO_SUFFIXES, RawVideo, open_video_file
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording

__all__ = ["RawGuides", "find_raw"]

_MOST_APART = 2.0  # grey levels on average, between a stored frame and the raw one shrunk again


class RawGuides:
    """The raw frames of one recording, cropped as the stored ones; each is held against the stored frame.

    Args:
        data: the store.
        recording: of it.
        path: the video.

    Raises:
        AnnotationError: the store is not of raw video, or of other frames than this one's.
        SourceError: a video that cannot be decoded.
    """

    def __init__(self, data: StoreReader, recording: Recording, path: Path) -> None:
        self._recording = recording
        self._video = _open(data, path)
        self._place = 0
        self._frames: Iterator[tuple[int, NDArray[np.uint8]]] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return self._video.size[1], self._video.size[0]

    def read(self, start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
        """(H,W,3) uint8 RGB of frames start..stop-1. In order of frame the video is decoded once.

        Raises:
            AnnotationError: the frames are not those of the store.
        """
        if self._frames is None or start < self._place:
            self._frames, self._place = self._video.frames(), 0
        for number in range(self._place, stop):
            found = next(self._frames, None)
            if found is None:
                raise AnnotationError(
                    f"{self._video.path}: expected the {self._recording.num_frames} frames that the store holds, got "
                    f"{number}; name the video that it was made from with --raw"
                )
            self._place = number + 1
            if number >= start:
                self._check(number, found[1])
                yield found[1]

    def _check(self, number: int, image: NDArray[np.uint8]) -> None:
        import cv2

        r = self._recording
        same = image
        if image.shape[:2] != (r.height, r.width):
            same = np.asarray(cv2.resize(image, (r.width, r.height), interpolation=cv2.INTER_AREA), np.uint8)
        stored = r.read_video(number, number + 1)[0].astype(np.int16)
        # another build of the decoder or of OpenCV may round otherwise
        if np.abs(same - stored).mean() > _MOST_APART:
            raise AnnotationError(
                f"{self._video.path}: expected the video that the store was made from, got one whose frame {number} is "
                "not the stored one; name the right one with --raw"
            )


def find_raw(data: StoreReader, name: str, where: Path | None) -> Path:
    """The raw video that a recording was made from.

    Args:
        data: the store.
        name: of the recording.
        where: a video, or the folder that holds it; by default the folder of the store, and the current one.

    Raises:
        AnnotationError: it is not there, or the store is not of raw video.
    """
    entries = data.attributes.get("fmfbench.sources", [])
    files = [Path(e["path"]) for e in entries if Path(e["path"]).suffix.lower() in VIDEO_SUFFIXES]
    own = next((file for file in files if file.stem == name), None)
    if own is None:
        raise AnnotationError(
            f"{data.path}: expected recording {name} to come from raw video, got a store of layout "
            f"{data.attributes.get('fmfbench.layout')}; refine it on its own frames, without --raw and --on-raw"
        )
    if where is not None and where.is_file():
        if where.stem != name:
            raise AnnotationError(
                f"--raw: expected the video of {name}, got {where.name}; name the folder of all videos"
            )
        return where
    folders = [where] if where is not None else [local_path(data.path).absolute().parent, Path()]
    places = [folder / part for folder in folders for part in (own, Path(own.name))]
    size = next(e["size"] for e in entries if Path(e["path"]) == own)
    for place in places:
        if place.is_file() and place.stat().st_size == size:
            return place
    looked = " and ".join(str(folder) for folder in folders)
    raise AnnotationError(
        f"{data.path}: expected the raw video {own.name} of {size} bytes in {looked}, got none; name "
        "its folder with --raw"
    )


def _open(data: StoreReader, path: Path) -> RawVideo:
    kept = data.attributes.get("fmfbench.options", {})
    stream = kept.get("map", {}).get("video")
    return open_video_file(
        path,
        crop=tuple(kept["crop"]) if kept.get("crop") else None,
        fps=Fraction(kept["fps"]) if kept.get("fps") else None,
        stream=None if stream is None else int(stream),
        allow_damaged=bool(kept.get("allow_damaged", False)),
    )
