"""Adding layers to a finished store: never over another, with their provenance (how: `additions`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import AnnotationError
from fmfbench.files.remote import Place
from fmfbench.store.additions import adding_to, adopt_others, label_facts, shard_blocks, write_rows
from fmfbench.store.fingerprint import fingerprints
from fmfbench.store.reader import Recording, StoreReader
from fmfbench.store.schema import UNLABELLED, ArraySpec, mask_spec, row_spec
from fmfbench.store.shards import ArrayReader, encode_shard
from fmfbench.store.split_names import FINGERPRINTS_KEY, PROVENANCE, SOURCE
from fmfbench.store.writer import StoreWriter, is_half_made
from fmfbench.version import installed_version

__all__ = ["PROVENANCE", "NewLayer", "check_layer_name", "provenance_of", "write_layers"]

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
        return {"tool": "fmfbench annotate", "version": installed_version(), **self.content, "time": now}


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
        DamageError: a file that the store lists is missing.
        FailedError: the disk is full, for example; the store is as it was.
        BusyError: another process is writing to the store.
    """
    missing = _missing(StoreReader.open(store), layers, default)
    if missing is None and not is_half_made(store):
        return []
    identity = {"annotate": [[layer.path, layer.content] for layer in layers], "default": default}
    with adding_to(store, identity) as (writer, data):
        missing = _missing(data, layers, default)
        if missing is None:
            writer.discard()
            return []
        for layer in missing:
            _stage(writer, data.recordings[layer.recording], layer, advance)
        _finish(writer, data, missing, default or data.default_layer)
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
        raise AnnotationError(f"expected a layer name of letters, digits, - and _, got {name[:80]!r}")
    return name


def _missing(data: StoreReader, layers: Sequence[NewLayer], default: str | None) -> list[NewLayer] | None:
    """The layers to write; None when there is nothing to do at all."""
    missing = [layer for layer in layers if not _is_there(data, layer)]
    return missing if missing or default not in (None, data.default_layer) else None


def _is_there(data: StoreReader, layer: NewLayer) -> bool:
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


def _stage(writer: StoreWriter, recording: Recording, layer: NewLayer, advance: Callable[[int], Any]) -> None:
    n, height, width = recording.num_frames, recording.height, recording.width
    spec = mask_spec(n, height, width, {PROVENANCE: layer.provenance()})
    if layer.group != "labels":
        spec = replace(spec, dtype="float32")
    if not (recording.path / layer.group).exists():
        writer.write_group(f"recordings/{recording.name}/{layer.group}", {})
    writer.write_array(layer.path, spec)
    for index in range(spec.num_shards):
        first, last = spec.shard_range(index)
        if not writer.has_shard(layer.path, spec, index):
            parts = [layer.blocks(a, b) for a, b in _steps(spec, first, last)]
            writer.commit_shard(layer.path, spec, index, encode_shard(spec, np.concatenate(parts)))
        advance(last - first)


def _steps(spec: ArraySpec, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Whole chunks of a shard at a time: what is worked on at once stays small however long the shard."""
    step = spec.chunk * 8
    for start in range(first, last, step):
        yield start, min(last, start + step)


def _finish(writer: StoreWriter, data: StoreReader, new: Sequence[NewLayer], default: str | None) -> None:
    """All that is not new: class labels of the default layer, links to the other files, and the root."""
    opened = {
        (layer.recording, layer.name): writer.root / layer.path for layer in new if layer.group == "labels"
    }
    own = [f"{layer.path}/" for layer in new]
    facts = []
    for recording in data.recordings.values():
        folder: Place | None = opened.get((recording.name, default or ""))
        if folder is None and default in recording.layers:
            folder = recording.path / "labels" / str(default)
        reader = None if folder is None else ArrayReader(folder)
        class_label = _class_label(recording, reader, moved=default != data.default_layer)
        if not np.array_equal(class_label, recording.class_label):
            name = f"recordings/{recording.name}/class_label"
            own.append(f"{name}/")
            write_rows(writer, name, row_spec(recording.num_frames, _CLASSES), class_label)
        named = {split: recording.named_split(split) for split in data.split_names if split != SOURCE}
        facts.append(label_facts(recording, class_label=class_label, masks=reader, named=named))
    adopt_others(writer, data, own)
    sums = fingerprints(facts)
    attributes: dict[str, Any] = {"fmfbench.default_layer": default, "fmfbench.fingerprint": sums[SOURCE]}
    if len(sums) > 1:
        attributes[FINGERPRINTS_KEY] = sums
    writer.finish({**data.attributes, **attributes})


def _class_label(recording: Recording, reader: ArrayReader | None, moved: bool) -> NDArray[np.uint8]:
    """(N,) of the default layer; unlabelled where the layer it came from is the default no more."""
    class_label = recording.class_label.copy()
    if reader is not None:
        for start, block in shard_blocks(reader):
            class_label[start : start + len(block)] = block.any(axis=(1, 2))
    elif moved and recording.masks is not None:
        class_label[:] = UNLABELLED
    return class_label
