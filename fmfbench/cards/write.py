"""Writing the cards of a store into a folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmfbench.cards.check import CROISSANT, DATASHEET, README, check_card, document_problems
from fmfbench.cards.croissant import croissant_document
from fmfbench.cards.statements import statements_of
from fmfbench.cards.store_facts import gather_facts
from fmfbench.cards.tables import write_tables
from fmfbench.cards.texts import datasheet_text, readme_text
from fmfbench.errors import FailedError, InputError
from fmfbench.files.leavings import without_leavings
from fmfbench.files.local import local_path
from fmfbench.files.remote import RemotePath
from fmfbench.store.reader import StoreReader

__all__ = ["write_card"]


def write_card(
    data: StoreReader,
    out: str | os.PathLike[str],
    *,
    stated: Mapping[str, Any] | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Write README.md, croissant.json, datasheet.md and the Parquet tables of a store into a folder.

    Args:
        data: an open store.
        out: the folder; an earlier card there is replaced when the new one is whole, anything else in it stays.
        stated: of `read_statements`: what the store cannot say of itself.
        base: where the store's files will be found from the card: a URL, or a folder beside it; by default its name.

    Returns:
        What was written: folder, kind, name, and the counts of `check_card`.

    Raises:
        InputError: statements are missing, or the folder holds something that is no card.
        MissingDependencyError: pyarrow is not installed.
    """
    target = local_path(os.fspath(out))
    if isinstance(data.path, Path) and target.resolve() == data.path.resolve():
        raise InputError(
            f"{target}: expected a folder outside the store, got one of the store, which holds nothing but its arrays"
        )
    _check_target(target)
    facts = gather_facts(data)
    statements = statements_of(facts, stated)
    temporary = target.absolute().with_name(f".{target.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        tables = write_tables(data, temporary)
        document = croissant_document(data, facts, statements, temporary, tables, base=base)
        problems = document_problems(document)
        if problems:
            raise FailedError(f"card: its own document lacks {', '.join(problems[:5])}")
        place = base or (str(data.path) if isinstance(data.path, RemotePath) else data.path.name)
        for name, text in (
            (CROISSANT, json.dumps(document, indent=1, ensure_ascii=False) + "\n"),
            (README, readme_text(facts, statements, tables, place.rstrip("/"))),
            (DATASHEET, datasheet_text(facts, statements)),
        ):
            (temporary / name).write_text(text, encoding="utf-8", newline="\n")
        counts = check_card(temporary)
        target.mkdir(exist_ok=True)
        for name in tables:
            shutil.rmtree(target / name, ignore_errors=True)
        for path in sorted(temporary.iterdir()):
            os.replace(path, target / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"folder": str(target), "kind": facts.kind, "name": statements["name"], **counts}


def _check_target(target: Path) -> None:
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: expected an existing folder to write into, got none at {target.parent}")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: expected a folder to write into, got a file")
    if target.is_dir() and not (target / CROISSANT).is_file():
        taken = sorted(
            path.name
            for path in without_leavings(target.iterdir())
            if path.name in (README, DATASHEET, "samples", "currents")
        )
        if taken:
            raise InputError(
                f"{target}: expected a new folder or an earlier card's, got one with {', '.join(taken)}; name another"
            )
