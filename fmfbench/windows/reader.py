"""Windows as arrays: frames, currents, validity, labels and ids of a split's samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmfbench.errors import StoreError, WindowError
from fmfbench.files.html import html_table
from fmfbench.store.ids import SampleIds
from fmfbench.store.shards import ArrayReader
from fmfbench.windows.batch import WindowBatch
from fmfbench.windows.division import reach_seconds
from fmfbench.windows.frames import ChunkCache, KeptChunks
from fmfbench.windows.index import Arrays, WindowIndex, window_places
from fmfbench.windows.loaded import LoadedWindows
from fmfbench.windows.ordered import default_threads
from fmfbench.windows.packing import Layout, allocate
from fmfbench.windows.plan import Plan
from fmfbench.windows.protocol import CONTEXTS, WindowProtocol

if TYPE_CHECKING:
    from fmfbench.store.reader import StoreReader

__all__ = ["Windows", "strict_ids"]

CACHES = (None, "memory", "device")
MODALITIES = ("both", "video", "current")


def strict_ids(data: StoreReader, split: str, protocol: WindowProtocol) -> NDArray[np.int64]:
    """Ids of the samples of a split whose windows hold nothing of other splits."""
    return Windows(data, split, protocol, "strict").sample_ids


class Windows(Sequence[WindowBatch]):
    """The windows of one split, in order of sample id. Nothing is read before it is asked for.

    `w[i]` is one window, `w.batch(indices)` several stacked, as mappings (`WindowBatch`) of

        video         uint8 (T,H,W,3) RGB, oldest first; upright, transposed (T,W,H,3) where the protocol says so
        current       float32 (Tc,3) A, oldest first, always finite
        video_valid   bool (T,)   False where a position holds another's frame
        current_valid bool (Tc,)
        class_label   int64 ()    0 normal, 1 abnormal, 255 unlabelled
        mask          uint8 (H,W) 0/1; zero where the recording has no pixel labels
        mask_valid    bool ()      whether it has
        sample_id     int64 ()

    With cache "memory" the first window read loads the frames that the split's windows hold, each once, and the
    masks of its samples: H*W*3 bytes a frame and H*W a sample, no recording as a whole. With "device" that is done on a
    torch device by `fmfbench.torch`; here such windows are read from disk.

    The modality "current" leaves out video, video_valid, mask and mask_valid, "video" leaves out current and
    current_valid; what is left out is neither read nor built. The samples are the same for all: of "strict" windows
    the protocol as a whole decides which they are.

    Attributes:
        sample_ids: (n,) int64, sorted.
        left_out: (k,) int64 ids that the context "strict" leaves out.
        threads: that decode chunks beside this one when a split is loaded, and fetch them of a store behind a URL; the
            bytes are the same.
    """

    def __init__(
        self,
        dataset: StoreReader,
        split: str,
        protocol: WindowProtocol,
        context: str = "full",
        every: int = 1,
        cache: str | None = None,
        modality: str = "both",
        *,
        sample_ids: NDArray[np.int64] | SampleIds | None = None,
    ) -> None:
        if modality not in MODALITIES:
            raise WindowError(f"modality: expected one of {', '.join(MODALITIES)}, got {modality!r}")
        if context not in CONTEXTS:
            raise WindowError(f"context: expected one of {', '.join(CONTEXTS)}, got {context!r}")
        if cache not in CACHES:
            raise WindowError(f"cache: expected None, 'memory' or 'device', got {cache!r}")
        if not isinstance(every, int) or every < 1:
            raise WindowError(f"expected every as a whole number of at least 1, got {every!r}")
        self.split = split
        dataset, part = dataset.divided(split)
        self.dataset = dataset
        self.protocol = protocol
        self.context = context
        self.every = every
        self.cache = cache
        self.threads = default_threads()
        self.modality = modality
        self.left_out: NDArray[np.int64] = np.empty(0, np.int64)
        if sample_ids is None:
            ids = dataset.sample_set(part, guard_seconds=reach_seconds(protocol))
            if context == "strict":
                foreign = WindowIndex(dataset, ids, protocol, context).foreign
                self.left_out = ids[np.flatnonzero(foreign)]
                ids = SampleIds.of(ids[np.flatnonzero(~foreign)])
            sample_ids = ids.every(every)
        self.samples = WindowIndex(dataset, sample_ids, protocol, context, modality)
        self._chunks = KeptChunks()
        self._loaded: list[LoadedWindows] = []

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def sample_ids(self) -> NDArray[np.int64]:
        return self.samples.sample_ids

    def __getitem__(self, index: Any) -> Any:
        """One window as a dict of arrays."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not isinstance(index, (int, np.integer)) or isinstance(index, bool):
            raise IndexError(
                f"expected a window as a whole number or a slice, got {index!r}; several: .batch"
            )
        return WindowBatch(**{name: array[0] for name, array in self.batch([int(index)]).items()})

    def __iter__(self) -> Iterator[WindowBatch]:
        for i in range(len(self)):
            yield self[i]

    def select(self, ids: ArrayLike) -> Windows:
        """The windows of some of these samples, in the order of `ids`, with caches of their own.

        Args:
            ids: (k,) sample ids, or a boolean for each window.

        Raises:
            StoreError: an id that is none of these samples.

        Example:
            >>> windows = fmfbench.open_dataset(store).windows("train", "short")
            >>> abnormal = windows.select(windows.samples.class_label == 1)
            >>> set(abnormal.samples.class_label.tolist())
            {1}
        """
        wanted = self._chosen(ids)
        part = Windows(
            self.dataset,
            self.split,
            self.protocol,
            self.context,
            self.every,
            self.cache,
            self.modality,
            sample_ids=wanted,
        )
        part.left_out, part.threads = self.left_out, self.threads
        return part

    def _chosen(self, ids: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(ids)
        if wanted.dtype == np.bool_:
            return self.samples.ids[window_places(wanted, len(self))]
        if wanted.size and wanted.dtype.kind not in "iu":
            raise StoreError(f"expected sample ids as whole numbers, got {wanted.dtype}")
        wanted = wanted.reshape(-1).astype(np.int64)
        strange = wanted[~self.samples.holds(wanted)]
        if len(strange):
            raise StoreError(
                f"expected {len(wanted)} samples of split {self.split!r}, got some that are not in it: "
                f"{', '.join(map(str, strange[:5].tolist()))}{', ...' if len(strange) > 5 else ''}"
            )
        return wanted

    def batch(self, indices: ArrayLike, out: Arrays | None = None) -> WindowBatch:
        """Windows at `indices` (n,), stacked along a new first axis, in the order asked for.

        Args:
            indices: (n,) places in `sample_ids`, negative ones from the end, or a boolean for each window.
            out: an earlier batch of n windows, whose arrays are then written anew and returned.
        """
        where = window_places(indices, len(self))
        layout = self.samples.layout_of(where)
        if out is None:
            out = WindowBatch(**allocate(layout))
        else:
            _check_reused(out, layout)
        self.fill(where, out)
        return out  # type: ignore[return-value]  # what is given comes back, whatever mapping it is

    def fill(self, where: NDArray[np.int64], out: Arrays) -> None:
        """Write the windows at places `where` (n,) into arrays of n windows; nothing is checked."""
        if self.cache == "memory" and len(where):
            loaded, rows = self._find(where)
            loaded.fill(rows, out)
        else:
            self._read(where, out)

    def load(self) -> None:
        """Make now what forked processes share: the "memory" cache, and the currents of a split that is not large."""
        if self.samples.has_current and (self.cache is not None or self.samples.is_small):
            _ = self.samples.currents
        if self.cache == "memory" and not self._loaded:
            sizes = self.samples.sizes()
            self._loaded = [LoadedWindows(self.samples, windows, self.threads) for _, windows in sizes]

    def plan(self, indices: ArrayLike) -> list[tuple[NDArray[np.int64], Plan, Plan]]:
        """Which frames and rows the windows at `indices` hold, recording by recording.

        Returns:
            (positions in `indices`, video plan, current plan) for each recording among them.
        """
        where = window_places(indices, len(self))
        out = []
        for number, rows, frames in self.samples.by_recording(where):
            out.append(
                (rows, self.samples.plan_video(number, frames), self.samples.plan_current(number, frames))
            )
        return out

    def _find(self, where: NDArray[np.int64]) -> tuple[LoadedWindows, NDArray[np.int64]]:
        """The loaded windows that hold all of `where`, and their rows there."""
        self.load()
        if len(self._loaded) == 1:
            return self._loaded[0], where
        size = self.samples.frame_size(where)
        loaded = next(candidate for candidate in self._loaded if candidate.size == size)
        return loaded, np.searchsorted(loaded.windows, where)

    def _read(self, where: NDArray[np.int64], out: Arrays) -> None:
        index = self.samples
        if index.has_current:
            index.fill_current(where, out["current"], out["current_valid"])
        out["class_label"][:] = index.labels_of(where)
        out["sample_id"][:] = index.ids[where]
        if not index.has_video:
            return
        out["mask_valid"][:] = index.masked_of(where)
        if not out["mask_valid"].all():
            out["mask"][~out["mask_valid"]] = 0
        transposed = self.protocol.transposed
        video = out["video"].swapaxes(2, 3) if transposed else out["video"]
        for number, rows, frames in index.by_recording(where):
            plan = index.plan_video(number, frames, foreign=False)
            out["video_valid"][rows] = plan.valid
            recording = index.recordings[number]
            self._gather(recording.video, plan.index, video, rows)
            if recording.masks is not None:
                mask = out["mask"].swapaxes(1, 2) if transposed else out["mask"]
                self._gather(recording.masks, frames[:, None], mask[:, None], rows)

    def _gather(
        self, reader: ArrayReader, index: NDArray[np.int64], out: NDArray[Any], rows: NDArray[np.int64]
    ) -> None:
        ChunkCache(reader, self._chunks).gather(index, out, rows, self.threads)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": [], "_chunks": KeptChunks()}

    def __repr__(self) -> str:
        alone = "" if self.modality == "both" else f", {self.modality} alone"
        return (
            f"Windows({self.split!r}, {len(self)} samples, protocol {self.protocol.name!r}, "
            f"context {self.context!r}{alone})"
        )

    def _repr_html_(self) -> str:
        count = np.bincount(np.minimum(self.samples.class_label, 2), minlength=3)
        sizes = ", ".join(f"{h} x {w}" for (h, w), _ in self.samples.sizes())
        p = self.protocol
        rows: list[tuple[str, object]] = [
            ("split", self.split),
            ("samples", f"{len(self)}: {count[0]} normal, {count[1]} abnormal, {count[2]} unlabelled"),
            ("protocol", f"{p.name}, context {self.context}"),
        ]
        if self.samples.has_video:
            share = self.samples.mask_valid.mean() if len(self) else 0.0
            rows.append(("video", f"{p.num_frames} frames, every {p.stride}, of {sizes} (H x W)"))
            rows.append(("masks", f"of {share:.0%} of the samples"))
        if self.samples.has_current:
            rows.append(("current", f"{p.num_current} values of 3 phases, {p.current_seconds:g} s"))
        if len(self.left_out):
            rows.append(("left out", f"{len(self.left_out)} samples that reach into other splits"))
        return html_table(f"Windows of {self.dataset.name}", rows)


def _check_reused(out: Arrays, layout: Layout) -> None:
    found = {name: (array.shape, array.dtype.name) for name, array in out.items()}
    if found != layout or not all(array.flags.c_contiguous for array in out.values()):
        raise WindowError(
            "out: expected contiguous arrays like an earlier batch's, "
            f"{', '.join(f'{k} {shape}' for k, (shape, _) in layout.items())}, "
            f"got {', '.join(f'{k} {shape}' for k, (shape, _) in found.items()) or 'none'}"
        )
