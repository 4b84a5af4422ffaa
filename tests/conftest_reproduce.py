"""What the tests of `fmfbench reproduce` share."""

from __future__ import annotations

import pytest
from conftest_run import call

import fmfbench
from fmfbench.furnace.simulate import simulate

TINY = {"preset": "tiny", "device": "cpu"}
SIZE = "tiny-1ep"


@pytest.fixture(scope="module")
def sim_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim")
    simulate(folder / "furnace", preset="tiny", seed=3)
    return fmfbench.convert(folder / "furnace", folder / "furnace.zarr")


@pytest.fixture(scope="module")
def everything(sim_store, tmp_path_factory):
    """Table II, all of it, by the command; (folder, what it printed)."""
    out = tmp_path_factory.mktemp("tables") / "out"
    done = call(
        "reproduce", "table2", "--data", sim_store, "--out", out, "--preset", "tiny", "--device", "cpu"
    )
    return out, done.stdout


def rows_of(found):
    return {row["name"]: row for row in found["rows"]}


def figures(found, names):
    rows = rows_of(found)
    return {name: (rows[name]["status"], rows[name]["metrics"]) for name in names}


NAMES = ["itransformer", "fmformer-current"]
