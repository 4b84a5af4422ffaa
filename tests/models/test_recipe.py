"""Schedules, weight decay by groups, the moving average and early stopping.

Also tests fmfbench_models.training: average, step.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fmfbench
from fmfbench.errors import InputError
from fmfbench_models import create_model, list_models, load_checkpoint
from fmfbench_models.parts.losses import supervised_loss
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import registration
from fmfbench_models.training.average import WeightAverage
from fmfbench_models.training.runlog import read_log
from fmfbench_models.training.samples import abnormal_pixel_share
from fmfbench_models.training.step import decay_groups, make_optimiser
from fmfbench_models.training.train import train


def torch_rates(recipe, steps, scheduler):
    """The learning rate of each update, from one of torch's schedulers."""
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=recipe.lr)
    schedule = scheduler(optimiser)
    found = []
    for _ in range(recipe.epochs * steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


@pytest.mark.parametrize("steps", [1, 7])
def test_steps_are_those_of_multistep(steps):
    recipe = Recipe(epochs=9, lr=3e-3, lr_steps=(2, 5), lr_gamma=0.3)
    wanted = torch_rates(
        recipe, steps, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2 * steps, 5 * steps], 0.3)
    )
    np.testing.assert_allclose([recipe.rate(k, steps) for k in range(9 * steps)], wanted)


@pytest.mark.parametrize("steps", [1, 7])
def test_cosine_is_that_of_torch(steps):
    recipe = Recipe(epochs=9, lr=3e-3, schedule="cosine")
    wanted = torch_rates(recipe, steps, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 9 * steps))
    np.testing.assert_allclose([recipe.rate(k, steps) for k in range(9 * steps)], wanted, atol=1e-12)


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
def test_warm_up_rises_in_equal_steps_to_the_schedule(schedule):
    recipe = Recipe(epochs=6, lr=1.0, warmup=1.5, schedule=schedule, lr_steps=())
    rates = np.array([recipe.rate(k, 10) for k in range(60)])
    np.testing.assert_allclose(np.diff(rates[:15]), 1 / 15)
    assert rates[14] == 1.0
    assert (np.diff(rates[15:]) <= 0).all()
    assert (rates[-1] == 1.0) == (schedule == "steps")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"warmup": 3.0, "epochs": 3}, r"expected warmup of 0 or more and below epochs \(3\), got 3.0"),
        ({"warmup": -1.0}, "expected warmup of 0 or more"),
        ({"ema": 1.0}, r"expected ema in \[0, 1\), got 1.0"),
        ({"patience": -1}, "expected patience of 0 or more epochs, got -1"),
        ({"patience": 2, "validate": False}, "expected validate=true, whose loss patience waits for"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        Recipe(**wrong)


@pytest.mark.parametrize("name", [name for name in list_models() if registration(name).training != "fitted"])
def test_what_decays_is_matrices_and_kernels_alone(name):
    model = create_model(name, **registration(name).tiny)
    trainable = {key: value for key, value in model.named_parameters() if value.requires_grad}
    groups = decay_groups(model)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, trainable.values()))
    spared = {id(p) for group in groups if group.get("weight_decay") == 0.0 for p in group["params"]}
    for key, value in trainable.items():
        told = any(word in key for word in ("position", "token", "bias", "norm", "first"))
        if value.dim() < 2 or (told and "weight" not in key):
            assert id(value) in spared, key
        if value.dim() > 1 and key.endswith(
            ("linear.weight", "qkv.weight", "out.weight", "up.weight", "down.weight")
        ):
            assert id(value) not in spared, key


def test_decay_reaches_the_weights_alone_unless_all():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    for decay_all in (True, False):
        optimiser = make_optimiser(model, Recipe(decay_all=decay_all, weight_decay=0.5, lr=0.1))
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        for value in model.parameters():
            value.grad = torch.zeros_like(value)
        optimiser.step()
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
        assert moved == ({"0.weight", "0.bias", "1.weight"} if decay_all else {"0.weight"})


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_average_is_the_plain_recursion(decay):
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    average = WeightAverage(model, decay)
    expected = model.weight.detach().double().numpy().copy()
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.add_(torch.randn(3, 2))
        average.update(step)
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * model.weight.detach().double().numpy()
    own = model.weight.detach().clone()
    with average.applied():
        np.testing.assert_allclose(model.weight.detach().numpy(), expected, rtol=1e-4)
    assert torch.equal(model.weight, own)
    average.keep()
    np.testing.assert_allclose(model.weight.detach().numpy(), expected, rtol=1e-4)


NEW = {
    "epochs": 2,
    "batch_size": 16,
    "schedule": "cosine",
    "warmup": 0.5,
    "decay_all": False,
    "ema": 0.9,
    "validate": False,
}


def test_what_is_saved_is_the_average_and_a_killed_run_resumes_to_it(furnace_store, options, tmp_path):
    settings = {**options, **NEW}
    whole = train("fmformer", furnace_store, tmp_path / "whole", options=settings, device="cpu")
    state, last = load_file(whole / "state.safetensors"), load_file(whole / "last.safetensors")
    averages = {k.removeprefix("average."): v for k, v in state.items() if k.startswith("average.")}
    assert averages
    assert all(torch.equal(last[name], value) for name, value in averages.items())
    assert any(not torch.equal(last[name], state[f"model.{name}"]) for name in averages)

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    cut = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fmfbench_models.training.train.draw_curves", stop)  # the end of the first epoch
        with pytest.raises(Stop):
            train("fmformer", furnace_store, cut, options=settings, device="cpu", save_seconds=0.0)
    train("fmformer", furnace_store, cut, options=settings, device="cpu")
    resumed = load_file(cut / "last.safetensors")
    assert all(torch.equal(last[name], resumed[name]) for name in last)


