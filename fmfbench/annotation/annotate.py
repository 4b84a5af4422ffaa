"""From keyframes to pixel labels in a store: the boxes propagated, then refined (section IV-A of the paper)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fmfbench.annotation.box_vote import SHARE
from fmfbench.annotation.cvat import read_cvat
from fmfbench.annotation.keyframes import (
    DrawnFrames,
    Keyframes,
    check_against,
    parse_keyframes,
    read_keyframes,
)
from fmfbench.annotation.propagate import View
from fmfbench.annotation.raw_guides import RawGuides, find_raw
from fmfbench.annotation.votes import BoxVote, Drawn, RawVote, Vote, WindowVote
from fmfbench.annotation.weighted_median import RADIUS, SIGMA, check_window
from fmfbench.errors import AnnotationError
from fmfbench.files.local import local_path
from fmfbench.store.additions import recover
from fmfbench.store.layers import (
    NewClassLabels,
    NewLayer,
    check_layer_name,
    class_label_provenance,
    provenance_of,
    write_layers,
)
from fmfbench.store.reader import StoreReader

__all__ = ["BOXES", "REFINED", "annotate", "drawn_keyframes", "parse_radius", "read_drawn"]

BOXES, REFINED = "boxes", "refined"
_LARGEST_SHARE = 100


def annotate(
    store: str | os.PathLike[str],
    keyframes: Keyframes,
    *,
    drawn_frames: Mapping[str, range] | None = None,
    boxes: str = BOXES,
    refined: str | None = REFINED,
    radius: int | str | None = None,
    sigma: float = SIGMA,
    margin: bool = False,
    as_default: bool = False,
    on_raw: bool = False,
    raw: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    advance: Callable[[int], object] = lambda frames: None,
) -> list[str]:
    """Propagate keyframes to every frame of their recordings, refine the masks, and write both as layers.

    Args:
        store: a finished store; it is added to, and nothing in it is overwritten.
        keyframes: what was drawn. A recording with an empty list of tracks is normal throughout; one that is
            not named gets no layer. One whose events have no boxes gets class labels and no layer.
        drawn_frames: recording name -> the frames of the video that was drawn on, where they are known.
        boxes: name of the layer of propagated boxes.
        refined: name of the layer of refined masks; None writes the boxes alone.
        radius: of the weighted median, in stored pixels, for all boxes of a frame together; by default each box is
            refined alone, with a radius of a third of its shorter side (see `box_vote`); "box/2" is a half of it.
        sigma: of the weighted median, in grey levels.
        margin: keep the vote's margin too, as `margins/<refined>`.
        as_default: make the last of the layers the store's default, and replace class labels that `annotate` wrote.
        on_raw: the boxes were drawn on the raw video, before the crop that the store records, and are refined on its
            frames (see `raw_vote`), which must be there.
        raw: refine on the raw video that lies here, a file or a folder, wherever the boxes were drawn; with `on_raw` it
            is looked for beside the store and in the current folder where nothing is named.
        workers: threads; all cores by default. The bytes do not depend on it.
        progress: show a bar on stderr.
        advance: called with the number of frames done, layer by layer.

    Returns:
        Paths of the layers and class labels written, relative to the store: empty when all were there already.

    Raises:
        AnnotationError: keyframes that do not fit the store, a layer of that name with other content, or a raw video
            that is not there or not the store's; nothing is written.
        SourceError: a raw video that cannot be decoded.
        BusyError: another process is writing to the store.

    Example:
        >>> from fmfbench.annotation.keyframes import read_keyframes
        >>> drawn = read_keyframes("furnace/truth/keyframes.json")
        >>> fmfbench.annotate("fmf.zarr", drawn, boxes="drawn", refined=None)
        ['recordings/FMF-Sim-1/labels/drawn', ...]
    """
    recover(Path(store))
    data = StoreReader.open(Path(store))
    counts = {name: recording.num_frames for name, recording in data.recordings.items()}
    check_against(keyframes, counts, drawn_frames)
    view = _view(data, keyframes.size, on_raw)
    for name in (boxes, refined):
        if name is not None:
            check_layer_name(name)
    if refined == boxes or (margin and refined is None):
        raise AnnotationError(
            f"expected layers of different names, and a refined one for margins, got {boxes}, {refined}"
        )
    size = parse_radius(radius)
    if raw is not None and refined is None:
        raise AnnotationError(
            "--raw: expected a layer to refine on the raw video, got boxes alone; leave it out"
        )
    if refined is not None:
        for name in keyframes.recordings:
            shape = data.recordings[name].height, data.recordings[name].width
            check_window(shape, size if isinstance(size, int) else RADIUS, sigma)
    threads = workers if workers is not None else os.cpu_count() or 1
    layers: list[NewLayer] = []
    labels: list[NewClassLabels] = []
    for name, tracks in sorted(keyframes.recordings.items()):
        drawn = Drawn(data.recordings[name], tracks, keyframes.size, view)
        if tracks and not tracks[0].keyframes:
            labels.append(_class_labels(drawn))
            continue
        coarse = _boxes_layer(drawn, boxes)
        layers.append(coarse)
        if refined is not None:
            vote: Vote
            if on_raw or raw is not None:
                found = find_raw(data, name, None if raw is None else Path(raw))
                vote = RawVote(drawn, RawGuides(data, drawn.recording, found), size, sigma)
            else:
                vote = (
                    BoxVote(drawn, sigma, size) if isinstance(size, float) else WindowVote(drawn, size, sigma)
                )
            layers += _refined_layers(drawn, refined, coarse, vote, margin, threads)
    total = sum(data.recordings[layer.recording].num_frames for layer in layers)
    with tqdm(total=total, unit="frame", desc="annotate", disable=None if progress else True) as bar:

        def done(frames: int) -> None:
            bar.update(frames)
            advance(frames)

        default = (refined or boxes) if as_default and layers else None
        return write_layers(
            local_path(data.path),
            layers,
            default,
            done,
            class_labels=labels,
            replace_class_labels=as_default,
        )


def parse_radius(radius: int | str | None) -> int | float:
    """A radius in stored pixels as an int; as a float the part of a box's shorter side that it is.

    >>> parse_radius(7), parse_radius(None), parse_radius("box/2")
    (7, 3.0, 2.0)
    """
    if radius is None:
        return SHARE
    if isinstance(radius, int | np.integer) and not isinstance(radius, bool):
        return int(radius)
    match = re.fullmatch(r"box/(\d+(?:\.\d+)?)", radius) if isinstance(radius, str) else None
    if match and 1 <= float(match[1]) <= _LARGEST_SHARE:
        return float(match[1])
    if isinstance(radius, str) and re.fullmatch(r"-?\d{1,6}", radius):
        return int(radius)
    raise AnnotationError(
        f"expected a radius as a whole number of pixels, or box/N with N from 1 to {_LARGEST_SHARE}, got {radius!r}"
    )


def read_drawn(
    path: str | os.PathLike[str],
    recording: str | None = None,
    label: str | None = None,
    *,
    task: str | None = None,
    size: tuple[int, int] | None = None,
    untouched: str = "skip",
) -> tuple[Keyframes, DrawnFrames]:
    """Keyframes from `keyframes.json` or CVAT for video 1.1 (XML or zip), told apart by content.

    Args:
        path: the file.
        recording: the recording that a CVAT task was drawn on, by default the task's name; of keyframes.json, the one
            recording to take.
        label: take only CVAT tracks of this label.
        task, size, untouched: of a CVAT export (see `cvat.read_cvat`).

    Returns:
        The keyframes, and the frames of the videos that were drawn on where the file tells.

    Raises:
        AnnotationError: neither, or tracks that contradict themselves.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise AnnotationError(
            f"{path}: expected keyframes.json or a CVAT export, got what cannot be read: {error.strerror}"
        ) from error
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    if head[:1] == b"<" or head[:2] == b"PK" or utf16 or path.suffix.lower() in (".xml", ".zip"):
        return read_cvat(path, recording, label, task=task, size=size, untouched=untouched)
    keyframes = read_keyframes(path)
    for option, value in (("--label", label), ("--task", task), ("--size", size)):
        if value is not None:
            raise AnnotationError(
                f"{path}: expected a CVAT export for {option}, got keyframes.json; leave it out"
            )
    if recording is None:
        return keyframes, DrawnFrames({})
    if recording not in keyframes.recordings:
        named = ", ".join(keyframes.recordings) or "none"
        raise AnnotationError(f"{path}: expected tracks of recording {recording!r}, got those of {named}")
    return replace(keyframes, recordings={recording: keyframes.recordings[recording]}), DrawnFrames({})


