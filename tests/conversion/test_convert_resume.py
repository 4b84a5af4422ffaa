"""A conversion that is killed, interrupted, starved or misled: nothing is lost, nothing is left that should not be."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import fmfbench
from fmfbench.conversion import convert as conversion
from fmfbench.conversion import recordings
from fmfbench.conversion.verify import verify
from fmfbench.errors import FailedError, SourceError, StoreError
from fmfbench.store.digest import file_names
from fmfbench.store.writer import StoreWriter, is_half_made

DATA = Path(__file__).parents[1] / "data"
CLI = [sys.executable, "-c", "from fmfbench_cli.main import main; main()"]
KILLS = 20
CONVERT = """
import sys, numpy, h5py, numcodecs
from fmfbench.conversion.convert import convert
print("ready", flush=True)
convert(sys.argv[1], sys.argv[2], workers=2)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two V1 recordings of several shards each."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(5)
    for name, frames in (("first", 3500), ("second.b", 1700)):
        with h5py.File(folder / f"{name}.mat", "w", userblock_size=512) as file:
            video = rng.integers(0, 256, (frames, 3, 72, 48), np.uint8)
            label = np.zeros((frames, 72, 48), np.uint8)
            label[rng.random(frames) < 0.3, 5:9, 7:30] = 255
            arrays = {"video": video, "label": label, "current": rng.normal(9000, 10, (frames, 3))}
            arrays["train_test_index"] = np.arange(frames)[:, None] % 2
            for key, values in arrays.items():
                chunks = (8, *values.shape[1:]) if key in ("video", "label") else None
                file.create_dataset(key, data=values, chunks=chunks)
        with (folder / f"{name}.mat").open("r+b") as raw:
            raw.write(b"MATLAB 7.3".ljust(116) + b"\0" * 8 + b"\x00\x02IM")
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fmfbench.convert(source, tmp_path_factory.mktemp("undisturbed") / "o.zarr", workers=1)


def chunks(store: Path) -> dict[str, bytes]:
    return {n: (store / n).read_bytes() for n in file_names(store) if not n.endswith("zarr.json")}


def committed(target: Path) -> dict[str, tuple[int, int]]:
    """Shards of frames in the half-made store, and what changes when one is written again."""
    root = target.with_name(target.name + ".part") / "store"
    names = [n for n in file_names(root) if "/c/" in n and not n.endswith(".tmp") and n.count("/") > 5]
    return {n: ((root / n).stat().st_ino, (root / n).stat().st_mtime_ns) for n in names}


