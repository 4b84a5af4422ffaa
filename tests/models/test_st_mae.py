"""ST-MAE beside its paper: the transition, the losses and scores of eqs. (6) to (9), sizes, thresholds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch.nn import functional as F

import fmfbench
from fmfbench.errors import InputError
from fmfbench.exchange.predictions import read_predictions
from fmfbench_models import FitData, create_model, load_checkpoint
from fmfbench_models.checkpoint import save_checkpoint
from fmfbench_models.inference.predict import predict
from fmfbench_models.parts.anomaly_map import (
    anomaly_map,
    blur,
    intensity,
    orientation,
    spread,
    youden_threshold,
)
from fmfbench_models.registry import registration
from fmfbench_models.training.train import train
from fmfbench_models.zoo.st_mae import gather_halves, scatter_halves, to_features, to_patches

TRUNK = 10_585_152
HEIGHT, WIDTH = 16, 24


def small(**config):
    """The tiny model with a patch for each of 24 places: H != W, and enough places to tell halves apart."""
    torch.manual_seed(0)
    return create_model("st_mae", **{**registration("st_mae").tiny, "patch": 1, "dim": 24, **config})


def images(count=3, seed=0, size=(HEIGHT, WIDTH)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


def batch(count=4, seed=0, labels=None, frames=2):
    video = torch.stack([images(count, seed + k) for k in range(frames)], 2)
    labels = torch.zeros(count) if labels is None else torch.tensor(labels)
    return {"video": video, "class_label": labels.to(torch.uint8)}


# --- sizes


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


# --- the split and the transition


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


# --- features


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


# --- losses, eqs. (6) to (8)


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


# --- maps and scores, eq. (9) and after


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 4.0])
def test_blur_is_scipys(sigma):
    image = torch.rand(2, 20, 31, dtype=torch.float64)
    theirs = [scipy.ndimage.gaussian_filter(one.numpy(), sigma, mode="nearest") for one in image]
    np.testing.assert_allclose(blur(image, sigma).numpy(), np.stack(theirs), rtol=0, atol=1e-13)


def test_no_smoothing_is_the_identity():
    image = torch.rand(2, 5, 7)
    assert torch.equal(blur(image, 0.0), image)
    assert torch.equal(blur(image, 0.1), image)
    assert not torch.equal(blur(image, 0.3), image)


def test_map_by_other_means():
    """Residual, bilinear resize, Gaussian: against opencv's resize and scipy's filter."""
    cv2 = pytest.importorskip("cv2")
    residual = torch.rand(2, 4, 6, dtype=torch.float64)
    found = anomaly_map(residual, (16, 24), 1.0)
    for one, ours in zip(residual.numpy(), found.numpy(), strict=True):
        large = cv2.resize(one, (24, 16), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(ours, scipy.ndimage.gaussian_filter(large, 1.0, mode="nearest"), atol=1e-6)


def test_map_of_the_model():
    model = small(sigma=0.0).double().eval()
    found = model.judge(images(2))["map"]
    patches = model.patches(images(2))
    places = to_features(patches, [4, 6], 1)
    there = to_features(model.rebuild(patches, model.splits.expand(2, -1)), [4, 6], 1)
    inside = torch.empty(2, 4, 6, dtype=torch.float64)
    for b, h, w in np.ndindex(2, 4, 6):
        f, g = places[b, h, w], there[b, h, w]
        inside[b, h, w] = (f - g).dot(f - g) * (1 - f.dot(g) / (f.norm() * g.norm()))
    wanted = F.interpolate(inside[:, None], (16, 24), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, wanted)


def test_image_score_is_the_standard_deviation():
    maps = torch.rand(3, 5, 7, dtype=torch.float64)
    np.testing.assert_allclose(spread(maps).numpy(), [one.numpy().std() for one in maps], rtol=1e-13)
    assert spread(torch.full((2, 5, 7), 0.5)).max() == 0
    assert spread(torch.full((2, 5, 7), 0.1)).max() < 1e-7


def test_logits_are_logs_against_thresholds():
    model, data = small().eval(), batch(3)
    model.log_pixel_threshold.fill_(math.log(0.7))
    model.log_image_threshold.fill_(math.log(0.05))
    output = model(data["video"])
    maps = output.aux["map"]
    assert (output.logits[:, 0] == 0).all()
    assert (output.pixel_logits[:, 0] == 0).all()
    torch.testing.assert_close(output.pixel_logits[:, 1], (maps / 0.7).log())
    torch.testing.assert_close(output.scores(), spread(maps) / (spread(maps) + 0.05))
    assert torch.equal(output.masks(), output.pixel_logits[:, 1] > 0)
    wrong = (output.masks() != (maps > 0.7)) & ((maps - 0.7).abs() > 1e-5)
    assert not wrong.any()


# --- thresholds


def fitted(model, validation, train=None):
    model.fit(FitData(train=train or [batch(2, 50)], validation=validation))
    return model.log_pixel_threshold.exp().item(), model.log_image_threshold.exp().item()


def test_thresholds_are_quantiles_of_normal_validation():
    model = small()
    batches = [batch(5, seed=10 * k, labels=[0, 1, 0, 255, 0]) for k in range(4)]
    pixel, image = fitted(model, batches)
    with torch.no_grad():
        maps = torch.cat([model.eval()(b["video"]).aux["map"][[0, 2, 4]] for b in batches])
    assert pixel == pytest.approx(np.sort(maps.numpy().ravel())[math.ceil(0.995 * maps.numel())], rel=0.01)
    assert (maps > pixel).float().mean() == pytest.approx(0.005, abs=0.001)
    assert image == pytest.approx(np.quantile(spread(maps).double().numpy(), 0.95), rel=1e-5)
    facts = model.meta.provenance["thresholds"]
    assert facts["samples"] == "validation"
    assert facts["normal"] == 12
    assert facts["abnormal_labels_used"] == 0


def test_thresholds_do_not_look_at_abnormal_samples():
    """The same normal samples among others that are labelled abnormal: the same thresholds."""
    normal = batch(4, seed=3)
    bright = {"video": torch.full_like(normal["video"], 255), "class_label": torch.ones(4, dtype=torch.uint8)}
    assert fitted(small(), [normal]) == fitted(small(), [normal, bright])


def test_thresholds_without_validation_are_the_training_samples_and_say_so():
    model, train = small(), [batch(4, seed=7)]
    assert fitted(model, None, train) == fitted(small(), train)
    assert model.meta.provenance["thresholds"]["samples"] == "train"


def test_thresholds_want_normal_samples():
    with pytest.raises(InputError, match="normal validation samples"):
        fitted(small(), [batch(3, labels=[1, 1, 1])])


def test_youden_uses_labels_and_says_so():
    model = small(image_threshold="youden")
    batches = [batch(6, seed=20 * k, labels=[0, 1, 0, 1, 1, 0]) for k in range(3)]
    _, image = fitted(model, batches)
    with torch.no_grad():
        scores = torch.cat([spread(model.eval()(b["video"]).aux["map"]) for b in batches]).double().numpy()
    labels = np.concatenate([b["class_label"].numpy() for b in batches])
    assert image == pytest.approx(youden_threshold(scores, labels), rel=1e-5)
    facts = model.meta.provenance["thresholds"]
    assert "Youden" in facts["image"]
    assert facts["abnormal_labels_used"] == 9
    with pytest.raises(InputError, match="normal and abnormal validation samples, got 3 and 0"):
        fitted(small(image_threshold="youden"), [batch(3)])


@pytest.mark.parametrize(
    ("score", "label", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.35, 0.7], [0, 0, 0, 1, 1], 0.325),
        ([0.7, 0.75, 0.8, 0.9], [0, 0, 1, 0], 0.775),
        ([0.2, 0.4], [1, 0], 0.4),  # the wrong way round: best to call none
        ([0.2, 0.2], [1, 0], 0.2),  # nothing to tell them by
    ],
)
def test_youden_by_hand(score, label, expected):
    assert youden_threshold(np.array(score), np.array(label)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_youden_is_the_best_of_all_thresholds(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 40)
    score = np.round(rng.random(40) + 0.4 * label, 1)  # with ties

    def gain(threshold):
        called = score > threshold
        return called[label == 1].mean() - called[label == 0].mean()

    chosen = youden_threshold(score, label)
    assert gain(chosen) == pytest.approx(max(map(gain, np.append(np.unique(score), -1.0))))
    false, true, _ = roc_curve(label, score)
    assert gain(chosen) == pytest.approx((true - false).max())


# --- does it detect?


def test_finds_a_patch_that_its_surroundings_do_not_predict():
    """Stripes learned from normal images; a square of other stripes is found, by image and by pixel."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def striped(count, broken):
        row, column = np.arange(24)[:, None], np.arange(32)
        phase = rng.integers(0, 4, count)[:, None, None]
        stripes, others = (60 * ((axis + phase) // 2 % 2) for axis in (column, row))
        mask = np.zeros((count, 24, 32), bool)
        if broken:
            top, left = rng.integers(0, 17, (count, 1, 1)), rng.integers(0, 25, (count, 1, 1))
            mask = (row >= top) & (row < top + 8) & (column >= left) & (column < left + 8)
        image = 60 + np.where(mask, others + 60, stripes) + rng.integers(0, 12, mask.shape)
        return torch.from_numpy(image.astype(np.uint8))[:, None, None].repeat(1, 3, 1, 1, 1), mask

    model = small(size=(24, 32), dim=24, decoder_dim=24, sigma=1.0).train()
    normal, _ = striped(48, False)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for step in range(60):
        part = {"video": normal[(8 * step) % 48 :][:8]}
        loss = model.objective(model(part["video"]), part, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    good, good_mask = striped(30, False)
    bad, bad_mask = striped(30, True)
    with torch.no_grad():
        maps = model.eval()(torch.cat([good, bad])).aux["map"]
    labels = np.repeat([0, 1], 30)
    assert roc_auc_score(labels, spread(maps).numpy()) > 0.95
    pixel = np.concatenate([good_mask, bad_mask])
    assert roc_auc_score(pixel.ravel(), maps.numpy().ravel()) > 0.9


# --- from a store to a score


@pytest.fixture(scope="module")
def trained(furnace_store, tmp_path_factory):
    tiny = {k: v for k, v in registration("st_mae").tiny.items() if k != "size"}
    lengths = {"protocol.num_frames": 2, "protocol.stride": 1, "protocol.current_seconds": 2}
    options = {**tiny, **lengths, "epochs": 12, "batch_size": 8, "lr": 3e-3, "patch": 1}
    out = tmp_path_factory.mktemp("st_mae") / "run"
    return train("st_mae", furnace_store, out, options=options, device="cpu")


def test_a_run_learns_from_normal_frames_and_finds_the_others(trained, furnace_store, tmp_path):
    file = predict(trained, furnace_store, tmp_path / "p.npz", device="cpu", pixel_scores="float32")
    predictions = read_predictions(file)
    data = fmfbench.open_dataset(furnace_store)
    label = data.class_labels(predictions.sample_id)
    assert predictions.meta["normal_only"]
    assert roc_auc_score(label, predictions.score) > 0.95
    found = fmfbench.score(file, data, split="test")
    assert found.metrics["accuracy"] > 0.8
    assert found.metrics["miou"] is not None
    assert found.evidence.ranking["pixel_auroc"] > 0.9
    model = load_checkpoint(trained)
    facts = model.meta.provenance["thresholds"]
    assert facts["samples"] == "validation"
    assert facts["abnormal_labels_used"] == 0
    assert model.meta.provenance["recipe"]["normal_only"]
    assert model.meta.provenance["backbone"]["weights"] == "random"
    # the thresholds are part of what was saved
    assert model.log_pixel_threshold != 0
    assert model.log_image_threshold != 0


def test_validation_loss_is_the_models_own(trained):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert epochs[-1]["val_loss"] < epochs[0]["val_loss"]
    model = load_checkpoint(trained)
    weight = model.config.orientation_weight
    assert epochs[-1]["loss"] == pytest.approx(
        epochs[-1]["intensity"] + weight * epochs[-1]["orientation"], rel=1e-5
    )


def test_a_checkpoint_without_a_mean_image_opens_as_it_was(tmp_path):
    """0.1.0 wrote none: the network then saw and predicted the features themselves."""
    from fmfbench_models.checkpoint import read_tensors, write_tensors

    model = create_model("st_mae", **registration("st_mae").tiny).eval()
    save_checkpoint(tmp_path / "new.safetensors", model)
    tensors, facts = read_tensors(tmp_path / "new.safetensors")
    old = {name: value for name, value in tensors.items() if not name.startswith("feature_")}
    assert len(old) == len(tensors) - 2
    write_tensors(tmp_path / "old.safetensors", old, facts)
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    video = torch.randint(0, 256, (2, 3, 2, *model.config.size), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(video=video).logits, model(video=video).logits)


def test_prepare_takes_mean_and_scale_of_normal_frames():
    model = create_model("st_mae", **registration("st_mae").tiny)
    generator = torch.Generator().manual_seed(2)
    batches = [
        {
            "video": torch.randint(
                0, 256, (n, 3, 2, *model.config.size), dtype=torch.uint8, generator=generator
            ),
            "class_label": torch.arange(n) % 2,
        }
        for n in (5, 4)
    ]
    model.prepare(FitData(train=batches))
    normal = torch.cat([batch["video"][batch["class_label"] == 0, :, -1] for batch in batches])
    patches = model.patches(normal).double()
    assert len(patches) == 5
    torch.testing.assert_close(model.feature_mean.double(), patches.mean(0), rtol=1e-5, atol=1e-6)
    scale = (patches - patches.mean(0)).square().mean().sqrt()
    assert model.feature_scale.item() == pytest.approx(scale.item(), rel=1e-4)
