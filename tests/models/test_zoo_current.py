"""Current-only baselines: what their papers say of them, on random input."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fmfbench.errors import InputError
from fmfbench_models import FitData, create_model, list_models, load_checkpoint, model_info, save_checkpoint
from fmfbench_models.registry import parse_config
from fmfbench_models.zoo.expert import (
    ExpertConfig,
    Rules,
    arc_resistance,
    change_rate,
    deviations,
    exceedance,
    longest_run,
    margins,
    search,
    time_steps,
    tracking_error,
    youden_by_need,
)
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
    with pytest.raises(InputError, match="informer: factor must be 1 or more, got 0"):
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
    assert competition.sum().item() == pytest.approx(m)
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


# --- Expert system ----------------------------------------------------------------------------------------

SETPOINT = np.array([6000.0, 8000.0, 7000.0])
NEVER = (1e6, 2.0, 2.0)


def steady(length=120, size=1):
    return np.broadcast_to(SETPOINT, (size, length, 3)).copy()


def rules(amplitude=(0.15, 0.05, 0.15), duration=(30.0, 0.3, 0.5), **more):
    return Rules(amplitude=amplitude, duration=duration, **more)


def step(seconds, height=0.2, start=10):
    """A deviation of +20 % in all phases, for so many seconds."""
    current = steady()
    current[:, start : start + int(2 * seconds)] *= 1 + height
    return current


def decision(current, setpoint=SETPOINT, what=None):
    return (margins(current, setpoint, what or rules()) > 0).any(1)


def rule_of(index, **more):
    """The given rules with all but one never firing."""
    base = rules(**more)
    return replace(base, duration=tuple(d if i == index else NEVER[i] for i, d in enumerate(base.duration)))


def test_steady_current_is_normal():
    current = steady()
    for rule, deviation in enumerate(deviations(current, SETPOINT, 2, 2.0)):
        assert not deviation.any()
        assert exceedance(rule, deviation, 0.01, 1).tolist() == [0]
    assert not decision(current).any()


@pytest.mark.parametrize(
    ("needed_seconds", "fires"), [(30.0, True), (40.0, True), (40.1, False), (40.5, False), (39.9, True)]
)
def test_sustained_deviation_is_bounded_inclusively(needed_seconds, fires):
    what = rule_of(0, duration=(needed_seconds, 0.3, 0.5))
    assert decision(step(40.0), what=what).tolist() == [fires]
    assert (margins(step(40.0), SETPOINT, what)[0, 0] > 0) == fires


def test_deviation_must_exceed_its_threshold():
    what = rule_of(0)
    assert decision(step(40.0, height=0.151), what=what).all()
    assert not decision(step(40.0, height=0.149), what=what).any()
    assert decision(step(40.0, height=-0.2), what=what).all()


def test_deviation_must_last_in_one_piece():
    current = step(40.0)
    current[:, 50] = SETPOINT
    assert not decision(current, what=rule_of(0)).any()


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_rules_need_their_phases(phases):
    for deviating in range(4):
        current = steady()
        current[:, 10:90, :deviating] *= 1.2
        assert decision(current, what=rule_of(0, phases=phases)).tolist() == [deviating >= phases]


def test_fluctuation_counts_a_share():
    """A saw tooth of period 4 time_steps: |r| = 2 * 10 % per second at every instant it covers."""
    current = steady()
    covered = 61
    current[:, :covered] *= 1 + 0.1 * np.array([0, 0, 2, 2])[np.arange(covered) % 4][:, None]
    rate = np.abs(change_rate(current, SETPOINT, 2, 2.0))
    np.testing.assert_allclose(rate[0, : covered - 2], 0.2, rtol=1e-9)
    assert rate.shape == (1, 118, 3)
    share = (rate[0, :, 0] > 0.05).mean()
    for duration, fires in ((share, True), (share - 0.01, True), (share + 0.01, False)):
        assert decision(current, what=rule_of(1, duration=(30.0, duration, 0.5))).tolist() == [fires]


def test_resistance_shift_counts_a_share():
    current = steady()
    current[:, :30] /= 1.3  # rho = 1.3 for a quarter of the window
    current[:, 60:90] /= 1.3  # and for another
    for duration, fires in ((0.5, True), (0.49, True), (0.51, False)):
        assert decision(current, what=rule_of(2, duration=(30.0, 0.3, duration))).tolist() == [fires]


def test_resistance_times_current_is_the_set_point():
    current = amperes(2, 50).double().numpy()
    np.testing.assert_allclose(
        arc_resistance(current, SETPOINT) * current, SETPOINT + 0 * current, rtol=1e-14
    )


def test_features_by_hand():
    current = np.array([100.0, 110.0, 130.0, 90.0]).reshape(1, 4, 1) * np.ones(3)
    np.testing.assert_allclose(tracking_error(current, 100.0)[0, :, 0], [0, 0.1, 0.3, -0.1], atol=1e-12)
    # per second: differences over two time_steps, one second apart
    np.testing.assert_allclose(change_rate(current, 100.0, 2, 2.0)[0, :, 0], [0.3, -0.2], atol=1e-12)
    np.testing.assert_allclose(change_rate(current, 100.0, 1, 2.0)[0, :, 0], [0.2, 0.4, -0.8], atol=1e-12)


def test_longest_run_is_the_plain_one():
    flags = np.random.default_rng(0).random((40, 23, 3)) < 0.6
    flags[0], flags[1] = True, False
    for row, phase in np.ndindex(40, 3):
        pieces = "".join("x" if flag else " " for flag in flags[row, :, phase]).split()
        assert longest_run(flags)[row, phase] == max(map(len, pieces), default=0)


def test_scale_of_currents_does_not_matter():
    current = amperes(50, 120).double().numpy()
    plain = margins(current, SETPOINT, rules())
    assert len(np.unique(plain)) > 5
    for factor in (0.5, 4.0, 3.7):
        np.testing.assert_array_equal(margins(factor * current, factor * SETPOINT, rules()), plain)


def test_order_of_phases_does_not_matter():
    current = amperes(50, 120).double().numpy()
    plain = margins(current, SETPOINT, rules())
    np.testing.assert_array_equal(margins(current[..., PHASE_ORDER], SETPOINT[PHASE_ORDER], rules()), plain)


def test_what_lies_outside_the_window_does_not_matter():
    model = create_model("expert")
    current = amperes(3, 440)
    plain = model(current=current).logits
    for start in (0, 200, 310):  # the last instant before the window is 319
        changed = current.clone()
        changed[:, start : start + 10] *= 3
        assert torch.equal(model(current=changed).logits, plain)
    changed = current.clone()
    changed[:, 320:] *= 3
    assert not torch.equal(model(current=changed).logits, plain)


def test_short_currents_are_used_whole():
    model = create_model("expert")
    assert model(current=amperes(2, 40)).logits.shape == (2, 2)
    with pytest.raises(InputError, match="expected more than 2 samples of current, got 2"):
        model(current=amperes(2, 2))
    assert model(current=amperes(2, 3)).logits.shape == (2, 2)


def test_set_point_of_the_window():
    """A level that no training set has: a constant is normal by its own median, abnormal by another's."""
    current = torch.full((1, 440, 3), 3000.0)
    assert create_model("expert")(current=current).scores() > 0.5
    assert create_model("expert", setpoint="window")(current=current).scores() < 0.5


