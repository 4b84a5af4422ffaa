"""Random recordings to plan windows on, and protocols of many kinds."""

from __future__ import annotations

import numpy as np

from fmfbench.clock import NS, spread_seconds
from fmfbench.windows.plan import Timeline
from fmfbench.windows.protocol import get_protocol

PROTOCOLS = {
    "paper": get_protocol("paper"),
    "short": get_protocol("short"),
    "one value": get_protocol("short", current_seconds=0.5),
    "4 Hz": get_protocol("short", current_hz=4.0, current_seconds=10.0),
    "slow": get_protocol("short", current_hz=0.5, current_seconds=30.0, tolerance=0.4),
    "exact": get_protocol("short", tolerance=0.0),
    "official": get_protocol("official"),
    "official, 8 s": get_protocol("official", current_seconds=8.0),
}


def seconds(rng: np.random.Generator, rows: int, nominal: int, gaps: float) -> np.ndarray:
    """Whole-second stamps of `rows` rows: some seconds have one more or fewer, some are missing."""
    stamps: list[int] = []
    second = int(rng.integers(0, 20))
    while len(stamps) < rows:
        most = 2 if nominal == 2 else nominal + 1
        stamps += [second] * int(rng.choice([max(1, nominal - 1), nominal, nominal, most]))
        second += 1 if rng.random() > gaps else int(rng.integers(2, 40))
    return np.array(stamps[:rows])


def random_line(seed: int, *, jitter: bool = False) -> Timeline:
    rng = np.random.default_rng(seed)
    frames = int(rng.choice([1, 40, 700, 2500]))
    rows = int(rng.choice([0, 1, 30, 300, 600]))
    frame_time = spread_seconds(seconds(rng, frames, 25, 0.05), 25)
    if rng.random() < 0.3:  # the camera stopped for an hour
        frame_time[frames // 2 :] += 3600 * NS
    if jitter:
        frame_time = np.sort(rng.choice(frames * NS // 25, frames, replace=False)).astype(np.int64)
    current_time = spread_seconds(seconds(rng, rows, 2, 0.03), 2)
    split = np.full(frames, rng.integers(3), np.uint8)
    for _ in range(4):
        a = int(rng.integers(0, frames))
        split[a : a + frames // 4] = rng.integers(3)
    return Timeline("furnace", frame_time, split, current_time, rng.random(rows) > 0.05)
