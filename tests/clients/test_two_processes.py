"""Lightning and Accelerate in two gloo processes: overlap, order, epoch, and resuming in the middle of epoch 3."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fmfbench
from fmfbench.torch import WindowDataset, make_loader

HERE = Path(__file__).parent
pytestmark = pytest.mark.long


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(
            f"{package} is not installed: pip install 'fmfbench[clients]', or python tests/clients/run.py"
        )


def two_processes(script: str, *arguments: str, out: Path) -> list[Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(HERE / script), *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def batches(store: Path, size: int, shuffle: str, **options: Any) -> list[list[list[int]]]:
    """Five epochs as one process alone sees them."""
    windows = fmfbench.open_dataset(store).windows("all", "short", every=6)
    order = shuffle if shuffle == "block" else True
    loader = make_loader(WindowDataset(windows), size, order, buffer_bytes=200_000, seed=3, **options)
    return [[batch["sample_id"].tolist() for batch in loader] for _ in range(5)]


@pytest.mark.parametrize("shuffle", ["whole", "block"])
def test_lightning(awkward_store: Path, tmp_path: Path, shuffle: str) -> None:
    needs("lightning")
    ranks = two_processes(
        "lightning_passes.py", str(awkward_store), str(tmp_path), shuffle, "ours", out=tmp_path
    )
    told = batches(awkward_store, 16, shuffle, drop_last=True)
    for number, rank in enumerate(ranks):
        shares = {str(epoch): [batch[number::2] for batch in told[epoch]] for epoch in range(5)}
        assert rank["epochs"] == shares
        assert rank["stopped"] == {**{str(e): shares[str(e)] for e in range(3)}, "3": shares["3"][:5]}
        assert rank["resumed"] == {"3": shares["3"][5:], "4": shares["4"]}
    predicted = [set(rank["predicted"]) for rank in ranks]
    windows = fmfbench.open_dataset(awkward_store).windows("all", "short", every=6)
    assert not predicted[0] & predicted[1]
    assert predicted[0] | predicted[1] == set(windows.sample_ids.tolist())


def test_lightning_shares_out_a_plain_loader_itself(awkward_store: Path, tmp_path: Path) -> None:
    needs("lightning")
    ranks = two_processes(
        "lightning_passes.py", str(awkward_store), str(tmp_path), "whole", "plain", out=tmp_path
    )
    for epoch in map(str, range(5)):
        one, other = ({i for batch in rank["epochs"][epoch] for i in batch} for rank in ranks)
        assert len(one & other) <= 1  # of an odd number of windows torch repeats one
    assert ranks[0]["epochs"]["0"] != ranks[0]["epochs"]["1"]


@pytest.mark.parametrize("shuffle", ["whole", "block"])
@pytest.mark.parametrize("kind", ["even", "uneven", "split"])
def test_accelerate(awkward_store: Path, tmp_path: Path, shuffle: str, kind: str) -> None:
    """even: whole batches in turn, the first windows again where the last are too few, as Accelerate does it."""
    needs("accelerate")
    ranks = two_processes(
        "accelerate_passes.py", str(awkward_store), str(tmp_path), shuffle, kind, out=tmp_path
    )
    told = batches(awkward_store, 8, shuffle)
    for epoch in range(5):
        flat = [i for batch in told[epoch] for i in batch]
        found = [[i for batch in rank["epochs"][epoch] for i in batch] for rank in ranks]
        repeated = sum(map(len, found)) - len(flat)
        assert set(found[0]) | set(found[1]) == set(flat)
        assert len(set(found[0]) & set(found[1])) == repeated
        assert repeated == (0 if kind == "uneven" else 1)  # 175 windows
        for number, rank in enumerate(ranks):
            for k, batch in enumerate(rank["epochs"][epoch][:10]):
                whole = told[epoch][k] if kind == "split" else told[epoch][2 * k + number]
                assert batch == (whole[4 * number : 4 * number + 4] if kind == "split" else whole)
    for rank in ranks:
        assert rank["resumed"] == [rank["epochs"][3][4:], rank["epochs"][4]]
