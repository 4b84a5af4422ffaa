"""What of a store a model trains on: which samples, with what statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmfbench.data import Dataset
from fmfbench.errors import InputError, StoreError, TrainingError
from fmfbench.windows.index import timeline
from fmfbench.windows.reader import Windows

__all__ = [
    "current_statistics",
    "fit_and_validation",
    "held_out_part",
    "normal_windows",
    "train_split",
]

Ids = NDArray[np.int64]

# Until a store knows the splits "fit" and "val": the last tenth of each recording's train frames validates,
# and the
# frames just before it, as many as ten seconds hold or another tenth if that is less, are in neither.
VALIDATION_SHARE = 0.1
GUARD_FRAMES = 250
_BLOCK = 65_536  # windows looked at together


def fit_and_validation(data: Dataset) -> tuple[Ids, Ids]:
    """Ids to train on and ids to validate on, both of the train split, apart in time."""
    try:
        return data.sample_ids("fit"), data.sample_ids("val")
    except StoreError:
        pass
    train = data.sample_ids("train")
    recording, _ = data.locate(train)
    fit, validation = [], []
    for number in np.unique(recording):
        ids = train[recording == number]
        last = len(ids) - int(len(ids) * VALIDATION_SHARE)
        guard = min(GUARD_FRAMES, int(len(ids) * VALIDATION_SHARE))
        fit.append(ids[: last - guard])
        validation.append(ids[last:])
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *fit]), np.concatenate([empty, *validation])


def train_split(data: Dataset, split: str) -> Dataset:
    """The data divided by a split: by its name, or by its train part.

    Raises:
        StoreError: no such split.
        InputError: another part of one.
    """
    if split in data.split_names:
        return data.with_split(split)
    divided, part = data.divided(split)
    if part != "train":
        raise InputError(
            f"{data.path}: expected a split to train on, or its train part, got {split!r}; it has "
            f"{', '.join(data.split_names)}"
        )
    return divided


def held_out_part(data: Dataset, ids: Ids, share: float) -> tuple[Ids, Ids]:
    """(ids for gradients, ids for `Model.fit`): of each recording the last `share` in time is held out."""
    if share == 0:
        return ids, np.empty(0, np.int64)
    recording, _ = data.locate(ids)
    early, late = [], []
    for number in np.unique(recording):
        own = ids[recording == number]
        cut = len(own) - round(len(own) * share)
        early.append(own[:cut])
        late.append(own[cut:])
    return np.concatenate(early), np.concatenate(late)


def normal_windows(windows: Windows) -> Ids:
    """Ids of the windows that show nothing but normal frames of the train split: every frame that the window
    holds is one, not the judged one alone.

    Frames of other splits do not count as normal, whatever their labels: those are not looked at. Currents are
    not judged: their windows reach back over minutes, and an earlier event is part of what leads to a normal
    frame.
    """
    samples, kept = windows.samples, np.zeros(len(windows), bool)
    for start in range(0, len(windows), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(windows)))
        held, _ = samples.video_table(block)
        for number, places in samples.by_recording(block):
            recording = samples.recordings[number]
            normal = (recording.split == 0) & (recording.class_label == 0)
            own = normal[samples.frame[block[places]]]  # a protocol may show no frame at all
            kept[block[places]] = own & normal[held[places]].all(axis=1)
    return windows.sample_ids[kept]


def current_statistics(data: Dataset, *, normal_only: bool = False) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation (A) of each phase over the finite rows of train frames; None without any.

    A current row belongs to the last frame at or before it. normal_only: rows of normal frames alone.
    """
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for recording in data.recordings.values():
        line = timeline(recording)
        wanted = (line.current_split == 0) & line.current_finite
        if normal_only and len(recording.frame_time):
            frame = np.searchsorted(recording.frame_time, recording.current_time, side="right") - 1
            wanted &= (frame >= 0) & (recording.class_label[np.maximum(frame, 0)] == 0)
        rows = recording.current[wanted].astype(np.float64)
        total += rows.sum(0)
        squares += (rows**2).sum(0)
        count += len(rows)
    if not count:
        return None
    mean = total / count
    return mean.tolist(), np.sqrt(np.maximum(squares / count - mean**2, 0)).tolist()


def check_labelled(data: Dataset, ids: Ids) -> None:
    """TrainingError unless every sample has a class label."""
    labels = data.class_labels(ids)
    unlabelled = ids[labels == 255]
    if len(unlabelled):
        raise TrainingError(
            f"{data.path}: expected labelled samples to train on, {len(unlabelled)} of {len(ids)} have no label, "
            f"first {', '.join(map(str, unlabelled[:5]))}; add a label layer"
        )
