"""Many processes: the bytes of one, through workers that die."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.conversion.cluster import convert_on, joined_cluster, run_tasks, verify_on
from fmfbench.conversion.verify import verify
from fmfbench.errors import InputError, SourceError, StoreError

# Dask leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def client():
    with joined_cluster(processes=2) as found:
        yield found


def chunks(store: Path) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


def test_convert_and_verify(client, awkward_tree, awkward_store, tmp_path):
    store = convert_on(client, awkward_tree, tmp_path / "awkward.zarr")
    assert chunks(store) == chunks(awkward_store)
    ours, theirs = fmfbench.open_dataset(store), fmfbench.open_dataset(awkward_store)
    assert (ours.fingerprint, ours.sources_digest) == (theirs.fingerprint, theirs.sources_digest)
    assert [path.name for path in tmp_path.iterdir()] == ["awkward.zarr"]
    one, many = verify(store, awkward_tree), verify_on(client, store, awkward_tree)
    assert one.to_dict() == {**many.to_dict(), "store": one.store}
    with pytest.raises(StoreError, match="exists"):
        convert_on(client, awkward_tree, store)


@pytest.mark.parametrize("part", ["video", "labels/source", "frame_time"])
def test_verify_finds_the_same_damage(client, awkward_store, tmp_path, part):
    import shutil

    store = Path(shutil.copytree(awkward_store, tmp_path / "bad.zarr"))
    chunk = next(path for path in (store / "recordings" / "b-long" / part / "c").rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    one, many = verify(store), verify_on(client, store)
    assert not one.ok
    assert one.to_dict() == {**many.to_dict(), "store": one.store}


def test_bad_input_leaves_nothing(client, awkward_tree, tmp_path):
    with pytest.raises(SourceError, match="nobody"):
        convert_on(client, awkward_tree, tmp_path / "none.zarr", only=["nobody"])
    with pytest.raises(InputError, match="got a URL"):
        convert_on(client, awkward_tree, "s3://bucket/x.zarr")
    assert not list(tmp_path.iterdir())


def test_what_a_cluster_is_asked_for():
    with pytest.raises(InputError, match="exactly one of"), joined_cluster():
        pass
    with (
        pytest.raises(InputError, match="expected a Dask scheduler there"),
        joined_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def _slow(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.long)])
def test_workers_are_killed_in_the_middle(awkward_tree, awkward_store, tmp_path, kills):
    """kill -9 at a random worker, again and again, while it converts: nothing changes but time."""
    rng = np.random.default_rng(kills)
    with joined_cluster(processes=2) as client:
        stop = threading.Event()

        def kill() -> None:
            for _ in range(kills):
                if stop.wait(rng.uniform(0.05, 0.6)):
                    return
                pids = list(client.run(os.getpid).values())
                if pids:
                    os.kill(int(rng.choice(pids)), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for number in range(max(1, kills // 2)):
                store = convert_on(client, awkward_tree, tmp_path / f"{number}.zarr")
                assert chunks(store) == chunks(awkward_store)
        finally:
            stop.set()
            killer.join()
        assert run_tasks(client, [(_slow, 0.01, k) for k in range(7)], "count", "task") == list(range(7))
