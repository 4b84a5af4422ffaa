"""`fmfbench score`: prediction files against labels."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmfbench.errors import InputError, PredictionError
from fmfbench.files.atomic import write_text
from fmfbench.files.leavings import without_leavings

from .options import (
    LOCAL,
    block_seconds_option,
    context_option,
    data_option,
    json_option,
    labels_option,
    protocol_option,
    resamples_option,
    seed_option,
    split_option,
    studio_option,
)

if TYPE_CHECKING:
    from fmfbench.exchange.labels import Labels
    from fmfbench.scoring.result import Score
    from fmfbench.store.reader import StoreReader


@click.command("score", short_help="Score a prediction file by the official metrics.")
@click.argument("file", type=LOCAL)
@data_option("The store to score against.", required=False)
@labels_option()
@split_option()
@context_option("strict asks only for the samples whose windows stay inside the split.", default=None)
@protocol_option(
    "Window protocol of a strict sample set, and of the guard before val [default: paper].", default=None
)
@click.option(
    "--compat",
    type=click.Choice(["official"]),
    help="Add the smoothing constants of the authors' released code, to match published numbers.",
)
@resamples_option()
@block_seconds_option()
@seed_option("Of the bootstrap.")
@click.option(
    "--aupro-limit",
    default=0.3,
    show_default=True,
    help="AUPRO looks at false positive rates from 0 to this.",
)
@click.option("--per-second", is_flag=True, help="Ask only for the last sample of each second.")
@click.option(
    "--truth",
    type=LOCAL,
    help="The simulator's folder OUT/truth: also score by visibility, mist, glare and reflections.",
)
@click.option(
    "--report", type=LOCAL, help="Write a page that stands alone: tables, curves, timelines, errors."
)
@click.option(
    "--markdown",
    type=LOCAL,
    is_flag=False,
    flag_value=Path("-"),
    help="Every table as Markdown: printed, or written to a file .md that is named.",
)
@click.option("--csv", "csv_file", type=LOCAL, help="Write one row for each file and metric.")
@click.option(
    "--bundle",
    type=LOCAL,
    help="Write predictions, score and receipt as one file .fmfb, for `fmfbench board`.",
)
@click.option("--run", type=LOCAL, help="The run folder of the model: its facts go into the bundle.")
@click.option(
    "--latency", is_flag=True, help="Also time the model of --run on one frame at a time, on this CPU."
)
@click.option(
    "--fact",
    "stated",
    multiple=True,
    metavar="NAME=VALUE",
    help="A model's fact for the bundle, without --run: parameters, train_seconds or latency_ms; repeatable.",
)
@studio_option()
@json_option()
def command(
    *,
    file: Path,
    data: Path | None,
    labels: Path | None,
    split: str,
    report: Path | None,
    markdown: Path | None,
    csv_file: Path | None,
    bundle: Path | None,
    run: Path | None,
    latency: bool,
    stated: tuple[str, ...],
    studio: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score a prediction file: accuracy, F1, FDR, MDR and mIoU over exactly the samples of a split.

    FDR is FP/(FP+TN), elsewhere called the false positive rate; MDR is FN/(FN+TP), the miss rate.
    FILE may be a folder: each .npz in it is scored, for one table; files that cannot be are named at the end, with
    exit code 2.

    \b
    Example:
      fmfbench score predictions.npz --data fmf.zarr --report score.html
      fmfbench score predictions.npz --labels labels.npz --json
      fmfbench score predictions.npz --data fmf.zarr --bundle mine.fmfb
      fmfbench score predictions.npz --data fmf_sim.zarr --truth recordings/truth
    """
    from fmfbench.scoring.score import opened, score
    from fmfbench.scoring.tables import score_csv, scores_markdown

    if (data is None) == (labels is None):
        raise InputError(
            "score: expected exactly one of --data STORE and --labels FILE, "
            f"got {'both' if data else 'neither'}"
        )
    printed = markdown == Path("-")
    written = {"report": report, "markdown": None if printed else markdown, "csv": csv_file, "bundle": bundle}
    claims = _claims(stated)
    studio = _studio(studio, report)
    _check_outputs(written, file, options)
    _check_facts(bundle, run, latency, claims)
    source = opened(data or labels or Path())
    if file.is_dir():
        scores, failed = _score_all(file, source, split, options)
    else:
        scores, failed = [score(file, source, split, **options)], {}
    if report is not None and scores:
        _report(report, scores, file, source, split, options, studio)
    text = scores_markdown(scores) if file.is_dir() else scores[0].to_markdown()
    for path, content in ((None if printed else markdown, text + "\n"), (csv_file, score_csv(scores))):
        if path is not None:
            write_text(path, content)
    if bundle is not None:
        _bundle(bundle, file, scores[0], options, run, latency, claims)
    if as_json:
        click.echo(json.dumps(_document(scores, failed, file.is_dir()), indent=2))
    elif scores:
        click.echo(text if printed or file.is_dir() else scores[0].to_text())
    _tell(file, scores, failed)


def _tell(folder: Path, scores: list[Score], failed: dict[str, str]) -> None:
    """One line for each file that could not be scored, and a last one, with exit code 2."""
    for error in failed.values():
        click.echo(f"Error: {error}", err=True)
    if failed:
        count = len(failed) + len(scores)
        raise InputError(f"{folder}: {len(failed)} of {count} prediction files were not scored")