def test_youden_by_need_is_the_plain_one():
    rng = np.random.default_rng(1)
    counts, labels, fired = rng.integers(0, 9, 60), rng.random(60) < 0.4, rng.random(60) < 0.2
    got = youden_by_need(counts, labels, fired, 8)
    for need in range(10):
        said = fired | (counts >= need)
        assert got[need] == pytest.approx(said[labels].mean() - said[~labels].mean())


def planted(rule, size=60, length=120, seed=0):
    """Normal windows with small noise; abnormal ones break one rule and no other."""
    rng = np.random.default_rng(seed)
    current = steady(length, size) * (1 + 0.01 * rng.standard_normal((size, length, 3)))
    labels = np.arange(size) % 2 == 1
    instant = np.arange(length)
    shape = {
        0: np.where((instant >= 20) & (instant < 100), 1.15, 1.0),
        1: np.where(instant % 4 < 2, 1.04, 0.96),
        2: np.where(instant % 20 < 8, 0.8, 1.0),
    }[rule]
    current[labels] *= shape[:, None]
    return current, labels


@pytest.mark.parametrize("rule", [0, 1, 2])
def test_search_finds_a_planted_rule(rule):
    current, labels = planted(rule)
    found = search(current, labels, SETPOINT, ExpertConfig())
    fresh, truth = planted(rule, seed=1)
    np.testing.assert_array_equal(decision(fresh, what=found), truth)


