"""What splits are called: a stored split (`source`, `derived`, ...), and a part of one (`test`, `derived:val`)."""

from __future__ import annotations

from fmfbench.errors import StoreError
from fmfbench.store.schema import SPLITS

__all__ = [
    "DEFAULT_SPLIT_KEY",
    "FINGERPRINTS_KEY",
    "PROVENANCE",
    "SOURCE",
    "check_split_name",
    "parse_split",
]

SOURCE = "source"
DEFAULT_SPLIT_KEY = "fmfbench.default_split"
FINGERPRINTS_KEY = "fmfbench.fingerprints"
PROVENANCE = "fmfbench.provenance"
# what follows their colon is no part, but a recording's name or a fold's number; the last two are for training
_WITH_ARGUMENT = ("loro-val", "loro-fit", "kfold-val", "kfold-fit")
_PARTS = (*SPLITS, "all", "val", "fit", *_WITH_ARGUMENT, "loro", "kfold")


def parse_split(text: str) -> tuple[str | None, str]:
    """Name of the stored split, None for the default one, and the part.

    >>> parse_split("test"), parse_split("derived:test"), parse_split("loro-val:run7")
    ((None, 'test'), ('derived', 'test'), (None, 'loro-val:run7'))
    """
    name, colon, part = text.partition(":")
    return (name, part) if colon and name not in _WITH_ARGUMENT else (None, text)


def check_split_name(name: str) -> str:
    """A name that a new split may have; StoreError otherwise."""
    plain = all(c.isalnum() or c in "-_" for c in name) and name.isascii()
    if not (0 < len(name) <= 64 and name[0].isalnum() and plain):
        raise StoreError(f"expected a split's name of letters, digits, - and _, got {name[:80]!r}")
    if name == SOURCE or name in _PARTS:
        meaning = "is the split that came with the source" if name == SOURCE else "names a part of a split"
        raise StoreError(f"expected another name for the split, got {name!r}, which {meaning}")
    return name
