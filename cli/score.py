"""`fmfbench score`: a prediction file against labels."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fmfbench.errors import InputError

_PATH = click.Path(path_type=Path)


@click.command("score")
@click.argument("file", type=_PATH)
@click.option("--data", type=_PATH, help="The store to score against.")
@click.option("--labels", type=_PATH, help="A labels.npz to score against, instead of a store.")
@click.option("--split", default="test", show_default=True, help="train, test, unused or all.")
@click.option(
    "--context",
    type=click.Choice(["full", "masked", "strict"]),
    help="strict asks only for the samples whose windows stay inside the split.",
)
@click.option("--protocol", default=None, help="The window protocol of a strict sample set [default: paper].")
@click.option(
    "--compat",
    type=click.Choice(["official"]),
    help="Add the smoothing constants of the authors' released code, to match published numbers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    *,
    file: Path,
    data: Path | None,
    labels: Path | None,
    split: str,
    context: str | None,
    protocol: str | None,
    compat: str | None,
    as_json: bool,
) -> None:
    """Score a prediction file: accuracy, F1, FDR, MDR and mIoU over exactly the samples of a split.

    FDR is FP/(FP+TN), elsewhere called the false positive rate; MDR is FN/(FN+TP), the miss rate.

    \b
    Example:
      fmfbench score predictions.npz --data fmf.zarr
      fmfbench score predictions.npz --labels labels.npz --json
    """
    from fmfbench.scoring.score import score

    if (data is None) == (labels is None):
        raise InputError("score: wanted exactly one of --data STORE and --labels FILE")
    result = score(file, data or labels or "", split, context=context, protocol=protocol, compat=compat)
    click.echo(json.dumps(result.to_dict(), indent=2) if as_json else result.to_markdown())
