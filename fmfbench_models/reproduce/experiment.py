"""What a table holds, as its file says: rows, the networks behind them, the sizes it can be made at."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from typing import Any

import torch

from fmfbench.errors import InputError
from fmfbench.windows.protocol import WindowProtocol, get_protocol
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import (
    Registration,
    create_model,
    list_models,
    model_info,
    parse_config,
    plain,
    registration,
)
from fmfbench_models.training.settings import has_token_decoder

__all__ = [
    "TABLES",
    "Experiment",
    "Preset",
    "Row",
    "Training",
    "changed_preset",
    "choose_rows",
    "load_experiment",
    "load_preset",
    "load_training",
    "preset_names",
    "variant_of",
]

TABLES = ("table2", "table3", "table4", "table5", "fig6")
RECIPE_EPOCHS = Recipe().epochs
WITH_A_FLAG = {
    "epochs": "--epochs",
    "every": "--every",
    "validate_every": "--every",
    "validate": "--validate",
}
NOT_SHARED = (
    "normal_only",
    "patience",
    "layer_drop",
    "label_smoothing",
)  # some models' trainings cannot follow
FEW_FRAMES = 4
FROM_DATA = ("num_frames", "size", "current_length")  # of a configuration: data and protocol decide these


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A size. variant: name of the models' own configurations, None for their defaults. epochs: of the recipe's 30.

    models: configurations that come before the models' own. few_frames: what of them is other in windows of four frames
    or fewer. options: keys of the recipe, for all models.
    recipe: keys of the recipe that all share; a model with a recipe of its own keeps its values.
    resamples: bootstrap resamples behind the intervals.
    changed: what a call has set that differs from the preset as it is, by key.
    """

    name: str
    title: str
    protocol: str
    epochs: int
    resamples: int
    variant: str | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    few_frames: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def windows(self) -> WindowProtocol:
        """How windows are cut."""
        own = {key: value for key, value in self.changed.items() if key.startswith("protocol.")}
        return get_protocol(self.protocol, **{key.removeprefix("protocol."): v for key, v in own.items()})

    @property
    def mark(self) -> str:
        """Names what is changed, in file names; "" where nothing is."""
        if not self.changed:
            return ""
        text = json.dumps([self.protocol, dict(sorted(self.changed.items()))], sort_keys=True)
        return f"-set{hashlib.sha256(text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network to train: a registered model and what of its configuration is changed."""

    name: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    run: the training whose model is scored; `fuse`: or two, whose logits are added. change: of the trained model's
    configuration, before it predicts. window: fields of the protocol to change when it predicts. paper: printed
    figures by metric; doubtful: why some of them cannot be right. main: made before the others.
    world: a preset of the robustness protocol, under which the same row is predicted; "" for windows as they are.
    """

    name: str
    label: str
    run: str = ""
    fuse: tuple[str, ...] = ()
    change: Mapping[str, Any] = field(default_factory=dict)
    window: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
    doubtful: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    main: bool = False
    world: str = ""

    @property
    def trainings(self) -> tuple[Training, ...]:
        return tuple(load_training(name) for name in self.fuse or (self.run or self.name,))

    def slug(self, runs: Mapping[str, str]) -> str:
        """What is predicted, as a file name: rows of several tables that ask for the same share it.

        runs: folder names of trainings, where they are not the trainings' own.
        """
        names = [runs.get(training.name, training.name) for training in self.trainings]
        changes = [f"{k}-{v}" for k, v in sorted({**self.change, **self.window}.items())]
        return "--".join([*names, *changes, *([self.world] if self.world else [])])

    def under(self, world: str) -> Row:
        """The same weights on windows that have lost something."""
        run = self.run or ("" if self.fuse else self.name)
        return replace(self, name=f"{self.name}@{world}", run=run, world=world, note="")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table: its rows in order, and the metrics it has. every_model: with all registered models.

    reference: of a figure, what the paper prints elsewhere: "source", lengths in s of "video" and "current", metrics.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    every_model: bool = False
    reference: Mapping[str, Any] | None = None

    @property
    def is_figure(self) -> bool:
        """Whether its rows are one model on windows of several lengths."""
        return all(set(row.window) & {"num_frames", "current_seconds"} for row in self.rows)


def read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("tables", name).read_text(encoding="utf-8"))


def load_experiment(name: str) -> Experiment:
    """The table `name`, registered models that it does not name added to it where it wants every model."""
    if name not in TABLES:
        raise InputError(f"reproduce: expected one of {', '.join(TABLES)} or all, got {name!r}")
    values = read_toml(f"{name}.toml")
    rows = [Row(**row | {"fuse": tuple(row.get("fuse", ()))}) for row in values.pop("rows")]
    metrics, notes = tuple(values.pop("metrics")), tuple(values.pop("notes", ()))
    experiment = Experiment(name=name, rows=tuple(rows), metrics=metrics, notes=notes, **values)
    return with_every_model(experiment) if experiment.every_model else experiment


def with_every_model(experiment: Experiment) -> Experiment:
    present = {training.model for row in experiment.rows for training in row.trainings}
    added = [
        Row(name=name, label=registration(name).title, note="not in the paper")
        for name in list_models()
        if name not in present
    ]
    return replace(experiment, rows=(*experiment.rows, *added))


def load_training(name: str) -> Training:
    known = read_toml("trainings.toml")
    return Training(name=name, **known[name]) if name in known else Training(name=name, model=name)


def preset_names() -> tuple[str, ...]:
    return tuple(read_toml("presets.toml"))


def load_preset(name: str) -> Preset:
    known = read_toml("presets.toml")
    if name not in known:
        raise InputError(f"reproduce: expected a preset of {', '.join(known)}, got {name!r}")
    return Preset(name=name, **known[name])


def changed_preset(
    preset: Preset, epochs: int, every: int | None, protocol: str | None, settings: Mapping[str, Any]
) -> Preset:
    """A preset with other windows or another shared recipe, for all rows alike.

    protocol: a named one in place of the preset's. settings: keys of the recipe, or protocol.KEY. A model with a recipe
    of its own keeps its values, but for batch_size. epochs, every: of the call, by which the recipe is checked.

    Raises:
        InputError: a key that is not the recipe's, that has an option of its own, or that not all models can follow; a
            value that does not hold.
    """
    if protocol is not None and protocol != preset.protocol:
        get_protocol(protocol)
        preset = replace(preset, protocol=protocol, changed={"protocol": protocol})
    windows = {key: value for key, value in settings.items() if key.startswith("protocol.")}
    shared = {key: value for key, value in settings.items() if key not in windows}
    known = set(Recipe.__dataclass_fields__)
    for key in shared:
        if key in WITH_A_FLAG:
            raise InputError(
                f"--set: expected {WITH_A_FLAG[key]}, which all recipes follow, in its place, got {key}"
            )
        if key in NOT_SHARED or key not in known:
            fitting = sorted(known - set(WITH_A_FLAG) - set(NOT_SHARED))
            raise InputError(
                f"--set: expected keys of the recipe that all models can follow ({', '.join(fitting)}) or "
                f"protocol.KEY, got {key}"
            )
    thinned = preset.options.get("every", 1) if every is None else every
    before = {**preset.recipe, **{key: v for key, v in preset.options.items() if key in known}}
    whole = parse_config(
        Recipe, {**before, **shared, "epochs": epochs, "every": thinned}, what="--set: recipe"
    )
    values = {key: plain(getattr(whole, key)) for key in shared}
    old = asdict(parse_config(Recipe, before, what="recipe"))
    changed = {key: value for key, value in values.items() if value != plain(old[key])}
    preset = replace(
        preset,
        options={**preset.options, **{key: changed[key] for key in ("batch_size",) if key in changed}},
        recipe={**preset.recipe, **{key: value for key, value in changed.items() if key != "batch_size"}},
        changed={**preset.changed, **windows, **changed},
    )
    usual = get_protocol(preset.protocol).to_dict()
    new = preset.windows.to_dict()  # checks them
    same = [f"protocol.{key}" for key in new if new[key] == usual[key]]
    return replace(preset, changed={key: value for key, value in preset.changed.items() if key not in same})


def choose_rows(experiment: Experiment, names: Sequence[str]) -> tuple[Row, ...]:
    """The rows to make, main ones first: all, or those of which the name or a model is among `names`."""
    known = {row.name for row in experiment.rows}
    known |= {training.model for row in experiment.rows for training in row.trainings}
    unknown = sorted(set(names) - known)
    if unknown:
        raise InputError(
            f"{experiment.name}: expected rows or models of {', '.join(sorted(known))}, got {', '.join(unknown)}"
        )
    wanted = [
        row
        for row in experiment.rows
        if not names or {row.name, *(training.model for training in row.trainings)} & set(names)
    ]
    return tuple(sorted(wanted, key=lambda row: not row.main))


def variant_of(record: Registration, preset: Preset) -> tuple[str, dict[str, Any]]:
    """(its name, the configuration) that a model has for a preset, without what the data decide."""
    if preset.variant is None:
        return "default", {}
    if record.name in preset.models:
        values = preset.models[record.name]
    elif preset.variant in record.presets:
        values = record.presets[preset.variant]
    elif preset.variant == "tiny":
        values = record.tiny
    else:
        return f"default (it has no {preset.variant})", {}
    if preset.windows.num_frames <= FEW_FRAMES:
        values = {**values, **preset.few_frames.get(record.name, {})}
    return preset.variant, {key: value for key, value in values.items() if key not in FROM_DATA}


def training_options(
    training: Training, preset: Preset, epochs: int, every: int | None = None
) -> dict[str, Any]:
    """Options of `train`: variant, preset, the recipe shortened to `epochs` of its 30, the training's own.

    every: of training and validation samples, in place of the preset's.
    """
    record = registration(training.model)
    _, config = variant_of(record, preset)
    base = parse_config(Recipe, record.recipe, what=f"{record.name}: recipe")

    def shortened(count: int) -> int:
        return max(1, round(count * epochs / RECIPE_EPOCHS))

    recipe = {"epochs": shortened(base.epochs), "lr_steps": [shortened(step) for step in base.lr_steps]}
    thinned = {} if every is None else {"every": every, "validate_every": every}
    shared = {
        key: value
        for key, value in preset.recipe.items()
        if key not in record.recipe and follows(training, key, config)
    }
    return {**config, **recipe, **shared, **preset.options, **training.options, **thinned}


def follows(training: Training, key: str, config: Mapping[str, Any]) -> bool:
    """Whether a key of the shared recipe says anything to a training: `rotate` not to one without gradients, say."""
    record = registration(training.model)
    if key in ("rotate", "balanced"):
        return record.training != "fitted" and not (key == "balanced" and record.recipe.get("normal_only"))
    if key == "mask_prior":
        with torch.device("meta"):
            return has_token_decoder(create_model(training.model, **{**config, **training.options}))
    if key == "modality_dropout":
        return training.options.get("modality", model_info(training.model).modality) == "both"
    return True
