"""Outlier files: which samples of a split are outliers of which kind, and what is shown in their place.

Peng et al. (TN-BCL), IEEE TETCI 8(1), 2024, section III-A, for two modalities, here video and current:

    attribute     both are abnormal
    cross-modal   each is normal on its own, but they do not belong together
    mixed         one is abnormal, the other normal

An `outliers.npz` (never pickled) holds no frames, only whose are shown:

    sample_id             int64 (N,) the samples, rising
    kind                  uint8 (N,) 0 none, then as in KINDS
    video_id, current_id  int64 (N,) whose video is shown, and whose current
    video_shuffled        uint8 (N,) 0/1: the pixels of its frames change places, drawn from (seed, sample id)
    current_shuffled      uint8 (N,) 0/1: its time steps change places
    recording, frame_time int64 (N,) of the sample itself, for intervals in time
    meta                  JSON: schema, seed, fingerprint, and all that the outliers were drawn with
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.files.npz import NpzFile, writing_npz
from fmfbench.files.problems import check_target

__all__ = ["KINDS", "Outliers", "read_outliers", "write_outliers"]

KINDS = ("attribute", "cross-modal", "mixed")  # numbers 1, 2 and 3 of a file
SCHEMA = 1
_DTYPES = {
    "sample_id": np.int64,
    "kind": np.uint8,
    "video_id": np.int64,
    "current_id": np.int64,
    "video_shuffled": np.uint8,
    "current_shuffled": np.uint8,
    "recording": np.int64,
    "frame_time": np.int64,
}
_MAX_ROWS = 1 << 28
_MAX_META_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """N samples, rising; the fields are those of a file, see above."""

    sample_id: NDArray[np.int64]
    kind: NDArray[np.uint8]
    video_id: NDArray[np.int64]
    current_id: NDArray[np.int64]
    video_shuffled: NDArray[np.uint8]
    current_shuffled: NDArray[np.uint8]
    recording: NDArray[np.int64]
    frame_time: NDArray[np.int64]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sample_id)

    def take(self, rows: NDArray[np.int64]) -> Outliers:
        """The samples at rising `rows` (k,)."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _DTYPES})

    @property
    def seed(self) -> int:
        return int(self.meta["seed"])

    @property
    def fingerprint(self) -> str:
        """Of the data that the samples are of."""
        return str(self.meta["fingerprint"])

    def counts(self) -> dict[str, int]:
        """How many samples are normal, and how many of each kind."""
        found = np.bincount(self.kind, minlength=len(KINDS) + 1).tolist()
        return dict(zip(("normal", *KINDS), found, strict=True))


def write_outliers(path: str | os.PathLike[str], outliers: Outliers) -> Path:
    """Write an outlier file; replaced when whole, and the same outliers give the same bytes.

    Raises:
        PredictionError: no folder to write into.
    """
    path = Path(path)
    check_target(path)
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(outliers, name), dtype) for name, dtype in _DTYPES.items()
    }
    arrays["meta"] = np.array(json.dumps(dict(outliers.meta), sort_keys=True, allow_nan=False))
    with writing_npz(path, arrays):
        pass
    return path


def read_outliers(path: str | os.PathLike[str]) -> Outliers:
    """Read and check an outlier file.

    Raises:
        PredictionError: one line that says what is wrong with it.
    """
    path = Path(path)
    try:
        with NpzFile(path) as archive:
            return _parse(
                {name: _read(archive, name) for name in archive.names if name in (*_DTYPES, "meta")}
            )
    except PredictionError as error:
        text = str(error) if str(error).startswith(str(path)) else f"{path}: not an outlier file: {error}"
        raise PredictionError(f"{text}; write one with `fmfbench outliers make`") from None


def _read(archive: NpzFile, name: str) -> NDArray[Any]:
    header = archive.header(name)
    if name == "meta":
        if header.dtype.kind != "U" or header.nbytes > _MAX_META_BYTES:
            raise PredictionError(f"meta: expected JSON text, got {header.dtype} of {header.nbytes} bytes")
    elif len(header.shape) != 1 or header.shape[0] > _MAX_ROWS or header.dtype != _DTYPES[name]:
        wanted = np.dtype(_DTYPES[name]).name
        raise PredictionError(
            f"{name}: expected shape (N,) of {wanted}, got {header.shape} of {header.dtype}"
        )
    return archive.read(name, header)


def _parse(arrays: Mapping[str, NDArray[Any]]) -> Outliers:
    missing = sorted({*_DTYPES, "meta"} - set(arrays))
    if missing:
        raise PredictionError(
            f"expected the arrays {', '.join([*_DTYPES, 'meta'])}, got none called {', '.join(missing)}"
        )
    lengths = {name: len(arrays[name]) for name in _DTYPES}
    if len(set(lengths.values())) != 1 or not lengths["sample_id"]:
        raise PredictionError(f"expected arrays of one length above 0, got {lengths}")
    found = Outliers(**{name: arrays[name] for name in _DTYPES}, meta=_parse_meta(arrays["meta"]))
    assert {item.name for item in fields(Outliers)} == {*_DTYPES, "meta"}
    if (np.diff(found.sample_id) <= 0).any() or (np.diff(found.recording) < 0).any():
        raise PredictionError("expected sample_id and recording to rise, got a step back")
    if (np.diff(found.frame_time)[np.diff(found.recording) == 0] <= 0).any():
        raise PredictionError(
            "frame_time: expected it to rise with the sample id within a recording, got a step back"
        )
    if found.kind.max() > len(KINDS) or max(found.video_shuffled.max(), found.current_shuffled.max()) > 1:
        raise PredictionError(
            f"expected kinds of 0 to {len(KINDS)} and flags of 0 and 1, got kind {found.kind.max()} and flag "
            f"{max(found.video_shuffled.max(), found.current_shuffled.max())}"
        )
    least = min(found.sample_id.min(), found.video_id.min(), found.current_id.min())
    if least < 0:
        raise PredictionError(f"expected sample ids of 0 or more, got {least}")
    changed = (found.video_id != found.sample_id) | (found.current_id != found.sample_id)
    changed |= (found.video_shuffled > 0) | (found.current_shuffled > 0)
    if (changed != (found.kind > 0)).any():
        raise PredictionError(
            "expected samples of kind 0, and no others, to be shown as they are, got another"
        )
    return found


def _parse_meta(array: NDArray[Any]) -> dict[str, Any]:
    try:
        meta = json.loads(str(array.reshape(-1)[0]))
        good = (
            meta["schema"] == SCHEMA
            and isinstance(meta["fingerprint"], str)
            and isinstance(meta["seed"], int)
            and meta["seed"] >= 0
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        good = False
    if not good:
        raise PredictionError(f"expected the meta of outlier schema {SCHEMA}, got another")
    return dict(meta)
