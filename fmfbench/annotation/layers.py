"""Adding layers to a finished store: whole or not at all, never over another, with their provenance.

New layers grow in `STORE.layers.part`, beside the store, shard by shard, and are moved into it when all are whole;
then class labels (if the default layer moves), fingerprint and digest are renewed. Killed at any point, the same
command continues; run again with the same input it changes nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fmfbench
from fmfbench.dataset import Dataset, Recording, open_dataset
from fmfbench.errors import AnnotationError
from fmfbench.fingerprint import LabelFacts, fingerprint
from fmfbench.locking import target_lock
from fmfbench.schema import (
    DIGEST_KEY,
    UNLABELLED,
    ArraySpec,
    group_document,
    mask_spec,
    parse_group,
    row_spec,
)
from fmfbench.shards import ArrayReader, encode_shard
from fmfbench.store import StoreWriter, file_sha256, replace_file, store_digest, write_document

__all__ = ["PROVENANCE", "NewLayer", "check_layer_name", "provenance_of", "write_layers"]

PROVENANCE = "fmfbench.provenance"
_CLASSES = {"normal": 0, "abnormal": 1, "unlabelled": UNLABELLED}


@dataclass(frozen=True, kw_only=True)
class NewLayer:
    """A layer to write.

    `blocks(start, stop)` gives its entries, (n,H,W): uint8 0/1 for labels, float32 for margins. `parameters`, with
    parent and events, decides its content: a layer there with the same is this one.
    """

    recording: str
    name: str
    blocks: Callable[[int, int], NDArray[Any]]
    parameters: dict[str, Any]
    parent: str | None
    events: list[dict[str, Any]] = field(default_factory=list)
    group: str = "labels"  # or "margins"

    @property
    def path(self) -> str:
        """Relative to the store."""
        return f"recordings/{self.recording}/{self.group}/{self.name}"

    @property
    def content(self) -> dict[str, Any]:
        """What decides the layer's pixels, as JSON gives it back."""
        decides = {"parameters": self.parameters, "parent": self.parent, "events": self.events}
        parsed: dict[str, Any] = json.loads(json.dumps(decides))
        return parsed

    def provenance(self) -> dict[str, Any]:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"tool": "fmfbench annotate", "version": fmfbench.__version__, **self.content, "time": now}


def write_layers(
    store: Path,
    layers: Sequence[NewLayer],
    default: str | None = None,
    advance: Callable[[int], Any] = lambda frames: None,
) -> list[str]:
    """Write layers into a store, and make one the default.

    Args:
        store: a finished store.
        layers: what to write; those that are there already, with the same content, are left alone.
        default: the layer that class labels, masks and scores shall come from; None leaves it as it is.
        advance: called with the number of frames done.

    Returns:
        Paths of the layers that were written, relative to the store.

    Raises:
        AnnotationError: a layer of that name with other content is there.
        BusyError: another process is writing to the store.
    """
    with target_lock(store):
        data = open_dataset(store)
        missing = [layer for layer in layers if not _is_there(data, layer)]
        stage = StoreWriter(store.with_name(store.name + ".layers"))
        was_interrupted = stage.root.exists()
        if not missing and not was_interrupted and default in (None, data.default_layer):
            return []
        stage.begin({"layers": [[layer.path, layer.content] for layer in layers]}, overwrite=True)
        try:
            for layer in missing:
                _stage(stage, data.recordings[layer.recording], layer, advance)
        except AnnotationError:
            stage.discard()
            raise
        for layer in missing:
            _move_in(stage, store, layer)
        _renew(store, default)
        stage.discard()
        return [layer.path for layer in missing]


def provenance_of(recording: Recording, name: str) -> dict[str, Any]:
    """A layer's provenance; empty when it carries none."""
    provenance: dict[str, Any] = recording.layer(name).spec.attributes.get(PROVENANCE, {})
    return provenance


def check_layer_name(name: str) -> str:
    """A name that is a plain folder name everywhere; AnnotationError otherwise."""
    if not (
        0 < len(name) <= 64
        and name[0].isalnum()
        and all(c.isalnum() or c in "-_" for c in name)
        and name.isascii()
    ):
        raise AnnotationError(f"wanted a layer name of letters, digits, - and _, got {name[:80]!r}")
    return name


