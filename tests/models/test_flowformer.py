"""Flowformer: what its paper says of it, on random input."""

from __future__ import annotations

import pytest
import torch
from conftest_zoo_current import random

from fmfbench_models.zoo.flowformer import flow, flow_attention


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
