"""What every registered model must do. A new zoo file is picked up by its registration; nothing is listed
here.

Also tests fmfbench_models: checkpoint, interface.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import fields, is_dataclass
from fnmatch import fnmatch

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import (
    FitData,
    Output,
    create_model,
    export_onnx,
    list_models,
    load_checkpoint,
    model_info,
)
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import parse_config, registration

NAMES = list_models()
FITTED = [name for name in NAMES if registration(name).training != "gradient"]
FRAMES, HEIGHT, WIDTH, CURRENT = 4, 16, 24, 32

pytestmark = pytest.mark.parametrize("name", NAMES)


def sizes(name):
    """Lengths of the tiny model's input; what its configuration does not fix takes the suite's own."""
    tiny = registration(name).config(**parse(name))
    height, width = getattr(tiny, "size", (HEIGHT, WIDTH))
    return getattr(tiny, "num_frames", FRAMES), height, width, getattr(tiny, "current_length", CURRENT)


def parse(name):
    config = parse_config(registration(name).config, registration(name).tiny, what=name)
    return {item.name: getattr(config, item.name) for item in fields(config) if item.init}


def batch_of(name, size=3, seed=0):
    frames, height, width, length = sizes(name)
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=generator)
    current = 8000 + 2000 * torch.randn(size, length, 3, generator=generator)
    label = torch.arange(size) % 2
    mask = torch.zeros(size, height, width, dtype=torch.uint8)
    mask[:, : height // 2, : width // 2] = label[:, None, None].to(torch.uint8)
    # what a model can learn: abnormal frames are brighter at the marked pixels, abnormal currents lower
    video = torch.where(mask[:, None, None].bool(), video // 2 + 128, video // 2)
    current = current - 1500 * label[:, None, None]
    return {
        "video": video,
        "current": current,
        "video_valid": torch.ones(size, frames, dtype=torch.bool),
        "current_valid": torch.ones(size, length, dtype=torch.bool),
        "class_label": label.to(torch.uint8),
        "mask": mask,
        "sample_id": torch.arange(size),
    }


def tiny_model(name, seed=0):
    """The tiny model, trained parts fresh, fitted parts fitted."""
    torch.manual_seed(seed)
    model = create_model(name, **registration(name).tiny)
    if name in FITTED:
        model.fit(fit_data(name))
    return model


def fit_data(name):
    train = [batch_of(name, 8, seed) for seed in range(4)]
    held_out = [batch_of(name, 8, seed) for seed in range(4, 7)]
    validation = [batch_of(name, 8, seed) for seed in range(7, 10)]
    return FitData(train=train, held_out=held_out, validation=validation)


def run(model, batch):
    with torch.no_grad():
        return model.eval()(batch["video"], batch["current"])


def assert_same(one: Output, other: Output, **tolerance):
    for a, b in ((one.logits, other.logits), (one.pixel_logits, other.pixel_logits)):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def picked(output: Output, index) -> Output:
    return Output(*(None if t is None else t[index] for t in (output.logits, output.pixel_logits)))


def test_registration_is_complete(name):
    record = registration(name)
    assert is_dataclass(record.config)
    assert record.config.__dataclass_params__.frozen
    assert record.title
    assert record.source
    assert record.provenance
    assert not {item.name for item in fields(record.config)} & {item.name for item in fields(Recipe)}
    json.dumps([dict(record.tiny), {key: dict(value) for key, value in record.presets.items()}])
    for preset in record.presets:
        create_model(name, preset=preset, **record.tiny)


def test_info_agrees_with_the_model(name):
    info, model = model_info(name), create_model(name)
    assert (info.modality, info.dense, info.parameters) == (
        model.modality,
        model.dense,
        model.num_parameters(),
    )
    assert model.meta.name == info.name == name
    assert json.loads(json.dumps(model.meta.config)) == model.meta.config == info.config


def test_unknown_key_is_refused(name):
    with pytest.raises(InputError, match="got no_such_key"):
        create_model(name, no_such_key=1)


def test_shapes(name):
    model = tiny_model(name)
    _, height, width, _ = sizes(name)
    for size in (1, 3):
        output = run(model, batch_of(name, size))
        assert output.logits is not None or model.dense
        if output.logits is not None:
            assert output.logits.shape == (size, 2)
        assert (output.pixel_logits is not None) == model.dense
        if model.dense:
            assert output.pixel_logits.shape == (size, 2, height, width)
            assert output.masks().shape == (size, height, width)
        scores = output.scores()
        assert scores.shape == (size,)
        assert ((scores >= 0) & (scores <= 1)).all()


def test_ignores_the_other_modality(name):
    model, batch = tiny_model(name), batch_of(name)
    used = model.takes(batch)
    with torch.no_grad():
        assert_same(model.eval()(**used), run(model, batch))


def test_eval_twice_is_the_same(name):
    model, batch = tiny_model(name), batch_of(name)
    assert_same(run(model, batch), run(model, batch))


def test_samples_do_not_depend_on_each_other(name):
    model, batch = tiny_model(name), batch_of(name, 3)
    whole = run(model, batch)
    for i in range(3):
        alone = run(model, {key: value[i : i + 1] for key, value in batch.items()})
        assert_same(alone, picked(whole, slice(i, i + 1)), rtol=1e-4, atol=1e-5)


def test_float_and_uint8_frames_give_the_same(name):
    model, batch = tiny_model(name), batch_of(name)
    assert_same(run(model, batch), run(model, batch | {"video": batch["video"].float()}))


def test_float64_agrees_with_float32(name):
    model, batch = tiny_model(name), batch_of(name)
    single = run(model, batch)
    double = run(model.double(), batch)
    for a, b in ((single.logits, double.logits), (single.pixel_logits, double.pixel_logits)):
        if a is not None:
            assert b.dtype == torch.float64
            torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_input_gives_finite_output(name, value):
    model, batch = tiny_model(name), batch_of(name)
    batch["video"] = torch.full_like(batch["video"], value)
    batch["current"] = torch.full_like(batch["current"], 40.0 * value)
    output = run(model, batch)
    assert all(torch.isfinite(t).all() for t in (output.logits, output.pixel_logits) if t is not None)


def test_gradient_reaches_every_parameter_but_the_declared(name):
    record = registration(name)
    if record.training == "fitted":
        assert not any(value.requires_grad for value in create_model(name, **record.tiny).parameters())
        return
    torch.manual_seed(0)
    model, batch = create_model(name, **record.tiny).train(), batch_of(name, 8)
    model.objective(model(**model.takes(batch)), batch, 1.0)["loss"].backward()
    untouched = {
        key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().max() > 0
    }
    declared = {key for key in untouched if any(fnmatch(key, pattern) for pattern in record.without_gradient)}
    assert untouched == declared
    for pattern in record.without_gradient:
        assert any(fnmatch(key, pattern) for key in untouched), f"{pattern} is declared but has a gradient"


def test_learns_eight_windows(name):
    """Gradient-trained: the objective falls. Fitted: `fit` separates the planted rule. Both: one after the other."""
    batch = batch_of(name, 8, seed=11)
    training = registration(name).training
    if training == "fitted":
        assert_separates(tiny_model(name), batch)
        return
    torch.manual_seed(0)
    model = create_model(name, **registration(name).tiny).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model.objective(model(**model.takes(batch)), batch, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.5 * losses[0]
    if training == "both":
        model.fit(FitData(train=[batch], held_out=[batch], validation=[batch]))
        assert_separates(model, batch)
        return
    if model.modality != "visual" or model.dense:
        output = run(model, batch)
        if output.logits is not None:
            assert F.cross_entropy(output.logits, batch["class_label"].long()) < 0.69


def assert_separates(model, batch):
    scores, labels = run(model, batch).scores(), batch["class_label"].bool()
    assert scores[labels].mean() > scores[~labels].mean()


def test_save_and_load(name, tmp_path):
    model, batch = tiny_model(name), batch_of(name)
    model.input_norm.set_current([7000.0, 8000.0, 9000.0], [1500.0, 2000.0, 2500.0])
    save_checkpoint(tmp_path / "model.safetensors", model)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    assert loaded.meta.name == name
    assert loaded.meta.config == model.meta.config
    assert not loaded.training
    assert_same(run(model, batch), run(loaded, batch))


def test_onnx_equals_torch_or_says_why_not(name, tmp_path):
    """With whatever was fitted, and a free batch axis."""
    runtime = pytest.importorskip("onnxruntime")
    model, path = tiny_model(name).eval(), tmp_path / "model.onnx"
    frames, height, width, length = sizes(name)
    clip = {"num_frames": frames, "size": (height, width), "current_length": length}
    reason = model_info(name).no_onnx
    if reason:
        with pytest.raises(
            InputError, match=f"{name}: expected a model with an ONNX form.*{re.escape(reason)}"
        ):
            export_onnx(model, path, **clip)
        assert not path.exists()
        return
    export_onnx(model, path, **clip)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(model.takes(batch_of(name)))
    for size in (1, 2, 5):
        batch = batch_of(name, size, seed=size)
        with torch.no_grad():
            output = model(**model.takes(batch))
        found = session.run(None, {key: value.numpy() for key, value in model.takes(batch).items()})
        expected = [value for value in (output.logits, output.pixel_logits) if value is not None]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-4)


def test_what_is_not_valid_has_no_influence(name):
    """Where a model says so; all valid is as if nothing was said, and all of a modality may be lost."""
    model, batch = tiny_model(name), batch_of(name)
    _, _, _, length = sizes(name)
    assert set(model.takes(batch)) <= {"video", "current"}
    if not model.validity:
        assert not model.use_validity
        return
    model.use_validity = True
    with torch.no_grad():
        model.eval()
        plain = model(**model.takes(batch))
        said = {key: batch[key] for key in model.validity}
        assert_same(plain, model(**model.takes(batch), **said), rtol=1e-4, atol=1e-5)
        for lost in ("some", "all"):
            partly = dict(batch)
            other = dict(batch)
            if "video_valid" in model.validity:
                frames = torch.ones_like(batch["video_valid"])
                frames[:, : 2 if lost == "some" else None] = False  # whole tubelets
                partly["video_valid"] = other["video_valid"] = frames
                other["video"] = torch.where(
                    frames[:, None, :, None, None], batch["video"], 255 - batch["video"]
                )
            if "current_valid" in model.validity:
                steps = torch.ones_like(batch["current_valid"])
                steps[1:, : length // 2 if lost == "some" else None] = False
                partly["current_valid"] = other["current_valid"] = steps
                other["current"] = torch.where(steps[..., None], batch["current"], torch.zeros(()))
            masked = model(**model.takes(partly))
            assert_same(masked, model(**model.takes(other)), rtol=1e-4, atol=1e-5)
            parts = [value for value in (masked.logits, masked.pixel_logits) if value is not None]
            assert all(torch.isfinite(value).all() for value in parts)
            assert any(
                (a != b).any()
                for a, b in zip(
                    parts, [v for v in (plain.logits, plain.pixel_logits) if v is not None], strict=True
                )
            )


def trained(model, steps, optimiser):
    """State of the model after updates on the batches of `steps`, each with the random draws of its number."""
    for step in steps:
        torch.manual_seed(step)
        batch = batch_of(model.meta.name, 4, seed=step)
        loss = model.train().objective(model(**model.takes(batch)), batch, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return copy.deepcopy(model.state_dict())


def optimiser_of(model):
    return torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_resumes_from_the_state_between_two_steps(name):
    """All that training changes is in the state; what is fitted is the same when fitted again."""
    if registration(name).training != "gradient":
        assert_same_state(tiny_model(name).state_dict(), tiny_model(name).state_dict())
    if registration(name).training == "fitted":
        return
    torch.manual_seed(0)
    model = create_model(name, **registration(name).tiny)
    optimiser = optimiser_of(model)
    halfway = trained(model, range(2), optimiser), copy.deepcopy(optimiser.state_dict())
    whole = trained(model, range(2, 4), optimiser)
    torch.manual_seed(1)
    other = create_model(name, **registration(name).tiny)
    again = optimiser_of(other)
    other.load_state_dict(halfway[0])
    again.load_state_dict(halfway[1])
    assert_same_state(trained(other, range(2, 4), again), whole)


def test_masks_that_are_missing_are_not_learned_from(name):
    """Whatever stands where a window has no mask; and none at all may be there."""
    labelled = torch.tensor([True, False, True, False])
    for valid in (labelled, torch.zeros(4, dtype=torch.bool)):
        batch = batch_of(name, 4) | {"mask_valid": valid}
        other = batch | {"mask": torch.where(valid[:, None, None], batch["mask"], 1 - batch["mask"])}
        if name in FITTED:
            fitted = [tiny_model(name) for _ in range(2)]
            for model, shown in zip(fitted, (batch, other), strict=True):
                model.fit(FitData(train=[shown], held_out=[shown], validation=[shown]))
            assert_same(run(fitted[0], batch), run(fitted[1], batch))
        if registration(name).training == "fitted":
            continue
        terms = []
        for shown in (batch, other):
            torch.manual_seed(0)
            model = create_model(name, **registration(name).tiny).train()
            torch.manual_seed(1)
            terms.append(model.objective(model(**model.takes(shown)), shown, 1.0))
        assert all(torch.isfinite(value).all() for value in terms[0].values())
        assert terms[0].keys() == terms[1].keys()
        assert all(torch.equal(value, terms[1][key]) for key, value in terms[0].items())


@pytest.mark.parametrize("lost", ["video", "current"])
def test_a_window_that_lost_a_modality_is_still_judged(name, lost):
    """As `--corrupt video-missing` and `current-missing` show it; a model of the other modality sees no difference."""
    model, batch = tiny_model(name), batch_of(name)
    without = batch | {
        lost: torch.zeros_like(batch[lost]),
        f"{lost}_valid": torch.zeros_like(batch[f"{lost}_valid"]),
    }
    model.eval()
    for use in {False, bool(model.validity)}:
        model.use_validity = use
        with torch.no_grad():
            whole, output = model(**model.takes(batch)), model(**model.takes(without))
            assert_same(output, model(**model.takes(without)))
        assert torch.isfinite(output.scores()).all()
        assert ((output.scores() >= 0) & (output.scores() <= 1)).all()
        if model.modality == {"video": "current", "current": "visual"}[lost]:
            assert_same(output, whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bf16_on_a_gpu(name):
    model, batch = tiny_model(name).cuda(), {key: value.cuda() for key, value in batch_of(name).items()}
    with torch.autocast("cuda", torch.bfloat16):
        output = run(model, batch)
    assert all(torch.isfinite(t).all() for t in (output.logits, output.pixel_logits) if t is not None)
