"""`fmfbench labels`: what a store is scored against, as one file."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group("labels")
def command() -> None:
    """Export the labels of a store, so that predictions can be scored without it.

    \b
    Example:
      fmfbench labels export fmf.zarr -o labels.npz
    """


@command.command("export")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("labels.npz"), show_default=True
)
@click.option(
    "--split",
    default="all",
    show_default=True,
    help="train, test, unused, all, val, fit, loro-val:NAME or loro-fit:NAME.",
)
@click.option("--ids-only", is_flag=True, help="Write the samples without their labels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def export(*, store: Path, output: Path, split: str, ids_only: bool, as_json: bool) -> None:
    """Write the ids, times, splits and labels of STORE to one .npz file.

    \b
    Example:
      fmfbench labels export fmf.zarr -o labels.npz
      fmfbench labels export fmf.zarr -o ids.npz --split test --ids-only
    """
    from fmfbench.data import open_dataset
    from fmfbench.exchange.labels import labels_from_dataset, write_labels

    labels = labels_from_dataset(open_dataset(store), split, masks=not ids_only)
    path = write_labels(output, labels, ids_only=ids_only)
    facts = {
        "file": str(path),
        "split": split,
        "num_samples": len(labels),
        "labels": not ids_only,
        "masks": labels.mask_bits is not None and not ids_only,
        "fingerprint": labels.fingerprint,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        kind = "ids" if ids_only else "labels with masks" if facts["masks"] else "labels without masks"
        click.echo(f"{path}: {kind} of {len(labels)} samples of split {split}")
