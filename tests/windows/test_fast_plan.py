"""Tracks against the plain definition of currents, on random recordings."""

from __future__ import annotations

import numpy as np
import pytest

from fmfbench.clock import NS, spread_seconds
from fmfbench.windows.plan import Timeline, plan_current
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench.windows.tracks import Tracks, build_tracks

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


def check(line: Timeline, protocol: WindowProtocol, masked: bool) -> float:
    """Compare on every frame; the share that has a track."""
    tracked = np.zeros(len(line.frame_time), bool)
    for own in np.unique(line.split).tolist():
        tracks: Tracks = build_tracks(line, protocol, masked, own)
        frames = np.flatnonzero((line.split == own) & (tracks.start >= 0))
        tracked[frames] = True
        plain, fast = plan_current(line, frames, protocol, masked), tracks.plan(frames)
        np.testing.assert_array_equal(fast.index, plain.index)
        np.testing.assert_array_equal(fast.valid, plain.valid)
        np.testing.assert_array_equal(fast.foreign, plain.foreign)
        np.testing.assert_array_equal(tracks.any_foreign(tracks.start[frames]), plain.foreign.any(axis=1))
    return float(tracked.mean())


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("masked", [False, True])
def test_tracks_equal_the_plain_plan(name: str, masked: bool) -> None:
    protocol = PROTOCOLS[name]
    shares = [check(random_line(seed), protocol, masked) for seed in range(12)]
    if protocol.alignment == "causal":
        assert min(shares) == 1  # whole seconds spread evenly repeat on few grids
    elif name == "official, 8 s":
        assert max(shares) > 0
        assert min(shares) < 1  # stretched histories have none


def test_frames_off_every_grid_go_without_a_track() -> None:
    lines = [random_line(seed, jitter=True) for seed in range(12)]
    shares = [check(line, PROTOCOLS["paper"], False) for line in lines]
    long = [share for share, line in zip(shares, lines, strict=True) if len(line.frame_time) == 2500]
    assert long
    assert max(long) < 0.5


def test_a_rate_without_whole_nanoseconds_has_no_tracks() -> None:
    line = random_line(3)
    assert check(line, get_protocol("short", current_hz=3.0), False) == 0


def test_an_end_without_valid_rows_never_takes_a_later_value() -> None:
    """Rows come back after a long gap: a window that ends in the gap must not see them."""
    frame_time = np.arange(0, 20 * NS, NS // 25)
    current_time = np.r_[np.arange(0, 4 * NS, NS // 2), np.arange(15 * NS, 20 * NS, NS // 2)]
    line = Timeline("f", frame_time, np.zeros(500, np.uint8), current_time, np.ones(18, bool))
    protocol = get_protocol("short", current_seconds=6.0)
    assert check(line, protocol, False) == 1
    ends_in_gap = build_tracks(line, protocol, False, 0).plan(np.array([14 * 25]))
    assert set(ends_in_gap.index[0].tolist()) == {-1}
    ends_before = build_tracks(line, protocol, False, 0).plan(np.array([8 * 25]))
    assert ends_before.index[0].max() == 7
