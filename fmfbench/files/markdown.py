"""Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["number", "table"]


def number(value: float | None) -> str:
    """Six decimals, or a dash for what is undefined."""
    return "-" if value is None else f"{value:.6f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
