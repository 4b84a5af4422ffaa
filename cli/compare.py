"""`fmfbench compare`: two prediction files, paired."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fmfbench.errors import InputError

_PATH = click.Path(path_type=Path)


@click.command("compare")
@click.argument("first", type=_PATH)
@click.argument("second", type=_PATH)
@click.option("--data", type=_PATH, help="The store to score against.")
@click.option("--labels", type=_PATH, help="A labels.npz to score against, instead of a store.")
@click.option(
    "--split",
    default="test",
    show_default=True,
    help="train, test, unused, all, val, fit, loro-val:NAME or loro-fit:NAME.",
)
@click.option("--context", type=click.Choice(["full", "masked", "strict"]), help="As for score.")
@click.option("--protocol", default=None, help="The window protocol of a strict sample set [default: paper].")
@click.option("--resamples", default=2000, show_default=True, help="Bootstrap resamples.")
@click.option(
    "--block-seconds", type=float, help="Length of the bootstrap's blocks [default: from the errors]."
)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--per-second", is_flag=True, help="The files hold the last sample of each second.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    *,
    first: Path,
    second: Path,
    data: Path | None,
    labels: Path | None,
    split: str,
    context: str | None,
    protocol: str | None,
    resamples: int,
    block_seconds: float | None,
    seed: int,
    per_second: bool,
    as_json: bool,
) -> None:
    """Compare two prediction files on the same samples: each metric's difference with a 95 % interval.

    Says when the two cannot be told apart.

    \b
    Example:
      fmfbench compare fmformer.npz r3d.npz --data fmf.zarr
    """
    from fmfbench.scoring.compare import compare

    if (data is None) == (labels is None):
        raise InputError("compare: expected exactly one of --data STORE and --labels FILE")
    result = compare(
        first,
        second,
        data or labels or "",
        split,
        context=context,
        protocol=protocol,
        resamples=resamples,
        block_seconds=block_seconds,
        seed=seed,
        per_second=per_second,
    )
    click.echo(json.dumps(result.to_dict(), indent=2) if as_json else result.to_markdown())
