"""FmFormer against its paper and its released code: counts, block relations, tokens, invariances, heads.

Also tests fmfbench_models.parts: blocks.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model
from fmfbench_models.parts.blocks import ConvUnit, TokenDecoder, resize_table
from fmfbench_models.zoo.fmformer import FmFormer, FmFormerConfig, VideoTokens, fuse_unimodal

SMALL = {"num_frames": 4, "size": [32, 48], "current_length": 20, "depth": 2, "dim": 24, "mlp_dim": 48}


def build(seed=0, **config):
    torch.manual_seed(seed)
    return create_model("fmformer", **config).double().eval()


def inputs(*, size=2, frames=4, height=32, width=48, length=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 256, (size, 3, frames, height, width), generator=generator, dtype=torch.uint8)
    current = 8000 + 2000 * torch.randn(size, length, 3, generator=generator, dtype=torch.float64)
    return video.double(), current


def logits(model, *args):
    with torch.no_grad():
        return model(*args).logits


def settle(model, seed=0):
    """Biases and norm weights off their initial values, so that nothing cancels by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim == 1:
                value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype), alpha=0.1)
    return model


# --- parameter counts
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 3_312_166),
        ({"preset": "paper"}, 3_312_166),
        ({"dilated": False}, 3_138_118),
        ({"modality": "visual"}, 1_921_028),
        ({"modality": "visual", "dilated": False}, 1_746_980),
        ({"modality": "current"}, 1_391_138),
        ({"preset": "official", "current_length": 440}, 2_439_820),
        ({"preset": "official", "current_length": 440, "dilated": False}, 2_227_852),
        ({"preset": "official", "dense_task": False}, 1_923_466),
        ({"preset": "official", "dense_task": False, "dilated": False}, 1_877_866),
        ({"preset": "official", "dense_task": False, "current_length": 440}, 1_942_666),
        ({"preset": "official", "class_task": False}, 2_419_848),
        ({"preset": "official", "modality": "visual", "dense_task": False}, 784_516),
        ({"preset": "official", "modality": "visual", "dense_task": False, "num_frames": 8}, 776_836),
        ({"preset": "official", "modality": "visual", "class_task": False}, 1_280_898),
        ({"preset": "official", "modality": "current"}, 693_512),
        ({"interaction": "sa"}, 3_312_166),
        ({"interaction": "ca", "fusion": "v_only"}, 3_312_166),
        ({"fusion": "v_only"}, 3_312_166),
    ],
    ids=str,
)
def test_parameter_counts(config, expected):
    with torch.device("meta"):
        assert create_model("fmformer", **config).num_parameters() == expected


@pytest.mark.parametrize(("block", "expected"), [("paper", 446_208), ("official", 297_408)])
def test_parameters_of_a_layer(block, expected):
    with torch.device("meta"):
        layer = create_model("fmformer", block=block, depth=1).layers[0]
    assert sum(value.numel() for value in layer.parameters()) == expected


# --- blocks
# ---------------------------------------------------------------------------------------------------------


def test_paper_block_without_its_first_mlps_is_the_official_block():
    paper, official = build(**SMALL, block="paper"), build(1, **SMALL, block="official")
    assert not official.load_state_dict(paper.state_dict(), strict=False).missing_keys
    before = (logits(paper, *inputs()) - logits(official, *inputs())).abs().max()
    assert before > 1e-3
    for layer in paper.layers:
        for mlp in layer.first_mlp.own.values():
            nn.init.zeros_(mlp.down.weight)
            nn.init.zeros_(mlp.down.bias)
    a, b = paper(*inputs()), official(*inputs())
    assert (a.logits - b.logits).abs().max() <= 1e-12
    assert (a.pixel_logits - b.pixel_logits).abs().max() <= 1e-12


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_streams_meet_only_in_cross_attention(preset):
    model = build(preset=preset, **SMALL)
    video, current = inputs()

    def streams(video, current):
        z, _ = model.tokens(video, current)
        for layer in model.layers:
            z = layer(z)
        return z

    other_video, other_current = inputs(seed=2)
    assert not torch.equal(streams(video, current)["video"], streams(video, other_current)["video"])
    for layer in model.layers:
        for out in (layer.second.cross.out_a, layer.second.cross.out_b):
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)
    assert torch.equal(streams(video, current)["video"], streams(video, other_current)["video"])
    assert torch.equal(streams(video, current)["current"], streams(other_video, current)["current"])


