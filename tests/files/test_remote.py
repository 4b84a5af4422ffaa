"""Stores behind a URL: the same arrays, windows, scores and verdicts as from disk; never wrong bytes.

Also tests fmfbench.files: local.
"""

from __future__ import annotations

import http.server
import multiprocessing
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

import fmfbench
from fmfbench.conversion.summary import describe
from fmfbench.conversion.verify import verify
from fmfbench.errors import DamageError, FailedError, InputError, StoreError
from fmfbench.files import remote
from fmfbench.files.remote import RemotePath, parse_place, read_ranges, read_tail
from fmfbench.store.merge import merge


@pytest.fixture(scope="module")
def url(awkward_store: Path, bucket) -> str:
    return bucket.upload(awkward_store, "stores/awkward.zarr")


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("s3://bucket/a/fmf.zarr/", RemotePath, "s3://bucket/a/fmf.zarr"),
        ("memory://here/x.zarr", RemotePath, "memory://here/x.zarr"),
        ("http://host:80/x.zarr", RemotePath, "http://host:80/x.zarr"),
        ("file:///data/a%20b.zarr", Path, "/data/a b.zarr"),
        ("runs/fmf.zarr", Path, "runs/fmf.zarr"),
        ("C:/fmf.zarr", Path, "C:/fmf.zarr"),
    ],
)
def test_places(text, kind, shown):
    assert isinstance(parse_place(text), kind)
    assert str(parse_place(text)).replace("\\", "/") == shown


@pytest.mark.parametrize("text", ["ftp://host/x.zarr", "s3:///x.zarr", "hdfs://a/b", "http://"])
def test_other_urls_are_refused(text):
    with pytest.raises(InputError, match="expected"):
        parse_place(text)


def test_parts_of_a_url():
    path = RemotePath("s3://bucket/a/fmf.v2.zarr")
    assert (path / "zarr.json").url == "s3://bucket/a/fmf.v2.zarr/zarr.json"
    assert (path.name, path.stem, path.suffix, path.parent.url) == (
        "fmf.v2.zarr",
        "fmf.v2",
        ".zarr",
        "s3://bucket/a",
    )
    assert pickle.loads(pickle.dumps(path)) == path


def test_the_store_reads_as_from_disk(s3, url, awkward_store):
    ours, theirs = fmfbench.open_dataset(url), fmfbench.open_dataset(awkward_store)
    assert ours.fingerprint == theirs.fingerprint
    assert list(ours.recordings) == list(theirs.recordings)
    for name, recording in theirs.recordings.items():
        other = ours.recordings[name]
        assert other.layers == recording.layers
        for part in ("frame_time", "current", "current_time", "split", "class_label"):
            np.testing.assert_array_equal(getattr(other, part), getattr(recording, part))
        np.testing.assert_array_equal(other.read_video(3, 19), recording.read_video(3, 19))
        if recording.masks is not None:
            np.testing.assert_array_equal(other.read_masks(), recording.read_masks())
    mine, its = ours.windows("train", protocol="short"), theirs.windows("train", protocol="short")
    rows = np.random.default_rng(1).permutation(len(its))[:23]
    for key, value in its.batch(rows).items():
        np.testing.assert_array_equal(mine.batch(rows)[key], value, err_msg=key)


def test_verify_and_info(s3, url, awkward_store):
    report = verify(url)
    local = verify(awkward_store)
    assert report.ok
    assert (report.files, report.bytes, report.recordings) == (local.files, local.bytes, local.recordings)
    assert [f.to_dict() for f in report.remarks] == [f.to_dict() for f in local.remarks]
    ours, theirs = describe(fmfbench.open_dataset(url)), describe(fmfbench.open_dataset(awkward_store))
    assert ours.pop("store") == url
    del theirs["store"]
    assert ours == theirs


def test_opening_takes_few_requests(s3, url, monkeypatch):
    asked = []
    ask = RemotePath._ask

    def counted(self, what, *arguments, **options):
        asked.append(self.url)
        return ask(self, what, *arguments, **options)

    monkeypatch.setattr(RemotePath, "_ask", counted)
    data = fmfbench.open_dataset(url)
    assert len(data.recordings) == 3
    assert len(asked) < 25
    asked.clear()
    data.windows("train", protocol="short")
    assert len(asked) < 60


def test_damage_behind_a_url_is_found_and_never_read(s3, awkward_store, bucket):
    url = bucket.upload(awkward_store, "stores/damaged.zarr")
    key = "stores/damaged.zarr/recordings/b-long/video/c/0/0/0/0"
    data = bytearray(bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read())
    data[len(data) // 3] ^= 4
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=bytes(data))
    with pytest.raises(DamageError, match="does not match its checksum"):
        fmfbench.open_dataset(url).recordings["b-long"].read_video()
    assert [f.where for f in verify(url).damage] == ["recordings/b-long/video/c/0/0/0/0"]
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    with pytest.raises(DamageError, match="the file is missing"):
        fmfbench.open_dataset(url).recordings["b-long"].read_video()


def test_what_is_not_there(s3, url):
    with pytest.raises(StoreError, match="no such file"):
        fmfbench.open_dataset(f"s3://{s3.name}/stores/none.zarr")
    with pytest.raises(StoreError, match="no such file"):
        verify(f"s3://{s3.name}/stores")


