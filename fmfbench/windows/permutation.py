"""Orders of an epoch: drawn as a whole while that is small, worked out place by place where it is not.

A drawn permutation of 63 million windows takes 20 seconds and half a gigabyte in each process. Above `LARGE` windows
an epoch's order is a Feistel network instead (Luby and Rackoff, "How to construct pseudorandom permutations from
pseudorandom functions", SIAM J. Comput. 17(2), 1988) over the next power of four, walked on where it leaves the range
(Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002): a bijection that needs no memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE", "permuted", "shuffled"]

IntArray = NDArray[np.int64]

LARGE = 1 << 24  # windows
_ROUNDS = 8


def shuffled(count: int, seed: int, epoch: int) -> NDArray[np.integer]:
    """(count,) the permutation that numpy's generator of (seed, epoch) draws."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def permuted(places: NDArray[np.integer], count: int, seed: int, epoch: int) -> IntArray:
    """What stands at `places` (k,) of a pseudorandom permutation of 0..count-1.

    Example:
        >>> sorted(permuted(np.arange(1000), 1000, seed=0, epoch=1).tolist()) == list(range(1000))
        True
    """
    half = max(1, -(-(count - 1).bit_length() // 2))
    keys = np.random.SeedSequence([seed, epoch]).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
    out = _feistel(places.astype(np.uint64), keys, half)
    while len(outside := np.flatnonzero(out >= count)):
        out[outside] = _feistel(out[outside], keys, half)
    return out.astype(np.int64)


def _feistel(value: NDArray[np.uint64], keys: NDArray[np.uint64], half: int) -> NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = value >> shift, value & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << shift) | right


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
