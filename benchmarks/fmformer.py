"""Training step rate of FmFormer (preset official, class task, batch 64) beside a plain reading of the same
module.

    python benchmarks/fmformer.py [--device cpu|cuda] [--threads 2] [--batch 64] [--rounds 5] [--json]

The plain side is what one would write first: float32, eager, patches by reshape and permute on floats,
attention as softmax(q k^T / sqrt(d)) v with the whole matrix in memory, torch.optim.AdamW as it comes. Ours
is what `fmfbench train` runs on that device. Both hold the same weights, see the same batches, and their
first losses are compared before anything is timed. Rounds alternate between the two sides and the median
round counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench_models import create_model
from fmfbench_models.official import unmap_official
from fmfbench_models.recipe import Recipe
from fmfbench_models.training.step import make_optimiser, make_step

DIM, HEADS, MLP = 96, 3, 384


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.reshape(*x.shape[:2], HEADS, -1).permute(0, 2, 1, 3) for x in (q, k, v))
    weight = (torch.matmul(q, k.transpose(-1, -2)) * (DIM // HEADS) ** -0.5).softmax(dim=-1)
    return torch.matmul(weight, v).permute(0, 2, 1, 3).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.to_qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.to_out = nn.Sequential(nn.Linear(DIM, DIM), nn.Dropout(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(attention(*self.to_qkv(self.norm(x)).chunk(3, dim=-1)))


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.to_qkv1, self.to_qkv2 = (nn.Linear(DIM, 3 * DIM, bias=False) for _ in range(2))
        self.to_out1 = nn.Sequential(nn.Linear(DIM, DIM), nn.Dropout(0.0))
        self.to_out2 = nn.Sequential(nn.Linear(DIM, DIM), nn.Dropout(0.0))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        q1, k1, v1 = self.to_qkv1(self.norm1(a)).chunk(3, dim=-1)
        q2, k2, v2 = self.to_qkv2(self.norm2(b)).chunk(3, dim=-1)
        return self.to_out1(attention(q1, k2, v2)), self.to_out2(attention(q2, k1, v1))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(DIM), nn.Linear(DIM, MLP), nn.GELU(), nn.Dropout(0.0), nn.Linear(MLP, DIM)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Patches(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        b, c, t, h, w = video.shape
        video = video.reshape(b, c, t // 2, 2, h // 8, 8, w // 8, 8)
        return video.permute(0, 2, 4, 6, 5, 7, 3, 1).reshape(b, -1, 384)


class Additional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, 80, DIM))
        self.to_patch_embedding = embedding(Patches(), 384)

    def forward(self, video: Tensor) -> Tensor:
        return (
            self.to_patch_embedding(F.interpolate(video, (10, 32, 32), mode="nearest")) + self.pos_embedding
        )


def embedding(first: nn.Module, values: int) -> nn.Sequential:
    return nn.Sequential(first, nn.LayerNorm(values), nn.Linear(values, DIM), nn.LayerNorm(DIM))


def head() -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, 2))


class Plain(nn.Module):
    """The released cross-modal classifier as its state dict describes it, and under its names."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embedding1 = nn.Parameter(torch.randn(1, 321, DIM))
        self.cls_token1 = nn.Parameter(torch.randn(1, 1, DIM))
        self.pos_embedding2 = nn.Parameter(torch.randn(1, 241, DIM))
        self.cls_token2 = nn.Parameter(torch.randn(1, 1, DIM))
        self.to_patch_embedding1 = embedding(Patches(), 384)
        self.get_additional_tokens = Additional()
        self.to_patch_embedding2 = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, DIM), nn.LayerNorm(DIM))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList()
        for _ in range(6):
            attend = nn.ModuleDict(
                {"stream1": SelfAttention(), "stream2": SelfAttention(), "cross_attn": CrossAttention()}
            )
            self.transformer.layers.append(
                nn.ModuleList([attend, nn.ModuleDict({"ff1": Mlp(), "ff2": Mlp()})])
            )
        self.head = nn.ModuleDict({"mlp_head1": head(), "mlp_head2": head()})

    def forward(self, video: Tensor, current: Tensor) -> Tensor:
        video = video.float()
        b = len(video)
        v = torch.cat([self.cls_token1.repeat(b, 1, 1), self.to_patch_embedding1(video)], dim=1)
        v = torch.cat([v + self.pos_embedding1, self.get_additional_tokens(video)], dim=1)
        c = torch.cat([self.cls_token2.repeat(b, 1, 1), self.to_patch_embedding2(current)], dim=1)
        c = c + self.pos_embedding2
        for attend, ff in self.transformer.layers:
            v, c = attend["stream1"](v) + v, attend["stream2"](c) + c
            dv, dc = attend["cross_attn"](v, c)
            v, c = v + dv, c + dc
            v, c = ff["ff1"](v) + v, ff["ff2"](c) + c
        return self.head["mlp_head1"](v[:, 0]) + self.head["mlp_head2"](c[:, 0])


def batches(size: int, count: int, device: str) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "video": torch.randint(0, 256, (size, 3, 10, 64, 64), dtype=torch.uint8, generator=generator).to(
                device
            ),
            "current": (8000 + 2000 * torch.randn(size, 240, 3, generator=generator)).to(device),
            "class_label": torch.randint(0, 2, (size,), generator=generator).to(device),
        }
        for _ in range(count)
    ]


def plain_step(model: nn.Module, lr: float):
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr)

    def step(batch: dict[str, Tensor]) -> float:
        optimiser.zero_grad()
        loss = F.cross_entropy(model(batch["video"], batch["current"]), batch["class_label"])
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def our_step(model: nn.Module, lr: float):
    recipe = Recipe(lr=lr)
    step = make_step(model, make_optimiser(model, recipe), recipe)
    return lambda batch: step(batch)["loss"].item()


def seconds(step, data: list[dict[str, Tensor]], device: str) -> float:
    started = time.perf_counter()
    for batch in data:
        step(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours = create_model("fmformer", preset="official", dense_task=False)
    plain = Plain()
    plain.load_state_dict(unmap_official(ours.state_dict()))
    data = batches(options.batch, options.steps, options.device)
    steps = {
        "plain": plain_step(plain.to(options.device).train(), 1e-4),
        "ours": our_step(ours.to(options.device).train(), 1e-4),
    }
    first = {name: step(data[0]) for name, step in steps.items()}
    tolerance = 1e-3 if options.device == "cpu" else 3e-2
    if abs(first["plain"] - first["ours"]) > tolerance * first["plain"]:
        raise SystemExit(f"the two sides do not compute the same: first losses {first}")
    rounds = {name: [] for name in steps}
    for step in steps.values():
        seconds(step, data, options.device)
    for _ in range(options.rounds):
        for name, step in steps.items():
            rounds[name].append(seconds(step, data, options.device))
    median = {name: statistics.median(values) for name, values in rounds.items()}
    result = {
        "device": options.device,
        "threads": options.threads,
        "batch": options.batch,
        "torch": torch.__version__,
        "first_loss": first,
        "seconds_a_step": median,
        "rounds": rounds,
        "ratio": median["plain"] / median["ours"],
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"FmFormer official, class task, batch {options.batch}, {options.device}, {options.threads} threads"
    )
    for name, value in median.items():
        print(f"  {name:6s} {value:8.3f} s a step   {options.batch / value:8.1f} windows/s")
    print(f"  ratio  {result['ratio']:8.2f}")


if __name__ == "__main__":
    main()
