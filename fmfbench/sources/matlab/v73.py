"""MAT 7.3 files: HDF5 with MATLAB's attributes, the dimensions in reverse.

How real files look, and what other writers do differently: chunks of any shape, empty arrays that store their
dimensions as data, logical as uint8, a user block of 512 bytes or none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.chunks import ThreadTeam
from fmfbench.sources.matlab.dataset import Dataset, Empty, hdf5_errors, missing_filter, refuse_void_chunks
from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.variable import CLASS_DTYPES, MatVariable

__all__ = ["open_v73", "read_v73_variables"]


def open_v73(path: Path) -> h5py.File:
    """The file, open for reading, without HDF5's file locks. Raises SourceError."""
    with hdf5_errors(str(path)):
        return h5py.File(path, "r", locking=False)


def read_v73_variables(
    path: Path,
    hdf: h5py.File,
    file: FileBytes,
    team: ThreadTeam,
    scratch: Path | None,
    filled: Collection[str] = (),
) -> tuple[dict[str, MatVariable], list[Dataset]]:
    """The variables, and what has to be closed before the file. Raises SourceError."""
    variables: dict[str, MatVariable] = {}
    datasets: list[Dataset] = []
    with hdf5_errors(str(path)):
        names = [name for name in hdf if not name.startswith("#")]
    for name in names:
        where = f"{path}: variable {name!r}"
        facts, unreadable = Facts(), ""
        storage: Dataset | Empty | None = None
        unwritten = ""
        try:
            with hdf5_errors(where):
                node = _node(hdf, name)
                facts = _link_facts(hdf, name) if node is None else _facts(where, node)
                if facts.trouble:
                    unreadable = f"{where}: expected real numbers, got {facts.trouble}"
                elif not prod(facts.shape):
                    storage = Empty(facts.shape)
                else:
                    dataset = Dataset(
                        where, node, facts.shape, file=file, team=team, scratch=scratch, filled=name in filled
                    )
                    datasets.append(dataset)
                    storage, unwritten = dataset, dataset.unwritten
        except OctaveError as error:
            raise SourceError(f"{path}: {error}") from None
        except SourceError as error:
            unreadable = str(error)  # an extra variable may be damaged without harm
        variables[name] = MatVariable(
            where=str(path),
            name=name,
            shape=facts.shape,
            matlab_class=facts.matlab_class,
            stored_bytes=facts.stored_bytes,
            storage=storage,
            unreadable=None if storage else unreadable,
            chunks=facts.chunks,
            unwritten=unwritten,
            workers=team.workers,
        )
    return variables, datasets


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a variable without its values; `trouble` says why those are not real numbers."""

    matlab_class: str = "unknown"
    shape: tuple[int, ...] = ()
    chunks: tuple[int, ...] | None = None
    stored_bytes: int = 0
    trouble: str = ""


class OctaveError(SourceError):
    """Octave's own HDF5 format, which is not MATLAB's."""


def _node(hdf: h5py.File, name: str) -> Any:
    """What a name stands for; links to other files or places are not followed."""
    return hdf[name] if isinstance(hdf.get(name, getlink=True), h5py.HardLink) else None


def _link_facts(hdf: h5py.File, name: str) -> Facts:
    link = hdf.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        where = f"{link.path} in the file {link.filename}"
    else:
        where = f"{getattr(link, 'path', 'elsewhere')}"
    there = "" if isinstance(link, h5py.SoftLink) and link.path in hdf else ", which is not there"
    return Facts(
        matlab_class="link",
        trouble=f"an HDF5 link to {where}{there}; save the values themselves, or copy them with `h5repack`",
    )


def _facts(where: str, node: Any) -> Facts:
    if isinstance(node, h5py.Group):
        if "OCTAVE_NEW_FORMAT" in node.attrs or {"type", "value"} <= set(node):
            raise OctaveError(
                "expected a MAT file, got Octave's own HDF5 ('save -hdf5'); save it with 'save -v7'"
            )
        kind = "sparse" if "MATLAB_sparse" in node.attrs else _matlab_class(node) or "struct"
        return Facts(matlab_class=kind, trouble=f"a {kind}")
    if not isinstance(node, h5py.Dataset) or node.shape is None:
        return Facts(trouble="a link, a type or a null: nothing with values")
    kind = _matlab_class(node) or _class_of(node.dtype)
    shape: tuple[int, ...] = node.shape[::-1] or (1, 1)
    if missing := missing_filter(node):
        return Facts(matlab_class=kind, shape=shape, chunks=node.chunks, trouble=missing)
    chunks = node.chunks
    if np.any(node.attrs.get("MATLAB_empty", 0)):
        shape, chunks = _empty_shape(where, node), None
    fields = set(node.dtype.names or ())
    trouble = ""
    if fields:
        trouble = f"complex {kind}" if fields == {"real", "imag"} else "compound"
    elif kind not in CLASS_DTYPES:
        trouble = f"a {kind}"
    elif node.dtype.kind not in "uifb" or node.dtype.itemsize > 8:
        trouble = f"{kind} stored as {node.dtype}"
    return Facts(
        matlab_class=kind,
        shape=shape,
        chunks=chunks,
        stored_bytes=int(node.id.get_storage_size()),
        trouble=trouble,
    )


def _empty_shape(where: str, node: Any) -> tuple[int, ...]:
    """MATLAB stores the dimensions of an empty array in the place of its values."""
    shape: tuple[int, ...] = ()
    if len(node.shape) == 1 and 1 <= node.size <= 32 and node.dtype.kind in "ui":
        refuse_void_chunks(where, node)
        shape = tuple(int(extent) for extent in node[()])
    if not shape or min(shape) != 0:
        raise SourceError(f"{where}: is marked empty but its dimensions are not there; save the file again")
    return shape


def _matlab_class(node: Any) -> str | None:
    """The attribute MATLAB_class, which writers store as bytes or text, padded in their own ways."""
    value = node.attrs.get("MATLAB_class")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("ascii", "backslashreplace")
    return str(value).rstrip("\0 ") if isinstance(value, str) and value else None


def _class_of(dtype: np.dtype[Any]) -> str:
    """MATLAB's name for a type, for HDF5 files without MATLAB's attributes."""
    if dtype.kind == "b":
        return "logical"
    native = dtype.newbyteorder("=")
    names = {kind: name for name, kind in CLASS_DTYPES.items() if name != "logical"}
    return names.get(native, str(dtype))
