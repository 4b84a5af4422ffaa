"""Paths of this machine, told from URLs."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from fmfbench.errors import InputError
from fmfbench.files.remote import RemotePath

__all__ = ["is_url", "local_path"]

# `Path` makes s3://bucket of s3:/bucket. One letter is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")


def is_url(path: object) -> bool:
    """Whether `path` is a URL, also one that has been through `Path`.

    Example:
        >>> is_url("s3://bucket/fmf.zarr"), is_url("runs/a:b"), is_url("C:/fmf.zarr")
        (True, False, False)
    """
    return _URL.match(str(path)) is not None


def local_path(path: str | PathLike[str] | RemotePath) -> Path:
    """A path of this machine.

    Raises:
        InputError: it is a URL; a folder called `s3:` would be made in its place.

    Example:
        >>> local_path("runs/fmformer").name
        'fmformer'
    """
    if isinstance(path, RemotePath) or is_url(path):
        text = str(path) if "://" in str(path) else re.sub(r":[/\\]", "://", str(path), count=1)
        raise InputError(f"{text}: expected a path on this machine, got a URL; work on a local copy")
    return Path(path)
