"""ST-MAE beside its paper: sizes, the split, the transition, features, losses (6) to (8)."""

from __future__ import annotations

import math

import pytest
import torch
from conftest_st_mae import TRUNK, batch, images, small
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model, load_checkpoint
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.parts.anomaly_map import (
    intensity,
    orientation,
)
from fmfbench_models.zoo.st_mae import gather_halves, scatter_halves, to_features, to_patches


@pytest.mark.parametrize(
    ("preset", "config", "parameters"),
    [
        (None, {}, 1_657_728),
        ("paper-nano", {"size": (64, 64), "patch": 2}, 2_827_128),
        ("paper-base", {}, 130_673_408),
    ],
)
def test_parameters(preset, config, parameters):
    with torch.device("meta"):
        model = create_model("st_mae", preset=preset, **config)
    assert sum(value.numel() for value in model.backbone.parameters()) == TRUNK
    assert model.num_parameters() == parameters + TRUNK


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder"),
    [
        ("paper-nano", (6, 120, 12), (4, 128, 16)),
        ("paper-tiny", (12, 240, 12), (8, 256, 16)),
        ("paper-base", (12, 768, 12), (8, 512, 16)),
        ("paper-large", (24, 1024, 16), (8, 512, 16)),
    ],
)
def test_table_2(preset, encoder, decoder):
    """Layers, width and heads of both, and MLPs four times as wide, counted in the modules themselves."""
    with torch.device("meta"):
        model = create_model("st_mae", preset=preset)
    for stack, (layers, width, heads) in ((model.encoder, encoder), (model.decoder, decoder)):
        assert len(stack) == layers
        for block in stack:
            assert block.attention.heads == heads
            assert tuple(block.mlp.up.weight.shape) == (4 * width, width)
    assert model.config.size == (256, 256)
    assert model.splits.shape == (1, 256)  # 64 x 64 places, 4 x 4 a patch
    assert model.embed.in_features == 15_360


def test_settings_of_the_paper_for_32_pixels():
    with torch.device("meta"):
        model = create_model("st_mae", preset="paper-base", size=(32, 32), patch=1)
    assert model.splits.shape == (1, 64)
    assert model.embed.in_features == 960


def test_one_encoder_for_both_halves():
    """The Siamese encoder costs what the plain one does: it is one module, called once on both halves."""
    sizes = {design: small(design=design).num_parameters() for design in ("st_mae", "s_mae", "ae")}
    assert len(set(sizes.values())) == 1
    model, calls = small(), []
    model.encoder.register_forward_hook(lambda _module, inputs, _output: calls.append(inputs[0].shape))
    model.judge(images(3))
    assert calls == [torch.Size([6, 12, 24])] * 1


