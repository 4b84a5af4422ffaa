"""A table as one JSON document: our figures with their intervals, the paper's beside them, and what to know of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from fmfbench.scoring.provenance import backbone_text
from fmfbench.windows.protocol import WindowProtocol
from fmfbench_models.registry import list_models, model_info, registration
from fmfbench_models.reproduce.experiment import Experiment, Row, variant_of
from fmfbench_models.reproduce.work import Work, device_name
from fmfbench_models.reproduce.worlds import LOST, build_worlds
from fmfbench_models.training.folder import versions

__all__ = ["build_document", "part_of_samples"]

SIMULATED = (
    "SIMULATED DATA: our figures are measured on FMF-Sim, the paper's on the real recordings. They stand side by side "
    "to compare orders of methods, not figures; no figure here says anything about the real benchmark."
)
REAL = (
    "The paper's figures are of its own split of the authors' recordings; ours are of the store named above. They are "
    "comparable if it holds the released pixel-level set with its own split."
)

Results = Mapping[tuple[str, int], Mapping[str, Any] | None]


def build_document(
    experiment: Experiment, asked: set[str], work: Work, seeds: Sequence[int], results: Results
) -> dict[str, Any]:
    """asked: names of the rows that this call is to make; the others show what earlier calls found."""
    worlds_asked = {f"{name}@{world}" for name in asked for world in LOST}
    rows = [
        build_row(row, experiment.metrics, work, of_seeds(results, row.name, seeds), asked)
        for row in experiment.rows
    ]
    lost = {
        (row.name, world): build_row(
            under, experiment.metrics, work, of_seeds(results, under.name, seeds), worlds_asked
        )
        for row in experiment.rows
        for world in LOST
        if (under := row.under(world)) and of_seeds(results, under.name, seeds)
    }
    done = [found for found in results.values() if found and found["status"] == "done"]
    devices = sorted({found["device"] for found in done}) or [device_name(work.device)]
    kind = "FMF-Sim, simulated" if work.simulated else "recordings"
    every = work.every or work.preset.options.get("every", 1)
    size = work.preset.title + ("" if work.every is None else f", trained on {part_of_samples(every)}")
    size += ", scored once a second" if work.per_second else ""
    size += ", one recording left out at a time" if work.loro else ""
    return {
        "schema": 1,
        "table": experiment.name,
        "title": f"{experiment.title}: {size}, store {work.data.name} ({kind}), {', '.join(devices)}",
        "preset": work.preset.name,
        "epochs": work.epochs,
        "every": every,
        "recipe": dict(work.preset.recipe),
        "validate": work.validate,
        "sample_set": "per-second" if work.per_second else "every frame",
        "left_out": [fold.removeprefix("loro:") for fold in work.folds],
        "seeds": list(seeds),
        "measured_on": f"{'FMF-Sim (simulated)' if work.simulated else 'recordings'}, store {work.data.name}",
        "paper_on": "the real recordings",
        "notice": SIMULATED if work.simulated else REAL,
        "data": {
            "name": work.data.name,
            "fingerprint": work.data.fingerprint,
            "simulated": work.simulated,
            "recordings": list(work.data.recordings),
            "test_samples": work.num_test,
        },
        "protocol": work.preset.protocol,
        "window": work.preset.windows.to_dict(),
        "changed": dict(work.preset.changed),
        "devices": devices,
        "versions": versions(),
        "metrics": list(experiment.metrics),
        "rows": rows,
        "worlds": build_worlds(rows, lost),
        "floor": done[0]["score"]["floor"] if done else None,
        "ordering": {metric: ordering(rows, metric) for metric in ("accuracy", "miou")},
        "notes": list(experiment.notes),
        "picture": work.place.table(experiment.name, "png").name if experiment.is_figure else None,
        "reference": experiment.reference,
        "trained_lengths": lengths(work.preset.windows),
    }


def of_seeds(results: Results, name: str, seeds: Sequence[int]) -> dict[int, Mapping[str, Any] | None]:
    """What is known of a row by seed, of the seeds that it is to be made with."""
    return {seed: results[name, seed] for seed in seeds if (name, seed) in results}


def part_of_samples(every: int) -> str:
    return "all training samples" if every == 1 else f"one training sample in {every}"


def build_row(
    row: Row,
    metrics: Sequence[str],
    work: Work,
    found: Mapping[int, Mapping[str, Any] | None],
    asked: set[str],
) -> dict[str, Any]:
    done = {seed: value for seed, value in found.items() if value and value["status"] == "done"}
    failed = {seed: value["error"] for seed, value in found.items() if value and value["status"] == "failed"}
    backbone = next((value["backbone"] for value in done.values()), None)
    missing = [seed for seed, value in found.items() if value is None]
    if any(value and value["status"] == "not available" for value in found.values()):
        status = "not available"
    elif failed:
        status = "failed"
    elif missing and not done:
        status = "to do" if row.name in asked else "not asked for"
    else:
        status = "done"
    return {
        "name": row.name,
        "label": label(row, work),
        **describe_models(row, work),
        "status": status,
        "length": length(row, work),
        "errors": {str(seed): error for seed, error in failed.items()},
        "metrics": {
            metric: joined([value["score"] for value in done.values()], metric)
            | {"paper": row.paper.get(metric), "doubtful": row.doubtful.get(metric)}
            for metric in metrics
        },
        "no_interval": next((text for value in done.values() if (text := no_interval(value["score"]))), None),
        "folds": by_fold([value["score"] for value in done.values()]) if work.loro else None,
        "worst_recording": worst([value["score"] for value in done.values()]),
        "parameters": next((value["parameters"] for value in done.values()), None),
        "train_seconds": total(done.values(), "train_seconds"),
        "predict_seconds": total(done.values(), "predict_seconds"),
        "latency_ms": next(
            (ms for value in done.values() if (ms := value.get("latency_ms")) is not None), None
        ),
        "seeds": sorted(found),
        "missing_seeds": missing,
        "backbone": backbone_text(backbone),
        "first_weights": backbone["weights"] if isinstance(backbone, Mapping) else None,
        "warnings": sorted({text for value in done.values() for text in value["score"]["warnings"]}),
        "per_seed": {
            str(seed): {"metrics": value["score"]["metrics"], "intervals": value["score"]["intervals"]}
            for seed, value in done.items()
        },
        "ece": next((cell for value in done.values() if (cell := calibration_error(value["score"]))), None),
        "note": row.note,
    }


def lengths(protocol: WindowProtocol) -> dict[str, float]:
    """Seconds of video, from the first frame to the last, and of current."""
    return {
        "video": protocol.frame_lag_ns(protocol.num_frames - 1) / 1e9,
        "current": protocol.num_current / protocol.current_hz,
    }


def length(row: Row, work: Work) -> dict[str, Any] | None:
    """Which of a window's lengths a row sets, and to how many seconds."""
    of = {"num_frames": "video", "current_seconds": "current"}
    for field in row.window.keys() & of.keys():
        changed = replace(work.preset.windows, **row.window)
        return {"of": of[field], "seconds": lengths(changed)[of[field]]}
    return None


