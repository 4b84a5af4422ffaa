"""The windows of a split as positions: where each lies, what it holds, what it may see. Reads no frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmfbench.errors import WindowError
from fmfbench.store.ids import SampleIds, group_by
from fmfbench.windows.currents import CurrentTable
from fmfbench.windows.lines import Lines
from fmfbench.windows.packing import Layout
from fmfbench.windows.plan import Plan, Timeline, near_foreign, plan_current, plan_video
from fmfbench.windows.protocol import WindowProtocol
from fmfbench.windows.tracks import Tracks, build_tracks

if TYPE_CHECKING:
    from fmfbench.store.reader import StoreReader
    from fmfbench.store.recording import Recording

__all__ = ["Arrays", "WindowIndex", "window_places"]

Arrays = Mapping[str, NDArray[Any]]
IntArray = NDArray[np.int64]

_OF_VIDEO = ("video", "video_valid", "mask", "mask_valid")
_OF_CURRENT = ("current", "current_valid")
_PLAN_BLOCK = 4096  # windows planned at once when a whole split is looked at
_BLOCK = 1 << 20  # windows looked up at once
_LARGEST_TABLE = 1 << 20  # windows of a split whose currents are looked up once for all
_TABLE_PAYS = 8  # when one window in so many was asked for

Group = tuple[int, IntArray, IntArray]  # a recording, places of windows of it, their frames


class WindowIndex:
    """Windows 0..n-1 that end at the samples `sample_ids` (n,), in that order.

    What is known of all windows is a few runs of ids; all else is worked out for the windows asked for. The attributes
    below are made as whole arrays when they are first looked at.

    modality: "both", "video" or "current". What is not asked for is neither read nor built.

    Attributes:
        ids: the samples, as runs.
        sample_ids: (n,) int64.
        recording: (n,) the place of each sample's recording in `recordings`.
        frame: (n,) its frame there.
        class_label: (n,) int64.
        mask_valid: (n,) bool, whether each window's recording has pixel labels.
    """

    def __init__(
        self,
        dataset: StoreReader,
        sample_ids: ArrayLike | SampleIds,
        protocol: WindowProtocol,
        context: str,
        modality: str = "both",
    ) -> None:
        self.has_video, self.has_current = modality != "current", modality != "video"
        self.recordings: tuple[Recording, ...] = tuple(dataset.recordings.values())
        self.ids = sample_ids if isinstance(sample_ids, SampleIds) else SampleIds.of(sample_ids)
        self.protocol = protocol
        self.masked = context == "masked"
        self._path = dataset.path
        self._first_ids = dataset.first_ids
        self._lines = Lines(self.recordings, current=self.has_current)
        self._given_labels: IntArray | None = None
        self._asked = 0  # windows whose currents were planned one by one
        self._numbers = self._present()
        if (
            protocol.alignment == "official" and self.has_current
        ):  # what a protocol cannot serve is said at once
            for number in self._numbers:
                _ = self._timeline(number).stamped_seconds

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def sample_ids(self) -> IntArray:
        return self.ids.array()

    @cached_property
    def recording(self) -> IntArray:
        return self._located(self.sample_ids)[0]

    @cached_property
    def frame(self) -> IntArray:
        return self._located(self.sample_ids)[1]

    @cached_property
    def class_label(self) -> IntArray:
        out = np.empty(len(self), np.int64)
        for block in self._blocks():
            out[block] = self.labels_of(block)
        return out

    def relabel(self, labels: IntArray) -> None:
        """Let these be the class labels (n,)."""
        self._given_labels = labels
        vars(self).pop("class_label", None)

    @cached_property
    def mask_valid(self) -> NDArray[np.bool_]:
        out = np.zeros(len(self), bool)
        for block in self._blocks():
            out[block] = self.masked_of(block)
        return out

    def holds(self, ids: IntArray) -> NDArray[np.bool_]:
        """(k,) which of `ids` (k,) are among the samples."""
        if not self.ids.ascending:
            return np.isin(ids, self.sample_ids)
        place = self.ids.below(ids)
        inside = place < len(self)
        inside[inside] = self.ids[place[inside]] == ids[inside]
        return inside

    def labels_of(self, windows: IntArray) -> IntArray:
        """(k,) class labels of `windows` (k,)."""
        if self._given_labels is not None:
            return self._given_labels[windows]
        out = np.empty(len(windows), np.int64)
        for number, places, frames in self.by_recording(windows):
            out[places] = self.recordings[number].class_label[frames]
        return out

    def masked_of(self, windows: IntArray) -> NDArray[np.bool_]:
        """(k,) whether the recordings of `windows` (k,) have pixel labels."""
        out = np.zeros(len(windows), bool)
        for number, places, _ in self.by_recording(windows):
            out[places] = self.recordings[number].masks is not None
        return out

    def by_recording(self, windows: IntArray) -> list[Group]:
        """(recording, places in `windows`, their frames) of each recording among them."""
        recording, frame = self._located(self.ids[windows])
        return [(number, places, frame[places]) for number, places in group_by(recording)]

    def plan_video(self, number: int, frames: IntArray, *, foreign: bool = True) -> Plan:
        return plan_video(self._timeline(number), frames, self.protocol, self.masked, foreign=foreign)

    def plan_current(self, number: int, frames: IntArray, *, foreign: bool = True) -> Plan:
        return plan_current(self._timeline(number), frames, self.protocol, self.masked, foreign=foreign)

    def video_table(self, windows: IntArray) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Frame that each position of `windows` (k,) holds, and whether it is its own, both (k,T)."""
        index = np.empty((len(windows), self.protocol.num_frames), np.int32)
        valid = np.empty(index.shape, bool)
        for start in range(0, len(windows), _PLAN_BLOCK):
            block = windows[start : start + _PLAN_BLOCK]
            for number, places, frames in self.by_recording(block):
                plan = self.plan_video(number, frames, foreign=False)
                index[start + places] = plan.index
                valid[start + places] = plan.valid
        return index, valid

    @cached_property
    def currents(self) -> CurrentTable:
        """Currents of all windows whose recording has tracks for them."""
        table = CurrentTable(self.protocol.num_current, len(self))
        for number, windows, frames in self._spans():
            for own, places in self._by_split(number, frames):
                chosen, at = windows[places], frames[places]
                table.add(chosen, at, self.tracks(number, own), self._lines[number].current)
        table.finish()
        return table

    def tracks(self, number: int, own: int) -> Tracks:
        return build_tracks(self._timeline(number), self.protocol, self.masked, own)

    @property
    def is_small(self) -> bool:
        """Whether a table of the currents of all windows takes little time and memory: 50 bytes and 3 us a window."""
        return len(self) <= _LARGEST_TABLE

    def has_table(self, asked: int = 0) -> bool:
        """Whether currents come from a table of all windows.

        It is made once `asked` windows, with those before them, are many enough to pay for it, and never for a split
        whose table would be large.
        """
        if "currents" in vars(self):
            return True
        if not self.is_small:
            return False
        self._asked += asked
        if self._asked * _TABLE_PAYS < len(self):
            return False
        return self.currents is not None

    def fill_current(self, windows: IntArray, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Write the currents of `windows` (k,) into values (k,Tc,3) and valid (k,Tc)."""
        if not self.has_table(len(windows)):
            self._plan_currents(windows, np.arange(len(windows)), values, valid)
            return
        table = self.currents
        covered = table.start[windows] >= 0
        if covered.all():
            table.gather(windows, values, valid)
            return
        some = np.flatnonzero(covered)
        some_values, some_valid = np.empty_like(values[some]), np.empty_like(valid[some])
        table.gather(windows[some], some_values, some_valid)
        values[some], valid[some] = some_values, some_valid
        self._plan_currents(windows, np.flatnonzero(~covered), values, valid)

    def _plan_currents(
        self, windows: IntArray, rest: IntArray, values: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> None:
        """Currents of windows[rest], each looked up on its own."""
        for number, places, frames in self.by_recording(windows[rest]):
            for start in range(0, len(places), _PLAN_BLOCK):
                at = rest[places[start : start + _PLAN_BLOCK]]
                plan = self.plan_current(number, frames[start : start + _PLAN_BLOCK], foreign=False)
                current = self._lines[number].current
                if (plan.index >= 0).all():
                    values[at] = current[plan.index]
                else:
                    found = np.zeros((*plan.index.shape, 3), np.float32)
                    held = plan.index >= 0
                    found[held] = current[plan.index[held]]
                    values[at] = found
                valid[at] = plan.valid

    @cached_property
    def foreign(self) -> NDArray[np.bool_]:
        """(n,) which windows hold a position of another split."""
        out = np.zeros(len(self), bool)
        for number, windows, frames in self._spans():
            line = self._timeline(number)
            near = near_foreign(line, frames, self.protocol)
            for start in range(0, int(near.sum()), _PLAN_BLOCK):
                block = np.flatnonzero(near)[start : start + _PLAN_BLOCK]
                found = self.plan_video(number, frames[block]).foreign.any(axis=1)
                found |= self.plan_current(number, frames[block]).foreign.any(axis=1)
                out[windows[block]] = found
        return out

    def frame_size(self, windows: IntArray) -> tuple[int, int]:
        """(H, W) of the windows' frames, (0, 0) without video; WindowError when they cannot be stacked.

        No windows have the size of the first recording, so that an empty batch stacks with others.
        """
        if not len(windows) or not self.has_video or self._one_size:
            return self.any_size
        return self._size_of([number for number, _, _ in self.by_recording(windows)])

    @cached_property
    def whole_size(self) -> tuple[int, int]:
        """(H, W) of all windows' frames, (0, 0) without video; WindowError when they cannot be stacked."""
        return self.any_size if not self.has_video or self._one_size else self._size_of(self._numbers)

    def _size_of(self, numbers: Sequence[int]) -> tuple[int, int]:
        sizes = {(self.recordings[k].height, self.recordings[k].width) for k in numbers}
        if len(sizes) > 1:
            raise WindowError(
                f"{self._path}: expected frames of one size in a batch, got "
                f"{', '.join(f'{h}x{w}' for h, w in sorted(sizes))}; "
                "batch each recording on its own, or convert with one --size"
            )
        return sizes.pop()

    @property
    def num_frames(self) -> int:
        """Frames of the recordings that the windows are of."""
        return sum(self.recordings[number].num_frames for number in self._numbers)

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

    def sizes(self) -> Sequence[tuple[tuple[int, int], IntArray]]:
        """Each size of frame (H, W) and the windows that have it."""
        if not self.has_video:
            return [((0, 0), np.arange(len(self)))] if len(self) else []
        if self._one_size:
            return [(self.any_size, np.arange(len(self)))] if len(self) else []
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

    def block_starts(self, block_frames: int, offset: int) -> IntArray:
        """(b,) the first window of each run of windows whose frames lie in one block.

        `offset` later, in one block of so many frames of one recording.
        """
        if not self.ids.ascending:
            number = (self.frame + offset) // block_frames
            changed = (np.diff(number) != 0) | (np.diff(self.recording) != 0)
            return np.r_[0, np.flatnonzero(changed) + 1]
        starts = [np.empty(0, np.int64)]
        for k in self._numbers:
            begins = np.arange(-offset, self.recordings[k].num_frames, block_frames)
            starts.append(self._first_ids[k] + np.maximum(begins, 0))
        # A block without a window begins where the next one does.
        found: IntArray = np.unique(np.r_[0, self.ids.below(np.concatenate(starts))])
        return found[found < max(1, len(self))]

    def _by_split(self, number: int, frames: IntArray) -> list[tuple[int, IntArray]]:
        return group_by(self._timeline(number).split[frames])

    def _spans(self) -> Iterator[Group]:
        """(recording, its windows, their frames) of each recording."""
        if not self.ids.ascending:
            yield from self.by_recording(np.arange(len(self)))
            return
        bounds = self.ids.below(self._first_ids).tolist()
        for number in self._numbers:
            windows = np.arange(bounds[number], bounds[number + 1])
            yield number, windows, self.ids[windows] - self._first_ids[number]

    def _blocks(self) -> Iterator[IntArray]:
        for start in range(0, len(self), _BLOCK):
            yield np.arange(start, min(start + _BLOCK, len(self)))

    def _present(self) -> list[int]:
        """Recordings that there are windows of."""
        if self.ids.ascending:
            return np.flatnonzero(np.diff(self.ids.below(self._first_ids))).tolist()
        return sorted({number for block in self._blocks() for number, _, _ in self.by_recording(block)})

    def _located(self, ids: IntArray) -> tuple[IntArray, IntArray]:
        recording = np.searchsorted(self._first_ids, ids, side="right") - 1
        return recording.astype(np.int64), ids - self._first_ids[recording]

    def _timeline(self, number: int) -> Timeline:
        return self._lines[number].line

    def __getstate__(self) -> dict[str, Any]:
        # Quicker to derive again than to send to another process.
        derived = ("currents", "foreign", "mask_valid", "sample_ids", "recording", "frame", "class_label")
        return {k: v for k, v in self.__dict__.items() if k not in derived}


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