def _bundle(
    out: Path,
    file: Path,
    scored: Score,
    options: dict[str, Any],
    run: Path | None,
    latency: bool,
    claims: dict[str, float],
) -> None:
    from fmfbench.board.bundle import write_bundle

    write_bundle(out, file, scored, options, ({} if run is None else _run_facts(run, latency)) | claims)


def _claims(stated: tuple[str, ...]) -> dict[str, float]:
    """NAME=VALUE of `--fact`, each a number of 0 or more."""
    from fmfbench.board.bundle import FACTS

    found: dict[str, float] = {}
    for text in stated:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in FACTS or not 0 <= number < inf:
            raise InputError(
                f"--fact: expected {', '.join(FACTS)} = a number of 0 or more, got {text[:60]!r}"
            )
        found[name] = int(number) if number.is_integer() else number
    return found


def _studio(address: str | None, report: Path | None) -> str | None:
    from fmfbench.plots.page import check_studio

    if address is not None and report is None:
        raise InputError("score: expected --report, whose page links to the studio, got --studio alone")
    return check_studio(address)


def _check_facts(bundle: Path | None, run: Path | None, latency: bool, claims: dict[str, float]) -> None:
    if bundle is None and (run is not None or latency or claims):
        given = "--run" if run is not None else "--latency" if latency else "--fact"
        raise InputError(f"score: expected --bundle, which the facts go into, got {given} alone")
    if latency and run is None:
        raise InputError("score: expected --run, the model to time, got --latency alone")


def _check_outputs(written: dict[str, Path | None], file: Path, options: dict[str, Any]) -> None:
    """Refuse what cannot be written before anything is scored."""
    from fmfbench.files.problems import check_ending, check_target

    kinds = {
        "report": ((".html", ".htm"), "a page"),
        "markdown": ((".md", ".markdown", ".txt"), "Markdown"),
        "csv": ((".csv",), "CSV"),
        "bundle": ((".fmfb",), "a bundle"),
    }
    for name, (endings, what) in kinds.items():
        target = written[name]
        if target is None:
            continue
        check_target(target)
        check_ending(target, endings, what)
        if name == "bundle" and file.is_dir():
            raise InputError(f"--{name}: expected one prediction file, got the folder {file}")
    if written["bundle"] is not None and (options["compat"] or options["truth"]):
        raise InputError(
            "score: expected --bundle without --compat and --truth, which a board could not repeat, "
            f"got {'--compat' if options['compat'] else '--truth'}"
        )


def _run_facts(run: Path, latency: bool) -> dict[str, Any]:
    """What a run folder says of the model.

    Its settings, training time, and, where torch is there, its parameters and, where asked for, its latency.
    """
    try:
        settings = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{run}: expected a run folder of `fmfbench train`, got one without run.json"
        ) from None
    facts: dict[str, Any] = {"run": {key: value for key, value in settings.items() if key != "data"}}
    if settings.get("train_seconds") is not None:
        facts["train_seconds"] = settings["train_seconds"]
    try:
        from fmfbench_models import load_checkpoint
        from fmfbench_models.inference.latency import frame_latency_ms
    except ImportError:
        if latency:
            raise
        return facts
    model = load_checkpoint(run)
    facts["parameters"] = model.num_parameters()
    if latency:
        facts["latency_ms"] = round(frame_latency_ms(model), 3)
    return facts


def _report(
    path: Path,
    scores: list[Score],
    file: Path,
    source: StoreReader | Labels,
    split: str,
    options: dict[str, Any],
    studio: str | None,
) -> None:
    from fmfbench.exchange.labels import Labels
    from fmfbench.plots.report import write_report
    from fmfbench.scoring.score import read_for

    asked = {name: options[name] for name in ("context", "protocol", "per_second")}
    if file.is_dir():
        from fmfbench.board.several import write_scores_page

        chosen = {name: options[name] for name in ("resamples", "block_seconds", "seed")}
        files = [file / each.file for each in scores]
        write_scores_page(path, files, scores, source, studio=studio, **chosen, **asked)
        return
    found, rows = read_for(file, source, split, **asked)
    write_report(path, scores[0], found, rows, None if isinstance(source, Labels) else source, studio=studio)


def _score_all(
    folder: Path, source: StoreReader | Labels, split: str, options: dict[str, Any]
) -> tuple[list[Score], dict[str, str]]:
    """The scores of all files that can be scored, and name -> what is wrong of the others.

    InputError where it is the same for all, and so not the files' fault.
    """
    from tqdm import tqdm

    from fmfbench.scoring.score import score

    files = sorted(without_leavings(folder.glob("*.npz")))
    if not files:
        raise InputError(f"{folder}: expected prediction files (*.npz) in the folder, got none")
    scores, failed = [], {}
    for path in tqdm(files, unit="file", disable=None):
        try:
            scores.append(score(path, source, split, **options))
        except PredictionError as error:
            failed[path.name] = str(error)
    if not scores and len(set(failed.values())) == 1:
        raise InputError(next(iter(failed.values())))
    return scores, failed


def _document(scores: list[Score], failed: dict[str, str], several: bool) -> dict[str, Any]:
    if not several:
        return scores[0].to_dict()
    errors = [{"file": name, "error": error} for name, error in failed.items()]
    return {"scores": [each.to_dict() for each in scores], "failed": errors}
