"""All pairs at once: differences by hand, intervals wider than one pair's, and a family-wise error that holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from fmfbench.scoring.bootstrap import Blocks, cut_blocks
from fmfbench.scoring.simultaneous import all_pairs

FRAME = 40_000_000


def many_blocks(count=4000):
    times = np.arange(count * 25) * FRAME
    return cut_blocks(np.zeros(len(times), int), times, 0.0, 1.0)


def independent(values, resamples, seed=0, spread=0.01):
    """Replicates of each model about its value."""
    rng = np.random.default_rng(seed)
    return {f"m{k}": value + spread * rng.normal(size=resamples) for k, value in enumerate(values)}


def test_two_models_have_the_interval_of_one_pair():
    blocks = many_blocks()
    drawn = independent([0.5, 0.48], 20_000)
    found = all_pairs("accuracy", {"m0": 0.5, "m1": 0.48}, drawn, blocks)
    half = t.ppf(0.975, blocks.degrees) * (drawn["m0"] - drawn["m1"]).std()
    assert found.names == ("m0", "m1")
    assert found.difference[0, 1] == pytest.approx(0.02)
    assert found.high[0, 1] - found.difference[0, 1] == pytest.approx(half, rel=0.03)
    np.testing.assert_allclose(found.low, -found.high.T)


def test_many_models_have_the_studentised_range():
    """Independent, equally spread models and many blocks: Tukey's honest significant difference."""
    from scipy.stats import studentized_range

    drawn = independent([0.5] * 8, 20_000)
    found = all_pairs("accuracy", dict.fromkeys(drawn, 0.5), drawn, many_blocks())
    half = studentized_range.ppf(0.95, 8, np.inf) * 0.01
    assert np.median(found.high[np.triu_indices(8, 1)]) == pytest.approx(half, rel=0.04)


@pytest.mark.parametrize(("name", "best"), [("accuracy", "m2"), ("mdr", "m0")])
def test_the_best_stands_first_by_the_metrics_direction(name, best):
    values = {"m0": 0.1, "m1": 0.5, "m2": 0.9}
    found = all_pairs(name, values, independent(values.values(), 500), many_blocks())
    assert found.names[0] == best
    assert found.told_apart(0, 2)
    assert found.groups == ()


def test_groups_are_the_longest_runs_that_cannot_be_told_apart():
    values = {"m0": 0.9, "m1": 0.87, "m2": 0.84, "m3": 0.5, "m4": 0.5}
    found = all_pairs("accuracy", values, independent(values.values(), 2000), many_blocks())
    half = found.high[0, 1] - found.difference[0, 1]
    assert 0.03 < half < 0.06
    assert found.groups == ((0, 1), (1, 2), (3, 4))
    for a, b in found.groups:
        assert not any(found.told_apart(i, j) for i in range(a, b + 1) for j in range(i + 1, b + 1))


def test_equal_predictions_are_the_same_and_too_little_tells_nothing():
    drawn = independent([0.5], 200) | {"again": independent([0.5], 200)["m0"]}
    found = all_pairs("accuracy", dict.fromkeys(drawn, 0.5), drawn, many_blocks())
    assert (found.low == 0).all()
    assert (found.high == 0).all()
    few = Blocks(
        of_sample=np.array([0, 1]), recording=np.array([0, 0]), seconds=5.0, correlation=0.0, duration=10.0
    )
    found = all_pairs("accuracy", {"m0": 0.9, "m1": 0.1}, independent([0.9, 0.1], 200), few)
    assert (found.low[0, 1], found.high[0, 1]) == (-1.0, 1.0)
    assert not found.told_apart(0, 1)


def simulation():
    """benchmarks/family_wise.py as a module."""
    folder = Path(__file__).parents[2] / "benchmarks"
    modules = {}
    for name in ("interval_coverage", "family_wise"):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        import sys

        sys.modules[name] = modules[name]
        try:
            spec.loader.exec_module(modules[name])
        finally:
            if name == "family_wise":
                del sys.modules["interval_coverage"], sys.modules["family_wise"]
    return modules["family_wise"]


def family_errors(repeats, models, lengths, rate, tau):
    module = simulation()
    labels = module.labels_of(np.zeros(sum(lengths), np.uint8), lengths)
    rng = np.random.default_rng(7)
    return np.mean(
        [
            module.family_error(module.errors(lengths, models, rate, tau, rng), labels, 300, k)
            for k in range(repeats)
        ],
        axis=0,
    )


def test_few_simulated_families_are_told_apart_where_the_textbook_always_is():
    together, _, mcnemar = family_errors(30, 8, (5000,), 0.2, 1.0)
    assert together <= 0.1
    assert mcnemar >= 0.9


@pytest.mark.long
def test_the_family_wise_error_of_eighteen_models():
    together, single, _ = family_errors(1000, 18, (10_000,), 0.2, 1.0)
    assert together <= 0.06
    assert single > 0.5
