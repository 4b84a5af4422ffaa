"""BiLM."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch
from conftest_zoo_cross import (
    FRAMES,
    assert_close,
    differ,
    labelled,
    outputs,
    random,
    tiny,
    windows,
)
from torch import nn

from fmfbench_models import create_model
from fmfbench_models.registry import registration


def encoded(model, batch):
    with torch.no_grad():
        return model.eval().encode(batch["video"], batch["current"])


def without_adapters(model, **config):
    plain = tiny("bilm", adapters=False, **config).to(next(model.parameters()).dtype)
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    assert all(".adapters." in name for name in missing.unexpected_keys)
    return plain


def test_adapters_at_zero_are_not_there():
    model, batch = tiny("bilm", depth=2).double(), windows(2)
    plain = outputs(without_adapters(model, depth=2), batch)
    assert differ(outputs(model, batch), plain, least=1e-9)
    with torch.no_grad():
        for block in model.blocks:
            for adapter in block.adapters:
                adapter.up.weight.zero_()
                adapter.up.bias.zero_()
    assert_close(outputs(model, batch), plain, rtol=0, atol=0)


def test_adapters_start_as_nearly_nothing():
    model, batch = create_model("bilm", dense_task=False), windows(1, 10, 64, 64, 440)
    adapters = [p for name, p in model.named_parameters() if ".adapters." in name]
    assert sum(p.numel() for p in adapters) == 28_944
    values = torch.cat([p.flatten() for p in adapters])
    assert values.abs().max() <= 2e-3
    assert values.std().item() == pytest.approx(
        0.9594e-3, rel=0.03
    )  # of a normal law whose tails are moved in to two sigma
    plain = create_model("bilm", dense_task=False, adapters=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    hidden, bare = encoded(model, batch), encoded(plain, batch)
    change = ((hidden - bare).norm(dim=2) / bare.norm(dim=2)).max()
    assert 0 < change < 5e-3


def test_frozen_encoder_trains_embeddings_adapters_norms_and_heads():
    model, batch = tiny("bilm", freeze_encoder=True).train(), labelled(4)
    frozen = [
        "backbone.*",
        "blocks.*.attention.qkv.weight",
        "blocks.*.attention.out.*",
        "blocks.*.mlp.up.*",
        "blocks.*.mlp.down.*",
    ]
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != any(fnmatch(name, pattern) for pattern in frozen), name
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"frame_tokens", "current_tokens", "types", "blocks", "head", "answers", "decoder"}

    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.objective(model(**model.takes(batch)), batch, 1.0)["loss"].backward()
    optimiser.step()
    for name, value in model.state_dict().items():  # the backbone's running statistics are frozen too
        if any(fnmatch(name, pattern) for pattern in frozen):
            assert torch.equal(value, before[name]), name
    changed = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert set(changed) == {name for name, value in model.named_parameters() if value.requires_grad}
    assert all(parameter.requires_grad for parameter in tiny("bilm").parameters())


@pytest.mark.parametrize("config", [{}, {"frame_tokens": True}])
def test_bilm_sees_the_order_of_frames(config):
    model, batch = tiny("bilm", **config).double(), windows(2)
    backward = {**batch, "video": batch["video"].flip(2)}
    assert differ(outputs(model, batch), outputs(model, backward), least=1e-5)


@pytest.mark.parametrize(("config", "visual"), [({}, 640), ({"frame_tokens": True}, 10)])
def test_visual_tokens_of_bilm(config, visual):
    with torch.device("meta"):
        model = create_model("bilm", **config)
        inputs = torch.zeros(1, 3, 10, 64, 64), torch.zeros(1, 440, 3)
        assert model.encode(*inputs).shape == (1, 1 + 440 + visual, 96)
        output = model(*inputs)
    assert (output.pixel_logits is None) == bool(config) == (not model.dense)


def test_tokens_of_frames_are_ordered_by_time_row_column():
    """One bright place of the maps lights its token alone."""
    tokens = tiny("bilm").frame_tokens.double()
    kind = torch.zeros(24, dtype=torch.float64)
    maps = torch.zeros(1, FRAMES, 128, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        plain = tokens(maps, kind)
        maps[0, 2, :, 1, 2] = random(128)
        changed = (tokens(maps, kind) - plain).abs().amax((0, 2)) > 0
    assert changed.nonzero().tolist() == [[(2 * 2 + 1) * 3 + 2]]


def test_place_of_a_token_is_frame_row_and_column():
    tokens = tiny("bilm").frame_tokens
    tokens.norm = nn.Identity()
    with torch.no_grad():
        tokens.linear.bias.zero_()
    kind = random(24, dtype=torch.float32)
    found = tokens(torch.zeros(2, FRAMES, 128, 2, 3), kind).unflatten(1, (FRAMES, 2, 3))
    for t in range(FRAMES):
        for i in range(2):
            for j in range(3):
                place = tokens.frame[t] + tokens.row[i] + tokens.column[j] + kind
                torch.testing.assert_close(found[:, t, i, j], place.expand(2, -1))


def test_presets():
    assert create_model("bilm", preset="frozen", **registration("bilm").tiny).backbone.frozen
    assert not create_model("bilm", preset="literal", **registration("bilm").tiny).dense
