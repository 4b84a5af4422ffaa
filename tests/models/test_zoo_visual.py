"""Visual-only baselines: what their papers say of them, on random input.

Also tests fmfbench_models.zoo: crnn3d, tubevit, vit, vivit.
"""

from __future__ import annotations

import zlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model, list_models, model_info
from fmfbench_models.parts.blocks import patchify
from fmfbench_models.zoo.crnn3d import ConvLstmCell
from fmfbench_models.zoo.tubevit import TUBES, TubeTokens, TubeViTConfig, tube_grid, tube_positions

NAMES = ["crnn3d", "tubevit", "vit", "vivit"]
VARIANTS = ["joint", "factorised_encoder", "factorised_self_attention"]
NANO = {
    "num_frames": 4,
    "size": [16, 16],
    "dim": 24,
    "depth": 1,
    "mlp_dim": 48,
    "decoder_channels": [24, 16, 8],
}
NANO_TUBES = [
    [[2, 8, 8], [2, 8, 8], [0, 0, 0]],
    [[3, 4, 4], [1, 8, 8], [1, 2, 2]],
    [[1, 12, 12], [2, 4, 4], [0, 0, 0]],
    [[1, 8, 8], [4, 8, 8], [0, 0, 0]],
]


def nano(name, **more):
    """The model at width 24, depth 1 (what cannot be one layer deep at two), on four frames of 16 x 16."""
    config = dict(NANO)
    if name == "crnn3d":
        config = {key: config[key] for key in ("size", "dim", "depth", "decoder_channels")}
        config["stem_channels"] = [8, 16]
    if name == "tubevit":
        config = {key: value for key, value in config.items() if key != "decoder_channels"}
        config["tubes"] = NANO_TUBES
    if more.get("variant") == "factorised_encoder":
        config |= {"depth": 2, "temporal_depth": 1}
    return create_model(name, **(config | more))


def clip(size, frames=10, height=64, width=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=generator)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- all four ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        ("crnn3d", {}, 1_697_156),
        ("crnn3d", {"peepholes": True}, 1_697_156 + 36_864),
        ("crnn3d", {"residual_input": True}, 1_697_156 + 864),
        ("vit", {}, 1_127_300),
        ("vit", {"dense_task": False}, 750_434),
        ("vit", {"frames": "last"}, 1_127_300 - 9 * 64 * 96 - (376_866 - 293_922)),
        ("vivit", {}, 1_069_316),
        ("vivit", {"dense_task": False}, 738_530),
        ("vivit", {"variant": "factorised_encoder"}, 1_069_508),
        ("vivit", {"variant": "factorised_self_attention"}, 1_292_132),
        ("tubevit", {}, 707_139),
        ("tubevit", {"base": [8, 8, 8]}, 817_731),
    ],
)
def test_parameter_counts(name, config, parameters):
    assert create_model(name, **config).num_parameters() == parameters


def test_parts_of_crnn3d_have_their_counts():
    model = create_model("crnn3d")
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == {"input_norm": 0, "stem": 74_976, "cells": 2 * 663_936, "head": 386, "decoder": 293_922}


def test_they_are_registered():
    assert set(NAMES) <= set(list_models())
    for name in NAMES:
        assert (model_info(name).modality, model_info(name).dense) == ("visual", name != "tubevit")
        assert model_info(name).reinterpretation == (name == "crnn3d")


@pytest.mark.parametrize(
    ("name", "config"), [(name, {}) for name in NAMES] + [("vivit", {"variant": v}) for v in VARIANTS[1:]]
)
def test_full_size_runs_forward(name, config):
    with torch.no_grad():
        output = create_model(name, **config).eval()(video=clip(1))
    assert output.logits.shape == (1, 2)
    if name == "tubevit":
        assert output.pixel_logits is None
    else:
        assert output.pixel_logits.shape == (1, 2, 64, 64)


