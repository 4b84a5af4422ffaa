"""Windows whose frames are in memory: a whole split, or a block of one on its way through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmfbench.windows.frames import load_frames
from fmfbench.windows.index import Arrays, WindowIndex

__all__ = ["LoadedWindows", "loaded_bytes"]

IntArray = NDArray[np.int64]

_BYTES_OF_ROW = 3 * 4 + 1  # of a kept current: three phases, and whether they are there


class LoadedWindows:
    """The windows `windows` (m,) of an index, with the frames and masks that they hold and no others.

    Frames are read once, chunk by chunk; a frame that several windows share is held once.

    Attributes:
        video: (F,H,W,3) uint8, transposed where the protocol says so.
        video_index: (m,T) int32, entries of `video`.
        video_valid: (m,T) bool.
        mask: (M,H,W) uint8.
        mask_index: (m,) int64, entries of `mask`, -1 where the recording has no pixel labels.
    """

    def __init__(
        self, index: WindowIndex, windows: IntArray, threads: int = 0, *, keep_bytes: int | None = None
    ) -> None:
        """Load what the windows hold.

        keep_bytes: of currents that are planned once and kept, at most; without a bound by default, and 0 where the
        windows are on their way through.
        """
        self._threads = threads
        self.index = index
        self.windows = windows
        self.size = index.frame_size(windows)
        if index.has_video:
            self.video_index, self.video_valid = index.video_table(windows)
            self._load_video()
            self._load_masks()
        self._sample_id, self._class_label = index.ids[windows], index.labels_of(windows)
        self._keeps_currents = index.has_current and (keep_bytes != 0 or index.has_table(len(windows)))
        if self._keeps_currents:
            self._load_trackless(keep_bytes)

    def _load_video(self) -> None:
        """Read the frames that `video_index` names, and let it name their places."""
        transposed = self.index.protocol.transposed
        wanted = []
        total = 0
        for number, places, _ in self.index.by_recording(self.windows):
            held = np.zeros(self.index.recordings[number].num_frames, bool)
            held[self.video_index[places]] = True
            slot = total - 1 + np.cumsum(held, dtype=np.int32)
            self.video_index[places] = slot[self.video_index[places]]
            frames = np.flatnonzero(held)
            wanted.append((number, frames, total))
            total += len(frames)
        shape = self.size[::-1] if transposed else self.size
        self.video = np.empty((total, *shape, 3), np.uint8)
        for number, frames, first in wanted:
            part = self.video[first : first + len(frames)]
            load_frames(
                self.index.recordings[number].video,
                frames,
                part,
                transposed=transposed,
                threads=self._threads,
            )

    def _load_masks(self) -> None:
        index, transposed = self.index, self.index.protocol.transposed
        labelled = [
            (reader, places, frames)
            for number, places, frames in index.by_recording(self.windows)
            if (reader := index.recordings[number].masks) is not None
        ]
        shape = self.size[::-1] if transposed else self.size
        self.mask = np.empty((sum(len(places) for _, places, _ in labelled), *shape), np.uint8)
        self.mask_index = np.full(len(self.windows), -1, np.int64)
        first = 0
        for reader, places, frames in labelled:
            order = np.argsort(frames, kind="stable")
            part = slice(first, first + len(order))
            self.mask_index[places[order]] = np.arange(part.start, part.stop)
            load_frames(reader, frames[order], self.mask[part], transposed=transposed, threads=self._threads)
            first = part.stop

    def _load_trackless(self, keep_bytes: int | None) -> None:
        """Plan the currents of windows without a track once, as planning costs more than keeping them.

        None are kept where they would take more than `keep_bytes`.
        """
        length = self.index.protocol.num_current
        rest = np.flatnonzero(self.index.currents.start[self.windows] < 0)
        if keep_bytes is not None and len(rest) * length * _BYTES_OF_ROW > keep_bytes:
            self._keeps_currents = False
            return
        self.own_current = np.full(len(self.windows), -1, np.int64)
        self.own_current[rest] = np.arange(len(rest))
        self.own_values = np.empty((len(rest), length, 3), np.float32)
        self.own_valid = np.empty((len(rest), length), bool)
        for start in range(0, len(rest), 1024):
            part = slice(start, start + 1024)
            self.index.fill_current(self.windows[rest[part]], self.own_values[part], self.own_valid[part])

    def fill(self, rows: IntArray, out: Arrays) -> None:
        """Write the windows `windows[rows]` into arrays of len(rows) entries."""
        windows = self.windows[rows]
        if self.index.has_video:
            # "clip" is what writes straight into `out`; all indices are good.
            flat = out["video"].reshape(-1, *self.video.shape[1:])
            np.take(self.video, self.video_index[rows].reshape(-1), axis=0, out=flat, mode="clip")
            np.take(self.video_valid, rows, axis=0, out=out["video_valid"], mode="clip")
            self._fill_mask(rows, out["mask"], out["mask_valid"])
        if self.index.has_current:
            self._fill_current(rows, windows, out["current"], out["current_valid"])
        out["class_label"][:] = self._class_label[rows]
        out["sample_id"][:] = self._sample_id[rows]

    def _fill_mask(self, rows: IntArray, mask: NDArray[np.uint8], valid: NDArray[np.bool_]) -> None:
        """Masks of the windows whose recording has pixel labels, zeros of the others."""
        entry = self.mask_index[rows]
        valid[:] = entry >= 0
        if len(self.mask):
            np.take(self.mask, entry, axis=0, out=mask, mode="clip")
        if not valid.all():
            mask[~valid] = 0

    def _fill_current(
        self, rows: IntArray, windows: IntArray, values: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        if not self._keeps_currents:
            self.index.fill_current(windows, values, valid)
            return
        own = self.own_current[rows]
        if (own < 0).all():
            self.index.currents.gather(windows, values, valid)
            return
        at = np.flatnonzero(own >= 0)
        values[at], valid[at] = self.own_values[own[at]], self.own_valid[own[at]]
        rest = np.flatnonzero(own < 0)
        rest_values, rest_valid = np.empty_like(values[rest]), np.empty_like(valid[rest])
        self.index.currents.gather(windows[rest], rest_values, rest_valid)
        values[rest], valid[rest] = rest_values, rest_valid


def loaded_bytes(index: WindowIndex, frames: IntArray, windows: IntArray, size: tuple[int, int]) -> IntArray:
    """Upper bounds of what loaded windows take without currents that they keep (see `keep_bytes`).

    Args:
        index: the windows.
        frames: (b,) frames of each of b loads.
        windows: (b,) windows of each.
        size: (H, W).
    """
    p = index.protocol
    pixels = size[0] * size[1]
    each = pixels + 5 * p.num_frames + 32
    return frames * pixels * 3 + windows * each
