"""iTransformer: what its paper says of it, on random input."""

from __future__ import annotations

import torch
from conftest_zoo_current import PHASE_ORDER, amperes

from fmfbench_models import create_model


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
