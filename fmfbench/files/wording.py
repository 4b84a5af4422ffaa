"""Numbers and names in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["counted", "did_you_mean"]


def counted(number: int, noun: str) -> str:
    """'1 frame', '2 frames', '0 frames': the number and its noun, which takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What was probably meant by an unknown name, to stand behind it; empty where nothing is near.

    Example:
        >>> did_you_mean("fmforner", ["bilm", "fmformer"])
        "; did you mean 'fmformer'?"
        >>> did_you_mean("x", ["bilm", "fmformer"])
        ''
    """
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
