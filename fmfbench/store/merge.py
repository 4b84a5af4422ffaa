"""Stores of some recordings each, joined into one store of all.

What a store holds of a recording is a folder of files that nothing else in the store depends on, so joining is
linking: every chunk and every document of a recording is taken as it is (copied where the file system cannot link),
and only the root is new: names, sources, fingerprint, list of files and digest. One conversion of all recordings and a
merge of conversions of some of them each have the same chunks, fingerprint and sources digest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmfbench.errors import DamageError, FailedError, StoreError
from fmfbench.files.remote import Place, RemotePath, parse_place
from fmfbench.store.additions import adopt, label_facts
from fmfbench.store.fingerprint import fingerprints
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import DIGEST_KEY
from fmfbench.store.split_names import DEFAULT_SPLIT_KEY, FINGERPRINTS_KEY, SOURCE
from fmfbench.store.upload import make_behind
from fmfbench.store.writer import StoreWriter, check_target, is_half_made, open_writer
from fmfbench.version import installed_version

__all__ = ["merge"]

_SAME = ("fmfbench.schema", "fmfbench.layout")


def merge(
    stores: Sequence[str | Place],
    target: str | Place,
    *,
    overwrite: bool = False,
    advance: Callable[[int], Any] = lambda files: None,
) -> Place:
    """Join stores into one.

    Args:
        stores: finished stores, of different recordings.
        target: the store to make, a path or a URL.
        overwrite: replace a finished store.
        advance: called with the number of files done.

    Returns:
        The path of the joined store. Killed at any point, the same call continues.

    Raises:
        StoreError: the stores do not fit together, or the target is in the way.
        DamageError: a file that a store lists is missing.
        FailedError: the disk is full, for example.

    Example:
        >>> merge(["run1.zarr", "run2.zarr"], "all.zarr")  # doctest: +SKIP
    """
    target = parse_place(target)
    if isinstance(target, RemotePath):
        opened = [StoreReader.open(path) for path in stores]
        facts = {"merge": [part.attributes[DIGEST_KEY] for part in opened], "version": installed_version()}

        def make(here: Path) -> None:
            merge(stores, here, overwrite=overwrite or here.exists(), advance=advance)

        return make_behind(target, facts, make, overwrite=overwrite)
    check_target(target, overwrite=overwrite or is_half_made(target))
    parts = [StoreReader.open(path) for path in stores]
    if not parts:
        raise StoreError("merge: expected at least one store, got none")
    recordings = _recordings(parts)
    attributes = _root_attributes(parts)
    identity = {"merge": [part.attributes[DIGEST_KEY] for part in parts], "version": installed_version()}
    try:
        with open_writer(target, identity, overwrite=overwrite) as writer:
            if not writer.finished:
                _write(writer, parts, recordings, attributes, advance)
    except OSError as error:
        raise FailedError(
            f"{error.filename or target}: {error.strerror or error}; once that is mended, the same command "
            "resumes where it was"
        ) from error
    return target


def _recordings(parts: Sequence[StoreReader]) -> dict[str, Recording]:
    """Recordings of all stores by name, in order of name."""
    found: dict[str, tuple[StoreReader, Recording]] = {}
    for part in parts:
        for name, recording in part.recordings.items():
            if name in found:
                raise StoreError(
                    f"{part.path}: expected recordings that no other store has, got {name!r}, which "
                    f"{found[name][0].path} has too; leave one of the two out"
                )
            found[name] = part, recording
    return {name: found[name][1] for name in sorted(found)}


def _root_attributes(parts: Sequence[StoreReader]) -> dict[str, Any]:
    """What the root says of all recordings together; StoreError where the stores disagree."""
    first, shared = parts[0], _shared_attributes(parts[0])
    for part in parts[1:]:
        for key, theirs in _shared_attributes(part).items():
            if shared[key] != theirs:
                raise StoreError(
                    f"{part.path}: expected {key} {shared[key]!r} as in {first.path}, got {theirs!r}; "
                    "convert both with the same options"
                )
    return {
        **shared,
        "fmfbench.created_by": f"fmfbench {installed_version()}",
        "fmfbench.sources": _sources(parts),
        "fmfbench.default_layer": _default_layer(parts),
        **_default_split(parts),
    }


def _shared_attributes(part: StoreReader) -> dict[str, Any]:
    """What all stores must agree on. Which recordings of a source were asked for is no such thing."""
    options = {key: value for key, value in part.attributes["fmfbench.options"].items() if key != "only"}
    return {**{key: part.attributes.get(key) for key in _SAME}, "fmfbench.options": options}


def _sources(parts: Sequence[StoreReader]) -> list[Mapping[str, Any]]:
    """Source files of all stores in order of path; one that several were made of stands once."""
    named = {}
    for part in parts:
        for source in part.attributes.get("fmfbench.sources") or []:
            named[str(source.get("path")), str(source.get("sha256"))] = source
    return [named[key] for key in sorted(named)]


def _default_layer(parts: Sequence[StoreReader]) -> str | None:
    """The one default layer; None where no store has one."""
    layers = {part.default_layer: part for part in parts if part.default_layer is not None}
    if len(layers) > 1:
        said = ", ".join(f"{layer!r} in {part.path}" for layer, part in layers.items())
        raise StoreError(f"merge: expected one default layer, got {said}; make one the default of all")
    layer = next(iter(layers), None)
    for part in parts:
        hidden = [name for name, recording in part.recordings.items() if layer in recording.layers]
        if part.default_layer is None and hidden:
            raise StoreError(
                f"{part.path}: has layer {layer!r} on {hidden[0]!r}, but not as its default as the other stores do; "
                "make it the default with `fmfbench annotate ... --layer-as-default` first"
            )
    return layer


def _default_split(parts: Sequence[StoreReader]) -> dict[str, str]:
    """The one default split, unless it is the source's; StoreError where the stores are not divided alike."""
    first = parts[0]
    for part in parts[1:]:
        for what, ours, theirs in (
            ("splits", first.split_names, part.split_names),
            ("the default split", (first.split_name,), (part.split_name,)),
        ):
            if ours != theirs:
                raise StoreError(
                    f"{part.path}: expected {what} {', '.join(ours)} as in {first.path}, got {', '.join(theirs)}; "
                    "divide them alike with `fmfbench split`, or merge first and divide then"
                )
    return {} if first.split_name == SOURCE else {DEFAULT_SPLIT_KEY: first.split_name}


def _write(
    writer: StoreWriter,
    parts: Sequence[StoreReader],
    recordings: Mapping[str, Recording],
    attributes: dict[str, Any],
    advance: Callable[[int], Any],
) -> None:
    started = time.time()
    writer.write_group("recordings", {})
    for part in parts:
        try:
            adopt(writer, part, lambda name: name.count("/") > 1, advance)  # files of recordings
        except DamageError:
            writer.discard()
            raise
    layer = attributes["fmfbench.default_layer"]
    facts = (
        label_facts(
            recording,
            class_label=recording.class_label,
            masks=recording.layer(layer) if layer is not None and layer in recording.layers else None,
            named={name: recording.named_split(name) for name in parts[0].split_names if name != SOURCE},
        )
        for recording in recordings.values()
    )
    sums = fingerprints(facts)
    writer.finish(
        {
            **attributes,
            "fmfbench.name": writer.target.stem,
            "fmfbench.fingerprint": sums[SOURCE],
            **({FINGERPRINTS_KEY: sums} if len(sums) > 1 else {}),
            "fmfbench.created": {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "seconds": round(time.time() - started, 3),
            },
        }
    )
