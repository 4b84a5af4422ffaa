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
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import UNLABELLED, ArraySpec, mask_spec, row_spec
from fmfbench.store.shards import ArrayReader, encode_shard
from fmfbench.store.split_names import FINGERPRINTS_KEY, PROVENANCE, SOURCE
from fmfbench.store.writer import StoreWriter, is_half_made
from fmfbench.version import installed_version

__all__ = [
    "PROVENANCE",
    "NewClassLabels",
    "NewLayer",
    "check_layer_name",
    "class_label_provenance",
    "provenance_of",
    "write_layers",
]

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
        return _provenance(self.content)


@dataclass(frozen=True, kw_only=True)
class NewClassLabels:
    """Class labels (N,) of 0 and 1 for a recording without pixel labels, and the events that they come from."""

    recording: str
    labels: NDArray[np.uint8]
    parameters: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def path(self) -> str:
        """Relative to the store."""
        return f"recordings/{self.recording}/class_label"

    @property
    def content(self) -> dict[str, Any]:
        """What decides the labels, as JSON gives it back."""
        parsed: dict[str, Any] = json.loads(
            json.dumps({"parameters": self.parameters, "parent": None, "events": self.events})
        )
        return parsed

    @property
    def spec(self) -> ArraySpec:
        """Of the array, which carries where it comes from."""
        spec = row_spec(len(self.labels), _CLASSES)
        return replace(spec, attributes={**spec.attributes, PROVENANCE: _provenance(self.content)})


def write_layers(
    store: Path,
    layers: Sequence[NewLayer],
    default: str | None = None,
    advance: Callable[[int], Any] = lambda frames: None,
    *,
    class_labels: Sequence[NewClassLabels] = (),
    replace_class_labels: bool = False,
) -> list[str]:
    """Write layers into a store, and make one the default; and class labels of recordings without layers.

    Args:
        store: a finished store.
        layers: what to write; those that are there already, with the same content, are left alone.
        default: the layer that class labels, masks and scores shall come from; None leaves it as it is.
        advance: called with the number of frames done.
        class_labels: for recordings without labels.
        replace_class_labels: also for recordings that have class labels which were written here before.

    Returns:
        Paths of the layers and class labels that were written, relative to the store.

    Raises:
        AnnotationError: a layer of that name with other content is there, or class labels that must stay.
        DamageError: a file that the store lists is missing.
        FailedError: the disk is full, for example; the store is as it was.
        BusyError: another process is writing to the store.
    """
    data = StoreReader.open(store)
    missing = _missing(data, layers, default)
    labels = _missing_labels(data, class_labels, replace_class_labels)
    if missing is None and not labels and not is_half_made(store):
        return []
    contents = [[new.path, new.content] for new in layers]
    contents += [[new.path, new.content] for new in class_labels]
    identity = {"annotate": contents, "default": default}
    with adding_to(store, identity) as (writer, data):
        missing = _missing(data, layers, default)
        labels = _missing_labels(data, class_labels, replace_class_labels)
        if missing is None and not labels:
            writer.discard()
            return []
        missing = missing or []
        for layer in missing:
            _stage(writer, data.recordings[layer.recording], layer, advance)
        _finish(writer, data, missing, labels, default or data.default_layer)
    return [*(layer.path for layer in missing), *(new.path for new in labels)]


def provenance_of(recording: Recording, name: str) -> dict[str, Any]:
    """A layer's provenance; empty when it carries none."""
    provenance: dict[str, Any] = recording.layer(name).spec.attributes.get(PROVENANCE, {})
    return provenance


def class_label_provenance(recording: Recording) -> dict[str, Any]:
    """Where a recording's class labels come from, if `annotate` wrote them; empty otherwise."""
    spec = ArrayReader(recording.path / "class_label").spec
    provenance: dict[str, Any] = spec.attributes.get(PROVENANCE, {})
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


def _missing_labels(
    data: StoreReader, class_labels: Sequence[NewClassLabels], replace_ours: bool
) -> list[NewClassLabels]:
    """Those to write; AnnotationError where there are labels that must stay."""
    missing = []
    for new in class_labels:
        recording = data.recordings[new.recording]
        there, ours = recording.class_label, class_label_provenance(recording)
        if data.default_layer in recording.layers:
            raise AnnotationError(
                f"{new.recording}: expected a recording without pixel labels for events without boxes, got layer "
                f"{data.default_layer!r}, whose class labels they would contradict"
            )
        if ours and {key: ours.get(key) for key in new.content} == new.content:
            continue
        if not (there == UNLABELLED).all() and not (ours and replace_ours):
            remedy = (
                "replace them with --layer-as-default"
                if ours
                else "labels of the source are never overwritten"
            )
            raise AnnotationError(f"{new.recording}: expected no class labels yet, got some; {remedy}")
        missing.append(new)
    return missing


def _provenance(content: dict[str, Any]) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"tool": "fmfbench annotate", "version": installed_version(), **content, "time": now}


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


def _finish(
    writer: StoreWriter,
    data: StoreReader,
    new: Sequence[NewLayer],
    labels: Sequence[NewClassLabels],
    default: str | None,
) -> None:
    """All that is not a layer: class labels, links to the other files, and the root."""
    new_labels = {own.recording: own for own in labels}
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
        if recording.name in new_labels:
            drawn = new_labels[recording.name]
            class_label = drawn.labels
            own.append(f"{drawn.path}/")
            write_rows(writer, drawn.path, drawn.spec, class_label)
        elif not np.array_equal(class_label, recording.class_label):
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
