"""`fmfbench studio`: a local page to look at a store, and to label it."""

from __future__ import annotations

from pathlib import Path

import click

from .options import LOCAL


@click.command("studio", short_help="Look at a store and label it, in the browser.")
@click.argument("store", type=LOCAL)
@click.option(
    "--predictions", type=LOCAL, multiple=True, metavar="FILE", help="A prediction file to show; repeatable."
)
@click.option(
    "--run",
    "runs",
    type=LOCAL,
    multiple=True,
    metavar="RUN",
    help="A trained model: judges the recording that is shown, as you look; repeatable.",
)
@click.option(
    "--keyframes",
    type=LOCAL,
    metavar="FILE",
    help="Where labels are kept.  [default: NAME.keyframes.json beside the store]",
)
@click.option(
    "--truth", type=LOCAL, metavar="FOLDER", help="FMF-Sim's hidden states, for the visibility lane."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port.  [default: a free one]")
@click.option("--read-only", is_flag=True, help="Look only: nothing can be changed.")
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
def command(
    store: Path,
    predictions: tuple[Path, ...],
    runs: tuple[Path, ...],
    keyframes: Path | None,
    truth: Path | None,
    host: str,
    port: int,
    read_only: bool,
    no_browser: bool,
) -> None:
    """Look at STORE in a browser, and label it: video, masks, currents, predictions on one time axis.

    The page is served on this machine alone, to whoever has the address that is printed; stop it with Ctrl-C. Labels
    are saved as they are drawn, into a keyframes.json that `annotate` takes. `?` on the page lists its keys.

    --run takes a run folder, a checkpoint, or fmformer-nano: a small model that ships with fmfbench, trained on FMF-Sim
    and never for a real furnace. What it judges is kept while the studio runs; `predict` writes it into a file, which
    --predictions shows.

    \b
    Example:
      fmfbench studio fmf.zarr
      fmfbench studio fmf.zarr --predictions a.npz --predictions b.npz
      fmfbench studio fmf.zarr --run runs/fmformer
    """
    from fmfbench.studio.serve import require_packages, serve_studio

    require_packages()
    judges = []
    if runs:
        from fmfbench_models.inference.judge import RunJudge

        judges = [RunJudge(run) for run in runs]
    serve_studio(
        store,
        predictions=predictions,
        judges=judges,
        keyframes=keyframes,
        truth=truth,
        host=host,
        port=port,
        read_only=read_only,
        open_browser=not no_browser,
        tell=click.echo,
    )
