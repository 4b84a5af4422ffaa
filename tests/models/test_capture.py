"""CAPTURE."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest_zoo_cross import (
    labelled,
    random,
    tiny,
    windows,
)

from fmfbench_models import create_model
from fmfbench_models.parts.blocks import patchify
from fmfbench_models.parts.locations import patch_locations
from fmfbench_models.registry import registration
from fmfbench_models.zoo import capture


def test_streams_meet_first_in_the_first_cross_layer():
    model, batch = tiny("capture", depth=2).double().eval(), windows(1)
    tubelets = model.input_norm.video(patchify(batch["video"], (2, 8, 8))).requires_grad_()
    current = model.input_norm.current(batch["current"]).requires_grad_()
    separate = model.separate(tubelets, current)
    crossed = model.cross_layers[0](*separate)
    inputs = (tubelets, current)
    for stream, own in enumerate(inputs):
        other = inputs[1 - stream]
        weight = random(*separate[stream].shape, seed=5)
        for tokens, meets in ((separate[stream], False), (crossed[stream], True)):
            towards = [
                torch.autograd.grad((tokens * weight).sum(), x, retain_graph=True, allow_unused=True)[0]
                for x in (own, other)
            ]
            assert towards[0].abs().max() > 0
            assert (towards[1] is not None and towards[1].abs().max() > 0) == meets


def test_cross_layer_treats_its_streams_alike():
    layer, swapped = (capture.CrossLayer(24, 3, 48).double() for _ in range(2))
    exchange = {"_a": "_b", "_b": "_a"}
    state = {}
    for name, value in layer.state_dict().items():
        owner = next(part for part in name.split(".") if part[-2:] in exchange)
        state[name.replace(owner, owner[:-2] + exchange[owner[-2:]])] = value
    swapped.load_state_dict(state)
    a, b = random(2, 5, 24), random(2, 7, 24, seed=1)
    with torch.no_grad():
        one, other = layer(a, b), swapped(b, a)
    torch.testing.assert_close(one[0], other[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(one[1], other[0], rtol=0, atol=1e-12)
    assert one[0].shape == a.shape
    assert not torch.allclose(one[0], layer(b, a)[1])


def test_contrastive_term_of_equal_features_and_of_perfect_pairs():
    for pairs in (2, 5):
        equal = torch.ones(pairs, 8, dtype=torch.float64)
        assert capture.nt_xent(equal, 3 * equal, 0.07).item() == pytest.approx(math.log(2 * pairs - 1))
    assert capture.nt_xent(equal[:2], equal[:2], 0.07).item() == pytest.approx(1.098612, abs=1e-6)
    perfect = torch.eye(2, 8, dtype=torch.float64)
    assert capture.nt_xent(perfect, 2 * perfect, 0.07).item() == pytest.approx(1.25e-6, rel=1e-2)


def test_contrastive_term_against_a_loop():
    one, other = random(4, 6), random(4, 6, seed=1)
    features = torch.cat([one, other]).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    total = 0.0
    for i in range(8):
        weights = [math.exp(features[i] @ features[j] / 0.3) for j in range(8) if j != i]
        total -= math.log(math.exp(features[i] @ features[(i + 4) % 8] / 0.3) / sum(weights))
    assert capture.nt_xent(one, other, 0.3).item() == pytest.approx(total / 8)


def test_contrastive_term_joins_the_objective_where_it_has_weight():
    batch = labelled(4)
    plain, weighted = (
        tiny("capture", dropout=0.0).train(),
        tiny("capture", dropout=0.0, contrastive=0.1).train(),
    )
    weighted.load_state_dict(plain.state_dict())
    one, other = (model.objective(model(**model.takes(batch)), batch, 1.0) for model in (plain, weighted))
    assert set(other) - set(one) == {"contrastive_loss"}
    torch.testing.assert_close(other["loss"], one["loss"] + 0.1 * other["contrastive_loss"])
    assert (
        create_model("capture", preset="contrastive", **registration("capture").tiny).config.contrastive
        == 0.1
    )


def test_visual_class_token_stands_for_the_whole_clip():
    tokens = tiny("capture").tubelet_tokens
    assert tokens.location[0].tolist() == [0, 0, 1, 1, 1, 1]
    assert torch.equal(tokens.location[1:], patch_locations((2, 2, 3)))
