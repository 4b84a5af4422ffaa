"""Named splits of a finished store: which frames are train, test and unused, beside the split of the source.

`recordings/NAME/splits/SPLIT` (frame) uint8 in every recording holds one, with its provenance in the array's
attributes; the array `split`, which came with the source, is the split named `source` and is never overwritten. The
root names the default one (`fmfbench.default_split`, absent while that is `source`) and keeps the fingerprint of each
(`fmfbench.fingerprints`); `fmfbench.fingerprint` stays that of `source`. A store without named splits has neither key.

A part is asked for as `PART` of the default split or `NAME:PART` of another: `derived:test`, `source:train`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import StoreError
from fmfbench.store.additions import adding_to, adopt_others, label_facts, write_rows
from fmfbench.store.fingerprint import fingerprints
from fmfbench.store.reader import StoreReader
from fmfbench.store.schema import SPLITS, row_spec
from fmfbench.store.shards import ArrayReader
from fmfbench.store.split_names import (
    DEFAULT_SPLIT_KEY,
    FINGERPRINTS_KEY,
    PROVENANCE,
    SOURCE,
    check_split_name,
)
from fmfbench.store.writer import is_half_made
from fmfbench.version import installed_version

__all__ = ["set_default_split", "split_provenance", "write_split"]


def write_split(
    store: Path,
    name: str,
    splits: Mapping[str, NDArray[np.uint8]],
    parameters: Mapping[str, Any],
    *,
    as_default: bool = False,
) -> list[str]:
    """Write a named split into a store, whole or not at all.

    Args:
        store: a finished store.
        name: of the split; letters, digits, - and _.
        splits: for each recording of the store (N,) uint8, 0 train, 1 test, 2 unused.
        parameters: how it was made, as JSON; kept with it.
        as_default: make it the split that windows, training and scores take when none is named.

    Returns:
        Paths of the arrays written, relative to the store: empty when the same split was there already.

    Raises:
        StoreError: a name that cannot be, recordings or lengths that are not the store's, or a split of that name
            with other content.
        BusyError: another process is writing to the store.
        FailedError: the disk is full, for example; the store is as it was.
    """
    check_split_name(name)
    data = StoreReader.open(store)
    _check_splits(data, splits)
    if _is_there(data, name, splits) and not is_half_made(store):
        if as_default:
            set_default_split(store, name)
        return []
    paths = {recording: f"recordings/{recording}/splits/{name}" for recording in splits}
    identity = {"split": name, "parameters": dict(parameters), "default": as_default}
    with adding_to(store, identity) as (writer, data):
        if _is_there(data, name, splits) and not (as_default and data.split_name != name):
            writer.discard()
            return []
        attributes = dict(data.attributes)
        for recording, path in paths.items():
            split = splits[recording]
            if not (data.path / f"recordings/{recording}/splits").exists():
                writer.write_group(f"recordings/{recording}/splits", {})
            spec = row_spec(len(split), SPLITS)
            spec = replace(spec, attributes={**spec.attributes, PROVENANCE: _provenance(parameters, split)})
            write_rows(writer, path, spec, split)
        facts = (
            label_facts(recording, named={name: splits[recording.name]})
            for recording in data.recordings.values()
        )
        known = attributes.get(FINGERPRINTS_KEY, {SOURCE: attributes["fmfbench.fingerprint"]})
        attributes[FINGERPRINTS_KEY] = {**known, name: fingerprints(facts)[name]}
        if as_default:
            attributes[DEFAULT_SPLIT_KEY] = name
        adopt_others(writer, data, [f"{path}/" for path in paths.values()])
        writer.finish(attributes)
    return sorted(paths.values())


def set_default_split(store: Path, name: str) -> bool:
    """Make a split that is there the default; False where it was.

    Raises:
        StoreError: no such split.
    """
    data = StoreReader.open(store)
    if data.with_split(name).split_name == data.split_name:
        return False
    with adding_to(store, {"default_split": name}) as (writer, data):
        attributes = {key: value for key, value in data.attributes.items() if key != DEFAULT_SPLIT_KEY}
        if name != SOURCE:
            attributes[DEFAULT_SPLIT_KEY] = name
        adopt_others(writer, data, [])
        writer.finish(attributes)
    return True


def split_provenance(data: StoreReader, recording: str, name: str) -> dict[str, Any]:
    """How a named split was made, and its counts in one recording; empty for `source`."""
    if name == SOURCE:
        return {}
    spec = ArrayReader(data.recordings[recording].path / "splits" / name).spec
    provenance: dict[str, Any] = spec.attributes.get(PROVENANCE, {})
    return provenance


def _check_splits(data: StoreReader, splits: Mapping[str, NDArray[np.uint8]]) -> None:
    if set(splits) != set(data.recordings):
        raise StoreError(
            f"{data.path}: expected a split of each recording, {', '.join(data.recordings)}, got {', '.join(splits)}"
        )
    for name, split in splits.items():
        n = data.recordings[name].num_frames
        if split.shape != (n,) or split.dtype != np.uint8 or not np.isin(split, list(SPLITS.values())).all():
            raise StoreError(
                f"{data.path}: {name}: expected ({n},) uint8 of {sorted(SPLITS.values())}, got {split.shape} of "
                f"{split.dtype}"
            )


def _is_there(data: StoreReader, name: str, splits: Mapping[str, NDArray[np.uint8]]) -> bool:
    if name not in data.split_names:
        return False
    there = data.with_split(name)
    if all(np.array_equal(there.recordings[r].split, split) for r, split in splits.items()):
        return True
    made = split_provenance(data, next(iter(splits)), name).get("time", "unknown time")
    raise StoreError(
        f"{data.path}: split {name!r} is there with other frames, of {made}; splits are never overwritten: "
        "choose another name with --name"
    )


def _provenance(parameters: Mapping[str, Any], split: NDArray[np.uint8]) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    counts = {part: int((split == code).sum()) for part, code in SPLITS.items()}
    return {
        "tool": "fmfbench split",
        "version": installed_version(),
        "parameters": dict(parameters),
        "counts": counts,
        "time": now,
    }
