"""Writing behind a URL: whole or not at all, whoever is killed when, and one writer at a time.

Also tests fmfbench.store: lease, upload.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fmfbench
from fmfbench.conversion.verify import verify
from fmfbench.errors import BusyError, FailedError, StoreError
from fmfbench.files.remote import RemotePath
from fmfbench.store import lease as lease_module
from fmfbench.store.lease import Lease, leased
from fmfbench.store.merge import merge
from fmfbench.store.upload import upload


class Killed(BaseException):
    """What a kill is to a process: nothing runs after it."""


class Requests:
    """Counts the requests to a store, and stops for good at the one that is told, before or after it is served."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.stop, self.served = 0, -1, False
        ask, objects = RemotePath._ask, RemotePath._objects

        def asked(path, what, *arguments, **options):
            return self.one(lambda: ask(path, what, *arguments, **options))

        monkeypatch.setattr(RemotePath, "_ask", asked)
        monkeypatch.setattr(RemotePath, "_objects", lambda path: iter(self.one(lambda: list(objects(path)))))

    def one(self, serve):
        self.count += 1
        if self.stop < 0 or self.count < self.stop:
            return serve()
        if self.count == self.stop and self.served:
            serve()
        raise Killed


@pytest.fixture(scope="module")
def stores(awkward_store: Path, awkward_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores with some files of the same names."""
    folder = tmp_path_factory.mktemp("two")
    return [
        fmfbench.convert(awkward_tree, folder / "one.zarr", only=["c-short"]),
        fmfbench.convert(awkward_tree, folder / "two.zarr", only=["a.dotted"]),
    ]


def readable(url: str) -> str | None:
    """Fingerprint of what a reader sees, which must be whole; None where there is no store."""
    try:
        data = fmfbench.open_dataset(url)
    except StoreError:
        return None
    assert verify(url).ok
    return data.fingerprint


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_every_request_in_turn(stores, overwrite, served, monkeypatch):
    monkeypatch.setattr("fmfbench.store.upload._AT_ONCE", 1)
    monkeypatch.setattr("fmfbench.store.lease._is_gone", lambda found: True)  # the holder was killed
    requests = Requests(monkeypatch)
    before = None
    new = fmfbench.open_dataset(stores[1]).fingerprint
    kills = 0
    for at in range(1, 500):
        url = f"memory://kill-{overwrite}-{served}-{at}/fmf.zarr"
        requests.stop = -1
        if overwrite:
            upload(stores[0], RemotePath(url))
            before = fmfbench.open_dataset(stores[0]).fingerprint
        requests.count, requests.stop, requests.served = 0, at, served
        try:
            upload(stores[1], RemotePath(url), overwrite=overwrite)
        except Killed:
            kills += 1
        requests.stop, last = -1, requests.count < at
        assert readable(url) in ({before, None, new} if not last else {new})
        upload(stores[1], RemotePath(url), overwrite=overwrite)
        assert readable(url) == new
        left = set(RemotePath(url).parent.sizes())
        assert left == {
            f"fmf.zarr/{name}" for name in RemotePath(url).sizes()
        }  # no lease, nothing of the old store
        if last:
            break
    assert kills > 20


def test_a_resumed_upload_sends_what_is_missing(stores, monkeypatch):
    url = RemotePath("memory://resume/fmf.zarr")
    monkeypatch.setattr("fmfbench.store.lease._is_gone", lambda found: True)
    requests = Requests(monkeypatch)
    requests.stop = 16
    with pytest.raises(Killed):
        upload(stores[1], url)
    requests.stop = -1
    sent = []
    write = RemotePath.write_bytes
    monkeypatch.setattr(
        RemotePath, "write_bytes", lambda path, data: (sent.append(path.url), write(path, data))[1]
    )
    there = set(url.sizes())
    assert there
    upload(stores[1], url)
    assert sent
    assert not {f"{url}/{name}" for name in there} & set(sent)


def test_what_is_no_store_is_not_replaced(stores):
    url = RemotePath("memory://strange/fmf.zarr")
    (url / "notes.txt").write_bytes(b"mine")
    with pytest.raises(StoreError, match=r"got notes\.txt"):
        upload(stores[0], url)
    (url / "zarr.json").write_bytes(b'{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="a store of fmfbench, got something else"):
        upload(stores[0], url, overwrite=True)
    assert set(url.sizes()) == {"notes.txt", "zarr.json"}


def test_a_store_that_is_there_stays_without_overwrite(stores):
    url = RemotePath("memory://there/fmf.zarr")
    upload(stores[0], url)
    with pytest.raises(StoreError, match="--overwrite"):
        upload(stores[1], url)
    upload(stores[0], url)  # the same once more is done already
    assert readable(str(url)) == fmfbench.open_dataset(stores[0]).fingerprint


def test_one_writer_at_a_time(stores, monkeypatch):
    url = RemotePath("memory://busy/fmf.zarr")
    with (
        leased(RemotePath("memory://busy/fmf.zarr.lease")),
        pytest.raises(BusyError, match="nobody to be writing"),
    ):
        upload(stores[0], url)
    upload(stores[0], url)


def test_a_lease_that_ran_out_is_followed_and_its_holder_notices(monkeypatch):
    path = RemotePath("memory://lease/x.lease")
    first, second = Lease(path), Lease(path)
    first.take()
    first.write(writes="abc")
    with pytest.raises(BusyError):
        second.take()
    text = json.loads(path.read_bytes())
    monkeypatch.setattr(lease_module.time, "time", lambda: text["until"] + 61)
    second.take()
    assert second.notes == {"writes": "abc"}
    with pytest.raises(BusyError, match="another process has begun"):
        first.renew(now=True)
    second.give_back(done=True)
    assert not path.exists()


def test_a_holder_of_this_machine_that_is_no_more_is_followed_at_once():
    path = RemotePath("memory://dead/x.lease")
    first = Lease(path)
    first.take()
    text = json.loads(path.read_bytes())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_bytes(json.dumps({**text, "pid": ended.pid}).encode())
    Lease(path).take()


def test_a_server_without_conditional_writes_is_refused(monkeypatch):
    create = RemotePath.create_bytes

    def careless(path, data):
        path.unlink()
        return create(path, data)

    monkeypatch.setattr(RemotePath, "create_bytes", careless)
    path = RemotePath("memory://careless/x.lease")
    with pytest.raises(FailedError, match="If-None-Match"):
        Lease(path).take()
    assert not path.exists()


def test_to_a_server(s3, stores, awkward_store, tmp_path, monkeypatch):
    """Conditional writes of a real protocol: upload, refuse, overwrite, merge to a URL."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    url = f"s3://{s3.name}/written/one.zarr"
    upload(stores[0], RemotePath(url))
    assert readable(url) == fmfbench.open_dataset(stores[0]).fingerprint
    with pytest.raises(StoreError, match="--overwrite"):
        upload(stores[1], RemotePath(url))
    upload(stores[1], RemotePath(url), overwrite=True)
    assert readable(url) == fmfbench.open_dataset(stores[1]).fingerprint
    both = f"s3://{s3.name}/written/both.zarr"
    assert str(merge([stores[0], url], both)) == both
    local = merge(stores, tmp_path / "both.zarr")
    assert readable(both) == fmfbench.open_dataset(local).fingerprint
    assert not list(tmp_path.glob("fmfbench-upload-*"))


def test_a_killed_writer_is_resumed(s3, awkward_tree, awkward_store, tmp_path, monkeypatch):
    """kill -9 in the middle of an upload, then the same call."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    url = f"s3://{s3.name}/killed/fmf.zarr"
    command = [sys.executable, "-m", "fmfbench", "convert", str(awkward_tree), url]
    for files in (4, 20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(RemotePath(url).sizes()) < files and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert readable(url) in (None, fmfbench.open_dataset(awkward_store).fingerprint)
    subprocess.run(command, check=True, capture_output=True)
    assert readable(url) == fmfbench.open_dataset(awkward_store).fingerprint
    assert not RemotePath(f"{url}.lease").exists()
    shutil.rmtree(tmp_path, ignore_errors=True)
