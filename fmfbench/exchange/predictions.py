"""Prediction files: predictions.npz, read as if a stranger had sent it, and written."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.exchange.arrays import as_vector, plain_array
from fmfbench.exchange.masks import pack_masks
from fmfbench.exchange.pixel_scores import check_values
from fmfbench.exchange.prediction_reader import PredictionReader, Predictions, Target
from fmfbench.files.npz import NpzFile, writing_npz
from fmfbench.files.problems import Problems, check_target

__all__ = ["Predictions", "Target", "read_predictions", "write_predictions"]

_BLOCK_BYTES = 1 << 22


def read_predictions(path: str | os.PathLike[str], target: Target | None = None) -> Predictions:
    """Read and check a prediction file.

    Args:
        path: an .npz file of `sample_id` (N,) and `score` (N,) in [0,1] and/or `pred` (N,) 0/1; optionally
            `mask` (N,H,W) 0/1, or `mask_bits` (N, ceil(H*W/8)) uint8 with `mask_shape` (2,); `pixel_score`
            (N,H,W), float16 or float32 in [0,1] or uint8 for 255 times that; `meta`, JSON text. Unknown arrays are
            left unread and noted. Padding bits behind the last pixel must be 0.
        target: the samples that the file must cover exactly; None checks the file against itself only.

    Raises:
        PredictionError: one line with every problem of the file: how many, the first five ids, what to do.

    Example:
        >>> found = fmfbench.read_predictions("predictions.npz")
        >>> found.sample_id.shape, float(found.score[0])
        ((280,), 0.25)
    """
    path = Path(path)
    problems = Problems(str(path))
    with NpzFile(path) as archive:
        found = PredictionReader(archive, problems, target).read()
    problems.raise_any()
    assert found is not None
    return found


def write_predictions(
    path: str | os.PathLike[str],
    *,
    sample_id: Any,
    score: Any = None,
    pred: Any = None,
    mask: Any = None,
    mask_bits: Any = None,
    mask_shape: tuple[int, int] | None = None,
    pixel_score: Any = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Write a prediction file, packed and compressed; the same arrays give the same bytes.

    Arrays may be torch tensors (on a GPU, requiring gradients, bfloat16) and lists of batches.

    Args:
        path: the file to write, under exactly this name; replaced when whole.
        sample_id: (N,) integers, each once.
        score: (N,) probability of abnormal in [0,1], any float type.
        pred: (N,) 0/1 decisions; where absent, score > 0.5 is the decision.
        mask: (N,H,W) 0/1, upright; or `mask_bits` (N, ceil(H*W/8)) with `mask_shape` (H, W) instead.
        pixel_score: (N,H,W) probability of abnormal of each pixel, upright: float16 or float32 in [0,1], or uint8,
            a value v meaning v / 255. May be a numpy.memmap: it is never held in memory. Near 1 float16 knows
            steps of 0.0005 and uint8 everywhere steps of 0.004; pixels within one step are ties to the scorer.
        meta: what JSON can hold; keys with a meaning: model, protocol, context, fingerprint, seed, threshold,
            threshold_origin ("fixed", "validation" or "test"), versions.

    Raises:
        PredictionError: what `read_predictions` would refuse is not written.

    Example:
        >>> data = fmfbench.open_dataset("fmf.zarr")
        >>> ids = data.sample_ids("test")
        >>> score = np.linspace(0, 1, len(ids))
        >>> fmfbench.write_predictions("mine.npz", sample_id=ids, score=score, meta={"model": "mine"}).name
        'mine.npz'
    """
    path = Path(path)
    given = {"sample_id": sample_id, "score": score, "pred": pred, "mask_bits": mask_bits}
    given["mask_shape"] = mask_shape
    try:
        arrays = {
            name: plain_array(value, name, 2)
            if name == "mask_bits"
            else as_vector(plain_array(value, name, 1))
            for name, value in given.items()
            if value is not None
        }
        dense = None if mask is None else plain_array(mask, "mask", 3)
        scores = None if pixel_score is None else plain_array(pixel_score, "pixel_score", 3)
    except PredictionError as error:
        raise PredictionError(f"{path}: nothing written: {error}") from None
    if dense is not None:
        arrays |= _packed_mask(path, dense, arrays)
    if meta is not None:
        try:
            arrays["meta"] = np.array(json.dumps(dict(meta), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise PredictionError(f"{path}: meta cannot be written as JSON: {error}") from None
    check_target(path)
    if any(array.dtype.kind == "O" for array in arrays.values()):
        raise PredictionError(f"{path}: nothing written: expected plain arrays, got Python objects")
    if scores is not None:
        try:
            check_values(scores)
        except PredictionError as error:
            raise PredictionError(f"{path}: nothing written: {error}") from None
    with writing_npz(path, arrays) as temporary:
        if scores is not None:
            _append(temporary, "pixel_score", scores)
        try:
            read_predictions(temporary)
        except PredictionError as error:
            text = str(error).replace(str(temporary), str(path)).replace("nothing scored", "nothing written")
            raise PredictionError(text) from None
    return path


def _append(path: Path, name: str, array: NDArray[Any]) -> None:
    """Add a large array to an .npz file: at deflate's fastest level, row by row."""
    rows = max(1, _BLOCK_BYTES // max(array[:1].nbytes, 1))
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(array), rows):
            stream.write(array[start : start + rows].tobytes())


def _packed_mask(path: Path, mask: NDArray[Any], others: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    if "mask_bits" in others or "mask_shape" in others:
        raise PredictionError(f"{path}: expected mask or mask_bits with mask_shape, got both")
    if mask.ndim != 3 or mask.dtype.kind not in "biu":
        raise PredictionError(f"{path}: expected mask (N, H, W) of 0/1, got {mask.shape} of {mask.dtype}")
    if mask.dtype.kind != "b" and mask.size and not 0 <= mask.min() <= mask.max() <= 1:
        raise PredictionError(f"{path}: expected mask values 0 and 1, got {mask.min()} to {mask.max()}")
    return {"mask_bits": pack_masks(mask), "mask_shape": np.array(mask.shape[1:], np.int64)}
