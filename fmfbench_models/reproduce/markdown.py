"""A table's document as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fmfbench.scoring.metrics import metric as metric_of
from fmfbench.scoring.result import INTERVAL_WORTH
from fmfbench_models.reproduce.document import part_of_samples
from fmfbench_models.reproduce.worlds import WHOLE, WORLDS

__all__ = [
    "OF_SEEDS",
    "REINTERPRETATION",
    "details",
    "document_markdown",
    "duration",
    "figure",
    "fold_cells",
    "named",
    "plan_markdown",
    "row_cells",
    "short",
    "table_head",
    "world_cells",
]

BEATEN_BY = "NOT BETTER THAN "
NOT_BETTER = "not better in accuracy, F1 or mIoU than the trivial baselines: "
REINTERPRETATION = (
    "(r) re-interpretation: the method's publication could not be had; this is our model in its spirit, and its "
    "figures are not that method's"
)
OF_SEEDS = "figures are means over the seeds, intervals span those of all seeds, times are sums"
TRUNKS = {"random": "random", "imagenet": "ImageNet", "file": "other file"}
INPUTS = {"both": "video, current", "visual": "video", "current": "current", None: "?"}


def document_markdown(document: Mapping[str, Any]) -> str:
    """Everything that the document says, for people."""
    ours = "FMF-Sim" if document["data"]["simulated"] else "ours"
    head, with_paper, with_trunk = table_head(document)
    marks: list[str] = []
    body = [row_cells(row, document["metrics"], with_paper, with_trunk, marks) for row in document["rows"]]
    lines = [f"# {document['title']}", "", f"**{document['notice']}**", ""]
    if document["picture"]:
        lines += [f"![metrics against the lengths of the windows]({document['picture']})", ""]
    lines += [*grid(head, body), ""]
    lines += [f"- {mark}" for mark in marks]
    if any(row["reinterpretation"] for row in document["rows"]):
        lines.append(f"- {REINTERPRETATION}")
    lines += [f"- {text}" for text in details(document)]
    if document["left_out"]:
        lines += ["", *folds_markdown(document, ours)]
    if document["worlds"]:
        lines += ["", *worlds_markdown(document["worlds"], ours)]
    return "\n".join(lines) + "\n"


def table_head(document: Mapping[str, Any]) -> tuple[list[str], bool, bool]:
    """The columns of a table, and whether figures of the paper and first weights of trunks are among them."""
    ours = "FMF-Sim" if document["data"]["simulated"] else "ours"
    theirs = "paper, real data" if document["data"]["simulated"] else "paper"
    with_paper = any(
        cell["paper"] is not None for row in document["rows"] for cell in row["metrics"].values()
    )
    with_trunk = any(row["backbone"] for row in document["rows"])
    head = ["method", "input", "parameters", *(["trunk's first weights"] if with_trunk else [])]
    for metric in document["metrics"]:
        head += [f"{short(metric)}, {ours}", *([f"{short(metric)}, {theirs}"] if with_paper else [])]
    return (
        [*head, "worst recording (accuracy)", "training", "prediction", "one frame"],
        with_paper,
        with_trunk,
    )


def row_cells(
    row: Mapping[str, Any], metrics: Sequence[str], with_paper: bool, with_trunk: bool, marks: list[str]
) -> list[str]:
    label = row["label"] + (" (r)" if row["reinterpretation"] else "")
    parameters = "-" if row["parameters"] is None else f"{row['parameters']:,}"
    cells = [label, INPUTS[row["inputs"]], parameters]
    if with_trunk:
        cells.append(TRUNKS.get(row["first_weights"], "see below") if row["backbone"] else "-")
    for metric in metrics:
        value = row["metrics"][metric]
        cells.append(figure(value) if row["status"] == "done" else row["status"].upper())
        if not with_paper:
            continue
        paper = "-" if value["paper"] is None else f"{value['paper']:.4f}"
        if value["doubtful"]:
            marks.append(
                f"[{len(marks) + 1}] {row['label']}, {short(metric)} in the paper: {value['doubtful']}"
            )
            paper += f" [{len(marks)}]"
        cells.append(paper)
    found = row["worst_recording"]
    cells.append("-" if found is None else f"{found['recording']}: {found['accuracy']:.4f}")
    latency = "-" if row["latency_ms"] is None else f"{row['latency_ms']:.1f} ms"
    return [*cells, duration(row["train_seconds"]), duration(row["predict_seconds"]), latency]


def left_out_text(names: Sequence[str]) -> str:
    """How rows of folds came to be; empty where there are none."""
    return (
        f"leave one recording out: {len(names)} models a row, each trained on the train frames of all recordings but "
        f"one and judging the train frames of that one; the figures are of all these predictions together, and the "
        "test split has no part in them"
        if names
        else ""
    )


def folds_markdown(document: Mapping[str, Any], ours: str) -> list[str]:
    """Each row on each recording that was left out."""
    head, body = fold_cells(document, ours)
    return ["## By the recording left out", "", *grid(head, body)] if body else []


def fold_cells(document: Mapping[str, Any], ours: str) -> tuple[list[str], list[list[str]]]:
    measured = ("accuracy", "f1")
    names = document["left_out"]
    head = ["method", *(f"{short(metric)}, {name}, {ours}" for name in names for metric in measured)]
    body = [
        [
            named(row),
            *(
                "-" if (value := row["folds"].get(name, {}).get(metric)) is None else f"{value:.4f}"
                for name in names
                for metric in measured
            ),
        ]
        for row in document["rows"]
        if row["status"] == "done"
    ]
    return head, body


def worlds_markdown(worlds: Mapping[str, Any], ours: str) -> list[str]:
    """Each cross-modal row whole, without video and without current, and the best single modality of each world."""
    head, body = world_cells(worlds, ours)
    named = "; ".join(
        f"{WORLDS[world]}: {'none is made' if found is None else told(found)}"
        for world, found in worlds["single"].items()
    )
    failed = [
        f"- FAILED: {row['label']} ({row['name']}), {WORLDS[world]}, seed {seed}: {error}"
        for row in worlds["rows"]
        for world, found in row["worlds"].items()
        if world != WHOLE
        for seed, error in found["errors"].items()
    ]
    return [
        "## With a sensor lost",
        "",
        *grid(head, body),
        "",
        f"- best single modality of this table by accuracy, {named}",
        "- a lost modality is zeros that are marked as invalid in every window (`predict --corrupt video-missing`, "
        "`current-missing`); the weights are the same, and what a model makes of the marks is its own",
        f"- keeps: at most {worlds['margin']:.2f} of accuracy behind the best single modality in each world, and above "
        "it when whole by intervals that do not overlap",
        *failed,
    ]


def world_cells(worlds: Mapping[str, Any], ours: str) -> tuple[list[str], list[list[str]]]:
    measured = ("accuracy", "f1")
    head = ["method"]
    for title in WORLDS.values():
        head += [*(f"{short(name)}, {title}, {ours}" for name in measured), f"single is ahead, {title}"]
    head.append("keeps")
    body = []
    for row in worlds["rows"]:
        cells = [row["label"]]
        for found in row["worlds"].values():
            done = found["status"] == "done"
            cells += [
                figure(found["metrics"][name]) if done else found["status"].upper() for name in measured
            ]
            cells.append("-" if found["behind"] is None else f"{found['behind']:+.4f}")
        body.append([*cells, {True: "yes", False: "no", None: "-"}[row["keeps"]]])
    single = ["best single modality"]
    for found in worlds["single"].values():
        single += ["-"] * 3 if found is None else [*(figure(found["metrics"][name]) for name in measured), ""]
    body.append([*single, ""])
    return head, body


def named(row: Mapping[str, Any]) -> str:
    """Label and name: FmFormer is the label of three rows."""
    return f"{row['label']} ({row['name']})"


def told(row: Mapping[str, Any]) -> str:
    return f"{row['label']} ({row['name']}, {INPUTS[row['inputs']]})"


def figure(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return "-"
    if value["low"] is None:
        return f"{value['value']:.4f}"
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def details(document: Mapping[str, Any]) -> list[str]:
    """What stands below the table, a line each."""
    data, seeds = document["data"], document["seeds"]
    recipe = (
        f"preset {document['preset']}, {document['epochs']} of the recipe's 30 epochs, "
        f"{part_of_samples(document['every'])}"
        + "".join(
            f", {name} {shown(value)} unless a model has its own"
            for name, value in document["recipe"].items()
        )
        + "".join(
            f", {key} {shown(document['changed'][key])}"
            for key in ("batch_size",)
            if key in document["changed"]
        )
    )
    lines = [
        f"measured on {document['measured_on']}: {data['test_samples']} {'train' if document['left_out'] else 'test'} "
        f"frames "
        f"{'(the last of each second) ' * (document['sample_set'] == 'per-second')}of "
        f"{', '.join(data['recordings'])}; fingerprint {data['fingerprint'][:12]}",
        f"{recipe}, protocol {window_text(document)}, seed {', '.join(map(str, seeds))}; "
        f"on {', '.join(document['devices'])}; "
        + ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
        left_out_text(document["left_out"]),
        "trained on the split fit, and of each row the epoch of lowest loss on val is scored (--validate); the paper "
        "trains on all training samples and takes the last epoch"
        if document["validate"]
        else "trained on all training samples, and the last epoch is scored, as in the paper (--no-validate)",
        INTERVAL_WORTH,
    ]
    lines = [line for line in lines if line]
    unbounded = {row["name"]: reason for row in document["rows"] if (reason := row["no_interval"])}
    if unbounded:
        lines.append(f"no intervals for {', '.join(unbounded)}: {'; '.join(sorted(set(unbounded.values())))}")
    if len(seeds) > 1:
        lines.append(OF_SEEDS)
        fewer = [row["name"] for row in document["rows"] if len(row["seeds"]) < len(seeds)]
        if fewer:
            lines.append(f"with seed {seeds[0]} alone: {', '.join(fewer)}")
    lines += [f"FAILED: {row['label']} ({row['name']}), seed {seed}: {error}"
              for row in document["rows"] for seed, error in row["errors"].items()]  # fmt: skip
    for status, text in (("not available", "this installation has no such model"), ("to do", "not made yet")):
        names = [row["name"] for row in document["rows"] if row["status"] == status]
        lines += [f"{status.upper()} ({text}): {', '.join(names)}"] if names else []
    behind = [
        f"{row['name']} (seed {', '.join(map(str, row['missing_seeds']))})"
        for row in document["rows"]
        if row["status"] == "done" and row["missing_seeds"]
    ]
    lines += [f"SEEDS NOT MADE YET: {'; '.join(behind)}"] if behind else []
    defaults = [row["name"] for row in document["rows"] if str(row["variant"]).startswith("default (")]
    if defaults:
        lines.append(f"default configuration, having none of this preset's name: {', '.join(defaults)}")
    lines += [f"{row['label']}: {row['note']}" for row in document["rows"] if row["note"]]
    lines += [f"{row['label']}: backbone {row['backbone']}" for row in document["rows"] if row["backbone"]]
    lines += warnings(document["rows"])
    if document["floor"]:
        trivial = [f"{name} {values['accuracy']:.4f}" for name, values in document["floor"].items()
                 if values["accuracy"] is not None]  # fmt: skip
        lines.append(f"accuracy without a model: {', '.join(trivial)}")
    for metric, counts in document["ordering"].items():
        if counts:
            lines.append(
                f"order by {short(metric)}: {counts['same']} of {counts['pairs']} pairs of rows stand as in the paper; "
                f"of the {counts['apart']} pairs whose intervals do not overlap, {counts['apart_same']}"
            )
    return lines + list(document["notes"])


def shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def window_text(document: Mapping[str, Any]) -> str:
    """The protocol by its name, and what of it is changed."""
    changed = [f"{key.removeprefix('protocol.')} {shown(value)}"
               for key, value in document["changed"].items() if key.startswith("protocol.")]  # fmt: skip
    return document["protocol"] + (f" with {', '.join(changed)}" if changed else "")


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a row with warnings; which trivial baselines a row does not beat is told by their names alone.

    A baseline that no finished row beats, as persistence often is, is told once.
    """
    beaten_by = {row["name"]: _baselines(row) for row in rows if row["status"] == "done"}
    every = list(next(iter(beaten_by.values()), [])) if len(beaten_by) > 1 else []
    common = [name for name in every if all(name in own for own in beaten_by.values())]
    lines = [f"every row here: {NOT_BETTER}{', '.join(common)}"] if common else []
    for row in rows:
        told = [text for text in row["warnings"] if BEATEN_BY not in text]
        own = [name for name in _baselines(row) if name not in common]
        if own:
            told.append(f"{NOT_BETTER}{', '.join(own)}")
        lines += [f"{row['label']} ({row['name']}): {text}" for text in told]
    return lines


