"""From keyframes to pixel labels in a store: the boxes propagated, then refined (section IV-A of the paper)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fmfbench.annotation.cvat import read_cvat
from fmfbench.annotation.keyframes import Keyframes, Track, check_against, parse_keyframes, read_keyframes
from fmfbench.annotation.propagate import coarse_masks
from fmfbench.annotation.weighted_median import RADIUS, SIGMA, check_window, refine, refine_frames
from fmfbench.errors import AnnotationError
from fmfbench.files.local import local_path
from fmfbench.store.additions import recover
from fmfbench.store.layers import NewLayer, check_layer_name, provenance_of, write_layers
from fmfbench.store.reader import Recording, StoreReader

__all__ = ["BOXES", "REFINED", "annotate", "drawn_keyframes", "read_drawn"]

BOXES, REFINED = "boxes", "refined"

View = tuple[int, int, int, int]


def annotate(
    store: str | os.PathLike[str],
    keyframes: Keyframes,
    *,
    drawn_frames: Mapping[str, range] | None = None,
    boxes: str = BOXES,
    refined: str | None = REFINED,
    radius: int = RADIUS,
    sigma: float = SIGMA,
    margin: bool = False,
    as_default: bool = False,
    on_raw: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> list[str]:
    """Propagate keyframes to every frame of their recordings, refine the masks, and write both as layers.

    Args:
        store: a finished store; it is added to, and nothing in it is overwritten.
        keyframes: what was drawn. A recording with an empty list of tracks is normal throughout; one that is
            not named gets no layer.
        drawn_frames: recording name -> the frames of the video that was drawn on, where they are known.
        boxes: name of the layer of propagated boxes.
        refined: name of the layer of refined masks; None writes the boxes alone.
        radius, sigma: of the weighted median, in stored pixels and grey levels.
        margin: keep the vote's margin too, as `margins/<refined>`.
        as_default: make the last of the layers the store's default.
        on_raw: the boxes were drawn on the raw video, before the crop that the store records.
        workers: threads; all cores by default. The bytes do not depend on it.
        progress: show a bar on stderr.

    Returns:
        Paths of the layers written, relative to the store: empty when all were there already.

    Raises:
        AnnotationError: keyframes that do not fit the store, or a layer of that name with other content;
            nothing is written.
        BusyError: another process is writing to the store.
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
    if refined is not None:
        for name in keyframes.recordings:
            check_window((data.recordings[name].height, data.recordings[name].width), radius, sigma)
    threads = workers if workers is not None else os.cpu_count() or 1
    layers: list[NewLayer] = []
    for name, tracks in sorted(keyframes.recordings.items()):
        recording = data.recordings[name]
        coarse = _boxes_layer(recording, boxes, tracks, keyframes.size, view)
        layers.append(coarse)
        if refined is not None:
            layers += _refined_layers(recording, refined, coarse, radius, sigma, margin, threads)
    total = sum(data.recordings[layer.recording].num_frames for layer in layers)
    with tqdm(total=total, unit="frame", desc="annotate", disable=None if progress else True) as bar:
        return write_layers(
            local_path(data.path), layers, (refined or boxes) if as_default else None, bar.update
        )


def read_drawn(
    path: str | os.PathLike[str], recording: str | None = None, label: str | None = None
) -> tuple[Keyframes, dict[str, range]]:
    """Keyframes from `keyframes.json` or CVAT for video 1.1 (XML or zip), told apart by content.

    Args:
        path: the file.
        recording: the recording that a CVAT task was drawn on; by default the task's name.
        label: take only CVAT tracks of this label.

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
            f"{path}: cannot be read: {error.strerror}; name keyframes.json or a CVAT export"
        ) from error
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    if head[:1] == b"<" or head[:2] == b"PK" or utf16 or path.suffix.lower() in (".xml", ".zip"):
        return read_cvat(path, recording, label)
    if label is not None:
        raise AnnotationError(
            f"{path}: --label chooses among a CVAT export's tracks, got keyframes.json; leave it out"
        )
    return read_keyframes(path), {}


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


def _boxes_layer(
    recording: Recording, name: str, tracks: tuple[Track, ...], size: tuple[int, int], view: View
) -> NewLayer:
    drawn = Keyframes(size=size, recordings={recording.name: tracks}).to_dict()
    parameters = {"size": list(size), "view": list(view), **drawn["recordings"][recording.name]}
    events = [{"id": t.id, "onset": t.onset, "apex": t.apex, "offset": t.offset} for t in tracks]
    shape = recording.height, recording.width

    def blocks(start: int, stop: int) -> NDArray[np.uint8]:
        return coarse_masks(tracks, start, stop, shape, view)

    return NewLayer(
        recording=recording.name, name=name, blocks=blocks, parameters=parameters, parent=None, events=events
    )


def _refined_layers(
    recording: Recording, name: str, coarse: NewLayer, radius: int, sigma: float, margin: bool, threads: int
) -> list[NewLayer]:
    content = json.dumps(coarse.content, sort_keys=True).encode()
    common: dict[str, Any] = {
        "recording": recording.name,
        "name": name,
        "parameters": {
            "radius": int(radius),
            "sigma": float(sigma),
            "guide": "video",
            "parent_sha256": hashlib.sha256(content).hexdigest(),
        },
        "parent": coarse.name,
        "events": coarse.events,
    }
    refined = partial(_refined, recording, coarse, radius, sigma, threads)
    layers = [NewLayer(**common, blocks=refined)]
    if margin:
        margins = partial(_margins, recording, coarse, radius, sigma)
        layers.append(NewLayer(**common, blocks=margins, group="margins"))
    return layers


def _refined(
    recording: Recording, coarse: NewLayer, radius: int, sigma: float, threads: int, start: int, stop: int
) -> NDArray[np.uint8]:
    masks = coarse.blocks(start, stop)
    part = _marked(masks)  # normal frames cost no look at the video
    guides = recording.read_video(start + part.start, start + part.stop)
    masks[part.start : part.stop] = refine_frames(
        masks[part.start : part.stop], guides, radius, sigma, threads
    )
    return masks


def _margins(
    recording: Recording, coarse: NewLayer, radius: int, sigma: float, start: int, stop: int
) -> NDArray[np.float32]:
    masks = coarse.blocks(start, stop)
    margins = np.full(masks.shape, -1, np.float32)
    part = _marked(masks)
    guides = recording.read_video(start + part.start, start + part.stop)
    for frame, guide in zip(part, guides, strict=True):
        margins[frame] = refine(masks[frame], guide, radius, sigma, return_margin=True)[1]
    return margins


def _marked(masks: NDArray[np.uint8]) -> range:
    """From the first frame with an abnormal pixel to the last."""
    marked = np.flatnonzero(masks.any(axis=(1, 2)))
    return range(int(marked[0]), int(marked[-1]) + 1) if len(marked) else range(0)