def _is_there(data: Dataset, layer: NewLayer) -> bool:
    folder = data.path / layer.path
    if not folder.exists():
        return False
    there = ArrayReader(folder).spec.attributes.get(PROVENANCE, {})
    if {key: there.get(key) for key in layer.content} == layer.content:
        return True
    raise AnnotationError(
        f"{layer.recording}: layer {layer.name!r} is there with other input, of {there.get('time', 'unknown time')}; "
        "layers are never overwritten: choose another name"
    )


def _stage(stage: StoreWriter, recording: Recording, layer: NewLayer, advance: Callable[[int], Any]) -> None:
    n, height, width = recording.num_frames, recording.height, recording.width
    spec = mask_spec(n, height, width, {PROVENANCE: layer.provenance()})
    if layer.group != "labels":
        spec = replace(spec, dtype="float32")
    stage.write_array(layer.path, spec)
    for index in range(spec.num_shards):
        first, last = spec.shard_range(index)
        if not stage.has_shard(layer.path, spec, index):
            parts = [layer.blocks(a, b) for a, b in _steps(spec, first, last)]
            stage.commit_shard(layer.path, spec, index, encode_shard(spec, np.concatenate(parts)))
        advance(last - first)


def _steps(spec: ArraySpec, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Whole chunks of a shard at a time: what is worked on at once stays small however long the shard."""
    step = spec.chunk * 8
    for start in range(first, last, step):
        yield start, min(last, start + step)


def _move_in(stage: StoreWriter, store: Path, layer: NewLayer) -> None:
    target = store / layer.path
    target.parent.mkdir(exist_ok=True)
    if not (target.parent / "zarr.json").exists():
        write_document(target.parent / "zarr.json", group_document({}))
    os.replace(stage.root / layer.path, target)


def _renew(store: Path, default: str | None) -> None:
    """Class labels, fingerprint and digest of what the store holds now."""
    data = open_dataset(store)
    layer = default or data.default_layer
    facts = [_label_facts(recording, data.default_layer, layer) for recording in data.recordings.values()]
    attributes = {
        **parse_group(store),
        "fmfbench.default_layer": layer,
        "fmfbench.fingerprint": fingerprint(facts),
        DIGEST_KEY: "",
    }
    # Hashed before the root changes, so that it lacks its digest only for a moment.
    names = [Path(folder, name) for folder, _, files in os.walk(store) for name in files]
    known = {
        path.relative_to(store).as_posix(): file_sha256(path) for path in names if path != store / "zarr.json"
    }
    write_document(store / "zarr.json", group_document(attributes))
    attributes[DIGEST_KEY] = store_digest(store, known)
    write_document(store / "zarr.json", group_document(attributes))


def _label_facts(recording: Recording, old: str | None, new: str | None) -> LabelFacts:
    class_label = recording.class_label.copy()
    reader = None
    if new is not None and new in recording.layers:
        reader = recording.layer(new)
        for start, block in _shards(reader):
            class_label[start : start + len(block)] = block.any(axis=(1, 2))
    elif new != old and old is not None and old in recording.layers:
        class_label[:] = UNLABELLED  # what it said came from the layer that is the default no more
    if not np.array_equal(class_label, recording.class_label):
        spec = row_spec(recording.num_frames, _CLASSES)
        for index in range(spec.num_shards):
            first, last = spec.shard_range(index)
            replace_file(
                recording.path / "class_label" / spec.shard_key(index),
                encode_shard(spec, class_label[first:last]),
            )
    return LabelFacts(
        name=recording.name,
        num_frames=recording.num_frames,
        height=recording.height,
        width=recording.width,
        split=recording.split,
        class_label=class_label,
        masks=(block for _, block in _shards(reader)) if reader is not None else (),
    )


def _shards(reader: ArrayReader) -> Iterator[tuple[int, NDArray[Any]]]:
    for index in range(reader.spec.num_shards):
        first, last = reader.spec.shard_range(index)
        yield first, reader.read(first, last)
