"""The 1-D CNN, PatchTST and ModernTCN: sizes, and each mechanism against its plain statement.

Also tests fmfbench_models.zoo: conv1d, modern_tcn, patchtst.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest_zoo_current import amperes
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model

SMALL = {"current_length": 30, "patch": 8, "stride": 4, "dim": 24, "depth": 1}


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        # convolutions without bias, two values of batch norm a channel, a linear map
        ("conv1d", {}, 3 * 128 * 8 + 128 * 256 * 5 + 256 * 128 * 3 + 2 * (128 + 256 + 128) + 2 * 128 + 2),
        ("patchtst", {}, 262_946),
        ("modern_tcn", {}, 70_914),
        ("conv1d", {"channels": [4], "kernels": [3]}, 3 * 4 * 3 + 8 + 10),
    ],
)
def test_parameter_counts(name, config, parameters):
    assert create_model(name, **config).num_parameters() == parameters


def test_cnn_is_convolution_norm_relu_three_times_and_the_mean():
    torch.manual_seed(0)
    model = create_model("conv1d", channels=[5, 4], kernels=[4, 3]).double().eval()
    current = amperes(2, 21).double()
    series = ((current - 8000) / 2000).transpose(1, 2).numpy()
    for block in model.blocks:
        weight = block[1].weight.detach().numpy()
        kernel = weight.shape[2]
        padded = np.pad(series, ((0, 0), (0, 0), ((kernel - 1) // 2, kernel // 2)))
        series = np.stack(
            [np.einsum("bck,ock->bo", padded[:, :, at : at + kernel], weight) for at in range(21)], 2
        )
        series = np.maximum(series / np.sqrt(1 + 1e-5), 0)  # batch norm as it starts
    np.testing.assert_allclose(model.encode(current).detach().numpy(), series.mean(2), rtol=1e-9)
    expected = model.head(torch.from_numpy(series.mean(2)))
    torch.testing.assert_close(model(current=current).logits, expected)


def test_patches_overlap_by_half_and_the_last_value_is_repeated():
    torch.manual_seed(0)
    model = create_model("patchtst", **SMALL, mlp_dim=48, dropout=0.0).eval()
    current = amperes(2, 30)
    seen = []
    model.blocks.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    tokens = model.encode(current)
    assert tokens.shape == (2, 3, 7, 24)
    series = ((current - 8000) / 2000).transpose(1, 2)
    series = torch.cat([series] + 4 * [series[..., -1:]], 2)
    for patch in range(7):
        expected = F.linear(series[..., 4 * patch : 4 * patch + 8], model.embed.weight, model.embed.bias)
        found = seen[0].reshape(2, 3, 7, 24)[:, :, patch]
        torch.testing.assert_close(found, expected + model.position[:, patch])


def test_patchtst_phases_meet_only_in_the_head():
    model = create_model("patchtst", **SMALL, mlp_dim=48).eval()
    current = amperes(2, 30)
    other = current.clone()
    other[..., 1] += 3000
    one, two = model.encode(current), model.encode(other)
    torch.testing.assert_close(one[:, [0, 2]], two[:, [0, 2]])
    assert not torch.allclose(one[:, 1], two[:, 1])
    torch.testing.assert_close(model.encode(current[..., [2, 0, 1]]), one[:, [2, 0, 1]])


def test_patchtst_blocks_are_those_of_torch():
    """A layer of torch's encoder, norm last, has the same equations."""
    torch.manual_seed(0)
    config = {**SMALL, "depth": 2, "mlp_dim": 48, "dropout": 0.0}
    model = create_model("patchtst", **config).double().eval()
    current, seen = amperes(2, 30).double(), []
    model.blocks.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = model.encode(current)
    layer = torch.nn.TransformerEncoderLayer(24, 3, 48, dropout=0.0, activation="gelu", batch_first=True)
    tokens, layer = seen[0], layer.double().eval()
    for block in model.blocks:
        own = block.state_dict()
        layer.load_state_dict(
            {
                **{
                    f"self_attn.in_proj_{kind}": torch.cat([own[f"{n}.{kind}"] for n in ("query", "key", "value")])
                    for kind in ("weight", "bias")
                },
                **{
                    f"{theirs}.{kind}": own[f"{ours}.{kind}"]
                    for ours, theirs in (
                        ("out", "self_attn.out_proj"), ("up", "linear1"), ("down", "linear2"),
                        ("norm1", "norm1"), ("norm2", "norm2"),
                    )
                    for kind in ("weight", "bias")
                },
            }
        )  # fmt: skip
        tokens = layer(tokens)
    torch.testing.assert_close(found, tokens.reshape(2, 3, 7, 24))
    head = F.linear(tokens.reshape(2, -1), model.head.weight, model.head.bias)
    torch.testing.assert_close(model(current=current).logits, head)


