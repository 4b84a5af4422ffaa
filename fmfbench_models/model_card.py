"""The model card of a run: what it is, how it was trained, what it takes and gives, and what nobody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fmfbench
from fmfbench.errors import FmfbenchError, InputError
from fmfbench.files.markdown import table
from fmfbench_models.card import cell, origin_kind
from fmfbench_models.checkpoint import load_checkpoint
from fmfbench_models.interface import Model
from fmfbench_models.registry import ModelInfo, model_info

__all__ = ["run_card"]

_SIMULATED = (
    "**Trained on FMF-Sim, which is simulated: no figure of this model says anything about a real furnace or about "
    "the benchmark.**"
)
_UNKNOWN = "not known"


def run_card(run: Path) -> str:
    """The model card of a run folder, Markdown with the YAML that the Hugging Face Hub reads.

    Raises:
        InputError: no run folder, or one without a checkpoint.
    """
    try:
        facts: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{run}: expected a run folder of `fmfbench train`, got one without run.json"
        ) from None
    model = load_checkpoint(run)
    meta, info = model.meta, model_info(model.meta.name)
    told = meta.provenance
    simulated = _simulated(facts, told)
    lines = [
        *_front_matter(info, simulated),
        "",
        f"# {info.title}, trained by fmfbench",
        "",
        *([_SIMULATED, ""] if simulated else []),
        *(
            [
                "A re-interpretation: the method's publication or code could not be had; figures are not "
                "that method's.",
                "",
            ]
            if info.reinterpretation
            else []
        ),
        *table(("", ""), _summary(facts, told, info, model, simulated)),
        "",
        "## What it takes and gives",
        "",
        _inputs(info, meta.protocol, model.dense),
        "",
        "```python",
        "from fmfbench_models import load_checkpoint",
        "",
        f'model = load_checkpoint("{run.name}")  # called with the batches of `make_loader` as they come',
        "```",
        "",
        "## Training",
        "",
        *table(
            ("setting", "value"),
            [(key, cell(_plain(value))) for key, value in told.get("recipe", {}).items()],
        ),
        "",
        *_validation(told),
        "## Configuration",
        "",
        *table(("field", "value"), [(key, cell(_plain(value))) for key, value in meta.config.items()]),
        "",
        "## Where its parts come from",
        "",
        *table(
            ("part", "follows", "in full"),
            [(cell(part), origin_kind(text), cell(text)) for part, text in info.provenance.items()],
        ),
        "",
        "## Uses and limits",
        "",
        "Research on anomaly detection at a fused magnesium furnace. It has seen the recordings named "
        "above alone: nothing "
        "says how it does at another furnace. It must not guard people on its own. Its figures on a test "
        "split are those "
        "of `fmfbench score`, with their intervals, and stand in no card.",
        "",
    ]
    return "\n".join(lines)


def _front_matter(info: ModelInfo, simulated: bool | None) -> list[str]:
    lines = [
        "---",
        "library_name: fmfbench",
        "license: unknown",
        "pipeline_tag: video-classification",
        "tags:",
    ]
    lines += ["- anomaly-detection", "- multimodal", f"- {info.name}"]
    return [*lines, *(["- simulated"] if simulated else []), "---"]


def _simulated(facts: Mapping[str, Any], told: Mapping[str, Any]) -> bool | None:
    """Whether it was trained on simulated data; None where an older run does not say and its store is gone."""
    data = told.get("data", {})
    if isinstance(data.get("simulated"), bool):
        return bool(data["simulated"])
    try:
        store = fmfbench.open_dataset(str(facts.get("data", "")))
        return store.simulated if store.fingerprint == data.get("fingerprint") else None
    except (FmfbenchError, OSError):
        return None


def _summary(
    facts: Mapping[str, Any],
    told: Mapping[str, Any],
    info: ModelInfo,
    model: Model,
    simulated: bool | None,
) -> list[tuple[str, str]]:
    data = told.get("data", {})
    kind = {True: "FMF-Sim, simulated: ", False: "", None: "whether simulated is not recorded: "}[simulated]
    seconds, device = facts.get("train_seconds"), facts.get("device")
    trained = told.get("trained", {})
    backbone = told.get("backbone")
    rows = {
        "method": info.source,
        "name": f"`{info.name}`",
        "parameters": f"{model.num_parameters():,}",
        "trained on": f"{kind}store {data.get('name', _UNKNOWN)}, fingerprint `{data.get('fingerprint', _UNKNOWN)}`",
        "training samples": str(told.get("samples", {}).get("training", _UNKNOWN)),
        "epochs, steps": f"{trained.get('epochs', _UNKNOWN)}, {trained.get('steps', _UNKNOWN)}",
        "finished": "yes" if facts.get("finished") else "no: this is the state after the last whole epoch",
        "training time": _UNKNOWN if seconds is None else f"{seconds:,.0f} s on {device}",
        "seed": str(told.get("seed", _UNKNOWN)),
        "context": str(told.get("context", _UNKNOWN)),
        "recipe": "the shared one"
        if told.get("recipe_name", "shared") == "shared"
        else "of the original publication",
        "trunk": _UNKNOWN if backbone is None else ", ".join(f"{k} {v}" for k, v in backbone.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in told.get("versions", {}).items())
        or _UNKNOWN,
        "licence of these weights": "not stated by whoever trained them; the program is MIT",
    }
    if backbone is None:
        del rows["trunk"]
    if "calibration" in told:
        rows["calibration"] = (
            "on {samples} validation samples: temperature {temperature:.4g}, threshold {threshold:.6g} "
            "by rule {rule}".format(**told["calibration"])
        )
    return [(name, cell(value)) for name, value in rows.items()]


def _inputs(info: ModelInfo, protocol: Mapping[str, Any] | None, dense: bool) -> str:
    takes = {
        "both": "Video (B,3,T,H,W) uint8 and three-phase current (B,Tc,3) in A",
        "visual": "Video (B,3,T,H,W) uint8",
        "current": "Three-phase current (B,Tc,3) in A",
    }[info.modality]
    window = ""
    if protocol:
        window = (
            f" Windows of protocol {protocol['name']}: {protocol['num_frames']} frames, each "
            f"{protocol['stride']} after the "
            f"one before, and {protocol['current_seconds']:g} s of current at {protocol['current_hz']:g} "
            "Hz, ending at the "
            "judged frame."
        )
    gives = "logits of normal and abnormal" + (
        ", and logits of each pixel of the last frame" if dense else ""
    )
    return f"{takes}, normalised inside the model; out come {gives}.{window}"


def _validation(told: Mapping[str, Any]) -> list[str]:
    found = {k: v for k, v in told.get("trained", {}).items() if k.startswith("val_")}
    if not found:
        return ["Nothing was held out for validation: the weights are those of the last epoch.", ""]
    rows = [
        (key.removeprefix("val_"), f"{value:.4f}") for key, value in found.items() if isinstance(value, float)
    ]
    return [
        "On the validation part of the train split, after the epoch that was kept:",
        "",
        *table(("", ""), rows),
        "",
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
