"""Run by torchrun in two processes: which windows each sees, epoch by epoch, and after resuming in the middle of 3."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed as dist

import fmfbench
from fmfbench.torch import WindowDataset, make_loader


def main(store: str, out: str, shuffle: str) -> None:
    windows = fmfbench.open_dataset(store).windows("all", "short", every=6)

    def make():
        # made before the processes know of each other, as scripts do that leave it to a framework
        return make_loader(
            WindowDataset(windows), 16, shuffle if shuffle == "block" else True, buffer_bytes=200_000
        )

    loader = make()
    dist.init_process_group("gloo")
    epochs, state = [], None
    for epoch in range(5):
        epochs.append([])
        for number, batch in enumerate(loader):
            epochs[-1].append(batch["sample_id"].tolist())
            if (epoch, number) == (3, 4):
                state = loader.state_dict()
    again = make()
    again.load_state_dict(state)
    resumed = [[batch["sample_id"].tolist() for batch in again] for _ in range(2)]
    found = {"epochs": epochs, "resumed": resumed, "samples": len(loader.sampler)}
    Path(out, f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


main(*sys.argv[1:])
