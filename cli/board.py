"""`fmfbench board`: bundles of many models, scored again and compared all at once."""

from __future__ import annotations

from pathlib import Path

import click

from .options import (
    LOCAL,
    STORE,
    json_option,
    out_option,
    print_result,
    resamples_option,
    seed_option,
    studio_option,
)


@click.command("board", short_help="Bundles of many models: scored again, compared all at once.")
@click.argument("bundles", type=LOCAL, nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--data", type=STORE, required=True, help="The store, or a labels.npz, to score against.")
@out_option("The folder to write; an earlier board there is replaced.")
@click.option("--no-reports", is_flag=True, help="Leave out the page of each score.")
@resamples_option()
@seed_option("Of the comparison.")
@studio_option()
@json_option()
def command(
    *,
    bundles: tuple[Path, ...],
    data: Path,
    out: Path,
    no_reports: bool,
    resamples: int,
    seed: int,
    studio: str | None,
    as_json: bool,
) -> None:
    """Score every BUNDLE again and write a board: index.html, board.json, board.md, board.csv and a page for each.

    A bundle (`fmfbench score --bundle`) that does not agree with its receipt, whose score does not come out again, or
    that is for other data is refused, all are named, and nothing is written. A model's name is its maker's claim.

    \b
    Example:
      fmfbench score predictions.npz --data fmf.zarr --bundle mine.fmfb
      fmfbench board *.fmfb --data fmf.zarr -o board
    """
    from fmfbench.board.board import make_board

    board = make_board(
        bundles,
        data,
        out,
        reports=not no_reports,
        resamples=resamples,
        seed=seed,
        progress=not as_json,
        studio=studio,
    )
    print_result(board.to_dict(), f"{board.to_markdown()}\n{out / 'index.html'}", as_json)
