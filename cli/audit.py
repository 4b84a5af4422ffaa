"""`fmfbench audit`: whether the test split stays unseen."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("audit")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--protocol", default="paper", show_default=True, help="The window protocol to audit.")
@click.option("--no-frames", is_flag=True, help="Do not read the video; look for no near-duplicate frames.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(*, store: Path, protocol: str, no_frames: bool, as_json: bool) -> None:
    """Count the windows of STORE that reach from one split into the other, and near-duplicates at the borders.

    The sets are worked out from times and splits alone, not from the window reader. What a window with context
    masked would hide and context strict would leave out is told beside it.

    \b
    Example:
      fmfbench audit fmf.zarr --protocol paper
    """
    from fmfbench.data import open_dataset
    from fmfbench.windows.audit import audit

    result = audit(open_dataset(store), protocol, frames=not no_frames)
    click.echo(json.dumps(result.to_dict(), indent=2) if as_json else result.to_markdown())
