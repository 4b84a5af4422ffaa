"""What predictions are scored against: the labels of a store, or of a labels.npz exported from one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError, WindowError
from fmfbench.exchange.masks import pack_masks, packed_length, padding_is_set
from fmfbench.files.npz import NpzFile, writing_npz
from fmfbench.files.problems import check_target
from fmfbench.store.reader import StoreReader
from fmfbench.store.split_names import SOURCE, parse_split
from fmfbench.store.splits import GUARD_SECONDS, derived_rows, has_guard

__all__ = ["Labels", "labels_from_dataset", "read_labels", "write_labels"]

UNLABELLED = 255
SPLITS = {"train": 0, "test": 1, "unused": 2}
_SCHEMA = 1
_BLOCK_FRAMES = 1024
_MAX_ROWS = 1 << 28
_MAX_BYTES = 1 << 36
_REQUIRED = {"sample_id": "iu", "recording": "iu", "frame": "iu", "frame_time": "i", "split": "iu"}
_KNOWN = {*_REQUIRED, "class_label", "mask_bits", "mask_shape", "meta"}
_ALLOWED = {"split": (0, 1, 2), "class_label": (0, 1, UNLABELLED)}


class _Recording(Protocol):
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def frame_time(self) -> NDArray[np.int64]: ...
    @property
    def split(self) -> NDArray[np.uint8]: ...
    def read_masks(self, start: int, stop: int, layer: str | None = None) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of N samples in order of their ids.

    Attributes:
        sample_id: (N,) int64, ascending.
        recording: (N,) int64 index into `recordings`.
        frame: (N,) int64 index in its recording.
        frame_time: (N,) int64 ns.
        split: (N,) uint8, 0 train, 1 test, 2 unused.
        class_label: (N,) uint8, 255 unlabelled; None in a file of ids only.
        mask_bits: (N, ceil(H*W/8)) uint8, packed as in a prediction file; None without masks.
        mask_shape: (H, W) of the frames; None where they differ or there are no frames.
        recordings: their names.
        unmasked: name -> why its samples have no mask.
        fingerprint: of the data set.
        of_split: the part of the split whose samples these are.
        split_name: the stored split that `split` holds: `source`, or a named one.
        sources_digest: of the files that the data were converted from, None where nothing says.
        file: name of the labels.npz that they were read from.
    """

    sample_id: NDArray[np.int64]
    recording: NDArray[np.int64]
    frame: NDArray[np.int64]
    frame_time: NDArray[np.int64]
    split: NDArray[np.uint8]
    class_label: NDArray[np.uint8] | None
    mask_bits: NDArray[np.uint8] | None
    mask_shape: tuple[int, int] | None
    recordings: tuple[str, ...]
    unmasked: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str
    of_split: str = "all"
    sources_digest: str | None = None
    file: str | None = None
    split_name: str = SOURCE

    def __len__(self) -> int:
        return len(self.sample_id)

    @property
    def scored_recordings(self) -> tuple[str, ...]:
        """Names of the recordings that these samples come from."""
        return tuple(self.recordings[index] for index in np.unique(self.recording).tolist())

    @cached_property
    def no_mask(self) -> str | None:
        """Why masks of these samples cannot be scored, or None where they can."""
        if self.class_label is None:
            return "no labels, only ids"
        for index in np.unique(self.recording).tolist() if self.unmasked else ():
            if reason := self.unmasked.get(self.recordings[index]):
                return f"no mask labels: {reason} ({self.recordings[index]})"
        return None if self.mask_bits is not None else "no mask labels"

    def take(self, rows: NDArray[Any]) -> Labels:
        """The labels of some rows: an index or boolean array that keeps the order."""
        arrays = ("sample_id", "recording", "frame", "frame_time", "split", "class_label", "mask_bits")
        taken = {name: value[rows] for name in arrays if (value := getattr(self, name)) is not None}
        return replace(self, **taken)

    def select(self, split: str, *, guard_seconds: float = GUARD_SECONDS) -> Labels:
        """The labels of a split: train, test, unused, all, or one derived from train (val, fit, ...) with a guard.

        Raises:
            PredictionError: the name is none of these, there is too little train time to carve from, or these
                are the labels of another split.
        """
        name, split = parse_split(split)
        if name not in (None, self.split_name):
            raise PredictionError(
                f"expected labels divided by split {name}, got some divided by {self.split_name}; score with the "
                f"store, or with labels exported with --split {name}:all"
            )
        if split == self.of_split:
            return self
        if self.of_split != "all":
            raise PredictionError(
                f"expected labels of split {split}, got those of split {self.of_split} alone; "
                "score with the store, or with labels exported without --split"
            )
        if split in SPLITS:
            return replace(self.take(self.split == SPLITS[split]), of_split=split)
        try:
            rows = derived_rows(
                split, self.recording, self.frame_time, self.split, self.recordings, guard_seconds
            )
        except WindowError as error:
            raise PredictionError(str(error)) from None
        return replace(self.take(rows), of_split=split)


