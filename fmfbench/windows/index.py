"""The windows of a split as positions: where each lies, what it holds, what it may see. Reads no frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmfbench.errors import WindowError
from fmfbench.windows.currents import CurrentTable
from fmfbench.windows.packing import Layout
from fmfbench.windows.plan import Plan, Timeline, plan_current, plan_video
from fmfbench.windows.protocol import WindowProtocol
from fmfbench.windows.tracks import Tracks, build_tracks

if TYPE_CHECKING:
    from fmfbench.store.reader import Recording, StoreReader

__all__ = ["Arrays", "WindowIndex", "window_places"]

Arrays = Mapping[str, NDArray[Any]]
IntArray = NDArray[np.int64]

_OF_VIDEO = ("video", "video_valid", "mask", "mask_valid")
_OF_CURRENT = ("current", "current_valid")
_PLAN_BLOCK = 4096  # windows planned at once when a whole split is looked at


class WindowIndex:
    """Windows 0..n-1 that end at the samples `sample_ids` (n,), in that order.

    modality: "both", "video" or "current". What is not asked for is neither read nor built.

    Attributes:
        recording: (n,) the place of each sample's recording in `recordings`.
        frame: (n,) its frame there.
        class_label: (n,) int64.
    """

    def __init__(
        self,
        dataset: StoreReader,
        sample_ids: IntArray,
        protocol: WindowProtocol,
        context: str,
        modality: str = "both",
    ) -> None:
        self.has_video, self.has_current = modality != "current", modality != "video"
        self.recordings: tuple[Recording, ...] = tuple(dataset.recordings.values())
        self.sample_ids = sample_ids
        self.protocol = protocol
        self.masked = context == "masked"
        self.recording, self.frame = dataset.locate(sample_ids)
        self.class_label = dataset.class_labels(sample_ids).astype(np.int64)
        self._path = dataset.path
        self._timelines: dict[int, Timeline] = {}
        self._numbers = np.unique(self.recording).tolist()
        if (
            protocol.alignment == "official" and self.has_current
        ):  # what a protocol cannot serve is said at once
            for number in self._numbers:
                _ = self._timeline(number).stamped_seconds

    def __len__(self) -> int:
        return len(self.sample_ids)

    def by_recording(self, windows: IntArray) -> list[tuple[int, IntArray]]:
        """(recording, places in `windows`) of each recording among them."""
        recording = self.recording[windows]
        if len(self._numbers) == 1 and len(windows):
            return [(self._numbers[0], np.arange(len(windows)))]
        return [(k, np.flatnonzero(recording == k)) for k in np.unique(recording).tolist()]

    def plan_video(self, number: int, frames: IntArray) -> Plan:
        return plan_video(self._timeline(number), frames, self.protocol, self.masked)

    def plan_current(self, number: int, frames: IntArray) -> Plan:
        return plan_current(self._timeline(number), frames, self.protocol, self.masked)

    def video_table(self, windows: IntArray) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Frame that each position of `windows` (k,) holds, and whether it is its own, both (k,T)."""
        index = np.empty((len(windows), self.protocol.num_frames), np.int32)
        valid = np.empty(index.shape, bool)
        for start in range(0, len(windows), _PLAN_BLOCK):
            block = windows[start : start + _PLAN_BLOCK]
            for number, places in self.by_recording(block):
                plan = self.plan_video(number, self.frame[block[places]])
                index[start + places] = plan.index
                valid[start + places] = plan.valid
        return index, valid

    @cached_property
    def currents(self) -> CurrentTable:
        """Currents of all windows whose recording has tracks for them."""
        table = CurrentTable(self.protocol.num_current, len(self))
        for number in self._numbers:
            windows = np.flatnonzero(self.recording == number)
            for own, places in self._by_split(number, windows):
                chosen = windows[places]
                table.add(chosen, self.frame[chosen], self.tracks(number, own), self.recordings[number])
        table.finish()
        return table

    def tracks(self, number: int, own: int) -> Tracks:
        return build_tracks(self._timeline(number), self.protocol, self.masked, own)

    def fill_current(self, windows: IntArray, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Write the currents of `windows` (k,) into values (k,Tc,3) and valid (k,Tc)."""
        table = self.currents
        covered = table.start[windows] >= 0
        if covered.all():
            table.gather(windows, values, valid)
            return
        some = np.flatnonzero(covered)
        some_values, some_valid = np.empty_like(values[some]), np.empty_like(valid[some])
        table.gather(windows[some], some_values, some_valid)
        values[some], valid[some] = some_values, some_valid
        rest = np.flatnonzero(~covered)
        for number, places in self.by_recording(windows[rest]):
            at = rest[places]
            plan = self.plan_current(number, self.frame[windows[at]])
            current = self.recordings[number].current
            found = np.zeros((*plan.index.shape, 3), np.float32)
            held = plan.index >= 0
            found[held] = current[plan.index[held]]
            values[at], valid[at] = found, plan.valid

    @cached_property
    def foreign(self) -> NDArray[np.bool_]:
        """(n,) which windows hold a position of another split."""
        out = np.zeros(len(self), bool)
        for number in self._numbers:
            windows = np.flatnonzero(self.recording == number)
            for own, places in self._by_split(number, windows):
                chosen = windows[places]
                tracks = self.tracks(number, own)
                start = tracks.start[self.frame[chosen]]
                out[chosen[start >= 0]] = tracks.any_foreign(start[start >= 0])
                self._judge(number, chosen, start < 0, out)
        return out

    def _judge(
        self, number: int, windows: IntArray, trackless: NDArray[np.bool_], out: NDArray[np.bool_]
    ) -> None:
        """What tracks do not tell: frames, and currents of windows without a track."""
        for first in range(0, len(windows), _PLAN_BLOCK):
            block = windows[first : first + _PLAN_BLOCK]
            out[block] |= self.plan_video(number, self.frame[block]).foreign.any(axis=1)
            rest = block[trackless[first : first + _PLAN_BLOCK]]
            if len(rest):
                out[rest] |= self.plan_current(number, self.frame[rest]).foreign.any(axis=1)

    def frame_size(self, windows: IntArray) -> tuple[int, int]:
        """(H, W) of the windows' frames, (0, 0) without video; WindowError when they cannot be stacked.

        No windows have the size of the first recording, so that an empty batch stacks with others.
        """
        if not len(windows) or not self.has_video or self._one_size:
            return self.any_size
        numbers = self._numbers if len(self._numbers) < 2 else np.unique(self.recording[windows]).tolist()
        sizes = {(self.recordings[k].height, self.recordings[k].width) for k in numbers}
        if len(sizes) > 1:
            raise WindowError(
                f"{self._path}: windows of frames of several sizes "
                f"({', '.join(f'{h}x{w}' for h, w in sorted(sizes))}) cannot be stacked; "
                "batch each recording on its own, or convert with one --size"
            )
        return sizes.pop()

    @cached_property
    def _one_size(self) -> bool:
        """Whether all frames have one size, so that no batch needs a look."""
        return len({(self.recordings[k].height, self.recordings[k].width) for k in self._numbers}) < 2

    @property
    def any_size(self) -> tuple[int, int]:
        """(H, W) of the frames of the first recording, (0, 0) without video."""
        if not self.has_video:
            return 0, 0
        first = self._numbers[0] if self._numbers else 0
        return next(((r.height, r.width) for r in self.recordings[first : first + 1]), (0, 0))

    @cached_property
    def mask_valid(self) -> NDArray[np.bool_]:
        """(n,) whether each window's recording has pixel labels."""
        labelled = np.array(
            [k in self._numbers and r.masks is not None for k, r in enumerate(self.recordings)], bool
        )
        return labelled[self.recording]

    def sizes(self) -> Sequence[tuple[tuple[int, int], IntArray]]:
        """Each size of frame (H, W) and the windows that have it."""
        if not self.has_video:
            return [((0, 0), np.arange(len(self)))] if len(self) else []
        size = np.array([(r.height, r.width) for r in self.recordings]).reshape(-1, 2)[self.recording]
        found = np.unique(size, axis=0).tolist()
        return [((h, w), np.flatnonzero((size == (h, w)).all(axis=1))) for h, w in found]

    def layout(self, count: int, size: tuple[int, int]) -> Layout:
        """The arrays of `count` windows of frames of `size` (H, W)."""
        p = self.protocol
        shape = size[::-1] if p.transposed else size
        whole: Layout = {
            "video": ((count, p.num_frames, *shape, 3), "uint8"),
            "current": ((count, p.num_current, 3), "float32"),
            "video_valid": ((count, p.num_frames), "bool"),
            "current_valid": ((count, p.num_current), "bool"),
            "class_label": ((count,), "int64"),
            "mask": ((count, *shape), "uint8"),
            "mask_valid": ((count,), "bool"),
            "sample_id": ((count,), "int64"),
        }
        left_out = (() if self.has_video else _OF_VIDEO) + (() if self.has_current else _OF_CURRENT)
        return {name: entry for name, entry in whole.items() if name not in left_out}

    def layout_of(self, windows: IntArray) -> Layout:
        """The arrays of a batch of `windows` (k,); WindowError when their frames cannot be stacked."""
        return self.layout(len(windows), self.frame_size(windows))

    def _by_split(self, number: int, windows: IntArray) -> list[tuple[int, IntArray]]:
        split = self.recordings[number].split[self.frame[windows]]
        return [(own, np.flatnonzero(split == own)) for own in np.unique(split).tolist()]

    def _timeline(self, number: int) -> Timeline:
        line = self._timelines.get(number)
        if line is None:
            line = timeline(self.recordings[number], current=self.has_current)
            self._timelines[number] = line
        return line

    def __getstate__(self) -> dict[str, Any]:
        # Quicker to derive again than to send to another process.
        return {k: v for k, v in self.__dict__.items() if k not in ("currents", "foreign", "mask_valid")} | {
            "_timelines": {}
        }


def window_places(indices: ArrayLike, count: int) -> IntArray:
    """Places 0..count-1 that `indices` name, as numpy would: negative ones from the end, or `count` booleans.

    Raises:
        IndexError: floats and other types, booleans of another number, a place that is not there.
    """
    found = np.asarray(indices)
    if found.dtype == np.bool_:
        if found.shape != (count,):
            raise IndexError(
                f"expected {count} booleans, one for each window, got {found.size} of shape {found.shape}"
            )
        return np.flatnonzero(found)
    where = found.reshape(-1)
    if not where.size:
        return np.empty(0, np.int64)
    if where.dtype.kind not in "iu":
        raise IndexError(f"expected windows as whole numbers or booleans, got {where.dtype}: {where[0]!r}")
    if where.min() < -count or where.max() >= count:
        raise IndexError(f"expected windows {-count} to {count - 1}, got {where.min()} to {where.max()}")
    where = where.astype(np.int64, copy=False)
    return np.where(where < 0, where + count, where)


def timeline(recording: Recording, *, current: bool = True) -> Timeline:
    """What planning needs to know of a recording of a store; without `current` as if it had none."""
    if not current:
        none = np.empty(0, np.int64)
        return Timeline(recording.name, recording.frame_time, recording.split, none, none.astype(bool))
    return Timeline(
        recording.name,
        recording.frame_time,
        recording.split,
        recording.current_time,
        np.asarray(np.isfinite(recording.current).all(axis=1)),
    )
