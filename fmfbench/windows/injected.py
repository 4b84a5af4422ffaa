"""Windows with outliers put among them: clips and currents of other samples, read where a sample's own would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmfbench.errors import WindowError
from fmfbench.windows.index import Arrays, WindowIndex
from fmfbench.windows.protocol import WindowProtocol
from fmfbench.windows.reader import Windows

if TYPE_CHECKING:
    from fmfbench.exchange.outliers import Outliers
    from fmfbench.store.reader import StoreReader

__all__ = ["InjectedWindows"]

_VIDEO, _CURRENT = 1, 2  # streams of the seeded draws


class InjectedWindows(Windows):
    """The windows of an outlier file's samples, as any model predicts on them.

    Like other windows, but `class_label` is 0 for a normal sample and 1 for an outlier of whatever kind, no mask is
    valid, and nothing is kept in memory. What is shown of another sample is exactly what its own window holds.

    Raises:
        WindowError: outliers of other data, or ids that the data do not have.
    """

    def __init__(
        self, dataset: StoreReader, outliers: Outliers, protocol: WindowProtocol, context: str = "full"
    ) -> None:
        split = str(outliers.meta.get("split", "all"))
        dataset, _ = dataset.divided(split)
        if outliers.fingerprint != dataset.fingerprint:
            raise WindowError(
                f"{dataset.path}: expected outliers of these data, got those of data with fingerprint "
                f"{outliers.fingerprint[:12]}; make them from this store"
            )
        highest = max(int(ids.max()) for ids in (outliers.sample_id, outliers.video_id, outliers.current_id))
        if highest >= dataset.num_samples:
            raise WindowError(
                f"{dataset.path}: expected outliers of its {dataset.num_samples} samples, got sample {highest}"
            )
        super().__init__(dataset, split, protocol, context, sample_ids=outliers.sample_id)
        self.outliers = outliers
        self.samples.relabel((outliers.kind > 0).astype(np.int64))
        self._shown = WindowIndex(dataset, outliers.video_id, protocol, context)
        self._heard = WindowIndex(dataset, outliers.current_id, protocol, context)

    def select(self, ids: ArrayLike) -> InjectedWindows:
        """Some of the samples, each shown as it is among all."""
        wanted = self._chosen(ids)
        part = self.outliers.take(np.searchsorted(self.sample_ids, np.sort(wanted)))
        return InjectedWindows(self.dataset, part, self.protocol, self.context)

    def _read(self, where: NDArray[np.int64], out: Arrays) -> None:
        out["sample_id"][:] = self.samples.ids[where]
        out["class_label"][:] = self.samples.labels_of(where)
        out["mask"][...] = 0  # a mask of what is shown would say nothing of an outlier
        out["mask_valid"][:] = False
        self._heard.fill_current(where, out["current"], out["current_valid"])
        video = out["video"].swapaxes(2, 3) if self.protocol.transposed else out["video"]
        for number, rows, frames in self._shown.by_recording(where):
            plan = self._shown.plan_video(number, frames, foreign=False)
            out["video_valid"][rows] = plan.valid
            self._gather(self._shown.recordings[number].video, plan.index, video, rows)
        for row in np.flatnonzero(self.outliers.video_shuffled[where]).tolist():
            _shuffle_pixels(video[row], self._rng(where[row], _VIDEO))
        for row in np.flatnonzero(self.outliers.current_shuffled[where]).tolist():
            order = self._rng(where[row], _CURRENT).permutation(out["current"].shape[1])
            out["current"][row] = out["current"][row, order]

    def _rng(self, window: Any, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.outliers.seed, stream, int(self.sample_ids[window])])


def _shuffle_pixels(video: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Pixels of (T,H,W,3) change places, in all frames alike: colours and movement stay, what is seen goes."""
    frames, height, width, channels = video.shape
    order = rng.permutation(height * width)
    video[...] = video.reshape(frames, height * width, channels)[:, order].reshape(video.shape)