def labels_from_dataset(
    data: StoreReader, split: str = "all", masks: bool = True, *, guard_seconds: float = GUARD_SECONDS
) -> Labels:
    """Take the labels of a split of an open data set, masks packed as they are read.

    Args:
        data: what `fmfbench.open_dataset` returns.
        split: any split name of the data set.
        masks: False leaves the masks unread.
        guard_seconds: of a split derived from train.
    """
    data, split = data.divided(split)
    options = {"guard_seconds": guard_seconds} if has_guard(split) else {}
    ids = np.asarray(data.sample_ids(split, **options), np.int64)
    recording, frame = data.locate(ids)
    names = tuple(data.recordings)
    frame_time = np.empty(len(ids), np.int64)
    splits = np.empty(len(ids), np.uint8)
    for name, rows in _rows_of(names, recording):
        frame_time[rows] = data.recordings[name].frame_time[frame[rows]]
        splits[rows] = data.recordings[name].split[frame[rows]]
    unmasked = _unmasked(data, [name for name, _ in _rows_of(names, recording)])
    shape = _common_shape([data.recordings[name] for name, _ in _rows_of(names, recording)])
    bits = None
    if masks and shape is not None and len(unmasked) < len(names):
        bits = np.zeros((len(ids), packed_length(*shape)), np.uint8)
        for name, rows in _rows_of(names, recording):
            if name not in unmasked:
                bits[rows] = _read_packed(data.recordings[name], frame[rows], bits.shape[1])
    return Labels(
        sample_id=ids,
        recording=np.asarray(recording, np.int64),
        frame=np.asarray(frame, np.int64),
        frame_time=frame_time,
        split=splits,
        class_label=np.asarray(data.class_labels(ids), np.uint8),
        mask_bits=bits,
        mask_shape=shape,
        recordings=names,
        unmasked=unmasked,
        fingerprint=data.fingerprint,
        of_split=split,
        sources_digest=getattr(data, "sources_digest", None),
        split_name=data.split_name,
    )


