"""`fmfbench reproduce`: one of the paper's tables, on a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fmfbench.errors import FailedError, InputError

from .options import (
    LOCAL,
    cache_option,
    data_option,
    device_option,
    json_option,
    out_option,
    print_result,
    protocol_option,
    readers_option,
)
from .train import parse_assignment


@click.command("reproduce", short_help="A table or figure of the paper, ours beside theirs.")
@click.argument("table", metavar="table2|table3|table4|table5|fig6|all")
@data_option("The store to train and score on.")
@out_option("The folder to work in; the same call resumes it.")
@click.option("--models", metavar="A,B,...", help="Rows or models to make [default: all].")
@click.option(
    "--seeds",
    default=None,
    metavar="N,M,...",
    help="Seeds to train with [default: 0; of `all`: 0,1,2 for its first six rows, and the first seed for the others].",
)
@click.option("--epochs", type=int, help="Of the recipe's 30; all recipes shrink in proportion.")
@click.option(
    "--every", type=int, help="Train on each how-many-th sample, all models alike [default: the preset's]."
)
@click.option(
    "--per-second", is_flag=True, help="Predict and score only the last test sample of each second."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key of the recipe that all models share, or protocol.KEY, for all rows alike; may be repeated. A model "
    "with a recipe of its own keeps its values, but for batch_size.",
)
@protocol_option("Window protocol of all rows [default: the preset's].", default=None)
@click.option("--preset", default="full", show_default=True, help="full, nano or tiny: sizes of the models.")
@click.option(
    "--backbone-weights",
    type=LOCAL,
    multiple=True,
    help="Published weights (.pth, .safetensors) for the trunks that they fit; may be repeated [default: random].",
)
@click.option(
    "--validate/--no-validate",
    default=False,
    help="Score the epoch of lowest validation loss, training without the validation samples; or train on all and "
    "score the last epoch, as the paper [default].",
)
@click.option(
    "--loro",
    is_flag=True,
    help="Leave one recording out: a model for each, trained on the others; scored on all train samples together.",
)
@click.option(
    "--worlds/--no-worlds",
    default=True,
    help="Also score each cross-modal row with the video lost and with the current lost [default: --worlds].",
)
@click.option(
    "--minutes",
    type=float,
    metavar="M",
    help="Of `all`: begin no row that is not expected to end M minutes after the call; 0: only write the page of what "
    "is made [default: no limit].",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and about how long it would take.")
@click.option(
    "--measure", is_flag=True, help="Of --dry-run: time a few steps of each model here; takes minutes."
)
@device_option()
@readers_option()
@cache_option()
@json_option()
def command(
    *,
    table: str,
    models: str | None,
    seeds: str | None,
    assignments: tuple[str, ...],
    minutes: float | None,
    loro: bool,
    worlds: bool,
    dry_run: bool,
    measure: bool,
    as_json: bool,
    data: Path,
    out: Path,
    **options: Any,
) -> None:
    """Train what is missing, predict, score, and write the table: our figures beside the paper's.

    What is trained stands in fmfbench_models/reproduce/tables/*.toml. A killed call resumes when called again; a model
    that fails is shown as failed, and tried again by the next call. Models of other packages are in table2.

    `all` makes every table, with a sensor lost, with a recording left out, and a page (index.html) of it all with a
    bundle of each row and a board. Machines that see the folder may call it at the same time: they share the work.

    \b
    Example:
      fmfbench reproduce table2 --data fmf.zarr --out tables --dry-run
      fmfbench reproduce table2 --data fmf.zarr --out tables --models fmformer,vivit --seeds 0,1,2
      fmfbench reproduce table2 --data fmf.zarr --out tables --models fmformer,bilm --loro
      fmfbench reproduce all --data fmf.zarr --out results --preset nano --per-second --minutes 110
      fmfbench reproduce table2 --data fmf.zarr --out tables --epochs 3 --every 40 --set rotate=true
    """
    from fmfbench_models.reproduce import plan, reproduce
    from fmfbench_models.reproduce.markdown import document_markdown, plan_markdown

    options["models"] = [] if models is None else parse_names(models)
    if models is not None and not options["models"]:
        raise InputError(
            f"--models: expected names with commas between, got {models!r}; leave it out for all"
        )
    options["settings"] = dict(parse_assignment(text) for text in assignments)
    if seeds is not None:
        options["seeds"] = parse_seeds(seeds)
    if measure and not dry_run:
        raise InputError("--measure: expected it beside --dry-run, got it alone")
    if table == "all":
        if loro or not worlds:
            given = "--loro" if loro else "--no-worlds"
            raise InputError(
                f"reproduce all: expected neither --loro nor --no-worlds, got {given}; it makes all of that"
            )
        make_all(data, out, minutes, options, dry_run=dry_run, measure=measure, as_json=as_json)
        return
    if minutes is not None:
        raise InputError(f"--minutes: expected it beside `all`, got it beside {table}")
    options |= {"loro": loro, "worlds": worlds}
    if dry_run:
        steps = plan(table, data, out, measure=measure, **options)
        print_result(steps, plan_markdown(steps), as_json)
        return
    document = reproduce(table, data, out, **options)
    print_result(document, document_markdown(document), as_json)
    failed = [row["name"] for row in document["rows"] if row["status"] == "failed"]
    failed += [
        f"{row['name']}@{world}"
        for row in (document["worlds"] or {"rows": []})["rows"]
        for world, found in row["worlds"].items()
        if found["status"] == "failed" and world != "whole"
    ]
    if failed:
        raise FailedError(f"{out}: {len(failed)} rows failed ({', '.join(failed)}); the table says why")


def make_all(
    data: Path,
    out: Path,
    minutes: float | None,
    options: dict[str, Any],
    *,
    dry_run: bool,
    measure: bool,
    as_json: bool,
) -> None:
    from fmfbench_models.reproduce import Campaign
    from fmfbench_models.reproduce.markdown import plan_markdown

    work = Campaign(data=data, out=out, minutes=minutes, **options)
    if dry_run:
        steps = work.plan(measure=measure or None)
        print_result(steps, plan_markdown(steps), as_json)
        return
    document = work.run(lambda text: click.echo(text, err=True))
    done = sum(unit["status"] == "done" for unit in document["units"])
    text = f"{out / 'index.html'}: {done} of {len(document['units'])} rows made"
    if document["not_reached"]:
        text += f", {len(document['not_reached'])} not reached; the same call resumes"
    print_result(document, text, as_json)
    if document["failed"]:
        raise FailedError(
            f"{out}: {len(document['failed'])} rows failed ({'; '.join(document['failed'][:5])}); the page says why"
        )


def parse_names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def parse_seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in parse_names(text)]
    except ValueError:
        raise InputError(f"--seeds: expected integers with commas between, got {text!r}") from None
