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

from fmfbench_models import Output, create_model
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


def test_each_network_plays_its_own_game():
    """The gradients are those of L_D and L_G apart, each to its own network."""
    model, _, _, terms = play()
    assert 0 < model.config.unsupervised < 1  # so that a weight left out, or in the wrong place, shows
    unlabelled = terms["real_loss"] + terms["generated_loss"]
    l_d = terms["class_loss"] + model.config.unsupervised * unlabelled
    torch.testing.assert_close(terms["loss"], l_d)
    for part, own in (("discriminator", l_d), ("generator", terms["generator_loss"])):
        got, expected = gradients(model, terms["loss"], part), gradients(model, own, part)
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=0, atol=1e-12)
    assert all(value is None for value in gradients(model, l_d, "generator").values())
    assert all(value is None for value in gradients(model, terms["generator_loss"], "discriminator").values())


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
