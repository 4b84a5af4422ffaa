"""`fmfbench merge`."""

from __future__ import annotations

import click
from tqdm import tqdm

from fmfbench.files.remote import Place

from .options import STORE, json_option, out_option, print_result


@click.command("merge", short_help="Stores of some recordings each into one.")
@click.argument("stores", nargs=-1, required=True, metavar="STORE...", type=STORE)
@out_option("The store to make: a path or a URL.", type=STORE)
@click.option("--overwrite", is_flag=True, help="Replace a finished store.")
@json_option()
def command(stores: tuple[Place, ...], out: Place, overwrite: bool, as_json: bool) -> None:
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
        path = merge(stores, out, overwrite=overwrite, advance=bar.update)
    description = describe(open_dataset(path))
    print_result(description, format_description(description), as_json)
