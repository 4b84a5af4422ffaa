"""All that decides a run: options sorted into recipe, configuration and protocol, and checked at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from fmfbench.data import Dataset
from fmfbench.errors import InputError
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench_models.interface import Model
from fmfbench_models.parts.backbones import check_backbone_weights, trunk_of
from fmfbench_models.parts.blocks import TokenDecoder
from fmfbench_models.parts.layer_drop import trunks
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import (
    Registration,
    create_model,
    list_models,
    parse_config,
    plain,
    registration,
)

__all__ = ["Settings", "has_token_decoder", "make_settings", "without_later"]

# Keys of the recipe that older run folders lack, with the value that these had: at that value they say nothing.
LATER = {
    "validate_every": 1,
    "shift": 0,
    "validate": True,
    "current_jitter": 0.0,
    "shuffle_phases": False,
    "modality_dropout": 0.0,
    "schedule": "steps",
    "warmup": 0.0,
    "decay_all": True,
    "ema": 0.0,
    "patience": 0,
    "layer_drop": 0.0,
    "label_smoothing": 0.0,
    "mask_prior": False,
    "rotate": False,
    "balanced": False,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides a run's weights, as run.json has it.

    backbone: the file its trunk begins with, or None. recipe_name: "shared", or "original" for the publication's own.
    fold: of the train samples that is left out (`loro:NAME`, `kfold:I/K`), or None.
    """

    model: str
    config: dict[str, Any]
    recipe: Recipe
    protocol: WindowProtocol
    context: str
    seed: int
    fingerprint: str
    backbone: dict[str, str] | None = None
    recipe_name: str = "shared"
    fold: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return without_later(plain(asdict(self)))

    def differing(self, found: Mapping[str, Any]) -> list[str]:
        """Names of what is other in the settings of a run folder, which may be an older one."""
        own, found = self.to_dict(), without_later(found)
        return sorted(item.name for item in fields(self) if found.get(item.name) != own.get(item.name))


def without_later(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as older versions would have written them, where these could."""
    defaults = {"backbone": None, "recipe_name": "shared", "fold": None}
    kept = {k: v for k, v in settings.items() if k not in defaults or v != defaults[k]}
    recipe = kept.get("recipe", {}).items()
    return kept | {"recipe": {k: v for k, v in recipe if k not in LATER or v != LATER[k]}}


def make_settings(
    model: str,
    data: Dataset,
    *,
    options: Mapping[str, Any] | None = None,
    protocol: str | WindowProtocol | None = None,
    context: str = "full",
    seed: int = 0,
    backbone_weights: str | os.PathLike[str] | None = None,
    fold: str | None = None,
) -> Settings:
    """Sort options into recipe, configuration and protocol; lengths and sizes come from protocol and data.

    The option "recipe" is "shared" (the default) or "original"; keys of the recipe change either.

    backbone_weights: a file for the model's trunk (see `backbones.load_backbone_weights`).
    fold: as `samples.train_split` spells it.
    """
    record = registration(model)
    options = dict(options or {})
    preset, recipe_name = options.pop("preset", None), options.pop("recipe", "shared")
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
            f"{model}: expected keys of the recipe ({', '.join(sorted(recipe_keys))}) or the model "
            f"({', '.join(sorted(config_keys))}), got {', '.join(unknown)}"
        )
    recipe = parse_config(
        Recipe,
        named_recipe(record, recipe_name) | {k: v for k, v in options.items() if k in recipe_keys},
        what="recipe",
    )
    config = _sizes(record, data, chosen) | {k: v for k, v in options.items() if k in config_keys}
    with torch.device("meta"):  # says now what is wrong with it
        built = create_model(model, preset=preset, **config)
    if recipe.modality_dropout and built.modality != "both":
        raise InputError(
            f"{model}: modality_dropout: expected 0 for a model of one modality, got {recipe.modality_dropout:g}; "
            f"it would lose all that it sees"
        )
    _check_recipe(built, record, recipe)
    return Settings(
        model=model,
        config=built.meta.config,
        recipe=recipe,
        protocol=chosen,
        context=context,
        seed=seed,
        fingerprint=data.fingerprint,
        backbone=None if backbone_weights is None else _backbone(built, Path(backbone_weights)),
        recipe_name=recipe_name,
        fold=fold,
    )


def _check_recipe(built: Model, record: Registration, recipe: Recipe) -> None:
    """InputError for keys that this model's training could not follow."""
    by_gradients = {
        "layer_drop": (recipe.layer_drop, bool(trunks(built)), "a trunk of residual blocks"),
        "label_smoothing": (recipe.label_smoothing, built.smooths_labels, "the shared class term"),
        "mask_prior": (recipe.mask_prior, has_token_decoder(built), "a dense head that is a TokenDecoder"),
        "rotate": (recipe.rotate, True, ""),
        "balanced": (recipe.balanced, True, ""),
    }
    for key, (value, possible, what) in by_gradients.items():
        if value and record.training == "fitted":
            raise InputError(
                f"{record.name}: {key}: expected {type(value)()} for a model that no gradient trains, got {value}"
            )
        if value and not possible:
            raise InputError(f"{record.name}: {key}: expected 0 for a model without {what}, got {value:g}")


def has_token_decoder(model: Model) -> bool:
    return any(isinstance(module, TokenDecoder) for module in model.modules())


def named_recipe(record: Registration, name: object) -> dict[str, Any]:
    """Keys of the recipe that differ from the shared one's."""
    if name == "shared":
        return dict(record.recipe)
    if name != "original":
        raise InputError(f"{record.name}: recipe: expected shared or original, got {name!r}")
    if record.original_recipe is None:
        known = ", ".join(name for name in list_models() if registration(name).original_recipe is not None)
        raise InputError(
            f"expected a model whose sources give a recipe of its own, got {record.name} (FmFormer's is the "
            f"shared one); models with one: {known}"
        )
    return dict(record.original_recipe)


def _backbone(model: Model, path: Path) -> dict[str, str]:
    trunk = trunk_of(model)
    if trunk is None:
        raise InputError(
            f"{path}: expected a model with a convolutional trunk to load backbone weights into, "
            f"got {model.meta.name}, which has none; leave them out"
        )
    return check_backbone_weights(trunk, path)


def _sizes(record: Registration, data: Dataset, protocol: WindowProtocol) -> dict[str, Any]:
    shapes = {(recording.height, recording.width) for recording in data.recordings.values()}
    if len(shapes) != 1:
        found = ", ".join(f"{h} x {w}" for h, w in sorted(shapes)) or "none"
        raise InputError(
            f"{data.path}: expected recordings of one frame size, got {found}; convert with --size"
        )
    height, width = shapes.pop()
    known = {
        "num_frames": protocol.num_frames,
        "size": [width, height] if protocol.transposed else [height, width],
        "current_length": protocol.num_current,
    }
    return {key: value for key, value in known.items() if key in record.config.__dataclass_fields__}
