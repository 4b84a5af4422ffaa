"""What the simulator knows of each frame and no camera sees, read from the files it writes beside the data."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import Labels
from fmfbench.files.npz import NpzFile

__all__ = ["QUANTITIES", "Truth", "read_truth"]

QUANTITIES = ("visibility", "mist_depth", "glare", "reflections")
_MAX_FRAMES = 1 << 28
_MAX_META_BYTES = 1 << 20
_MOST_DISAGREEMENT = 0.1  # other furnaces of the same size disagree on about half of the frames


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Hidden states of N samples, in the order of the labels they were read for.

    `source` names the simulator, its version and seed; `values` maps each of `QUANTITIES` to (N,) float64:
    visibility 0..1, optical depth of the mist, grey levels of glare, number of red reflections.
    """

    source: str
    values: dict[str, NDArray[np.float64]]


def read_truth(
    folder: str | os.PathLike[str], labels: Labels, num_frames: dict[str, int] | None = None
) -> Truth:
    """Read `NAME.npz` of every recording that `labels` come from, as `fmfbench simulate` writes them.

    Args:
        folder: the simulator's folder `truth`.
        labels: of the scored samples; their class labels must be the simulated events.
        num_frames: frames of each recording; without it the truth may be longer than the labels reach.

    Raises:
        PredictionError: a file is missing or not such a file, or belongs to other recordings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PredictionError(
            f"{folder}: expected the simulator's folder of truth files, got "
            f"{'a file' if folder.exists() else 'nothing'}; `fmfbench simulate OUT` writes OUT/truth"
        )
    values = {name: np.zeros(len(labels)) for name in QUANTITIES}
    sources: dict[str, None] = {}
    for index in np.unique(labels.recording).tolist():
        name = labels.recordings[index]
        if set(name) & set("/\\:\0") or name in ("", ".", ".."):
            raise PredictionError(f"recording: expected a plain name, got the path {name!a}")
        path = folder / f"{name}.npz"
        try:
            source, arrays = _read(path, name)
            rows = np.flatnonzero(labels.recording == index)
            _check_belongs(arrays, labels.take(rows), None if num_frames is None else num_frames[name])
        except PredictionError as error:
            text = str(error).removeprefix(f"{path}: ")
            raise PredictionError(f"{path}: not the truth of recording {name}: {text}") from None
        sources[source] = None
        for key in QUANTITIES:
            values[key][rows] = arrays[key][labels.frame[rows]]
    return Truth(source=", ".join(sources), values=values)


def _read(path: Path, name: str) -> tuple[str, dict[str, NDArray[Any]]]:
    """The simulator's words for itself, and the arrays of one file, all (T,)."""
    with NpzFile(path) as archive:
        wanted = (*QUANTITIES, "event")
        missing = [key for key in (*wanted, "meta") if key not in archive.names]
        if missing:
            raise PredictionError(
                f"expected the arrays {', '.join(wanted)} and meta, got none called {', '.join(missing)}; "
                "`fmfbench simulate` writes them"
            )
        headers = {key: archive.header(key) for key in (*wanted, "meta")}
        length = headers["event"].shape
        for key in wanted:
            header = headers[key]
            if len(header.shape) != 1 or header.shape != length or header.dtype.kind not in "iuf":
                raise PredictionError(
                    f"{key}: expected one number a frame, got shape {header.shape} of type {header.dtype}"
                )
        if length[0] > _MAX_FRAMES or headers["meta"].nbytes > _MAX_META_BYTES:
            raise PredictionError(f"expected at most {_MAX_FRAMES} frames, got {length[0]}")
        meta = _parse_meta(archive.read("meta", headers["meta"]), name)
        arrays = {key: archive.read(key, headers[key]) for key in wanted}
    for key in QUANTITIES:
        low, high = 0.0, 1.0 if key == "visibility" else np.inf
        good = np.isfinite(arrays[key]) & (arrays[key] >= low) & (arrays[key] <= high)
        if not good.all():
            raise PredictionError(
                f"{key}: expected numbers from {low:g} to {high:g}, got others in {np.count_nonzero(~good)} frames"
            )
    if meta.get("anomaly_free"):
        arrays["event"] = np.full(length, -1)
    return f"{meta['name']} {meta['version']}, seed {meta['seed']}", arrays


def _parse_meta(array: NDArray[Any], name: str) -> dict[str, Any]:
    try:
        meta = json.loads(str(array.reshape(-1)[0]))
        good = all(isinstance(meta[key], str) for key in ("name", "version", "recording")) and isinstance(
            meta["seed"], int
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        good = False
    if not good:
        raise PredictionError(
            "expected a meta that names simulator, version, recording and seed, got one that lacks some"
        )
    if meta["recording"] != name:
        raise PredictionError(
            f"expected the meta of recording {name!a}, got that of {meta['recording'][:80]!a}"
        )
    return dict(meta)


def _check_belongs(arrays: dict[str, NDArray[Any]], labels: Labels, num_frames: int | None) -> None:
    """The truth has the recording's frames, and its events are the labels, so that another seed is noticed."""
    assert labels.class_label is not None
    length = len(arrays["event"])
    if num_frames is not None and length != num_frames:
        raise PredictionError(f"expected the recording's {num_frames} frames, got {length}")
    if length <= int(labels.frame.max()):
        raise PredictionError(
            f"expected more than {int(labels.frame.max())} frames, which the labels reach, got {length}"
        )
    event = arrays["event"][labels.frame] >= 0
    differ = int(np.count_nonzero(event != (labels.class_label == 1)))
    if differ > _MOST_DISAGREEMENT * len(labels):
        raise PredictionError(
            f"expected the truth written with these recordings, got events that differ from the labels on "
            f"{differ} of {len(labels)} frames, as those of another seed do"
        )
