"""`fmfbench view`."""

from __future__ import annotations

from pathlib import Path

import click

from fmfbench.errors import StoreError

from .options import out_option, store_argument


@click.command("view", short_help="Draw frames, mask outlines and currents of a store.")
@store_argument()
@click.option("--recording", "name", metavar="NAME", help="Which recording.  [default: the first]")
@click.option("--frames", metavar="A:B:STEP", help="Which frames.  [default: 12, half of them abnormal]")
@out_option("Picture to write (.png, .pdf, .svg).", earlier=("--output",))
def command(store: Path, name: str | None, frames: str | None, out: Path) -> None:
    """Draw frames of STORE with mask outlines, and the three currents beneath, split and gaps shaded.

    \b
    Example:
      fmfbench view fmf.zarr -o out.png
      fmfbench view fmf.zarr --recording run7 --frames 1000:2000:100 -o out.png
    """
    from fmfbench.data import open_dataset
    from fmfbench.plots.recording import choose_frames, draw_recording

    recordings = open_dataset(store).recordings
    if not recordings:
        raise StoreError(f"{store}: has no recordings")
    chosen = name if name is not None else next(iter(recordings))
    if chosen not in recordings:
        raise StoreError(f"{store}: expected one of the recordings {', '.join(recordings)}, got {chosen!r}")
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise StoreError(f"expected a name that ends in .png, .pdf or .svg, got {out}")
    if not out.parent.is_dir():
        raise StoreError(f"{out}: the folder {out.parent} does not exist; make it first")
    recording = recordings[chosen]
    draw_recording(recording, choose_frames(recording, frames), out)
    click.echo(f"{out}: {chosen}, green is the outline of the abnormal region")
