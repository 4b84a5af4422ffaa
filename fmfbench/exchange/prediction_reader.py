"""What a prediction file says, checked in one pass as if a stranger had sent it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.exchange.mask_stream import pack_stream
from fmfbench.exchange.masks import packed_length, padding_is_set
from fmfbench.exchange.pixel_scores import PixelScores, check_header, wrong_rows
from fmfbench.exchange.target import Target, check_meta, fingerprint_in
from fmfbench.files.npz import Header, NpzFile
from fmfbench.files.problems import Problems

__all__ = ["PredictionReader", "Predictions", "Target"]

_KNOWN = ("sample_id", "score", "pred", "mask", "mask_bits", "mask_shape", "pixel_score", "meta")
_BUNDLE = {"predictions.npz", "receipt.json"}  # members of what `fmfbench score --bundle` writes
_MAX_META_BYTES = 1 << 22
_MAX_BYTES = 1 << 33
_INT64_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a prediction file says, checked, in order of sample id.

    `score` keeps the file's float type, so that "greater than one half" is decided as written.
    """

    sample_id: NDArray[np.int64]
    score: NDArray[np.floating[Any]] | None = None
    pred: NDArray[np.uint8] | None = None
    mask_bits: NDArray[np.uint8] | None = None
    mask_shape: tuple[int, int] | None = None
    pixel_score: PixelScores | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    file: str = "predictions"

    @property
    def decision(self) -> NDArray[np.uint8]:
        """(N,) 0/1: `pred` where the file has it, else score > 0.5, a tie being normal."""
        if self.pred is not None:
            return self.pred
        assert self.score is not None
        return (self.score > 0.5).astype(np.uint8)

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the data that the file says it was made for."""
        return fingerprint_in(self.meta)


class PredictionReader:
    """One pass over one file; whatever is wrong goes into `problems` and the rest is still looked at."""

    def __init__(self, archive: NpzFile, problems: Problems, target: Target | None) -> None:
        self.archive = archive
        self.problems = problems
        self.target = target
        self.notes: list[str] = []
        self.headers: dict[str, Header] = {}
        for name in archive.names:
            if name not in _KNOWN:
                self.notes.append(f"the array {name[:40]!a} is not part of the format and was not read")
                continue
            try:
                self.headers[name] = archive.header(name)
            except PredictionError as error:
                problems.add(str(error))

    def read(self) -> Predictions | None:
        if set(self.archive.names) >= _BUNDLE:
            self.problems.add(
                "expected a prediction file, got a bundle; `fmfbench board` scores bundles again"
            )
            return None
        ids = self._sample_ids()
        score = self._score(ids)
        pred = self._pred(ids)
        bits, shape = self._masks(ids)
        pixel_score = self._pixel_score(ids, shape)
        meta = self._meta()
        if not {"score", "pred"} & set(self.archive.names):
            self.problems.add("has neither score nor pred; write score (N,) in [0,1] and/or pred (N,) 0/1")
        if ids is None or self.problems.found:
            return None
        found = Predictions(
            sample_id=ids.astype(np.int64),
            score=score,
            pred=pred,
            mask_bits=bits,
            mask_shape=shape,
            pixel_score=pixel_score,
            meta=meta,
            notes=tuple(self.notes),
            file=self.archive.path.name,
        )
        return _in_order(found)

    def _sample_ids(self) -> NDArray[Any] | None:
        if "sample_id" not in self.archive.names:
            self.problems.add("sample_id (N,) is missing; write the id of each sample")
        header = self.headers.get("sample_id")
        if header is None:
            return None
        length = header.vector_length
        if header.dtype.kind not in "iu" or length is None:
            self.problems.add(
                f"sample_id has shape {header.shape} and type {header.dtype}; write (N,) of an integer type"
            )
            return None
        if length > self._most_rows():
            wanted = f"; split {self.target.split} has {len(self.target.sample_id)}" if self.target else ""
            self.problems.add(f"sample_id has {length} rows{wanted}; write each sample once")
            return None
        ids = self._array("sample_id", header)
        if ids is None:
            return None
        ids = ids.reshape(-1)
        self._check_ids(ids)
        return ids

    def _check_ids(self, ids: NDArray[Any]) -> None:
        unique, counts = np.unique(ids, return_counts=True)
        self.problems.add_ids("sample ids stand more than once", unique[counts > 1], "write each sample once")
        if self.target is None:
            outside = (unique < 0) | (unique > _INT64_MAX)
            self.problems.add_ids(
                "sample ids are negative or over 2^63-1", unique[outside], "write int64 ids"
            )
            return
        wanted, split = self.target.sample_id, self.target.split
        fits = (unique >= 0) & (unique <= _INT64_MAX)
        common = np.isin(wanted, unique[fits].astype(np.int64), assume_unique=True)
        self.problems.add_ids(
            f"samples of split {split} are missing", wanted[~common], "predict every sample of the split"
        )
        extra = ~fits
        extra[fits] = ~np.isin(unique[fits].astype(np.int64), wanted, assume_unique=True)
        self.problems.add_ids(
            f"sample ids are not in split {split}", unique[extra], "leave them out or name their split"
        )

    def _score(self, ids: NDArray[Any] | None) -> NDArray[np.floating[Any]] | None:
        score = self._column("score", "f", "a float type", ids)
        if score is None:
            return None
        for what, wrong in (
            ("scores are NaN", np.isnan(score)),
            ("scores are outside [0,1]", ~((score >= 0) & (score <= 1)) & ~np.isnan(score)),
        ):
            self._add_rows(
                what, wrong, ids, "write the probability of abnormal; nothing is clipped or squashed"
            )
        return score

    def _pred(self, ids: NDArray[Any] | None) -> NDArray[np.uint8] | None:
        pred = self._column("pred", "biu", "an integer type or bool", ids)
        if pred is None:
            return None
        self._add_rows(
            "decisions in pred are neither 0 nor 1", (pred != 0) & (pred != 1), ids, "write 0 or 1"
        )
        return pred.astype(np.uint8)

    def _column(self, name: str, kinds: str, wanted: str, ids: NDArray[Any] | None) -> NDArray[Any] | None:
        header = self.headers.get(name)
        if header is None:
            return None
        if header.dtype.kind not in kinds:
            self.problems.add(f"{name} has type {header.dtype}; write {wanted}")
            return None
        length = header.vector_length
        if length is None or length > self._most_rows():
            self.problems.add(f"{name} has shape {header.shape}; write (N,) with one value a sample")
            return None
        if ids is not None and length != len(ids):
            self.problems.add(
                f"{name} has shape {header.shape}, sample_id {ids.shape}; write one value a sample"
            )
        column = self._array(name, header)
        return None if column is None else column.reshape(-1)

    def _masks(self, ids: NDArray[Any] | None) -> tuple[NDArray[np.uint8] | None, tuple[int, int] | None]:
        dense, packed = self.headers.get("mask"), self.headers.get("mask_bits")
        if dense is not None and packed is not None:
            self.problems.add("has both mask and mask_bits; write one of them")
            return None, None
        shape = self._mask_shape()
        if dense is not None:
            if shape is not None and dense.shape[1:] != shape:
                self.problems.add(
                    f"mask has shape {dense.shape}, mask_shape says {shape}; leave mask_shape out"
                )
                return None, None
            return self._dense_masks(dense, ids)
        if packed is not None:
            return self._packed_masks(packed, shape, ids)
        return None, None

    def _mask_shape(self) -> tuple[int, int] | None:
        header = self.headers.get("mask_shape")
        if header is None:
            return None
        if header.vector_length != 2 or header.dtype.kind not in "iu":
            self.problems.add(
                f"mask_shape has shape {header.shape} and type {header.dtype}; write two integers, H and W"
            )
            return None
        array = self._array("mask_shape", header)
        if array is None:
            return None
        height, width = (int(value) for value in array.reshape(-1).tolist())
        if height < 1 or width < 1:
            self.problems.add(f"mask_shape is ({height}, {width}); write the height and width of the frames")
            return None
        return height, width

    def _dense_masks(
        self, header: Header, ids: NDArray[Any] | None
    ) -> tuple[NDArray[np.uint8] | None, tuple[int, int] | None]:
        if len(header.shape) != 3 or header.dtype.kind not in "biu":
            self.problems.add(
                f"mask has shape {header.shape} and type {header.dtype}; write (N, H, W) of integers or bool"
            )
            return None, None
        length, height, width = header.shape
        if not self._mask_fits("mask", length, (height, width), header, ids):
            return None, None
        try:
            bits, wrong = pack_stream(self.archive, header)
        except PredictionError as error:
            self.problems.add(str(error))
            return None, None
        self._add_rows("masks hold values other than 0 and 1", wrong, ids, "write 0 or 1 in every pixel")
        return bits, (height, width)

    def _packed_masks(
        self, header: Header, shape: tuple[int, int] | None, ids: NDArray[Any] | None
    ) -> tuple[NDArray[np.uint8] | None, tuple[int, int] | None]:
        if shape is None:
            if "mask_shape" not in self.archive.names:
                self.problems.add("mask_bits needs mask_shape (2,); write the frames' height and width")
            return None, None
        if header.dtype != np.uint8 or len(header.shape) != 2:
            self.problems.add(
                f"mask_bits has shape {header.shape} and type {header.dtype}; write (N, ceil(H*W/8)) of uint8"
            )
            return None, None
        if header.shape[1] != packed_length(*shape):
            self.problems.add(
                f"mask_bits has {header.shape[1]} bytes a sample; frames of {shape[0]} x {shape[1]} need "
                f"{packed_length(*shape)}"
            )
            return None, None
        if not self._mask_fits("mask_bits", header.shape[0], shape, header, ids):
            return None, None
        bits = np.empty(header.shape, np.uint8)
        try:
            target = bits.T if header.fortran else bits
            for part, block in self.archive.blocks("mask_bits", header):
                target[part] = block
        except PredictionError as error:
            self.problems.add(str(error))
            return None, None
        self._add_rows(
            "rows of mask_bits have bits set behind the last pixel",
            padding_is_set(bits, shape[0] * shape[1]),
            ids,
            "write numpy.packbits(mask[i].ravel())",
        )
        return bits, shape

    def _pixel_score(
        self, ids: NDArray[Any] | None, mask_shape: tuple[int, int] | None
    ) -> PixelScores | None:
        """Checked from end to end, but left in the file."""
        header = self.headers.get("pixel_score")
        if header is None:
            return None
        if wrong := check_header(header):
            self.problems.add(wrong)
            return None
        length, height, width = header.shape
        if mask_shape not in (None, (height, width)):
            self.problems.add(
                f"pixel_score is for frames of {height} x {width}, the masks for {mask_shape[0]} x {mask_shape[1]}; "
                "write both for the same frames"
            )
            return None
        if not self._mask_fits("pixel_score", length, (height, width), header, ids):
            return None
        try:
            nan, outside = wrong_rows(self.archive, header)
        except PredictionError as error:
            self.problems.add(str(error))
            return None
        self._add_rows("samples have NaN in pixel_score", nan, ids, "write a probability for every pixel")
        advice = "write the probability of abnormal; nothing is clipped or squashed"
        self._add_rows("samples have values outside [0,1] in pixel_score", outside, ids, advice)
        return PixelScores(path=self.archive.path, header=header, place=np.arange(length))

    def _mask_fits(
        self, name: str, length: int, shape: tuple[int, int], header: Header, ids: NDArray[Any] | None
    ) -> bool:
        """Whether the array may be read: nothing of a stranger's size is, before it fits the data's."""
        if self.target is not None and self.target.mask_shape is None:
            self.notes.append(f"{name} was not read: the data have no masks to score it against")
            return False
        if self.target is not None and shape != self.target.mask_shape:
            turned = shape == self.target.mask_shape[::-1] if self.target.mask_shape else False
            self.problems.add(
                f"{name} is for frames of {shape[0]} x {shape[1]}, the data's are "
                f"{' x '.join(map(str, self.target.mask_shape or ()))} (height x width); "
                + ("write masks upright, not transposed" if turned else "resize the masks to the data's size")
            )
            return False
        if ids is not None and length != len(ids):
            each = "one mask a sample" if name != "pixel_score" else "the scores of every sample"
            self.problems.add(f"{name} has {length} rows, sample_id {len(ids)}; write {each}")
            return False
        if length > self._most_rows() or header.nbytes > _MAX_BYTES:
            self.problems.add(f"{name} has shape {header.shape}; that is more than can be scored")
            return False
        return True

    def _meta(self) -> dict[str, Any]:
        header = self.headers.get("meta")
        if header is None:
            return {}
        text_like = header.dtype.kind in "US" and prod(header.shape) == 1
        if not (text_like or (header.dtype == np.uint8 and header.vector_length is not None)):
            self.problems.add(f"meta has shape {header.shape} and type {header.dtype}; write one JSON text")
            return {}
        if header.nbytes > _MAX_META_BYTES:
            self.problems.add(f"meta is {header.nbytes} bytes long; expected at most {_MAX_META_BYTES}")
            return {}
        if (array := self._array("meta", header)) is None:
            return {}
        meta = self._parsed_meta(array.reshape(-1)[0] if text_like else array.tobytes())
        if self.target is not None:
            check_meta(meta, self.target, self.problems)
        return meta

    def _parsed_meta(self, text: str | bytes) -> dict[str, Any]:
        try:
            meta = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
            json.dumps(meta, allow_nan=False)  # Python reads NaN and Infinity, which no JSON has
        except (ValueError, RecursionError) as error:
            self.problems.add(f"meta is not JSON text: {ascii(str(error))[1:-1][:100]}")
            return {}
        if not isinstance(meta, dict):
            self.problems.add(f"meta is a JSON {type(meta).__name__}; write an object")
            return {}
        return meta

    def _array(self, name: str, header: Header) -> NDArray[Any] | None:
        try:
            return self.archive.read(name, header)
        except PredictionError as error:
            self.problems.add(str(error))
            return None

    def _add_rows(self, what: str, wrong: NDArray[np.bool_], ids: NDArray[Any] | None, advice: str) -> None:
        if not wrong.any():
            return
        if ids is not None and len(ids) == len(wrong):
            self.problems.add_ids(what, ids[wrong], advice)
        else:
            rows = np.flatnonzero(wrong)
            self.problems.add(f"{len(rows)} {what}, rows {', '.join(map(str, rows[:5].tolist()))}; {advice}")

    def _most_rows(self) -> int:
        return 2 * len(self.target.sample_id) + 10_000 if self.target else 1 << 28


def _in_order(found: Predictions) -> Predictions:
    order = np.argsort(found.sample_id, kind="stable")
    if np.array_equal(order, np.arange(len(order))):
        return found
    rows = ("sample_id", "score", "pred", "mask_bits")
    sorted_rows = {name: value[order] for name in rows if (value := getattr(found, name)) is not None}
    if found.pixel_score is not None:
        sorted_rows["pixel_score"] = found.pixel_score.reordered(order)
    return replace(found, **sorted_rows)
