"""Windows as arrays: frames, currents, validity, labels and ids of a split's samples."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmfbench.errors import WindowError
from fmfbench.windows.plan import Plan, Timeline, plan_current, plan_video
from fmfbench.windows.protocol import CONTEXTS, WindowProtocol

if TYPE_CHECKING:
    from fmfbench.dataset import Dataset, Recording
    from fmfbench.shards import ArrayReader

__all__ = ["Windows"]

Batch = dict[str, NDArray[Any]]

_PLAN_BLOCK = 4096  # windows planned at once when a whole split is looked at
_CHUNK_CACHE = 32  # decoded chunks kept for each array: neighbouring windows share most of theirs


class Windows(Sequence[Batch]):
    """The windows of one split, in order of sample id. Nothing is read before it is asked for.

    `w[i]` is one window, `w.batch(indices)` several stacked:

        video         uint8 (T,H,W,3) RGB, oldest first; upright, transposed (T,W,H,3) where the protocol says so
        current       float32 (Tc,3) A, oldest first, always finite
        video_valid   bool (T,)   False where a position holds another's frame
        current_valid bool (Tc,)
        class_label   int64 ()    0 normal, 1 abnormal, 255 unlabelled
        mask          uint8 (H,W) 0/1, where the recording has pixel labels
        sample_id     int64 ()

    Attributes:
        sample_ids: (n,) int64, sorted.
        left_out: (k,) int64 ids that the context "strict" leaves out.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        protocol: WindowProtocol,
        context: str = "full",
        every: int = 1,
        cache: str | None = None,
    ) -> None:
        if context not in CONTEXTS:
            raise WindowError(f"context {context!r} is not one of {', '.join(CONTEXTS)}")
        if cache not in (None, "memory"):
            raise WindowError(f"cache {cache!r} is not None or 'memory'")
        if not isinstance(every, int) or every < 1:
            raise WindowError(f"wanted every as a whole number of at least 1, found {every!r}")
        self.dataset = dataset
        self.split = split
        self.protocol = protocol
        self.context = context
        self.every = every
        self.cache = cache
        self._recordings = tuple(dataset.recordings.values())
        self._timelines: dict[int, Timeline] = {}
        self._frames: dict[int, _Frames] = {}
        self._masks: dict[int, _Frames] = {}
        ids = dataset.sample_ids(split)
        self.left_out: NDArray[np.int64] = np.empty(0, np.int64)
        if context == "strict":
            foreign = self._foreign(ids)
            self.left_out, ids = ids[foreign], ids[~foreign]
        self.sample_ids = ids[::every]
        self._recording, self._frame = dataset.locate(self.sample_ids)
        for number in np.unique(self._recording).tolist():  # what a protocol cannot serve is said at once
            if protocol.alignment == "official":
                _ = self._timeline(number).stamped_seconds

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, index: Any) -> Any:
        """One window as a dict of arrays."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return {name: array[0] for name, array in self.batch([position]).items()}

    def __iter__(self) -> Iterator[Batch]:
        for i in range(len(self)):
            yield self[i]

    def batch(self, indices: ArrayLike) -> Batch:
        """Windows at `indices` (n,), stacked along a new first axis, in the order asked for."""
        where = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(where) and (where.min() < -len(self) or where.max() >= len(self)):
            raise IndexError(f"windows {where.min()} to {where.max()} of {len(self)}")
        where = np.where(where < 0, where + len(self), where)
        recording, frame = self._recording[where], self._frame[where]
        numbers = np.unique(recording).tolist()
        sizes = {(self._recordings[k].height, self._recordings[k].width) for k in numbers}
        if len(sizes) > 1:
            raise WindowError(
                f"{self.dataset.path}: windows of frames of several sizes "
                f"({', '.join(f'{h}x{w}' for h, w in sorted(sizes))}) cannot be stacked; "
                "batch each recording on its own, or convert with one --size"
            )
        height, width = sizes.pop() if sizes else (0, 0)
        out = self._empty(len(where), height, width, masks=self._all_masked(numbers))
        out["sample_id"][:] = self.sample_ids[where]
        for k in numbers:
            rows = np.flatnonzero(recording == k)
            self._fill(out, rows, k, frame[rows])
        if self.protocol.transposed:
            out["video"] = np.ascontiguousarray(out["video"].swapaxes(2, 3))
            if "mask" in out:
                out["mask"] = np.ascontiguousarray(out["mask"].swapaxes(1, 2))
        return out

    def plan(self, indices: ArrayLike) -> list[tuple[NDArray[np.int64], Plan, Plan]]:
        """Which frames and rows the windows at `indices` hold, recording by recording.

        Returns:
            (positions in `indices`, video plan, current plan) for each recording among them.
        """
        where = np.asarray(indices, dtype=np.int64).reshape(-1)
        recording, frame = self._recording[where], self._frame[where]
        out = []
        for k in np.unique(recording).tolist():
            rows = np.flatnonzero(recording == k)
            out.append((rows, *self._plans(k, frame[rows])))
        return out

    def _fill(self, out: Batch, rows: NDArray[np.int64], number: int, frames: NDArray[np.int64]) -> None:
        recording = self._recordings[number]
        video, current = self._plans(number, frames)
        self._video(number).gather(video.index, out["video"], rows)
        out["video_valid"][rows] = video.valid
        if len(recording.current):
            values = recording.current[np.maximum(current.index, 0)]
            values[current.index < 0] = 0
            out["current"][rows] = values
        else:
            out["current"][rows] = 0
        out["current_valid"][rows] = current.valid
        out["class_label"][rows] = recording.class_label[frames]
        if "mask" in out:
            masks = self._masks.get(number)
            if masks is None and recording.masks is not None:
                masks = self._masks[number] = _Frames(recording.masks, in_memory=self.cache == "memory")
            if masks is not None:
                masks.gather(frames[:, None], out["mask"][:, None], rows)

    def _plans(self, number: int, frames: NDArray[np.int64]) -> tuple[Plan, Plan]:
        line = self._timeline(number)
        masked = self.context == "masked"
        return (
            plan_video(line, frames, self.protocol, masked),
            plan_current(line, frames, self.protocol, masked),
        )

    def _foreign(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        recording, frame = self.dataset.locate(ids)
        out = np.zeros(len(ids), bool)
        for start in range(0, len(ids), _PLAN_BLOCK):
            block = slice(start, start + _PLAN_BLOCK)
            for k in np.unique(recording[block]).tolist():
                rows = start + np.flatnonzero(recording[block] == k)
                video, current = self._plans(k, frame[rows])
                out[rows] = video.foreign.any(axis=1) | current.foreign.any(axis=1)
        return out

    def _timeline(self, number: int) -> Timeline:
        line = self._timelines.get(number)
        if line is None:
            line = self._timelines[number] = timeline(self._recordings[number])
        return line

    def _video(self, number: int) -> _Frames:
        frames = self._frames.get(number)
        if frames is None:
            reader = self._recordings[number].video
            frames = self._frames[number] = _Frames(reader, in_memory=self.cache == "memory")
        return frames

    def _all_masked(self, numbers: list[int]) -> bool:
        return bool(numbers) and all(self._recordings[k].masks is not None for k in numbers)

    def _empty(self, n: int, height: int, width: int, *, masks: bool) -> Batch:
        p = self.protocol
        out: Batch = {
            "video": np.empty((n, p.num_frames, height, width, 3), np.uint8),
            "current": np.empty((n, p.num_current, 3), np.float32),
            "video_valid": np.empty((n, p.num_frames), bool),
            "current_valid": np.empty((n, p.num_current), bool),
            "class_label": np.empty(n, np.int64),
            "sample_id": np.empty(n, np.int64),
        }
        if masks:
            out["mask"] = np.empty((n, height, width), np.uint8)
        return out

    def __repr__(self) -> str:
        return (
            f"Windows({self.split!r}, {len(self)} samples, protocol {self.protocol.name!r}, "
            f"context {self.context!r})"
        )


def timeline(recording: Recording) -> Timeline:
    """What planning needs to know of a recording of a store."""
    return Timeline(
        recording.name,
        recording.frame_time,
        recording.split,
        recording.current_time,
        np.asarray(np.isfinite(recording.current).all(axis=1)),
    )


class _Frames:
    """Frames of one array by index: from memory, or from disk with a few decoded chunks kept."""

    def __init__(self, reader: ArrayReader, *, in_memory: bool) -> None:
        self._reader = reader
        self._all = reader.read() if in_memory else None
        self._chunks: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def gather(self, index: NDArray[np.int64], out: NDArray[Any], rows: NDArray[np.int64]) -> None:
        """out[rows[i], j] = frame index[i, j], zeros where the index is -1."""
        if self._all is not None:
            for i, row in enumerate(rows.tolist()):
                np.take(self._all, np.maximum(index[i], 0), axis=0, out=out[row], mode="clip")
        else:
            size = self._reader.spec.chunk
            number = index // size
            for k in np.unique(number[index >= 0]).tolist():
                at, slot = np.nonzero(number == k)
                out[rows[at], slot] = self._chunk(k)[index[at, slot] - k * size]
        at, slot = np.nonzero(index < 0)
        out[rows[at], slot] = 0

    def _chunk(self, number: int) -> NDArray[Any]:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = self._reader.chunk(number)
            if len(self._chunks) > _CHUNK_CACHE:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(number)
        return chunk

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chunks": OrderedDict()}
