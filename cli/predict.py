"""`fmfbench predict`: a trained model on the samples of a split, into a prediction file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import click

from .options import (
    LOCAL,
    cluster_options,
    context_option,
    data_option,
    device_option,
    json_option,
    out_option,
    protocol_option,
    readers_option,
    split_option,
)


@click.command("predict", short_help="Write the prediction file of a trained model.")
@click.argument("run", type=LOCAL)
@data_option("The store to predict on.")
@out_option("The prediction file to write.")
@split_option()
@protocol_option("Window protocol [default: the one of training].", default=None)
@context_option("What windows may see of other splits [default: as in training].", default=None)
@click.option(
    "--corrupt", metavar="PRESET", help="Predict under a preset of the robustness protocol, e.g. mist."
)
@click.option(
    "--outliers",
    type=LOCAL,
    help="Predict on the samples of an outlier file (fmfbench outliers make) instead of a split.",
)
@click.option(
    "--per-second", is_flag=True, help="Only the last sample of each second, for score --per-second."
)
@click.option(
    "--pixel-scores", is_flag=True, help="Also write the score of every pixel, for pixel AUROC and AUPRO."
)
@click.option(
    "--pixel-type",
    type=click.Choice(["float16", "float32", "uint8"]),
    default="float16",
    show_default=True,
    help="Of --pixel-scores: 2, 4 or 1 bytes a pixel before compression.",
)
@click.option(
    "--engine",
    type=click.Choice(["torch", "onnx", "compile"]),
    default="torch",
    show_default=True,
    help="What runs the model: torch, ONNX Runtime (on the CPU), or torch.compile.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@device_option()
@readers_option()
@cluster_options()
@json_option()
def command(
    *,
    run: Path,
    data: Path,
    out: Path,
    split: str,
    protocol: str | None,
    context: str | None,
    corrupt: str | None,
    outliers: Path | None,
    per_second: bool,
    pixel_scores: bool,
    pixel_type: str,
    engine: Literal["torch", "onnx", "compile"],
    dry_run: bool,
    batch_size: int,
    device: str | None,
    workers: int,
    scheduler: str | None,
    processes: int | None,
    as_json: bool,
) -> None:
    """Write predictions.npz with the model of RUN: a run folder, a .safetensors, or an official .pth.

    RUN may also be fmformer-nano, a small model that ships with fmfbench, trained on FMF-Sim.

    \b
    Example:
      fmfbench predict runs/fmformer --data fmf.zarr -o predictions.npz
      fmfbench predict runs/fmformer --data fmf.zarr -o dense.npz --pixel-scores
      fmfbench predict runs/fmformer --data fmf.zarr -o predictions.npz --engine onnx
      fmfbench score predictions.npz --data fmf.zarr
      torchrun --nproc-per-node=4 -m fmfbench predict runs/fmformer --data fmf.zarr -o predictions.npz
    """
    from fmfbench.data import open_dataset
    from fmfbench.errors import InputError
    from fmfbench.exchange.outliers import read_outliers
    from fmfbench.files.problems import check_ending, check_target
    from fmfbench.windows.corrupt import corruption
    from fmfbench_models.inference.predict import PredictionJob

    check_target(out)
    check_ending(out, (".npz",), "predictions")
    source = open_dataset(data)
    source, transform = (source, None) if corrupt is None else corruption(source, corrupt)
    injected = None if outliers is None else read_outliers(outliers)
    if injected is not None:
        asked = click.get_current_context().get_parameter_source("split")
        if asked is not click.core.ParameterSource.DEFAULT:
            raise InputError(
                f"--split {split}: expected a split or --outliers, got both; {outliers} says which samples"
            )
        split = str(injected.meta.get("split", "all"))
    settings: dict[str, Any] = {
        "outliers": injected,
        "split": split,
        "protocol": protocol,
        "context": context,
        "per_second": per_second,
        "engine": engine,
        "batch_size": batch_size,
        "device": device,
        "workers": workers,
        "pixel_scores": pixel_type if pixel_scores else None,
    }
    corrupted = None if corrupt is None else {"corrupt": corrupt}
    job = PredictionJob(model=run, data=source, out=out, transform=transform, meta=corrupted, **settings)
    if dry_run:
        steps = job.plan()
        click.echo(json.dumps(steps, indent=2) if as_json else _planned(steps))
        return
    if scheduler is None and processes is None:
        written = job.run()
    elif corrupt is not None:
        raise InputError(
            "--corrupt: expected one process, got --scheduler or --processes; leave one of them out"
        )
    else:
        from fmfbench.conversion.cluster import joined_cluster
        from fmfbench_models.inference.cluster import predict_on

        with joined_cluster(scheduler, processes) as client:
            written = predict_on(client, run, data, out, **settings)
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process speaks for all
        return
    if as_json:
        click.echo(json.dumps(_summary(written, data, split), indent=2))
        return
    if outliers is None:
        every = " --per-second" * per_second
        click.echo(f"{written}: next: fmfbench score {written} --data {data} --split {split}{every}")
    else:
        click.echo(f"{written}: next: fmfbench outliers score {written} {outliers}")


def _planned(steps: dict[str, Any]) -> str:
    """What would be written, in lines."""
    sizes = {"masks": steps["mask_bytes"], "pixel scores": steps["pixel_score_bytes"]}
    large = [f"{count / 1e6:.1f} MB of {what}" for what, count in sizes.items() if count]
    return "\n".join(
        (
            f"{steps['out']}: {steps['num_samples']} samples of split {steps['split']}, "
            f"in {steps['num_batches']} batches",
            f"  model    {steps['model']}, engine {steps['engine']}",
            f"  windows  protocol {steps['protocol']}, context {steps['context']}",
            f"  holds    scores{''.join(f', {text}' for text in large)} (before compression)",
        )
    )


def _summary(written: Path, data: Path, split: str) -> dict[str, Any]:
    """What is in the file, as it says itself."""
    from fmfbench.exchange.predictions import read_predictions

    found = read_predictions(written)
    dense = found.pixel_score
    return {
        "predictions": str(written),
        "data": str(data),
        "split": split,
        "num_samples": len(found.sample_id),
        "mask_shape": None if found.mask_shape is None else list(found.mask_shape),
        "pixel_score": None if dense is None else dense.dtype.name,
        "meta": dict(found.meta),
    }