def _baselines(row: Mapping[str, Any]) -> list[str]:
    """The trivial baselines that a row does not beat with some seed; each seed has its own figures."""
    told = (
        text.removeprefix(BEATEN_BY).split(":")[0].lower() for text in row["warnings"] if BEATEN_BY in text
    )
    return list(dict.fromkeys(told))


def plan_markdown(plan: Mapping[str, Any]) -> str:
    """What a dry run prints."""
    where = "FMF-Sim, simulated" if plan["data"]["simulated"] else "recordings"
    several = any("table" in step for step in plan["steps"])
    head = [
        *(["table"] if several else []),
        "row",
        "seed",
        "state",
        "configuration",
        "parameters",
        "epochs",
        "steps",
        "training",
        "prediction",
    ]
    body = [
        [
            *([str(step.get("table"))] if several else []),
            str(step["row"]),
            str(step["seed"]),
            str(step["state"]),
            str(step.get("variant", "-")),
            "-" if step.get("parameters") is None else f"{step['parameters']:,}",
            str(step.get("epochs", "-")),
            str(step.get("steps", "-")),
            duration(step.get("train_seconds")),
            duration(step.get("predict_seconds")),
        ]
        for step in plan["steps"]
    ]
    return "\n".join([
        f"{plan['title']}, {plan['size']}, store {plan['data']['name']} ({where}) -> {plan['out']}",
        "",
        *grid(head, body),
        "",
        *(f"backbone of {name}: {text}" for name, text in plan["backbones"].items()),
        f"about {duration(plan['estimated_seconds'])} in all; fitting without gradients is counted as one pass over "
        "its windows",
        plan["estimate"],
    ])  # fmt: skip


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *body)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in cells]  # fmt: skip
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def short(metric: str) -> str:
    return metric_of(metric).short


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
