"""Sample ids as runs against plain arrays of the same ids."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fmfbench.store.ids import SampleIds, group_by, true_runs


def random_flags(rng: np.random.Generator, length: int) -> np.ndarray:
    """Runs of True and False of random lengths."""
    flags = np.zeros(length, bool)
    for _ in range(int(rng.integers(0, 6))):
        start = int(rng.integers(0, length + 1))
        flags[start : start + int(rng.integers(1, 60))] = True
    return flags


@pytest.mark.parametrize("seed", range(40))
def test_runs_are_the_ids_they_stand_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flags = random_flags(rng, int(rng.choice([0, 1, 7, 200])))
    plain = np.flatnonzero(flags)
    runs = true_runs(flags)
    assert all(flags[a:b].all() for a, b in runs.tolist())
    step = int(rng.choice([1, 1, 2, 3, 7, 50]))
    made = [SampleIds.of_runs(map(tuple, runs.tolist())), SampleIds.of(plain)]
    for ids in [
        *(each.every(step) for each in made),
        *(pickle.loads(pickle.dumps(e)).every(step) for e in made),
    ]:
        expected = plain[::step]
        assert len(ids) == len(expected)
        assert ids.ascending
        np.testing.assert_array_equal(ids.array(), expected, strict=True)
        places = rng.integers(0, max(1, len(expected)), 30 if len(expected) else 0)
        np.testing.assert_array_equal(ids[places], expected[places], strict=True)
        asked = np.arange(-2, 203)
        np.testing.assert_array_equal(ids.below(asked), np.searchsorted(expected, asked))
        np.testing.assert_array_equal(ids.every(3).array(), expected[::3])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_order_is_kept(dtype: type) -> None:
    rng = np.random.default_rng(1)
    plain = rng.permutation(120).astype(dtype)
    ids = SampleIds.of(plain)
    assert not ids.ascending
    np.testing.assert_array_equal(ids.array(), plain.astype(np.int64), strict=True)
    np.testing.assert_array_equal(ids.every(7).array(), plain[::7])
    twice = SampleIds.of(np.r_[np.arange(50), np.arange(50)])
    assert not twice.ascending
    assert twice[[0, 50, 99]].tolist() == [0, 0, 49]


def test_a_long_run_takes_no_memory_of_its_length() -> None:
    ids = SampleIds.of_runs((k * 90_000, k * 90_000 + 63_000) for k in range(1000))
    assert len(ids) == 63_000_000
    assert len(pickle.dumps(ids.every(2))) < 60_000
    assert ids[[0, 62_999, 63_000, 62_999_999]].tolist() == [0, 62_999, 90_000, 999 * 90_000 + 62_999]


@pytest.mark.parametrize("seed", range(20))
def test_groups_against_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = rng.integers(0, 5, int(rng.integers(0, 40)))
    for values in (number, np.sort(number)):
        found = group_by(values)
        assert [value for value, _ in found] == np.unique(values).tolist()
        for value, places in found:
            np.testing.assert_array_equal(places, np.flatnonzero(values == value))
