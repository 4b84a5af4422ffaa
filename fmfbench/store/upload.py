"""A finished store, copied to a URL: every file first, the root `zarr.json` last.

The root is the commit: a reader behind the URL sees no store until every other file is there, and two writers cannot
both commit, since the root is only ever created, never replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fmfbench.errors import StoreError
from fmfbench.files.remote import RemotePath
from fmfbench.store.digest import file_names
from fmfbench.store.schema import ROOT

__all__ = ["staged", "upload"]

_AT_ONCE = 8


@contextlib.contextmanager
def staged(target: RemotePath) -> Iterator[Path]:
    """A path of this machine at which to make the store that then goes to a URL.

    It lies in the system's folder for temporary files (TMPDIR chooses another), needs the space of the whole store
    there, and stays when the work fails, so that the same command resumes it.
    """
    _check_free(target)
    sign = hashlib.sha256(target.url.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"fmfbench-upload-{sign}"
    folder.mkdir(mode=0o700, exist_ok=True)
    store = folder / target.name
    yield store
    with tqdm(total=len(file_names(store)), unit="file", desc="upload", disable=None) as bar:
        upload(store, target, bar.update)
    shutil.rmtree(folder, ignore_errors=True)


def _check_free(target: RemotePath) -> None:
    """StoreError where a store is at `target`, or the URL cannot be written to."""
    if target.url.startswith(("http://", "https://")):
        raise StoreError(f"{target}: plain HTTP takes no stores; write to a bucket, or upload a local one")
    if (target / ROOT).exists():
        raise StoreError(f"{target}: exists; choose another name: behind a URL nothing is replaced")


def upload(store: Path, target: RemotePath, advance: Callable[[int], Any] = lambda files: None) -> None:
    """Copy a finished store to a URL.

    Files of an earlier try are written again with the same content, so that what a killed one left does not matter.

    Raises:
        StoreError: a store is there already, or another writer has committed meanwhile.
        FailedError: the server cannot be reached.
    """
    _check_free(target)
    names = [name for name in file_names(store) if name != ROOT]
    if strange := sorted(set(target.sizes()) - set(names)):
        raise StoreError(
            f"{target}: expected nothing there but what an earlier try left, got {strange[0]}; choose another name"
        )
    with ThreadPoolExecutor(_AT_ONCE, "fmfbench-upload") as pool:
        _all(pool, names, lambda name: (target / name).write_bytes((store / name).read_bytes()), advance)
    try:
        (target / ROOT).create_bytes((store / ROOT).read_bytes())
    except FileExistsError:
        raise StoreError(
            f"{target}: another process has written a store there meanwhile; use that one"
        ) from None
    advance(1)


def _all(
    pool: ThreadPoolExecutor,
    names: Sequence[str],
    copy: Callable[[str], object],
    advance: Callable[[int], Any],
) -> None:
    try:
        for _ in pool.map(copy, names):
            advance(1)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
