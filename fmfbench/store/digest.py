"""What a finished store says of its own files, so that any change to any of them is found and named.

The root's attributes hold the sha256 of every other file (`fmfbench.files`) and one over all of them and
the root itself (`fmfbench.digest`). A changed file no longer has the sum in the list; a changed root no longer
gives the digest together with the sums in its own list.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from fmfbench.files.leavings import is_leaving
from fmfbench.files.remote import Place, RemotePath
from fmfbench.store.schema import DIGEST_KEY, FILES_KEY, ROOT, document_bytes, group_document

__all__ = ["as_we_wrote", "digest_of", "document_sha256", "file_names", "file_sha256", "seal", "store_digest"]

_PIECE = 1 << 20


def store_digest(path: Path) -> str:
    """sha256 over the sorted (path, sha256) pairs of every file of the store at `path`.

    The root `zarr.json` is taken with the digest's own value blanked.
    """
    return digest_of(_sums(path, {}), (path / ROOT).read_bytes())


def digest_of(sums: Mapping[str, str], root: bytes) -> str:
    """The digest of a store, from the sha256 of its other files and its root `zarr.json`."""
    pairs = {**sums, ROOT: hashlib.sha256(_blank_digest(as_we_wrote(root))).hexdigest()}
    total = hashlib.sha256()
    for name in sorted(pairs):
        total.update(f"{name}\0{pairs[name]}\n".encode())
    return total.hexdigest()


def seal(path: Path, attributes: Mapping[str, Any], known: Mapping[str, str] | None = None) -> bytes:
    """The root `zarr.json` of the store at `path`: `attributes`, the sums of its files, and the digest.

    Args:
        path: the store, all other files in their places.
        attributes: of the root group; sums and digest in them are renewed.
        known: sha256 of files that need not be read again, by path relative to the store.
    """
    sums = _sums(path, known or {})
    sealed = {key: value for key, value in attributes.items() if key not in (FILES_KEY, DIGEST_KEY)}
    sealed |= {FILES_KEY: dict(sorted(sums.items())), DIGEST_KEY: ""}
    digest = digest_of(sums, document_bytes(group_document(sealed)))
    return document_bytes(group_document({**sealed, DIGEST_KEY: digest}))


def file_sha256(path: Place, stop: Event | None = None) -> str:
    """sha256 of a file, in constant memory; "" when `stop` is set meanwhile."""
    total = hashlib.sha256()
    for piece in path.pieces() if isinstance(path, RemotePath) else _pieces(path):
        if stop is not None and stop.is_set():
            return ""
        total.update(piece)
    return total.hexdigest()


def file_names(path: Place) -> list[str]:
    """Every file below `path`, links too, by its path relative to it, sorted; without what systems leave behind."""
    if isinstance(path, RemotePath):
        return sorted(name for name in path.sizes() if not any(map(is_leaving, name.split("/"))))
    found = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not is_leaving(name)]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        kept = [name for name in files if not is_leaving(name)]
        found += [Path(folder, name).relative_to(path).as_posix() for name in (*kept, *links)]
    return sorted(found)


def as_we_wrote(raw: bytes) -> bytes:
    """A group's `zarr.json` without the consolidated metadata that another program put into it.

    `zarr.consolidate_metadata` copies the metadata of everything below into a group's document. That copy is no part of
    a store here: sums are taken without it, nothing reads it, and what writes the document anew leaves it out.
    """
    if b'"consolidated_metadata"' not in raw:
        return raw
    try:
        document = json.loads(raw)
        others = {key: value for key, value in document.items() if key != "consolidated_metadata"}
        plain = group_document(others["attributes"])
        return document_bytes(plain) if others == plain else raw
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return raw


def document_sha256(path: Place) -> str:
    """sha256 of a `zarr.json`, as it was written here."""
    return hashlib.sha256(as_we_wrote(path.read_bytes())).hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as handle:
        while piece := handle.read(_PIECE):
            yield piece


def _sums(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    return {name: known.get(name) or _sum(path, name) for name in file_names(path) if name != ROOT}


def _sum(path: Path, name: str) -> str:
    return document_sha256(path / name) if name.endswith("/" + ROOT) else file_sha256(path / name)


def _blank_digest(root: bytes) -> bytes:
    try:
        value = json.loads(root)["attributes"][DIGEST_KEY]
    except (ValueError, KeyError, TypeError, RecursionError):
        return root
    # Blanked in the text, not in the parsed document, so that an edit of a space is seen too.
    return root.replace(str(value).encode(), b"") if value else root
