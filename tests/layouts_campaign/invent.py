"""Layouts by seed and number: half of them good, half bad, no bad kind twice in a hundred."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .bad import BAD
from .case import Layout
from .good import GOOD

COUNT = 100


def layout(seed: int, number: int, folder: Path) -> Layout:
    """Write layout `number` of a seed into an empty folder."""
    rng = np.random.default_rng([seed, number])
    if number % 2:
        return GOOD[rng.integers(len(GOOD))](rng, folder)
    kinds = np.random.default_rng(seed).permutation(sorted(BAD))
    kind = str(kinds[number // 2 % len(kinds)])
    make, words = BAD[kind]
    made = make(rng, folder)
    if isinstance(made, Layout):
        made.name = kind
        return made
    return Layout(name=kind, place=made, words=words)
