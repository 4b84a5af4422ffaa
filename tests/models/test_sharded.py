"""Predicting in several processes: the file is that of one, whatever the count and the batch size.

Also tests fmfbench_models.inference: cluster.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest_run import torchrun

from fmfbench import open_dataset
from fmfbench.conversion.cluster import joined_cluster
from fmfbench.errors import InputError
from fmfbench.exchange.outliers import read_outliers, write_outliers
from fmfbench.windows.injection import make_outliers
from fmfbench_models import create_model, save_checkpoint
from fmfbench_models.inference import cluster
from fmfbench_models.inference.cluster import predict_on
from fmfbench_models.inference.predict import predict
from fmfbench_models.inference.sharded import share_of


@pytest.mark.parametrize("seed", range(30))
def test_shares_are_whole_batches_that_cover_all(seed):
    rng = np.random.default_rng(seed)
    count, batch_size, size = (int(n) for n in rng.integers(1, [400, 40, 9]))
    shares = [share_of(count, batch_size, rank, size) for rank in range(size)]
    assert [row for share in shares for row in range(count)[share]] == list(range(count))
    assert all(share.start % batch_size == 0 or share.start == count for share in shares)
    batches = [-(-(share.stop - share.start) // batch_size) for share in shares]
    assert max(batches) - min(batches) <= 1
    assert batches[0] > 0


def share(processes: int, *arguments: object) -> None:
    printed = torchrun("-m", "fmfbench", *arguments, processes=processes)
    assert printed.count("next:") == 1  # the first process speaks for all


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def run(furnace_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained dense model that knows a protocol."""
    data = open_dataset(furnace_store)
    windows = data.windows("test", protocol="short", num_frames=2)
    recording = next(iter(data.recordings.values()))
    model = create_model(
        "fmformer",
        num_frames=2,
        size=(recording.height, recording.width),
        current_length=windows.protocol.num_current,
        dim=16,
        depth=1,
        heads=2,
    )
    model.meta = replace(model.meta, protocol=windows.protocol.to_dict())
    folder = tmp_path_factory.mktemp("run")
    return save_checkpoint(folder / "model.safetensors", model)


@pytest.mark.parametrize(("processes", "batch_size"), [(2, 16), pytest.param(3, 64, marks=pytest.mark.long)])
def test_the_file_is_that_of_one_process(run, furnace_store, tmp_path, processes, batch_size):
    one, many = tmp_path / "one.npz", tmp_path / "many.npz"
    options = ["--data", furnace_store, "--batch-size", batch_size, "--device", "cpu", "--pixel-scores"]
    predict(run, furnace_store, one, batch_size=batch_size, device="cpu", pixel_scores="float16")
    share(processes, "predict", run, "-o", many, *options)
    assert members(one) == members(many)
    assert {path.name for path in tmp_path.iterdir()} == {"one.npz", "many.npz"}


# Dask leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_writes_the_file_of_one_process(run, furnace_store, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_BATCHES_A_TASK", 2)
    found = make_outliers(open_dataset(furnace_store), split="test", protocol="short", seed=3)
    options = {"batch_size": 16, "device": "cpu"}
    with joined_cluster(processes=2) as client:
        for number, extra in enumerate(
            ({"pixel_scores": "float16"}, {"per_second": True}, {"outliers": found})
        ):
            one = predict(run, furnace_store, tmp_path / f"one{number}.npz", **options, **extra)
            many = predict_on(client, run, furnace_store, tmp_path / f"many{number}.npz", **options, **extra)
            assert members(one) == members(many)
        with pytest.raises(InputError, match="pixel scores: expected"):
            predict_on(client, run, furnace_store, tmp_path / "none.npz", pixel_scores="int7")
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz"}


def test_outliers_too_and_more_processes_than_batches(run, furnace_store, tmp_path):
    found = make_outliers(open_dataset(furnace_store), split="test", protocol="short", seed=3)
    path = write_outliers(tmp_path / "outliers.npz", found)
    predict(
        run, furnace_store, tmp_path / "one.npz", outliers=read_outliers(path), batch_size=4096, device="cpu"
    )
    options = ["--outliers", path, "--batch-size", 4096, "--device", "cpu"]
    share(2, "predict", run, "--data", furnace_store, "-o", tmp_path / "many.npz", *options)
    assert members(tmp_path / "one.npz") == members(tmp_path / "many.npz")
