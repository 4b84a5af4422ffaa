"""Windows as a map-style dataset of torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from fmfbench.torch.device import DeviceWindows
from fmfbench.torch.epochs import EpochCount
from fmfbench.torch.form import Keys, make_form
from fmfbench.torch.maker import BatchMaker
from fmfbench.torch.order import EpochOrder, WindowPlace
from fmfbench.torch.samples import Sample, Samples, Tensors
from fmfbench.windows.index import Arrays, window_places
from fmfbench.windows.packing import Recycler
from fmfbench.windows.reader import Windows

__all__ = ["Transform", "WindowDataset"]

_KEPT_BUFFERS = 4  # of batches that nobody holds any more: fresh memory costs as much as the copy into it
IntArray = NDArray[np.int64]
Transform = Callable[[Tensors, torch.Generator], Tensors]


class WindowDataset(Dataset[Tensors]):
    """Windows as tensors: `video` uint8 (3,T,H,W), the rest as the numpy side has it.

    `make_loader` is the quickest way through it; `torch.utils.data.DataLoader` takes it as any dataset, with torch's
    own collation or `fmfbench.torch.collate`.

    Args:
        windows: what `Dataset.windows` gave. With cache "device" they move to the device with the first batch.
        transform: sees one sample's tensors, `video` uint8 (3,T,H,W), and a generator seeded by (seed, epoch, sample
            id), so what it draws does not depend on workers, batches or order. The epoch is the loader's, or what
            `set_epoch` said; without either a sample that is asked for again is in its next epoch.
        device: where batches are wanted; for cache "device" the first GPU if there is one, otherwise the CPU.
        layout: "bcthw" or "btchw", contiguous; by default (B,3,T,H,W) with the channel last in memory, as it is stored.
        dtype: of the video: "uint8" 0..255, or "float32" 0..1, as torchvision has it (the models of `fmfbench_models`
            take 0..255, so uint8).
        keys: the entries of a batch to give, and what to call them: `{"video": "pixel_values", "class_label":
            "labels"}`, or their own names, `["video", "class_label"]`; the others are left out.
        seed: of the generators, where no loader of `make_loader` has its own.

    Raises:
        WindowError: a layout, type or key that there is not.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> windows = fmfbench.open_dataset(store).windows("test", "short")
        >>> batch = next(iter(DataLoader(WindowDataset(windows, layout="btchw"), batch_size=4)))
        >>> tuple(batch["video"].shape)
        (4, 4, 3, 6, 9)
    """

    def __init__(
        self,
        windows: Windows,
        transform: Transform | None = None,
        device: str | torch.device | None = None,
        *,
        layout: str | None = None,
        dtype: str = "uint8",
        keys: Keys | None = None,
        seed: int = 0,
    ) -> None:
        self.windows = windows
        self.transform = transform
        self.seed = seed
        self.form = make_form(layout, dtype, keys)
        if device is None and windows.cache == "device":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = None if device is None else torch.device(device)
        self._epochs = None if transform is None else EpochCount(len(windows))
        self._on_device: DeviceWindows | None = None
        self._maker: BatchMaker | None = None
        self._recycler = Recycler(_KEPT_BUFFERS)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Tensors:
        """One sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        """Samples for a loader of one's own, stacked already."""
        if len(indices) and isinstance(indices[0], WindowPlace):
            return Samples(self._placed(indices))
        where = window_places(indices, len(self))
        epoch = 0 if self._epochs is None else self._epochs.next(where)
        if self.windows.cache == "device":
            return Samples(self.batch(where, epoch=epoch))
        arrays = self._recycler.batch(self.windows.samples.layout_of(where))
        self.windows.fill(where, arrays)
        return Samples(self.to_device(self.to_tensors(arrays, self.seed, epoch)))

    def set_epoch(self, epoch: int) -> None:
        """Let transforms draw for this epoch until it is called again, in worker processes that run already too."""
        if self._maker is not None:
            self._maker.order.set_epoch(epoch)
        if self._epochs is not None:
            self._epochs.fix(epoch)

    def batch(self, indices: ArrayLike, seed: int | None = None, epoch: int = 0) -> Tensors:
        """The stacked tensors of several windows, `video` (B,3,T,H,W).

        Args:
            indices: as `Windows.batch` takes them.
            seed: the dataset's own by default.
            epoch: that transforms draw for.
        """
        where = window_places(indices, len(self))
        seed = self.seed if seed is None else seed
        if self.windows.cache == "device":
            return self.form.apply(self._transformed(self.on_device().batch(where), seed, epoch))
        return self.to_device(self.to_tensors(self.windows.batch(where), seed, epoch))

    def on_device(self) -> DeviceWindows:
        """The windows of cache "device", moved there once."""
        if self._on_device is None:
            assert self.device is not None
            self._on_device = DeviceWindows(self.windows, self.device)
        return self._on_device

    def to_tensors(self, batch: Arrays, seed: int, epoch: int) -> Tensors:
        """The numpy side's batch as tensors of the same memory, transformed and in the dataset's form."""
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        if "video" in tensors:
            # A view: the channel stays last in memory, where a GPU's convolutions want it anyway.
            tensors["video"] = tensors["video"].permute(0, 4, 1, 2, 3)
        return self.form.apply(self._transformed(tensors, seed, epoch))

    def to_device(self, tensors: Tensors) -> Tensors:
        if self.device is None:
            return tensors
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()}

    def in_order(self, order: EpochOrder) -> WindowDataset:
        """The same windows for a loader in this order: places of it are indices too, whoever asks for them."""
        bound = copy.copy(self)
        bound.seed = order.seed
        bound._maker = BatchMaker(self.windows, order)
        return bound

    @property
    def maker(self) -> BatchMaker:
        """Of a dataset that is in order."""
        assert self._maker is not None
        return self._maker

    def _placed(self, places: Sequence[Any]) -> Tensors:
        """What a framework asks for that took the loader's sampler into a loader of its own."""
        key = places[0].epoch, np.array([place.place for place in places], np.int64)
        if self.windows.cache == "device":
            return self.batch(self.maker.windows_of(key), epoch=key[0])
        return self.to_device(self.to_tensors(self.maker.read(key), self.seed, key[0]))

    def _transformed(self, tensors: Tensors, seed: int, epoch: int) -> Tensors:
        if self.transform is None or not len(tensors["sample_id"]):
            return tensors
        samples = [
            self.transform(
                Sample((name, tensor[i]) for name, tensor in tensors.items()),
                _generator(seed, epoch, sample_id),
            )
            for i, sample_id in enumerate(tensors["sample_id"].tolist())
        ]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": None, "_recycler": Recycler(_KEPT_BUFFERS)}


def _generator(seed: int, epoch: int, sample_id: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, epoch, sample_id]).generate_state(1, np.uint64)[0]
    generator = torch.Generator()
    generator.manual_seed(int(entropy >> np.uint64(1)))  # torch takes seeds below 2^63
    return generator
