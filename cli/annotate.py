"""`fmfbench annotate`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmfbench.errors import AnnotationError

from .options import LOCAL, json_option, print_result, store_argument, threads_option

if TYPE_CHECKING:
    from fmfbench.annotation.keyframes import Keyframes
    from fmfbench.data import Dataset, Recording

_PICTURES = (".png", ".pdf", ".svg")


@click.command("annotate", short_help="Boxes on keyframes into pixel labels of every frame.")
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
    "--on-raw", is_flag=True, help="The boxes were drawn on the raw video, before the store's crop."
)
@click.option(
    "--radius",
    type=int,
    help="Half the refining window's side, in stored pixels.  [default: of each box, a third of its shorter side]",
)
@click.option("--sigma", default=25.5, show_default=True, help="Width of the colour weight, in grey levels.")
@click.option("--boxes", default="boxes", show_default=True, help="Name of the layer of propagated boxes.")
@click.option("--refined", default="refined", show_default=True, help="Name of the layer of refined masks.")
@click.option("--no-refine", is_flag=True, help="Write the boxes alone.")
@click.option("--margin", is_flag=True, help="Keep the vote's margin of every pixel too.")
@click.option(
    "--layer-as-default", is_flag=True, help="Make the new layer the one that scores are held against."
)
@click.option("--preview", type=LOCAL, help="Draw the events: .png a sheet, .mp4 a clip.")
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
    each frame (layer `refined`). No layer is ever overwritten; interrupted, the same command continues. Without
    KEYFRAMES, the layers that are there are shown, reported on or exported.

    \b
    Example:
      fmfbench annotate run7.zarr --export-video draw/       draw on draw/run7.mp4 in CVAT, then
      fmfbench annotate run7.zarr annotations.xml --recording run7 --layer-as-default
      fmfbench annotate run7.zarr --preview look.png --report
    """
    from fmfbench.annotation.annotate import annotate, read_drawn
    from fmfbench.data import open_dataset

    refined = None if options["no_refine"] else options["refined"]
    _check_outputs(options, keyframes)
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
            workers=options["workers"],
            progress=True,
        )
        counts = {name: recording.num_frames for name, recording in before.recordings.items()}
        remarks = frames.uncovered(counts)
    data = open_dataset(store)
    _check_recording(data, options["name"])
    facts: dict[str, Any] = {
        "store": str(store),
        "written": written,
        "remarks": remarks,
        "default_layer": data.default_layer,
        "fingerprint": data.fingerprint,
        "files": _export(data, options, refined),
    }
    text = [] if before is None else _told(store, written, before, data)
    text += [f"remark: {remark}" for remark in remarks]
    text += [f"wrote {file}" for file in facts["files"]]
    if options["with_report"]:
        facts["report"] = _report(data, options, refined)
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


def _check_recording(data: Dataset, name: str | None) -> None:
    if name is not None and name not in data.recordings:
        raise AnnotationError(
            f"--recording: unknown recording {name!r}: the store holds {', '.join(data.recordings)}; use one of these"
        )


def _check_outputs(options: dict[str, Any], keyframes: Path | None) -> None:
    """Refuse what cannot be written before anything is."""
    wanted = ("preview", "with_report", "to_json", "to_cvat", "to_coco", "to_video")
    if keyframes is None and not any(options[key] for key in wanted):
        raise AnnotationError(
            "expected KEYFRAMES, or --preview, --report or an --export of layers that are there"
        )
    if keyframes is None and options["layer_as_default"]:
        raise AnnotationError("--layer-as-default expects KEYFRAMES: give those that the layer was made from")
    preview = options["preview"]
    if preview is not None and preview.suffix.lower() not in (*_PICTURES, ".mp4"):
        raise AnnotationError(f"{preview}: expected --preview to end in {', '.join(_PICTURES)} or .mp4")
    for path in (preview, *(options[key] for key in ("to_json", "to_cvat", "to_coco", "to_video"))):
        if path is not None and not path.absolute().parent.is_dir():
            raise AnnotationError(f"{path}: expected a folder that exists, got {path.parent}; make it first")


