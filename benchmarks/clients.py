"""Loading through other people's loops: windows a second beside `make_loader` alone, with targets.

    python benchmarks/clients.py STORE [--rounds N]

Windows of the paper protocol from memory, batches of 256, no model: what a framework costs besides. Each ratio is the
median over rounds that measure all in turn. On a machine that others use too take seconds of this process (--cpu-time).
Clients that are not installed are left out, and said to be.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

import fmfbench
from fmfbench.torch import WindowDataset, make_loader

BATCH = 256
TARGET = 0.8  # of make_loader alone
clock = time.perf_counter


def drain(batches) -> int:
    return sum(len(batch["class_label"]) for batch in batches)


def lightning_drain(loader) -> int:
    import lightning.pytorch as pl

    class Idle(pl.LightningModule):
        count = 0

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            self.count += len(batch["class_label"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

        def on_train_epoch_start(self) -> None:
            self.began = clock()

        def on_train_epoch_end(self) -> None:
            self.took = clock() - self.began

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = Idle()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, loader)
    lightning_drain.took = module.took
    return module.count


def clients(dataset: WindowDataset) -> dict[str, Callable[[], int]]:
    ours, theirs = make_loader(dataset, BATCH, shuffle=True), DataLoader(dataset, BATCH, shuffle=True)
    found: dict[str, Callable[[], int]] = {
        "make_loader": lambda: drain(ours),
        "torch DataLoader": lambda: drain(theirs),
    }
    if importlib.util.find_spec("lightning"):
        found["Lightning"] = lambda: lightning_drain(make_loader(dataset, BATCH, shuffle=True))
    if importlib.util.find_spec("accelerate"):
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        prepared = accelerator.prepare(make_loader(dataset, BATCH, shuffle=True))
        found["Accelerate"] = lambda: drain(prepared)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of this process, not of the clock")
    options = parser.parse_args()
    global clock  # noqa: PLW0603 - one clock for all
    clock = time.process_time if options.cpu_time else time.perf_counter
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    windows = fmfbench.open_dataset(options.store).windows("all", "paper", cache="memory")
    windows.load()
    ways = clients(WindowDataset(windows))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, work in ways.items():
            began = clock()
            count = work()
            took = lightning_drain.took if name == "Lightning" else clock() - began
            assert count == len(windows), (name, count)
            if turn:  # the first warms up
                rates[name].append(count / took)
    short = []
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates["make_loader"], strict=True))
        if ratio < TARGET:
            short.append(name)
        print(
            f"{name}: {statistics.median(values):,.0f} windows/s, {ratio:.2f} of make_loader (target {TARGET})"
        )
    missing = {"lightning", "accelerate"} - {
        n for n in ("lightning", "accelerate") if importlib.util.find_spec(n)
    }
    if missing:
        print(f"not installed, left out: {', '.join(sorted(missing))}")
    if short:
        print(f"short of target: {', '.join(short)}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
