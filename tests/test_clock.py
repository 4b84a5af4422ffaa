"""Times of rows that carry whole-second stamps, against the rules written out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fmfbench.clock import NS, nominal_times, spread_seconds


def slow_spread(stamps: list[int], nominal: int) -> list[int]:
    out = []
    for i, second in enumerate(stamps):
        same = [j for j, s in enumerate(stamps) if s == second]
        m, place = len(same), same.index(i)
        offset = Fraction(place, m)
        if m < nominal and second == stamps[-1]:
            offset = Fraction(place, nominal)
        if m < nominal and second == stamps[0]:
            offset = 1 - Fraction(m - place, nominal)
        out.append(round((second + offset) * NS))
    return out


@pytest.mark.parametrize("nominal", [2, 25])
def test_spread_seconds_follows_the_rules(nominal: int) -> None:
    rng = np.random.default_rng(nominal)
    for _ in range(60):
        counts = rng.integers(1, nominal + 3, rng.integers(1, 6))
        seconds = np.cumsum(rng.choice([1, 1, 4], len(counts)))
        stamps = np.repeat(seconds, counts)
        times = spread_seconds(stamps, nominal)
        assert np.abs(times - np.array(slow_spread(stamps.tolist(), nominal))).max() <= 1
        assert (np.diff(times) > 0).all()


def test_spread_seconds_by_hand() -> None:
    times = spread_seconds(np.array([26] * 5 + [27] * 5), 25)
    assert (times - 26 * NS).tolist() == [k * 40_000_000 for k in (20, 21, 22, 23, 24, 25, 26, 27, 28, 29)]
    assert spread_seconds(np.array([3, 4, 4, 5]), 2).tolist() == [
        3 * NS + NS // 2, 4 * NS, 4 * NS + NS // 2, 5 * NS,
    ]  # fmt: skip
    assert spread_seconds(np.empty(0, np.int64), 2).tolist() == []


def test_nominal_times_are_exact() -> None:
    assert nominal_times(4, Fraction(25)).tolist() == [0, 40_000_000, 80_000_000, 120_000_000]
    ntsc = nominal_times(200_000, Fraction(30_000, 1001))
    assert int(ntsc[-1]) == round(Fraction(199_999 * 1001, 30_000) * NS)
