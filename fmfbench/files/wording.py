"""Numbers in sentences."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """'1 frame', '2 frames', '0 frames': the number and its noun, which takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
