"""`fmfbench info`."""

from __future__ import annotations

from pathlib import Path

import click

from .options import json_option, print_result, store_argument


@click.command("info", short_help="Say what is in a store.")
@store_argument()
@json_option()
def command(store: Path, as_json: bool) -> None:
    """Say what is in STORE: recordings, frames, splits, class balance, rates, gaps and size.

    \b
    Example:
      fmfbench info fmf.zarr
    """
    from fmfbench.conversion.summary import describe, format_description
    from fmfbench.data import open_dataset

    description = describe(open_dataset(store))
    print_result(description, format_description(description), as_json)