def test_instance_norm_takes_level_and_spread_away():
    model = create_model("patchtst", **SMALL, mlp_dim=48, instance_norm=True).double().eval()
    current = amperes(2, 30).double()
    torch.testing.assert_close(
        model(current=current).logits, model(current=3 * current + 500).logits, rtol=1e-4, atol=1e-4
    )
    plain = create_model("patchtst", **SMALL, mlp_dim=48).double().eval()
    assert not torch.allclose(
        plain(current=current).logits, plain(current=3 * current + 500).logits, atol=1e-2
    )


def test_modern_tcn_cuts_each_phase_and_its_head_sees_all_patches():
    torch.manual_seed(0)
    model = create_model("modern_tcn", **SMALL, kernel=3, dropout=0.0).double().eval()
    torch.nn.init.normal_(model.norm.running_mean)
    current = amperes(2, 30).double()
    series = np.pad(((current - 8000) / 2000).numpy(), ((0, 0), (0, 6), (0, 0)), mode="edge")
    weight, bias = model.embed.weight.detach().numpy()[:, 0], model.embed.bias.detach().numpy()
    patches = np.stack(
        [
            np.einsum("bkp,ck->bpc", series[:, 4 * at : 4 * at + 8], weight) + bias
            for at in range(model.config.patches)
        ],
        3,
    )
    assert patches.shape == (2, 3, 24, 8)  # one begins at each fourth of 30 values
    patches = (patches - model.norm.running_mean.numpy()[:, None]) / np.sqrt(1 + 1e-5)
    tokens = model.blocks(torch.from_numpy(patches).reshape(2, 72, -1))
    np.testing.assert_allclose(model.encode(current).detach(), tokens.detach(), rtol=1e-9)
    expected = F.linear(F.gelu(tokens).flatten(1), model.head.weight, model.head.bias)
    torch.testing.assert_close(model(current=current).logits, expected)


def test_modern_tcn_block_is_time_then_features_then_phases():
    torch.manual_seed(0)
    model = create_model("modern_tcn", **SMALL, kernel=3, dropout=0.0).double().eval()
    (block,) = model.blocks
    series = torch.randn(2, 72, 8, dtype=torch.float64)
    weights = {name: value.detach().numpy() for name, value in block.named_parameters()}
    x = series.numpy().reshape(2, 3, 24, 8)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)))
    kernel = weights["along_time.weight"].reshape(3, 24, 3)
    hidden = sum(padded[..., k : k + 8] * kernel[None, :, :, k, None] for k in range(3)) / np.sqrt(1 + 1e-5)

    def net(values, name, groups):
        """(b, groups, channels, t) through a feed-forward net of each group's own."""
        for part in ("up", "down"):
            weight = weights[f"{name}_{part}.weight"][..., 0].reshape(groups, -1, values.shape[2])
            bias = weights[f"{name}_{part}.bias"].reshape(groups, -1)
            values = np.einsum("bgct,goc->bgot", values, weight) + bias[None, :, :, None]
            if part == "up":
                values = F.gelu(torch.from_numpy(values)).numpy()
        return values

    hidden = net(hidden, "feature", 3)
    hidden = net(hidden.transpose(0, 2, 1, 3), "phase", 24).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(block(series).detach().numpy(), (x + hidden).reshape(2, 72, 8), rtol=1e-9)


@pytest.mark.parametrize("name", ["patchtst", "modern_tcn"])
@pytest.mark.parametrize("length", [1, 5, 8, 9, 15])
def test_windows_shorter_than_a_patch_are_one(name, length):
    model = create_model(name, current_length=length, dim=24, depth=1)
    assert model(current=amperes(2, length)).logits.shape == (2, 2)


@pytest.mark.parametrize("name", ["patchtst", "modern_tcn"])
def test_another_length_is_refused(name):
    with pytest.raises(InputError, match=rf"{name}: current: expected \(B, 30, 3\), got \(2, 31, 3\)"):
        create_model(name, **SMALL)(current=amperes(2, 31))


@pytest.mark.parametrize(
    ("name", "config", "told"),
    [
        ("patchtst", {"patch": 8, "stride": 9}, "expected 1 <= stride <= patch, got"),
        ("modern_tcn", {"kernel": 4}, "kernel: expected an odd number, got 4"),
        ("modern_tcn", {"stride": 0}, "expected 1 <= stride <= patch, got"),
        ("conv1d", {"channels": [3, 4], "kernels": [3]}, "a kernel of at least 1 for each convolution"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(name, config, told):
    with pytest.raises(InputError, match=told):
        create_model(name, **config)
