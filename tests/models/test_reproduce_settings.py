"""`fmfbench reproduce --set KEY=VALUE --protocol NAME`: other windows and another shared recipe, for all rows alike.

Also tests fmfbench_models.reproduce.experiment.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from conftest_reproduce import SIZE, TINY, rows_of
from fmfbench_cli.main import main

from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench_models.registry import create_model, list_models, model_info
from fmfbench_models.reproduce import Campaign, document, plan, reproduce
from fmfbench_models.reproduce.experiment import (
    changed_preset,
    load_experiment,
    load_preset,
    load_training,
    training_options,
)
from fmfbench_models.training.settings import make_settings

SET = {"batch_size": 8, "rotate": True, "modality_dropout": 0.25, "protocol.num_frames": 2}
NAMES = ["unicoder_vl", "itransformer", "expert"]


@pytest.fixture(scope="module")
def made(sim_store, tmp_path_factory):
    """By the command, beside a table of the preset as it is."""
    out = tmp_path_factory.mktemp("settings") / "out"
    reproduce("table2", sim_store, out, models=["expert"], worlds=False, **TINY)
    arguments = ["reproduce", "table2", "--data", sim_store, "--out", out, "--models", ",".join(NAMES)]
    arguments += ["--preset", "tiny", "--device", "cpu", "--no-worlds"]
    arguments += [part for key, value in SET.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return out


def test_all_rows_are_trained_and_judged_as_it_says(made):
    (size,) = [path for path in (made / "runs").iterdir() if path.name != SIZE]
    assert size.name.startswith(f"{SIZE}-set")
    facts = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in size.glob("*/seed0/run.json")
    }  # fmt: skip
    assert set(facts) == set(NAMES)
    for name, run in facts.items():
        assert run["protocol"]["num_frames"] == 2, name
        assert run["protocol"]["stride"] == 4, name
        assert run["recipe"]["batch_size"] == 8, name
    # what says nothing to a model is left out of its recipe: one modality cannot lose another, nothing rotates in a fit
    assert facts["unicoder_vl"]["recipe"]["modality_dropout"] == 0.25
    assert facts["unicoder_vl"]["recipe"]["rotate"] is True
    assert "modality_dropout" not in facts["itransformer"]["recipe"]
    assert facts["itransformer"]["recipe"]["rotate"] is True
    assert "rotate" not in facts["expert"]["recipe"]
    for name in NAMES:
        path = made / "predictions" / size.name / f"{name}-seed0.npz"
        assert read_predictions(path).meta["protocol_fields"]["num_frames"] == 2


def test_the_table_says_what_was_set_and_the_other_table_stands(made):
    (path,) = [path for path in made.glob("table2-*.md") if SIZE + "-set" in path.name]
    text = path.read_text()
    assert "protocol short with num_frames 2, seed 0" in text
    assert "rotate true unless a model has its own" in text
    assert "modality_dropout 0.25 unless a model has its own" in text
    assert ", batch_size 8" in text
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["changed"] == SET
    assert found["window"]["num_frames"] == 2
    assert found["trained_lengths"]["video"] == pytest.approx(0.16)
    other = json.loads((made / f"table2-{SIZE}.json").read_text())
    assert (other["changed"], other["window"]["num_frames"]) == ({}, 4)
    assert rows_of(other)["expert"]["status"] == "done"
    assert rows_of(other)["unicoder_vl"]["status"] == "not asked for"


def test_what_the_preset_has_already_is_the_same_work(made, sim_store):
    steps = plan(
        "table2",
        sim_store,
        made,
        models=["expert"],
        worlds=False,
        protocol="short",
        settings={"batch_size": 16, "protocol.num_frames": 4, "rotate": False},
        **TINY,
    )
    assert [step["state"] for step in steps["steps"]] == ["done"]
    assert steps["size"] == SIZE


def test_names_of_files_differ_with_what_is_set():
    tiny = load_preset("tiny")
    marks = [
        changed_preset(tiny, 1, None, protocol, settings).mark
        for protocol, settings in [
            (None, {}),
            (None, {"batch_size": 8}),
            (None, {"batch_size": 4}),
            (None, {"protocol.num_frames": 8}),
            ("paper", {}),
            ("paper", {"protocol.num_frames": 8}),
            (None, {"protocol.num_frames": 8, "batch_size": 8}),
        ]
    ]
    assert marks[0] == ""
    assert len(set(marks)) == len(marks)
    both = [{"batch_size": 8, "lr": 0.01}, {"lr": 0.01, "batch_size": 8}]
    assert len({changed_preset(tiny, 1, None, None, settings).mark for settings in both}) == 1


@pytest.mark.parametrize("frames", [2, 4])
def test_every_nano_model_takes_few_frames(sim_store, frames):
    """64 x 64 would be too slow to draw: the sizes of its windows are stated."""
    preset = changed_preset(load_preset("nano"), 6, None, None, {"protocol.num_frames": frames})
    for name in list_models():
        options = training_options(load_training(name), preset, 6)
        config = {key: value for key, value in options.items() if key in model_info(name).config}
        known = {"num_frames": frames, "size": [64, 64], "current_length": 440}
        sizes = {key: value for key, value in known.items() if key in model_info(name).config}
        with torch.device("meta"):
            create_model(name, **config, **sizes)
    ten = training_options(load_training("tubevit"), load_preset("nano"), 6)
    assert "tubes" not in ten


def test_a_model_with_a_recipe_of_its_own_keeps_its_values():
    preset = changed_preset(load_preset("tiny"), 2, None, None, {"lr": 0.5, "flip": 0.25, "batch_size": 4})
    ours = training_options(load_training("vit"), preset, 2)
    assert (ours["lr"], ours["flip"], ours["batch_size"]) == (0.5, 0.25, 4)
    theirs = training_options(load_training("st_mae"), preset, 2)
    assert "lr" not in theirs
    assert "flip" not in theirs
    assert theirs["batch_size"] == 4


def test_every_row_takes_all_that_can_be_set(sim_store):
    import fmfbench

    data = fmfbench.open_dataset(sim_store)
    settings = {
        "batch_size": 4, "lr": 0.01, "lr_steps": [1], "lr_gamma": 0.5, "alpha": 0.5, "optimiser": "adam",
        "betas": [0.8, 0.9], "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.5, "decay_all": False, "ema": 0.5,
        "flip": 0.1, "jitter": 0.1, "shift": 1, "current_jitter": 0.1, "shuffle_phases": True, "modality_dropout": 0.1,
        "clip": 1.0, "rotate": True, "balanced": True, "mask_prior": True,
    }  # fmt: skip
    preset = changed_preset(load_preset("tiny"), 3, None, None, settings)
    work = Campaign(data=data, out="not-written", preset="tiny", epochs=3, settings=settings, device="cpu")
    for part in work.parts:
        for row in part.rows:
            for training in row.trainings:
                found = part.work.settings(training, 0).recipe
                assert found.batch_size == 4
                assert found.epochs == make_settings(
                    training.model, data, options=training_options(training, preset, 3), protocol="short"
                ).recipe.epochs  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": {"epochs": 3}}, "--set: expected --epochs, .*got epochs"),
        ({"settings": {"every": 3}}, "--set: expected --every, .*got every"),
        ({"settings": {"validate": True}}, "--set: expected --validate, .*got validate"),
        ({"settings": {"normal_only": True}}, "expected keys of the recipe that all models can follow"),
        ({"settings": {"layer_drop": 0.1}}, "expected keys of the recipe that all models can follow"),
        ({"settings": {"dim": 8}}, r"\(alpha, balanced, .*or protocol.KEY, got dim"),
        ({"settings": {"batch_size": 0}}, "expected batch_size of 1 or more, got 0"),
        ({"settings": {"lr": "fast"}}, "lr"),
        ({"settings": {"protocol.frames": 3}}, "expected fields of .*num_frames.*, got frames"),
        ({"settings": {"protocol.num_frames": 0}}, "expected num_frames and stride of at least 1"),
        ({"settings": {"protocol.num_frames": "many"}}, "num_frames: expected int, got .many."),
        ({"protocol": "long"}, "protocol: expected one of paper, official, short, got 'long'"),
        ({"settings": {"rotate": True}, "every": 1}, "expected every above 1 with rotate"),
    ],
)
def test_what_cannot_be_set_is_bad_input(changed, message, sim_store, tmp_path):
    arguments = {"data": sim_store, "out": tmp_path / "out", **TINY, **changed}
    with pytest.raises(InputError, match=message):
        reproduce("table2", **arguments)
    with pytest.raises(InputError, match=message):
        Campaign(**arguments).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "video"),
    [
        ({}, ["0.16 s (2 frames)", "0.48 s (4 frames)"]),
        ({"protocol.stride": 36}, ["1.44 s (2 frames)", "4.32 s (4 frames)"]),
        ({"protocol.stride": 12, "protocol.video_hz": 12.5}, ["0.96 s (2 frames)", "2.88 s (4 frames)"]),
    ],
)
def test_a_row_of_fig_6_has_the_seconds_of_its_own_windows(settings, video):
    """Frames further apart span more seconds."""
    work = SimpleNamespace(preset=changed_preset(load_preset("nano"), 6, None, None, settings))
    labels = [document.label(row, work) for row in load_experiment("fig6").rows]
    assert labels[:2] == [f"video {text}" for text in video]
    assert labels[7:9] == ["current 20 s", "current 60 s"]
    row = load_experiment("table2").rows[0]
    assert document.label(row, work) == row.label