def _report(data: Dataset, options: dict[str, Any], refined: str | None) -> dict[str, Any]:
    from fmfbench.annotation.quality import report

    layer = refined or options["boxes"]
    reference = options["reference"]
    if (
        reference is None
        and layer != "source"
        and any("source" in r.layers for r in data.recordings.values())
    ):
        reference = "source"
    return report(data, layer, reference, options["name"])


def _export(data: Dataset, options: dict[str, Any], refined: str | None) -> list[str]:
    """Write what was asked for; the paths."""
    from fmfbench.annotation.coco import write_coco
    from fmfbench.annotation.cvat_export import write_cvat
    from fmfbench.annotation.keyframes import write_keyframes
    from fmfbench.plots.annotation import write_video

    files: list[Path] = []
    if options["to_json"] is not None:
        write_keyframes(options["to_json"], _drawn(data, options))
        files.append(options["to_json"])
    if options["to_cvat"] is not None:
        drawn = _drawn(data, options)
        for name in drawn.recordings:
            files.append(_folder(options["to_cvat"]) / f"{name}.xml")
            write_cvat(files[-1], drawn, name, data.recordings[name].num_frames)
    if options["to_coco"] is not None:
        layer = refined or options["boxes"]
        for recording in _chosen(_with_layer(data, layer), options):
            files.append(_folder(options["to_coco"]) / f"{recording.name}.json")
            shape = recording.height, recording.width
            starts = range(0, recording.num_frames, 512)
            blocks = (recording.read_masks(a, min(a + 512, recording.num_frames), layer) for a in starts)
            write_coco(files[-1], recording.name, shape, blocks)
    if options["to_video"] is not None:
        for recording in _chosen(data.recordings.values(), options):
            files.append(_folder(options["to_video"]) / f"{recording.name}.mp4")
            write_video(recording, files[-1], options["scale"])
    if options["preview"] is not None:
        files.append(_preview(data, options, refined))
    return [str(file) for file in files]


def _preview(data: Dataset, options: dict[str, Any], refined: str | None) -> Path:
    from fmfbench.plots.annotation import draw_clip, draw_sheet

    out: Path = options["preview"]
    wanted = [layer for layer in (options["boxes"], refined) if layer is not None]
    annotated = [r for r in data.recordings.values() if any(layer in r.layers for layer in wanted)]
    name = options["name"]
    if name is None:
        with_events = [r for r in annotated if (r.class_label == 1).any()] or annotated
        recording = with_events[0] if with_events else None
    else:
        recording = data.recordings.get(name)
    if recording is None:
        known = ", ".join(r.name for r in annotated) or "none"
        raise AnnotationError(
            f"{data.path}: expected an annotated recording to show, got {name}; there are {known}"
        )
    boxes = options["boxes"] if options["boxes"] in recording.layers else None
    shown = refined if refined in recording.layers else None
    (draw_clip if out.suffix.lower() == ".mp4" else draw_sheet)(recording, boxes, shown, out)
    return out


def _with_layer(data: Dataset, layer: str) -> list[Recording]:
    found = [recording for recording in data.recordings.values() if layer in recording.layers]
    if not found:
        raise AnnotationError(
            f"{data.path}: expected layer {layer!r}, got no recording with it; annotate first"
        )
    return found


def _chosen(recordings: Iterable[Recording], options: dict[str, Any]) -> list[Recording]:
    """Those that --recording leaves."""
    return [recording for recording in recordings if options["name"] in (None, recording.name)]


def _drawn(data: Dataset, options: dict[str, Any]) -> Keyframes:
    """What was drawn, of the recordings that --recording leaves."""
    from fmfbench.annotation.annotate import drawn_keyframes

    drawn, name = drawn_keyframes(data, options["boxes"]), options["name"]
    if name is None:
        return drawn
    if name not in drawn.recordings:
        raise AnnotationError(
            f"{data.path}: expected boxes of {name}, got those of {', '.join(drawn.recordings)}"
        )
    return replace(drawn, recordings={name: drawn.recordings[name]})


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path
