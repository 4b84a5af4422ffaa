"""`fmfbench calibrate`: temperature and threshold of a trained model, on its validation samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    LOCAL,
    cache_option,
    data_option,
    device_option,
    json_option,
    out_option,
    print_result,
    readers_option,
)


@click.command("calibrate", short_help="Find a model's temperature and threshold on validation samples.")
@click.argument("run", type=LOCAL)
@data_option("The store that it was trained on.")
@click.option(
    "--rule",
    default="f1",
    show_default=True,
    metavar="RULE",
    help="f1 (the largest), fdr:SHARE (FP/(FP+TN) at most that), alarms:NUMBER (false alarms an hour at most), or "
    "fixed (0.5).",
)
@out_option("A checkpoint to write instead of changing the run's.", required=False)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@device_option()
@readers_option()
@cache_option()
@json_option()
def command(*, run: Path, data: Path, as_json: bool, **options: Any) -> None:
    """Calibrate the model of RUN (a run folder or .safetensors) on the samples that its training validated on.

    Its checkpoint keeps the temperature that its logits are divided by, and the threshold above which a score is
    abnormal; `predict`, `watch` and `studio --run` use both, and prediction files say so.

    \b
    Example:
      fmfbench calibrate runs/fmformer --data fmf.zarr
      fmfbench calibrate runs/fmformer --data fmf.zarr --rule alarms:1
      fmfbench calibrate runs/fmformer --data fmf.zarr --rule fdr:0.05 -o careful.safetensors
    """
    from fmfbench_models.inference.calibration import calibrate

    found = calibrate(run, data, **options)
    reached = found["validation"]
    loss, ece = (reached[name] for name in ("log_loss", "ece"))
    fitted = (
        f"log loss {loss['before']:.4f} to {loss['after']:.4f}, ECE {ece['before']:.4f} to {ece['after']:.4f}"
        if found["temperature_reason"] is None
        else f"not fitted: {found['temperature_reason']}"
    )
    shares = ", ".join(
        f"{title} {reached[name]:.3f}"
        for name, title in (("f1", "F1"), ("fdr", "FDR"), ("mdr", "MDR"))
        if reached[name] is not None
    )
    given = run if options["out"] is None else options["out"]
    text = (
        f"{found['checkpoint']}: calibrated on {found['samples']} samples of split {found['split']}, "
        f"{found['abnormal']} abnormal\n"
        f"  temperature  {found['temperature']:.4g} ({fitted})\n"
        f"  threshold    {found['threshold']:.6g} by rule {found['rule']} (on these samples: {shares})\n"
        f"next: fmfbench predict {given} --data {data} -o predictions.npz"
    )
    print_result(found, text, as_json)
