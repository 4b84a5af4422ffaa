"""`torchrun -m fmfbench train`: what the help advises works, on two processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest_run import invoke, torchrun

SMALL = {
    "protocol.num_frames": "2",
    "protocol.current_seconds": "16",
    "dim": "24",
    "depth": "1",
    "epochs": "1",
    "batch_size": "64",
}


def test_the_help_advises_torchrun() -> None:
    text = invoke("train", "--help").output
    assert re.search(r"torchrun --nproc-per-node=\d+ -m fmfbench train", text)


def test_two_processes_train_by_module_name(awkward_store: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    settings = [word for item in SMALL.items() for word in ("--set", "=".join(item))]
    arguments = ["train", "informer", "--data", awkward_store, "--out", tmp_path / "run", *settings]
    printed = torchrun("-m", "fmfbench", *arguments, "--device", "cpu")
    assert printed.count("finished; next: fmfbench predict") == 1  # rank 0 speaks for all
    assert (tmp_path / "run" / "last.safetensors").is_file()