def drawn_keyframes(data: StoreReader, layer: str = BOXES) -> Keyframes:
    """The keyframes that a layer of boxes was made from, as its provenance keeps them.

    Raises:
        AnnotationError: no recording has such a layer, or they were drawn at different sizes.
    """
    drawn = {
        name: provenance_of(recording, layer).get("parameters", {})
        for name, recording in data.recordings.items()
        if layer in recording.layers
    }
    for name, recording in data.recordings.items():
        if name not in drawn and (own := class_label_provenance(recording)):
            drawn[name] = own.get("parameters", {})
    sizes = {tuple(parameters.get("size", ())) for parameters in drawn.values()}
    if len(sizes) != 1 or () in sizes:
        raise AnnotationError(
            f"{data.path}: expected a layer {layer!r} made by `fmfbench annotate`, got none or several sizes"
        )
    (size,) = sizes
    recordings = {name: {"tracks": parameters["tracks"]} for name, parameters in drawn.items()}
    return parse_keyframes({"schema": 1, "size": list(size), "recordings": recordings})


def _view(data: StoreReader, size: tuple[int, int], on_raw: bool) -> View:
    """The part of the drawn-on frame that the store holds."""
    crop = data.attributes.get("fmfbench.options", {}).get("crop")
    if not on_raw:
        if crop is not None and size[0] * crop[3] != size[1] * crop[2]:
            raise AnnotationError(
                f"{data.path}: expected boxes drawn on the crop of {crop[2]}x{crop[3]} that the store shows, or at a "
                f"multiple of it, got a size of {size[0]}x{size[1]}; if they were drawn on the raw video, say --on-raw"
            )
        return (0, 0, *size)
    if crop is None:
        raise AnnotationError(
            f"{data.path}: expected a store with a crop for boxes drawn on the raw video, got one without"
        )
    x, y, width, height = crop
    if x + width > size[0] or y + height > size[1]:
        raise AnnotationError(
            f"{data.path}: expected boxes drawn on the raw video around the crop {crop}, got {size[0]}x{size[1]}"
        )
    return x, y, width, height


