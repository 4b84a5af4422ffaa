"""Run by torchrun in two processes: which windows Lightning trains on, by epoch, and after resuming in epoch 3."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch

import fmfbench
from fmfbench.torch import WindowDataset, make_loader

STOP = (3, 4)  # epoch, batch


class Seen(pl.LightningModule):
    def __init__(self, stop_at=None, keep=None):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.stop_at, self.keep = stop_at, keep
        self.epochs: dict[int, list] = {}
        self.predicted: list[int] = []

    def training_step(self, batch, number):
        self.epochs.setdefault(self.current_epoch, []).append(batch["sample_id"].tolist())
        return self.layer(batch["current"].mean(1) / 1e4).mean()

    def on_train_batch_end(self, outputs, batch, number):
        if (self.current_epoch, number) == self.stop_at:
            self.trainer.save_checkpoint(self.keep)
            self.trainer.should_stop = True
            self.trainer.limit_train_batches = number + 1

    def predict_step(self, batch, number):
        self.predicted += batch["sample_id"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(epochs):
    return pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def main(store: str, out: str, shuffle: str, kind: str) -> None:
    windows = fmfbench.open_dataset(store).windows("all", "short", every=6)
    dataset = WindowDataset(windows)
    order = shuffle if shuffle == "block" else True

    def loader():
        if kind == "plain":  # torch's own, whose sampler Lightning replaces
            return torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True, drop_last=True)
        return make_loader(dataset, 16, order, drop_last=True, buffer_bytes=200_000, seed=3)

    whole = Seen()
    run = trainer(5)
    run.fit(whole, loader())
    found = {"epochs": whole.epochs}
    if kind == "ours":
        keep = str(Path(out) / "middle.ckpt")
        stopped = Seen(STOP, keep)
        trainer(5).fit(stopped, loader())
        again = Seen()
        trainer(5).fit(again, loader(), ckpt_path=keep, weights_only=False)
        run.predict(whole, make_loader(dataset, 16))
        found |= {"stopped": stopped.epochs, "resumed": again.epochs, "predicted": whole.predicted}
    Path(out, f"{run.global_rank}.json").write_text(json.dumps(found))


main(*sys.argv[1:])
