"""What a small convolutional network sees of FMF-Sim in video alone: how far video could come on those windows.

    python benchmarks/fmf_sim_probe.py --seeds 8,9,10 --out results

The windows, their split and their figures are those of `fmf_sim_short.py`, which draws them into the same folder. The
network takes the two frames of a window as six channels; a U of six convolutions has a pixel head, and a class head on
the maxima of its deepest maps and of its pixel logits. It is a yardstick, no model of the benchmark.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fmf_sim_short import FRAMES, SHIFT, draw, figures, seeds_of
from torch import Tensor, nn
from torch.nn import functional as F

from fmfbench.furnace import NAME, VERSION

Array = npt.NDArray[Any]

WIDTH = 12
BATCH, RATE, WARMUP = 32, 3e-3, 50
PIXEL_WEIGHT, CLASS_WEIGHT, POSITIVE = 5.0, 0.2, 3.0  # abnormal pixels count POSITIVE times
START = -5.5  # pixel logit at the start: few pixels are abnormal


class Probe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        w = WIDTH
        self.first = block(3 * FRAMES, w)
        self.second, self.third, self.fourth = (block(n, 2 * w, stride=2) for n in (w, 2 * w, 2 * w))
        self.up, self.last = block(4 * w, 2 * w), block(3 * w, w)
        self.pixel_head, self.class_head = nn.Conv2d(w, 1, 1), nn.Linear(2 * w + 2, 1)
        assert self.pixel_head.bias is not None
        nn.init.constant_(self.pixel_head.bias, START)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (b, 3 T, H, W) in -1..1 -> logits of the class (b,) and of pixels (b, H, W)."""
        whole = self.first(frames)
        half = self.second(whole)
        quarter = self.third(half)
        eighth = self.fourth(quarter)
        up = self.up(torch.cat([half, double(quarter + double(eighth))], 1))
        pixels = self.pixel_head(self.last(torch.cat([whole, double(up)], 1)))[:, 0]
        flat = pixels.flatten(1)
        seen = [eighth.amax((2, 3)), flat.amax(1, keepdim=True), flat.logsumexp(1, keepdim=True)]
        return self.class_head(torch.cat(seen, 1))[:, 0], pixels


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


def double(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0)


def frames_of(video: Array) -> Tensor:
    """(b, 3, T, H, W) uint8 -> (b, 3 T, H, W) in -1..1."""
    return torch.from_numpy(video).flatten(1, 2).float() / 127.5 - 1


def train(windows: dict[str, Array], steps: int, seed: int) -> Probe:
    """The network after `steps` updates; half of the batches are mirrored, each is rolled by up to SHIFT pixels."""
    torch.manual_seed(seed)
    net, rng = Probe(), np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-3)
    count, order, at = len(windows["label"]), np.zeros(0, int), 0
    for number in range(steps):
        if at + BATCH > len(order):
            order, at = rng.permutation(count), 0
        rows = order[at : at + BATCH]
        at += BATCH
        frames = frames_of(windows["video"][rows])
        mask = torch.from_numpy(windows["mask"][rows]).float()
        label = torch.from_numpy(windows["label"][rows]).float()
        if number % 2:
            frames, mask = frames.flip(-1), mask.flip(-1)
        move = [int(value) for value in rng.integers(-SHIFT, SHIFT + 1, 2)]
        frames, mask = frames.roll(move, (2, 3)), mask.roll(move, (1, 2))
        for group in optimiser.param_groups:
            group["lr"] = (
                RATE * min(1.0, (number + 1) / WARMUP) * 0.5 * (1.0 + np.cos(np.pi * number / steps))
            )
        logits, pixels = net(frames)
        weight = torch.tensor(POSITIVE)
        loss = CLASS_WEIGHT * F.binary_cross_entropy_with_logits(logits, label)
        loss = loss + PIXEL_WEIGHT * F.binary_cross_entropy_with_logits(pixels, mask, pos_weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@torch.no_grad()
def judge(net: Probe, windows: dict[str, Array]) -> dict[str, Array]:
    """Scores and pixel counts of windows, as `fmf_sim_short.judge` has them."""
    scores, pixels = [], []
    for part in np.array_split(np.arange(len(windows["label"])), -(-len(windows["label"]) // 100)):
        logits, dense = net(frames_of(windows["video"][part]))
        said, true = dense.numpy() > 0, windows["mask"][part].astype(bool)
        both, either = (f(said, true).sum((1, 2)) for f in (np.logical_and, np.logical_or))
        scores.append(logits.sigmoid().numpy())
        pixels.append(np.stack([both, either, said[0].size - either, said[0].size - both], axis=1))
    return {"score": np.concatenate(scores), "pixels": np.concatenate(pixels)}


def of_split(windows: dict[str, Array], split: int) -> dict[str, Array]:
    return {name: value[windows["split"] == split] for name, value in windows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=seeds_of, required=True, help="one network is trained on all of them")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--out", type=Path, required=True, help="folder of the windows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    names = ("video", "mask", "label", "split", "visibility")
    parts = {}
    for seed in options.seeds:
        windows = draw(seed, options.out)
        parts[seed] = {name: windows[name] for name in names}
    known = [of_split(windows, 0) for windows in parts.values()]
    started = time.process_time()
    net = train({name: np.concatenate([own[name] for own in known]) for name in names}, options.steps, 0)
    print(f"{NAME} {VERSION}, preset full (simulated): {options.steps} steps of {BATCH}")
    print(f"{(time.process_time() - started) / options.steps:.3f} s of processor a step")
    found = []
    for seed, windows in parts.items():
        test = of_split(windows, 1)
        own = figures(judge(net, test) | {name: test[name] for name in ("label", "visibility")})
        found.append([own["accuracy"], own["auroc"], own["miou"], *own["bands"]])
        print(seed, *(f"{value:.3f}" for value in found[-1]), flush=True)
    print("mean: accuracy, AUROC, mIoU, visibility < 0.1, 0.1 to 0.5, > 0.5:")
    print(*(f"{value:.3f}" for value in np.mean(found, axis=0)))


if __name__ == "__main__":
    main()
