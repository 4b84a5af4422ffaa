"""Models by name.

Each file of `zoo` states one `REGISTRATION`; others' packages add theirs by an entry point.

[project.entry-points."fmfbench.models"]
mymodel = "mypackage.mymodel:REGISTRATION"
"""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

import torch

from fmfbench.errors import InputError
from fmfbench.files.wording import did_you_mean
from fmfbench_models.interface import Meta, Modality, Model

__all__ = [
    "TINY_CLIP",
    "TINY_CURRENT",
    "TINY_DECODER",
    "TINY_ENCODER",
    "ModelInfo",
    "Registration",
    "create_model",
    "list_models",
    "model_info",
    "parse_config",
    "registration",
]


# What `tiny` of many a model is put together from: the input's sizes, an encoder's, the dense head's.
TINY_CLIP: dict[str, Any] = {"num_frames": 4, "size": [16, 24]}
TINY_CURRENT: dict[str, Any] = {"current_length": 32}
TINY_ENCODER: dict[str, Any] = {"dim": 24, "depth": 1, "mlp_dim": 48}
TINY_DECODER: dict[str, Any] = {"decoder_channels": [24, 16, 8]}


@dataclass(frozen=True, kw_only=True)
class Registration:
    """All that the rest of the package knows of a model before it is built.

    name: as in `create_model`. title: as tables print it. modality, dense: of the default configuration.
    config: a frozen, keyword-only dataclass of JSON values and tuples. Where the model depends on them it
    has the
        fields num_frames, size (H, W), current_length: training sets these from the data.
    build: config -> Model.
    tiny: configuration of the smallest useful size (width 24, depth 1, frames of 16 x 24, 32 current values):
        what tests train.
    training: "gradient", "fitted" (only `Model.fit`), or "both" (gradients first, then `fit`).
    held_out: share of the training samples, the last ones in time, that gradient training leaves to `fit`.
    without_gradient: patterns (fnmatch) of parameters that no gradient of the objective reaches, in `tiny`.
    presets: named configurations. recipe: what differs from the shared training recipe (see `recipe.Recipe`).
    original_recipe: how the publication or its code trained, as far as keys of the recipe say it; None where no source
        of it could be had. original_recipe_without: what of it they do not say.
    source: the publication. provenance: part -> "paper", "official code", another source, or "choice".
    no_onnx: why the model has no ONNX form; empty where it has one.
    before: what a checkpoint means that lacks these keys of the configuration, as it was written before they were.
    reinterpretation: its publication could not be had, so it is ours in its spirit; said wherever its
    numbers stand.
    """

    name: str
    title: str
    modality: Modality
    dense: bool
    config: type[Any]
    build: Callable[[Any], Model]
    tiny: Mapping[str, Any]
    source: str
    provenance: Mapping[str, str]
    training: Literal["gradient", "fitted", "both"] = "gradient"
    held_out: float = 0.0
    without_gradient: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    original_recipe: Mapping[str, Any] | None = None
    original_recipe_without: str = ""
    no_onnx: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    reinterpretation: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One line of `fmfbench models`. parameters: of the default configuration. no_onnx: see `Registration`."""

    name: str
    title: str
    modality: Modality
    dense: bool
    parameters: int
    training: str
    no_onnx: str
    reinterpretation: bool
    source: str
    provenance: dict[str, str]
    presets: tuple[str, ...]
    config: dict[str, Any]


@cache
def _registrations() -> dict[str, Registration]:
    from fmfbench_models import zoo

    found: dict[str, Registration] = {}
    for module in pkgutil.iter_modules(zoo.__path__):
        record = getattr(importlib.import_module(f"{zoo.__name__}.{module.name}"), "REGISTRATION", None)
        if isinstance(record, Registration):
            found[record.name] = record
    for point in entry_points(group="fmfbench.models"):
        try:
            record = point.load()
        except Exception as error:  # another package's code: whatever is wrong with it, say whose it is
            reason = " ".join(str(error).split())
            raise InputError(
                f"entry point {point.value}: expected a Registration, got {type(error).__name__}: {reason}; "
                f"mend or uninstall that package"
            ) from error
        if not isinstance(record, Registration):
            kind = type(record).__name__
            raise InputError(
                f"entry point {point.value}: expected a Registration of fmfbench_models, got {kind}"
            )
        if record.name in found:
            raise InputError(
                f"entry point {point.value}: expected a model name that is free, got {record.name!r}; choose another"
            )
        found[record.name] = record
    return dict(sorted(found.items()))


def list_models() -> list[str]:
    """Sorted names of all models, those of installed entry points among them.

    Example:
        >>> from fmfbench_models import list_models
        >>> "fmformer" in list_models()
        True
    """
    return list(_registrations())


def registration(name: str) -> Registration:
    """The registration of a model; an unknown name is an InputError that lists the known ones."""
    try:
        return _registrations()[name]
    except KeyError:
        known = list_models()
        raise InputError(
            f"model: expected one of {', '.join(known)}, got {name!r}{did_you_mean(name, known)}"
        ) from None


@cache
def model_info(name: str) -> ModelInfo:
    """What is known of a model by its name; its parameters are counted without allocating them.

    Example:
        >>> from fmfbench_models import model_info
        >>> info = model_info("fmformer")
        >>> info.modality, info.dense
        ('both', True)
    """
    record = registration(name)
    with torch.device("meta"):
        model = record.build(record.config())
    return ModelInfo(
        name=record.name,
        title=record.title,
        modality=record.modality,
        dense=record.dense,
        parameters=model.num_parameters(),
        training=record.training,
        no_onnx=record.no_onnx,
        reinterpretation=record.reinterpretation,
        source=record.source,
        provenance=dict(record.provenance),
        presets=tuple(record.presets),
        config=plain(asdict(record.config())),
    )


def create_model(name: str, *, preset: str | None = None, **config: Any) -> Model:
    """Build a model with fresh weights: the defaults, or a preset, changed by what is named in `config`.

    It is a plain `nn.Module` for any training loop: `model(video=..., current=...)` with video (B, 3, T, H, W) uint8 or
    float, 0..255, RGB, oldest frame first, and current (B, Tc, 3) in A, oldest row first, gives an `Output` of logits
    (B, 2) and, where `model.dense`, pixel_logits (B, 2, H, W) of the last frame; column 1 is abnormal. What a model of
    one modality does not use is ignored and may be left out. By default T = 10, H = W = 64, Tc = 440; a configuration
    with the keys num_frames, size or current_length fixes these. `model.objective(output, batch, alpha)["loss"]` is
    what fmfbench minimises; models whose `model_info(name).training` is not "gradient" want `model.fit` too.

    Unknown keys and values of a wrong kind are an InputError. Facts are in `.meta`.

    Example:
        >>> import torch
        >>> from fmfbench_models import create_model
        >>> model = create_model("informer", current_length=32, dim=24, depth=1)
        >>> model(current=torch.zeros(2, 32, 3)).logits.shape
        torch.Size([2, 2])
    """
    record = registration(name)
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in record.presets:
            known = ", ".join(record.presets) or "none"
            raise InputError(f"{name}: expected a preset of [{known}], got {preset!r}")
        values.update(record.presets[preset])
    parsed = parse_config(record.config, values | config, what=name)
    model = record.build(parsed)
    model.meta = Meta(
        name=name,
        config=plain(asdict(parsed)),
        modality=model.modality,
        dense=model.dense,
        normalisation=model.input_norm.describe(),
        provenance={
            "source": record.source,
            "parts": dict(record.provenance),
            "reinterpretation": record.reinterpretation,
        },
    )
    return model


def parse_config(kind: type[Any], values: Mapping[str, Any], *, what: str) -> Any:
    """An instance of the frozen dataclass `kind` from plain values, each brought to its field's type or refused."""
    hints = typing.get_type_hints(kind)
    known = [item.name for item in fields(kind) if item.init]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{what}: expected keys of {', '.join(sorted(known))}, got {', '.join(unknown)}")
    parsed = {key: _parse_value(hints[key], value, where=f"{what}: {key}") for key, value in values.items()}
    return kind(**parsed)


_SCALARS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}


def _parse_value(kind: Any, value: Any, *, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in args:
            raise _wrong(where, "one of " + ", ".join(map(str, args)), value)
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (arg for arg in args if arg is not type(None))
        return _parse_value(inner, value, where=where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, "a list", value)
        inner_kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner_kinds) != len(value):
            raise _wrong(where, f"{len(inner_kinds)} values", value)
        pairs = zip(inner_kinds, value, strict=True)
        return tuple(_parse_value(inner, item, where=where) for inner, item in pairs)
    accepted, wanted = _SCALARS[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(where, wanted, value)
    return kind(value)


def _wrong(where: str, wanted: str, value: Any) -> InputError:
    return InputError(f"{where}: expected {wanted}, got {value!r}")


def plain(value: Any) -> Any:
    """The JSON form of a configuration: tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
