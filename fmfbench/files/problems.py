"""Every problem of one file, collected so that they are reported together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import PredictionError
from fmfbench.files.local import local_path

__all__ = ["Problems", "check_ending", "check_target", "first_five"]


class Problems:
    """Collects one-line statements about a file and raises them as one error."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[str] = []

    def add(self, statement: str) -> None:
        self.found.append(statement)

    def add_ids(self, what: str, ids: NDArray[Any], advice: str) -> None:
        """State a problem of some samples: how many, the first five ids, and what to do."""
        if len(ids):
            self.add(f"{len(ids)} {what}: {first_five(ids)}; {advice}")

    def raise_any(self) -> None:
        """Raise one PredictionError with all of them, if there are any."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise PredictionError(f"{self.file}: nothing scored: {self.found[0]}")
        listed = "; ".join(f"({number}) {text}" for number, text in enumerate(self.found, 1))
        raise PredictionError(f"{self.file}: nothing scored, {len(self.found)} problems: {listed}")


def check_target(path: Path) -> None:
    """Refuse a path that no file can be written to.

    Raises:
        InputError: it is a URL.
        PredictionError: its folder does not exist, or it is a folder itself.
    """
    local_path(path)
    if not path.absolute().parent.is_dir():
        raise PredictionError(f"{path}: expected an existing folder to write into, got none at {path.parent}")
    if path.is_dir():
        raise PredictionError(f"{path}: expected the name of a file to write, got a folder")


def check_ending(path: Path, endings: tuple[str, ...], what: str) -> None:
    """Refuse a name whose ending says that the file is of another kind than what will be written.

    Raises:
        PredictionError: the ending is none of `endings`, upper or lower case.
    """
    if path.suffix.lower() not in endings:
        raise PredictionError(
            f"{path}: expected a name for {what}, ending in {' or '.join(endings)}, "
            f"got {path.suffix or 'no ending'}"
        )


def first_five(ids: NDArray[Any]) -> str:
    """'3, 5, 8, 13, 21, ...': the lowest five, each once."""
    unique = np.unique(ids)
    return ", ".join(str(value) for value in unique[:5].tolist()) + (", ..." if len(unique) > 5 else "")
