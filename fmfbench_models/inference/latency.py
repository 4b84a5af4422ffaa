"""How long a trained model takes for one new frame, as at a furnace: window assembly, forward, score and mask."""

from __future__ import annotations

import statistics
import time

import numpy as np

from fmfbench.errors import InputError
from fmfbench_models.detector import Detector
from fmfbench_models.interface import Model

__all__ = ["frame_latency_ms"]

_PERIOD_NS = 40_000_000
_ROW_NS = 500_000_000
_WARM = 3


def frame_latency_ms(model: Model, frames: int = 20) -> float:
    """Median milliseconds from a frame to its result, on the CPU with torch's own number of threads.

    The frames are noise of the size the model was trained on; what they show does not matter to the time.

    Args:
        model: trained, with its protocol in `.meta`.
        frames: how many are timed, after three that are not.

    Raises:
        InputError: the model does not say which size of frame it takes.
    """
    size = model.meta.config.get("size")
    trained = model.meta.provenance.get("data", {}).get("frame_size") or []
    if size is None and not trained:
        raise InputError(f"{model.meta.name}: expected a model that says its frame size, got none")
    height, width = size if size is not None else (trained[0][1], trained[0][0])
    detector = Detector(model)
    rng = np.random.default_rng(0)
    protocol = detector.protocol
    rows = int(protocol.current_seconds * protocol.current_hz) + 10
    for row in range(rows):
        detector.current(row * _ROW_NS, rng.normal(8000, 500, 3))
    start = rows * _ROW_NS
    images = rng.integers(0, 256, (8, height, width, 3), dtype=np.uint8)
    history = (protocol.num_frames - 1) * protocol.stride
    for k in range(history):
        detector.keep(start + k * _PERIOD_NS, images[k % 8])
    taken = []
    for k in range(history, history + frames + _WARM):
        began = time.perf_counter()
        detector.frame(start + k * _PERIOD_NS, images[k % 8])
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[_WARM:])
