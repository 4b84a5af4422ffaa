"""What of a store a model trains on: which samples, with what statistics."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fmfbench.data import Dataset
from fmfbench.errors import InputError, StoreError, TrainingError, WindowError
from fmfbench.store.splits import GUARD_SECONDS, parse_derived
from fmfbench.windows.division import first_seen, guard_frames, reach_seconds
from fmfbench.windows.lines import timeline
from fmfbench.windows.protocol import PROTOCOLS, WindowProtocol
from fmfbench.windows.reader import Windows

__all__ = [
    "abnormal_pixel_share",
    "current_statistics",
    "fit_and_validation",
    "held_out_part",
    "left_out_of",
    "normal_windows",
    "train_split",
    "without_fold",
]

Ids = NDArray[np.int64]

FOLD_KINDS = ("loro", "kfold")
_MASKS = 512  # of which the share of abnormal pixels is taken
_LEAST_SHARE = 1e-4
_BLOCK = 65_536  # windows looked at together


def abnormal_pixel_share(data: Dataset, ids: Ids) -> float:
    """The share of abnormal pixels in the masks of some samples, evenly spread over `ids`; 1e-4 at least.

    Raises:
        InputError: none of them has a mask.
    """
    recording, frame = data.locate(ids)
    known = list(data.recordings.values())
    masked = np.flatnonzero(np.isin(recording, [i for i, own in enumerate(known) if own.masks is not None]))
    if not len(masked):
        raise InputError(f"{data.path}: mask_prior: expected training samples with pixel labels, got none")
    chosen = masked[np.unique(np.linspace(0, len(masked) - 1, _MASKS).round().astype(int))]
    found = [known[recording[i]].read_masks(int(frame[i]), int(frame[i]) + 1).mean() for i in chosen.tolist()]
    return max(float(np.mean(found)), _LEAST_SHARE)


def fit_and_validation(data: Dataset, protocol: WindowProtocol | None = None) -> tuple[Ids, Ids]:
    """Ids to train on and ids to validate on, both of the train split, apart in time.

    They are the store's splits `fit` and `val`, with a guard between them as long as windows of `protocol` look back,
    tolerance included.

    Without a protocol the guard is that of the longest one with a name (221 s).

    Raises:
        InputError: no recording is long enough; the message names what would do.
    """
    guard = GUARD_SECONDS if protocol is None else reach_seconds(protocol)
    try:
        fit, validation = (data.sample_ids(part, guard_seconds=guard) for part in ("fit", "val"))
    except StoreError:
        raise InputError(_no_guard(data, guard, protocol)) from None
    return (fit if protocol is None else _unseen(data, fit, validation, protocol)), validation


def _unseen(data: Dataset, fit: Ids, validation: Ids, protocol: WindowProtocol) -> Ids:
    """`fit` without what a validation window holds all the same: across a gap it may hold an older row or frame."""
    recording, frame = data.locate(fit)
    val_recording, val_frame = data.locate(validation)
    kept = np.ones(len(fit), bool)
    for number, own in enumerate(data.recordings.values()):
        judged = val_frame[val_recording == number]
        if len(judged):
            first = first_seen(timeline(own), protocol)[judged.min()]
            kept &= (recording != number) | (frame < first)
    return fit[kept]


def _no_guard(data: Dataset, guard: float, protocol: WindowProtocol | None) -> str:
    """What to do where no recording has train time for a guard."""
    train = data.sample_ids("train")
    recording, frame = data.locate(train)
    longest = 0.0
    for number, own in enumerate(data.recordings.values()):
        times = own.frame_time[frame[recording == number]]
        if len(times):
            longest = max(longest, float(times[-1] - times[0]) / 1e9)
    fits = 0.6 * longest  # the guard and a last fifth leave as much as that fifth
    named = [other for other in PROTOCOLS.values() if reach_seconds(other) <= fits]
    choices = ["train without validation (validate=false)"]
    if named:
        nearest = max(named, key=reach_seconds)
        choices.append(f"with another protocol ({nearest.name} looks back {reach_seconds(nearest):g} s)")
    if protocol is not None and protocol.current_seconds + protocol.tolerance == guard:
        shorter = math.floor(10 * (fits - protocol.tolerance)) / 10
        if shorter > 0:
            choices.append(f"with a shorter current (protocol.current_seconds={shorter:g} or less)")
    name = "any protocol with a name" if protocol is None else f"protocol {protocol.name}"
    return (
        f"{data.path}: validation: expected a recording with train time for a guard of {guard:g} s, as windows of "
        f"{name} look back, before a last fifth that validates, got at most {longest:.1f} s of train time, which has "
        f"room for a guard of {fits:.1f} s; {', or '.join(choices)}"
    )


def train_split(data: Dataset, split: str) -> tuple[Dataset, str | None]:
    """The data divided by a split, and the fold of its train samples that is left out, where `split` names one.

    split: a stored split by its name, or by its train part; `loro:NAME`, which leaves the recording NAME out of train;
    `kfold:I/K`, which leaves the I-th of K parts of each recording's train time out (`kfold:I`: of five); or a fold of
    a stored split, as in `derived:loro:NAME`.

    Raises:
        StoreError: no such split.
        InputError: another part of one, no such recording, or no such fold.
    """
    if split in data.split_names:
        return data.with_split(split), None
    name, _, part = split.partition(":")
    if name in data.split_names:
        own, asked = data.with_split(name), part
    else:
        own, asked = data, split
    kind, colon, value = asked.partition(":")
    if colon and kind in FOLD_KINDS:
        return own, parse_fold_name(own, kind, value)
    divided, part = data.divided(split)
    if part != "train":
        raise InputError(
            f"{data.path}: expected a split to train on, or its train part, got {split!r}; it has "
            f"{', '.join(data.split_names)}; or a fold to leave out: loro:RECORDING, kfold:I/K"
        )
    return divided, None


def parse_fold_name(data: Dataset, kind: str, value: str) -> str:
    """The one spelling of a fold, as run folders keep it; InputError where there is none such."""
    try:
        derived = parse_derived(f"{kind}-val:{value}", tuple(data.recordings))
    except WindowError as error:
        raise InputError(f"{data.path}: {str(error).replace(f'{kind}-val:', f'{kind}:')}") from None
    if kind == "kfold":
        return "kfold:{}/{}".format(*derived.fold)
    if len(data.recordings) < 2:
        raise InputError(
            f"{data.path}: loro:{value}: expected another recording to train on, got this one alone"
        )
    return f"loro:{value}"


def left_out_of(fold: str) -> str:
    """The derived split that a model trained with `fold` has not seen: what to predict and score on.

    >>> left_out_of("loro:run7"), left_out_of("kfold:2/5")
    ('loro-val:run7', 'kfold-val:2/5')
    """
    return fold.replace(":", "-val:", 1)


def without_fold(data: Dataset, fold: str, protocol: WindowProtocol) -> Ids:
    """Ids of the train samples outside a fold, none of whose windows shares anything with a window of the fold.

    Raises:
        InputError: nothing is left.
    """
    guard = reach_seconds(protocol)
    try:
        kept = data.sample_ids(fold.replace(":", "-fit:", 1), guard_seconds=guard)
    except StoreError as error:
        raise InputError(str(error)) from None
    if fold.startswith("loro:") or not len(kept):
        return kept
    recording, frame = data.locate(kept)
    left_recording, left_frame = data.locate(data.sample_ids(left_out_of(fold), guard_seconds=guard))
    clear = np.ones(len(kept), bool)
    for number, own in enumerate(
        data.recordings.values()
    ):  # across a gap a window holds older rows than the guard
        left = np.zeros(own.num_frames, bool)
        left[left_frame[left_recording == number]] = True
        here = recording == number
        clear[here] = ~guard_frames(timeline(own), left, protocol)[frame[here]]
    return kept[clear]


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
    """Ids of the windows that show nothing but normal frames of the train split.

    Every frame that the window holds is one, not the judged one alone.

    Frames of other splits do not count as normal, whatever their labels: those are not looked at. Currents are
    not judged: their windows reach back over minutes, and an earlier event is part of what leads to a normal
    frame.
    """
    samples, kept = windows.samples, np.zeros(len(windows), bool)
    for start in range(0, len(windows), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(windows)))
        held, _ = samples.video_table(block)
        for number, places, frames in samples.by_recording(block):
            recording = samples.recordings[number]
            normal = (recording.split == 0) & (recording.class_label == 0)
            own = normal[frames]  # a protocol may show no frame at all
            kept[block[places]] = own & normal[held[places]].all(axis=1)
    return windows.sample_ids[kept]


def current_statistics(
    data: Dataset, *, normal_only: bool = False, within: Ids | None = None
) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation (A) of each phase over the finite rows of train frames; None without any.

    A current row belongs to the last frame at or before it. normal_only: rows of normal frames alone. within: rows of
    these samples alone, as of training without a fold.
    """
    total, squares, count = np.zeros(3), np.zeros(3), 0
    chosen = None if within is None else data.locate(within)
    for number, recording in enumerate(data.recordings.values()):
        line = timeline(recording)
        wanted = (line.current_split == 0) & line.current_finite
        if (normal_only or chosen is not None) and len(recording.frame_time):
            frame = np.searchsorted(recording.frame_time, recording.current_time, side="right") - 1
            there, frame = frame >= 0, np.maximum(frame, 0)
            if normal_only:
                wanted &= there & (recording.class_label[frame] == 0)
            if chosen is not None:
                kept = np.zeros(recording.num_frames, bool)
                kept[chosen[1][chosen[0] == number]] = True
                wanted &= there & kept[frame]
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
            f"{data.path}: expected labelled samples to train on, got {len(unlabelled)} of {len(ids)} without a label, "
            f"first {', '.join(map(str, unlabelled[:5]))}; add a label layer"
        )
