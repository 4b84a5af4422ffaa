"""ST-MAE on one image: how long a judgement takes, and what fused attention is worth in it.

    python benchmarks/st_mae.py [--threads 1] [--rounds 5] [--batch 1] [--device cpu|cuda] [--json]

Times `judge`, raw image in, anomaly map out, of paper-base at 256 x 256 and of the default model at 64 x 64, with the
attention of the library (`scaled_dot_product_attention`) and with explicit softmax(q k^T / sqrt(d)) v in its place,
in turn within each round; and the frozen trunk alone. Both must give the same map. On a CPU it is the time of the
processor that counts, all threads together, so that other work on the machine matters less. The paper's figure for the
base model is 33.2 ms on an A100; only a GPU of that class can be held against it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fmfbench_models import create_model

SETTINGS: dict[str, dict[str, Any]] = {
    "paper-base, 256 x 256": {"preset": "paper-base"},
    "default, 64 x 64": {},
}
FUSED = F.scaled_dot_product_attention
PAPER_MS = 33.2


def explicit(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """The definition, with the matrix of weights written out."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


def milliseconds(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """How long, by the processor's time on a CPU and by the clock on a GPU, and what came of it."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (clock() - began), result


@torch.inference_mode()
def measure(rounds: int, batch: int, device: torch.device, **config: Any) -> dict[str, float]:
    torch.manual_seed(0)
    model = create_model("st_mae", **config).eval().to(device)
    images = torch.randint(0, 256, (batch, 3, *model.config.size), dtype=torch.uint8, device=device)
    patches = model.patches(images)
    kinds = {"fused": FUSED, "explicit": explicit}
    maps, times = {}, {name: [] for name in ("fused", "explicit", "trunk", "fused_rest", "explicit_rest")}
    for turn in range(rounds + 1):
        for name, attention in kinds.items():
            F.scaled_dot_product_attention = attention
            taken, judged = milliseconds(lambda: model.judge(images), device)
            rest, _ = milliseconds(lambda: model.compare(patches), device)
            maps[name] = judged["map"]
            if turn:  # the first is a warm-up
                times[name].append(taken / batch)
                times[f"{name}_rest"].append(rest / batch)
        if turn:
            times["trunk"].append(milliseconds(lambda: model.patches(images), device)[0] / batch)
    F.scaled_dot_product_attention = FUSED
    apart = (maps["fused"] - maps["explicit"]).abs().max() / maps["explicit"].abs().max()
    assert apart < 1e-4, f"the two attentions differ by {apart}"
    return {
        **{name: statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(
            fused / plain for fused, plain in zip(times["fused"], times["explicit"], strict=True)
        ),
        "rest_ratio": statistics.median(
            fused / plain for fused, plain in zip(times["fused_rest"], times["explicit_rest"], strict=True)
        ),
        "parameters": model.num_parameters(),
        "largest_relative_difference": apart.item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    rows = {
        name: measure(options.rounds, options.batch, device, **config) for name, config in SETTINGS.items()
    }
    if options.json:
        print(json.dumps({"threads": options.threads, "torch": torch.__version__, "rows": rows}))
        return
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{options.threads} CPU thread(s)"
    print(
        f"ST-MAE, batch {options.batch}, float32, {where}, torch {torch.__version__}; ms per image, medians"
    )
    for name, row in rows.items():
        print(
            f"  {name:22s} {row['fused']:8.1f}   explicit softmax {row['explicit']:8.1f}   "
            f"ratio {row['ratio']:.3f}   trunk alone {row['trunk']:8.1f}   without it {row['fused_rest']:8.1f}, "
            f"explicit {row['explicit_rest']:8.1f}, ratio {row['rest_ratio']:.3f}"
        )
    if device.type == "cuda":
        print(f"  the paper's base model on an A100: {PAPER_MS} ms")


if __name__ == "__main__":
    main()