def start(source: Path, target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CONVERT, str(source), str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def same_files_again(target: Path, before: dict[str, tuple[int, int]]) -> None:
    for name, stamp in before.items():
        status = (target / name).stat()
        assert (status.st_ino, status.st_mtime_ns) == stamp, f"{name} was committed and is written again"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_killed_at_random_moments_the_same_command_resumes(
    source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    wanted = chunks(undisturbed)
    process = start(source, tmp_path / "timing.zarr")
    begun = time.monotonic()
    process.communicate()
    duration = time.monotonic() - begun
    shutil.rmtree(tmp_path / "timing.zarr")
    moments = random.Random(3)
    amid = 0
    for number in range(KILLS):
        target = tmp_path / f"{number}.zarr"
        process = start(source, target)
        time.sleep(moments.uniform(0, duration))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = {} if target.exists() else committed(target)
        amid += bool(before)
        if target.exists():
            assert verify(target).ok
        if is_half_made(target) or not target.exists():  # both: it had its name and was not yet tidied up
            fmfbench.convert(source, target, workers=2)
            same_files_again(target, before)
        else:
            target.with_name(f".{target.name}.lock").unlink(missing_ok=True)  # its being there says nothing
            if target.with_name(f"{target.name}.part").exists():  # and an empty folder no more
                target.with_name(f"{target.name}.part").rmdir()
        assert chunks(target) == wanted
        assert {p.name for p in tmp_path.iterdir()} == {target.name}
        shutil.rmtree(target)
    assert amid >= 3, "the kills did not meet the conversion at work"


def test_killed_before_it_tidied_up_the_same_command_does(
    source: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discard = StoreWriter.discard

    def fails_in_the_end(self: StoreWriter) -> None:
        if self.finished:
            raise OSError(5, "Input/output error")
        discard(self)

    target = tmp_path / "o.zarr"
    monkeypatch.setattr(StoreWriter, "discard", fails_in_the_end)
    with pytest.raises(FailedError, match="Input/output error"):
        fmfbench.convert(source, target, workers=2)
    assert verify(target).ok
    assert is_half_made(target)
    monkeypatch.setattr(StoreWriter, "discard", discard)
    before = {name: (target / name).stat().st_mtime_ns for name in file_names(target)}
    fmfbench.convert(source, target, workers=2)
    assert {name: (target / name).stat().st_mtime_ns for name in file_names(target)} == before
    assert chunks(target) == chunks(undisturbed)
    assert {p.name for p in tmp_path.iterdir()} == {target.name}


def test_the_resumed_store_is_the_undisturbed_one_in_all_but_times(
    source: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, left = recordings._commit, 3

    def fails_at_the_fourth(*arguments: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "Input/output error")
        commit(*arguments)

    monkeypatch.setattr(recordings, "_commit", fails_at_the_fourth)
    with pytest.raises(FailedError, match=r"Input/output error; .* same command resumes"):
        fmfbench.convert(source, tmp_path / "o.zarr", workers=1)
    monkeypatch.setattr(recordings, "_commit", commit)
    before = committed(tmp_path / "o.zarr")
    assert before
    store = fmfbench.convert(source, tmp_path / "o.zarr", workers=3)
    same_files_again(store, before)
    assert chunks(store) == chunks(undisturbed)
    ours, theirs = (fmfbench.open_dataset(p) for p in (store, undisturbed))
    assert ours.fingerprint == theirs.fingerprint
    assert {k: v for k, v in ours.attributes.items() if k not in TIMED} == {
        k: v for k, v in theirs.attributes.items() if k not in TIMED
    }
    assert verify(store, source).damage == ()


TIMED = {"fmfbench.created", "fmfbench.files", "fmfbench.digest"}


def test_the_number_of_workers_does_not_show(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    store = fmfbench.convert(source, tmp_path / "o.zarr", workers=5)
    assert chunks(store) == chunks(undisturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_is_one_line_and_the_same_command_resumes(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    process = subprocess.Popen([*CLI, "convert", str(source), str(target)], stdout=-1, stderr=-1, text=True)
    part = tmp_path / "o.zarr.part" / "store" / "recordings" / "first" / "video" / "c" / "0"
    until = time.monotonic() + 30
    while not part.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.skip("it was done before the interrupt")
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1
    assert "interrupted; the same call resumes the conversion" in errors
    assert not target.exists()
    before = committed(target)
    fmfbench.convert(source, target)
    same_files_again(target, before)
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_file_that_cannot_grow_is_one_line_and_the_same_command_resumes(
    source: Path, tmp_path: Path
) -> None:
    import resource  # which Windows lacks

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    target = tmp_path / "o.zarr"
    done = subprocess.run(
        [*CLI, "convert", str(source), str(target)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "File too large" in done.stderr
    assert "same command" in done.stderr
    assert not target.exists()
    fmfbench.convert(source, target)
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts")
def test_a_full_disk_keeps_what_is_done_and_a_finished_store(
    source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounts are not permitted")
    try:
        small = fmfbench.convert(DATA / "v2_tree", disk / "o.zarr")
        with pytest.raises(FailedError, match="No space left on device") as caught:
            fmfbench.convert(source, disk / "o.zarr", overwrite=True, workers=2)
        assert "\n" not in str(caught.value)
        assert verify(small).ok
        before = committed(small)
        assert before
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        store = fmfbench.convert(source, disk / "o.zarr", overwrite=True, workers=2)
        same_files_again(store, before)
        assert chunks(store) == chunks(undisturbed)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(FailedError, match="Read-only file system"):
            fmfbench.convert(source, disk / "p.zarr")
        assert [p.name for p in disk.iterdir()] == ["o.zarr"]
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a folder nobody may write to")
def test_a_target_nobody_may_write_is_one_line(source: Path) -> None:
    with pytest.raises(FailedError, match="Permission denied|Operation not permitted|Read-only"):
        fmfbench.convert(source, "/sys/o.zarr")


@pytest.mark.parametrize("change", ["touched", "cut", "gone"])
def test_a_source_that_changes_is_said_and_leaves_nothing(
    change: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    write_recording = conversion.write_recording

    def and_change(*arguments: object) -> object:
        done = write_recording(*arguments)
        second = copy / "second.b.mat"
        if change == "touched":
            os.utime(second, ns=(1, 1))
        elif change == "cut" and second.stat().st_size > 5000:
            os.truncate(second, 5000)
        elif change == "gone":
            second.unlink(missing_ok=True)
        return done

    monkeypatch.setattr(conversion, "write_recording", and_change)
    with pytest.raises(FailedError, match="changed while it was read|No such file"):
        fmfbench.convert(copy, tmp_path / "o.zarr")
    assert [p.name for p in tmp_path.iterdir()] in (["source"], ["source", "o.zarr.part"])
    if (tmp_path / "o.zarr.part").exists():
        pytest.fail("a half-made store of a source that is no more was kept")


def test_a_source_that_changed_since_is_not_mixed_with_what_is_there(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    process = start(copy, tmp_path / "o.zarr")
    while not committed(tmp_path / "o.zarr") and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    if (tmp_path / "o.zarr").exists():
        pytest.skip("it was done before the kill")
    os.utime(copy / "first.mat", ns=(1, 1))
    with pytest.raises(StoreError, match="another source"):
        fmfbench.convert(copy, tmp_path / "o.zarr")
    fmfbench.convert(copy, tmp_path / "o.zarr", overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {"source", "o.zarr"}


@pytest.mark.parametrize("values", [(2,), (1, 255)])
def test_bad_labels_late_in_the_source_leave_nothing(
    values: tuple[int, ...], source: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    with h5py.File(copy / "second.b.mat", "r+") as file:
        for place, value in enumerate(values):
            file["label"][1600 + place, 0, 0] = value
    with pytest.raises(SourceError, match="0/1 or 0/255"):
        fmfbench.convert(copy, tmp_path / "o.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
