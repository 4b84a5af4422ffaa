"""What the figures of `reproduce all` do and do not say, in sentences whose numbers come from its documents alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from fmfbench_models.reproduce.document import part_of_samples
from fmfbench_models.reproduce.markdown import named
from fmfbench_models.reproduce.worlds import WORLDS

__all__ = ["saying", "saying_markdown"]

Document = Mapping[str, Any]
BEATEN_BY = "NOT BETTER THAN "
KNOWS_LABELS = f"{BEATEN_BY}LAST-SECOND PERSISTENCE"  # of the second before, which no model has


def saying(document: Document, documents: Sequence[Document], board: Document | None) -> dict[str, list[str]]:
    """Heading -> sentences.

    Args:
        document: of the campaign. documents: of its tables, Table II first. board: what board.json holds, or None.
    """
    table2 = documents[0]
    left_out = next((found for found in documents if found["left_out"]), None)
    return {
        "What they say": [
            *order_sentences(table2, board),
            *apart_sentences(board),
            *worlds_sentences(table2),
            *left_out_sentences(table2, left_out, document),
            *trivial_sentences(table2),
        ],
        "What they do not say": [
            *data_sentences(table2),
            *size_sentences(table2, document),
            *seed_sentences(table2),
            *interval_sentences(table2),
            *missing_sentences(document),
        ],
    }


def saying_markdown(title: str, parts: Mapping[str, Sequence[str]]) -> str:
    lines = [f"# {title}", ""]
    for heading, sentences in parts.items():
        lines += [f"## {heading}", "", *(f"- {text}" for text in sentences), ""]
    return "\n".join(lines)


def order_sentences(table2: Document, board: Document | None) -> list[str]:
    counts = table2["ordering"]["accuracy"]
    if counts is None:
        return ["Order against the paper's: no two rows made have figures in the paper and differ in both."]
    means = ", means over the seeds" if len(table2["seeds"]) > 1 else ""
    told = [
        f"Order by accuracy{means}: {counts['same']} of {counts['pairs']} pairs of rows that the paper has stand in "
        f"its order, on simulated data and at other sizes than its own."
        if table2["data"]["simulated"]
        else f"Order by accuracy{means}: {counts['same']} of {counts['pairs']} pairs of rows stand in the paper's "
        f"order."
    ]
    pairs = board and board["comparison"].get("accuracy")
    if pairs:
        paper = {
            row["name"]: row["metrics"]["accuracy"]["paper"]
            for row in table2["rows"]
            if row["metrics"]["accuracy"]["paper"] is not None
        }
        apart = same = 0
        for a, b in combinations(range(len(pairs["models"])), 2):
            first, second = pairs["models"][a], pairs["models"][b]
            low, high = pairs["low"][a][b], pairs["high"][a][b]
            if first not in paper or second not in paper or paper[first] == paper[second]:
                continue
            if low is None or high is None or low <= 0 <= high:
                continue
            apart += 1
            same += (low > 0) == (paper[first] > paper[second])
        told.append(
            f"Of these pairs, {apart} can be told apart with all intervals together (95 % over all pairs of the board, "
            f"first seed); {same} of them stand in the paper's order."
        )
    return told


def apart_sentences(board: Document | None) -> list[str]:
    pairs = board and board["comparison"].get("accuracy")
    if not pairs:
        return ["Which pairs can be told apart: not known, fewer than two rows are made."]
    groups = [group for group in pairs["cannot_be_told_apart"] if len(group) > 1]
    if not groups:
        return ["Every pair of rows can be told apart in accuracy, all intervals together."]
    return [
        "These cannot be told apart in accuracy, all intervals together: "
        + "; ".join(", ".join(group) for group in groups)
        + ". Their order in a table means nothing."
    ]


def worlds_sentences(table2: Document) -> list[str]:
    worlds = table2["worlds"]
    known = [row for row in worlds["rows"] if row["keeps"] is not None] if worlds else []
    if not known:
        return ["With a sensor lost: no cross-modal row has all its figures yet."]
    kept = [row["label"] for row in known if row["keeps"]]
    told = [
        f"With a sensor lost: {', '.join(kept) or 'none'} of {len(known)} cross-modal rows loses at most "
        f"{worlds['margin']:.2f} of accuracy to the best single modality in each world and is above it when whole by "
        f"intervals that do not overlap."
    ]
    for world in list(WORLDS)[1:]:
        row = min(known, key=lambda row: float(row["worlds"][world]["behind"]))
        behind = row["worlds"][world]["behind"]
        told.append(
            f"{WORLDS[world].capitalize()}: {row['label']} does best, {abs(behind):.4f} "
            f"{'behind' if behind > 0 else 'above'} the best single modality that is left "
            f"({worlds['single'][world]['label']})."
        )
    return told


def left_out_sentences(table2: Document, left_out: Document | None, document: Document) -> list[str]:
    if left_out is None:
        return [f"One recording left out: not made ({document['left_out_problem']})."]
    rows = {row["name"]: row for row in table2["rows"]}
    told = []
    for row in left_out["rows"]:
        seeds = [seed for seed in row["per_seed"] if seed in rows[row["name"]]["per_seed"]]
        if row["status"] == "done" and seeds:
            own, other = (
                sum(found["per_seed"][seed]["metrics"]["accuracy"] for seed in seeds) / len(seeds)
                for found in (row, rows[row["name"]])
            )
            told.append(f"{named(row)} {own:.4f} against {other:.4f}")
    if not told:
        return ["One recording left out: no row is made yet."]
    return [
        f"On a recording that a model never saw, accuracy is, against that of the same seed on the test split: "
        f"{'; '.join(told)}. The samples are others (train frames there, test frames here), and without a recording a "
        "model takes fewer steps, as it has fewer samples; so only a large gap tells of new recordings."
    ]


def trivial_sentences(table2: Document) -> list[str]:
    beaten = [
        named(row)
        for row in table2["rows"]
        if row["status"] == "done"
        and any(BEATEN_BY in text and KNOWS_LABELS not in text for text in row["warnings"])
    ]
    if not beaten:
        return [
            "Every row made is better in accuracy, F1 and mIoU than what needs no model and knows no label."
        ]
    return [
        f"Not better in accuracy, F1 or mIoU than some trivial baseline that knows no label: {', '.join(beaten)}."
    ]


def data_sentences(table2: Document) -> list[str]:
    if not table2["data"]["simulated"]:
        return [
            "Anything about recordings other than those of this store and its split, or about another furnace."
        ]
    return [
        "Anything about the real furnace: every figure is on FMF-Sim, and none may be set beside one of the paper's as "
        "if both were measured on the same thing.",
        "What video and current are worth at a furnace, and how much both together gain: the simulator sets "
        "it (data_cards/fmf_sim.md), so that a cross-modal row is ahead is a property of these data before it is one "
        "of a model.",
    ]


def size_sentences(table2: Document, document: Document) -> list[str]:
    told = []
    if table2["preset"] != "full":
        default = [
            row["label"]
            for row in table2["rows"]
            if row["status"] == "done" and row["variant"].startswith("default")
        ]
        but = (
            f" but {', '.join(default)}, which have no such configuration and stand at their default"
            * bool(default)
        )
        told.append(
            f"What a method reaches at its own size and recipe: all rows are of preset {table2['preset']}{but}; "
            f"{table2['epochs']} epochs of {part_of_samples(table2['every'])} (the paper: 30 of all), one recipe for "
            f"all but where a model has its own."
        )
    curves = document["curves"]
    steep = [f"{c['training']} ({100 * c['last_quarter']:.0f} %)" for c in curves if c["flattened"] is False]
    unknown = [c["training"] for c in curves if c["flattened"] is None]
    flat = [c["training"] for c in curves if c["flattened"]]
    if steep:
        told.append(
            "How good these would be with more steps; their loss was still falling (share of its whole fall that the "
            f"last quarter of the epochs brought, above 5 %): {', '.join(steep)}."
        )
    if flat:
        told.append(
            f"The loss of {', '.join(flat)} has flattened by that measure, under this schedule of the learning rate; "
            f"another one may reach lower."
        )
    if unknown:
        told.append(
            f"Whether the loss has flattened cannot be said (fewer than four epochs, or no fall): {', '.join(unknown)}."
        )
    renamed = [row["label"] for row in table2["rows"] if row["reinterpretation"] and row["status"] == "done"]
    if renamed:
        told.append(
            f"What their publications' methods reach: {', '.join(renamed)} are re-interpretations, as the texts could "
            f"not be had."
        )
    return told


def seed_sentences(table2: Document) -> list[str]:
    spreads = {}
    for row in table2["rows"]:
        values = [seed["metrics"]["accuracy"] for seed in row["per_seed"].values()]
        known = [value for value in values if value is not None]
        if len(known) > 1:
            spreads[row["label"], row["name"]] = (max(known) - min(known), len(known))
    if not spreads:
        return ["How much a seed matters: no row is made with more than one."]
    (label, name), (widest, count) = max(spreads.items(), key=lambda item: item[1][0])
    alone = sum(row["status"] == "done" and len(row["per_seed"]) == 1 for row in table2["rows"])
    return [
        f"Anything in differences below what a seed alone does: over {count} seeds the accuracy of {label} ({name}) "
        f"spans {widest:.4f}, the widest of {len(spreads)} rows; {alone} rows are made with one seed, and their "
        f"intervals hold no seed's share."
    ]


def interval_sentences(table2: Document) -> list[str]:
    without = [named(row) for row in table2["rows"] if row["status"] == "done" and row["no_interval"]]
    told = [
        "How sure they are beyond this store: intervals are of its test time, resampled in blocks; how often such "
        "intervals hold the truth is in data_cards/protocol.md."
    ]
    if without:
        told.append(f"Some intervals cannot be had of {', '.join(without)}: too few blocks.")
    return told


def missing_sentences(document: Document) -> list[str]:
    told = []
    if document["not_reached"]:
        told.append(f"Not reached ({len(document['not_reached'])}): {'; '.join(document['not_reached'])}.")
    if document["failed"]:
        told.append(f"Failed ({len(document['failed'])}): {'; '.join(document['failed'])}.")
    return told
