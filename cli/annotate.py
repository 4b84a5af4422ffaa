"""`fmfbench annotate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmfbench.errors import AnnotationError

from .annotate_outputs import SUBCOMMANDS, check_outputs, check_recording, report_on, write_outputs
from .options import LOCAL, json_option, print_result, store_argument, threads_option

if TYPE_CHECKING:
    from fmfbench.data import Dataset


class _Annotate(click.Command):
    """`annotate STORE KEYFRAMES`, and `annotate export`, `report` and `preview` of what is there.

    A store of one of those names is meant by its path: ./export.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] in SUBCOMMANDS:
            return SUBCOMMANDS[args[0]].make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("annotate", cls=_Annotate, short_help="Boxes on keyframes into pixel labels of every frame.")
@store_argument()
@click.argument("keyframes", type=LOCAL, required=False)
@click.option(
    "--recording",
    "name",
    metavar="NAME",
    help="The one recording that the boxes, a picture or export are of.",
)
@click.option("--label", metavar="LABEL", help="Take only CVAT tracks of this label.")
@click.option("--task", metavar="NAME|ID", help="Take one task of a CVAT project.")
@click.option(
    "--size", metavar="WxH", help="The size that was drawn on, where a CVAT export does not say it."
)
@click.option(
    "--untouched",
    type=click.Choice(["skip", "normal"]),
    default="skip",
    show_default=True,
    help="What a CVAT task is that nobody has drawn on: left out, or normal throughout.",
)
@click.option(
    "--on-raw",
    is_flag=True,
    help="The boxes were drawn on the raw video, before the store's crop; they are refined on its frames.",
)
@click.option(
    "--raw",
    type=LOCAL,
    metavar="FILE|FOLDER",
    help="Refine on the raw video there, in its resolution.  [with --on-raw: looked for beside the store]",
)
@click.option(
    "--radius",
    metavar="PIXELS|box/N",
    help="Half the refining window's side: in stored pixels, for all boxes of a frame together, or of each box alone, "
    "its shorter side / N.  [default: box/3]",
)
@click.option("--sigma", default=25.5, show_default=True, help="Width of the colour weight, in grey levels.")
@click.option("--boxes", default="boxes", show_default=True, help="Name of the layer of propagated boxes.")
@click.option("--refined", default="refined", show_default=True, help="Name of the layer of refined masks.")
@click.option("--no-refine", is_flag=True, help="Write the boxes alone.")
@click.option("--margin", is_flag=True, help="Keep the vote's margin of every pixel too.")
@click.option(
    "--layer-as-default", is_flag=True, help="Make the new layer the one that scores are held against."
)
@click.option("--preview", type=LOCAL, help="Draw the events: .png a sheet, .mp4 or .webm a clip.")
@click.option(
    "--report", "with_report", is_flag=True, help="Print changed pixels, area, flicker and agreement."
)
@click.option("--reference", metavar="LAYER", help="Layer for --report to compare with.  [default: source]")
@click.option("--export-keyframes", "to_json", type=LOCAL, help="Write keyframes.json.")
@click.option("--export-cvat", "to_cvat", type=LOCAL, help="Folder for CVAT XML of keyframes.")
@click.option("--export-coco", "to_coco", type=LOCAL, help="Folder for COCO of the masks.")
@click.option("--export-video", "to_video", type=LOCAL, help="Folder for videos to draw on.")
@click.option(
    "--scale", type=click.IntRange(1, 64), default=8, show_default=True, help="Enlarge those by this."
)
@threads_option()
@json_option()
def command(store: Path, keyframes: Path | None, **options: Any) -> None:
    """Turn the boxes of KEYFRAMES into pixel labels of every frame of STORE.

    KEYFRAMES is keyframes.json or a CVAT for video 1.1 export (XML or zip): onset, apex, offset and boxes on a few
    frames. They are propagated to all frames between (layer `boxes`) and refined by a weighted median guided by
    each frame (layer `refined`). No layer is ever overwritten; interrupted, the same command continues.

    Of layers that are there `annotate export` writes keyframes, masks or videos to draw on, `annotate report` says
    what refining did, `annotate preview` draws the events (each has a --help of its own).

    \b
    Example:
      fmfbench annotate export run7.zarr --video draw/       draw on draw/run7.mp4 in CVAT, then
      fmfbench annotate run7.zarr annotations.xml --recording run7 --layer-as-default
      fmfbench annotate preview run7.zarr -o look.png
    """
    from fmfbench.annotation.annotate import annotate, read_drawn
    from fmfbench.data import open_dataset

    refined = None if options["no_refine"] else options["refined"]
    _check_asked(options, keyframes)
    check_outputs(options)
    written: list[str] = []
    remarks: list[str] = []
    before = None
    if keyframes is not None:
        drawn, frames = read_drawn(
            keyframes,
            options["name"],
            options["label"],
            task=options["task"],
            size=None if options["size"] is None else parse_size(options["size"]),
            untouched=options["untouched"],
        )
        before = open_dataset(store)
        written = annotate(
            store,
            drawn,
            drawn_frames=frames,
            boxes=options["boxes"],
            refined=refined,
            radius=options["radius"],
            sigma=options["sigma"],
            margin=options["margin"],
            as_default=options["layer_as_default"],
            on_raw=options["on_raw"],
            raw=options["raw"],
            workers=options["workers"],
            progress=True,
        )
        counts = {name: recording.num_frames for name, recording in before.recordings.items()}
        remarks = frames.uncovered(counts)
    data = open_dataset(store)
    check_recording(data, options["name"])
    facts: dict[str, Any] = {
        "store": str(store),
        "written": written,
        "remarks": remarks,
        "default_layer": data.default_layer,
        "fingerprint": data.fingerprint,
        "files": write_outputs(data, options, refined),
    }
    text = [] if before is None else _told(store, written, before, data)
    text += [f"remark: {remark}" for remark in remarks]
    text += [f"wrote {file}" for file in facts["files"]]
    if options["with_report"]:
        facts["report"] = report_on(data, options, refined)
        from fmfbench.annotation.quality import format_report

        text.append(format_report(facts["report"]))
    print_result(facts, "\n".join(text), options["as_json"])


def parse_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT; AnnotationError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,5})\s*[x×*]\s*([1-9]\d{0,5})", text.strip(), re.IGNORECASE)
    if match is None:
        raise AnnotationError(f"--size: expected WIDTHxHEIGHT, as in 512x512, got {text!r}")
    return int(match[1]), int(match[2])


def _told(store: Path, written: list[str], before: Dataset, data: Dataset) -> list[str]:
    """What the store has that it had not."""
    lines = [f"{store}: wrote {', '.join(written)}" if written else f"{store}: no new layer"]
    if data.default_layer != before.default_layer:
        lines.append(
            f"the default layer is {data.default_layer} now, it was {before.default_layer or 'none'}"
        )
    if data.fingerprint != before.fingerprint:
        lines.append(f"identity  {data.fingerprint}, it was {before.fingerprint}")
    return lines


def _check_asked(options: dict[str, Any], keyframes: Path | None) -> None:
    wanted = ("preview", "with_report", "to_json", "to_cvat", "to_coco", "to_video")
    if keyframes is None and not any(options[key] for key in wanted):
        raise AnnotationError(
            "expected KEYFRAMES, or --preview, --report or an --export of layers that are there, got none of them"
        )
    if keyframes is None and options["layer_as_default"]:
        raise AnnotationError(
            "--layer-as-default: expected KEYFRAMES, got none; give those that the layer was made from"
        )
