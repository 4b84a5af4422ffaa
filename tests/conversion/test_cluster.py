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
from conftest_tree import chunks
from conftest_video import pictures, truncated, write

import fmfbench
from fmfbench.conversion import cluster
from fmfbench.conversion.cluster import convert_on, joined_cluster, run_tasks, verify_on
from fmfbench.conversion.verify import verify
from fmfbench.errors import FailedError, InputError, SourceError, StoreError

# Dask leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def client():
    with joined_cluster(processes=2) as found:
        yield found


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
    with pytest.raises(InputError, match="or --processes N, got neither"), joined_cluster():
        pass
    with (
        pytest.raises(InputError, match="expected a Dask scheduler there"),
        joined_cluster("tcp://127.0.0.1:9"),
    ):
        pass
    with (
        pytest.raises(InputError, match="or --processes N, got both"),
        joined_cluster("tcp://127.0.0.1:9", processes=2),
    ):
        pass


def _late(path: Path) -> None:
    time.sleep(0.7)
    path.write_text("late")


def _wrong() -> None:
    raise InputError("expected good input, got bad")


def test_an_error_is_raised_when_nobody_writes_any_more(client, tmp_path):
    with pytest.raises(InputError, match="bad"):
        run_tasks(client, [(_late, tmp_path / "a"), (_wrong,)], "try", "task")
    written = (tmp_path / "a").exists()  # not, where it had not begun
    time.sleep(1.0)
    assert (tmp_path / "a").exists() == written


def test_tasks_of_others_on_the_cluster_are_not_waited_for(client, tmp_path):
    from distributed import Client, wait

    with Client(client.scheduler.address) as other:
        theirs = other.submit(time.sleep, 5, pure=False)
        begun = time.monotonic()
        with pytest.raises(InputError, match="bad"):
            run_tasks(client, [(_wrong,)], "try", "task")
        assert time.monotonic() - begun < 4
        assert theirs.status == "pending"
        wait(theirs)


def test_a_scheduler_that_is_gone_is_named(monkeypatch):
    from distributed import Client, LocalCluster
    from distributed.client import CancelledError

    local = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=60
    )
    with Client(local) as client:

        def gone(*_: object, **__: object) -> None:
            raise OSError("Timed out trying to connect")

        def cancelled(*_: object, **__: object) -> None:
            raise CancelledError("lost")

        monkeypatch.setattr(client, "cancel", gone)
        monkeypatch.setattr("distributed.as_completed", cancelled)
        with pytest.raises(FailedError, match=r"try: expected the cluster's scheduler to answer.*resumes"):
            run_tasks(client, [(_wrong,)], "try", "task")
        monkeypatch.undo()
    local.close()


def raw_folder(folder: Path) -> Path:
    """Two raw recordings with their tables, H != W, one of them of variable rate."""
    for number, name in enumerate(("run1.mp4", "run2.mkv")):
        images = pictures(70 + 20 * number, seed=number)
        ticks = [2 * i + (i % 3 == 0) for i in range(len(images))] if number else None
        folder.mkdir(exist_ok=True)
        write(folder / name, "libx264", gop=9, images=images, ticks=ticks)
        rows = "".join(f"{i / 2},7000,7100,{7200 + i}\n" for i in range(8))
        (folder / f"{name[:4]}.csv").write_text("seconds,a,b,c\n" + rows)
    return folder


@pytest.mark.parametrize("seconds", [0.4, 1.3])
def test_stretches_of_long_videos_give_the_same_store(client, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(cluster, "_STRETCH_SECONDS", seconds)
    raw = raw_folder(tmp_path / "raw")
    decoded = []
    run = cluster.run_tasks
    monkeypatch.setattr(
        cluster, "run_tasks", lambda *given: decoded.append((given[2], len(given[1]))) or run(*given)
    )
    options = {"crop": (3, 5, 40, 30), "size": (20, 15)}
    one = fmfbench.convert(raw, tmp_path / "one.zarr", **options)
    many = convert_on(client, raw, tmp_path / "many.zarr", **options)
    assert dict(decoded)["decode"] > 3
    assert chunks(many) == chunks(one)
    ours, theirs = fmfbench.open_dataset(many), fmfbench.open_dataset(one)
    assert (ours.fingerprint, ours.sources_digest) == (theirs.fingerprint, theirs.sources_digest)
    for name in ours.recordings:
        assert (
            ours.recordings[name].attributes["fmfbench.remarks"]
            == theirs.recordings[name].attributes["fmfbench.remarks"]
        )
    assert verify(many, raw).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.zarr", "one.zarr", "raw"]


def test_a_damaged_video_is_refused_through_stretches_as_in_one_pass(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_STRETCH_SECONDS", 0.4)
    raw = raw_folder(tmp_path / "raw")
    truncated(raw / "run2.mkv", 0.6)
    with pytest.raises(SourceError) as one:
        fmfbench.convert(raw, tmp_path / "one.zarr")
    with pytest.raises(SourceError) as many:
        convert_on(client, raw, tmp_path / "many.zarr")
    assert str(one.value) == str(many.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


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
