"""The reference for loaders: what one writes first, a map-style Dataset over arrays in memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fmfbench.windows.reader import Windows


class PlainWindows(Dataset[dict[str, torch.Tensor]]):
    """One window an item: a float32 clip (3,T,H,W), its currents, mask and label, for the default collate.

    Frames lie channels first, as the .mat files have them, so that a clip is not transposed pixel by pixel.
    """

    def __init__(self, windows: Windows) -> None:
        recordings = tuple(windows.dataset.recordings.values())
        self.video = [np.ascontiguousarray(r.read_video().transpose(0, 3, 1, 2)) for r in recordings]
        self.mask = [r.read_masks() for r in recordings]
        self.label = [r.class_label for r in recordings]
        self.current = [np.nan_to_num(r.current) for r in recordings]
        self.recording, self.frame = windows.dataset.locate(windows.sample_ids)
        self.row = [np.searchsorted(r.current_time, r.frame_time, side="right") for r in recordings]
        p = windows.protocol
        self.lags = p.stride * np.arange(p.num_frames - 1, -1, -1)
        self.num_current = p.num_current

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        k, frame = self.recording[i], self.frame[i]
        clip = self.video[k][np.maximum(frame - self.lags, 0)]
        stop = max(int(self.row[k][frame]), self.num_current)
        return {
            "video": torch.from_numpy(clip).transpose(0, 1).float().contiguous(),
            "current": torch.from_numpy(self.current[k][stop - self.num_current : stop]),
            "mask": torch.from_numpy(self.mask[k][frame]),
            "class_label": torch.tensor(int(self.label[k][frame])),
        }


def gather_plainly(
    video: NDArray[np.uint8],
    current: NDArray[np.float32],
    mask: NDArray[np.uint8],
    frames: NDArray[np.int64],
    rows: NDArray[np.int64],
    masks: NDArray[np.int64],
    out: dict[str, NDArray],
) -> None:
    """The reference for windows in memory: the same bytes from arrays into a preallocated batch, no more."""
    np.take(video, frames.reshape(-1), axis=0, out=out["video"].reshape(-1, *video.shape[1:]), mode="clip")
    length = out["current"].shape[1]
    for i, row in enumerate(rows.tolist()):
        out["current"][i] = current[row : row + length]
    np.take(mask, masks, axis=0, out=out["mask"], mode="clip")
