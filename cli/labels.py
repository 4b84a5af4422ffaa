"""`fmfbench labels`: what a store is scored against, as one file."""

from __future__ import annotations

from pathlib import Path

import click

from .groups import SuggestingGroup
from .options import json_option, out_option, print_result, split_option, store_argument


@click.group("labels", short_help="Labels on their own, to score without the store.", cls=SuggestingGroup)
def command() -> None:
    """Export the labels of a store, so that predictions can be scored without it.

    \b
    Example:
      fmfbench labels export fmf.zarr -o labels.npz
    """


@command.command("export")
@store_argument()
@out_option("The file to write.", default=Path("labels.npz"), earlier=("--output",))
@split_option("all")
@click.option("--ids-only", is_flag=True, help="Write the samples without their labels.")
@json_option()
def export(*, store: Path, out: Path, split: str, ids_only: bool, as_json: bool) -> None:
    """Write the ids, times, splits and labels of STORE to one .npz file.

    \b
    Example:
      fmfbench labels export fmf.zarr -o labels.npz
      fmfbench labels export fmf.zarr -o ids.npz --split test --ids-only
    """
    from fmfbench.data import open_dataset
    from fmfbench.exchange.labels import labels_from_dataset, write_labels
    from fmfbench.files.problems import check_ending, check_target

    check_target(out)
    check_ending(out, (".npz",), "labels")
    labels = labels_from_dataset(open_dataset(store), split, masks=not ids_only)
    path = write_labels(out, labels, ids_only=ids_only)
    facts = {
        "file": str(path),
        "split": split,
        "num_samples": len(labels),
        "labels": not ids_only,
        "masks": labels.mask_bits is not None and not ids_only,
        "fingerprint": labels.fingerprint,
    }
    kind = "ids" if ids_only else "labels with masks" if facts["masks"] else "labels without masks"
    print_result(facts, f"{path}: {kind} of {len(labels)} samples of split {split}", as_json)
