"""A store behind a URL: made on this machine, then copied there, every file first and the root `zarr.json` last.

The root is the commit. It is only ever created, never changed: a reader behind the URL sees no store until every other
file is there, and two writers cannot both commit. A lease beside the store (`NAME.lease`) keeps other writers away, and
says which store is being written: after a kill the files listed are of that store, and need not be sent again.

With `overwrite` the root of the old store goes first and its files next: from then until the new root is there, readers
see no store. Names of files are the same in both, so the two cannot lie there at once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fmfbench.errors import StoreError
from fmfbench.files.remote import RemotePath
from fmfbench.store.digest import file_names
from fmfbench.store.lease import Lease, leased
from fmfbench.store.schema import DIGEST_KEY, ROOT, parse_group
from fmfbench.store.writer import is_store

__all__ = ["make_behind", "upload"]

_AT_ONCE = 8


def make_behind(
    target: RemotePath, facts: dict[str, Any], make: Callable[[Path], object], *, overwrite: bool = False
) -> RemotePath:
    """Make a store on this machine and copy it to a URL.

    It is made in the system's folder for temporary files (TMPDIR chooses another), needs the space of the whole store
    there, and stays when the work fails, so that the same call resumes it.

    Args:
        target: where the store shall be.
        facts: JSON of everything that decides the store's content; one that an earlier try made of the same is used.
        make: makes the store at a path, or resumes that.
        overwrite: replace a store that is there.

    Raises:
        StoreError: a store is there, or something that is none.
        BusyError: another process writes there.
        FailedError: the server cannot be reached.
    """
    sign = hashlib.sha256(target.url.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"fmfbench-upload-{sign}"
    folder.mkdir(mode=0o700, exist_ok=True)
    store, made_of = folder / target.name, folder / "made_of.json"
    known = json.dumps(facts, sort_keys=True).encode()
    if not (store.exists() and is_store(store) and made_of.exists() and made_of.read_bytes() == known):
        _check_free(target, overwrite=overwrite)
        make(store)
        made_of.write_bytes(known)
    with tqdm(total=len(file_names(store)), unit="file", desc="upload", disable=None) as bar:
        upload(store, target, bar.update, overwrite=overwrite)
    shutil.rmtree(folder, ignore_errors=True)
    return target


def upload(
    store: Path,
    target: RemotePath,
    advance: Callable[[int], Any] = lambda files: None,
    *,
    overwrite: bool = False,
) -> None:
    """Copy a finished store to a URL. Killed at any point, the same call resumes.

    Raises:
        StoreError: a store is there already, or something that is none.
        BusyError: another process writes there.
        FailedError: the server cannot be reached.
    """
    root = (store / ROOT).read_bytes()
    if not _is_there(target, root):
        _check_free(target, overwrite=overwrite)
    digest = parse_group(store)[DIGEST_KEY]
    names = [name for name in file_names(store) if name != ROOT]
    with leased(RemotePath(f"{target.url}.lease")) as lease:
        if _is_there(target, root):  # killed after the commit
            advance(len(names) + 1)
            return
        _check_free(target, overwrite=overwrite)
        there = _cleared(target, lease, digest, names, overwrite=overwrite)
        done = [name for name in names if there.get(name) == (store / name).stat().st_size]
        advance(len(done))
        send = sorted(set(names) - set(done))
        _all(send, lambda name: (target / name).write_bytes((store / name).read_bytes()), lease, advance)
        lease.renew(now=True)  # nobody else has begun meanwhile
        try:
            (target / ROOT).create_bytes(root)
        except FileExistsError:
            if not _is_there(target, root):
                raise StoreError(
                    f"{target}: another process has written a store there meanwhile; use that one"
                ) from None
        advance(1)


def _is_there(target: RemotePath, root: bytes) -> bool:
    """Whether the store of this root is there."""
    try:
        return (target / ROOT).read_bytes() == root
    except FileNotFoundError:
        return False


def _check_free(target: RemotePath, *, overwrite: bool) -> None:
    """StoreError where a store is at `target` that shall stay, or the URL cannot be written to."""
    if target.url.startswith(("http://", "https://")):
        raise StoreError(f"{target}: plain HTTP takes no stores; write to a bucket, or upload a local one")
    if (target / ROOT).exists() and not overwrite:
        raise StoreError(f"{target}: exists; choose another name, or replace it with --overwrite")


def _cleared(
    target: RemotePath, lease: Lease, digest: str, names: Iterable[str], *, overwrite: bool
) -> dict[str, int]:
    """Bytes of what is there of this very store, by name; all else is gone."""
    there = target.sizes()
    if there and ROOT not in there and lease.notes.get("writes") == digest:
        return there
    strange = sorted(set(there) - set(names) - {ROOT})
    # What another try left that never became a store may go; what nobody says he wrote may not.
    if strange and not overwrite and not lease.notes:
        raise StoreError(
            f"{target}: expected nothing there but what an earlier try left, got {strange[0]}; choose another name"
        )
    if overwrite and ROOT in there and b'"fmfbench.' not in (target / ROOT).read_bytes():
        raise StoreError(
            f"{target}: expected a new name or a store of fmfbench, got something else there; choose another name"
        )
    if there:
        lease.write(clears=digest)
        if ROOT in there:
            (target / ROOT).unlink()
        _all([name for name in there if name != ROOT], lambda name: (target / name).unlink(), lease)
    lease.write(writes=digest)
    return {}


def _all(
    names: Iterable[str],
    work: Callable[[str], object],
    lease: Lease,
    advance: Callable[[int], Any] = lambda files: None,
) -> None:
    with ThreadPoolExecutor(_AT_ONCE, "fmfbench-upload") as pool:
        try:
            for _ in pool.map(work, names):
                advance(1)
                lease.renew()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
