"""Folders that belong to one call: new, empty, or marked by an earlier one, which the same call resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fmfbench.errors import InputError
from fmfbench.files.atomic import is_half_written
from fmfbench.files.leavings import without_leavings

__all__ = ["is_free", "make_folder", "read_mark", "sweep"]


def is_free(folder: Path) -> bool:
    """Whether the folder is new, or holds nothing but what systems and killed processes leave."""
    if not folder.is_dir():
        return not (folder.exists() or folder.is_symlink())
    return all(is_half_written(entry.name) for entry in without_leavings(folder.iterdir()))


def read_mark(folder: Path, name: str, resumable: str) -> dict[str, Any] | None:
    """What an earlier call noted in `folder` under `name` (a JSON object); None where the folder is free.

    Args:
        resumable: what else the folder may be, for the message: "a run to resume".

    Raises:
        InputError: it is a file, holds other files, or its mark cannot be read.
    """
    mark = folder / name
    if mark.is_file():
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError:  # also what is not UTF-8
            found = None
        if not isinstance(found, dict):
            raise InputError(
                f"{mark}: expected the JSON object that marks a folder of ours, got something else; choose another "
                "folder or delete it"
            )
        return found
    if not is_free(folder):
        got = "other files" if folder.is_dir() else "a file"
        raise InputError(f"{folder}: expected a new or empty folder, or {resumable}, got {got}")
    return None


def sweep(folder: Path) -> None:
    """Remove the files that killed processes have left half-written; only where no other process is writing."""
    for path in folder.iterdir():
        if is_half_written(path.name) and path.is_file():
            path.unlink()


def make_folder(path: Path, what: str) -> None:
    """The folder and those above it, where they are not there yet; InputError: one of them is a file.

    what: it is for, for the message: "the results".
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        found = next(above for above in (path, *path.parents) if above.exists() or above.is_symlink())
        raise InputError(
            f"{path}: expected a folder for {what}, got {found}, which is there and is no folder; choose another"
        ) from error
