"""Layer drop: which branches are left out, how often, and that nothing changes where it is off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fmfbench.errors import InputError
from fmfbench_models import create_model, list_models
from fmfbench_models.parts.blocks import Encoder, PostNormBlock, PreNormBlock
from fmfbench_models.parts.layer_drop import apply_layer_drop, trunks
from fmfbench_models.recipe import Recipe
from fmfbench_models.registry import registration
from fmfbench_models.training.train import train

WITHOUT = {
    "boosting", "constant_image", "conv1d", "crnn3d", "dcnn_svm", "expert", "patch_memory", "pca_residual", "ssfeggan"
}  # fmt: skip


def batch_for(model, rng, size=6):
    """Inputs for the model of a registration's tiny configuration."""
    config = model.meta.config
    made = {}
    if model.modality != "current":
        shape = (size, 3, config.get("num_frames", 4), *config.get("size", (16, 24)))
        made["video"] = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    if model.modality != "visual":
        current = rng.normal(8000, 500, (size, config["current_length"], 3)).astype(np.float32)
        made["current"] = torch.from_numpy(current)
    return made


def values(output):
    found = [part for part in (output.logits, output.pixel_logits, *output.aux.values()) if part is not None]
    return torch.cat([part.detach().double().flatten() for part in found])


@pytest.mark.parametrize("name", list_models())
def test_models_with_a_trunk_and_models_without(name):
    model = create_model(name, **registration(name).tiny)
    assert bool(trunks(model)) == (name not in WITHOUT)
    branches = [branch for blocks in trunks(model) for block in blocks for branch in block.branches()]
    assert len({id(branch) for branch in branches}) == len(branches)  # none is dropped twice


@pytest.mark.parametrize("name", sorted(set(list_models()) - WITHOUT))
def test_in_training_alone_something_is_left_out(name):
    torch.manual_seed(0)
    model, again = (create_model(name, **registration(name).tiny) for _ in range(2))
    again.load_state_dict(model.state_dict())
    inputs = batch_for(model, np.random.default_rng(0))
    model.eval()
    before = values(model(**inputs))
    apply_layer_drop(model, 0.9)
    assert torch.equal(values(model(**inputs)), before)
    assert list(model.state_dict()) == list(again.state_dict())
    outputs = []
    for each in (model.train(), again.train()):
        torch.manual_seed(1)
        outputs.append(values(each(**inputs)))
    assert not torch.equal(*outputs)


@pytest.mark.parametrize("block", [PreNormBlock, PostNormBlock])
def test_a_branch_is_kept_at_the_share_of_its_depth(block):
    """With rate 0.6, branches of four blocks are left out in 15, 30, 45 and 60 % of the samples."""
    torch.manual_seed(0)
    trunk = nn.Sequential(*(block(8, 2, 16) for _ in range(4)))
    apply_layer_drop(trunk, 0.6)
    seen = {}
    for number, each in enumerate(trunk):
        for k, branch in enumerate(each.branches()):
            branch.register_forward_hook(lambda m, i, o, key=(number, k): seen.__setitem__(key, o.detach()))
    trunk.train()(torch.randn(4000, 3, 8))
    for (number, _), output in seen.items():
        lost = (output == 0).flatten(1).all(1).float().mean().item()
        assert lost == pytest.approx(0.15 * (number + 1), abs=0.035)


def test_a_sample_is_its_mean_over_the_draws():
    torch.manual_seed(0)
    trunk = Encoder(PreNormBlock(8, 2, 16)).double()
    tokens = torch.randn(1, 3, 8).double()
    plain = trunk[0].attention(tokens)
    apply_layer_drop(trunk, 0.3)
    drawn = trunk.train()[0].attention(tokens.expand(20_000, -1, -1))
    torch.testing.assert_close(drawn.mean(0, keepdim=True), plain, rtol=0.05, atol=1e-6)
    kept = drawn[(drawn != 0).flatten(1).any(1)]
    torch.testing.assert_close(kept, plain.expand(len(kept), -1, -1) / 0.7)


def weights(run):
    from safetensors.torch import load_file

    return load_file(run / "last.safetensors")


def test_training_with_it_resumes_to_the_same_weights(furnace_store, options, tmp_path):
    asked = {**options, "depth": 2, "batch_size": 8, "every": 6, "validate": False, "layer_drop": 0.5}
    whole = train("fmformer", furnace_store, tmp_path / "a", options={**asked, "epochs": 2}, device="cpu")
    plain = {**asked, "epochs": 2, "layer_drop": 0.0}
    other = train("fmformer", furnace_store, tmp_path / "b", options=plain, device="cpu")
    once = train("fmformer", furnace_store, tmp_path / "c", options={**asked, "epochs": 1}, device="cpu")
    longer = train(
        "fmformer",
        furnace_store,
        tmp_path / "d",
        options={**asked, "epochs": 2},
        lengthen=once,
        device="cpu",
    )
    one, two, three = weights(whole), weights(longer), weights(other)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], three[name]) for name in one)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_make_no_sense_are_refused(rate):
    with pytest.raises(InputError, match=r"expected layer_drop in \[0, 1\)"):
        Recipe(layer_drop=rate)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("crnn3d", "layer_drop: expected 0 for a model without a trunk of residual blocks, got 0.1"),
        ("boosting", "layer_drop: expected 0.0 for a model that no gradient trains, got 0.1"),
    ],
)
def test_models_that_cannot_follow_it_are_refused(name, told, furnace_store, tmp_path):
    with pytest.raises(InputError, match=told):
        train(name, furnace_store, tmp_path / "run", options={"layer_drop": 0.1}, device="cpu")
