"""Two processes of torch.distributed (gloo): each window in one of them, once an epoch, also after resuming."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fmfbench
from fmfbench.torch import WindowDataset, make_loader

HERE = Path(__file__).parent


@pytest.mark.parametrize("shuffle", ["whole", "block"])
def test_two_processes_share_each_batch(awkward_store: Path, tmp_path: Path, shuffle: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"),
            *(str(HERE / "gloo_passes.py"), str(awkward_store), str(tmp_path), shuffle),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::UserWarning:fmfbench"},
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    windows = fmfbench.open_dataset(awkward_store).windows("all", "short", every=6)
    alone = make_loader(
        WindowDataset(windows), 16, True if shuffle == "whole" else shuffle, buffer_bytes=200_000
    )
    for epoch in range(5):
        batches = [batch["sample_id"].tolist() for batch in alone]
        a, b = (rank["epochs"][epoch] for rank in ranks)
        assert len(a) == len(b) == len(batches)
        for one, other, whole in zip(a, b, batches, strict=True):
            assert not set(one) & set(other)
            assert one == whole[::2]
            assert other == whole[1::2]
    for rank in ranks:
        assert rank["resumed"] == [rank["epochs"][3][5:], rank["epochs"][4]]
    assert sum(rank["samples"] for rank in ranks) == len(windows)
