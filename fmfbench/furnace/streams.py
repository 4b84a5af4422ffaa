"""Random numbers that depend on nothing but their key.

A stream is keyed by (STREAMS, seed, recording, part, block). It is read only through the raw 64-bit output of
Philox, which numpy promises to keep, and turned into numbers by exact arithmetic here: numpy makes no such promise
for `Generator.normal` and its like, and the events and labels must be the same on every version and machine.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from fmfbench.furnace import NAME, STREAMS

__all__ = ["Stream", "open_stream", "red_noise"]

FloatArray = npt.NDArray[np.float64]


class Stream:
    """A sequence of random numbers; two streams with the same key give the same sequence."""

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(key.encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def raw(self, count: int) -> npt.NDArray[np.uint64]:
        """(count,) uniform 64-bit integers."""
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """(count,) uniform bytes."""
        words = self.raw(-(-count // 8)).astype("<u8", copy=False)
        return words.view(np.uint8)[:count]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number, uniform in [low, high)."""
        return low + (high - low) * float(self.uniforms(1)[0])

    def uniforms(self, count: int) -> FloatArray:
        """(count,) numbers, uniform in [0, 1)."""
        return (self.raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """One integer, uniform in [low, high)."""
        return low + int(self.raw(1)[0] >> np.uint64(1)) % (high - low)

    def normals(self, count: int) -> FloatArray:
        """(count,) numbers of mean 0 and deviation 1: the sum of twelve 16-bit uniforms (at most 6 deviations)."""
        words = self.raw(3 * count).astype("<u8", copy=False).view("<u2").reshape(count, 12)
        return words.astype(np.int64).sum(axis=1) / 65536.0 - 6.0 * 65535.0 / 65536.0

    def shuffled(self, count: int) -> npt.NDArray[np.int64]:
        """A permutation of range(count)."""
        return np.argsort(self.raw(count), kind="stable")


def open_stream(seed: int, recording: str, part: str, block: int = 0) -> Stream:
    """The stream of one part of one recording; `block` tells apart stretches of time drawn independently."""
    return Stream(f"{NAME} {STREAMS}|seed {seed}|{recording}|{part}|{block}")


def red_noise(stream: Stream, count: int, correlation_steps: float) -> FloatArray:
    """(count,) first-order autoregressive noise, mean 0, deviation 1 from its first value on.

    Its autocorrelation at lag k is exp(-k / correlation_steps).
    """
    keep = float(np.exp(-1.0 / correlation_steps))
    white = stream.normals(count)
    white[1:] *= float(np.sqrt(1.0 - keep * keep))
    return np.asarray(lfilter([1.0], [1.0, -keep], white), dtype=np.float64)
