"""Writing a store: under a temporary name, shard by shard, renamed when whole.

    OUT.part/journal.json   what it is made from; in the end also the finished store's digest
    OUT.part/store/         the half-made store
    OUT.part/notes/         what a resumed run needs to know of shards whose source cannot be entered anywhere
    OUT.part/replaced/      an older store, for the moment in which OUT changes hands (see `_take_place`)

A shard is committed when its file has its final name; the same command run again keeps those that are whole
and makes the rest. The store's own name appears only in the end, so a reader never sees half of one. The journal
is the first thing there and the last to go: whatever lies in a folder without one was not written here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fmfbench.errors import StoreError
from fmfbench.files.atomic import exchange, is_half_written, replace_file, replacing
from fmfbench.files.leavings import without_leavings
from fmfbench.files.lock import target_lock
from fmfbench.files.remote import Place, RemotePath
from fmfbench.store.digest import file_names, file_sha256, seal, store_digest
from fmfbench.store.schema import DIGEST_KEY, ROOT, ArraySpec, document_bytes, group_document
from fmfbench.store.shards import is_whole_shard

__all__ = [
    "StoreWriter",
    "check_target",
    "file_sha256",
    "is_half_made",
    "is_store",
    "open_writer",
    "seal",
    "store_digest",
    "write_document",
]

_JOURNAL = "journal.json"
_SUFFIX = ".tmp"


def is_store(path: Path) -> bool:
    """Whether `path` is a finished store of fmfbench, readable or damaged."""
    documents = [path / ROOT, path / "recordings" / ROOT, *path.glob("recordings/*/zarr.json")]
    documents += path.glob("recordings/*/*/zarr.json")
    for document in documents:
        with contextlib.suppress(OSError):
            if b'"fmfbench.' in document.read_bytes():
                return True
    return False


@contextlib.contextmanager
def open_writer(target: Path, identity: dict[str, Any], *, overwrite: bool = False) -> Iterator[StoreWriter]:
    """A writer of the store at `target`; it continues a half-made one of the same identity.

    Where a run of the same identity was killed after its last step, the writer is `finished` from the start.

    Args:
        target: where the store shall be.
        identity: JSON of everything that decides the store's bytes; a half-made store of another is refused.
        overwrite: replace a finished store, drop a half-made one of another identity.

    Raises:
        StoreError: `target` exists, or a half-made store of something else is in the way.
        BusyError: another process is writing to the target.
    """
    with target_lock(target):
        writer = StoreWriter(target)
        writer.recover(identity)
        if not writer.finished:
            check_target(target, overwrite=overwrite)
            writer.begin(identity, overwrite=overwrite)
        try:
            yield writer
        finally:
            writer.close()


def check_target(target: Path, *, overwrite: bool) -> None:
    """StoreError unless a store may be written at `target`."""
    if not target.name or "\0" in str(target):
        raise StoreError(f"expected the name of a store to make, as in fmf.zarr, got {str(target)!r}")
    if not target.parent.is_dir():
        raise StoreError(f"{target}: the folder {target.parent} does not exist; make it first")
    if target.is_symlink():
        raise StoreError(f"{target}: expected the name of the store itself, got a link")
    if not target.exists():
        return
    if not is_store(target):
        raise StoreError(
            f"{target}: expected a new name or a store of fmfbench, got something else there; choose another name"
        )
    if not overwrite:
        raise StoreError(f"{target}: exists; choose another name, or replace it with --overwrite")


def is_half_made(target: Path) -> bool:
    """Whether a run that was to make `target` left its work."""
    return bool(target.name) and (_part(target) / _JOURNAL).exists()


class StoreWriter:
    """Commits files of one half-made store and finishes it. Files are named relative to the store.

    Attributes:
        target: where the store shall be.
        root: the half-made store.
        finished: the store is at its target.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = _part(target)
        self.root = self.part / "store"
        self.finished = False
        self._replaced = self.part / "replaced"
        self._identity: dict[str, Any] = {}
        self._sha256: dict[str, str] = {}
        self._flusher: Executor | None = None
        self._flushes: dict[str, Future[None]] = {}

    def recover(self, identity: dict[str, Any]) -> None:
        """Take up what a run left that was killed while it gave the store its name."""
        journal = self._journal()
        if journal is None:
            return
        if self._replaced.exists() and not self.target.exists():
            os.replace(self._replaced, self.target)
        digest = journal.get("digest")
        if digest is not None and _digest_in(self.target) == digest:
            self.finished = bool(journal.get("identity") == identity)
            self.discard()

    def begin(self, identity: dict[str, Any], *, overwrite: bool) -> None:
        """Make the half-made store, or take up the one that is there."""
        self._identity = identity
        journal = self._journal()
        if journal is None and not self._is_ours():
            raise StoreError(
                f"{self.part}: is in the way and was not made by fmfbench; move it, or choose another target"
            )
        if journal is not None and journal.get("identity") == identity and self._take_up(journal):
            return
        if journal is not None and journal.get("identity") != identity and not overwrite:
            raise StoreError(
                f"{self.part}: holds a half-made conversion of another source or with other options; "
                "run that command again to finish it, or start over with --overwrite"
            )
        self.discard()
        self.root.mkdir(parents=True)
        self._write_journal()

    def discard(self) -> None:
        """Remove the half-made store."""
        self.close()
        if not self.part.is_dir():
            return
        for path in self.part.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _JOURNAL:
                path.unlink(missing_ok=True)
        if {path.name for path in self.part.iterdir()} == {_JOURNAL}:
            (self.part / _JOURNAL).unlink()
        with contextlib.suppress(OSError):
            self.part.rmdir()

    def close(self) -> None:
        """End what goes on in the background; nothing that is committed is lost."""
        if self._flusher is not None:
            self._flusher.shutdown(cancel_futures=True)
            self._flusher = None

    def has_shard(self, name: str, spec: ArraySpec, index: int) -> bool:
        """Whether the shard was committed and is whole."""
        key = f"{name}/{spec.shard_key(index)}"
        try:
            data = (self.root / key).read_bytes()
        except FileNotFoundError:
            return False
        first, last = spec.shard_range(index)
        if not is_whole_shard(spec, data, last - first):
            return False
        self._committed(key, hashlib.sha256(data).hexdigest())
        return True

    def commit_shard(self, name: str, spec: ArraySpec, index: int, data: bytes | Iterable[bytes]) -> None:
        """Write a shard, whole or in pieces."""
        key = f"{name}/{spec.shard_key(index)}"
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        total = hashlib.sha256()
        replace_file(path, data, total.update)
        self._committed(key, total.hexdigest())

    def write_note(self, name: str, index: int, data: bytes) -> None:
        """Keep what a resumed run needs to know of a shard; to be called before the shard is committed."""
        path = self._note_path(name, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)

    def read_note(self, name: str, index: int) -> bytes | None:
        """The note of a shard, if there is one."""
        try:
            return self._note_path(name, index).read_bytes()
        except FileNotFoundError:
            return None

    def _note_path(self, name: str, index: int) -> Path:
        return self.part / "notes" / name / f"{index}.json"

    def adopt(self, key: str, source: Place, sha256: str) -> None:
        """Take a file of a finished store as it is.

        Linked where the file system can, copied where not or from elsewhere.

        Args:
            key: the file, relative to either store.
            source: where it lies now.
            sha256: the sum that its store lists, so that damage to it stays visible.
        """
        path = self.root / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, RemotePath):
                replace_file(path, source.pieces())
            else:
                _link_or_copy(source, path)
        self._sha256[key] = sha256

    def write_group(self, name: str, attributes: dict[str, Any]) -> None:
        self._write_document(f"{name}/{ROOT}", group_document(attributes))

    def write_array(self, name: str, spec: ArraySpec) -> None:
        """The array's metadata; its shards are committed on their own."""
        self._write_document(f"{name}/{ROOT}", spec.to_document())

    def finish(self, attributes: dict[str, Any]) -> None:
        """Write the root group, make everything durable, and give the store its name."""
        root = seal(self.root, attributes, self._sha256)
        # Before the root is there: a root whose digest is not the journal's is another store's.
        self._write_journal(json.loads(root)["attributes"][DIGEST_KEY])
        replace_file(self.root / ROOT, root)
        self._make_durable()
        self._take_place()
        _sync_folder(self.target.parent)
        self.finished = True
        self.discard()

    def _take_place(self) -> None:
        if self.target.exists() and not exchange(self.root, self.target):
            # Killed between the two, the next run moves the old store back (`recover`).
            os.replace(self.target, self._replaced)
            os.replace(self.root, self.target)
        elif self.root.exists() and not self.target.exists():
            os.replace(self.root, self.target)

    def _make_durable(self) -> None:
        for flush in self._flushes.values():
            flush.result()
        for name in file_names(self.root):
            if name not in self._flushes:
                _sync_file(self.root / name)
        for folder, _, _ in os.walk(self.root):
            _sync_folder(Path(folder))

    def _committed(self, key: str, sha256: str) -> None:
        self._sha256[key] = sha256
        if self._flusher is None:
            self._flusher = ThreadPoolExecutor(1, "fmfbench-flush")
        # At once and beside the work: the disk is then not waited for in the end.
        self._flushes[key] = self._flusher.submit(_sync_file, self.root / key)

    def _write_document(self, key: str, document: dict[str, Any]) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        data = document_bytes(document)
        replace_file(path, data)
        self._sha256[key] = hashlib.sha256(data).hexdigest()

    def _write_journal(self, digest: str | None = None) -> None:
        path = self.part / _JOURNAL
        replace_file(path, json.dumps({"identity": self._identity, "digest": digest}).encode())
        _sync_file(path)

    def _journal(self) -> dict[str, Any] | None:
        try:
            journal = json.loads((self.part / _JOURNAL).read_bytes())
        except (OSError, ValueError):
            return None
        return journal if isinstance(journal, dict) else None

    def _is_ours(self) -> bool:
        """Whether nothing is lost when what is there is removed."""
        if not os.path.lexists(self.part) or (self.part / _JOURNAL).exists():
            return True
        if not self.part.is_dir() or self.part.is_symlink():
            return False
        left = [path.name for path in without_leavings(self.part.iterdir())]
        there = {name for name in left if not is_half_written(name)}
        return there <= {self.root.name, _JOURNAL + _SUFFIX} and not without_leavings(self.root.glob("*"))

    def _take_up(self, journal: dict[str, Any]) -> bool:
        """Clean the half-made store of what was not committed; False where it is not the journal's."""
        if not self.root.is_dir():
            return False
        if (self.root / ROOT).exists():
            if _digest_in(self.root) != journal.get("digest"):
                return False
            (self.root / ROOT).unlink()
        for path in self.part.rglob(f"*{_SUFFIX}"):
            path.unlink()
        return True


def _link_or_copy(source: Path, path: Path) -> None:
    with replacing(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_document(path: Path, document: dict[str, Any]) -> None:
    """A `zarr.json`, whole or not at all."""
    replace_file(path, document_bytes(document))


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _digest_in(store: Path) -> str | None:
    try:
        digest: str | None = json.loads((store / ROOT).read_bytes())["attributes"][DIGEST_KEY]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return digest


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)  # Windows flushes only what is open for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Make names durable, where the system knows of that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