def label(row: Row, work: Work) -> str:
    """A row's own words; of one that sets how many frames, with the seconds that these span in this protocol."""
    own = length(row, work)
    if own is None or own["of"] != "video":
        return row.label
    return f"video {own['seconds']:.2f} s ({row.window['num_frames']} frames)"


def describe_models(row: Row, work: Work) -> dict[str, Any]:
    names = [training.model for training in row.trainings]
    if not set(names) <= set(list_models()):
        return {"models": names, "inputs": None, "variant": None, "reinterpretation": None}
    modalities = {
        str(training.options.get("modality", model_info(training.model).modality))
        for training in row.trainings
    }
    return {
        "models": names,
        "inputs": modalities.pop() if len(modalities) == 1 else "both",
        "variant": ", ".join({variant_of(registration(name), work.preset)[0]: None for name in names}),
        "reinterpretation": any(registration(name).reinterpretation for name in names),
    }


def joined(scores: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """The mean over seeds, and the span of the seeds' intervals."""
    values = [score["metrics"][metric] for score in scores if score["metrics"][metric] is not None]
    spans = [score["intervals"][metric] for score in scores]
    known = [(span["low"], span["high"]) for span in spans if span["low"] is not None]
    if not values:
        return {"value": None, "low": None, "high": None}
    return {
        "value": sum(values) / len(values),
        "low": min((low for low, _ in known), default=None),
        "high": max((high for _, high in known), default=None),
    }


def calibration_error(score: Mapping[str, Any]) -> dict[str, Any] | None:
    """Expected calibration error with its interval; None where a score does not know it."""
    found = score.get("calibration") or {}
    if found.get("ece") is None:
        return None
    span = found["intervals"].get("ece") or {}
    return {"value": found["ece"], "low": span.get("low"), "high": span.get("high")}


def no_interval(score: Mapping[str, Any]) -> str | None:
    """Why figures of a score have no interval, where one has none."""
    spans = [score["intervals"][name] for name, value in score["metrics"].items() if value is not None]
    return next((str(span["reason"]) for span in spans if span["low"] is None), None)


def by_fold(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Recording left out -> accuracy and F1 on it, means over the seeds."""
    found: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(name for score in scores for name in score["recordings"]):
        found[name] = {}
        for metric in ("accuracy", "f1"):
            values = [score["recordings"][name]["metrics"][metric] for score in scores]
            known = [value for value in values if value is not None]
            found[name][metric] = sum(known) / len(known) if known else None
    return found


def worst(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The recording with the lowest accuracy, of all seeds."""
    known = [
        (value["metrics"]["accuracy"], name)
        for score in scores
        for name, value in score["recordings"].items()
        if value["metrics"]["accuracy"] is not None
    ]
    if not known:
        return None
    accuracy, name = min(known)
    return {"recording": name, "accuracy": accuracy}


def total(results: Any, key: str) -> float | None:
    values = [value[key] for value in results]
    return None if not values or None in values else sum(values)


def ordering(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, int] | None:
    """How many pairs of rows stand in the paper's order; of those, the pairs that our intervals tell apart."""
    known = [
        value
        for row in rows
        if row["status"] == "done" and (value := row["metrics"].get(metric))
        if value["value"] is not None and value["paper"] is not None
    ]
    counts = {"rows": len(known), "pairs": 0, "same": 0, "apart": 0, "apart_same": 0}
    for a, b in combinations(known, 2):
        if a["paper"] == b["paper"] or a["value"] == b["value"]:
            continue
        same = (a["paper"] > b["paper"]) == (a["value"] > b["value"])
        counts["pairs"] += 1
        counts["same"] += same
        if None not in (a["low"], b["low"]) and (a["low"] > b["high"] or b["low"] > a["high"]):
            counts["apart"] += 1
            counts["apart_same"] += same
    return counts if counts["pairs"] else None