def test_search_joins_two_rules():
    """Normal windows deviate for 20 time_steps and at every second of the others: a share of .58. Abnormal ones
    do so for 60 on end (a share of .5), or for three of every four: no rule alone tells both. All
    begin and end alike, which is all that R2 sees with this step."""
    instant = np.arange(120)
    shapes = [(instant < 20) | (instant % 2 == 0), instant < 60, instant % 4 < 3]
    current = steady(120, 60) * (1 + 0.01 * np.random.default_rng(0).standard_normal((60, 120, 3)))
    kind = np.arange(60) % 3
    current *= 1 + 0.2 * np.stack(shapes)[kind][..., None]
    truth = kind > 0
    alone = []
    for rule, deviation in enumerate(deviations(current, SETPOINT, 119, 2.0)):
        for amplitude in np.quantile(deviation, np.linspace(0, 1, 41)):
            counts = exceedance(rule, deviation, amplitude, 2)
            alone.append(youden_by_need(counts, truth, np.zeros(60, bool), deviation.shape[1]).max())
    said = decision(current, what=search(current, truth, SETPOINT, ExpertConfig(rate_step=119)))
    together = said[truth].mean() - said[~truth].mean()
    assert together > 0.9
    assert max(alone) < 0.8


def fit_data(current, labels, sizes=(13, 47)):
    parts = zip(
        torch.tensor(current).split(sizes), torch.tensor(labels).to(torch.uint8).split(sizes), strict=True
    )
    return FitData(train=[{"current": part, "class_label": label} for part, label in parts])


def test_fitted_model_separates_and_survives_a_file(tmp_path):
    model = create_model("expert")
    model.fit(fit_data(*planted(0)))
    fresh, truth = planted(0, seed=1)
    scores = model(current=torch.tensor(fresh)).scores()
    np.testing.assert_array_equal(scores.numpy() > 0.5, truth)
    np.testing.assert_allclose(model.setpoint.numpy(), SETPOINT, rtol=0.01)
    facts = json.loads(json.dumps(asdict(model.rules)))
    assert parse_config(Rules, facts, what="rules") == model.rules
    save_checkpoint(tmp_path / "expert.safetensors", model)
    assert b"pickle" not in (tmp_path / "expert.safetensors").read_bytes()
    loaded = load_checkpoint(tmp_path / "expert.safetensors")
    assert loaded.rules == model.rules
    assert torch.equal(loaded(current=torch.tensor(fresh)).scores(), scores)


def test_fit_reads_repeated_and_unlabelled_windows_once():
    current, labels = planted(0)
    plain, other = create_model("expert"), create_model("expert")
    plain.fit(fit_data(current, labels))
    repeated = np.repeat(current, 3, axis=0)
    codes = np.repeat(labels.astype(np.uint8), 3)
    junk = np.full((20, *current.shape[1:]), 1e5)
    everything = np.concatenate([repeated, junk])
    unlabelled = np.concatenate([codes, np.full(20, 255, np.uint8)])
    batch = {"current": torch.tensor(everything), "class_label": torch.tensor(unlabelled)}
    other.fit(FitData(train=[batch]))
    assert other.rules == plain.rules
    assert torch.equal(other.setpoint, plain.setpoint)


def test_fit_takes_no_more_windows_than_allowed():
    current, labels = planted(0, size=61)
    model = create_model("expert", max_windows=10)
    model.fit(fit_data(current, labels, sizes=(61,)))
    assert (model(current=torch.tensor(current)).scores().numpy() > 0.5).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(60), "expected normal and abnormal training samples, all 60 are normal"),
        (np.ones(60), "expected normal and abnormal training samples, all 60 are abnormal"),
        (np.full(60, 255), "expected labelled training samples, there are none"),
    ],
)
def test_fit_refuses_what_it_cannot_learn_from(labels, message):
    with pytest.raises(InputError, match=f"expert: {message}"):
        create_model("expert").fit(fit_data(planted(0)[0], labels))


def test_fit_refuses_a_dead_furnace():
    with pytest.raises(InputError, match="expert: expected normal training currents above 0 A"):
        create_model("expert").fit(
            fit_data(0 * planted(0)[0] + np.arange(60)[:, None, None] % 2, np.arange(60) % 2)
        )


@pytest.mark.parametrize(
    "config",
    [{"window": 2}, {"rate_step": 0}, {"phases": 4}, {"phases": 0}, {"current_hz": 0.0}, {"max_windows": 1}],
)
def test_senseless_expert_is_refused(config):
    with pytest.raises(InputError, match="expert: expected"):
        create_model("expert", **config)


@pytest.mark.parametrize(
    ("rule", "duration", "width", "count"),
    [(0, 40.0, 120, 80), (0, 40.1, 120, 81), (1, 0.3, 118, 36), (2, 0.5, 120, 60)],
)
def test_instants_round_up(rule, duration, width, count):
    assert time_steps(rule, duration, width, 2.0) == count
    assert time_steps(rule, float(np.float32(duration)), width, 2.0) == count
