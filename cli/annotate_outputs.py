"""What `fmfbench annotate` shows and exports of layers that are there: `annotate export`, `report` and `preview`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmfbench.errors import AnnotationError

from .options import LOCAL, Decorator, json_option, out_option, print_result, store_argument

if TYPE_CHECKING:
    from fmfbench.annotation.keyframes import Keyframes
    from fmfbench.data import Dataset, Recording

__all__ = ["SUBCOMMANDS", "check_outputs", "check_recording", "report_on", "write_outputs"]

_PICTURES = (".png", ".pdf", ".svg")
_CLIPS = (".mp4", ".webm")
_NOTHING: dict[str, Any] = dict.fromkeys(("preview", "to_json", "to_cvat", "to_coco", "to_video"))


def _recording_option(text: str) -> Decorator[Any]:
    return click.option("--recording", "name", metavar="NAME", help=text)


def _layer_options() -> Decorator[Any]:
    boxes = click.option("--boxes", default="boxes", show_default=True, help="The layer of propagated boxes.")
    refined = click.option(
        "--refined", default="refined", show_default=True, help="The layer of refined masks."
    )
    alone = click.option("--no-refine", is_flag=True, help="Take the boxes alone.")

    def decorate(function: Any) -> Any:
        return boxes(refined(alone(function)))

    return decorate


@click.command("export", short_help="Keyframes, masks and videos to draw on.")
@store_argument()
@click.option("--keyframes", "to_json", type=LOCAL, help="Write keyframes.json.")
@click.option("--cvat", "to_cvat", type=LOCAL, help="Folder for CVAT XML of the keyframes.")
@click.option("--coco", "to_coco", type=LOCAL, help="Folder for COCO of the masks.")
@click.option("--video", "to_video", type=LOCAL, help="Folder for videos to draw on.")
@click.option(
    "--scale", type=click.IntRange(1, 64), default=8, show_default=True, help="Enlarge those by this."
)
@_recording_option("Export that recording alone.")
@_layer_options()
@json_option()
def export(store: Path, **options: Any) -> None:
    """Write what was drawn on STORE, or its masks, for other tools.

    \b
    Example:
      fmfbench annotate export run7.zarr --video draw/       draw on draw/run7.mp4 in CVAT
      fmfbench annotate export run7.zarr --cvat again/ --coco masks/
    """
    from fmfbench.data import open_dataset

    wanted = ("to_json", "to_cvat", "to_coco", "to_video")
    if not any(options[key] for key in wanted):
        raise AnnotationError("expected --keyframes, --cvat, --coco or --video: what to export, got none")
    options = _NOTHING | options
    check_outputs(options)
    data = open_dataset(store)
    check_recording(data, options["name"])
    files = write_outputs(data, options, _refined(options))
    print_result(
        {"store": str(store), "files": files}, "\n".join(f"wrote {f}" for f in files), options["as_json"]
    )


@click.command("report", short_help="Changed pixels, area, flicker and agreement of layers.")
@store_argument()
@click.option("--reference", metavar="LAYER", help="Layer to compare with.  [default: source]")
@_recording_option("Report on that recording alone.")
@_layer_options()
@json_option()
def report(store: Path, **options: Any) -> None:
    """Say what refining did to the layers of STORE, and how they agree with a reference.

    \b
    Example:
      fmfbench annotate report run7.zarr --reference source
    """
    from fmfbench.annotation.quality import format_report
    from fmfbench.data import open_dataset

    data = open_dataset(store)
    check_recording(data, options["name"])
    facts = report_on(data, options, _refined(options))
    print_result(facts, format_report(facts), options["as_json"])


@click.command("preview", short_help="Draw the events: a sheet or a clip.")
@store_argument()
@out_option("A sheet (.png, .pdf, .svg) or a clip that plays in a browser (.mp4, .webm).")
@_recording_option("Show that recording.")
@_layer_options()
@json_option()
def preview(store: Path, out: Path, **options: Any) -> None:
    """Draw the events of STORE with boxes and refined masks outlined.

    \b
    Example:
      fmfbench annotate preview run7.zarr -o look.mp4
    """
    from fmfbench.data import open_dataset

    options = _NOTHING | options | {"preview": out}
    check_outputs(options)
    data = open_dataset(store)
    check_recording(data, options["name"])
    files = write_outputs(data, options, _refined(options))
    print_result({"store": str(store), "files": files}, f"wrote {out}", options["as_json"])


SUBCOMMANDS = {command.name or "": command for command in (export, report, preview)}


def _refined(options: dict[str, Any]) -> str | None:
    return None if options["no_refine"] else str(options["refined"])


def check_recording(data: Dataset, name: str | None) -> None:
    """AnnotationError unless the store has such a recording, where one is named."""
    if name is not None and name not in data.recordings:
        raise AnnotationError(f"--recording: expected one of {', '.join(data.recordings)}, got {name!r}")


def check_outputs(options: dict[str, Any]) -> None:
    """Refuse what cannot be written before anything is."""
    preview = options["preview"]
    if preview is not None and preview.suffix.lower() not in (*_PICTURES, *_CLIPS):
        raise AnnotationError(
            f"--preview: expected a name that ends in {', '.join((*_PICTURES, *_CLIPS))}, got {preview}"
        )
    drawn = options["to_json"]
    if drawn is not None and drawn.suffix.lower() != ".json":
        raise AnnotationError(f"expected a name for keyframes that ends in .json, got {drawn}")
    for key in ("to_cvat", "to_coco", "to_video"):
        if options[key] is not None and options[key].suffix.lower() in (".xml", ".zip", ".json", ".mp4"):
            raise AnnotationError(
                f"{options[key]}: expected the name of a folder to export to, got that of a file"
            )
    for path in (preview, *(options[key] for key in ("to_json", "to_cvat", "to_coco", "to_video"))):
        if path is not None and not path.absolute().parent.is_dir():
            raise AnnotationError(f"{path}: expected a folder that exists, got {path.parent}; make it first")


def report_on(data: Dataset, options: dict[str, Any], refined: str | None) -> dict[str, Any]:
    """Figures of the last of the layers."""
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


def write_outputs(data: Dataset, options: dict[str, Any], refined: str | None) -> list[str]:
    """Write what the options ask for; the paths."""
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
    (draw_clip if out.suffix.lower() in _CLIPS else draw_sheet)(recording, boxes, shown, out)
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
