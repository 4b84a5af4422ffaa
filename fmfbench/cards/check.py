"""The check of a card that lies in a folder: nothing that is required may be missing, and the files are those hashed.

What is required is what Croissant 1.1 requires of every dataset, what it recommends and a store always has, and the
whole RAI vocabulary 1.0; of README.md what Hugging Face needs to load the tables; of the datasheet the seven sections
of Gebru et al. (Datasheets for Datasets, CACM 64(12), 2021). `mlcroissant validate` asks for less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fmfbench.cards.statements import RAI_KEYS
from fmfbench.errors import InputError
from fmfbench.store.digest import file_sha256

__all__ = ["CROISSANT", "DATASHEET", "README", "REQUIRED", "SECTIONS", "check_card", "document_problems"]

CROISSANT, README, DATASHEET = "croissant.json", "README.md", "datasheet.md"
REQUIRED = {
    "dataset": (
        "@context",
        "@type",
        "conformsTo",
        "name",
        "description",
        "license",
        "url",
        "creator",
        "datePublished",
        "dateCreated",
        "version",
        "citeAs",
        "keywords",
        "distribution",
        "recordSet",
        *(f"rai:{key}" for key in RAI_KEYS),
    ),
    "file object": ("@type", "@id", "name", "contentUrl", "contentSize", "encodingFormat", "sha256"),
    "file set": ("@type", "@id", "name", "encodingFormat", "includes"),
    "record set": ("@type", "@id", "name", "description", "field"),
    "field": ("@type", "@id", "name", "description", "dataType"),
}
SECTIONS = (
    "Motivation",
    "Composition",
    "Collection process",
    "Preprocessing, cleaning, labelling",
    "Uses",
    "Distribution",
    "Maintenance",
)
FRONT_MATTER = ("pretty_name", "license", "task_categories", "tags", "size_categories", "configs")
_VERSION = "http://mlcommons.org/croissant/1.1"


def check_card(folder: Path) -> dict[str, int]:
    """Hold the card in a folder against what is required, and its files that are there against their sums.

    Returns:
        How many file objects there are, how many of them lie in the folder, and how many record sets.

    Raises:
        InputError: one line with all that is missing or wrong.
    """
    document = _read_document(folder / CROISSANT)
    problems = [f"{CROISSANT}: {text}" for text in document_problems(document)]
    problems += [f"{README}: {text}" for text in _readme_problems(folder / README)]
    problems += [f"{DATASHEET}: {text}" for text in _datasheet_problems(folder / DATASHEET)]
    present = 0
    objects = [each for each in _listed(document, "distribution") if each.get("@type") == "cr:FileObject"]
    for each in objects:
        found = _changed(folder, each)
        present += found is not None
        problems += [f"{CROISSANT}: {found}"] if found else []
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise InputError(f"{folder}: {len(problems)} problems of the card: {shown}")
    return {
        "file_objects": len(objects),
        "present": present,
        "record_sets": len(_listed(document, "recordSet")),
    }


def document_problems(document: Mapping[str, Any]) -> list[str]:
    """What a Croissant document lacks, each as a few words; empty where it is whole."""
    problems = _missing("dataset", document, "")
    conforms = document.get("conformsTo")
    if _VERSION not in (conforms if isinstance(conforms, list) else [conforms]):
        problems.append(f"conformsTo: expected {_VERSION} among them")
    ids: list[str] = []
    for each in _listed(document, "distribution"):
        kind = {"cr:FileObject": "file object", "cr:FileSet": "file set"}.get(str(each.get("@type")))
        where = f"distribution {str(each.get('@id', '?'))[:80]}"
        if kind is None:
            problems.append(f"{where}: expected a cr:FileObject or cr:FileSet")
            continue
        problems += _missing(kind, each, where)
        if kind == "file object" and not re.fullmatch("[0-9a-f]{64}", str(each.get("sha256", "0" * 64))):
            problems.append(f"{where}: its sha256 is none")
        ids.append(str(each.get("@id")))
    for each in _listed(document, "recordSet"):
        where = f"record set {str(each.get('@id', '?'))[:80]}"
        problems += _missing("record set", each, where)
        ids.append(str(each.get("@id")))
        for field in _listed(each, "field"):
            place = f"field {str(field.get('@id', '?'))[:80]}"
            problems += _missing("field", field, place)
            ids.append(str(field.get("@id")))
            if "source" not in field and "data" not in each:
                problems.append(f"{place}: source is missing")
    problems += [f"@id {name!a} stands twice" for name in sorted({i for i in ids if ids.count(i) > 1})[:5]]
    if "FMF-Sim" in json.dumps(
        [document.get("recordSet"), document.get("distribution")]
    ) and "FMF-Sim" not in str(document.get("name")):
        problems.append("name: expected FMF-Sim in it, for the data is simulated")
    return problems


def _missing(kind: str, found: Mapping[str, Any], where: str) -> list[str]:
    lead = f"{where}: " if where else ""
    return [f"{lead}{key} is missing" for key in REQUIRED[kind] if found.get(key) in (None, "", [], {})]


def _listed(found: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = found.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        told = " ".join(str(getattr(error, "strerror", None) or error).split())[:100]
        raise InputError(
            f"{path}: expected a card of `fmfbench card STORE -o DIR`, got a file that is none: {told}"
        ) from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, got a {type(document).__name__}")
    return document


def _changed(folder: Path, each: Mapping[str, Any]) -> str | None:
    """None where the file is not in the folder; empty where it is the one that was hashed; else what is wrong."""
    place = unquote(str(each.get("contentUrl", "")))
    path = folder / place
    if "://" in place or not place or ".." in Path(place).parts or not path.is_file():
        return None
    if f"{path.stat().st_size} B" != each.get("contentSize") or file_sha256(path) != each.get("sha256"):
        return f"{place} is not the file that the card was made of"
    return ""


def _readme_problems(path: Path) -> Iterator[str]:
    text = _text(path)
    if text is None:
        yield "is missing"
        return
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if found is None:
        yield "its YAML front matter is missing"
        return
    keys = set(re.findall(r"^([a-z_]+):", found[1], re.MULTILINE))
    yield from (f"{key} is missing" for key in FRONT_MATTER if key not in keys)


def _datasheet_problems(path: Path) -> Iterator[str]:
    text = _text(path)
    if text is None:
        yield "is missing"
        return
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    filled = {title.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True) if body.strip()}
    yield from (f"section {title} is missing or empty" for title in SECTIONS if title not in filled)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