def test_halves_there_and_back():
    order = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(k)) for k in range(2)])
    tokens = torch.arange(2 * 6 * 5.0).reshape(2, 6, 5)
    halves = gather_halves(tokens, order)
    assert halves.shape == (2, 2, 3, 5)
    for b in range(2):
        for k in range(6):
            torch.testing.assert_close(halves[b, k // 3, k % 3], tokens[b, order[b, k]])
    torch.testing.assert_close(scatter_halves(halves, order), tokens)


def test_transition_by_hand():
    """Y1 goes to the places of S2 and Y2 to those of S1, the k-th to the k-th."""
    order = torch.tensor([[4, 0, 2, 5, 3, 1]])
    tokens = torch.arange(6.0)[None, :, None]
    moved = scatter_halves(gather_halves(tokens, order).flip(1), order)[0, :, 0]
    # S1 = 4, 0, 2 and S2 = 5, 3, 1: place 5 gets token 4, place 4 gets token 5, and so on
    assert moved.tolist() == [3.0, 2.0, 1.0, 0.0, 5.0, 4.0]


def jacobian(model, of):
    """(n outputs, n inputs): largest absolute derivative of what `of` makes of a token by a token before it."""
    torch.manual_seed(1)
    count = model.splits.shape[1]
    tokens = torch.randn(1, count, model.config.dim, dtype=torch.float64)
    full = torch.autograd.functional.jacobian(lambda x: of(x)[0], tokens)  # (n, d, 1, n, d)
    return full[:, :, 0].abs().amax((1, 3))


def test_latents_come_from_the_complement_alone():
    """The paper's claim, as a derivative: exactly zero by a token's own half, not zero by the other."""
    model = small().double().eval()
    order = model.splits[:1]
    found = jacobian(model, lambda tokens: model.latents(tokens, order))
    first, second = order[0].chunk(2)
    for here, there in ((first, second), (second, first)):
        assert found[here][:, here].max() == 0.0
        assert (found[here][:, there] > 0).all()


@pytest.mark.parametrize("design", ["s_mae", "ae"])
def test_without_the_transition_latents_see_their_own_half(design):
    model = small(design=design).double().eval()
    order = model.splits[:1]
    found = jacobian(model, lambda tokens: model.latents(tokens, order))
    first, second = order[0].chunk(2)
    assert (found[first][:, first] > 0).all()
    assert bool((found[first][:, second] > 0).all()) == (design == "ae")
    assert (found[first][:, second] == 0).all() == (design == "s_mae")


def test_the_decoder_sees_all_places():
    """What is true of the latents is not true of the output: the decoder attends to every place."""
    model = small().double().eval()
    order = model.splits[:1]

    def output(tokens):
        latents = model.link(model.latents(tokens, order)) + model.decoder_position
        return model.decoder(latents)

    first = order[0].chunk(2)[0]
    assert jacobian(model, output)[first][:, first].max() > 0


def test_the_whole_model_by_plain_loops():
    """Reconstruction as the paper tells it, with explicit softmax attention, token by token."""
    model = small(dim=12, heads=3, decoder_dim=8, decoder_heads=2, depth=2).double().eval()
    order, patches = model.splits[:1], torch.randn(1, 24, 192, dtype=torch.float64)

    def block(layer, x):
        dim, heads = x.shape[1], layer.attention.heads
        q, k, v = layer.attention.qkv(layer.attention.norm(x)).split(dim, dim=1)
        parts = []
        for columns in torch.arange(dim).chunk(heads):
            weight = (q[:, columns] @ k[:, columns].T / math.sqrt(dim / heads)).softmax(1)
            parts.append(weight @ v[:, columns])
        x = x + layer.attention.out(torch.cat(parts, 1))
        return x + layer.mlp.down(F.gelu(layer.mlp.up(layer.mlp.norm(x))))

    tokens = model.norm(model.embed(patches[0]) + model.position[0])
    subsets = order[0].tolist()[:12], order[0].tolist()[12:]
    encoded = []
    for subset in subsets:
        x = tokens[subset]
        for layer in model.encoder:
            x = block(layer, x)
        encoded.append(x)
    latents = torch.empty_like(tokens)
    for k in range(12):
        latents[subsets[1][k]] = encoded[0][k]
        latents[subsets[0][k]] = encoded[1][k]
    x = model.link(latents) + model.decoder_position[0]
    for layer in model.decoder:
        x = block(layer, x)
    torch.testing.assert_close(model.rebuild(patches, order)[0], model.out(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("design", ["st_mae", "s_mae"])
def test_an_odd_number_of_patches_is_refused(design):
    with pytest.raises(InputError, match="even number of patches.*3 x 5"):
        small(design=design, size=(12, 20))
    small(design=design, size=(12, 16))
    small(design="ae", size=(12, 20))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dim": 25}, "dim: expected a multiple of heads 3"),
        ({"decoder_dim": 25}, "decoder_dim: expected a multiple"),
        ({"size": (18, 24)}, "multiples of"),
        ({"sigma": -1.0}, "0 or more"),
        ({"splits": 0}, "splits: expected 1 or more"),
        ({"pixel_quantile": 1.0}, "pixel_quantile: expected above 0 and below 1"),
    ],
)
def test_refused_configurations(config, message):
    with pytest.raises(InputError, match=message):
        small(**config)


def test_split_at_test_time_is_seeded_and_travels(tmp_path):
    one, other = small(splits=3, split_seed=1), small(splits=3, split_seed=2)
    assert torch.equal(one.splits, small(splits=3, split_seed=1).splits)
    assert not torch.equal(one.splits, other.splits)
    for row in one.splits:
        assert sorted(row.tolist()) == list(range(24))
    assert not torch.equal(one.splits[0], one.splits[1])
    # drawn by another generator one day, a saved model must keep its own
    one.splits.copy_(other.splits)
    save_checkpoint(tmp_path / "model.safetensors", one)
    assert torch.equal(load_checkpoint(tmp_path / "model.safetensors").splits, other.splits)


def test_several_splits_are_the_mean_of_each():
    model = small(splits=3).eval()
    parts = []
    for row in range(3):
        alone = small().eval()
        alone.load_state_dict(model.state_dict() | {"splits": model.splits[row : row + 1]})
        parts.append(alone.judge(images()))
    together = model.judge(images())
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([part[name] for part in parts]).mean(0))


def test_training_splits_each_image_anew():
    model = small().train()
    torch.manual_seed(3)
    (order,) = model._orders(50, torch.device("cpu"))
    assert len({tuple(sorted(row[:12].tolist())) for row in order}) == 50
    share = torch.stack([torch.bincount(row[:12], minlength=24) for row in order]).double().mean(0)
    assert ((share > 0.25) & (share < 0.75)).all()  # each place is in the first half about half the time
    torch.manual_seed(3)
    assert torch.equal(model._orders(50, torch.device("cpu"))[0], order)
    assert torch.equal(model.eval()._orders(2, torch.device("cpu"))[0], model.splits.expand(2, -1))


def test_clip_takes_the_mean_of_its_frames():
    model, clip = small(frames="all").eval(), batch(2, frames=3)["video"]
    whole = model(clip).aux["map"]
    single = torch.stack([model(clip[:, :, k : k + 1]).aux["map"] for k in range(3)])
    torch.testing.assert_close(whole, single.mean(0))
    last = small(frames="last").eval()
    last.load_state_dict(model.state_dict())
    torch.testing.assert_close(last(clip).aux["map"], single[2])


def test_patches_there_and_back():
    features = torch.randn(2, 5, 6, 8)
    patches = to_patches(features, 2)
    assert patches.shape == (2, 12, 20)
    torch.testing.assert_close(to_features(patches, [3, 4], 2), features.permute(0, 2, 3, 1))
    theirs = F.unfold(features, 2, stride=2).unflatten(1, (5, 4)).permute(0, 3, 2, 1).flatten(2)
    torch.testing.assert_close(patches, theirs)


def test_features_are_the_trunks_on_one_grid():
    """Each channel of a place is what bilinear interpolation of its own map gives, by hand."""
    model = small().eval()
    scaled = model.input_norm.video(images())
    patches = model.patches(images())
    maps = model.backbone(scaled)
    # the grid of 4 x 6 samples a map of 16 x 24 at 1.5, 5.5, ...: the mean of four neighbours
    for one, start in zip(maps, (0, 64), strict=True):
        factor = one.shape[2] // 4
        rows, columns = (torch.arange(n) * factor + factor // 2 for n in (4, 6))
        by_hand = sum(one[:, :, rows - a][:, :, :, columns - b] for a in (0, 1) for b in (0, 1)) / 4
        grid = to_features(patches, [4, 6], 1).permute(0, 3, 1, 2)
        torch.testing.assert_close(grid[:, start : start + one.shape[1]], by_hand)


def test_the_trunk_stays_frozen():
    model = small().train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    data = batch(4)
    model.objective(model(data["video"]), data, 1.0)["loss"].backward()
    optimiser.step()
    assert not model.backbone.training
    assert all(value.grad is None and not value.requires_grad for value in model.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert model.position.grad.abs().max() > 0


def test_losses_by_hand():
    original = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
    rebuilt = torch.tensor([[[0.0, 2.0], [6.0, 8.0]]])
    assert intensity(rebuilt, original).tolist() == [[5.0, 25.0]]
    torch.testing.assert_close(orientation(rebuilt, original), torch.tensor([[1.0, 0.0]]))


def test_equal_input_and_output_cost_nothing():
    tokens = torch.randn(2, 7, 11, dtype=torch.float64)
    assert intensity(tokens, tokens).max() == 0
    assert orientation(tokens, tokens).max() < 1e-12


def test_orientation_does_not_see_the_scale_and_intensity_does():
    a, b = torch.randn(2, 3, 7, 11, dtype=torch.float64)
    torch.testing.assert_close(orientation(a, b), orientation(3.5 * a, b))
    torch.testing.assert_close(orientation(a, b), orientation(a, 0.2 * b))
    torch.testing.assert_close(orientation(-a, b), 2 - orientation(a, b))
    assert (intensity(3.5 * a, b) - intensity(a, b)).abs().min() > 1e-3


@pytest.mark.parametrize("weight", [0.0, 1.0, 5.0])
def test_objective_is_eq_8(weight):
    """Sums over the patches, by einsum; the mean over samples; lambda in front of the second term."""
    model = small(orientation_weight=weight).double().eval()
    data = batch(3)
    output = model(data["video"])
    patches = model.patches(data["video"][:, :, -1])
    rebuilt = model.rebuild(patches, model.splits.expand(3, -1))
    difference = rebuilt - patches
    first = torch.einsum("bnc,bnc->b", difference, difference)
    dot = torch.einsum("bnc,bnc->bn", rebuilt, patches)
    second = (1 - dot / (rebuilt.norm(dim=2) * patches.norm(dim=2))).sum(1)
    terms = model.objective(output, data, 1.0)
    torch.testing.assert_close(terms["intensity"], first.mean())
    torch.testing.assert_close(terms["orientation"], second.mean())
    torch.testing.assert_close(terms["loss"], (first + weight * second).mean())


def test_learning_sees_the_same_terms_without_the_map():
    model = small().train()
    patches = torch.randn(3, model.grid[0] * model.grid[1], model.out.out_features)
    torch.manual_seed(4)
    expected = model.compare(patches)
    torch.manual_seed(4)
    found = model.compare_to_learn(patches)
    assert set(expected) - set(found) == {"map"}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


def test_objective_leaves_abnormal_samples_out():
    model = small().eval()
    mixed = batch(4, labels=[0, 1, 0, 1])
    normal = {name: value[[0, 2]] for name, value in mixed.items()}
    terms, wanted = (model.objective(model(d["video"]), d, 1.0) for d in (mixed, normal))
    torch.testing.assert_close(terms, wanted)
    none = batch(4, labels=[1, 1, 1, 1])
    assert model.objective(model(none["video"]), none, 1.0)["loss"] == 0
    unlabelled = {"video": normal["video"]}
    torch.testing.assert_close(model.objective(model(unlabelled["video"]), unlabelled, 1.0), wanted)
