"""What windows hand out: arrays by name that agree with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import WindowError

__all__ = ["WindowBatch"]

# Entries that count the same things along the axis after the batch's: positions in time, or rows of a frame.
_ALIKE = (("video", "video_valid"), ("current", "current_valid"))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WindowBatch(Mapping[str, NDArray[Any]]):
    """One window, or several stacked: a mapping from names to arrays, which is also their attributes.

    What windows of one modality leave out is not in the mapping, and None as an attribute.

    Attributes:
        video: uint8 (B,T,H,W,3) RGB. Without B for one window, as all others.
        current: float32 (B,Tc,3) A.
        video_valid: bool (B,T).
        current_valid: bool (B,Tc).
        class_label: int64 (B,).
        mask: uint8 (B,H,W).
        mask_valid: bool (B,).
        sample_id: int64 (B,).

    Raises:
        WindowError: arrays that do not belong together.
    """

    video: NDArray[np.uint8] | None = None
    current: NDArray[np.float32] | None = None
    video_valid: NDArray[np.bool_] | None = None
    current_valid: NDArray[np.bool_] | None = None
    class_label: NDArray[np.int64]
    mask: NDArray[np.uint8] | None = None
    mask_valid: NDArray[np.bool_] | None = None
    sample_id: NDArray[np.int64]

    def __post_init__(self) -> None:
        lead = self.sample_id.shape
        good = all(array.shape[: len(lead)] == lead for array in self.values())
        for one, other in _ALIKE:
            a, b = getattr(self, one), getattr(self, other)
            good &= (a is None) == (b is None) and (a is None or a.shape[: b.ndim] == b.shape)
        good &= (self.mask is None) == (self.mask_valid is None)
        if self.video is not None and self.mask is not None:
            good &= self.mask.shape[len(lead) :] == self.video.shape[len(lead) + 1 : -1]
        if not good:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in self.items())
            raise WindowError(f"expected arrays of the same windows, got {shapes}")

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = getattr(self, name, None) if name in _NAMES else None
        if array is None:
            raise KeyError(name)
        return array

    def __iter__(self) -> Iterator[str]:
        return (name for name in _NAMES if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.items())
        return f"WindowBatch({parts})"


_NAMES = tuple(field.name for field in fields(WindowBatch))
