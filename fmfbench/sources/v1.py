"""Layout V1: `.mat` files with `video`, `current`, `label` and `train_test_index` (the dataset's README)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import nominal_times
from fmfbench.errors import SourceError
from fmfbench.sources.matlab.mat import MatFile, open_mat
from fmfbench.sources.matrecording import (
    LabelVariable,
    clean_current,
    label_remarks,
    open_labels,
    open_video,
    require,
)
from fmfbench.sources.source import Options, SourceRecording

__all__ = ["NAMES", "read_v1"]

NAMES = ("video", "current", "label", "train_test_index")


def read_v1(path: Path, options: Options) -> SourceRecording:
    """One V1 file: frame i and its current at i/fps s, guard frames unknown to this layout."""
    with open_mat(path, filled={options.name("label")}) as mat:
        missing = [n for n in NAMES if options.name(n) not in mat.variables]
        if missing:
            raise SourceError(
                f"{path}: layout v1 expects the variables {', '.join(map(options.name, NAMES))}; "
                f"without {', '.join(map(options.name, missing))}, got {mat.describe()}; "
                "name others with --map, for example --map video=Video"
            )
        video = open_video(mat, options.name("video"), options)
        labels = open_labels(mat, options.name("label"), video, options)
        current, bad = _read_current(mat, options.name("current"), video.num_frames)
        split = _read_index(mat, options.name("train_test_index"), video.num_frames)
        remarks = label_remarks(mat, options.name("label"))
    times = nominal_times(video.num_frames, options.fps)
    if bad:
        remarks.append(f"{bad} current rows with NaN or Inf, kept as NaN")
    return SourceRecording(
        name=path.stem,
        num_frames=video.num_frames,
        height=video.height,
        width=video.width,
        frame_time=times,
        current=current,
        current_time=times.copy(),
        time_origin="start",
        split=split,
        video=video,
        pixel_labels=labels if isinstance(labels, LabelVariable) else None,
        frame_labels=labels if isinstance(labels, np.ndarray) else None,
        remarks=tuple(remarks),
        chunks=video.chunks,
    )


def _read_current(mat: MatFile, name: str, num_frames: int) -> tuple[NDArray[np.float32], int]:
    variable = require(mat, name, numeric=True)
    shape = variable.shape
    empty = num_frames == 0 and 0 in shape
    if tuple(shape) not in {(3, num_frames), (3, num_frames, 1)} and not empty:
        raise SourceError(
            f"{mat.path}: expected {name!r} of shape (3, {num_frames}) to go with the video's {num_frames} "
            f"frames, got {tuple(shape)}; one column of three phases a frame"
        )
    return clean_current(variable.read().reshape(3, num_frames).T)


def _read_index(mat: MatFile, name: str, num_frames: int) -> NDArray[np.uint8]:
    variable = require(mat, name, numeric=True)
    shape = tuple(variable.shape)
    if int(np.prod(shape)) != num_frames or (num_frames and sum(n != 1 for n in shape) > 1):
        raise SourceError(
            f"{mat.path}: expected {name!r} with one value for each of {num_frames} frames, got shape {shape}"
        )
    values = variable.read().reshape(-1)
    if not np.isin(values, (0, 1)).all():
        strange = values[~np.isin(values, (0, 1))][0]
        raise SourceError(
            f"{mat.path}: expected {name!r} of 0 (train) and 1 (test), got {strange!s}; "
            "the layout has no other value"
        )
    return values.astype(np.uint8)
