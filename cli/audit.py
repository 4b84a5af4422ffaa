"""`fmfbench audit`: whether the test split stays unseen."""

from __future__ import annotations

from pathlib import Path

import click

from .options import json_option, print_result, protocol_option, split_name_option, store_argument


@click.command("audit", short_help="Which windows of one split reach into another?")
@store_argument()
@protocol_option("The window protocol to audit.")
@split_name_option()
@click.option("--no-frames", is_flag=True, help="Do not read the video; look for no near-duplicate frames.")
@json_option()
def command(*, store: Path, protocol: str, split: str | None, no_frames: bool, as_json: bool) -> None:
    """Count the windows of STORE that reach from one split into the other, and near-duplicates at the borders.

    The sets are worked out from times and splits alone, not from the window reader. What a window with context
    masked would hide and context strict would leave out is told beside it.

    \b
    Example:
      fmfbench audit fmf.zarr --protocol paper
    """
    from fmfbench.data import open_dataset
    from fmfbench.windows.audit import audit

    result = audit(open_dataset(store), protocol, frames=not no_frames, split=split)
    print_result(result.to_dict(), result.to_markdown(), as_json)
