"""Current-only baselines together: counts, shapes, what they share."""

from __future__ import annotations

import pytest
import torch
from conftest_zoo_current import NANO, TRANSFORMERS, amperes
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model, list_models, model_info


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        ("informer", {}, 756_578),
        ("flashformer", {}, 756_578),
        ("flowformer", {}, 756_578),
        ("itransformer", {}, 714_146),
        ("informer", {"current_length": 240}, 718_178),
        ("flashformer", {"current_length": 240}, 718_178),
        ("flowformer", {"current_length": 240}, 718_178),
        ("itransformer", {"current_length": 240}, 694_946),
        ("flowformer", {"embedding": "linear"}, 798_338),
        # five distilling steps, and a head over 14 time_steps instead of 440
        ("informer", {"distil": True}, 756_578 + 139_680 - (440 - 14) * 96 * 2),
    ],
)
def test_parameter_counts(name, config, parameters):
    assert create_model(name, **config).num_parameters() == parameters


def test_they_are_registered():
    assert {*TRANSFORMERS, "expert"} <= set(list_models())
    for name in [*TRANSFORMERS, "expert"]:
        info = model_info(name)
        assert (info.modality, info.dense) == ("current", False)
    assert model_info("expert").reinterpretation
    assert model_info("expert").training == "fitted"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_full_size_runs_forward(name):
    with torch.no_grad():
        output = create_model(name).eval()(current=amperes(1, 440))
    assert output.logits.shape == (1, 2)
    assert output.pixel_logits is None


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize(
    ("current", "came"),
    [(None, "None"), (amperes(2, 33), r"\(2, 33, 3\)"), (amperes(2, 32)[..., :2], r"\(2, 32, 2\)")],
)
def test_another_length_is_refused(name, current, came):
    model = create_model(name, **NANO)
    model(current=amperes(2, 32))
    with pytest.raises(InputError, match=rf"{name}: current: expected \(B, 32, 3\), got {came}; "):
        model(current=current)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_overfits_eight_windows(name):
    torch.manual_seed(0)
    model = create_model(name, **NANO, dropout=0.0).train()
    current, labels = amperes(8, 32), torch.arange(8) % 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(60):
        loss = F.cross_entropy(model(current=current).logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        logits = model.eval()(current=current).logits
    assert F.cross_entropy(logits, labels) < 0.02
    assert torch.equal(logits.argmax(1), labels)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_dropout_only_in_training(name):
    model, current = create_model(name, **NANO, dropout=0.5), amperes(2, 32)
    with torch.no_grad():
        assert not torch.equal(model.train()(current=current).logits, model(current=current).logits)
        assert torch.equal(model.eval()(current=current).logits, model(current=current).logits)
