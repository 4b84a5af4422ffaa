"""Current-only baselines: what their papers say of them, on random input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import create_model, list_models, model_info
from fmfbench_models.zoo.flowformer import flow, flow_attention
from fmfbench_models.zoo.informer import (
    Distilling,
    ProbSparse,
    prob_sparse_attention,
    sample_size,
    sampled_keys,
)

TRANSFORMERS = ["flashformer", "flowformer", "informer", "itransformer"]
NANO = {"current_length": 32, "dim": 24, "depth": 1, "mlp_dim": 48}


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def amperes(size, length, seed=0):
    return 8000 + 2000 * random(size, length, 3, seed=seed, dtype=torch.float32)


def attention(q, k, v):
    """Softmax attention, written out."""
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v


# --- all four ---------------------------------------------------------------------------------------------


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
        # five distilling steps, and a head over 14 instants instead of 440
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
    with pytest.raises(InputError, match=rf"{name}: current: wanted \(B, 32, 3\), came {came}; "):
        model(current=current)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_overfits_eight_windows(name):
    torch.manual_seed(0)
    model = create_model(name, **NANO, dropout=0.0).train()
    current, labels = amperes(8, 32), torch.arange(8) % 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
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


# --- Informer ---------------------------------------------------------------------------------------------


def prob_sparse_by_the_paper(q, k, v, index, kept):
    """One head at a time, one query at a time: keys gathered, measured, and only the kept queries attend."""
    result = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            products = [k[b, h, index[i]] @ q[b, h, i] for i in range(q.shape[2])]
            measure = torch.stack([p.max() - p.sum() / k.shape[2] for p in products])
            keep = set(measure.argsort(descending=True)[:kept].tolist())
            for i in range(q.shape[2]):
                if i in keep:
                    weights = torch.softmax(k[b, h] @ q[b, h, i] / math.sqrt(q.shape[3]), 0)
                    result[b, h, i] = weights @ v[b, h]
                else:
                    result[b, h, i] = v[b, h].mean(0)
    return result


@pytest.mark.parametrize(
    ("length", "factor", "count"), [(440, 5, 35), (240, 5, 30), (440, 1, 7), (32, 5, 20)]
)
def test_sample_size(length, factor, count):
    assert sample_size(length, factor) == count < length


@pytest.mark.parametrize(("length", "factor"), [(440, 63), (240, 40)])
def test_sample_size_reaches_the_whole_length(length, factor):
    assert sample_size(length, factor - 1) < length
    assert sample_size(length, factor) == sample_size(length, 10 * factor) == length


def test_prob_sparse_is_the_papers():
    q, k, v = random(2, 3, 11, 4), random(2, 3, 7, 4, seed=1), random(2, 3, 7, 5, seed=2)
    index = sampled_keys(11, 7, 4, seed=3)
    got = prob_sparse_attention(q, k, v, index, kept=3)
    torch.testing.assert_close(got, prob_sparse_by_the_paper(q, k, v, index, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("length", "factor"), [(440, 63), (240, 40)])
def test_informer_with_all_queries_kept_is_full_attention(length, factor):
    q, k, v = (random(1, 3, length, 32, seed=seed, dtype=torch.float32) for seed in range(3))
    got = ProbSparse(factor, seed=0).eval()(q, k, v)
    torch.testing.assert_close(got, attention(q, k, v), rtol=0, atol=1e-6)


def test_informer_rows_are_full_attention_or_the_mean():
    q, k, v = (random(2, 3, 64, 8, seed=seed) for seed in range(3))
    got = ProbSparse(1, seed=0).eval()(q, k, v)
    mean = v.mean(2, keepdim=True).expand_as(got)
    unselected = (got == mean).all(-1)
    assert (unselected.sum(-1) == 64 - sample_size(64, 1)).all()
    torch.testing.assert_close(got[~unselected], attention(q, k, v)[~unselected], rtol=0, atol=1e-12)


def test_informer_divides_by_all_keys():
    """First query: products 2, 2; second: .5, -.5. Less the sum over 4 keys: 1 and .5; over 2 sampled: 0 and
    .5."""
    q, k = (
        torch.tensor([1.0, 0.5]).reshape(1, 1, 2, 1),
        torch.tensor([2.0, 2.0, 1.0, -1.0]).reshape(1, 1, 4, 1),
    )
    v = torch.tensor([0.0, 0.0, 4.0, 4.0]).reshape(1, 1, 4, 1)
    got = prob_sparse_attention(q, k, v, torch.tensor([[0, 1], [2, 3]]), kept=1).flatten()
    assert got[0] < 1.5
    assert got[1] == 2.0  # the mean of v


def test_informer_keys_are_reproducible():
    assert torch.equal(sampled_keys(440, 440, 35, 1), sampled_keys(440, 440, 35, 1))
    assert not torch.equal(sampled_keys(440, 440, 35, 1), sampled_keys(440, 440, 35, 2))
    assert sampled_keys(50, 9, 200, 0).unique().tolist() == list(range(9))


def test_informer_samples_anew_in_training_only():
    q, k, v = (random(1, 1, 64, 8, seed=seed) for seed in range(3))
    layer = ProbSparse(1, seed=0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    layer.eval()
    assert torch.equal(layer(q, k, v), layer(q, k, v))
    assert torch.equal(torch.get_rng_state(), state)  # evaluation leaves the global generator alone
    layer.train()
    first = layer(q, k, v)
    assert not torch.equal(first, layer(q, k, v))
    torch.manual_seed(5)
    assert torch.equal(first, layer(q, k, v))


def test_informer_runs_at_one():
    """Batch, head and sample of one: nothing is squeezed away."""
    q, k, v = (random(1, 1, 2, 4, seed=seed) for seed in range(3))
    assert ProbSparse(1, seed=0)(q, k, v).shape == (1, 1, 2, 4)


def test_distilling_halves():
    config = create_model("informer", distil=True).config
    assert config.lengths == (440, 220, 110, 55, 28, 14)
    layer = Distilling(24).eval()
    for length, half in zip(config.lengths[:-1], config.lengths[1:], strict=True):
        assert layer(torch.zeros(1, length, 24)).shape == (1, half, 24)
    with torch.no_grad():
        logits = create_model("informer", **(NANO | {"depth": 3}), distil=True)(current=amperes(2, 32)).logits
    assert logits.shape == (2, 2)


def test_factor_below_one_is_refused():
    with pytest.raises(InputError, match="informer: factor must be 1 or more, came 0"):
        create_model("informer", factor=0)


# --- Flowformer -------------------------------------------------------------------------------------------


def flow_by_the_paper(q, k, v, eps, clamp=False):
    """The equations with every capacity of the n x m matrix written out; eps = 0 only where stated."""
    q, k = torch.sigmoid(q), torch.sigmoid(k)
    n, m = q.shape[0], k.shape[0]

    def product(a, b):
        return ((a + eps) * (b + eps)).sum()

    incoming = torch.stack([product(q[i], k.sum(0)) for i in range(n)])
    outgoing = torch.stack([product(k[j], q.sum(0)) for j in range(m)])
    hat_in = torch.stack([product(q[i], (k / outgoing[:, None]).sum(0)) for i in range(n)])
    hat_out = torch.stack([product(k[j], (q / incoming[:, None]).sum(0)) for j in range(m)])
    if clamp:
        hat_out = hat_out.clamp(-1, 1)
    competition = m * torch.softmax(hat_out, 0)
    capacity = q @ k.T / incoming[:, None]
    return torch.sigmoid(hat_in * n / m)[:, None] * (capacity @ (competition[:, None] * v))


@pytest.mark.parametrize(("n", "m"), [(440, 440), (440, 100), (100, 440)])
def test_flows_are_conserved(n, m):
    q, k = torch.sigmoid(random(n, 32)), torch.sigmoid(random(m, 32, seed=1))
    for eps, tolerance in ((1e-6, 2e-5), (0.0, 1e-12)):
        incoming, outgoing = flow(q, k, eps), flow(k, q, eps)
        capacity = q @ k.T
        torch.testing.assert_close(
            (capacity / incoming).sum(1), torch.ones(n).double(), rtol=tolerance, atol=0
        )
        torch.testing.assert_close(
            (capacity / outgoing.T).sum(0), torch.ones(m).double(), rtol=tolerance, atol=0
        )
        assert flow(q, k / outgoing, eps).sum() == pytest.approx(m, rel=max(tolerance, 1e-4 * (eps > 0)))
        assert flow(k, q / incoming, eps).sum() == pytest.approx(n, rel=max(tolerance, 1e-4 * (eps > 0)))


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(("n", "m"), [(17, 17), (17, 6), (6, 17)])
def test_linear_form_is_the_explicit_one(n, m, clamp):
    q, k, v = random(n, 8), random(m, 8, seed=1), random(m, 5, seed=2)
    got = flow_attention(q, k, v, clamp=clamp)
    torch.testing.assert_close(got, flow_by_the_paper(q, k, v, 1e-6, clamp), rtol=0, atol=1e-13)


def test_flow_does_not_see_the_order_of_sources():
    q, k, v = random(2, 3, 20, 8), random(2, 3, 13, 8, seed=1), random(2, 3, 13, 8, seed=2)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    got = flow_attention(q, k[:, :, order], v[:, :, order])
    torch.testing.assert_close(got, flow_attention(q, k, v), rtol=0, atol=1e-12)


def test_flow_of_equal_tokens():
    """q = k = 0, V = 1: every source competes alike, and the result is the allocation sigmoid(1)."""
    zeros, ones = torch.zeros(30, 4, dtype=torch.float64), torch.ones(30, 2, dtype=torch.float64)
    exact = flow_attention(zeros, zeros, ones, eps=0.0)
    torch.testing.assert_close(exact, torch.full_like(exact, 0.7310585786300049), rtol=0, atol=1e-12)
    assert flow_attention(zeros, zeros, ones).mean().item() == pytest.approx(0.731059, abs=2e-6)


def test_clamp_matters():
    q, k, v = (random(440, 32, seed=seed) for seed in range(3))
    outgoing = flow(torch.sigmoid(k), torch.sigmoid(q) / flow(torch.sigmoid(q), torch.sigmoid(k), 1e-6), 1e-6)
    assert 0.4 < (outgoing > 1).double().mean() < 0.6
    difference = (flow_attention(q, k, v) - flow_attention(q, k, v, clamp=True)).abs().max()
    assert 1e-3 < difference < 2e-2


# --- Flashformer ------------------------------------------------------------------------------------------


def tiled_attention(q, k, v, block):
    """Online softmax over blocks of keys (FlashAttention, algorithm 1)."""
    result = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    largest = torch.full((*q.shape[:-1], 1), -math.inf, dtype=q.dtype)
    total = torch.zeros(*q.shape[:-1], 1, dtype=q.dtype)
    for start in range(0, k.shape[-2], block):
        keys, values = k[..., start : start + block, :], v[..., start : start + block, :]
        scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])
        new = torch.maximum(largest, scores.amax(-1, keepdim=True))
        shrink, weights = torch.exp(largest - new), torch.exp(scores - new)
        total = shrink * total + weights.sum(-1, keepdim=True)
        result = shrink * result + weights @ values
        largest = new
    return result / total


@pytest.mark.parametrize("block", [1, 32, 100, 440, 1000])
def test_tiled_attention_is_full_attention(block):
    q, k, v = (random(1, 3, 440, 32, seed=seed, dtype=torch.float32) for seed in range(3))
    full = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(full, attention(q, k, v), rtol=0, atol=1e-6)
    torch.testing.assert_close(tiled_attention(q, k, v, block), full, rtol=0, atol=1e-6)


def test_flashformer_block_is_tiled_attention():
    """The model's own block, its linear maps taken by hand."""
    model = create_model("flashformer", **NANO).double().eval()
    block, tokens = model.blocks[0], random(2, 32, 24)
    heads = [
        part(tokens).unflatten(-1, (3, 8)).transpose(1, 2) for part in (block.query, block.key, block.value)
    ]
    mixed = tiled_attention(*heads, block=7).transpose(1, 2).flatten(2)
    hidden = F.layer_norm(tokens + block.out(mixed), (24,), block.norm1.weight, block.norm1.bias)
    hidden = hidden + block.down(F.gelu(block.up(hidden)))
    expected = F.layer_norm(hidden, (24,), block.norm2.weight, block.norm2.bias)
    torch.testing.assert_close(block(tokens), expected, rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_backends_agree_on_a_gpu():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model, current = create_model("flashformer").cuda().half().eval(), amperes(4, 440).cuda()
    with torch.no_grad():
        with sdpa_kernel(SDPBackend.MATH):
            plain = model(current=current).logits
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            tiled = model(current=current).logits
    torch.testing.assert_close(plain, tiled, rtol=0, atol=5e-3)


# --- iTransformer -----------------------------------------------------------------------------------------

PHASE_ORDER = [2, 0, 1]


def test_itransformer_follows_a_permutation_of_phases():
    model, current = create_model("itransformer").double().eval(), amperes(2, 440).double()
    with torch.no_grad():
        tokens, permuted = model.encode(current), model.encode(current[..., PHASE_ORDER])
        torch.testing.assert_close(permuted, tokens[:, PHASE_ORDER], rtol=0, atol=1e-10)
        plain = model(current=current).logits
        assert (model(current=current[..., PHASE_ORDER]).logits - plain).abs().max() > 1e-4
        columns = model.head.linear.weight.unflatten(1, (3, -1))[:, PHASE_ORDER].flatten(1)
        model.head.linear.weight.copy_(columns)
        torch.testing.assert_close(model(current=current[..., PHASE_ORDER]).logits, plain, rtol=0, atol=1e-10)


def test_itransformer_sees_the_order_of_time():
    model, current = create_model("itransformer").eval(), amperes(2, 440)
    order = torch.randperm(440, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = model(current=current[:, order]).logits - model(current=current).logits
    assert difference.abs().max() > 1e-3
