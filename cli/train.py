"""`fmfbench train`: a model on the training samples of a store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from fmfbench.errors import InputError

from .options import (
    LOCAL,
    cache_option,
    context_option,
    data_option,
    device_option,
    out_option,
    protocol_option,
    readers_option,
    seed_option,
    split_name_option,
)


@click.command("train", short_help="Train a model on a store.")
@click.argument("model")
@data_option("The store to train on.")
@out_option("The run folder; the same call resumes it.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key of the recipe or of the model, preset, or protocol.KEY; may be repeated.",
)
@click.option(
    "--recipe",
    type=click.Choice(["shared", "original"]),
    help="Short for --set recipe=NAME: the recipe of all models [default], or the publication's own.",
)
@click.option("--epochs", type=int, help="Short for --set epochs=N.")
@click.option(
    "--lengthen",
    type=LOCAL,
    metavar="RUN",
    help="Begin where a finished run of the same settings but fewer epochs ended; OUT is a new folder.",
)
@click.option(
    "--log",
    "logs",
    type=click.Choice(["csv", "tensorboard"]),
    multiple=True,
    help="Another form of log.jsonl in the run folder: log.csv, or event files; may be repeated.",
)
@protocol_option("Window protocol [default: paper; official with preset=official].", default=None)
@context_option("What windows may see of other splits.")
@split_name_option(
    "; or a fold of train to leave out: loro:RECORDING, or kfold:I/K, the I-th of K (kfold:I, of five)"
)
@seed_option("Of all random draws.")
@click.option(
    "--backbone-weights",
    type=LOCAL,
    help="Published weights for the model's convolutional trunk, .pth or .safetensors [default: random].",
)
@device_option()
@readers_option()
@cache_option()
def command(
    *,
    model: str,
    data: Path,
    out: Path,
    assignments: tuple[str, ...],
    recipe: str | None,
    epochs: int | None,
    lengthen: Path | None,
    logs: tuple[str, ...],
    protocol: str | None,
    context: str,
    split: str | None,
    seed: int,
    backbone_weights: Path | None,
    device: str | None,
    workers: int,
    cache: str | None,
) -> None:
    """Train MODEL (see `fmfbench models`) into a run folder.

    Values are JSON, or text where they are not. The same call resumes an interrupted run. Several GPUs:
    torchrun --nproc-per-node=4 -m fmfbench train ...

    \b
    Example:
      fmfbench train fmformer --data fmf.zarr --out runs/fmformer
      fmfbench train bilm --data fmf.zarr --out runs/bilm --backbone-weights resnet18-f37072fd.pth
      fmfbench train fmformer --data fmf.zarr --out runs/longer --lengthen runs/fmformer --epochs 40
      fmfbench train fmformer --data fmf.zarr --out runs/without_a --split loro:run-a
      fmfbench train fmformer --data fmf.zarr --out runs/small --set preset=nano --set lr=1e-3 --epochs 5
    """
    from fmfbench_models.training.train import train

    options = dict(parse_assignment(text) for text in assignments)
    if recipe is not None:
        options["recipe"] = recipe
    if epochs is not None:
        options["epochs"] = epochs
    run = train(
        model,
        data,
        out,
        options=options,
        protocol=protocol,
        context=context,
        split=split,
        seed=seed,
        backbone_weights=backbone_weights,
        lengthen=lengthen,
        logs=logs,
        device=device,
        workers=workers,
        cache=cache,
    )
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        click.echo(f"{run}: finished; next: fmfbench predict {run} --data {data} -o predictions.npz")


def parse_assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value being JSON where it can be read as such and text where it cannot."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InputError(f"--set: expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
