"""`fmfbench score`: prediction files against labels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmfbench.errors import InputError

if TYPE_CHECKING:
    from fmfbench.scoring.score import Score

_PATH = click.Path(path_type=Path)


@click.command("score")
@click.argument("file", type=_PATH)
@click.option("--data", type=_PATH, help="The store to score against.")
@click.option("--labels", type=_PATH, help="A labels.npz to score against, instead of a store.")
@click.option(
    "--split",
    default="test",
    show_default=True,
    help="train, test, unused, all, val, fit, loro-val:NAME or loro-fit:NAME.",
)
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
@click.option(
    "--resamples", default=2000, show_default=True, help="Bootstrap resamples behind the intervals."
)
@click.option(
    "--block-seconds", type=float, help="Length of the bootstrap's blocks [default: from the errors]."
)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--aupro-limit",
    default=0.3,
    show_default=True,
    help="AUPRO looks at false positive rates from 0 to this.",
)
@click.option("--per-second", is_flag=True, help="Ask only for the last sample of each second.")
@click.option(
    "--truth",
    type=_PATH,
    help="The simulator's folder OUT/truth: also score by visibility, mist, glare and reflections.",
)
@click.option(
    "--report", type=_PATH, help="Write a page that stands alone: tables, curves, timelines, errors."
)
@click.option("--markdown", type=_PATH, help="Write the tables as Markdown.")
@click.option("--csv", "csv_file", type=_PATH, help="Write one row for each file and metric.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(
    *,
    file: Path,
    data: Path | None,
    labels: Path | None,
    split: str,
    report: Path | None,
    markdown: Path | None,
    csv_file: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score a prediction file: accuracy, F1, FDR, MDR and mIoU over exactly the samples of a split.

    FDR is FP/(FP+TN), elsewhere called the false positive rate; MDR is FN/(FN+TP), the miss rate.
    FILE may be a folder: each .npz in it is scored, for one table.

    \b
    Example:
      fmfbench score predictions.npz --data fmf.zarr --report score.html
      fmfbench score predictions.npz --labels labels.npz --json
      fmfbench score predictions.npz --data fmf_sim.zarr --truth recordings/truth
    """
    from fmfbench.scoring.labels import Labels
    from fmfbench.scoring.problems import check_target
    from fmfbench.scoring.score import opened, read_for, score
    from fmfbench.scoring.tables import score_csv, scores_markdown

    if (data is None) == (labels is None):
        raise InputError("score: wanted exactly one of --data STORE and --labels FILE")
    for target in (report, markdown, csv_file):
        if target is not None:
            check_target(target)
    source = opened(data or labels or Path())
    files = sorted(file.glob("*.npz")) if file.is_dir() else [file]
    if not files:
        raise InputError(f"{file}: wanted prediction files (*.npz) in the folder, found none")
    if report is not None and file.is_dir():
        raise InputError(f"{file}: --report is for one file, found a folder")
    shown: Iterable[Path] = files
    if len(files) > 1:
        from tqdm import tqdm

        shown = tqdm(files, unit="file", disable=None)
    scores = [score(path, source, split, **options) for path in shown]
    if report is not None:
        from fmfbench.scoring.report import write_report

        asked = {name: options[name] for name in ("context", "protocol", "per_second")}
        found, rows = read_for(file, source, split, **asked)
        write_report(report, scores[0], found, rows, None if isinstance(source, Labels) else source)
    text = scores_markdown(scores) if file.is_dir() else scores[0].to_markdown()
    if markdown is not None:
        markdown.write_text(text + "\n", encoding="utf-8")
    if csv_file is not None:
        csv_file.write_text(score_csv(scores), encoding="utf-8")
    click.echo(json.dumps(_document(scores, file.is_dir()), indent=2) if as_json else text)


def _document(scores: list[Score], several: bool) -> dict[str, Any]:
    if not several:
        return scores[0].to_dict()
    return {"scores": [each.to_dict() for each in scores]}
