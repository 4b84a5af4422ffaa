"""The fingerprint of a store: what must be equal for two scores to be comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fingerprint", "LabelFacts", "fingerprint"]


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """What the fingerprint covers of one recording. `masks` yields blocks (n,H,W) of 0/1, in order."""

    name: str
    num_frames: int
    height: int
    width: int
    split: NDArray[np.uint8]
    class_label: NDArray[np.uint8]
    masks: Iterable[NDArray[np.uint8]] = ()


class Fingerprint:
    """The sum while recordings are added to it, in order of id."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def add(self, recording: LabelFacts) -> None:
        """A line `name, frames, H, W`, split, class labels, packed masks."""
        sizes = (recording.num_frames, recording.height, recording.width)
        self._total.update("\0".join((recording.name, *map(str, sizes))).encode() + b"\n")
        self._total.update(recording.split.tobytes())
        self._total.update(recording.class_label.tobytes())
        for packed in _packed(recording.masks):
            self._total.update(packed.tobytes())

    def hexdigest(self) -> str:
        return self._total.hexdigest()


def fingerprint(recordings: Iterable[LabelFacts]) -> str:
    """sha256 over the recordings, in order of id."""
    total = Fingerprint()
    for recording in recordings:
        total.add(recording)
    return total.hexdigest()


def _packed(blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    for block in blocks:
        yield np.packbits(block.reshape(len(block), -1), axis=1)
