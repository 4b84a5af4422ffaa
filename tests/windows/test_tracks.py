"""Tracks against the plain definition of currents, on random recordings."""

from __future__ import annotations

import numpy as np
import pytest
from conftest_lines import PROTOCOLS, random_line

from fmfbench.clock import NS
from fmfbench.windows.plan import Timeline, plan_current
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench.windows.tracks import Tracks, build_tracks


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


def test_official_windows_have_a_track_unless_they_stretch_a_short_history() -> None:
    """Two rows a second from the start: 16 rows are there for the first time in second 7."""
    frame_time, current_time = np.arange(0, 20 * NS, NS // 25), np.arange(0, 20 * NS, NS // 2)
    line = Timeline("f", frame_time, np.zeros(500, np.uint8), current_time, np.ones(40, bool))
    start = build_tracks(line, PROTOCOLS["official, 8 s"], False, 0).start
    assert set(start[: 7 * 25].tolist()) == {-1}
    np.testing.assert_array_equal(start[7 * 25 :], 2 * (np.arange(7 * 25, 500) // 25 - 7))


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
