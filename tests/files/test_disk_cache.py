"""The disk cache: the same bytes, fewer requests, never more than its bound, never an older store's."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from conftest_run import call

import fmfbench
from fmfbench.errors import InputError
from fmfbench.files.disk_cache import FOLDER_VARIABLE, SIZE_VARIABLE, DiskCache, parse_size
from fmfbench.files.remote import RemotePath
from fmfbench.store.upload import upload


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "100MB")
    return tmp_path / "cache"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    body = RemotePath._body

    def counted(path: RemotePath, options: dict[str, object]) -> bytes:
        found.append(path.url)
        return body(path, options)

    monkeypatch.setattr(RemotePath, "_body", counted)
    return found


def read_all(url: str) -> dict[str, np.ndarray]:
    data = fmfbench.open_dataset(url)
    windows = data.windows("all", "short")
    return dict(windows.batch(np.arange(len(windows))))


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_what_was_read_once_is_not_asked_for_again(
    awkward_store: Path, cache: Path, asked: list[str]
) -> None:
    url = "memory://cached/fmf.zarr"
    upload(awkward_store, RemotePath(url))
    asked.clear()
    first = read_all(url)
    assert len(asked) > 20
    asked.clear()
    same(read_all(url), first)
    assert asked == [f"{url}/zarr.json"]  # which store is there is always asked
    same(read_all(str(awkward_store)), first)


def test_a_store_that_was_replaced_is_not_read_from_the_old_one(
    awkward_store: Path, awkward_tree: Path, cache: Path, tmp_path: Path
) -> None:
    url = "memory://replaced/fmf.zarr"
    upload(awkward_store, RemotePath(url))
    read_all(url)
    other = fmfbench.convert(awkward_tree, tmp_path / "other.zarr", only=["a.dotted"])
    upload(other, RemotePath(url), overwrite=True)
    same(read_all(url), read_all(str(other)))


def test_damage_on_the_disk_is_read_anew(awkward_store: Path, cache: Path, asked: list[str]) -> None:
    url = "memory://rotten/fmf.zarr"
    upload(awkward_store, RemotePath(url))
    first = read_all(url)
    for number, path in enumerate(sorted(cache.rglob("*"))):
        if path.is_file():
            data = path.read_bytes()
            path.write_bytes([data[:-1] + bytes([data[-1] ^ 1]), data[:7], b""][number % 3])
    asked.clear()
    same(read_all(url), first)
    assert len(asked) > 20


def test_verify_asks_the_server(awkward_store: Path, cache: Path, asked: list[str]) -> None:
    from fmfbench.conversion.verify import verify

    url = "memory://verified/fmf.zarr"
    upload(awkward_store, RemotePath(url))
    read_all(url)
    path = RemotePath(url) / "recordings" / "b-long" / "video" / "c" / "0" / "0" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not verify(url).ok


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_last_used_stay_within_the_bound(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10_000_000)
    made: list[str] = []

    def make(key: str) -> bytes:
        made.append(key)
        return key.encode() * 20_000

    for number in range(300):
        cache.get(f"k{number:04d}", lambda number=number: make(f"k{number:04d}"))
        cache.get("kept", lambda: make("kept"))
        assert size_of(tmp_path) <= 10_000_000
    assert size_of(tmp_path) > 5_000_000
    assert made.count("kept") == 1  # used all the time
    made.clear()
    cache.get("k0000", lambda: make("k0000"))
    assert made == ["k0000"]  # gone
    assert cache.get("large", lambda: b"x" * 9_000_000) == b"x" * 9_000_000
    assert size_of(tmp_path) <= 10_000_000  # what would crowd all else out is not kept


def _read_much(folder: str, seed: int) -> None:
    cache = DiskCache(Path(folder), 5_000_000)
    for number in np.random.default_rng(seed).integers(0, 200, 600).tolist():
        expected = f"{number:05d}".encode() * 10_000
        assert cache.get(str(number), lambda expected=expected: expected) == expected


def test_several_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_read_much, args=(str(tmp_path), seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert 0 < size_of(tmp_path) <= 5_000_000
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("text", ["", "GB", "10", "-5GB", "nanGB", "infGB", "5 XB", "1e3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected a size of at least 1 MB"):
        parse_size(text)


def test_a_folder_that_cannot_be_is_refused(
    awkward_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "below"))
    url = "memory://nowhere/fmf.zarr"
    upload(awkward_store, RemotePath(url))
    with pytest.raises(InputError, match="expected a folder for the disk cache"):
        read_all(url)


def test_blocks_are_read_with_a_request_a_shard(awkward_store: Path, asked: list[str]) -> None:
    from fmfbench.torch import WindowDataset, make_loader

    url = "memory://blocks/fmf.zarr"
    upload(awkward_store, RemotePath(url))
    data = fmfbench.open_dataset(url)
    loader = make_loader(WindowDataset(data.windows("all", "short")), 50, "block")
    asked.clear()
    ids = np.concatenate([batch["sample_id"].numpy() for batch in loader])
    assert sorted(ids.tolist()) == list(range(data.num_samples))
    for name, recording in data.recordings.items():
        shards = recording.video.spec.num_shards
        assert sum(f"/{name}/video/c/" in path for path in asked) <= 2 * shards  # its index and its chunks


def test_the_option_of_the_command(awkward_store: Path, cache: Path, tmp_path: Path) -> None:

    upload(awkward_store, RemotePath("memory://option/fmf.zarr"))
    options = ["--disk-cache", str(tmp_path / "x"), "--disk-cache-size"]
    done = call(*options, "2 XB", "info", "memory://option/fmf.zarr", code=2)
    assert "expected a size of at least 1 MB" in done.output
    call(*options, "5MB", "info", "memory://option/fmf.zarr")
    assert 0 < size_of(tmp_path / "x") < 5_000_000
    assert not cache.exists()
