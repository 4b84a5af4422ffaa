"""All that decides a run: options sorted into recipe, configuration and protocol, and checked at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fmfbench.dataset import Dataset
from fmfbench.errors import InputError
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench_models.backbones import check_backbone_weights, trunk_of
from fmfbench_models.interface import Model
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import Registration, create_model, parse_config, plain, registration

__all__ = ["Settings", "make_settings"]

# Keys of the recipe that older run folders lack, with the value that these had: at that value they are left out.
LATER = {"validate_every": 1}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides a run's weights, as run.json has it. backbone: the file its trunk begins with, or None."""

    model: str
    config: dict[str, Any]
    recipe: Recipe
    protocol: WindowProtocol
    context: str
    seed: int
    fingerprint: str
    backbone: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        values = plain(asdict(self))
        recipe = values["recipe"].items()
        values["recipe"] = {k: v for k, v in recipe if k not in LATER or v != LATER[k]}
        if self.backbone is None:
            del values["backbone"]  # so it is in older folders
        return values


def make_settings(
    model: str,
    data: Dataset,
    *,
    options: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    context: str = "full",
    seed: int = 0,
    backbone_weights: str | os.PathLike[str] | None = None,
) -> Settings:
    """Sort options into recipe, configuration and protocol; lengths and sizes come from protocol and data.

    backbone_weights: a file for the model's trunk (see `backbones.load_backbone_weights`).
    """
    record = registration(model)
    options = dict(options or {})
    preset = options.pop("preset", None)
    overrides = {
        key.removeprefix("protocol."): options.pop(key)
        for key in list(options)
        if key.startswith("protocol.")
    }
    chosen = get_protocol(protocol or ("official" if preset == "official" else "paper"), **overrides)
    recipe_keys, config_keys = set(Recipe.__dataclass_fields__), set(record.config.__dataclass_fields__)
    unknown = sorted(set(options) - recipe_keys - config_keys)
    if unknown:
        raise InputError(
            f"{model}: unknown key {', '.join(unknown)}; the recipe has {', '.join(sorted(recipe_keys))}; "
            f"the model has {', '.join(sorted(config_keys))}"
        )
    recipe = parse_config(
        Recipe, dict(record.recipe) | {k: v for k, v in options.items() if k in recipe_keys}, what="recipe"
    )
    config = _sizes(record, data, chosen) | {k: v for k, v in options.items() if k in config_keys}
    with torch.device("meta"):  # says now what is wrong with it
        built = create_model(model, preset=preset, **config)
    return Settings(
        model=model,
        config=built.meta.config,
        recipe=recipe,
        protocol=chosen,
        context=context,
        seed=seed,
        fingerprint=data.fingerprint,
        backbone=None if backbone_weights is None else _backbone(built, Path(backbone_weights)),
    )


def _backbone(model: Model, path: Path) -> dict[str, str]:
    trunk = trunk_of(model)
    if trunk is None:
        raise InputError(
            f"{path}: wanted a model with a convolutional trunk to load backbone weights into, "
            f"{model.meta.name} has none; leave them out"
        )
    return check_backbone_weights(trunk, path)


def _sizes(record: Registration, data: Dataset, protocol: WindowProtocol) -> dict[str, Any]:
    shapes = {(recording.height, recording.width) for recording in data.recordings.values()}
    if len(shapes) != 1:
        found = ", ".join(f"{h} x {w}" for h, w in sorted(shapes)) or "none"
        raise InputError(
            f"{data.path}: wanted recordings of one frame size, found {found}; convert with --size"
        )
    height, width = shapes.pop()
    known = {
        "num_frames": protocol.num_frames,
        "size": [width, height] if protocol.transposed else [height, width],
        "current_length": protocol.num_current,
    }
    return {key: value for key, value in known.items() if key in record.config.__dataclass_fields__}
