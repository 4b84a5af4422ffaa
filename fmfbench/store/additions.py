"""Adding to a finished store: whole or not at all, everything that is not new taken over as it is.

The store with what is added is made beside it, in `STORE.part`: new shards one by one, all other files as links to
those that are there. When it is whole, fingerprints and digest renewed, the two change places in one step. Killed at
any point, the same command continues; run again with the same input it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import DamageError, FailedError, InputError
from fmfbench.files.leavings import is_leaving
from fmfbench.files.lock import target_lock
from fmfbench.store.digest import file_names, file_sha256
from fmfbench.store.fingerprint import LabelFacts
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import DIGEST_KEY, FILES_KEY, ROOT, ArraySpec
from fmfbench.store.shards import ArrayReader, encode_shard
from fmfbench.store.split_names import SOURCE
from fmfbench.store.writer import StoreWriter, is_half_made, open_writer

__all__ = ["adding_to", "adopt", "adopt_others", "label_facts", "recover", "shard_blocks", "write_rows"]


@contextmanager
def adding_to(store: Path, identity: Mapping[str, Any]) -> Iterator[tuple[StoreWriter, StoreReader]]:
    """A writer of what is added to the store, and the store as it is while no one else can write to it.

    The caller commits arrays, calls `adopt_others` and `writer.finish`, or `writer.discard` where there is nothing to
    do. Where it fails, the store is as it was.

    Args:
        store: a finished store.
        identity: JSON of everything that decides what is added.

    Raises:
        BusyError: another process is writing to the store.
        FailedError: the disk is full, for example.
    """
    digest = StoreReader.open(store).attributes[DIGEST_KEY]
    with open_writer(store, {**identity, "store": digest}, overwrite=True) as writer:
        try:
            yield writer, StoreReader.open(store)
        except (InputError, DamageError):
            writer.discard()
            raise
        except OSError as error:
            raise FailedError(
                f"{error.filename or store}: {error.strerror or error}; the store is as it was, and what is done is "
                "kept: mend it and run the same command again"
            ) from error


def recover(store: Path) -> None:
    """Put a store back that a run left without its name, where the system cannot exchange two names in one step."""
    if not store.exists() and is_half_made(store):
        with target_lock(store):
            StoreWriter(store).recover({})


def write_rows(writer: StoreWriter, path: str, spec: ArraySpec, values: NDArray[Any]) -> None:
    """A small array, whole; `path` relative to the store."""
    writer.write_array(path, spec)
    for index in range(spec.num_shards):
        first, last = spec.shard_range(index)
        writer.commit_shard(path, spec, index, encode_shard(spec, values[first:last]))


def adopt_others(writer: StoreWriter, data: StoreReader, new: Iterable[str]) -> None:
    """Take over every file of the store whose path does not begin with one of `new`; DamageError as of `adopt`."""
    adopt(writer, data, lambda name: name != ROOT and not name.startswith(tuple(new)))


def adopt(
    writer: StoreWriter,
    data: StoreReader,
    is_taken: Callable[[str], bool],
    advance: Callable[[int], Any] = lambda files: None,
) -> None:
    """Take over the files of a store whose paths are taken, with the sums that it lists.

    Raises:
        DamageError: a file that the store lists is missing; nothing was taken.
    """
    listed: Mapping[str, str] = data.attributes[FILES_KEY]
    there = file_names(data.path)
    lost = sorted(name for name in set(listed) - set(there) if not any(map(is_leaving, name.split("/"))))
    if lost:
        raise DamageError(f"{data.path}: {lost[0]} is missing; the store is damaged: run `fmfbench verify`")
    for name in there:
        if is_taken(name):
            source = data.path / name
            writer.adopt(name, source, listed.get(name) or file_sha256(source))
        advance(1)


def label_facts(
    recording: Recording,
    *,
    class_label: NDArray[np.uint8] | None = None,
    masks: ArrayReader | None = None,
    named: Mapping[str, NDArray[np.uint8]] | None = None,
) -> LabelFacts:
    """What the fingerprints cover of a recording.

    Args:
        recording: as the store has it, its split being that of the source.
        class_label: (N,), where it is not the recording's own.
        masks: of the default layer, where it is not the recording's own.
        named: named splits, (N,) each.
    """
    reader = recording.masks if masks is None and class_label is None else masks
    return LabelFacts(
        name=recording.name,
        num_frames=recording.num_frames,
        height=recording.height,
        width=recording.width,
        split=recording.named_split(SOURCE),
        class_label=recording.class_label if class_label is None else class_label,
        masks=(block for _, block in shard_blocks(reader)) if reader is not None else (),
        named=named or {},
    )


def shard_blocks(reader: ArrayReader) -> Iterator[tuple[int, NDArray[Any]]]:
    """First entry and values of each shard."""
    for index in range(reader.spec.num_shards):
        first, last = reader.spec.shard_range(index)
        yield first, reader.read(first, last)
