"""Run by torchrun in two processes: which windows Accelerate hands out, epoch by epoch, and from the middle of 3 on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches

import fmfbench
from fmfbench.torch import WindowDataset, make_loader


def main(store: str, out: str, shuffle: str, kind: str) -> None:
    windows = fmfbench.open_dataset(store).windows("all", "short", every=6)
    dataset = WindowDataset(windows)
    order = shuffle if shuffle == "block" else True
    settings = DataLoaderConfiguration(split_batches=kind == "split", even_batches=kind != "uneven")
    accelerator = Accelerator(cpu=True, dataloader_config=settings)

    def loader():
        return accelerator.prepare(make_loader(dataset, 8, order, buffer_bytes=200_000, seed=3))

    def ids(batches):
        return [batch["sample_id"].tolist() for batch in batches]

    own = loader()
    epochs = [ids(own) for _ in range(5)]  # Accelerate counts and sets the epoch
    again = loader()
    again.set_epoch(3)
    rest = skip_first_batches(again, 4)
    rest.set_epoch(3)
    resumed = [ids(rest)]
    again.set_epoch(4)
    resumed.append(ids(again))
    found = {"epochs": epochs, "resumed": resumed}
    Path(out, f"{accelerator.process_index}.json").write_text(json.dumps(found))
    accelerator.end_training()


main(*sys.argv[1:])
