"""`fmfbench outliers`: outliers of three kinds among a split's samples, and how well they are found."""

from __future__ import annotations

import json
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.group("outliers")
def command() -> None:
    """Put outliers of three kinds among a split's normal samples, and score who finds them.

    attribute: clip and current are both abnormal. cross-modal: each is normal, but they do not belong together.
    mixed: one of them is abnormal. Any model predicts on them: fmfbench predict RUN --outliers FILE.

    \b
    Example:
      fmfbench outliers make fmf.zarr -o outliers.npz --ratio 4:1
      fmfbench predict runs/tn_bcl --data fmf.zarr --outliers outliers.npz -o predictions.npz
      fmfbench outliers score predictions.npz outliers.npz
    """


@command.command("make")
@click.argument("store", type=_PATH)
@click.option("-o", "--out", type=_PATH, required=True, help="The outlier file to write.")
@click.option("--split", default="test", show_default=True, help="train, test, unused, all, val or fit.")
@click.option("--ratio", default="4:1", show_default=True, help="Normal to outlying samples.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="attribute, cross-modal or mixed; may be repeated.  [default: all three]",
)
@click.option("--protocol", default="paper", show_default=True, help="Window protocol.")
@click.option("--context", type=click.Choice(["full", "masked", "strict"]), default="full", show_default=True)
@click.option("--every", type=int, default=1, show_default=True, help="Look at every k-th sample.")
@click.option(
    "--abnormal",
    default="labels",
    show_default=True,
    metavar="labels|shuffled",
    help="Abnormal content: of samples labelled so, or pixels and time steps that change places.",
)
@click.option(
    "--apart",
    type=float,
    help="Seconds between a cross-modal clip and its current.  [default: a window's span]",
)
@click.option("--seed", default=0, show_default=True, help="Of all draws.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def make(
    *,
    store: Path,
    out: Path,
    split: str,
    ratio: str,
    kinds: tuple[str, ...],
    protocol: str,
    context: str,
    every: int,
    abnormal: str,
    apart: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Draw outliers among the normal samples of STORE and write which samples show what: no frames.

    \b
    Example:
      fmfbench outliers make fmf.zarr -o outliers.npz --ratio 4:1
      fmfbench outliers make raw.zarr -o outliers.npz --split all --abnormal shuffled
    """
    from fmfbench.data import open_dataset
    from fmfbench.exchange.outliers import KINDS, write_outliers
    from fmfbench.windows.injection import make_outliers

    outliers = make_outliers(
        open_dataset(store),
        split,
        ratio=ratio,
        kinds=kinds or KINDS,
        protocol=protocol,
        context=context,
        every=every,
        abnormal=abnormal,
        apart=apart,
        seed=seed,
    )
    path = write_outliers(out, outliers)
    counts = outliers.counts()
    if as_json:
        click.echo(json.dumps({"file": str(path), "counts": counts, "meta": dict(outliers.meta)}, indent=2))
    else:
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        click.echo(f"{path}: {listed}; next: fmfbench predict RUN --data {store} --outliers {path} -o FILE")


@command.command("score")
@click.argument("predictions", type=_PATH)
@click.argument("outliers", type=_PATH)
@click.option(
    "--resamples", default=2000, show_default=True, help="Bootstrap resamples behind the intervals."
)
@click.option(
    "--block-seconds", type=float, help="Length of the bootstrap's blocks [default: from the errors]."
)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def score(
    *,
    predictions: Path,
    outliers: Path,
    resamples: int,
    block_seconds: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Score PREDICTIONS on the samples of OUTLIERS: AUROC, FPR, TPR and accuracy of each kind.

    \b
    Example:
      fmfbench outliers score predictions.npz outliers.npz
      fmfbench outliers score predictions.npz outliers.npz --json
    """
    from fmfbench.scoring.outliers import score_outliers

    found = score_outliers(predictions, outliers, resamples=resamples, block_seconds=block_seconds, seed=seed)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.to_markdown())