@pytest.mark.parametrize("block", ["paper", "official"])
def test_exchanging_the_streams_exchanges_the_results(block):
    layer = settle(build(block=block, **SMALL).layers[0])
    swapped = settle(build(1, block=block, **SMALL).layers[0])
    exchange = {"video": "current", "current": "video"}
    ab = {"norm_a": "norm_b", "qkv_a": "qkv_b", "out_a": "out_b"}
    exchange |= ab | {value: key for key, value in ab.items()}
    state = {
        ".".join(exchange.get(part, part) for part in key.split(".")): value
        for key, value in layer.state_dict().items()
    }
    swapped.load_state_dict(state)
    a, b = torch.randn(2, 7, 24, dtype=torch.float64), torch.randn(2, 5, 24, dtype=torch.float64)
    z, other = layer({"video": a, "current": b}), swapped({"video": b, "current": a})
    torch.testing.assert_close(z["video"], other["current"], rtol=0, atol=1e-12)
    torch.testing.assert_close(z["current"], other["video"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        {"block": "paper"},
        {"block": "official"},
        {"interaction": "sa"},
        {"interaction": "ca", "fusion": "v_only"},
        {"modality": "visual"},
        {"modality": "visual", "block": "official", "official_unimodal": True},
        {"modality": "visual", "block": "paper", "official_unimodal": True},
        {"modality": "current", "block": "official", "official_unimodal": True},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_last_layer_leaves_out_only_what_no_head_reads(config, dense):
    """The plain definition: every layer on every token, the heads on the whole result; gradients too."""
    model = build(**SMALL | config, dense_task=dense)
    video, current = inputs()
    z, grids = model.tokens(video, current)
    for layer in model.layers:
        z = layer(z)
    expected = [model.classify(z)] + ([model.segment(z["video"], *grids)] if model.dense else [])
    output = model(video, current)
    found = [value for value in (output.logits, output.pixel_logits) if value is not None]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    weights = [value for value in model.parameters() if value.requires_grad]
    gradients = [
        torch.autograd.grad(sum((value**2).sum() for value in values), weights, allow_unused=True)
        for values in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        if other is None or one is None:
            assert all(value is None or not value.any() for value in (one, other))
        else:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_depth_of_zero_is_refused():
    with pytest.raises(InputError, match="expected depth of 1 or more, got 0"):
        create_model("fmformer", depth=0)


def test_cross_attention_reads_both_streams_before_either_changes():
    """Both updates of (8) come from the same pair; done one after the other they would differ."""
    mixing = build(**SMALL).layers[0].second
    a, b = torch.randn(1, 6, 24, dtype=torch.float64), torch.randn(1, 4, 24, dtype=torch.float64)
    z = mixing({"video": a, "current": b})
    in_turn = mixing({"video": z["video"], "current": b})["current"]
    assert (z["current"] - in_turn).abs().max() > 1e-4
    q = mixing.cross.qkv_b(mixing.cross.norm_b(b))[..., :24].unflatten(-1, (3, 8)).transpose(1, 2)
    k, v = (
        part.unflatten(-1, (3, 8)).transpose(1, 2)
        for part in mixing.cross.qkv_a(mixing.cross.norm_a(a))[..., 24:].chunk(2, -1)
    )
    mixed = torch.softmax(q @ k.transpose(2, 3) / 8**0.5, -1) @ v
    expected = b + mixing.cross.out_b(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(z["current"], expected, rtol=0, atol=1e-12)


# --- tokens
# ---------------------------------------------------------------------------------------------------------


def conv_weight(linear):
    """Linear over (p1 p2 pf c) values as the kernel of a 3-D convolution."""
    return linear.weight.reshape(-1, 8, 8, 2, 3).permute(0, 4, 3, 1, 2)


@pytest.mark.parametrize(
    ("impl", "stride", "height", "width"),
    [("stride15", 15, 64, 64), ("stride15", 15, 96, 240), ("nearest", 16, 64, 64), ("nearest", 16, 96, 240)],
)
def test_tokens_are_convolutions(impl, stride, height, width):
    config = FmFormerConfig(num_frames=4, size=(height, width), dim=6, heads=3, dilated_impl=impl)
    tokens = VideoTokens(config).double()
    nn.init.zeros_(tokens.position)
    norm = create_model("fmformer", raw_input=True).double().input_norm
    video = torch.rand(2, 3, 4, height, width, dtype=torch.float64)
    got, grid, dilated_grid = tokens(video, norm)
    weight, bias = conv_weight(tokens.embed.linear), tokens.embed.linear.bias
    dilated = F.conv3d(video, weight, bias, stride=(2, stride, stride), dilation=(1, 2, 2))
    standard = F.conv3d(video, weight, bias, stride=(2, 8, 8))
    assert tuple(dilated.shape[2:]) == dilated_grid
    assert tuple(standard.shape[2:]) == grid
    expected = torch.cat([dilated.flatten(2), standard.flatten(2)], 2).transpose(1, 2)
    torch.testing.assert_close(got[:, 1:], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("side", "paper", "official"),
    [(64, 4, 4), (96, 6, 6), (112, 7, 7), (128, 8, 8), (224, 14, 14), (240, 16, 15), (256, 17, 16)],
)
def test_dilated_grids(side, paper, official):
    for impl, expected in (("stride15", paper), ("nearest", official)):
        config = FmFormerConfig(size=(side, side), dilated_impl=impl)
        assert config.dilated_grid(10, side, side) == (5, expected, expected)


@pytest.mark.parametrize(("impl", "last"), [("stride15", 59), ("nearest", 62)])
def test_last_pixel_that_dilated_tokens_see(impl, last):
    tokens = VideoTokens(FmFormerConfig(num_frames=2, dilated_impl=impl, dim=6)).double()
    norm = create_model("fmformer", raw_input=True).double().input_norm
    video = torch.zeros(1, 3, 2, 64, 64, dtype=torch.float64)
    base = tokens(video, norm)[0][:, 1:17]
    for pixel in range(48, 64):
        touched = video.clone()
        touched[0, 0, 0, 0, pixel] = 1.0
        changed = (tokens(touched, norm)[0][:, 1:17] - base).abs().max() > 0
        origin = 45 if impl == "stride15" else 48
        assert changed == (pixel <= last and pixel >= origin and (pixel - origin) % 2 == 0)


@pytest.mark.parametrize("preset", ["paper", "official"])
@pytest.mark.parametrize("order", ["dilated_first", "standard_first"])
def test_token_order_is_only_an_order(preset, order):
    """With the position rows moved along, the order of the scales changes no output."""
    one = build(preset=preset, **SMALL, token_order="dilated_first")
    two = build(preset=preset, **SMALL, token_order=order)
    state = one.state_dict()
    if preset == "paper" and order == "standard_first":
        table = state["video.position"]
        dilated = 2 * 2 * 3
        state["video.position"] = torch.cat(
            [table[:, :1], table[:, 1 + dilated :], table[:, 1 : 1 + dilated]], 1
        )
    two.load_state_dict(state)
    a, b = one(*inputs()), two(*inputs())
    torch.testing.assert_close(a.logits, b.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(a.pixel_logits, b.pixel_logits, rtol=0, atol=1e-12)


# --- the official variant's blindness
# -------------------------------------------------------------------------------


def test_official_does_not_see_level_but_sees_phases():
    model = settle(build(preset="official", **SMALL))
    video, current = inputs()
    base = logits(model, video, current)
    generator = torch.Generator().manual_seed(4)
    gain = 0.5 + torch.rand(2, 20, 1, generator=generator, dtype=torch.float64)
    offset = 1000 * torch.randn(2, 20, 1, generator=generator, dtype=torch.float64)
    assert (logits(model, video, gain * current + offset) - base).abs().max() < 1e-5
    assert (logits(model, 0.7 * video + 30, current) - base).abs().max() < 1e-4
    assert (logits(model, video, current[..., [1, 0, 2]]) - base).abs().max() > 1e-3
    paper = settle(build(preset="paper", **SMALL))
    assert (logits(paper, video, gain * current) - logits(paper, video, current)).abs().max() > 1e-3


# --- other lengths
# --------------------------------------------------------------------------------------------------


def test_resized_tables():
    table = torch.randn(1, 12, 5, dtype=torch.float64)
    assert resize_table(table, (12,), (12,)) is table
    longer = resize_table(table, (12,), (24,))
    torch.testing.assert_close(longer[:, [0, -1]], table[:, [0, -1]], rtol=0, atol=1e-12)
    image = resize_table(table, (3, 4), (5, 4))
    torch.testing.assert_close(image[:, :4], table[:, :4], rtol=0, atol=1e-12)
    torch.testing.assert_close(image[:, 4:8], (table[:, :4] + table[:, 4:8]) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "other", [{"length": 40}, {"length": 7}, {"frames": 8}, {"height": 64, "width": 32}, {"frames": 2}]
)
def test_interpolated_tables_take_any_length(other):
    model = build(**SMALL)
    video, current = inputs(**other)
    output = model(video, current)
    assert output.logits.shape == (2, 2)
    assert output.pixel_logits.shape == (2, 2, *video.shape[3:])
    assert torch.isfinite(output.pixel_logits).all()


def test_native_length_is_the_same_by_either_rule():
    interp, slicing = build(**SMALL, pos_resize="interp"), build(**SMALL, pos_resize="slice")
    slicing.load_state_dict(interp.state_dict())
    assert torch.equal(logits(interp, *inputs()), logits(slicing, *inputs()))


# --- heads
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_logits_are_the_sum_of_two_heads(preset):
    model = build(preset=preset, **SMALL)
    z, _ = model.tokens(*inputs())
    for layer in model.layers:
        z = layer(z)
    expected = model.class_heads["video"](z["video"][:, 0]) + model.class_heads["current"](z["current"][:, 0])
    torch.testing.assert_close(model(*inputs()).logits, expected, rtol=0, atol=1e-12)


def test_class_tokens_do_not_reach_the_dense_head():
    model = build(preset="official", **SMALL)
    z, grids = model.tokens(*inputs())
    tokens = z["video"]
    touched = torch.cat([tokens[:, :1] + 5, tokens[:, 1:]], 1)
    assert torch.equal(model.segment(tokens, *grids), model.segment(touched, *grids))


@pytest.mark.parametrize("style", ["paper", "official"])
def test_a_dense_token_lights_only_its_own_cell(style):
    torch.manual_seed(0)
    decoder = TokenDecoder(6, (2, 4, 6), (2, 2, 3), style=style, channels=(8, 6, 4)).eval()
    with torch.no_grad():
        for module in decoder.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.bias.zero_()
            if isinstance(module, ConvUnit):
                kernel = module.conv.weight.clone()
                module.conv.weight.zero_()
                module.conv.weight[:, :, 1, 1] = kernel[:, :, 1, 1]
    standard, dilated = torch.zeros(1, 48, 6), torch.zeros(1, 12, 6)
    assert not decoder(standard, dilated).any()
    one = standard.clone()
    one[0, 24 + 2 * 6 + 3] = torch.randn(6)  # t = 1, i = 2, j = 3
    lit = decoder(one, dilated)[0].abs().sum(0) > 0
    assert lit.any()
    lit[16:24, 24:32] = False
    assert not lit.any()
    one = dilated.clone()
    one[0, 6 + 1 * 3 + 2] = torch.randn(6)  # t = 1, i = 1, j = 2
    lit = decoder(standard, one)[0].abs().sum(0) > 0
    assert lit.any()
    lit[16:32, 32:48] = False
    assert not lit.any()


def test_official_skip_is_of_the_rectified_input():
    unit = ConvUnit(3, "official").double().eval()
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    r = x.clamp(min=0)
    expected = unit.conv(unit.norm(r)) + r
    assert torch.equal(unit(x), expected)
    assert (expected - (unit.conv(unit.norm(r)) + x)).abs().max() > 0.1


# --- Tables IV and V
# ------------------------------------------------------------------------------------------------


def test_linear_fusion_is_two_models_added():
    visual = build(0, **SMALL, modality="visual")
    current = build(1, **SMALL, modality="current")
    fused = fuse_unimodal(visual, current).eval()
    x, y = inputs()
    output, expected = fused(x, y), visual(x)
    torch.testing.assert_close(output.logits, expected.logits + current(None, y).logits, rtol=0, atol=1e-12)
    assert torch.equal(output.pixel_logits, expected.pixel_logits)
    assert fused.num_parameters() == visual.num_parameters() + current.num_parameters()
    with pytest.raises(InputError, match="expected visual and current models"):
        fuse_unimodal(current, visual)


def test_every_self_attention_replaced_by_cross_attention():
    model = build(**SMALL, interaction="ca", fusion="v_only")
    assert {step.kind for layer in model.layers for step in (layer.first, layer.second)} == {"cross"}
    assert model(*inputs()).logits.shape == (2, 2)


def test_v_only_takes_the_video_head_alone():
    full, v_only = build(**SMALL), build(**SMALL, fusion="v_only")
    v_only.load_state_dict(full.state_dict())
    with torch.no_grad():
        for value in full.class_heads["current"][3].parameters():
            value.zero_()
    torch.testing.assert_close(logits(full, *inputs()), logits(v_only, *inputs()), rtol=0, atol=1e-12)
    v_only.train()(*inputs()).logits.sum().backward()
    without = {
        name for name, value in v_only.named_parameters() if value.grad is None or not value.grad.any()
    }
    last = "layers.1"
    assert {name for name in without if not name.startswith("decoder")} == {
        *(f"{last}.second.cross.out_b.{kind}" for kind in ("weight", "bias")),
        *(
            f"{last}.second_mlp.own.current.{part}.{kind}"
            for part in ("norm", "up", "down")
            for kind in ("weight", "bias")
        ),
        *(f"class_heads.current.{i}.{kind}" for i in (0, 1, 3) for kind in ("weight", "bias")),
    }


# --- configuration
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_frames": 5}, "even number of frames"),
        ({"size": [60, 64]}, "multiples of 8"),
        ({"dim": 32}, "multiple of heads"),
        ({"modality": "current", "class_task": False}, "class_task or dense_task"),
        ({"modality": "visual", "interaction": "ca"}, "expected both modalities for"),
        ({"size": [8, 64]}, "larger frames for dilated"),
        ({"modality": "audio"}, "one of both, visual, current"),
        ({"depth": "6"}, "an integer"),
        ({"depth": True}, "an integer"),
        ({"dilated": 1}, "true or false"),
        ({"size": [64]}, "2 values"),
        ({"size": 64}, "a list"),
        ({"preset": "papers"}, "a preset"),
        ({"colour": 3}, "got colour"),
    ],
    ids=str,
)
def test_wrong_configurations_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        create_model("fmformer", **config)


@pytest.mark.parametrize(
    "config", [{"size": [8, 64], "dilated": False}, {"num_frames": 2}, {"modality": "current"}]
)
def test_their_legal_neighbours_are_accepted(config):
    assert isinstance(create_model("fmformer", depth=1, **config), FmFormer)


def test_missing_modality_and_wrong_clip_are_named():
    model = create_model("fmformer", **SMALL)
    video, current = inputs()
    with pytest.raises(InputError, match="expected current, got None"):
        model(video, None)
    with pytest.raises(InputError, match="got 3 frames of 32 x 48"):
        model(video[:, :, :3].float(), current.float())


# --- learning
# -------------------------------------------------------------------------------------------------------


def test_overfits_eight_clips():
    torch.manual_seed(0)
    model = create_model("fmformer", **SMALL, decoder_channels=[24, 16, 8])
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (8, 3, 4, 32, 48), generator=generator, dtype=torch.uint8)
    current = 8000 + 2000 * torch.randn(8, 20, 3, generator=generator)
    mask = torch.zeros(8, 32, 48, dtype=torch.uint8)
    for i in range(0, 8, 2):
        mask[i, 4 * (i // 2) : 4 * (i // 2) + 12, 5 * i : 5 * i + 11] = 1
    batch = {"mask": mask, "class_label": mask.flatten(1).amax(1)}
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        terms = model.objective(model(video, current), batch, 1.0)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
    assert terms["class_loss"].item() < 0.01
    assert terms["pixel_loss"].item() < 0.02


def test_a_position_table_cut_to_one_place_keeps_the_newest_time_and_the_middle_of_the_frame():
    """The paper's Fig. 6 has a point of two frames, one tubelet: its label is of the newest frame."""
    table = torch.arange(5 * 3 * 4, dtype=torch.float64).reshape(1, 60, 1)
    rows = table.reshape(5, 3, 4)
    assert torch.equal(resize_table(table, (60,), (1,)), table[:, -1:])
    assert torch.equal(resize_table(table, (5, 3, 4), (1, 3, 4)).reshape(3, 4), rows[-1])
    middle = resize_table(table, (5, 3, 4), (1, 1, 1)).item()
    assert middle == pytest.approx(rows[-1, 1, 1:3].mean().item())
    flat = table[:, :12]  # rows and columns of a frame: no time, both axes are sides
    assert torch.allclose(resize_table(flat, (3, 4), (1, 4)).reshape(4), flat.reshape(3, 4)[1])
    assert torch.equal(resize_table(table[:, :1], (1,), (1,)), table[:, :1])


def test_two_frames_and_one_row_read_the_newest_positions():
    model = create_model(
        "fmformer", dim=24, depth=1, mlp_dim=48, decoder_channels=[24, 16, 8], dilated=False
    ).eval()
    newest = model.video.position[:, 1:].reshape(1, 5, 64, 24)[:, -1]
    found = model.video._positions((1, 8, 8), (0, 0, 0))
    assert torch.equal(found[:, 1:], newest)


@pytest.mark.parametrize("dilated", [True, False])
@pytest.mark.parametrize("token_order", ["dilated_first", "standard_first"])
def test_validity_in_every_order_of_tokens(dilated, token_order):
    """A frame that is not valid has no influence, whatever stands where in the sequence."""
    model = create_model(
        "fmformer", **TINY_CONFIG, dilated=dilated, token_order=token_order, current_length=16
    ).eval()
    generator = torch.Generator().manual_seed(4)
    video = torch.randint(0, 256, (2, 3, 4, 32, 48), generator=generator, dtype=torch.uint8)
    current = 8000 + 500 * torch.randn(2, 16, 3, generator=generator)
    valid = torch.tensor([[False, False, True, True], [True, True, True, True]])
    other = video.clone()
    other[0, :, :2] = 255 - other[0, :, :2]
    with torch.no_grad():
        one, two = (model(clip, current, video_valid=valid) for clip in (video, other))
        plain = model(video, current)
    assert torch.equal(one.logits, two.logits)
    assert torch.equal(one.pixel_logits, two.pixel_logits)
    assert not torch.equal(one.logits[0], plain.logits[0])
    torch.testing.assert_close(one.logits[1], plain.logits[1])


TINY_CONFIG = {
    "num_frames": 4,
    "size": [32, 48],
    "dim": 24,
    "depth": 1,
    "mlp_dim": 48,
    "decoder_channels": [24, 16, 8],
}
