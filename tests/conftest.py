"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import fmfbench

sys.path.append(
    str(Path(__file__).parent)
)  # importlib mode puts no folder there; the conftest_*.py are ours alone

from conftest_ci import pytest_make_collect_report, pytest_runtest_makereport
from conftest_tree import awkward_recording, write_tree

# A machine that is busy is no fault of the code: what is drawn is checked, how fast it is drawn is not.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]  # hooks, by being here


@pytest.fixture(autouse=True)
def _usual_priority() -> Iterator[None]:
    """SVT-AV1 makes the thread that encodes a real-time one where it may (as root), and all that is started from there:
    a browser would then leave no other process any time."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session")
def awkward_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("awkward") / "pixel-level"
    recordings = {"b-long": awkward_recording(1, 700), "a.dotted": awkward_recording(2, 330)}
    recordings["c-short"] = awkward_recording(3, 20)
    return write_tree(root, recordings)


@pytest.fixture(scope="session")
def awkward_store(awkward_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fmfbench.convert(awkward_tree, tmp_path_factory.mktemp("store") / "awkward.zarr")
