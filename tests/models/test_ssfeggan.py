"""SSFEGGAN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest_zoo_cross import (
    labelled,
    random,
    tiny,
)
from torch.nn import functional as F

from fmfbench_models import Output, create_model, load_checkpoint
from fmfbench_models.checkpoint import read_tensors, save_checkpoint, write_tensors
from fmfbench_models.parts.current_features import current_features
from fmfbench_models.zoo import ssfeggan


def test_loss_values_of_equal_logits():
    logits = torch.zeros(1, 2, dtype=torch.float64)
    assert ssfeggan.log_real(logits).exp().item() == pytest.approx(2 / 3, abs=1e-12)
    assert -ssfeggan.log_real(logits).item() == pytest.approx(0.405465, abs=1e-6)
    assert -ssfeggan.log_generated(logits).item() == pytest.approx(1.098612, abs=1e-6)


def test_discriminator_is_a_softmax_with_a_third_logit_at_zero():
    logits = 3 * random(50, 2)
    with_third = F.log_softmax(torch.cat([logits, torch.zeros(50, 1, dtype=torch.float64)], 1), 1)
    torch.testing.assert_close(ssfeggan.log_generated(logits), with_third[:, 2])
    torch.testing.assert_close(ssfeggan.log_real(logits), with_third[:, :2].logsumexp(1))
    far = torch.tensor([[800.0, 0.0], [-800.0, -900.0]])
    assert torch.isfinite(ssfeggan.log_real(far)).all()
    assert torch.isfinite(ssfeggan.log_generated(far)).all()


def test_a_constant_on_the_logits_changes_who_is_real_but_no_class():
    logits, labels = random(6, 2), torch.arange(6) % 2
    shifted = logits + 1.5
    torch.testing.assert_close(
        ssfeggan.labelled_cross_entropy(shifted, labels), ssfeggan.labelled_cross_entropy(logits, labels)
    )
    assert (ssfeggan.log_real(shifted) > ssfeggan.log_real(logits)).all()


def test_cross_entropy_of_the_labelled():
    logits, labels = random(4, 2), torch.tensor([0, 255, 1, 255])
    expected = F.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(ssfeggan.labelled_cross_entropy(logits, labels), expected)
    assert ssfeggan.labelled_cross_entropy(logits, torch.full((4,), 255)) == 0


def gradients(model, loss, part):
    names, values = zip(*getattr(model, part).named_parameters(), strict=True)
    found = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def play(**config):
    model = tiny("ssfeggan", **config).double().train()
    batch = labelled(8)
    torch.manual_seed(1)
    output = model(**model.takes(batch))
    return model, batch, output, model.objective(output, batch, 1.0)


def test_all_labels_and_no_adversary_is_a_plain_classifier():
    model, batch, output, terms = play(unsupervised=0.0)
    plain = F.cross_entropy(output.logits, batch["class_label"])
    torch.testing.assert_close(terms["loss"], plain)
    got, expected = (gradients(model, loss, "discriminator") for loss in (terms["loss"], plain))
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("weighting", ["fixed", "balanced"])
def test_each_network_plays_its_own_game(weighting):
    """The gradients are those of L_D and L_G apart, each to its own network."""
    model, _, _, terms = play(
        weighting=weighting, unsupervised=0.3
    )  # so that a weight in the wrong place shows
    unlabelled = terms["real_loss"] + terms["generated_loss"]
    l_d = terms["class_loss"] + 0.3 * terms.get("balance", 1.0) * unlabelled
    torch.testing.assert_close(terms["loss"], l_d)
    for part, own in (("discriminator", l_d), ("generator", terms["generator_loss"])):
        got, expected = gradients(model, terms["loss"], part), gradients(model, own, part)
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-12)
    assert all(value is None for value in gradients(model, l_d, "generator").values())
    assert all(value is None for value in gradients(model, terms["generator_loss"], "discriminator").values())


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_terms_without_labels_pull_no_harder_than_the_labels(scale):
    """However far the features have grown, the two gradients stand in the ratio `unsupervised` at most."""
    model = tiny("ssfeggan", unsupervised=0.5).double().train()
    assert model.config.weighting == "balanced"
    with torch.no_grad():
        model.discriminator.classify.weight.mul_(scale)
    batch = labelled(8)
    torch.manual_seed(1)
    terms = model.objective(model(**model.takes(batch)), batch, 1.0)

    def length(loss):
        return torch.stack([g.norm() for g in gradients(model, loss, "discriminator").values()]).norm()

    labels, rest = length(terms["class_loss"]), length(terms["real_loss"] + terms["generated_loss"])
    assert terms["balance"] == pytest.approx(min(1.0, (labels / rest).item()))
    assert not terms["balance"].requires_grad
    adversarial = terms["loss"] - terms["class_loss"] - terms["generator_loss"]
    assert length(adversarial) <= 0.5 * labels * (1 + 1e-9)


def test_no_label_in_a_batch_leaves_the_network_alone():
    """Nothing to hold the other terms to: they have no weight, and nothing divides by 0."""
    model = tiny("ssfeggan").double().train()
    batch = labelled(4)
    output = model(**model.takes(batch))
    batch["class_label"] = torch.full_like(batch["class_label"], 255)
    terms = model.objective(output, batch, 1.0)
    assert terms["class_loss"] == terms["balance"] == 0
    assert torch.isfinite(terms["loss"])


def test_local_contrast_is_what_a_frame_differs_by_from_its_surroundings():
    from scipy.ndimage import uniform_filter

    image = random(2, 3, 20, 31)
    found = ssfeggan.local_contrast(image)
    side, inside = ssfeggan.NEIGHBOURHOOD, (slice(None), slice(None), slice(4, -4), slice(4, -4))
    around = uniform_filter(image.numpy(), size=(1, 1, side, side))
    expected = (image.numpy() - around)[inside]
    got = found.numpy()[inside]
    for frame in range(2):  # up to one deviation for each frame
        ratio = got[frame] / expected[frame]
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.square().mean((1, 2, 3)), 1.0, rtol=1e-3)
    lit = ssfeggan.local_contrast(
        0.5 * image + torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)[:, None, None]
    )
    torch.testing.assert_close(lit, found, rtol=0, atol=3e-3)
    flat = ssfeggan.local_contrast(torch.full((1, 3, 16, 24), 0.7))
    assert flat.abs().max() < 1e-4


def test_checkpoints_from_before_mean_what_they_meant(tmp_path):
    """A file whose configuration does not speak of the contrast saw frames as they are."""
    model = tiny("ssfeggan", contrast="none", weighting="fixed").eval()
    tensors, facts = read_tensors(save_checkpoint(tmp_path / "new.safetensors", model))
    old = {key: value for key, value in facts["config"].items() if key not in ("contrast", "weighting")}
    write_tensors(tmp_path / "old.safetensors", tensors, {**facts, "config": old})
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    assert (loaded.config.contrast, loaded.config.weighting) == ("none", "fixed")
    batch = labelled(3)
    torch.testing.assert_close(loaded(**loaded.takes(batch)).logits, model(**model.takes(batch)).logits)


def test_cnn_mlp_and_both_outputs_of_the_generator_receive_gradient():
    model, _, _, terms = play()
    for part, names in (("discriminator", ("image", "current", "fuse")), ("generator", ("image", "current"))):
        found = gradients(model, terms["loss"], part)
        for branch in names:
            weights = [value for name, value in found.items() if name.startswith(branch) and value.dim() > 1]
            assert weights
            assert all(value.abs().max() > 0 for value in weights)


def test_feature_matching_is_zero_when_the_real_batch_is_generated(monkeypatch):
    model, batch, _, terms = play()
    assert terms["generator_loss"] > 0
    image = model.input_norm.video(batch["video"][:, :, -1])
    features = current_features(model.input_norm.current(batch["current"]))
    monkeypatch.setattr(model.generator, "forward", lambda z: (image, features))
    terms = model.objective(model(**model.takes(batch)), batch, 1.0)
    assert terms["generator_loss"] < 1e-20
    one, other = random(5, 3), random(5, 3, seed=1)
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum()
    torch.testing.assert_close(ssfeggan.feature_matching(one, other), expected)


def test_part_of_the_labels_shows():
    """The same samples throughout; evaluation sees all."""
    model = tiny("ssfeggan", label_share=0.5).train()
    batch = labelled(200)
    logits = random(200, 2, dtype=torch.float32)
    zeros = torch.zeros(200, 4)
    aux = {"real_features": zeros, "generated_features": zeros, "generated_logits": logits}
    found = [
        model.objective(
            Output(logits[rows], None, {key: value[rows] for key, value in aux.items()}),
            {key: batch[key][rows] for key in ("class_label", "sample_id")},
            1.0,
        )["class_loss"]
        for rows in (slice(0, 200), torch.arange(199, -1, -1))
    ]
    torch.testing.assert_close(*found)
    single = [
        model.objective(
            Output(logits[i : i + 1], None, {key: value[:1] for key, value in aux.items()}),
            {key: batch[key][i : i + 1] for key in ("class_label", "sample_id")},
            1.0,
        )["class_loss"]
        for i in range(200)
    ]
    shown = torch.stack(single) > 0
    assert 70 < shown.sum() < 130
    torch.testing.assert_close(found[0], F.cross_entropy(logits[shown], batch["class_label"][shown]))
    assert not torch.isclose(found[0], F.cross_entropy(logits, batch["class_label"]))
    evaluated = model.objective(Output(logits), batch, 1.0)
    torch.testing.assert_close(evaluated["loss"], F.cross_entropy(logits, batch["class_label"]))


def test_generator_makes_what_the_discriminator_reads():
    for config in ({}, {"size": [32, 48], "channels": [8, 16]}):
        model = create_model("ssfeggan", **config).eval()
        with torch.no_grad():
            image, features = model.generator(torch.randn(2, 100))
        assert image.shape == (2, 3, *model.config.size)
        assert features.shape == (2, 24)
        assert image.abs().max() <= 1


def test_generator_learns_to_be_like_the_data():
    """Its mean current features move to those of the data while the discriminator looks on."""
    model = tiny("ssfeggan", unsupervised=0.0).train()
    batch = labelled(16)
    batch["current"] = batch["current"] + 4000
    model.discriminator.requires_grad_(False)
    optimiser = torch.optim.Adam(model.generator.parameters(), lr=3e-3)
    matching = []
    for step in range(60):
        torch.manual_seed(step)
        terms = model.objective(model(**model.takes(batch)), batch, 1.0)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        matching.append(terms["generator_loss"].item())
    assert np.mean(matching[-5:]) < 0.2 * np.mean(matching[:5])
