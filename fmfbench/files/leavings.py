"""Files that systems leave in folders unasked: they are nobody's data, and are ignored everywhere.

macOS writes `.DS_Store` and, where a file system lacks its attributes, `._NAME` beside each file; Windows, desktops and
network shares have theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import TypeVar

__all__ = ["is_leaving", "without_leavings"]

_NAMES = frozenset(
    name.lower()
    for name in (
        ".DS_Store", ".localized", "Icon\r", ".AppleDouble", ".AppleDB", ".AppleDesktop", ".apdisk", "__MACOSX",
        ".Spotlight-V100", ".Trashes", ".TemporaryItems", ".fseventsd", ".DocumentRevisions-V100",
        "Thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information",
        ".directory", "@eaDir", ".ipynb_checkpoints",
    )
)  # fmt: skip
_BEGINNINGS = ("._", ".trash-", ".nfs", ".fuse_hidden", ".smbdelete")

AnyPath = TypeVar("AnyPath", bound=PurePath)


def is_leaving(name: str) -> bool:
    """Whether a file or folder of this name was left by a system.

    >>> [name for name in (".DS_Store", "._run7.mat", "Thumbs.db", "run7.mat", ".hidden") if is_leaving(name)]
    ['.DS_Store', '._run7.mat', 'Thumbs.db']
    """
    lower = name.lower()
    return lower in _NAMES or lower.startswith(_BEGINNINGS)


def without_leavings(paths: Iterable[AnyPath]) -> list[AnyPath]:
    """Those that no system left, in their order."""
    return [path for path in paths if not is_leaving(path.name)]
