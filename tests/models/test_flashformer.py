"""Flashformer: what its paper says of it, on random input."""

from __future__ import annotations

import math

import pytest
import torch
from conftest_zoo_current import NANO, amperes, attention, random
from torch.nn import functional as F

from fmfbench_models import create_model


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
