"""`fmfbench merge`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from tqdm import tqdm


@click.command("merge")
@click.argument("stores", nargs=-1, required=True, metavar="STORE...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", "target", required=True, type=click.Path(path_type=Path), help="The store to make."
)
@click.option("--overwrite", is_flag=True, help="Replace a finished store.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(stores: tuple[Path, ...], target: Path, overwrite: bool, as_json: bool) -> None:
    """Join stores of different recordings into one.

    Nothing is read again that need not be: chunks are linked, or copied where the file system cannot link. The result
    has the chunks, the fingerprint and the sources digest of one conversion of all recordings.

    \b
    Example:
      fmfbench convert pixel-level/ run1.zarr --only run1
      fmfbench convert pixel-level/ run2.zarr --only run2
      fmfbench merge run1.zarr run2.zarr -o fmf.zarr
    """
    from fmfbench.conversion.summary import describe, format_description
    from fmfbench.data import open_dataset
    from fmfbench.store.merge import merge

    with tqdm(unit="file", desc="merge", disable=None) as bar:
        path = merge(stores, target, overwrite=overwrite, advance=bar.update)
    description = describe(open_dataset(path))
    click.echo(json.dumps(description, indent=1) if as_json else format_description(description))