def test_convert_to_a_url(s3, awkward_tree, awkward_store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = f"s3://{s3.name}/made/awkward.zarr"
    put, left = RemotePath.write_bytes, [7]

    def failing(self, data):
        left[0] -= 1
        if left[0] == 0:
            raise FailedError("the line is cut")
        put(self, data)

    monkeypatch.setattr(RemotePath, "write_bytes", failing)
    with pytest.raises(FailedError, match="the line is cut"):
        fmfbench.convert(awkward_tree, url)
    with pytest.raises(StoreError, match="no such file"):  # nothing half-made is ever readable
        fmfbench.open_dataset(url)
    monkeypatch.setattr(RemotePath, "write_bytes", put)
    assert str(fmfbench.convert(awkward_tree, url)) == url
    assert not list(tmp_path.iterdir())
    assert verify(url).ok
    assert fmfbench.open_dataset(url).fingerprint == fmfbench.open_dataset(awkward_store).fingerprint
    with pytest.raises(StoreError, match="exists; choose another name"):
        fmfbench.convert(awkward_tree, url)
    s3.client.put_object(Bucket=s3.name, Key="strange/x.zarr/mine.txt", Body=b"mine")
    with pytest.raises(StoreError, match="got mine.txt"):
        fmfbench.convert(awkward_tree, f"s3://{s3.name}/strange/x.zarr")


def test_memory_urls_hold_within_a_process(awkward_tree, awkward_store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fmfbench.convert(awkward_tree, "memory://shelf/awkward.zarr")
    data = fmfbench.open_dataset("memory://shelf/awkward.zarr")
    assert data.fingerprint == fmfbench.open_dataset(awkward_store).fingerprint


def test_the_root_is_created_once(s3):
    path = RemotePath(f"s3://{s3.name}/once/zarr.json")
    path.create_bytes(b"first")
    with pytest.raises(FileExistsError):
        path.create_bytes(b"second")
    assert path.read_bytes() == b"first"


def test_merge_takes_urls(s3, url, awkward_store, tmp_path):
    store = merge([url], tmp_path / "here.zarr")
    assert verify(store).ok
    assert fmfbench.open_dataset(store).fingerprint == fmfbench.open_dataset(awkward_store).fingerprint


@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_those_of_the_file(tmp_path, monkeypatch, seed):
    """Against slices of the bytes, whatever is read as one."""
    rng = np.random.default_rng(seed)
    data = rng.bytes(50_000)
    place = RemotePath(f"memory://ranges{seed}/x")
    place.write_bytes(data)
    (tmp_path / "x").write_bytes(data)
    monkeypatch.setattr(remote, "_GAP", int(rng.integers(0, 3000)))
    monkeypatch.setattr(remote, "_LARGEST_RANGE", int(rng.integers(5_000, 60_000)))
    starts = rng.integers(0, 45_000, 12)
    if seed % 2:
        starts.sort()
    ranges = [(int(a), int(n)) for a, n in zip(starts, rng.integers(0, 5000, 12), strict=True)]
    expected = [data[a : a + n] for a, n in ranges]
    assert list(read_ranges(tmp_path / "x", ranges)) == expected
    assert list(read_ranges(place, ranges)) == expected
    assert read_tail(place, 77) == read_tail(tmp_path / "x", 77) == data[-77:]
    assert b"".join(place.pieces()) == data


class _Unkind(http.server.BaseHTTPRequestHandler):
    """Serves a folder, with a fault that the test chose for each path's first answers."""

    folder: Path
    fault = ""
    left: dict[str, int] = {}  # noqa: RUF012 - set anew by each test

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = len(data) - int(last) if not first else int(first)
            stop = int(last) + 1 if first and last else len(data)
            whole, data, status = len(data), data[start:stop], 206
        if self.left.setdefault(self.path, 2) > 0 and self.fault:
            self.left[self.path] -= 1
            if self.fault.isdigit():
                self.send_error(int(self.fault))
                return
            if self.fault == "closed":
                self.connection.close()
                return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{whole}")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if body:
            broken = self.fault == "cut" or (self.fault == "broken off" and self.left[self.path] == 1)
            self.wfile.write(data[: len(data) // 2] if broken else data)

    def log_message(self, *_):
        pass


@pytest.fixture
def unkind(awkward_store):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Unkind)
    _Unkind.folder, _Unkind.left = awkward_store, {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("fault", ["", "500", "503", "closed", "broken off"])
def test_faults_of_a_server_are_tried_again(unkind, awkward_store, fault):
    _Unkind.fault = fault
    recording = fmfbench.open_dataset(unkind).recordings["b-long"]
    theirs = fmfbench.open_dataset(awkward_store).recordings["b-long"]
    np.testing.assert_array_equal(recording.read_video(0, 9), theirs.read_video(0, 9))
    np.testing.assert_array_equal(recording.current, theirs.current)


def test_a_body_cut_short_is_one_line_and_no_data(unkind):
    _Unkind.fault = "cut"
    with pytest.raises((FailedError, StoreError)) as caught:
        fmfbench.open_dataset(unkind)
    assert "\n" not in str(caught.value)


def _read_in_child(url, queue):
    try:
        fmfbench.open_dataset(url)
        queue.put("read")
    except FailedError as error:
        queue.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork")
def test_a_forked_process_says_so_and_a_spawned_one_reads(s3, url):
    fmfbench.open_dataset(url)
    for method, expected in (("fork", "start workers by spawn"), ("spawn", "read")):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=_read_in_child, args=(url, queue))
        process.start()
        assert expected in queue.get(timeout=60)
        process.join(30)
