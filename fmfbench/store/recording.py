"""One recording of a store: its frames, currents, times, split and labels."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import StoreError
from fmfbench.files.html import html_table
from fmfbench.files.leavings import without_leavings
from fmfbench.files.remote import Place, RemotePath
from fmfbench.store.schema import parse_group
from fmfbench.store.shards import ArrayReader
from fmfbench.store.split_names import SOURCE
from fmfbench.store.zarr_door import open_zarr

__all__ = ["Recording"]


class Recording:
    """One furnace run of a store. Frames are read when asked for; the small arrays are kept once read."""

    def __init__(
        self,
        path: Place,
        name: str,
        first_id: int,
        default_layer: str | None,
        split_name: str = SOURCE,
        listed_layers: tuple[str, ...] = (),
        current_shift_ns: int = 0,
    ) -> None:
        self.current_shift_ns = current_shift_ns
        self.path = path
        self.split_name = split_name
        self.name = name
        self.first_id = first_id
        self.default_layer = default_layer
        self._listed_layers = listed_layers
        self.attributes = parse_group(path)
        self.video = ArrayReader(path / "video")

    @property
    def num_frames(self) -> int:
        return self.video.spec.shape[0]

    @property
    def height(self) -> int:
        return self.video.spec.shape[1]

    @property
    def width(self) -> int:
        return self.video.spec.shape[2]

    @cached_property
    def frame_time(self) -> NDArray[np.int64]:
        """(N,) ns, strictly increasing."""
        return self._read("frame_time")

    @cached_property
    def time_origin(self) -> str:
        """ "clock", or "start" for a source without dates."""
        return str(ArrayReader(self.path / "frame_time").spec.attributes["fmfbench.origin"])

    @cached_property
    def current(self) -> NDArray[np.float32]:
        """(M,3) A, NaN where the source had no finite value."""
        return self._read("current")

    @cached_property
    def current_time(self) -> NDArray[np.int64]:
        """(M,) ns, strictly increasing; as stored, and `current_shift_ns` later."""
        stored = self._read("current_time")
        return stored + self.current_shift_ns if self.current_shift_ns else stored

    @cached_property
    def split(self) -> NDArray[np.uint8]:
        """(N,) 0 train, 1 test, 2 unused: the named split that the store was opened with, by default the source's."""
        return self.named_split(self.split_name)

    def named_split(self, name: str) -> NDArray[np.uint8]:
        """(N,) 0 train, 1 test, 2 unused, of the split `name`."""
        return self._read("split" if name == SOURCE else f"splits/{name}")

    def divided(self, name: str) -> Recording:
        """The same recording, divided by the split `name`."""
        other = copy(self)
        vars(other).pop("split", None)
        other.split_name = name
        return other

    @cached_property
    def class_label(self) -> NDArray[np.uint8]:
        """(N,) 0 normal, 1 abnormal, 255 unlabelled."""
        return self._read("class_label")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the label layers."""
        if isinstance(self.path, RemotePath):  # as the root lists them: no request of its own
            return self._listed_layers
        folder = self.path / "labels"
        if not folder.is_dir():
            return ()
        layers = without_leavings(path.parent for path in folder.glob("*/zarr.json"))
        return tuple(sorted(path.name for path in layers))

    def layer(self, name: str) -> ArrayReader:
        """The label layer `name`; StoreError when there is none."""
        if name not in self.layers:
            raise StoreError(
                f"{self.path}: expected a label layer ({', '.join(self.layers) or 'there is none'}), got {name!r}"
            )
        return ArrayReader(self.path / "labels" / name)

    @cached_property
    def masks(self) -> ArrayReader | None:
        """The default layer, None where this recording has none."""
        if self.default_layer is None or self.default_layer not in self.layers:
            return None
        return self.layer(self.default_layer)

    def read_video(self, start: int | None = None, stop: int | None = None) -> NDArray[np.uint8]:
        """Frames [start:stop], (n,H,W,3) uint8 RGB, upright; negative bounds and those beyond the end as in numpy."""
        return self.video.read(start, stop)

    def read_masks(
        self, start: int | None = None, stop: int | None = None, layer: str | None = None
    ) -> NDArray[np.uint8]:
        """Masks [start:stop] of a layer (the default one), (n,H,W) uint8 0/1, upright, sliced as numpy does.

        Raises:
            StoreError: there is no such layer, or no layer at all.
        """
        reader = self.layer(layer) if layer is not None else self.masks
        if reader is None:
            raise StoreError(f"{self.path}: has no pixel labels")
        return reader.read(start, stop)

    def _read(self, name: str) -> NDArray[Any]:
        array = ArrayReader(self.path / name).read()
        array.flags.writeable = False
        return array

    def zarr(self) -> Any:
        """The recording's group (`zarr.Group`), opened by zarr itself to be read."""
        return open_zarr(self.path)

    def __repr__(self) -> str:
        return f"Recording({self.name!r}, {self.num_frames} frames of {self.height}x{self.width})"

    def _repr_html_(self) -> str:
        seconds = (self.frame_time[-1] - self.frame_time[0]) / 1e9 if self.num_frames else 0.0
        split = np.bincount(self.split, minlength=3)
        label = np.bincount(np.minimum(self.class_label, 2), minlength=3)
        rows = [
            ("frames", f"{self.num_frames} of {self.height} x {self.width} (H x W), {seconds:.1f} s"),
            ("currents", f"{len(self.current_time)} rows of 3 phases"),
            ("split", f"{split[0]} train, {split[1]} test, {split[2]} unused"),
            ("labels", f"{label[0]} normal, {label[1]} abnormal, {label[2]} unlabelled"),
            ("layers", ", ".join(self.layers) or "none"),
        ]
        return html_table(f"Recording {self.name}", rows)
