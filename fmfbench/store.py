"""Writing a store: under a temporary name, shard by shard, renamed when whole.

`OUT.part` holds the half-made store and a journal that says what it is made from. A shard is committed when its
file has its final name; the same command run again keeps those that are whole and makes the rest. The
store's own name appears only in the end, so a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fmfbench.errors import StoreError
from fmfbench.locking import target_lock
from fmfbench.schema import DIGEST_KEY, ArraySpec, group_document
from fmfbench.shards import is_whole_shard

__all__ = ["StoreWriter", "is_store", "open_writer", "replace_file", "store_digest", "write_document"]

_JOURNAL = "journal.json"
_SUFFIX = ".tmp"


def is_store(path: Path) -> bool:
    """Whether `path` is a finished store of fmfbench, readable or damaged."""
    try:
        return b'"fmfbench.' in (path / "zarr.json").read_bytes()
    except OSError:
        return False


def store_digest(path: Path, known: dict[str, str] | None = None) -> str:
    """sha256 over the sorted (path, sha256) pairs of every file below `path`.

    The root `zarr.json` is taken with the digest's own value blanked.

    Args:
        path: the store.
        known: sha256 of files that need not be read again, by path relative to the store.
    """
    known = known or {}
    total = hashlib.sha256()
    for name in sorted(_file_names(path)):
        if name == "zarr.json":
            value = hashlib.sha256(_blank_digest((path / name).read_bytes())).hexdigest()
        else:
            value = known.get(name) or file_sha256(path / name)
        total.update(f"{name}\0{value}\n".encode())
    return total.hexdigest()


def file_sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def open_writer(target: Path, identity: dict[str, Any], *, overwrite: bool = False) -> Iterator[StoreWriter]:
    """A writer of the store at `target`; it continues a half-made one of the same identity.

    Args:
        target: where the store shall be.
        identity: JSON of everything that decides the store's bytes; a half-made store of another is refused.
        overwrite: replace a finished store, drop a half-made one of another identity.

    Raises:
        StoreError: `target` exists, or a half-made store of something else is in the way.
        BusyError: another process is writing to the target.
    """
    check_target(target, overwrite=overwrite)
    with target_lock(target):
        check_target(target, overwrite=overwrite)
        writer = StoreWriter(target)
        writer.begin(identity, overwrite=overwrite)
        yield writer


def check_target(target: Path, *, overwrite: bool) -> None:
    """StoreError unless a store may be written at `target`."""
    if not target.parent.is_dir():
        raise StoreError(f"{target}: the folder {target.parent} does not exist; make it first")
    if not target.exists():
        return
    if not is_store(target):
        raise StoreError(f"{target}: exists and is not a store of fmfbench; choose another name")
    if not overwrite:
        raise StoreError(f"{target}: exists; choose another name, or replace it with --overwrite")


class StoreWriter:
    """Commits files of one half-made store and finishes it. Files are named relative to the store."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.root = target.with_name(target.name + ".part")
        self._sha256: dict[str, str] = {}

    def begin(self, identity: dict[str, Any], *, overwrite: bool) -> None:
        """Make the half-made store, or take up the one that is there."""
        journal = self.root / _JOURNAL
        if self.root.exists():
            if self._journal() == identity:
                self._drop_uncommitted()
                return
            if not overwrite and self._journal() is not None:
                raise StoreError(
                    f"{self.root}: holds a half-made conversion of another source or with other options; "
                    "run that command again to finish it, or start over with --overwrite"
                )
            self.discard()
        self.root.mkdir()
        replace_file(journal, json.dumps(identity).encode())

    def discard(self) -> None:
        """Remove the half-made store."""
        shutil.rmtree(self.root, ignore_errors=True)

    def has_shard(self, name: str, spec: ArraySpec, index: int) -> bool:
        """Whether the shard was committed and is whole."""
        path = self.root / name / spec.shard_key(index)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        first, last = spec.shard_range(index)
        if not is_whole_shard(spec, data, last - first):
            return False
        self._note(f"{name}/{spec.shard_key(index)}", data)
        return True

    def commit_shard(self, name: str, spec: ArraySpec, index: int, data: bytes) -> None:
        key = f"{name}/{spec.shard_key(index)}"
        self._note(key, data)
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)

    def write_group(self, name: str, attributes: dict[str, Any]) -> None:
        self._write_document(name, group_document(attributes))

    def write_array(self, name: str, spec: ArraySpec) -> None:
        """The array's metadata; its shards are committed on their own."""
        self._write_document(name, spec.to_document())

    def finish(self, attributes: dict[str, Any]) -> None:
        """Write the root group, make everything durable, and give the store its name."""
        document = group_document({**attributes, DIGEST_KEY: ""})
        write_document(self.root / "zarr.json", document)
        (self.root / _JOURNAL).unlink()
        document["attributes"][DIGEST_KEY] = store_digest(self.root, self._sha256)
        write_document(self.root / "zarr.json", document)
        _sync_tree(self.root)
        old = self.target.with_name(self.target.name + ".old")
        if self.target.exists():
            os.replace(self.target, old)
        os.replace(self.root, self.target)
        _sync(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _write_document(self, name: str, document: dict[str, Any]) -> None:
        path = self.root / name / "zarr.json" if name else self.root / "zarr.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, document)

    def _note(self, name: str, data: bytes) -> None:
        self._sha256[name] = hashlib.sha256(data).hexdigest()

    def _journal(self) -> Any:
        try:
            return json.loads((self.root / _JOURNAL).read_bytes())
        except (OSError, ValueError):
            return None

    def _drop_uncommitted(self) -> None:
        for path in self.root.rglob(f"*{_SUFFIX}"):
            path.unlink()


def write_document(path: Path, document: dict[str, Any]) -> None:
    """A `zarr.json`, the same bytes for the same content."""
    replace_file(path, json.dumps(document, indent=1, allow_nan=False).encode())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + _SUFFIX)
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _blank_digest(data: bytes) -> bytes:
    document = json.loads(data)
    value = document.get("attributes", {}).get(DIGEST_KEY)
    # Blanked in the text, not in the parsed document, so that an edit of a space is seen too.
    return data.replace(str(value).encode(), b"") if value else data


def _file_names(path: Path) -> Iterable[str]:
    for folder, _, files in os.walk(path):
        for name in files:
            yield Path(folder, name).relative_to(path).as_posix()


def _sync_tree(path: Path) -> None:
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    flags = os.O_RDONLY
    try:
        descriptor = os.open(path, flags)
    except OSError:  # a folder, on Windows
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
