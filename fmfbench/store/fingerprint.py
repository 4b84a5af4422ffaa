"""The fingerprint of a store: what must be equal for two scores to be comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fingerprint", "LabelFacts", "fingerprints"]

_SOURCE = "source"


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """What the fingerprint covers of one recording.

    `masks` yields blocks (n,H,W) of 0/1, in order; `split` is the source's, `named` are the others, each of which has a
    fingerprint of its own.
    """

    name: str
    num_frames: int
    height: int
    width: int
    split: NDArray[np.uint8]
    class_label: NDArray[np.uint8]
    masks: Iterable[NDArray[np.uint8]] = ()
    named: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


class Fingerprint:
    """The sums, one for each split, while recordings are added to them in order of id; masks are read once for all."""

    def __init__(self) -> None:
        self._totals = {_SOURCE: hashlib.sha256()}
        self._began = False

    def add(self, recording: LabelFacts) -> None:
        """A line `name, frames, H, W`, split, class labels, packed masks.

        Raises:
            ValueError: the recording lacks a named split that one before it had, or has one that those lacked.
        """
        splits = {_SOURCE: recording.split, **recording.named}
        if not self._began:
            self._totals = {name: hashlib.sha256() for name in splits}
        if set(splits) != set(self._totals):
            raise ValueError(f"{recording.name}: expected splits {set(self._totals)}, got {set(splits)}")
        self._began = True
        sizes = (recording.num_frames, recording.height, recording.width)
        for name, total in self._totals.items():
            total.update("\0".join((recording.name, *map(str, sizes))).encode() + b"\n")
            total.update(splits[name].tobytes())
            total.update(recording.class_label.tobytes())
        for packed in _packed(recording.masks):
            for total in self._totals.values():
                total.update(packed.tobytes())

    def hexdigest(self) -> str:
        """That of the source's own split."""
        return self._totals[_SOURCE].hexdigest()

    def hexdigests(self) -> dict[str, str]:
        """That of each split, by its name."""
        return {name: total.hexdigest() for name, total in self._totals.items()}


def fingerprints(recordings: Iterable[LabelFacts]) -> dict[str, str]:
    """sha256 over the recordings, in order of id, for each split."""
    total = Fingerprint()
    for recording in recordings:
        total.add(recording)
    return total.hexdigests()


def _packed(blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    for block in blocks:
        yield np.packbits(block.reshape(len(block), -1), axis=1)
