"""`fmfbench outliers`: outliers of three kinds among a split's samples, and how well they are found."""

from __future__ import annotations

from pathlib import Path

import click

from .groups import SuggestingGroup
from .options import (
    LOCAL,
    block_seconds_option,
    context_option,
    json_option,
    out_option,
    print_result,
    protocol_option,
    resamples_option,
    seed_option,
    split_option,
    store_argument,
)


@click.group(
    "outliers", short_help="Outliers of three kinds, and which of them a model finds.", cls=SuggestingGroup
)
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
@store_argument()
@out_option("The outlier file to write.")
@split_option()
@click.option("--ratio", default="4:1", show_default=True, help="Normal to outlying samples.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="attribute, cross-modal or mixed; may be repeated.  [default: all three]",
)
@protocol_option()
@context_option("What windows may see of other splits.")
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
@seed_option("Of all draws.")
@json_option()
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
    from fmfbench.files.problems import check_ending, check_target
    from fmfbench.windows.injection import make_outliers

    check_target(out)
    check_ending(out, (".npz",), "outliers")
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
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    text = f"{path}: {listed}; next: fmfbench predict RUN --data {store} --outliers {path} -o FILE"
    print_result({"file": str(path), "counts": counts, "meta": dict(outliers.meta)}, text, as_json)


@command.command("score")
@click.argument("predictions", type=LOCAL)
@click.argument("outliers", type=LOCAL)
@resamples_option()
@block_seconds_option()
@seed_option("Of the bootstrap.")
@json_option()
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
    print_result(found.to_dict(), found.to_markdown(), as_json)
