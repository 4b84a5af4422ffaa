"""FMF-Sim stays inside what the authors' figures show, on a small preset over five seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

# on `small`, beside statistics of few clips; `full` is judged in the card
MAY_FAIL = {
    "deviation of brightness within a frame, 10 % to 90 %",
    "step of brightness along a row, 10 % to 90 %",
}


@pytest.fixture(scope="module")
def evidence() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "fmf_sim_evidence.py"
    spec = importlib.util.spec_from_file_location("fmf_sim_evidence", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def samples(evidence: ModuleType):
    return evidence.measure("small", (0, 1, 2, 3, 4), clips=6, labels=20)


def test_statistics_are_inside_the_published_ranges(evidence: ModuleType, samples) -> None:
    rows = evidence.table(samples, "small")
    judged = [row for row in rows if row.inside is not None]
    assert len({row.statistic for row in judged}) == len(judged) >= 24
    assert {"1", "2", "5", "6", "7", "8", "9", "13", "14", "11"} <= {row.number for row in judged}
    assert [row.number for row in rows if row.inside is None] == ["12", "-"]
    failed = {row.statistic: row.ours for row in judged if not row.inside}
    assert set(failed) <= MAY_FAIL, failed


def test_a_world_that_is_off_fails(evidence: ModuleType, samples) -> None:
    """The judgement can fail: labels five times too large, one piece each, no common step, as in version 1.2."""
    other = [
        evidence.Sample(
            own.seed,
            own.values
            | {
                "area": 5.0 * own.values["area"],
                "pieces": np.ones_like(own.values["pieces"]),
                "together": np.minimum(own.values["together"], 4000.0),
                "jump": np.zeros_like(own.values["jump"]),
            },
        )
        for own in samples
    ]
    failed = {row.statistic for row in evidence.table(other, "small") if row.inside is False}
    assert {
        "area of the label, % of the frame, median",
        "labels of more than one piece, share",
        "greatest step in half a second that all three phases take, A",
        "clips whose colour jumps, share",
    } <= failed


def test_sheet_is_drawn(evidence: ModuleType, tmp_path: Path) -> None:
    import matplotlib.image

    evidence.draw_sheet(tmp_path / "s.png", "small", (1, 2))
    assert matplotlib.image.imread(tmp_path / "s.png").shape[:2] == (900, 1320)