def _class_labels(drawn: Drawn) -> NewClassLabels:
    """Class labels of events without boxes."""
    labels = np.zeros(drawn.recording.num_frames, np.uint8)
    for track in drawn.tracks:
        labels[track.onset : track.offset + 1] = 1
    return NewClassLabels(
        recording=drawn.recording.name, labels=labels, parameters=drawn.parameters, events=drawn.events
    )


def _boxes_layer(drawn: Drawn, name: str) -> NewLayer:
    return NewLayer(
        recording=drawn.recording.name,
        name=name,
        blocks=drawn.masks,
        parameters=drawn.parameters,
        parent=None,
        events=drawn.events,
    )


def _refined_layers(
    drawn: Drawn, name: str, coarse: NewLayer, vote: Vote, margin: bool, threads: int
) -> list[NewLayer]:
    content = json.dumps(coarse.content, sort_keys=True).encode()
    common: dict[str, Any] = {
        "recording": drawn.recording.name,
        "name": name,
        "parameters": {
            **vote.parameters,
            "parent_sha256": hashlib.sha256(content).hexdigest(),
        },
        "parent": coarse.name,
        "events": coarse.events,
    }
    layers = [NewLayer(**common, blocks=partial(_refined, drawn, vote, threads))]
    if margin:
        layers.append(NewLayer(**common, blocks=partial(_margins, drawn, vote), group="margins"))
    return layers


def _refined(drawn: Drawn, vote: Vote, threads: int, start: int, stop: int) -> NDArray[np.uint8]:
    masks = drawn.masks(start, stop)
    part = _marked(masks)  # normal frames cost no look at the video
    if part:
        first, last = start + part.start, start + part.stop
        masks[part.start : part.stop] = vote.labels(first, last, threads)
    return masks


def _margins(drawn: Drawn, vote: Vote, start: int, stop: int) -> NDArray[np.float32]:
    masks = drawn.masks(start, stop)
    margins = np.full(masks.shape, -1, np.float32)
    part = _marked(masks)
    if part:
        first, last = start + part.start, start + part.stop
        found = vote.margins(first, last)
        for frame, margin in zip(part, found, strict=True):
            margins[frame] = margin
    return margins


def _marked(masks: NDArray[np.uint8]) -> range:
    """From the first frame with an abnormal pixel to the last."""
    marked = np.flatnonzero(masks.any(axis=(1, 2)))
    return range(int(marked[0]), int(marked[-1]) + 1) if len(marked) else range(0)
