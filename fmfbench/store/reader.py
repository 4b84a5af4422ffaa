"""Reading a store: recordings, sample ids, splits and labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmfbench.errors import StoreError, WindowError
from fmfbench.files.html import html_table
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.store.ids import SampleIds, group_by, true_runs
from fmfbench.store.recording import Recording
from fmfbench.store.schema import DIGEST_KEY, FILES_KEY, ROOT, SCHEMA, SPLITS, parse_group
from fmfbench.store.split_names import DEFAULT_SPLIT_KEY, FINGERPRINTS_KEY, SOURCE, parse_split
from fmfbench.store.splits import GUARD_SECONDS, Found, parse_derived
from fmfbench.store.zarr_door import open_zarr

__all__ = ["Recording", "StoreReader"]

_IDS_AT_ONCE = 1 << 20  # looked up together, so that memory does not grow with the store


@dataclass(frozen=True)
class StoreReader:
    """A store. A sample is a frame; its id counts frames through the recordings in order of name."""

    path: Place
    attributes: Mapping[str, Any]
    chosen_split: str | None = None  # None: the store's default
    current_shift_ns: int = 0  # by which every current is read as taken later

    @classmethod
    def open(cls, path: str | Place) -> Self:
        """Open a store that `fmfbench convert` made: a path, or a URL (extra `[cloud]`).

        Raises:
            StoreError: there is no store of this schema at `path`.
            FailedError: what is behind a URL cannot be reached.
        """
        path = parse_place(path)
        if isinstance(path, Path) and not path.exists():
            raise StoreError(f"{path}: no such store; make one with `fmfbench convert SOURCE {path}`")
        attributes = parse_group(path)
        schema = attributes.get("fmfbench.schema")
        if schema is None:
            raise StoreError(
                f"{path}: expected a store of fmfbench, got another Zarr group; make one with `fmfbench convert`"
            )
        if schema != SCHEMA:
            raise StoreError(
                f"{path}: expected a store of schema {SCHEMA}, got {schema!r}; convert again with this version"
            )
        if isinstance(
            path, RemotePath
        ):  # the digest covers every file, and this root was read from there just now
            path = RemotePath(path.url, str(attributes.get(DIGEST_KEY, "")))
        return cls(path, attributes)

    @property
    def name(self) -> str:
        return str(self.attributes["fmfbench.name"])

    @property
    def fingerprint(self) -> str:
        """sha256 over names, frame counts, sizes, the split and labels: equal when scores are comparable."""
        if self.split_name == SOURCE:
            return str(self.attributes["fmfbench.fingerprint"])
        return str(self.attributes[FINGERPRINTS_KEY][self.split_name])

    def fingerprint_of(self, split: str) -> str:
        """The fingerprint of the store as a split divides it: `derived`, `derived:test`, or a part of the default.

        Raises:
            StoreError: no such split.
        """
        if split in self.split_names:
            return self.with_split(split).fingerprint
        return self.divided(split)[0].fingerprint

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that are stored: `source`, which came with the recordings, and named ones."""
        return (SOURCE, *sorted(set(self.attributes.get(FINGERPRINTS_KEY, {})) - {SOURCE}))

    @property
    def split_name(self) -> str:
        """The split that `train`, `test` and all other parts are of."""
        return self.chosen_split or str(self.attributes.get(DEFAULT_SPLIT_KEY, SOURCE))

    def with_split(self, name: str) -> Self:
        """The same store, divided by another of its splits.

        Raises:
            StoreError: no such split.
        """
        if name not in self.split_names:
            raise StoreError(
                f"{self.path}: expected a split of the store, got {name!r}; it has {', '.join(self.split_names)}; make "
                "one with `fmfbench split`"
            )
        if name == self.split_name:
            return self
        if name not in self._views:
            view = replace(self, chosen_split=name)
            # What is known of the recordings, and what was changed in them, stays: only their splits are others.
            divided = {key: recording.divided(name) for key, recording in self.recordings.items()}
            vars(view)["recordings"] = MappingProxyType(divided)
            self._views[name] = view
        return self._views[name]

    def divided(self, split: str) -> tuple[Self, str]:
        """The store divided by the split that `split` names (`derived:test`), and the part that it asks for (`test`).

        Raises:
            StoreError: no such split, or one without a part.
        """
        name, part = parse_split(split)
        if name is None and part in self.split_names:
            raise StoreError(
                f"{self.path}: expected a part of the split, as in {part}:train or {part}:test, got {part!r}"
            )
        return (self if name is None else self.with_split(name)), part

    def split_label(self, split: str) -> str:
        """The one spelling of a part: `test` of the source's split, `derived:test` of a named one."""
        view, part = self.divided(split)
        return part if view.split_name == SOURCE else f"{view.split_name}:{part}"

    @cached_property
    def _views(self) -> dict[str, Self]:
        return {}

    @property
    def sources_digest(self) -> str | None:
        """sha256 over names and contents of the files that the store was made of.

        Unlike the fingerprint it also tells frames and currents apart. None where the store does not say.
        """
        sources = self.attributes.get("fmfbench.sources") or []
        named = sorted((str(source.get("path")), str(source.get("sha256"))) for source in sources)
        return hashlib.sha256(json.dumps(named).encode()).hexdigest() if named else None

    @property
    def simulated(self) -> bool:
        """Whether any recording, or any file that the store was made of, is named as FMF-Sim names them."""
        sources = [str(source.get("path")) for source in self.attributes.get("fmfbench.sources") or []]
        return any("FMF-Sim" in name for name in (*self.recordings, *sources))

    @property
    def default_layer(self) -> str | None:
        """The label layer that class labels, masks and scores come from; None without pixel labels."""
        layer = self.attributes["fmfbench.default_layer"]
        return None if layer is None else str(layer)

    @cached_property
    def recordings(self) -> Mapping[str, Recording]:
        """Recordings by name, in order of name."""
        folder = self.path / "recordings"
        out: dict[str, Recording] = {}
        first = 0
        files = self.attributes.get(FILES_KEY)
        if not isinstance(files, dict):
            raise StoreError(
                f"{self.path}/zarr.json: expected {FILES_KEY}, the list of the store's files, got none; "
                f"convert again"
            )
        # As the root lists them: were one gone, the ids of those after it would shift without a word.
        listed = [path.split("/") for path in files]
        layers: dict[str, list[str]] = {}
        for parts in listed:
            if len(parts) == 5 and parts[2] == "labels" and parts[4] == ROOT:
                layers.setdefault(parts[1], []).append(parts[3])
        for name in sorted(parts[1] for parts in listed if len(parts) == 3 and parts[0] == "recordings"):
            own = tuple(sorted(layers.get(name, ())))
            out[name] = Recording(
                folder / name, name, first, self.default_layer, self.split_name, own, self.current_shift_ns
            )
            first += out[name].num_frames
        return MappingProxyType(out)

    @cached_property
    def first_ids(self) -> NDArray[np.int64]:
        """(recordings + 1,) each recording's first sample id, and the number of samples."""
        counts = [r.num_frames for r in self.recordings.values()]
        return np.cumsum([0, *counts], dtype=np.int64)

    @property
    def num_samples(self) -> int:
        return int(self.first_ids[-1])

    def sample_ids(self, split: str = "all", *, guard_seconds: float = GUARD_SECONDS) -> NDArray[np.int64]:
        """Sorted ids of a split: train, test, unused, all, or one derived from train (val, fit, ...).

        Of the default split or, as in `derived:test`, of another. guard_seconds: between `fit` and `val`; by default
        that of the longest named protocol.
        """
        return self.sample_set(split, guard_seconds=guard_seconds).array()

    def sample_set(self, split: str = "all", *, guard_seconds: float = GUARD_SECONDS) -> SampleIds:
        """`sample_ids` as runs, a thousandth of the memory."""
        view, split = self.divided(split)
        if view is not self:
            return view.sample_set(split, guard_seconds=guard_seconds)
        if split == "all":
            return SampleIds.of_runs([(0, self.num_samples)])
        rows = self._rows_of(split, guard_seconds)
        runs = (true_runs(own) + first for own, first in zip(rows, self.first_ids.tolist(), strict=False))
        return SampleIds.of_runs(run for own in runs for run in own.tolist())

    def _rows_of(self, split: str, guard_seconds: float) -> Iterator[NDArray[np.bool_]]:
        """(N,) which frames of each recording a split has."""
        recordings = self.recordings.values()
        if split in SPLITS:
            yield from (recording.split == SPLITS[split] for recording in recordings)
            return
        try:
            derived, found = parse_derived(split, tuple(self.recordings)), Found()
            for recording in recordings:
                # Of a copy, so that the times of all recordings do not stay in memory.
                yield derived.rows(
                    recording.name, partial(_times, recording), recording.split, guard_seconds, found
                )
            derived.check(found, guard_seconds)
        except WindowError as error:
            raise StoreError(f"{self.path}: {error}") from None

    def class_labels(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """(n,) 0 normal, 1 abnormal, 255 unlabelled."""
        return self._small("class_label", ids)

    def splits(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """(n,) 0 train, 1 test, 2 unused."""
        return self._small("split", ids)

    def locate(self, ids: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each id's recording (its place in `recordings`) and frame, both (n,)."""
        ids = self._checked(ids)
        recording = np.searchsorted(self.first_ids, ids, side="right") - 1
        return recording.astype(np.int64), ids - self.first_ids[recording]

    def _small(self, name: str, ids: ArrayLike) -> NDArray[np.uint8]:
        """(n,) what the recordings' row `name` says of samples."""
        asked = self._checked(ids)
        checked = asked.reshape(-1)
        out = np.empty(len(checked), np.uint8)
        for start in range(0, len(checked), _IDS_AT_ONCE):
            part = slice(start, start + _IDS_AT_ONCE)
            recording, frame = self.locate(checked[part])
            found = out[part]
            for number, rows in group_by(recording):
                found[rows] = getattr(self._numbered[number], name)[frame[rows]]
        return out.reshape(asked.shape)

    @cached_property
    def _numbered(self) -> tuple[Recording, ...]:
        return tuple(self.recordings.values())

    def __getstate__(self) -> dict[str, Any]:
        # Workers read the rest themselves.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _checked(self, ids: ArrayLike) -> NDArray[np.int64]:
        out = np.asarray(ids)
        if out.size == 0:
            return np.empty(0, np.int64)
        if out.dtype.kind not in "iu" or out.min() < 0 or out.max() >= self.num_samples:
            raise StoreError(
                f"{self.path}: expected sample ids 0 to {self.num_samples - 1}, got {out.dtype} "
                f"from {out.min()} to {out.max()}"
            )
        return out.astype(np.int64)

    def table(self, split: str = "all") -> dict[str, NDArray[Any]]:
        """What is known of a split's samples, as columns for pandas, polars or duckdb; reads no frame.

        Returns:
            ids int64; recording, its name; frame int64, counted in its recording; time int64, ns since 1970-01-01;
            split, "train", "test" or "unused"; label uint8, 0 normal, 1 abnormal, 255 unlabelled. All (n,), in order
            of id.

        Raises:
            StoreError: no such split.

        Example:
            >>> columns = fmfbench.open_dataset(store).table("test")
            >>> list(columns)
            ['ids', 'recording', 'frame', 'time', 'split', 'label']
        """
        view, part = self.divided(split)
        ids = view.sample_ids(part)
        recording, frame = view.locate(ids)
        names = np.array(list(view.recordings), dtype=str)
        times = np.concatenate([np.empty(0, np.int64), *(r.frame_time for r in view.recordings.values())])
        return {
            "ids": ids,
            "recording": names[recording] if len(names) else np.empty(0, str),
            "frame": frame,
            "time": times[ids],
            "split": np.array(sorted(SPLITS, key=SPLITS.__getitem__))[view.splits(ids)],
            "label": view.class_labels(ids),
        }

    def zarr(self) -> Any:
        """The store's root group (`zarr.Group`), opened by zarr itself to be read, wherever the store is.

        Example:
            >>> group = fmfbench.open_dataset(store).zarr()
            >>> sorted(group["recordings"].group_keys())
            ['a.dotted', 'b-long', 'c-short']
        """
        return open_zarr(self.path)

    def _repr_html_(self) -> str:
        head = ("recording", "frames", "H x W", "train", "test", "unused", "normal", "abnormal", "unlabelled")
        rows = []
        for record in self.recordings.values():
            split = np.bincount(record.split, minlength=3)
            label = np.bincount(np.minimum(record.class_label, 2), minlength=3)
            size = f"{record.height} x {record.width}"
            rows.append((record.name, record.num_frames, size, *split, *label))
        return html_table(f"{self.name} ({self.path}), split {self.split_name}", rows, head)

    def __repr__(self) -> str:
        counts = f"{len(self.recordings)} recordings, {self.num_samples} samples"
        return f"{type(self).__name__}({str(self.path)!r}, {counts})"


def _times(recording: Recording) -> NDArray[np.int64]:
    """Read for once, not kept with the recording."""
    return copy(recording).frame_time
