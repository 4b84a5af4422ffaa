"""`benchmarks/gpu.py`, the script of nine minutes for a machine with a GPU, tried on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_each_part_is_told_as_soon_as_it_is_known(furnace_store, tmp_path):
    small = ["--protocol", "short", "--preset", "nano", "--batch", "8", "--device", "cpu"]
    parts = ["--only", "windows", "epoch", "fmformer"]
    done = run("--data", furnace_store, "--out", tmp_path / "gpu", "--seconds", "10", *small, *parts)
    found = json.loads((tmp_path / "gpu" / "gpu.json").read_text())
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    assert (found["device"], found["simulated"]) == ("CPU", False)
    assert list(found["parts"]) == ["windows", "epoch", "fmformer"]
    assert found["parts"]["windows"]["windows_a_second"] > 0
    epoch = found["parts"]["epoch"]
    assert epoch["epoch_seconds"] * epoch["steps_a_second"] == pytest.approx(epoch["steps"])
    trained = found["parts"]["fmformer"]
    assert 0 <= trained["metrics"]["accuracy"] <= 1
    facts = json.loads((tmp_path / "gpu" / "run" / "run.json").read_text())
    assert (facts["finished"], facts["recipe"]["epochs"]) == (True, trained["epochs"])


def test_a_part_that_fails_says_why_and_the_next_begins(furnace_store, tmp_path):
    arguments = ["--seconds", "0.1", "--device", "cpu", "--only", "st_mae.py", "windows"]
    done = run("--data", furnace_store, "--out", tmp_path / "gpu", "--protocol", "short", *arguments)
    found = json.loads((tmp_path / "gpu" / "gpu.json").read_text())["parts"]
    assert done.returncode == 1
    assert "timed out" in found["st_mae.py"]["failed"]
    assert found["windows"]["windows_a_second"] > 0
