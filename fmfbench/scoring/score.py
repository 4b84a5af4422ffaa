"""The score of a prediction file on a split, and what it needs to be believed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import (
    SPLITS,
    UNLABELLED,
    Labels,
    labels_from_dataset,
    read_labels,
)
from fmfbench.exchange.predictions import Predictions, Target, read_predictions
from fmfbench.exchange.truth import read_truth
from fmfbench.files.local import local_path
from fmfbench.files.problems import first_five
from fmfbench.files.remote import Place, parse_place
from fmfbench.scoring.bootstrap import check_resampling
from fmfbench.scoring.evidence import Tally, gather_evidence, no_pixels_reason, tally
from fmfbench.scoring.figures import count_figures
from fmfbench.scoring.metrics import COUNT_METRICS, Figure, count_metrics, metric, official_metrics
from fmfbench.scoring.pixel_ranks import AUPRO_LIMIT, check_limit
from fmfbench.scoring.provenance import provenance_notes
from fmfbench.scoring.receipt import command_text, make_receipt
from fmfbench.scoring.result import Score
from fmfbench.scoring.sensitivity import strict_part
from fmfbench.scoring.threshold import threshold_of
from fmfbench.store.reader import StoreReader
from fmfbench.store.split_names import parse_split
from fmfbench.store.splits import has_guard, per_second_rows
from fmfbench.windows.division import reach_seconds
from fmfbench.windows.protocol import get_protocol
from fmfbench.windows.reader import strict_ids

__all__ = ["score"]

# the options that a receipt's command names where they are not these
_DEFAULTS: dict[str, Any] = {
    "context": None,
    "protocol": None,
    "compat": None,
    "resamples": 2000,
    "block_seconds": None,
    "seed": 0,
    "per_second": False,
    "truth": None,
    "aupro_limit": AUPRO_LIMIT,
}


def score(
    predictions: str | os.PathLike[str],
    data: StoreReader | Labels | str | os.PathLike[str],
    split: str = "test",
    *,
    context: str | None = None,
    protocol: Any = None,
    compat: str | None = None,
    evidence: bool = True,
    resamples: int = 2000,
    block_seconds: float | None = None,
    seed: int = 0,
    per_second: bool = False,
    truth: str | os.PathLike[str] | None = None,
    aupro_limit: float = AUPRO_LIMIT,
) -> Score:
    """Score a prediction file on exactly the samples of a split.

    Args:
        predictions: a prediction file.
        data: an open data set, its labels, or the path of a store or of a labels.npz.
        split: train, test, unused, all, or one derived from train (val, fit, ...), of the default split or, as in
            `derived:test`, of another.
        context: None, "full" or "masked" ask for every sample of the split; "strict" for those whose window
            under `protocol` stays inside the split.
        protocol: the window protocol of a strict sample set, by name or itself; and that whose windows look back as
            long as the guard of val, fit and kfold-fit.
        compat: "official" adds the smoothing constants of the authors' released code.
        evidence: False leaves out all but the five metrics, as `compat` does.
        resamples: bootstrap resamples behind the intervals.
        block_seconds: length of the bootstrap's blocks; found from the errors' correlation by default.
        seed: of the bootstrap.
        per_second: ask only for the last sample of each second, as models of current alone are judged. Such a
            score stands by itself: it is named per-second, and never to be set beside one of every frame.
        truth: the folder of what the simulator knows of its recordings (OUT/truth of `fmfbench simulate OUT`),
            for metrics by visibility, mist, glare and reflections.
        aupro_limit: AUPRO is over the false positive rates of pixels from 0 to this.

    Raises:
        PredictionError: the file does not cover exactly these samples or holds anything that is not a
            prediction; all problems in one line, and nothing is scored. Or the truth is not that of these
            recordings.
        WindowError: there is no such protocol.
        InputError: a bootstrap that cannot be: too few resamples, blocks without length, a negative seed. Or a
            limit of AUPRO that is not above 0 and at most 1.

    Example:
        >>> data = fmfbench.open_dataset("fmf.zarr")
        >>> scored = fmfbench.score("predictions.npz", data, split="test")
        >>> scored.metrics["fdr"], scored.metrics["mdr"], scored.metrics["miou"]  # always normal, and no masks
        (0.0, 1.0, None)
    """
    options = {name: value for name, value in locals().items() if name in _DEFAULTS}
    if compat not in (None, "official"):
        raise PredictionError(f"compat: expected official or none, got {compat!r}")
    if truth is not None and (compat is not None or not evidence):
        raise PredictionError(
            "truth: expected a score without compat, whose evidence its bands stand beside, got both"
        )
    if isinstance(data, (str, os.PathLike)):
        data = opened(parse_place(data))
    check_resampling(resamples, block_seconds, seed)
    check_limit(aupro_limit)
    found, labels = read_for(
        predictions, data, split, context=context, protocol=protocol, per_second=per_second
    )
    hidden = None if truth is None else read_truth(truth, labels, _num_frames(data))
    counts = tally(labels, found.decision, found.mask_bits)
    frame, pixel = counts.frame_total, counts.pixel_total
    gathered = None
    if evidence and compat is None and len(labels):
        gathered = gather_evidence(
            found,
            labels,
            counts,
            train_prior=train_prior(data, split),
            truth=hidden,
            resamples=resamples,
            block_seconds=block_seconds,
            seed=seed,
            aupro_limit=aupro_limit,
        )
    if gathered is not None and context != "strict" and not per_second:
        part = strict_part(
            found,
            labels,
            counts,
            data,
            split,
            resamples=resamples,
            block_seconds=block_seconds,
            seed=seed,
        )
        gathered = replace(gathered, sensitivity=part)
    sample_set = "per-second" if per_second else "every frame"
    return Score(
        figures=_plain_figures(counts, labels, compat) if gathered is None else gathered.figures,
        frame=frame,
        pixel=pixel,
        split=split,
        num_samples=len(labels),
        fingerprint=labels.fingerprint,
        file=found.file,
        context=context,
        protocol=None if protocol is None else protocol_name(protocol),
        compat=compat,
        sample_set=sample_set,
        decision="score > 0.5" if found.pred is None else "pred",
        meta=found.meta,
        notes=(*found.notes, *provenance_notes(found.meta)),
        evidence=gathered,
        receipt=make_receipt(
            Path(predictions),
            labels,
            found.meta,
            threshold_of(found)[0],
            split=split,
            sample_set=sample_set,
            command=command_text(Path(predictions), data, split, options, _DEFAULTS),
        ),
    )


def _plain_figures(counts: Tally, labels: Labels, compat: str | None) -> tuple[Figure, ...]:
    """The five without intervals."""
    frame, pixel = counts.frame_total, counts.pixel_total
    no_pixels = no_pixels_reason(labels)
    if compat == "official":
        lacking = "the authors' released evaluation code has no such metric"
        reasons = {name: no_pixels if metric(name).official else lacking for name in COUNT_METRICS}
        return count_figures(official_metrics(frame, pixel), reasons)
    return count_figures(*count_metrics(frame, pixel, no_pixels))


def read_for(
    predictions: str | os.PathLike[str],
    data: StoreReader | Labels,
    split: str,
    *,
    context: str | None = None,
    protocol: Any = None,
    per_second: bool = False,
) -> tuple[Predictions, Labels]:
    """A prediction file and the labels of exactly the samples that it covers, both in order of sample id.

    Raises:
        PredictionError: as `score` does.
    """
    if context not in (None, "full", "masked", "strict"):
        raise PredictionError(f"context: expected full, masked or strict, got {context!r}")
    labels = scored_labels(data, split, context, protocol)
    if per_second:
        labels = labels.take(per_second_rows(labels.recording, labels.frame_time))
    target = Target(
        sample_id=labels.sample_id,
        split=split,
        mask_shape=None if labels.no_mask else labels.mask_shape,
        fingerprint=labels.fingerprint,
        strict_protocol=protocol_name(protocol) if context == "strict" else None,
        per_second=per_second,
        guard_seconds=reach_seconds(get_protocol(protocol or "paper"))
        if has_guard(parse_split(split)[1])
        else None,
    )
    found = read_predictions(predictions, target)
    if "outliers" in found.meta:
        raise PredictionError(
            f"{found.file}: expected predictions on the samples as they are, got some on an outlier file; "
            f"give them to `fmfbench outliers score`"
        )
    return found, labels


def scored_labels(data: StoreReader | Labels, split: str, context: str | None, protocol: Any) -> Labels:
    """The labels of the samples that a file must cover: those of the split, or of its strict sample set.

    Raises:
        PredictionError: there are no labels, some samples are unlabelled, or windows would be needed.
        WindowError: no such protocol.
    """
    chosen = get_protocol(protocol or "paper")  # a name that is none must not stand in a score, used or not
    guard = reach_seconds(chosen)
    if isinstance(data, Labels):
        if context == "strict":
            raise PredictionError(
                "context strict: expected a store, for its samples depend on the windows, got a label file"
            )
        labels = data.select(split, guard_seconds=guard)
    else:
        labels = labels_from_dataset(data, split, guard_seconds=guard)
        if context == "strict":
            ids = strict_ids(data, split, chosen)
            labels = labels.take(np.isin(labels.sample_id, ids))
    if labels.class_label is None:
        raise PredictionError(
            "expected a label file with labels, got one of ids only; score with one exported without --ids-only"
        )
    bare = labels.sample_id[labels.class_label == UNLABELLED]
    if len(bare):
        raise PredictionError(
            f"split {split}: expected labels for all samples, got {len(bare)} without: {first_five(bare)}"
        )
    return labels


def train_prior(data: StoreReader | Labels, split: str) -> float | None:
    """Share of abnormal samples among the labelled train samples, None where there are none.

    Those of the split that `split` is a part of.
    """
    if isinstance(data, Labels):
        train = data.class_label[data.split == SPLITS["train"]] if data.class_label is not None else None
    else:
        train = data.class_labels(data.divided(split)[0].sample_ids("train"))
    if train is None:
        return None
    known = train[train != UNLABELLED]
    return float(known.mean()) if len(known) else None


def _num_frames(data: StoreReader | Labels) -> dict[str, int] | None:
    """Frames of each recording; a label file may hold one split alone and does not know."""
    if isinstance(data, Labels):
        return None
    return {name: int(recording.num_frames) for name, recording in data.recordings.items()}


def protocol_name(protocol: Any) -> str:
    """The name of a protocol given by name, as itself or by its fields; none means paper."""
    return get_protocol(protocol or "paper").name


def opened(path: Place) -> StoreReader | Labels:
    """The labels of a labels.npz, or an open store."""
    if not path.exists():
        raise PredictionError(f"{path}: expected a store or a label file, got nothing")
    if not path.is_dir():
        return read_labels(local_path(path))
    return StoreReader.open(path)
