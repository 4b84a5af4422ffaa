"""Outliers of three kinds put into a split, seeded: what TN-BCL's authors do to image and text, for video and current.

Each normal sample of a split is a place. Some places, as many as the ratio asks for and as many of each kind, show
something else than their own clip and current:

    attribute     clip and current of an abnormal sample
    cross-modal   their own clip with the current of another normal sample, far away in time or of another recording
    mixed         their own clip with the current of an abnormal sample, or the other way round

Abnormal is what the labels say, or on a store without labels what shuffling makes of it (`abnormal="shuffled"`): a
clip whose pixels, or a current whose time steps, have changed places.

Peng et al., IEEE TETCI 8(1), 2024, section IV-A, replace or modify a share of one modality for attribute and mixed
outliers and shuffle pairs for cross-modal ones, without saying which or how; what is said here is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import seconds_to_ns
from fmfbench.errors import WindowError
from fmfbench.exchange.outliers import KINDS, SCHEMA, Outliers
from fmfbench.store.reader import StoreReader
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench.windows.reader import Windows

__all__ = ["make_outliers", "parse_ratio"]

Ids = NDArray[np.int64]


def parse_ratio(text: str) -> tuple[int, int]:
    """'4:1' -> (4, 1), normal to outliers.

    Raises:
        WindowError: not two whole numbers of 1 or more.
    """
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isdecimal() and 0 < len(part) < 10 and int(part) for part in parts):
        raise WindowError(
            f"expected a ratio of normal to outlying samples such as 19:1 or 1:4, got {text[:40]!r}"
        )
    return int(parts[0]), int(parts[1])


def make_outliers(
    data: StoreReader,
    split: str = "test",
    *,
    ratio: str = "4:1",
    kinds: Sequence[str] = KINDS,
    protocol: str | WindowProtocol = "paper",
    context: str = "full",
    every: int = 1,
    abnormal: str = "labels",
    apart: float | None = None,
    seed: int = 0,
) -> Outliers:
    """Draw outliers among the normal samples of a split. The same arguments give the same outliers.

    Args:
        ratio: normal to outlying samples, "19:1" to "1:4" in the paper.
        kinds: of `KINDS`; the outliers are shared among them evenly, the first ones getting what is left over.
        protocol, context, every: of the windows; every k-th sample of the split is looked at.
        abnormal: "labels": content of samples labelled abnormal; "shuffled": needs no labels, samples labelled
            abnormal are left out and unlabelled ones count as normal.
        apart: seconds between a cross-modal clip and its current, or more; by default what a window spans, so
            that they share nothing. Other recordings are always far enough.
        seed: of all draws.

    Raises:
        WindowError: a ratio, kind or `abnormal` that is none, a split without normal or abnormal samples, too
            small for an outlier of each kind, or without a sample far enough from another.
    """
    share = parse_ratio(ratio)
    wanted = tuple(kind for kind in KINDS if kind in kinds)
    if not wanted or set(kinds) - set(KINDS):
        raise WindowError(f"expected kinds of {', '.join(KINDS)}, got {', '.join(kinds) or 'none'}")
    if abnormal not in ("labels", "shuffled"):
        raise WindowError(f"expected abnormal as labels or shuffled, got {abnormal!r}")
    if seed < 0:
        raise WindowError(f"expected a seed of 0 or more, got {seed}")
    chosen = get_protocol(protocol)
    span = max(chosen.current_seconds, (chosen.num_frames - 1) * chosen.stride / chosen.video_hz)
    seconds = span if apart is None else apart
    if not 0 <= seconds < 1e9:
        raise WindowError(f"expected apart as seconds of 0 or more, got {seconds}")
    places, pool = _normal_and_abnormal(data, split, chosen, context, every, abnormal, wanted)
    rng = np.random.default_rng(seed)
    kind = _draw_kinds(rng, len(places), share, wanted, data, split)
    recording, time = _times(data, places)
    video_id, current_id = places.copy(), places.copy()
    video_shuffled, current_shuffled = np.zeros(len(places), np.uint8), np.zeros(len(places), np.uint8)

    (cross,) = np.nonzero(kind == 1 + KINDS.index("cross-modal"))
    partner = _far_partners(rng, cross, recording, time, seconds_to_ns(seconds))
    if (partner < 0).any():
        raise WindowError(
            f"{data.path}: expected a normal sample of split {split} that lies {seconds:g} s or more from sample "
            f"{places[cross[partner < 0][0]]} or in another recording, got none; ask for fewer seconds apart"
        )
    current_id[cross] = places[partner]

    (attribute,) = np.nonzero(kind == 1 + KINDS.index("attribute"))
    (mixed,) = np.nonzero(kind == 1 + KINDS.index("mixed"))
    by_video = rng.random(len(mixed)) < 0.5
    in_video = np.concatenate([attribute, mixed[by_video]])
    in_current = np.concatenate([attribute, mixed[~by_video]])
    if abnormal == "labels":
        source = rng.choice(pool, len(places)) if len(pool) else places
        video_id[in_video], current_id[in_current] = source[in_video], source[in_current]
    else:
        video_shuffled[in_video], current_shuffled[in_current] = 1, 1
    return Outliers(
        sample_id=places,
        kind=kind,
        video_id=video_id,
        current_id=current_id,
        video_shuffled=video_shuffled,
        current_shuffled=current_shuffled,
        recording=recording,
        frame_time=time,
        meta={
            "schema": SCHEMA,
            "seed": seed,
            "ratio": list(share),
            "kinds": list(wanted),
            "split": split,
            "protocol": chosen.name,
            "protocol_fields": chosen.to_dict(),
            "context": context,
            "every": every,
            "abnormal": abnormal,
            "apart_seconds": float(seconds),
            "fingerprint": data.fingerprint_of(split),
        },
    )


def _normal_and_abnormal(
    data: StoreReader,
    split: str,
    protocol: WindowProtocol,
    context: str,
    every: int,
    abnormal: str,
    kinds: tuple[str, ...],
) -> tuple[Ids, Ids]:
    """Ids that are places for outliers, and ids whose content is abnormal by their labels."""
    ids = Windows(data, split, protocol, context, every).sample_ids
    labels = data.class_labels(ids)
    normal = labels == 0 if abnormal == "labels" else labels != 1
    pool = ids[labels == 1]
    if not normal.any():
        hint = "; without labels ask for --abnormal shuffled" if (labels == 255).any() else ""
        raise WindowError(
            f"{data.path}: expected normal samples in split {split}, got none of {len(ids)}{hint}"
        )
    if abnormal == "labels" and not len(pool) and set(kinds) != {"cross-modal"}:
        raise WindowError(
            f"{data.path}: expected samples labelled abnormal in split {split}, got none of {len(ids)}; "
            "ask for --abnormal shuffled, or for --kind cross-modal alone"
        )
    sizes = {(record.height, record.width) for record in data.recordings.values()}
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise WindowError(
            f"{data.path}: expected recordings of one frame size, got {listed}; convert with one --size"
        )
    return ids[normal], pool


def _draw_kinds(
    rng: np.random.Generator,
    count: int,
    share: tuple[int, int],
    kinds: tuple[str, ...],
    data: StoreReader,
    split: str,
) -> NDArray[np.uint8]:
    """(count,): 0, or the number of a kind."""
    outlying = round(count * share[1] / sum(share))
    if outlying < len(kinds) or outlying == count:
        raise WindowError(
            f"{data.path}: expected normal samples and an outlier of each of {len(kinds)} kinds, got "
            f"{count - outlying} and {outlying} by {share[0]}:{share[1]} of {count} normal samples of split "
            f"{split}; ask for another ratio or more samples"
        )
    kind = np.zeros(count, np.uint8)
    numbers = np.array([1 + KINDS.index(name) for name in kinds], np.uint8)
    kind[rng.permutation(count)[:outlying]] = numbers[np.arange(outlying) % len(kinds)]
    return kind


def _times(data: StoreReader, ids: Ids) -> tuple[Ids, Ids]:
    """Recording number and time (ns) of each sample."""
    recording, frame = data.locate(ids)
    time = np.empty(len(ids), np.int64)
    for number, record in enumerate(data.recordings.values()):
        own = recording == number
        time[own] = record.frame_time[frame[own]]
    return recording, time


def _far_partners(rng: np.random.Generator, rows: NDArray[Any], recording: Ids, time: Ids, apart: int) -> Ids:
    """For each of `rows` another row of another recording or `apart` ns away, all equally likely; -1 without any.

    recording, time: (n,) rising together, as samples lie.
    """
    count = len(recording)
    first = np.empty(len(rows), np.int64)  # rows nearer than `apart` lie between first and last
    last = np.empty(len(rows), np.int64)
    for number in np.unique(recording[rows]).tolist():
        start, stop = np.searchsorted(recording, [number, number + 1])
        own = recording[rows] == number
        at = time[rows[own]]
        # at least the row itself is near, whatever `apart`
        first[own] = start + np.minimum(
            np.searchsorted(time[start:stop], at - apart, "right"), rows[own] - start
        )
        last[own] = start + np.maximum(
            np.searchsorted(time[start:stop], at + apart, "left"), rows[own] - start + 1
        )
    far = count - (last - first)
    draw = np.minimum((rng.random(len(rows)) * far).astype(np.int64), np.maximum(far - 1, 0))
    partner: Ids = np.where(draw < first, draw, draw + last - first)
    return np.where(far > 0, partner, -1)
