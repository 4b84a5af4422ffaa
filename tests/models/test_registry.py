"""Other people's models: an installed package's entry point, and the card of ours.

Also tests fmfbench_models: card.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
import torch
from conftest_pages import blocks
from conftest_run import call, invoke

from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench_models import create_model, list_models, load_checkpoint, model_info, registry
from fmfbench_models.card import models_card, origin_kind
from fmfbench_models.registry import registration
from fmfbench_models.reproduce import reproduce

ROOT = Path(__file__).parents[2]


def tutorial_block(holding):
    """The code block of the tutorial that holds a text: what users are told is what is run here."""
    page = (ROOT / "docs" / "tutorials" / "own_model.md").read_text(encoding="utf-8")
    (found,) = [block.text for block in blocks(page) if holding in block.text]
    return found


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(code, target): as pip leaves a package that has an entry point."""

    def forget():
        registry._registrations.cache_clear()
        registry.model_info.cache_clear()

    def run(code, target="mypackage_mymodel:REGISTRATION"):
        site = tmp_path / "site"
        facts = site / "mypackage-1.0.dist-info"
        facts.mkdir(parents=True)
        (site / "mypackage_mymodel.py").write_text(code)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[fmfbench.models]\nmymodel = {target}\n")
        monkeypatch.syspath_prepend(site)
        forget()

    yield run
    monkeypatch.undo()
    sys.modules.pop("mypackage_mymodel", None)
    forget()


def test_the_tutorials_model_is_listed_trained_predicted_and_a_row_of_the_table(
    install, furnace_store, tmp_path
):
    code = tutorial_block("class MyModel")
    project = tomllib.loads(tutorial_block('fmfbench.models"]'))["project"]
    assert project["entry-points"]["fmfbench.models"] == {"mymodel": "mypackage.mymodel:REGISTRATION"}
    assert project["name"]
    assert project["version"]  # pip installs nothing without
    install(code)
    assert "mymodel" in list_models()
    assert model_info("mymodel").parameters == 3 * 440 * 96 + 96 + 2 * 96 + 2
    run, predictions = tmp_path / "run", tmp_path / "predictions.npz"
    # without validation, as in the tutorial: its store is as short beside what a window looks back
    small = ["--protocol", "short", "--set", "validate=false"]
    for arguments in (
        ["models", "mymodel"],
        ["train", "mymodel", "--data", furnace_store, "--out", run, "--epochs", "1", *small],
        ["predict", run, "--data", furnace_store, "-o", predictions, "--device", "cpu"],
    ):
        call(*arguments)
    assert load_checkpoint(run).meta.config == {"current_length": 40, "width": 96}
    assert len(read_predictions(predictions).score)
    found = reproduce(
        "table2", furnace_store, tmp_path / "out", models=["mymodel"], preset="tiny", device="cpu"
    )
    row = next(row for row in found["rows"] if row["name"] == "mymodel")
    assert (row["name"], row["label"], row["status"], row["inputs"]) == (
        "mymodel",
        "My model",
        "done",
        "current",
    )
    assert row["parameters"] == 3 * 40 * 24 + 24 + 2 * 24 + 2
    assert all(cell["paper"] is None for cell in row["metrics"].values())
    assert "My model" in (tmp_path / "out" / "table2-tiny-1ep.md").read_text()
    assert "mymodel" not in models_card()


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        (
            "REGISTRATION = 3",
            "mypackage_mymodel:REGISTRATION",
            "expected a Registration of fmfbench_models, got int",
        ),
        (
            "raise OSError('no licence\\nfound')",
            "mypackage_mymodel:REGISTRATION",
            "got OSError: no licence found; mend",
        ),
        ("", "mypackage_mymodel:REGISTRATION", "got AttributeError"),
        ("", "fmfbench_models.zoo.vit:REGISTRATION", "a model name that is free, got 'vit'"),
    ],
)
def test_what_an_entry_point_cannot_be_is_said_in_one_line(install, code, target, message):
    install(code, target)
    with pytest.raises(InputError, match=message) as caught:
        list_models()
    assert "\n" not in str(caught.value)
    assert target in str(caught.value)


def test_without_the_package_its_model_is_gone():
    assert "mymodel" not in list_models()
    with pytest.raises(InputError, match="got 'mymodel'"):
        registration("mymodel")


def test_a_model_works_in_a_loop_of_ones_own():
    model = create_model("vivit", num_frames=10, size=(64, 64), dim=24, depth=1, mlp_dim=48)
    assert isinstance(model, torch.nn.Module)
    output = model(torch.zeros(2, 3, 10, 64, 64, dtype=torch.uint8))
    assert output.logits.shape == (2, 2)
    assert output.pixel_logits.shape == (2, 2, 64, 64)
    output.logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", list_models())
def test_by_default_a_model_takes_and_gives_what_create_model_says(name):
    model, info = create_model(name).eval(), model_info(name)
    inputs = {
        "video": torch.randint(0, 256, (1, 3, 10, 64, 64), dtype=torch.uint8),
        "current": torch.full((1, 440, 3), 8000.0),
    }
    used = {name: value for name, value in inputs.items() if name in model.takes(inputs)}
    with torch.inference_mode():
        for given in (inputs, used):
            output = model(**given)
            assert output.logits.shape == (1, 2)
            assert (None if output.pixel_logits is None else output.pixel_logits.shape) == (
                (1, 2, 64, 64) if info.dense else None
            )


def test_the_card_is_what_the_code_says():
    assert (ROOT / "data_cards" / "models.md").read_text(encoding="utf-8") == models_card(), (
        "data_cards/models.md is older than the code: fmfbench models --card > data_cards/models.md"
    )
    assert invoke("models", "--card").stdout == models_card()


def test_the_card_has_every_model_and_every_part_of_it():
    card = models_card()
    for name in list_models():
        info = model_info(name)
        title = f"## {info.title}" + (" (re-interpretation)" if info.reinterpretation else "")
        section = card[card.index(f"{title}\n") :].removeprefix(title).split("\n## ")[0]
        assert info.provenance, f"{name} says nothing of its parts"
        for part, origin in info.provenance.items():
            assert f"| {part} | {origin_kind(origin)} | {origin} |" in section
        assert f"{info.parameters:,}" in next(line for line in card.splitlines() if f"`{name}`" in line)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("paper (abstract)", "paper"),
        ("official code", "official code"),
        ("choice (FmFormer's)", "choice"),
        ("FmFormer paper", "other source"),
        ("thuml/iTransformer", "other source"),
    ],
)
def test_the_first_words_say_what_a_part_follows(text, kind):
    assert origin_kind(text) == kind
