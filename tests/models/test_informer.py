"""Informer: what its paper says of it, on random input."""

from __future__ import annotations

import math

import pytest
import torch
from conftest_zoo_current import NANO, amperes, attention, random

from fmfbench.errors import InputError
from fmfbench_models import create_model
from fmfbench_models.zoo.informer import (
    Distilling,
    ProbSparse,
    prob_sparse_attention,
    sample_size,
    sampled_keys,
)


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
    with pytest.raises(InputError, match="informer: expected factor of 1 or more, got 0"):
        create_model("informer", factor=0)