def test_patience_ends_a_run_that_no_longer_improves(furnace_store, options, tmp_path):
    """With a rate so low that no weight changes, every epoch after the first is one without progress."""
    settings = {**options, "epochs": 9, "batch_size": 16, "lr": 1e-30, "patience": 2, "dense_task": False}
    run = train("fmformer", furnace_store, tmp_path / "run", options=settings, device="cpu")
    log = read_log(run / "log.jsonl")
    epochs = [line for line in log if line["kind"] == "epoch"]
    assert len({line["val_loss"] for line in epochs}) == 1
    assert len(epochs) == 3
    assert [line["waited"] for line in log if line["kind"] == "stopped"] == [2]


SMOOTHING = {
    name
    for name in list_models()
    if registration(name).training != "fitted"
    and name not in ("capture", "dcnn_svm", "ssfeggan", "st_mae", "tn_bcl")
}


@pytest.mark.parametrize("name", [name for name in list_models() if registration(name).training != "fitted"])
def test_models_with_the_shared_class_term_smooth_its_labels(name):
    assert create_model(name, **registration(name).tiny).smooths_labels == (name in SMOOTHING)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_labels_are_cross_entropy_against_soft_targets(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 2, generator=generator)
    label = torch.tensor([0, 1, 1, 255, 0, 1, 255])
    pixels = torch.randn(7, 2, 3, 4, generator=generator)
    mask = (torch.rand(7, 3, 4, generator=generator) < 0.5).to(torch.uint8)
    batch = {"class_label": label, "mask": mask}
    terms = supervised_loss(logits, pixels, batch, 2.0, smoothing)
    plain = supervised_loss(logits, pixels, batch, 2.0)
    known = label != 255
    target = nn.functional.one_hot(label[known], 2) * (1 - smoothing) + smoothing / 2
    wanted = -(target * logits[known].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(terms["class_loss"], wanted)
    assert torch.equal(terms["pixel_loss"], plain["pixel_loss"])
    torch.testing.assert_close(terms["loss"], terms["pixel_loss"] + 2 * wanted)


@pytest.mark.parametrize("name", ["late_fusion", "gated", "vit", "patchtst"])
def test_smoothing_is_of_training_alone(name):
    torch.manual_seed(0)
    model = create_model(name, **registration(name).tiny)
    config = model.meta.config
    batch = {"class_label": torch.tensor([0, 1, 1])}
    if model.modality != "current":
        batch["video"] = torch.randint(0, 256, (3, 3, config.get("num_frames", 4), 16, 24), dtype=torch.uint8)
    if model.modality != "visual":
        batch["current"] = 8000 + 300 * torch.randn(3, config["current_length"], 3)
    output = model(**model.takes(batch))
    plain = {mode: model.train(mode).objective(output, batch, 1.0)["loss"] for mode in (True, False)}
    model.label_smoothing = 0.4
    assert torch.equal(model.eval().objective(output, batch, 1.0)["loss"], plain[False])
    assert not torch.equal(model.train().objective(output, batch, 1.0)["loss"], plain[True])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("capture", {}, "label_smoothing: expected 0 for a model without the shared class term, got 0.1"),
        (
            "fmformer",
            {"class_task": False},
            "label_smoothing: expected 0 for a model without the shared class",
        ),
        ("boosting", {}, "label_smoothing: expected 0.0 for a model that no gradient trains, got 0.1"),
    ],
)
def test_models_without_that_term_refuse_it(name, options, told, furnace_store, tmp_path):
    asked = {"label_smoothing": 0.1, "protocol.num_frames": 4, **options}
    with pytest.raises(InputError, match=told):
        train(name, furnace_store, tmp_path / "run", options=asked, device="cpu")


def test_the_dense_head_starts_at_the_share_of_abnormal_pixels(furnace_store, tmp_path):
    data = fmfbench.open_dataset(furnace_store)
    ids = data.sample_ids("train")
    recording, frame = data.locate(ids)
    masks = [own.read_masks() for own in data.recordings.values()]
    whole = float(np.mean([masks[r][f].mean() for r, f in zip(recording, frame, strict=True)]))
    assert 0.001 < whole < 0.2
    share = abnormal_pixel_share(data, ids)
    assert share == pytest.approx(whole, rel=0.05)
    asked = {
        "mask_prior": True, "epochs": 1, "every": 50, "lr": 1e-12, "weight_decay": 0.0, "validate": False,
        "batch_size": 2, "protocol.num_frames": 4, "dim": 24, "depth": 1, "mlp_dim": 24, "decoder_channels": [8, 8, 8],
    }  # fmt: skip
    for name in ("vit", "fmformer"):
        run = train(name, furnace_store, tmp_path / name, options=asked, device="cpu")
        bias = load_checkpoint(run).decoder.out.bias.softmax(0)[1].item()
        assert bias == pytest.approx(abnormal_pixel_share(data, ids[::50]), rel=1e-3)
    with pytest.raises(InputError, match="mask_prior: expected 0 for a model without a dense head"):
        train("patchtst", furnace_store, tmp_path / "no", options={"mask_prior": True}, device="cpu")
