"""What was drawn on a recording, and the three ways of refining it: windows, boxes, or boxes on the raw video."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmfbench.annotation.box_vote import SHARE, margins_of_boxes, refine_boxes_frames
from fmfbench.annotation.keyframes import Keyframes, Track
from fmfbench.annotation.propagate import View, coarse_masks, stored_boxes
from fmfbench.annotation.raw_guides import RawGuides
from fmfbench.annotation.raw_vote import shares_on_raw
from fmfbench.annotation.weighted_median import refine, refine_frames
from fmfbench.store.recording import Recording

__all__ = ["BoxVote", "Drawn", "RawVote", "Vote", "WindowVote"]


@dataclass(frozen=True)
class Drawn:
    """What was drawn on a recording; blocks of it are for frames start..stop-1."""

    recording: Recording
    tracks: tuple[Track, ...]
    size: tuple[int, int]
    view: View

    @property
    def shape(self) -> tuple[int, int]:
        return self.recording.height, self.recording.width

    @property
    def events(self) -> list[dict[str, Any]]:
        return [{"id": t.id, "onset": t.onset, "apex": t.apex, "offset": t.offset} for t in self.tracks]

    @property
    def parameters(self) -> dict[str, Any]:
        name = self.recording.name
        drawn = Keyframes(size=self.size, recordings={name: self.tracks}).to_dict()
        return {"size": list(self.size), "view": list(self.view), **drawn["recordings"][name]}

    def masks(self, start: int, stop: int) -> NDArray[np.uint8]:
        return coarse_masks(self.tracks, start, stop, self.shape, self.view)

    def boxes(self, start: int, stop: int, shape: tuple[int, int] | None = None) -> NDArray[np.float64]:
        """(n, tracks, 4) in pixels of frames of `shape` (H, W), by default the stored; NaN where a track has none."""
        frames, shape = np.arange(start, stop, dtype=np.int64), shape or self.shape
        return np.stack([stored_boxes(track, frames, shape, self.view) for track in self.tracks], axis=1)


class Vote(Protocol):
    """How frames start..stop-1 are refined; `parameters` says it in the layer's provenance."""

    parameters: dict[str, Any]

    def labels(self, start: int, stop: int, threads: int) -> NDArray[np.uint8]: ...

    def margins(self, start: int, stop: int) -> Iterator[NDArray[np.float32]]: ...


class WindowVote:
    """All boxes of a frame voted together, with one radius."""

    def __init__(self, drawn: Drawn, radius: int, sigma: float) -> None:
        self.drawn, self.radius, self.sigma = drawn, radius, float(sigma)
        self.parameters = {"radius": self.radius, "sigma": self.sigma, "guide": "video"}

    def labels(self, start: int, stop: int, threads: int) -> NDArray[np.uint8]:
        guides = self.drawn.recording.read_video(start, stop)
        return refine_frames(self.drawn.masks(start, stop), guides, self.radius, self.sigma, threads)

    def margins(self, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        guides = self.drawn.recording.read_video(start, stop)
        for mask, guide in zip(self.drawn.masks(start, stop), guides, strict=True):
            yield refine(mask, guide, self.radius, self.sigma, return_margin=True)[1]


class BoxVote:
    """Each box voted alone, with the radius of its size."""

    def __init__(self, drawn: Drawn, sigma: float, share: float) -> None:
        self.drawn, self.sigma, self.share = drawn, float(sigma), share
        self.parameters = {"radius": _radius_words(share), "sigma": self.sigma, "guide": "video"}

    def labels(self, start: int, stop: int, threads: int) -> NDArray[np.uint8]:
        guides = self.drawn.recording.read_video(start, stop)
        return refine_boxes_frames(self.drawn.boxes(start, stop), guides, self.sigma, threads, self.share)

    def margins(self, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        guides = self.drawn.recording.read_video(start, stop)
        for boxes, guide in zip(self.drawn.boxes(start, stop), guides, strict=True):
            yield margins_of_boxes(boxes, guide, self.sigma, self.share)


class RawVote:
    """Voted on the raw video's frames, and shrunk; `size` as `parse_radius` gives it."""

    def __init__(self, drawn: Drawn, guides: RawGuides, size: int | float, sigma: float) -> None:
        self.drawn, self.guides, self.sigma = drawn, guides, float(sigma)
        self.radius = size if isinstance(size, int) else None
        self.share = size if isinstance(size, float) else SHARE
        words = _radius_words(size) if isinstance(size, float) else size
        self.parameters = {
            "radius": words,
            "sigma": self.sigma,
            "guide": "raw video",
            "guide_size": list(guides.shape[::-1]),
        }

    def labels(self, start: int, stop: int, threads: int) -> NDArray[np.uint8]:
        shares = list(self._shares(start, stop, threads))
        return (np.stack(shares) > 0.5).astype(np.uint8)

    def margins(self, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        for share in self._shares(start, stop, 1):
            yield (2 * share - 1).astype(np.float32)

    def _shares(self, start: int, stop: int, threads: int) -> Iterator[NDArray[np.float64]]:
        """A few raw frames are held at a time, however many there are."""
        boxes = self.drawn.boxes(start, stop, self.guides.shape)
        frames = enumerate(self.guides.read(start, stop))
        with ThreadPoolExecutor(threads) as pool:
            while held := list(islice(frames, 2 * threads)):
                yield from pool.map(lambda one: self._share_of(boxes[one[0]], one[1]), held)

    def _share_of(self, boxes: NDArray[np.float64], guide: NDArray[np.uint8]) -> NDArray[np.float64]:
        shape = self.drawn.shape
        return shares_on_raw(boxes, guide, shape, self.sigma, share=self.share, radius=self.radius)


def _radius_words(share: float) -> str:
    return "box" if share == SHARE else f"box/{share:g}"
