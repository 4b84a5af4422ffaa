"""Writing a picture: whole or not at all, in the form that its name's ending says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fmfbench.files.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figure"]


def save_figure(figure: Figure, out: Path) -> None:
    """Write it as `out` (.png, .pdf, .svg), at 110 dots an inch."""
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=110, format=out.suffix.removeprefix(".").lower() or "png")
