"""A training step of TN-BCL against a plain one: mining in loops, attention as softmax of a product.

    python benchmarks/tn_bcl.py [--device cuda] [--threads 1] [--batch 64] [--rounds 5] [--steps 1] [--json]

Both sides start from the same weights, see the same batches in turn, and must agree on the first losses. The plain side
finds each anchor's positive and negative by a loop over the anchors with `argmax` and `argmin` over its candidates, as
equations 9 to 23 of the paper read, and writes attention out as equation 1 does. The loss alone is timed beside the
whole step. Quintuple loss, paper's mining, AdamW, clips of 10 x 64 x 64, 440 current values.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench_models import create_model
from fmfbench_models.parts.blocks import Attention, merge_heads, split_heads
from fmfbench_models.parts.contrastive import contrastive_loss, relations
from fmfbench_models.recipe import Recipe
from fmfbench_models.training.step import make_optimiser, make_step

GAMMA, GAMMA_0 = 0.4, 1.0


class PlainAttention(nn.Module):
    """`Attention` with equation 1 written out; takes its parameters over."""

    def __init__(self, other: Attention) -> None:
        super().__init__()
        self.heads, self.norm, self.qkv, self.out = other.heads, other.norm, other.qkv, other.out

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm(tokens)).chunk(3, dim=-1))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return self.out(merge_heads(weights @ v))


def looped_direction(anchors: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:
    """Mean over anchors of (g0 - S(a, p)) + max(0, S(a, n) - g), one anchor at a time."""
    total = anchors.new_zeros(())
    for anchor, label in zip(anchors, labels, strict=True):
        s = F.cosine_similarity(anchor[None], candidates, dim=1)
        same = torch.nonzero(labels == label)[:, 0]
        other = torch.nonzero(labels != label)[:, 0]
        if len(same):
            total = total + GAMMA_0 - s[same[s[same].argmax()]]
        if len(other):
            total = total + F.relu(s[other[s[other].argmin()]] - GAMMA)
    return total / len(anchors)


def looped_loss(v: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    pairs = ((v, t), (t, v), (v, v), (t, t))
    return sum((looped_direction(a, b, labels) for a, b in pairs), v.new_zeros(()))


def batched_loss(v: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    return contrastive_loss(v, t, relations(labels), mining="paper", gamma=GAMMA, gamma_0=GAMMA_0)["loss"]


def plain_step(model: nn.Module) -> Callable[[dict[str, Tensor]], float]:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Attention):
                setattr(module, name, PlainAttention(child))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def step(batch: dict[str, Tensor]) -> float:
        optimiser.zero_grad()
        aux = model(batch["video"], batch["current"]).aux
        loss = looped_loss(aux["v2"], aux["t2"], batch["class_label"])
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def our_step(model: nn.Module) -> Callable[[dict[str, Tensor]], float]:
    recipe = Recipe()
    step = make_step(model, make_optimiser(model, recipe), recipe)
    return lambda batch: step(batch)["loss"].item()


def loss_step(
    function: Callable[[Tensor, Tensor, Tensor], Tensor], size: int, device: str
) -> Callable[[dict[str, Tensor]], float]:
    """The loss and its gradient on random embeddings, without any network."""
    generator = torch.Generator().manual_seed(1)
    v, t = (torch.rand(size, 96, generator=generator).to(device).requires_grad_() for _ in "vt")

    def step(batch: dict[str, Tensor]) -> float:
        loss = function(v, t, batch["class_label"])
        torch.autograd.grad(loss, (v, t))
        return loss.item()

    return step


def batches(size: int, count: int, device: str) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = [
        {
            "video": torch.randint(0, 256, (size, 3, 10, 64, 64), dtype=torch.uint8, generator=generator),
            "current": 8000 + 2000 * torch.randn(size, 440, 3, generator=generator),
            "class_label": torch.randint(0, 2, (size,), generator=generator),
        }
        for _ in range(count)
    ]
    return [{name: value.to(device) for name, value in batch.items()} for batch in made]


def seconds(step: Callable[[dict[str, Tensor]], float], data: list[dict[str, Tensor]]) -> float:
    """Of one step; each ends in a number on the host, so nothing is left to do."""
    started = time.perf_counter()
    for batch in data:
        step(batch)
    return (time.perf_counter() - started) / len(data)


def compare(
    steps: dict[str, Callable[[dict[str, Tensor]], float]],
    data: list[dict[str, Tensor]],
    rounds: int,
    tolerance: float,
) -> dict[str, object]:
    """Median seconds of each side, which take turns, and their ratio."""
    first = {name: step(data[0]) for name, step in steps.items()}
    if abs(first["plain"] - first["ours"]) > tolerance * abs(first["plain"]):
        raise SystemExit(f"the two sides do not compute the same: first losses {first}")
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            taken[name].append(seconds(step, data))
    median = {name: statistics.median(values) for name, values in taken.items()}
    return {"first": first, "seconds": median, "rounds": taken, "ratio": median["plain"] / median["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours, plain = create_model("tn_bcl"), create_model("tn_bcl")
    plain.load_state_dict(ours.state_dict())
    data = batches(options.batch, options.steps, options.device)
    tolerance = 1e-3 if options.device == "cpu" else 5e-2
    loss = {
        "plain": loss_step(looped_loss, options.batch, options.device),
        "ours": loss_step(batched_loss, options.batch, options.device),
    }
    whole = {
        "plain": plain_step(plain.to(options.device).train()),
        "ours": our_step(ours.to(options.device).train()),
    }
    result = {
        "device": options.device,
        "threads": options.threads,
        "batch": options.batch,
        "torch": torch.__version__,
        "loss": compare(loss, data, max(options.rounds, 5), 1e-4),
        "step": compare(whole, data, options.rounds, tolerance),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"TN-BCL, batch {options.batch}, {options.device}, {options.threads} thread(s), torch {torch.__version__}"
    )
    for part in ("loss", "step"):
        row = result[part]
        plain_seconds, own_seconds = row["seconds"]["plain"], row["seconds"]["ours"]
        print(
            f"  {part}: plain {plain_seconds:8.4f} s   ours {own_seconds:8.4f} s   ratio {row['ratio']:6.2f}"
        )


if __name__ == "__main__":
    main()
