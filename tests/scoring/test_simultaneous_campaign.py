"""Eighteen equally good models: how often at least one pair is told apart. A campaign of minutes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.parametrize(("tau", "rate"), [(1.0, 0.05), (1.0, 0.20)])
def test_at_most_six_in_a_hundred_tables_tell_equal_models_apart(tau, rate, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "benchmarks")])
    from family_wise import errors, family_error, labels_of

    lengths = (10_000,)
    rng = np.random.default_rng([0, sum(lengths), int(tau), int(rate * 100)])
    labels = labels_of(np.zeros(sum(lengths), np.uint8), lengths)
    rows = np.array([family_error(errors(lengths, 18, rate, tau, rng), labels, 1000, k) for k in range(1000)])
    together, _, textbook = rows.mean(axis=0)
    assert together <= 0.06
    assert textbook > 0.5  # McNemar's on single frames, with Bonferroni's correction, beside it