def write_labels(path: str | os.PathLike[str], labels: Labels, ids_only: bool = False) -> Path:
    """Write labels.npz; with `ids_only` neither class labels nor masks, for those who predict elsewhere.

    Raises:
        PredictionError: the folder does not exist, or the path is one.
    """
    path = Path(path)
    check_target(path)
    meta: dict[str, Any] = {
        "schema": _SCHEMA,
        "fingerprint": labels.fingerprint,
        "recordings": list(labels.recordings),
        "split": labels.of_split,
        **({} if labels.split_name == SOURCE else {"split_name": labels.split_name}),
        "unmasked": dict(labels.unmasked),
        "ids_only": ids_only,
    }
    if labels.sources_digest is not None:
        meta["sources_digest"] = labels.sources_digest
    arrays: dict[str, Any] = {name: getattr(labels, name) for name in _REQUIRED}
    arrays["meta"] = np.array(json.dumps(meta))
    if labels.mask_shape is not None:
        arrays["mask_shape"] = np.array(labels.mask_shape, np.int64)
    if not ids_only:
        arrays["class_label"] = labels.class_label
        if labels.mask_bits is not None:
            arrays["mask_bits"] = labels.mask_bits
    with writing_npz(path, arrays):
        pass
    return path


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read a labels.npz of `write_labels`, with the same care as a prediction file.

    Raises:
        PredictionError: one line that says what is wrong with the file.
    """
    path = Path(path)
    try:
        with NpzFile(path) as archive:
            arrays = {name: _read_array(archive, name) for name in archive.names if name in _KNOWN}
        return replace(_parse(arrays), file=path.name)
    except PredictionError as error:
        text = str(error) if str(error).startswith(str(path)) else f"{path}: not a label file: {error}"
        raise PredictionError(f"{text}; write one with `fmfbench labels export`") from None


def _read_array(archive: NpzFile, name: str) -> NDArray[Any]:
    header = archive.header(name)
    if header.nbytes > _MAX_BYTES or (header.shape and header.shape[0] > _MAX_ROWS):
        raise PredictionError(f"{name}: expected a shape that can be scored, got {header.shape}")
    return archive.read(name, header)


def _parse(arrays: dict[str, NDArray[Any]]) -> Labels:
    missing = sorted({*_REQUIRED, "meta"} - set(arrays))
    if missing:
        raise PredictionError(
            f"expected the arrays {', '.join([*_REQUIRED, 'meta'])}, got none called {', '.join(missing)}"
        )
    length = len(arrays["sample_id"].reshape(-1))
    for name, kinds in (_REQUIRED | {"class_label": "iu"}).items():
        array = arrays.get(name)
        if array is not None and (array.shape != (length,) or array.dtype.kind not in kinds):
            raise PredictionError(
                f"{name}: expected shape ({length},), got {array.shape} of type {array.dtype}"
            )
        if array is not None and name in _ALLOWED and not np.isin(array, _ALLOWED[name]).all():
            raise PredictionError(
                f"{name}: expected values of {_ALLOWED[name]}, got {np.setdiff1d(array, _ALLOWED[name])[0]}"
            )
    meta = _parse_meta(arrays["meta"])
    shape = arrays.get("mask_shape")
    bits = arrays.get("mask_bits")
    if shape is not None and (shape.shape != (2,) or shape.dtype.kind not in "iu" or shape.min() < 1):
        raise PredictionError(f"mask_shape: expected (H, W), got {shape.tolist()}")
    if bits is not None:
        if shape is None or bits.dtype != np.uint8 or bits.shape != (length, packed_length(*shape.tolist())):
            raise PredictionError(
                f"mask_bits: expected uint8 rows of mask_shape, got shape {bits.shape} and type {bits.dtype}"
            )
        if padding_is_set(bits, int(shape.prod())).any():
            raise PredictionError("mask_bits: expected 0 in the bits behind the last pixel, got 1")
    labels = Labels(
        sample_id=arrays["sample_id"].astype(np.int64),
        recording=arrays["recording"].astype(np.int64),
        frame=arrays["frame"].astype(np.int64),
        frame_time=arrays["frame_time"].astype(np.int64),
        split=arrays["split"].astype(np.uint8),
        class_label=arrays["class_label"].astype(np.uint8) if "class_label" in arrays else None,
        mask_bits=bits,
        mask_shape=None if shape is None else (int(shape[0]), int(shape[1])),
        recordings=tuple(meta["recordings"]),
        unmasked=meta.get("unmasked", {}),
        fingerprint=meta["fingerprint"],
        of_split=meta.get("split", "all"),
        sources_digest=meta.get("sources_digest"),
        split_name=meta.get("split_name", SOURCE),
    )
    order = np.argsort(labels.sample_id, kind="stable")
    if not np.array_equal(order, np.arange(length)):
        labels = labels.take(order)
    _check_values(labels)
    return labels


def _parse_meta(array: NDArray[Any]) -> dict[str, Any]:
    try:
        meta = json.loads(str(array.reshape(-1)[0]))
        good = (
            meta["schema"] == _SCHEMA
            and isinstance(meta["fingerprint"], str)
            and isinstance(meta.get("split", "all"), str)
            and isinstance(meta.get("split_name", SOURCE), str)
            and all(isinstance(name, str) for name in meta["recordings"])
            and isinstance(meta.get("unmasked", {}), dict)
            and isinstance(meta.get("sources_digest"), str | None)
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        good = False
    if not good:
        raise PredictionError(f"expected the meta of label schema {_SCHEMA}, got another")
    return dict(meta)


def _check_values(labels: Labels) -> None:
    """Of labels in order of their ids."""
    if (np.diff(labels.sample_id) == 0).any():
        raise PredictionError("expected each sample id once, got one more often")
    if labels.recording.size and not 0 <= labels.recording.min() <= labels.recording.max() < len(
        labels.recordings
    ):
        raise PredictionError(
            f"recording: expected 0 to {len(labels.recordings) - 1}, "
            f"got {labels.recording.min()} to {labels.recording.max()}"
        )
    if (labels.frame < 0).any():
        raise PredictionError(f"frame: expected 0 or more, got {labels.frame.min()}")
    later = np.diff(labels.recording)
    if (later < 0).any():
        raise PredictionError("expected sample ids in the order of the recordings, got another order")
    for name, values, least in (("frame", labels.frame, 1), ("frame_time", labels.frame_time, 0)):
        if (values[1:][later == 0] - values[:-1][later == 0] < least).any():
            raise PredictionError(
                f"{name}: expected it to rise with the sample id within a recording, got a step back"
            )


def _rows_of(names: tuple[str, ...], recording: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    for index in np.unique(recording).tolist():
        yield names[index], np.flatnonzero(recording == index)


def _unmasked(data: StoreReader, names: list[str]) -> dict[str, str]:
    """Of the recordings used, those whose samples have no mask, and why."""
    sizes = {(data.recordings[name].height, data.recordings[name].width) for name in names}
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
        return dict.fromkeys(names, f"frames of mixed sizes ({listed}) are not scored together")
    reason = "only class labels" if data.default_layer is None else f"no layer {data.default_layer!r}"
    return {name: reason for name in names if data.default_layer not in data.recordings[name].layers}


def _common_shape(recordings: list[_Recording]) -> tuple[int, int] | None:
    sizes = {(recording.height, recording.width) for recording in recordings}
    return sizes.pop() if len(sizes) == 1 else None


def _read_packed(recording: _Recording, frames: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    bits = np.empty((len(frames), length), np.uint8)
    edges = np.flatnonzero(np.diff(frames // _BLOCK_FRAMES)) + 1
    for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(frames)], strict=True):
        part = frames[start:stop]
        masks = recording.read_masks(int(part[0]), int(part[-1]) + 1)
        bits[start:stop] = pack_masks(masks[part - part[0]])
    return bits
