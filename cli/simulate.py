"""`fmfbench simulate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .options import LOCAL, json_option, print_result, seed_option, threads_option


@click.command("simulate", short_help="Write recordings of the simulated furnace FMF-Sim.")
@click.argument("out", type=LOCAL)
@click.option(
    "--preset", default="small", show_default=True, metavar="tiny|small|full", help="Size of the data set."
)
@seed_option("Another seed is another furnace.")
@click.option(
    "--layout", default="v2", show_default=True, metavar="v2|v1|recording", help="Form of the files."
)
@click.option(
    "--mat", default="v7.3", show_default=True, metavar="v7.3|v7", help="MAT version, for v2 and v1."
)
@threads_option("Threads; the files do not depend on it.  [default: all cores]")
@click.option(
    "--truth",
    default="states",
    show_default=True,
    metavar="states|frames",
    help="Hidden states written beside the data; frames: also each frame's clean scene and heat.",
)
@click.option(
    "--signature",
    default="mixed",
    show_default=True,
    metavar="mixed|calm|rough",
    help="Which way semi-molten melt moves the current: drawn for each event, or always one way.",
)
@click.option("--twin", is_flag=True, help="The same furnace without any anomaly: all labels 0.")
@click.option("--gallery", type=LOCAL, help="Also draw a picture of typical moments (PNG).")
@click.option(
    "--clip",
    type=LOCAL,
    help="Also write a clip of typical moments and the currents (AVI).",
)
@json_option()
def command(
    out: Path, gallery: Path | None, clip: Path | None, as_json: bool, twin: bool, **options: Any
) -> None:
    """Write FMF-Sim, a simulated furnace, into the folder OUT, in the form of the real recordings.

    FMF-Sim is not the real data, and no figure on it is a figure on the real data. The same preset, seed and version
    give the same bytes. A run that was stopped resumes where the same command finds it.

    \b
    Example:
      fmfbench simulate furnace --preset small
      fmfbench convert furnace furnace.zarr
    """
    from fmfbench.furnace.clip import write_clip
    from fmfbench.furnace.gallery import draw_gallery, parse_picture_path
    from fmfbench.furnace.simulate import simulate

    for path, ending in ((gallery, ".png"), (clip, ".avi")):
        if path is not None:
            parse_picture_path(path, ending)
    if options["workers"] is None:
        options["workers"] = os.cpu_count() or 1
    summary = simulate(out, anomaly_free=twin, progress=True, **options)
    furnace = {"preset": options["preset"], "seed": options["seed"]}
    if gallery is not None:
        summary["gallery"] = str(draw_gallery(gallery, **furnace))
    if clip is not None:
        summary["clip"] = str(write_clip(clip, **furnace))
    print_result(summary, _as_text(summary), as_json)


def _as_text(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['name']} {summary['version']} (simulated), preset {summary['preset']}, seed {summary['seed']}, "
        f"layout {summary['layout']}: {summary['out']}"
    ]
    for name, own in summary["recordings"].items():
        split = ", ".join(
            f"{part} {count} ({own['abnormal_in'][part]} abnormal)" for part, count in own["split"].items()
        )
        kept = " [kept]" if name in summary["kept"] else ""
        lines.append(
            f"  {name}: {own['frames']} frames {own['height']}x{own['width']} in {own['seconds']} s, "
            f"{own['current_rows']} current rows, {own['events']} events; {split}{kept}"
        )
    lines += [f"  note: {note}" for note in summary["notes"]]
    lines += [f"  {kind}: {summary[kind]}" for kind in ("gallery", "clip") if kind in summary]
    return "\n".join(lines)
