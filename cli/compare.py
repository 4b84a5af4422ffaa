"""`fmfbench compare`: two prediction files, paired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fmfbench.errors import InputError

from .options import (
    LOCAL,
    block_seconds_option,
    context_option,
    data_option,
    json_option,
    labels_option,
    print_result,
    protocol_option,
    resamples_option,
    seed_option,
    split_option,
)


@click.command("compare", short_help="Is one prediction file better than another?")
@click.argument("first", type=LOCAL)
@click.argument("second", type=LOCAL)
@data_option("The store to score against.", required=False)
@labels_option()
@split_option()
@context_option("As for score.", default=None)
@protocol_option(
    "Window protocol of a strict sample set, and of the guard before val [default: paper].", default=None
)
@resamples_option()
@block_seconds_option()
@seed_option("Of the bootstrap.")
@click.option("--per-second", is_flag=True, help="The files hold the last sample of each second.")
@click.option(
    "--across-corruption",
    is_flag=True,
    help="Allow files predicted on differently corrupted input (predict --corrupt).",
)
@click.option(
    "--report", type=LOCAL, help="Write a page that stands alone: both scores and their differences."
)
@json_option()
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
    across_corruption: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compare two prediction files on the same samples: each metric's difference with a 95 % interval.

    Says when the two cannot be told apart.

    \b
    Example:
      fmfbench compare fmformer.npz r3d.npz --data fmf.zarr
    """
    from fmfbench.files.problems import check_ending, check_target
    from fmfbench.scoring.compare import compare

    if (data is None) == (labels is None):
        raise InputError(
            "compare: expected exactly one of --data STORE and --labels FILE, "
            f"got {'both' if data else 'neither'}"
        )
    if report is not None:
        check_target(report)
        check_ending(report, (".html", ".htm"), "a page")
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
        across_corruption=across_corruption,
    )
    if report is not None:
        from fmfbench.board.several import write_scores_page
        from fmfbench.scoring.score import opened, score

        source = opened(data or labels or Path())
        drawn: dict[str, Any] = {"resamples": resamples, "block_seconds": block_seconds, "seed": seed}
        asked: dict[str, Any] = {"context": context, "protocol": protocol, "per_second": per_second}
        scores = [score(path, source, split, **drawn, **asked) for path in (first, second)]
        write_scores_page(
            report, [first, second], scores, source, across_corruption=across_corruption, **drawn, **asked
        )
    print_result(result.to_dict(), result.to_markdown(), as_json)
