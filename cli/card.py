"""`fmfbench card`: cards of a store or of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fmfbench.errors import InputError
from fmfbench.files.remote import Place

from .options import LOCAL, STORE, json_option, print_result


@click.command("card", short_help="Cards of a store (Hugging Face, Croissant, datasheet) or of a model.")
@click.argument("path", type=STORE, required=False, metavar="STORE|RUN|FOLDER")
@click.option("-o", "--out", type=LOCAL, help="The folder to write into; of a RUN printed without.")
@click.option("--facts", type=LOCAL, help="A TOML file of what a store cannot say of itself.")
@click.option("--template", is_flag=True, help="Print such a file to fill in, and nothing else.")
@click.option(
    "--base",
    metavar="URL|FOLDER",
    help="Where the store's files will be, from the card.  [default: its name]",
)
@click.option(
    "--check", is_flag=True, help="Hold the card in FOLDER against what is required, and its files."
)
@json_option()
def command(
    *,
    path: Place | None,
    out: Path | None,
    facts: Path | None,
    template: bool,
    base: str | None,
    check: bool,
    as_json: bool,
) -> None:
    """Write the cards of a STORE into a folder, or the model card of a RUN.

    Of a store: README.md as Hugging Face reads it, Croissant 1.1 with its RAI fields, a datasheet, and the sample index
    and currents as Parquet.

    Whose the recordings are and under which licence is stated by --facts; nothing is invented. FMF-Sim is called
    FMF-Sim in every card.

    \b
    Example:
      fmfbench card fmf.zarr -o card
      fmfbench card --template > facts.toml
      fmfbench card own.zarr --facts facts.toml -o card
      fmfbench card card --check
      fmfbench card runs/fmformer > README.md
    """
    if template:
        from fmfbench.cards.statements import TEMPLATE

        click.echo(TEMPLATE, nl=False)
        return
    if path is None:
        raise InputError("card: expected a STORE, a RUN or, with --check, a FOLDER with a card; got none")
    if check:
        _check(path, as_json)
    elif isinstance(path, Path) and (path / "run.json").is_file():
        _of_run(path, out, as_json, facts is not None or base is not None)
    else:
        _of_store(path, out, facts, base, as_json)


def _check(path: Place, as_json: bool) -> None:
    from fmfbench.cards.check import check_card
    from fmfbench.files.local import local_path

    found = check_card(local_path(path))
    text = f"{path}: nothing is missing; {found['present']} of {found['file_objects']} files are there and unchanged"
    print_result(found, text, as_json)


def _of_run(run: Path, out: Path | None, as_json: bool, asked_of_stores: bool) -> None:
    from fmfbench.plots.page import write_page
    from fmfbench_models.model_card import run_card

    if asked_of_stores:
        raise InputError("card: expected a store for --facts and --base, got a run folder")
    text = run_card(run)
    if out is None:
        print_result({"run": run.name, "card": text}, text.rstrip("\n"), as_json)
        return
    if not out.absolute().parent.is_dir() or (out.exists() and not out.is_dir()):
        raise InputError(
            f"expected a folder to write into, or the name of a new one in an existing folder, got {out}"
        )
    out.mkdir(exist_ok=True)
    write_page(out / "README.md", text)
    print_result({"run": run.name, "file": str(out / "README.md")}, str(out / "README.md"), as_json)


def _of_store(path: Place, out: Path | None, facts: Path | None, base: str | None, as_json: bool) -> None:
    from fmfbench.cards.statements import read_statements
    from fmfbench.cards.write import write_card
    from fmfbench.data import open_dataset

    data = open_dataset(path)
    if out is None:
        raise InputError("card: expected -o FOLDER to write the cards of a store into, got none")
    stated: dict[str, Any] | None = None if facts is None else read_statements(facts)
    found = write_card(data, out, stated=stated, base=base)
    text = (
        f"{found['folder']}: {found['name']}; README.md, croissant.json ({found['file_objects']} hashed files, "
        f"{found['record_sets']} record sets), datasheet.md, samples/, currents/"
    )
    print_result(found, text, as_json)
