"""The video and label variables of a recording in a `.mat` file, shared by layouts V1 and V2.

Both layouts have the frame on the last MATLAB axis: V1 `video` (H,W,3,N) and `label` (H,W,N); V2 `data` and
`label`, which h5py shows reversed as (T,C,W,H) and (T,W,H).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.mat import MatFile, MatVariable, open_mat
from fmfbench.sources.source import Options, binary_blocks

__all__ = [
    "LabelVariable",
    "VideoVariable",
    "clean_current",
    "label_remarks",
    "open_labels",
    "open_video",
    "require",
]

_NUMERIC = {
    "double", "single", "logical",
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
}  # fmt: skip


@dataclass(frozen=True)
class VideoVariable:
    """A uint8 RGB video variable, checked; opens its file anew for each pass."""

    path: Path
    name: str
    height: int
    width: int
    num_frames: int
    chunks: tuple[int, ...] | None
    stored_bytes: int
    workers: int

    def blocks(self, size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        with open_mat(self.path, workers=self.workers) as mat:
            yield from mat.variables[self.name].iter_frames(3, block=size, start=start)


@dataclass(frozen=True)
class LabelVariable:
    """A pixel label variable of 0/1 or 0/255 in any type; handed out as uint8 0/1."""

    path: Path
    name: str
    workers: int

    def blocks(self, size: int, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        yield from binary_blocks(self.stored_blocks(size, start), f"{self.path}: variable {self.name!r}")

    def stored_blocks(self, size: int, start: int = 0) -> Iterator[NDArray[Any]]:
        """As the file has them, 0/1 or 0/255 or what is no label."""
        with open_mat(self.path, workers=self.workers, filled={self.name}) as mat:
            yield from mat.variables[self.name].iter_frames(2, block=size, start=start)


# What to type in MATLAB for what is no array of numbers.
_REMEDIES = {
    "cell": "{0} = cat(ndims({0}{{1}}) + 1, {0}{{:}}); (where every cell is one frame)",
    "struct": "{0} = {0}.FIELD; (FIELD being the one that holds it)",
    "sparse": "{0} = full({0});",
    "char": "{0} = str2num({0});",
    "string": "{0} = double({0});",
    "table": "{0} = table2array({0});",
    "timetable": "{0} = {0}.Variables;",
    "datetime": "{0} = posixtime({0});",
    "categorical": "{0} = double({0});",
    "function_handle": "{0} = {0}(); (the values that it gives)",
}


def require(mat: MatFile, name: str, *, numeric: bool) -> MatVariable:
    """The variable `name`, real and numeric."""
    variable = mat.variables[name]
    kind = variable.matlab_class
    if variable.unreadable is not None and (kind in _REMEDIES or kind not in _NUMERIC):
        how = _REMEDIES.get(kind)
        advice = f"; in MATLAB: {how.format(name)} and save it again with '-v7.3'" if how else ""
        told = "" if kind == "link" else f" (class {kind})"
        raise SourceError(f"{variable.unreadable}{told}{advice}")
    if variable.unreadable is not None:
        raise SourceError(variable.unreadable)
    if numeric and variable.matlab_class not in _NUMERIC:
        raise SourceError(
            f"{mat.path}: expected {name!r} as a numeric array, got class {variable.matlab_class} "
            f"of shape {tuple(variable.shape)}"
        )
    return variable


def open_video(mat: MatFile, name: str, options: Options) -> VideoVariable:
    """Check that `name` is a uint8 RGB video (H,W,3,N), the last axis dropped by MATLAB when N is 1."""
    variable = require(mat, name, numeric=False)
    shape = tuple(variable.shape)
    if variable.matlab_class != "uint8":
        raise SourceError(
            f"{mat.path}: expected {name!r} as uint8 0..255, got {variable.matlab_class} of shape {shape}; "
            "convert it with uint8() in MATLAB"
        )
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4 or shape[2] != 3 or shape[0] < 1 or shape[1] < 1:
        raise SourceError(
            f"{mat.path}: expected {name!r} of shape (height, width, 3, frames) in MATLAB's order, "
            f"got {tuple(variable.shape)}"
        )
    return VideoVariable(
        path=mat.path,
        name=name,
        height=shape[0],
        width=shape[1],
        num_frames=shape[3],
        chunks=variable.chunks,
        stored_bytes=variable.stored_bytes,
        workers=options.workers,
    )


def open_labels(
    mat: MatFile, name: str, video: VideoVariable, options: Options
) -> LabelVariable | NDArray[np.uint8]:
    """Pixel labels (H,W,N), or class labels where `name` has N values."""
    variable = require(mat, name, numeric=True)
    shape = tuple(variable.shape)
    n = video.num_frames
    pixel = (video.height, video.width, n)
    if shape == pixel or (n == 1 and shape == pixel[:2]):
        return LabelVariable(mat.path, name, options.workers)
    if shape in {(1, n), (n, 1), (1, 1, n), (n,)}:
        values = variable.read().reshape(n)
        where = f"{mat.path}: variable {name!r}"
        return np.concatenate([np.empty(0, np.uint8), *binary_blocks(iter([values]), where)])
    raise SourceError(
        f"{mat.path}: expected {name!r} of shape {pixel} (or one value a frame) to go with the video, "
        f"got {shape}" + ("; its axes are exchanged" if shape == (pixel[1], pixel[0], n) else "")
    )


def label_remarks(mat: MatFile, name: str) -> list[str]:
    """What to say of labels: parts that were never written, which a writer of few anomalies may leave out."""
    told = mat.variables[name].unwritten
    return (
        [f"labels: {name!r} {told}" if told.startswith("was") else f"labels: of {name!r} {told}"]
        if told
        else []
    )


def clean_current(rows: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
    """Rows (n,3) as float32 A with NaN for all that is not finite, and how many rows have any."""
    with np.errstate(over="ignore", invalid="ignore"):
        current = np.ascontiguousarray(rows, dtype=np.float32)
    bad = ~np.isfinite(current)
    current[bad] = np.nan
    return current, int(bad.any(axis=1).sum())
