"""A split's windows on a torch device, gathered there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmfbench.windows.index import window_places
from fmfbench.windows.loaded import LoadedWindows
from fmfbench.windows.reader import Windows

__all__ = ["DeviceWindows"]

IntArray = NDArray[np.int64]
Tensors = dict[str, torch.Tensor]


class DeviceWindows:
    """A split's windows on a torch device: frames as uint8, each once, and gathered there.

    While it is made the host holds the same bytes. `batch` equals the numpy side's bytes.
    """

    def __init__(self, windows: Windows, device: str | torch.device) -> None:
        self.device = torch.device(device)
        index = windows.samples
        loaded = LoadedWindows(index, np.arange(len(windows)), windows.threads)
        self._has_video, self._has_current = index.has_video, index.has_current
        self._class_label = self._put(index.class_label)
        self._sample_id = self._put(index.sample_ids)
        if self._has_video:
            self._put_video(loaded)
        if self._has_current:
            self._put_currents(loaded)

    def _put_video(self, loaded: LoadedWindows) -> None:
        """Each frame once, and each mask."""
        self._frame_shape = loaded.video.shape[1:]
        self._mask_shape = loaded.mask.shape[1:]
        self._video = self._rows(loaded.video)
        # The last entry is what windows without pixel labels take.
        self._mask = self._rows(np.concatenate([loaded.mask, np.zeros((1, *self._mask_shape), np.uint8)]))
        self._video_index = self._put(loaded.video_index)
        self._video_valid = self._put(loaded.video_valid)
        self._mask_valid = self._put(loaded.mask_index >= 0)
        self._mask_index = self._put(np.where(loaded.mask_index < 0, len(loaded.mask), loaded.mask_index))

    def _put_currents(self, loaded: LoadedWindows) -> None:
        """Every window a slice of one table: tracks, then the windows that have none, then a row of zeros."""
        table = loaded.index.currents
        length = table.length
        own = np.flatnonzero(loaded.own_current >= 0)
        start, first, last = table.start.copy(), table.first.copy(), table.last.copy()
        start[own] = len(table.valid) + loaded.own_current[own] * length
        first[own], last[own] = start[own], start[own] + length - 1
        zeros = len(table.valid) + loaded.own_valid.size
        none = first > last
        first[none] = last[none] = zeros
        values = [table.values, loaded.own_values.reshape(-1, 3), np.zeros((1, 3), np.float32)]
        self._values = self._put(np.concatenate(values))
        self._valid = self._put(np.concatenate([table.valid, loaded.own_valid.reshape(-1)]))
        self._start, self._first, self._last = self._put(start), self._put(first), self._put(last)
        self._steps = torch.arange(length, device=self.device)

    def __len__(self) -> int:
        return len(self._sample_id)

    def batch(self, indices: Sequence[int] | IntArray) -> Tensors:
        """The stacked tensors of windows 0..n-1, `video` (B,3,T,H,W)."""
        host = window_places(indices, len(self))
        if np.any(np.asarray(indices) < 0):
            raise IndexError("expected windows counted from 0 on a device, got negative ones")
        at = torch.from_numpy(host).to(self.device, non_blocking=True)
        label = {"class_label": self._class_label.index_select(0, at)}
        out = (self._videos(at) if self._has_video else {}) | label
        out |= self._currents(at) if self._has_current else {}
        return out | {"sample_id": self._sample_id.index_select(0, at)}

    def _videos(self, at: torch.Tensor) -> Tensors:
        frames = self._video_index.index_select(0, at)
        video = self._video.index_select(0, frames.reshape(-1)).view(torch.uint8)
        mask = self._mask.index_select(0, self._mask_index.index_select(0, at)).view(torch.uint8)
        return {
            "video": video.view(*frames.shape, *self._frame_shape).permute(0, 4, 1, 2, 3),
            "video_valid": self._video_valid.index_select(0, at),
            "mask": mask.view(len(at), *self._mask_shape),
            "mask_valid": self._mask_valid.index_select(0, at),
        }

    def _currents(self, at: torch.Tensor) -> Tensors:
        position = self._start.index_select(0, at)[:, None] + self._steps
        first, last = self._first.index_select(0, at)[:, None], self._last.index_select(0, at)[:, None]
        held = position.clamp(first, last)
        return {
            "current": self._values.index_select(0, held.reshape(-1)).view(*held.shape, 3),
            "current_valid": self._valid.index_select(0, position.reshape(-1)).view(position.shape),
        }

    def _put(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _rows(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """(F, bytes of a frame), eight bytes to an element where they divide, so that a device copies wide."""
        rows = torch.from_numpy(frames.reshape(len(frames), int(np.prod(frames.shape[1:]))))
        return (rows.view(torch.int64) if rows.shape[1] % 8 == 0 and rows.shape[1] else rows).to(self.device)
