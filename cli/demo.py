"""`fmfbench demo`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmfbench.errors import InputError
from fmfbench.files.leavings import without_leavings

from .options import LOCAL, json_option

if TYPE_CHECKING:
    from fmfbench.data import Dataset

_MARK = "FMF-Sim.txt"
SHIPPED = "fmformer-nano"
_MADE = ("recordings", "fmf_sim.zarr", "view.png", "predictions.npz",
         "fmformer-nano", "fmformer-nano.npz", "fmformer-nano.png", _MARK)  # fmt: skip


@click.command("demo", short_help="Everything once, on simulated data.")
@click.argument("folder", type=LOCAL, default=Path("fmfbench-demo"))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the furnace.")
@click.option("--preset", default="small", show_default=True, help="Size of the simulated furnace.")
@click.option(
    "--train", is_flag=True, help="Train a FmFormer on this furnace, in the place of the one that ships."
)
@click.option("--overwrite", is_flag=True, hidden=True, help="Not needed: a demo may be run again.")
@json_option()
def command(*, folder: Path, seed: int, preset: str, train: bool, overwrite: bool, as_json: bool) -> None:
    """Everything once, on simulated data (FMF-Sim): recordings, store, windows, predictions, score.

    Simulates a furnace, converts it, fits a small transparent baseline on the train split, writes
    its predictions for the test split and scores them. Where PyTorch is installed, a nano FmFormer
    is scored on the same samples: the one that ships with fmfbench, or, with --train, one that is
    trained here. Needs no network and no GPU. Called again, it replaces what it made, and leaves
    anything else in FOLDER alone.

    \b
    Example:
      fmfbench demo
      fmfbench demo /tmp/demo --seed 1
      fmfbench demo /tmp/demo --train
    """
    from fmfbench.furnace.plan import parse_preset

    parse_preset(preset)  # before an earlier demo goes
    _clear(folder, lambda line: click.echo(line, err=as_json))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("Made by `fmfbench demo`: simulated data, nothing here was recorded.\n")
    facts: dict[str, Any] = {
        "data": f"FMF-Sim, preset {preset}, seed {seed}: simulated, nothing was recorded"
    }
    for line in _run(folder, seed, preset, facts, train=train):
        click.echo(line, err=as_json)
    if as_json:
        click.echo(json.dumps(facts, indent=2))


def _run(folder: Path, seed: int, preset: str, facts: dict[str, Any], *, train: bool) -> Iterator[str]:
    """Does it all, yields what is going on, and puts what came out into `facts`."""
    import fmfbench
    from fmfbench.conversion.summary import describe, format_description
    from fmfbench.furnace.simulate import simulate
    from fmfbench.plots.recording import choose_frames, draw_recording
    from fmfbench.scoring.baseline import fit_baseline

    source, store = folder / "recordings", folder / "fmf_sim.zarr"
    yield f"1. simulate a furnace (FMF-Sim, preset {preset}, seed {seed}) as V2 files"
    simulate(source, preset=preset, seed=seed, layout="v2", progress=True)
    yield "2. convert them into a store"
    fmfbench.convert(source, store, progress=True)
    data = fmfbench.open_dataset(store)
    yield format_description(describe(data))
    yield "3. draw the first recording"
    recording = next(iter(data.recordings.values()))
    draw_recording(recording, choose_frames(recording, None), folder / "view.png")
    yield "4. fit the baseline on windows of the train split: two logistic regressions"
    baseline = fit_baseline(data.windows("train", every=4), seed=seed, progress=True)
    yield "5. predict the test split, write the prediction file, score it"
    windows = data.windows("test")
    scores, masks = baseline.predict(windows, progress=True)
    predictions = fmfbench.write_predictions(
        folder / "predictions.npz",
        sample_id=windows.sample_ids,
        score=scores,
        mask=masks,
        meta={
            "model": "logistic baseline",
            "protocol": windows.protocol.to_dict(),
            "context": windows.context,
            "fingerprint": data.fingerprint,
            "seed": seed,
        },
    )
    yield ""
    scored = fmfbench.score(predictions, data)
    facts |= {"recordings": str(source), "store": str(store), "picture": str(folder / "view.png")}
    facts["models"] = {
        "logistic baseline": {"predictions": str(predictions), "picture": None, "score": scored.to_dict()}
    }
    yield scored.to_text()
    yield ""
    if find_spec("torch") is None:
        yield "PyTorch is not installed: the demo ends with the baseline. For FmFormer: pip install 'fmfbench[models]'"
    else:
        yield from _fmformer(folder, data, seed, facts["models"], train=train)
    yield ""
    yield "All of this is simulated (FMF-Sim): no figure here says anything about the real benchmark."
    yield f"recordings   {source}"
    yield f"store        {store}"
    yield f"picture      {folder / 'view.png'}"
    yield f"predictions  {predictions}"
    yield f"score again  fmfbench score {predictions} --data {store}"


def _fmformer(
    folder: Path, data: Dataset, seed: int, models: dict[str, Any], *, train: bool
) -> Iterator[str]:
    """A nano FmFormer, shipped or trained here, its score beside the baseline's, and a picture of what it sees."""
    import fmfbench
    from fmfbench.plots.predictions import draw_predictions
    from fmfbench_models.inference.predict import predict
    from fmfbench_models.training.nano import train_nano

    run: Path | str = SHIPPED
    if train:
        yield "6. train FmFormer, preset nano, on the CPU"
        run = train_nano(data, folder / "fmformer-nano", seed=seed)
    else:
        yield f"6. FmFormer: the weights {SHIPPED}, trained on another simulated furnace; --train trains one on this"
    yield "7. predict the test split with it, score it, draw what it sees"
    predictions = predict(run, data, folder / "fmformer-nano.npz")
    yield ""
    scored = fmfbench.score(predictions, data)
    models["fmformer"] = {
        "predictions": str(predictions),
        "picture": str(folder / "fmformer-nano.png"),
        "run": str(run),
        "score": scored.to_dict(),
    }
    yield scored.to_text()
    draw_predictions(data, predictions, folder / "fmformer-nano.png")
    yield ""
    yield f"FmFormer     {run}, {predictions}"
    yield f"its picture  {folder / 'fmformer-nano.png'}"


def _clear(folder: Path, tell: Callable[[str], None]) -> None:
    """Make way for a demo: what an earlier one made goes, whatever else lies in its folder stays."""
    if not folder.exists() or (folder.is_dir() and not without_leavings(folder.iterdir())):
        return
    if not (folder / _MARK).exists():
        raise InputError(
            f"{folder}: expected a new or empty folder or an earlier demo's, got one in use; choose another"
        )
    tell(f"{folder}: replacing what an earlier demo made there")
    for name in _MADE:
        made = folder / name
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
