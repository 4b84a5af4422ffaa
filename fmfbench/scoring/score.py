"""The score of a prediction file on a split, and what it needs to be believed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fmfbench.errors import PredictionError
from fmfbench.scoring.labels import UNLABELLED, Labels, LabelSource, labels_from_dataset, read_labels
from fmfbench.scoring.masks import mask_counts, pixel_confusion
from fmfbench.scoring.metrics import (
    METRIC_TITLES,
    Confusion,
    confusion,
    five_metrics,
    official_metrics,
)
from fmfbench.scoring.predictions import Predictions, Target, read_predictions
from fmfbench.scoring.problems import first_five

__all__ = ["Score", "score"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The five metrics of one file on one split, with the counts they come from.

    `metrics` maps accuracy, f1, fdr, mdr and miou to a float, or to None with the reason in `undefined`.
    """

    metrics: Mapping[str, float | None]
    undefined: Mapping[str, str]
    frame: Confusion
    pixel: Confusion | None
    split: str
    num_samples: int
    fingerprint: str
    file: str
    context: str | None = None
    protocol: str | None = None
    compat: str | None = None
    decision: str = "score > 0.5"
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What `fmfbench score --json` prints; plain types that JSON can hold."""
        return {
            "metrics": dict(self.metrics),
            "undefined": dict(self.undefined),
            "counts": {
                "frame": self.frame.as_dict(),
                "pixel": None if self.pixel is None else self.pixel.as_dict(),
            },
            "split": self.split,
            "num_samples": self.num_samples,
            "fingerprint": self.fingerprint,
            "file": self.file,
            "context": self.context,
            "protocol": self.protocol,
            "compat": self.compat,
            "decision": self.decision,
            "meta": dict(self.meta),
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """A table for people; FDR and MDR are spelled out because the paper's names mislead."""
        title = f"{self.file} on split {self.split}, {self.num_samples} samples"
        if self.compat:
            title += f" (compat {self.compat}: with the released code's smoothing constants)"
        lines = [title, "", "| metric | value |", "|---|---|"]
        for name, value in self.metrics.items():
            shown = f"undefined: {self.undefined[name]}" if value is None else f"{value:.6f}"
            lines.append(f"| {METRIC_TITLES[name]} | {shown} |")
        lines += ["", f"frames: {_counts(self.frame)}; decided by {self.decision}"]
        if self.pixel is not None:
            lines.append(f"pixels: {_counts(self.pixel)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def score(
    predictions: str | os.PathLike[str],
    data: LabelSource | Labels | str | os.PathLike[str],
    split: str = "test",
    *,
    context: str | None = None,
    protocol: Any = None,
    compat: str | None = None,
) -> Score:
    """Score a prediction file on exactly the samples of a split.

    Args:
        predictions: a prediction file.
        data: an open data set, its labels, or the path of a store or of a labels.npz.
        split: train, test, unused or all.
        context: None, "full" or "masked" ask for every sample of the split; "strict" for those whose window
            under `protocol` stays inside the split.
        protocol: the window protocol of a strict sample set, by name or itself.
        compat: "official" adds the smoothing constants of the authors' released code.

    Raises:
        PredictionError: the file does not cover exactly these samples or holds anything that is not a
            prediction; all problems in one line, and nothing is scored.
    """
    if compat not in (None, "official"):
        raise PredictionError(f"compat {compat!r}: wanted official or none")
    if context not in (None, "full", "masked", "strict"):
        raise PredictionError(f"context {context!r}: wanted full, masked or strict")
    labels = scored_labels(data, split, context, protocol)
    target = Target(
        sample_id=labels.sample_id,
        split=split,
        mask_shape=None if labels.no_mask else labels.mask_shape,
        fingerprint=labels.fingerprint,
        strict_protocol=protocol_name(protocol) if context == "strict" else None,
    )
    found = read_predictions(predictions, target)
    return score_arrays(found, labels, split=split, context=context, protocol=protocol, compat=compat)


def scored_labels(
    data: LabelSource | Labels | str | os.PathLike[str], split: str, context: str | None, protocol: Any
) -> Labels:
    """The labels of the samples that a file must cover: those of the split, or of its strict sample set.

    Raises:
        PredictionError: there are no labels, some samples are unlabelled, or windows would be needed.
    """
    if isinstance(data, (str, os.PathLike)):
        data = _opened(Path(data))
    if isinstance(data, Labels):
        if context == "strict":
            raise PredictionError("context strict: its samples depend on the windows; score with the store")
        labels = data.select(split)
    else:
        labels = labels_from_dataset(data, split)
        if context == "strict":
            windows = data.windows(split, protocol=protocol or "paper", context="strict")
            labels = labels.take(np.isin(labels.sample_id, windows.sample_ids))
    if labels.class_label is None:
        raise PredictionError("the label file holds ids only; score with one exported without --ids-only")
    bare = labels.sample_id[labels.class_label == UNLABELLED]
    if len(bare):
        raise PredictionError(
            f"split {split} has {len(bare)} unlabelled samples: {first_five(bare)}; "
            "wanted labels for all of them"
        )
    return labels


def score_arrays(
    found: Predictions,
    labels: Labels,
    *,
    split: str,
    context: str | None = None,
    protocol: Any = None,
    compat: str | None = None,
) -> Score:
    """Score what `read_predictions` checked against the very samples of `labels`."""
    assert labels.class_label is not None
    frame = confusion(labels.class_label, found.decision)
    pixel = None
    no_pixels = labels.no_mask or "no mask in the file"
    if labels.no_mask is None and labels.mask_bits is not None and found.mask_bits is not None:
        height, width = labels.mask_shape or (0, 0)
        pixel = pixel_confusion(mask_counts(labels.mask_bits, found.mask_bits), height * width)
    metrics, undefined = five_metrics(frame, pixel, no_pixels)
    if compat == "official":
        metrics = official_metrics(frame, pixel)
        undefined = {"miou": no_pixels} if pixel is None else {}
    return Score(
        metrics=metrics,
        undefined=undefined,
        frame=frame,
        pixel=pixel,
        split=split,
        num_samples=len(labels),
        fingerprint=labels.fingerprint,
        file=found.file,
        context=context,
        protocol=None if protocol is None else protocol_name(protocol),
        compat=compat,
        decision="score > 0.5" if found.pred is None else "pred",
        meta=found.meta,
        notes=found.notes,
    )


def protocol_name(protocol: Any) -> str:
    """The name of a protocol given by name or as itself; none means paper."""
    return str(getattr(protocol, "name", protocol or "paper"))


def _opened(path: Path) -> LabelSource | Labels:
    if not path.is_dir():
        return read_labels(path)
    from fmfbench.dataset import open_dataset

    return open_dataset(path)


def _counts(counts: Confusion) -> str:
    return f"TP {counts.tp}, FP {counts.fp}, FN {counts.fn}, TN {counts.tn}"
