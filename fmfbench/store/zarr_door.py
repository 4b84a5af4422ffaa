"""The door to zarr: a group of a store as an object of zarr itself. Windows are read without it, and quicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmfbench.errors import MissingDependencyError
from fmfbench.files.remote import Place

__all__ = ["open_zarr"]


def open_zarr(path: Place) -> Any:
    """The group at `path` (`zarr.Group`), to be read.

    Raises:
        MissingDependencyError: zarr is not installed.
    """
    try:
        import zarr
    except ModuleNotFoundError as error:
        if error.name != "zarr":
            raise
        raise MissingDependencyError(
            "zarr() needs zarr, which is not installed: pip install 'zarr>=3.1'"
        ) from None
    if isinstance(path, Path):
        return zarr.open_group(path, mode="r")
    from zarr.storage import ObjectStore

    return zarr.open_group(ObjectStore(path.bucket, read_only=True), path=path.key, mode="r")
