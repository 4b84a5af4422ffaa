"""What is freed is used again: its pages are not cleared by the system each time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fmfbench_models.parts import freed_memory
from fmfbench_models.parts.freed_memory import keep_freed_memory

FAULTS = """
import resource, runpy, sys
import numpy as np

assert sys.argv[1] == "as it is" or runpy.run_path(sys.argv[2])["keep_freed_memory"]()
def step():
    np.ones(12_000_000)  # 96 MB, more than glibc ever comes to keep by itself
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kind):
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", FAULTS, kind, freed_memory.__file__]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_are_touched_for_the_first_time_once():
    assert faults("as it is") > 5 * 20_000
    assert faults("kept") < 1_000


@pytest.mark.parametrize("missing", ["another system", "another C library", "no C library"])
def test_elsewhere_nothing_changes(missing, monkeypatch):
    if missing == "another system":
        monkeypatch.setattr(sys, "platform", "win32")
    else:

        def library(name):
            if missing == "no C library":
                raise OSError("no such library")
            return object()

        monkeypatch.setattr("ctypes.CDLL", library)
    assert keep_freed_memory() is False
