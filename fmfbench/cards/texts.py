"""README.md as Hugging Face reads it, and the datasheet, both from the same facts and statements."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fmfbench.cards.check import SECTIONS
from fmfbench.cards.croissant import licence_url
from fmfbench.cards.statements import NO_LICENCE
from fmfbench.cards.store_facts import StoreFacts
from fmfbench.files.markdown import table

__all__ = ["datasheet_text", "readme_text"]

_SIMULATED = "**FMF-Sim is simulated: no figure on it says anything about the real benchmark.**"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def readme_text(
    facts: StoreFacts, statements: Mapping[str, Any], tables: Mapping[str, Sequence[str]], store: str
) -> str:
    """The dataset card: YAML for the Hub, then what a reader wants to know first.

    Args:
        facts, statements: of the store.
        tables: record set -> Parquet files beside the card.
        store: where the Zarr store lies, from the card.
    """
    rai = statements["rai"]
    lines = [*_front_matter(facts, statements, tables), "", f"# {statements['name']}", ""]
    if facts.kind == "FMF-Sim":
        lines += [_SIMULATED, ""]
    lines += [statements["description"], "", *_counts_table(facts), ""]
    lines += [
        f"Fingerprint `{facts.info['fingerprint']}`, digest of all files `{facts.digest}`. A prediction "
        "file names the first.",
        "",
        "## What lies here",
        "",
        *table(
            ("file", "what"),
            [
                ("`croissant.json`", "Croissant 1.1 with RAI fields; every file below with its sha256"),
                ("`datasheet.md`", "datasheet: motivation to maintenance"),
                ("`samples/*.parquet`", "sample index by split: id, recording, frame, time, class"),
                ("`currents/currents.parquet`", "three-phase currents, every row"),
                (
                    f"`{store}/`" if "://" not in store else f"`{store}`",
                    "the Zarr store: video, masks, currents, times, splits",
                ),
            ],
        ),
        "",
        "## Loading",
        "",
        "```python",
        "import datasets",
        "",
        f'frames = datasets.load_dataset(".", "samples")  # {", ".join(_split_name(p) for p in tables["samples"])}',
        'currents = datasets.load_dataset(".", "currents")["rows"]',
        "```",
        "",
        "Frames and masks, synchronised with the currents into causal windows:",
        "",
        "```python",
        "import fmfbench",
        "",
        f'windows = fmfbench.open_dataset("{store}").windows("test", protocol="paper")',
        "```",
        "",
        "## Licence",
        "",
        _licence_words(statements),
        "",
        "## Uses and limits",
        "",
        f"{rai['dataUseCases']} {rai['dataLimitations']}",
        "",
        f"Biases: {rai['dataBiases']}",
        "",
        f"People: {rai['personalSensitiveInformation']}",
        "",
        "## Citation",
        "",
        *_cited(statements["citation"]),
        "",
    ]
    return "\n".join(lines)


def datasheet_text(facts: StoreFacts, statements: Mapping[str, Any]) -> str:
    """The datasheet, by the sections of Gebru et al., 2021."""
    rai = statements["rai"]
    recordings = [
        (
            r["name"],
            f"{r['frames']}",
            f"{r['width']}x{r['height']}",
            f"{r['duration_seconds']:.0f}",
            r["start"] or "not known",
            f"{r['current_rows']}",
            f"{r['classes']['abnormal']}",
            ", ".join(r["layers"]) or "none",
        )
        for r in facts.recordings
    ]
    head = (
        "recording",
        "frames",
        "W x H",
        "seconds",
        "begins",
        "current rows",
        "abnormal frames",
        "label layers",
    )
    bodies = {
        "Motivation": [statements["description"], "", f"Made by: {statements['creator']}."],
        "Composition": [
            *table(head, recordings),
            "",
            *_counts_table(facts),
            "",
            f"Missing: {rai['dataCollectionMissingData']}",
            "",
            f"People: {rai['personalSensitiveInformation']}",
        ],
        "Collection process": [
            rai["dataCollection"],
            "",
            f"Kind: {rai['dataCollectionType']}. Time: {rai['dataCollectionTimeFrame']}",
            "",
            f"Raw data: {rai['dataCollectionRawData']}",
        ],
        "Preprocessing, cleaning, labelling": [
            rai["dataPreprocessingProtocol"],
            "",
            f"Changed: {rai['dataManipulationProtocol']} Filled in: {rai['dataImputationProtocol']}",
            "",
            f"Labels: {rai['dataAnnotationProtocol']}",
            "",
            f"Labelled with: {rai['dataAnnotationPlatform']} Checked: {rai['dataAnnotationAnalysis']} Labels per item: "
            f"{rai['annotationsPerItem']}. Who labelled: {rai['annotatorDemographics']}",
            "",
            f"Written by: {rai['machineAnnotationTools']}",
        ],
        "Uses": [
            rai["dataUseCases"],
            "",
            f"Limits: {rai['dataLimitations']}",
            "",
            f"Biases: {rai['dataBiases']}",
            "",
            f"Impact: {rai['dataSocialImpact']}",
        ],
        "Distribution": [
            f"Where: {statements['url']}. Published: {statements['published']}.",
            "",
            _licence_words(statements),
        ],
        "Maintenance": [statements["maintenance"], "", rai["dataReleaseMaintenancePlan"]],
    }
    lines = [f"# Datasheet of {statements['name']}", ""]
    if facts.kind == "FMF-Sim":
        lines += [_SIMULATED, ""]
    for title in SECTIONS:
        lines += [f"## {title}", "", *bodies[title], ""]
    return "\n".join(lines)


def _front_matter(
    facts: StoreFacts, statements: Mapping[str, Any], tables: Mapping[str, Sequence[str]]
) -> list[str]:
    licence = statements["licence"]
    if licence == NO_LICENCE:
        told = ["license: unknown"]
    elif re.fullmatch(r"[A-Za-z0-9.-]+", licence):
        told = [
            "license: other",
            f"license_name: {_yaml(licence)}",
            f"license_link: {_yaml(licence_url(licence) or '')}",
        ]
    else:
        told = ["license: other", "license_name: see-link", f"license_link: {_yaml(licence)}"]
    count = facts.info["frames"]
    size = next((name for most, name in _SIZES if count < most), "n>1M")
    lines = [
        "---",
        f"pretty_name: {_yaml(statements['name'])}",
        *told,
        "task_categories:",
        "- video-classification",
    ]
    lines += [
        "- image-segmentation",
        "tags:",
        "- anomaly-detection",
        "- multimodal",
        "- time-series",
        "- croissant",
    ]
    lines += ["- simulated"] if facts.kind == "FMF-Sim" else []
    lines += ["size_categories:", f"- {_yaml(size)}", "configs:", "- config_name: samples", "  default: true"]
    lines += ["  data_files:"]
    for path in tables["samples"]:
        lines += [f"  - split: {_split_name(path)}", f"    path: {_yaml(path)}"]
    lines += [
        "- config_name: currents",
        "  data_files:",
        "  - split: rows",
        f"    path: {_yaml(tables['currents'][0])}",
    ]
    return [*lines, "---"]


def _split_name(path: str) -> str:
    return path.rsplit("/", 1)[1].removesuffix(".parquet")


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string


def _counts_table(facts: StoreFacts) -> list[str]:
    info = facts.info
    rows = [(name, f"{count}") for group in ("splits", "classes") for name, count in info[group].items()]
    return table(("frames", "count"), [("all", f"{info['frames']}"), *rows])


def _licence_words(statements: Mapping[str, Any]) -> str:
    licence = statements["licence"]
    if licence == NO_LICENCE:
        return (
            "No licence is stated. That is no permission: ask whoever made the recordings before using them."
        )
    return f"{licence}, as stated by whoever made this card."


def _cited(text: str) -> list[str]:
    return ["```bibtex", text, "```"] if text.startswith("@") else [text]
