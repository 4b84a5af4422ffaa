"""Worker processes that cannot work: one line that says why and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fmfbench
from fmfbench.errors import DamageError, FailedError, WindowError
from fmfbench.store.shards import ArrayReader
from fmfbench.torch import WindowDataset, make_loader
from fmfbench.torch.workers import explained

BEGIN = """
import sys
import fmfbench
from fmfbench.torch import WindowDataset, make_loader

def loop(method, workers=1):
    windows = fmfbench.open_dataset(sys.argv[1]).windows("all", "short", every=10)
    loader = make_loader(WindowDataset(windows), batch_size=16, num_workers=workers, start_method=method)
    return sum(len(batch["sample_id"]) for batch in loader), len(windows)
"""


def run(script: str, path: Path, store: Path) -> subprocess.CompletedProcess[str]:
    path.write_text(BEGIN + script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(path), str(store)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no fork server")
def test_the_readme_s_loop_runs_under_a_main_guard(awkward_store: Path, tmp_path: Path) -> None:
    guarded = 'if __name__ == "__main__":\n    a, b = loop("forkserver")\n    print(a == b)'
    done = run(guarded, tmp_path / "guarded.py", awkward_store)
    assert done.stdout == "True\n", done.stderr


def test_without_a_main_guard_the_error_says_so(awkward_store: Path, tmp_path: Path) -> None:
    done = run('loop("spawn")', tmp_path / "bare.py", awkward_store)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert 'put the loop of the script under `if __name__ == "__main__":`' in lines[-1]
    assert lines[-1].startswith(
        "fmfbench.errors.FailedError: expected worker processes of start method spawn"
    )
    assert "got a worker that reads it again" in done.stderr  # the worker's own words


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_the_limit_of_open_files_is_named(awkward_store: Path, tmp_path: Path) -> None:
    script = (
        "import resource, torch\n"
        "windows = fmfbench.open_dataset(sys.argv[1]).windows('all', 'short', every=1)\n"
        "loader = make_loader(WindowDataset(windows), batch_size=2, num_workers=1, start_method='fork')\n"
        "iterator = iter(loader)\n"
        "kept = [next(iterator)]\n"
        "import os\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) + 12, 4096))\n"
        "kept += list(iterator)\n"
    )
    done = run(script, tmp_path / "files.py", awkward_store)
    assert done.returncode == 1
    assert "FailedError: expected room for the files that batches of worker processes take" in done.stderr
    assert "ulimit -n" in done.stderr


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="Linux's shared memory")
def test_too_little_shared_memory_is_told_before_a_worker_starts(
    awkward_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = fmfbench.open_dataset(awkward_store).windows("all", "short")
    loader = make_loader(WindowDataset(windows), batch_size=64, num_workers=2, start_method="fork")
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=20, f_frsize=4096))
    with pytest.raises(WindowError, match=r"of shared memory for the batches of 2 worker .*--shm-size"):
        next(iter(loader))
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=2000, f_frsize=4096))
    assert len(next(iter(loader))["sample_id"]) == 64


def test_other_errors_of_workers_stay_what_they_are() -> None:
    own = RuntimeError("something else")
    assert explained(own, "spawn", started=False) is own
    gone = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    assert explained(gone, "fork", started=False) is gone
    assert explained(gone, "spawn", started=True) is gone
    assert isinstance(explained(gone, "forkserver", started=False), FailedError)
    bus = RuntimeError(
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's ..."
    )
    assert "docker run --shm-size" in str(explained(bus, "fork", started=True))


def test_what_a_worker_says_of_the_store_stays_one_line(
    awkward_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ArrayReader, number: int) -> None:
        raise DamageError(f"{self.path}: chunk {number} does not match its checksum")

    windows = fmfbench.open_dataset(awkward_store).windows("all", "short")
    monkeypatch.setattr(ArrayReader, "chunk", broken)
    loader = make_loader(WindowDataset(windows), num_workers=1, start_method="fork")
    for _ in range(2):  # the workers persist, and so does the damage
        with pytest.raises(DamageError) as caught:
            next(iter(loader))
        assert str(caught.value).endswith("video: chunk 0 does not match its checksum")
        assert "\n" not in str(caught.value)


def test_unknown_start_methods_are_refused(awkward_store: Path) -> None:
    windows = fmfbench.open_dataset(awkward_store).windows("all", "short")
    with pytest.raises(WindowError, match="expected start_method .*spawn.*, got 'thread'"):
        make_loader(WindowDataset(windows), start_method="thread")
