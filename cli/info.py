"""`fmfbench info`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("info")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(store: Path, as_json: bool) -> None:
    """Say what is in STORE: recordings, frames, splits, class balance, rates, gaps and size.

    \b
    Example:
      fmfbench info fmf.zarr
    """
    from fmfbench.conversion.summary import describe, format_description
    from fmfbench.data import open_dataset

    description = describe(open_dataset(store))
    click.echo(json.dumps(description, indent=1) if as_json else format_description(description))