@pytest.mark.parametrize("name", NAMES)
def test_another_size_is_refused(name):
    model = nano(name)
    with pytest.raises(InputError, match=rf"{name}: video: expected \(B, 3, (4|any), 16, 16\), got None; "):
        model()
    with pytest.raises(InputError, match=rf"{name}: video: expected .*, got \(2, 3, 4, 24, 16\); "):
        model(video=clip(2, 4, 24, 16))
    if name != "crnn3d":
        with pytest.raises(InputError, match=rf"{name}: video: expected .*, got \(2, 3, 5, 16, 16\); "):
            model(video=clip(2, 5, 16, 16))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("crnn3d", {"size": [64, 60]}),
        ("vit", {"size": [60, 64]}),
        ("vivit", {"num_frames": 9}),
        ("vivit", {"size": [4, 64]}),
        ("vivit", {"variant": "factorised_encoder", "temporal_depth": 6}),
        ("vivit", {"variant": "factorised_encoder", "temporal_depth": 0}),
        ("tubevit", {"num_frames": 4}),
        ("tubevit", {"size": [16, 64]}),
        ("tubevit", {"dim": 100}),
        ("tubevit", {"tubes": []}),
    ],
)
def test_what_cannot_be_built_is_refused(name, config):
    with pytest.raises(InputError, match=f"^{name}: "):
        create_model(name, **config)


