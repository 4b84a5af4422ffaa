"""Unicoder-VL."""

from __future__ import annotations

import torch
from conftest_zoo_cross import (
    CURRENT,
    FRAMES,
    assert_close,
    differ,
    outputs,
    tiny,
    windows,
)

from fmfbench_models import create_model
from fmfbench_models.parts.blocks import patchify


def test_masked_current_has_no_influence():
    model, one, other = tiny("unicoder_vl").double(), windows(2), windows(2, seed=1)
    swapped = {**one, "current": other["current"]}
    nothing = torch.zeros(2, CURRENT, dtype=torch.bool)
    assert_close(outputs(model, one, current_valid=nothing), outputs(model, swapped, current_valid=nothing))
    assert differ(outputs(model, one), outputs(model, swapped))


def test_padded_tokens_never_influence():
    model, batch = tiny("unicoder_vl", depth=2).double(), windows(2)
    video_valid, current_valid = (
        torch.ones(2, FRAMES, dtype=torch.bool),
        torch.ones(2, CURRENT, dtype=torch.bool),
    )
    video_valid[:, :2], current_valid[0, :9], current_valid[1, :3] = False, False, False
    valid = {"video_valid": video_valid, "current_valid": current_valid}
    changed = {"video": batch["video"].clone(), "current": batch["current"].clone()}
    changed["video"][:, :, :2] = 255 - changed["video"][:, :, :2]
    changed["current"][~current_valid] += 5000
    assert_close(outputs(model, batch, **valid), outputs(model, changed, **valid))
    assert differ(outputs(model, batch), outputs(model, changed))
    everything = {key: torch.ones_like(value) for key, value in valid.items()}
    assert_close(outputs(model, batch, **everything), outputs(model, batch))


def test_mask_is_the_sequence_without_the_masked():
    """Hiding the first current instants equals a model whose sequence never had them."""
    long, short = (
        tiny("unicoder_vl", depth=2).double(),
        tiny("unicoder_vl", depth=2, current_length=20).double(),
    )
    state = long.state_dict()
    table = state["current_tokens.position"]
    state["current_tokens.position"] = torch.cat([table[:, :1], table[:, 13:]], 1)
    short.load_state_dict(state)
    batch, valid = windows(2), torch.arange(CURRENT) >= 12
    got = outputs(long, batch, current_valid=valid.expand(2, -1))
    assert_close(got, outputs(short, {**batch, "current": batch["current"][:, 12:]}))


def test_without_positions_the_class_token_sees_no_order():
    model, batch = tiny("unicoder_vl", depth=2).double().eval(), windows(1)
    patches = model.input_norm.video(patchify(batch["video"], (1, 8, 8)))
    current = model.input_norm.current(batch["current"])
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(n, generator=generator) for n in (patches.shape[1], CURRENT)]
    permuted = patches[:, orders[0]], current[:, orders[1]]
    with torch.no_grad():
        with_positions = model.encode(patches, current)[:, 0] - model.encode(*permuted)[:, 0]
        assert with_positions.abs().max() > 1e-3
        for part in (model.types, model.current_tokens.position, model.patch_tokens.locate.weight):
            part.zero_()
        plain, mixed = model.encode(patches, current), model.encode(*permuted)
    torch.testing.assert_close(plain[:, 0], mixed[:, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(plain[:, 1:][:, :CURRENT][:, orders[1]], mixed[:, 1 : 1 + CURRENT])
    assert differ([plain[:, 1:]], [mixed[:, 1:]])


def test_length_of_the_sequence():
    with torch.device("meta"):
        model = create_model("unicoder_vl")
        tokens = model.encode(torch.zeros(1, 640, 192), torch.zeros(1, 440, 3))
    assert tokens.shape == (1, 1_081, 96)