@pytest.mark.parametrize(
    ("name", "config"), [(name, {}) for name in NAMES] + [("vivit", {"variant": v}) for v in VARIANTS[1:]]
)
def test_overfits_eight_windows(name, config):
    torch.manual_seed(0)
    model = nano(name, **config).train()
    video, labels = clip(8, 4, 16, 16), torch.arange(8) % 2
    mask = torch.zeros(8, 16, 16, dtype=torch.uint8)
    mask[labels.bool(), 4:12, 2:8] = 1
    batch = {"video": video, "mask": mask, "class_label": labels}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=6e-3)
    for _ in range(70):
        loss = model.objective(model(video=video), batch, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        output = model(video=video)  # training mode: so few steps have not settled the running statistics
    assert F.cross_entropy(output.logits, labels) < 0.05
    assert torch.equal(output.logits.argmax(1), labels)
    if model.dense:
        assert F.cross_entropy(output.pixel_logits, mask.long()) < 0.1


# --- 3DCRNN -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(5, 7, 1), (96, 96, 3), (6, 4, 5)])
def test_parameters_of_a_cell(inputs, outputs, kernel):
    cell = ConvLstmCell(inputs, outputs, kernel)
    expected = 4 * outputs * (inputs + outputs) * kernel**2 + 4 * outputs
    assert sum(p.numel() for p in cell.parameters()) == expected
    with_peepholes = ConvLstmCell(inputs, outputs, kernel, peephole=(3, 5))
    assert sum(p.numel() for p in with_peepholes.parameters()) == expected + 3 * outputs * 15


def test_cell_of_one_place_is_an_lstm():
    cell, lstm = ConvLstmCell(5, 7, kernel=1).double(), nn.LSTMCell(5, 7).double()
    with torch.no_grad():  # both order their gates i, f, g, o
        cell.gates.weight.copy_(torch.cat([lstm.weight_ih, lstm.weight_hh], 1)[..., None, None])
        cell.gates.bias.copy_(lstm.bias_ih + lstm.bias_hh)
    state, expected = cell.start(torch.zeros(3, 5, 1, 1).double()), None
    for step in range(4):
        x = random(3, 5, seed=step)
        state, expected = cell(x[..., None, None], state), lstm(x, expected)
    for got, want in zip(state, expected, strict=True):
        torch.testing.assert_close(got[..., 0, 0], want, rtol=0, atol=1e-14)


def test_open_forget_and_closed_input_gate_keep_the_cell():
    cell, outputs = ConvLstmCell(3, 4), 4
    with torch.no_grad():
        cell.gates.weight.zero_()
        cell.gates.bias.copy_(torch.tensor([-100.0, 100.0, 5.0, 0.0]).repeat_interleave(outputs))
    kept = random(2, 4, 5, 6, seed=1, dtype=torch.float32)
    hidden, new = cell(random(2, 3, 5, 6, dtype=torch.float32), (torch.zeros(2, 4, 5, 6), kept))
    assert torch.equal(new, kept)
    torch.testing.assert_close(hidden, 0.5 * kept.tanh())


def test_peepholes_see_the_cell():
    """i and f the old cell, o the new one (Shi et al., eq. 3), by hand."""
    cell = ConvLstmCell(2, 3, peephole=(4, 5)).double()
    with torch.no_grad():
        cell.peephole.copy_(random(3, 3, 4, 5, seed=1))
    x, hidden, old = random(1, 2, 4, 5, seed=2), random(1, 3, 4, 5, seed=3), random(1, 3, 4, 5, seed=4)
    i, f, g, o = F.conv2d(torch.cat([x, hidden], 1), cell.gates.weight, cell.gates.bias, padding=1).chunk(
        4, 1
    )
    w_i, w_f, w_o = cell.peephole
    new = torch.sigmoid(f + w_f * old) * old + torch.sigmoid(i + w_i * old) * torch.tanh(g)
    got = cell(x, (hidden, old))
    torch.testing.assert_close(got[1], new)
    torch.testing.assert_close(got[0], torch.sigmoid(o + w_o * new) * torch.tanh(new))


@pytest.mark.parametrize("config", [{}, {"peepholes": True}, {"residual_input": True}])
def test_crnn3d_sees_the_order_of_frames(config):
    model, video = nano("crnn3d", **config).eval(), clip(2, 4, 16, 16)
    with torch.no_grad():
        forward, backward = model(video=video), model(video=video.flip(2))
        hidden = [model.last_hidden(model.input_norm.video(one)) for one in (video, video.flip(2))]
    assert (hidden[0] - hidden[1]).abs().mean() > 0.02 * hidden[0].abs().mean()
    assert (forward.logits - backward.logits).abs().max() > 1e-4
    assert not torch.equal(forward.pixel_logits, backward.pixel_logits)


@pytest.mark.parametrize("frames", [1, 7])
def test_crnn3d_takes_any_number_of_frames(frames):
    output = nano("crnn3d").eval()(video=clip(2, frames, 16, 16))
    assert output.pixel_logits.shape == (2, 2, 16, 16)


def test_residual_input_is_the_difference_to_the_first_frame():
    """A still clip: the second three channels are zero, so their weights do not matter."""
    model = nano("crnn3d", residual_input=True).eval()
    moving, still = clip(1, 4, 16, 16), clip(1, 1, 16, 16).expand(-1, -1, 4, -1, -1)
    with torch.no_grad():
        before = [model(video=video).logits for video in (moving, still)]
        model.stem[0].weight[:, 3:] *= 3
        after = [model(video=video).logits for video in (moving, still)]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


# --- ViT --------------------------------------------------------------------------------------------------


def test_patches_and_linear_map_are_a_convolution():
    model, video = create_model("vit").double(), clip(2).double()
    linear = model.embed.linear
    kernel = linear.weight.reshape(96, 8, 8, 3).permute(0, 3, 1, 2)
    frames = video.transpose(1, 2).flatten(0, 1)
    image = F.conv2d(frames, kernel, linear.bias, stride=8)  # (b T, 96, 8, 8)
    expected = image.flatten(2).transpose(1, 2).reshape(2, 640, 96)
    torch.testing.assert_close(linear(patchify(video, (1, 8, 8))), expected, rtol=1e-9, atol=1e-9)


def test_vit_without_positions_does_not_see_the_order_of_patches():
    model = create_model("vit").double().eval()
    patches = model.input_norm.video(patchify(clip(1), (1, 8, 8)))
    order = torch.randperm(640, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with_positions = model.encode(patches)[:, 0] - model.encode(patches[:, order])[:, 0]
        assert with_positions.abs().max() > 1e-3
        model.position.zero_()
        plain, permuted = model.encode(patches), model.encode(patches[:, order])
    torch.testing.assert_close(permuted[:, 0], plain[:, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(permuted[:, 1:], plain[:, 1:][:, order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("frames", ["all", "last"])
def test_which_frames_vit_sees(frames):
    model, video = nano("vit", frames=frames).eval(), clip(2, 4, 16, 16)
    with torch.no_grad():
        plain = model(video=video).logits
        first, last = video.clone(), video.clone()
        first[:, :, 0], last[:, :, -1] = 0, 0
        assert torch.equal(model(video=first).logits, plain) == (frames == "last")
        assert not torch.equal(model(video=last).logits, plain)


# --- ViViT ------------------------------------------------------------------------------------------------

OFFICIAL_LAYER = {
    "attention.norm": "0.norm",
    "attention.qkv": "0.to_qkv",
    "attention.out": "0.to_out.0",
    "mlp.norm": "1.net.0",
    "mlp.up": "1.net.1",
    "mlp.down": "1.net.4",
}
OFFICIAL = {
    "embed.norm_in": "to_patch_embedding.1",
    "embed.linear": "to_patch_embedding.2",
    "embed.norm_out": "to_patch_embedding.3",
    "head.0": "head.mlp_head1.0",
    "head.1": "head.mlp_head1.1",
    "encoder.class_token": "cls_token",
    "encoder.position": "pos_embedding.pe",
}


def official_name(name):
    """The released video-only model's name of one of ViViT's tensors."""
    if name in OFFICIAL:
        return OFFICIAL[name]
    owner, _, leaf = name.rpartition(".")
    if owner.startswith("encoder.blocks."):
        _, _, layer, part = owner.split(".", 3)
        return f"transformer.layers.{layer}.{OFFICIAL_LAYER[part]}.{leaf}"
    return f"{OFFICIAL[owner]}.{leaf}"


def test_joint_vivit_is_the_released_video_model():
    """Its logits without dilated tokens, for weights and clips that follow a formula of the tensors' names."""
    model = create_model("vivit", raw_input=True, dense_task=False).double().eval()
    state = {}
    for name, value in model.state_dict().items():
        official = official_name(name)
        k = zlib.crc32(official.encode()) % 1000
        filled = 0.1 * torch.sin(0.7 * k + 0.13 * torch.arange(value.numel(), dtype=torch.float64))
        state[name] = filled.reshape(value.shape) + (value.dim() == 1 and official.endswith("weight"))
    model.load_state_dict(state)
    shape = (2, 3, 10, 64, 64)
    video = 127.5 * (1 + torch.sin(0.011 * torch.arange(2 * 3 * 10 * 64 * 64, dtype=torch.float64))).reshape(
        shape
    )
    golden = torch.tensor([[-0.71447514, -0.67019960], [-0.71147354, -0.66898168]], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(video=video).logits, golden, rtol=0, atol=1e-7)


def test_joint_attention_reaches_every_tubelet():
    encoder, tubelets = nano("vivit").double().eval().encoder, random(1, 2, 4, 24)
    changed = tubelets.clone()
    changed[0, 0, 1] += random(24, seed=1)
    with torch.no_grad():
        difference = (encoder(tubelets)[1] - encoder(changed)[1]).abs().amax(-1)
    assert (difference > 1e-4).all()


def test_time_attention_of_one_time_index_is_a_linear_map():
    """Softmax over one token is 1: the update is out(v(LN x)), of each token by itself."""
    block = nano("vivit", variant="factorised_self_attention").double().encoder.blocks[0]
    tokens = random(2, 1, 5, 24)
    with torch.no_grad():
        expected = tokens + block.space(tokens.flatten(0, 1)).unflatten(0, (2, 1))
        value = F.linear(block.time.norm(expected), block.time.qkv.weight[48:])
        expected = expected + block.time.out(value)
        expected = expected + block.mlp(expected)
        torch.testing.assert_close(block(tokens), expected, rtol=0, atol=1e-12)


def test_factorised_attention_stays_in_its_axis():
    """Space does not mix time indices, time does not mix places; a layer of both reaches everything."""
    block = nano("vivit", variant="factorised_self_attention").double().encoder.blocks[0]
    tokens = random(1, 3, 4, 24)
    changed = tokens.clone()
    changed[0, 1, 2] += random(24, seed=1)

    def touched():
        return (block(tokens) != block(changed)).any(-1)[0]

    with torch.no_grad():
        assert touched().all()
        kept = block.time.out.weight.clone()
        block.time.out.weight.zero_()
        assert touched().nonzero()[:, 0].unique().tolist() == [1]
        block.time.out.weight.copy_(kept)
        block.space.out.weight.zero_()
        assert touched().nonzero()[:, 1].unique().tolist() == [2]


def test_factorised_encoder_without_positions_does_not_see_the_order_in_a_frame():
    encoder = nano("vivit", variant="factorised_encoder").double().eval().encoder
    tubelets = random(1, 2, 4, 24)
    permuted = tubelets.clone()
    permuted[:, 1] = tubelets[:, 1, [2, 0, 3, 1]]
    with torch.no_grad():
        assert (encoder.encode_space(permuted) - encoder.encode_space(tubelets))[:, 1, 0].abs().max() > 1e-3
        encoder.position.zero_()
        plain, other = encoder.encode_space(tubelets), encoder.encode_space(permuted)
    torch.testing.assert_close(other[:, :, 0], plain[:, :, 0], rtol=0, atol=1e-12)
    assert torch.equal(other[:, 0], plain[:, 0])


def test_factorised_encoder_keeps_frames_apart_until_the_temporal_stage():
    encoder = nano("vivit", variant="factorised_encoder").double().eval().encoder
    tubelets, changed = random(1, 2, 4, 24), random(1, 2, 4, 24)
    changed[:, 0] += random(4, 24, seed=1)
    with torch.no_grad():
        assert torch.equal(encoder.encode_space(changed)[:, 1], encoder.encode_space(tubelets)[:, 1])
        assert (encoder(changed)[0] - encoder(tubelets)[0]).abs().max() > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_random_in_evaluation(variant):
    model, video = nano("vivit", variant=variant).eval(), clip(2, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(video=video).logits, model(video=video).logits)


# --- TubeViT ----------------------------------------------------------------------------------------------

ORIGINAL = [
    (((8, 8, 8), (16, 32, 32), (0, 0, 0)), (2, 7, 7)),
    (((16, 4, 4), (6, 32, 32), (4, 8, 8)), (3, 7, 7)),
    (((4, 12, 12), (16, 32, 32), (0, 16, 16)), (2, 7, 7)),
    (((1, 16, 16), (32, 16, 16), (0, 0, 0)), (1, 14, 14)),
]


def count(grid):
    return grid[0] * grid[1] * grid[2]


@pytest.mark.parametrize(("tube", "grid"), ORIGINAL)
def test_grids_of_the_papers_tubes(tube, grid):
    assert tube_grid(tube, (32, 224, 224)) == grid


def test_the_papers_tubes_are_539():
    assert sum(count(tube_grid(tube, (32, 224, 224))) for tube, _ in ORIGINAL) == 539


@pytest.mark.parametrize(("frames", "counts"), [(10, [48, 48, 27, 64]), (8, [32, 32, 18, 64])])
def test_counts_of_our_tubes(frames, counts):
    assert [count(tube_grid(tube, (frames, 64, 64))) for tube in TUBES] == counts
    tokens = TubeTokens(TubeViTConfig(num_frames=frames))
    assert tokens.position.shape == (sum(counts), 96)
    assert tokens(torch.zeros(1, 3, frames, 64, 64)).shape == (1, sum(counts), 96)
    assert sum(counts) == {10: 187, 8: 146}[frames]


@pytest.mark.parametrize("frames", [8, 10])
def test_grid_is_what_fits(frames):
    """Counted by placing tubes until one sticks out."""
    for tube in TUBES:
        for axis, size in enumerate((frames, 64, 64)):
            extent, stride, offset = (part[axis] for part in tube)
            places = [start for start in range(offset, size, stride) if start + extent <= size]
            assert tube_grid(tube, (frames, 64, 64))[axis] == len(places)


def test_base_kernel_is_used_untouched_at_its_own_extent():
    tokens = TubeTokens(TubeViTConfig())
    assert tokens.resized((2, 8, 8)) is tokens.kernel
    resized = tokens.resized((4, 4, 4))
    assert resized.shape == (96, 3, 4, 4, 4)
    expected = F.interpolate(tokens.kernel, (4, 4, 4), mode="trilinear", align_corners=False)
    assert torch.equal(resized, expected)
    constant = TubeTokens(TubeViTConfig())
    nn.init.constant_(constant.kernel, 0.25)
    torch.testing.assert_close(constant.resized((1, 12, 12)), torch.full((96, 3, 1, 12, 12), 0.25))


def test_equal_centres_have_equal_positions():
    wide, narrow = ((1, 12, 12), (4, 16, 16), (0, 8, 8)), ((1, 8, 8), (4, 16, 16), (0, 10, 10))
    shape = (10, 64, 64)
    assert tube_grid(wide, shape) == tube_grid(narrow, shape) == (3, 3, 3)
    positions = tube_positions(wide, (3, 3, 3), 96)
    assert torch.equal(positions, tube_positions(narrow, (3, 3, 3), 96))
    assert len(positions.unique(dim=0)) == 27
    shifted = ((1, 8, 8), (4, 16, 16), (0, 11, 10))
    assert not torch.equal(positions, tube_positions(shifted, (3, 3, 3), 96))


def test_positions_are_sines_of_the_centres():
    """Of tube 1 at index (1, 2, 3): centre (4 + 1, 32 + 4, 48 + 4), 32 values an axis."""
    row = tube_positions(TUBES[0], (3, 4, 4), 96).reshape(3, 4, 4, 96)[1, 2, 3]
    for axis, centre in enumerate((5, 36, 52)):
        rate = 10000.0 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
        expected = torch.stack([torch.sin(centre * rate), torch.cos(centre * rate)], 1).flatten()
        torch.testing.assert_close(row[32 * axis : 32 * (axis + 1)].double(), expected, rtol=0, atol=1e-6)


def test_positions_are_not_learned():
    model = create_model("tubevit")
    assert not any("position" in name for name, _ in model.named_parameters())
    assert not model.tokens.position.requires_grad


def seen_of_the_last_frame(**config):
    """Share of the newest frame's pixels with a gradient."""
    tokens = TubeTokens(TubeViTConfig(**config)).double()
    video = random(1, 3, 10, 64, 64).requires_grad_()
    (gradient,) = torch.autograd.grad(tokens(video).square().sum(), video)
    return (gradient[0, :, -1] != 0).any(0).double().mean().item()


def test_the_labelled_frame_is_seen_whole():
    assert seen_of_the_last_frame() == 1.0
    assert seen_of_the_last_frame(image="offset") == 0.25


def test_each_token_sees_its_own_box():
    """By the gradient of every token with respect to a clip of frames with H != W."""
    tokens = TubeTokens(TubeViTConfig(num_frames=6, size=(32, 48), dim=24)).double()
    video = random(1, 3, 6, 32, 48).requires_grad_()
    boxes = []
    for extent, stride, offset in tokens.tubes:
        grid = tube_grid((extent, stride, offset), (6, 32, 48))
        for index in torch.cartesian_prod(*(torch.arange(n) for n in grid)).tolist():
            start = [i * s + o for i, s, o in zip(index, stride, offset, strict=True)]
            boxes.append(tuple(slice(a, a + e) for a, e in zip(start, extent, strict=True)))
    output = tokens(video)
    assert output.shape[1] == len(boxes)
    for token, box in enumerate(boxes):
        (gradient,) = torch.autograd.grad(output[0, token].square().sum(), video, retain_graph=True)
        seen = (gradient[0] != 0).any(0)
        expected = torch.zeros(6, 32, 48, dtype=torch.bool)
        expected[box] = True
        assert torch.equal(seen, expected)


def test_image_tubes_at_the_last_frame():
    first, last = TubeViTConfig(image="offset"), TubeViTConfig()
    assert first.placed_tubes == TUBES
    assert last.placed_tubes[:3] == TUBES[:3]  # the third has one frame too, but three time indices
    assert last.placed_tubes[3] == ((1, 8, 8), (10, 8, 8), (9, 0, 0))
    video = torch.zeros(1, 3, 10, 64, 64)
    tokens = TubeTokens(last)
    plain = tokens(video)
    video[:, :, 9] = 1
    assert ((tokens(video) != plain).any(-1)[0, -64:]).all()


def test_pooling_is_a_weighted_mean_that_ignores_its_bias():
    pool = create_model("tubevit").pool.double()
    tokens = random(2, 7, 96)
    scores = tokens @ pool.score.weight[0]
    expected = torch.einsum("bn,bnd->bd", torch.softmax(scores, 1), tokens)
    torch.testing.assert_close(pool(tokens), expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        pool.score.bias += 3
    torch.testing.assert_close(pool(tokens), expected, rtol=0, atol=1e-12)
