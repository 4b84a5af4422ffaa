"""The on-disk contract of the store: a Zarr v3 group, every fact a frozen value that is written and read back.

    OUT/zarr.json                              root group, attributes `fmfbench.*`
    OUT/recordings/zarr.json
    OUT/recordings/NAME/zarr.json
    OUT/recordings/NAME/{video,frame_time,current,current_time,split,class_label}/
    OUT/recordings/NAME/labels/zarr.json
    OUT/recordings/NAME/labels/LAYER/

Every array is split along its first axis only, into shards (one file each) of whole chunks; every chunk
and every shard's index carries a crc32c. Any Zarr v3 reader opens it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fmfbench.errors import SourceError, StoreError
from fmfbench.files.leavings import is_leaving
from fmfbench.files.remote import Place

__all__ = [
    "DIGEST_KEY",
    "FILES_KEY",
    "ROOT",
    "SCHEMA",
    "SPLITS",
    "UNLABELLED",
    "ArraySpec",
    "check_name",
    "current_spec",
    "document_bytes",
    "group_document",
    "mask_spec",
    "parse_array",
    "parse_group",
    "row_spec",
    "time_spec",
    "video_spec",
]

SCHEMA = 1
SPLITS = {"train": 0, "test": 1, "unused": 2}
UNLABELLED = 255
DIGEST_KEY = "fmfbench.digest"
FILES_KEY = "fmfbench.files"
ROOT = "zarr.json"

# Measured on a grid of chunk lengths and codecs: benchmarks/README.md.
_CHUNK_BYTES = 300 * 1024  # 25 frames of 64x64
_MASK_CHUNK_BYTES = 128 * 1024
_SHARD_BYTES = 12 * 1024 * 1024
_ROWS_PER_CHUNK = 65_536


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One array: its shape, type, names and how its first axis is split.

    `chunk` and `shard` count entries of the first axis; the other axes are never split.
    """

    shape: tuple[int, ...]
    dtype: str  # numpy name, little-endian on disk
    dims: tuple[str, ...]
    chunk: int
    shard: int
    cname: str = "lz4"
    clevel: int = 5
    shuffle: str = "bitshuffle"
    attributes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.shard % self.chunk or len(self.dims) != len(self.shape):
            raise StoreError(
                f"an array of shape {self.shape}: expected {len(self.shape)} names and shards of whole chunks, "
                f"got names {self.dims}, chunk {self.chunk}, shard {self.shard}"
            )

    @property
    def length(self) -> int:
        return self.shape[0]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (self.chunk, *self.shape[1:])

    @property
    def num_shards(self) -> int:
        return -(-self.length // self.shard)

    def shard_range(self, index: int) -> tuple[int, int]:
        """First and one-past-last entry of a shard."""
        return index * self.shard, min(self.length, (index + 1) * self.shard)

    def shard_key(self, index: int) -> str:
        """Where a shard lies below the array's folder."""
        return "c/" + "/".join([str(index), *(["0"] * (len(self.shape) - 1))])

    def to_document(self) -> dict[str, Any]:
        """The array's `zarr.json`."""
        endian = {"configuration": {"endian": "little"}} if self.numpy_dtype.itemsize > 1 else {}
        blosc = {
            "typesize": self.numpy_dtype.itemsize,
            "cname": self.cname,
            "clevel": self.clevel,
            "shuffle": self.shuffle,
            "blocksize": 0,
        }
        inner = {
            "chunk_shape": list(self.chunk_shape),
            "codecs": [
                {"name": "bytes", **endian},
                {"name": "blosc", "configuration": blosc},
                {"name": "crc32c"},
            ],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [self.shard, *self.shape[1:]]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
            "attributes": self.attributes,
            "dimension_names": list(self.dims),
        }


def video_spec(num_frames: int, height: int, width: int) -> ArraySpec:
    chunk, shard = _split_frames(height * width * 3, _CHUNK_BYTES)
    return ArraySpec(
        shape=(num_frames, height, width, 3),
        dtype="uint8",
        dims=("frame", "y", "x", "channel"),
        chunk=chunk,
        shard=shard,
        shuffle="noshuffle",
        attributes={"fmfbench.color": "RGB", "fmfbench.orientation": "upright"},
    )


def mask_spec(num_frames: int, height: int, width: int, attributes: dict[str, Any]) -> ArraySpec:
    chunk, shard = _split_frames(height * width, _MASK_CHUNK_BYTES)
    return ArraySpec(
        shape=(num_frames, height, width),
        dtype="uint8",
        dims=("frame", "y", "x"),
        chunk=chunk,
        shard=shard,
        shuffle="noshuffle",
        attributes={"fmfbench.orientation": "upright", **attributes},
    )


def time_spec(count: int, dim: str, origin: str) -> ArraySpec:
    """Times of frames or current rows; `origin` is "clock" or "start"."""
    return ArraySpec(
        shape=(count,),
        dtype="int64",
        dims=(dim,),
        chunk=_ROWS_PER_CHUNK,
        shard=16 * _ROWS_PER_CHUNK,
        attributes={
            "units": "nanoseconds since 1970-01-01",
            "calendar": "proleptic_gregorian",
            "fmfbench.origin": origin,
        },
    )


def current_spec(count: int) -> ArraySpec:
    return ArraySpec(
        shape=(count, 3),
        dtype="float32",
        dims=("sample", "phase"),
        chunk=_ROWS_PER_CHUNK,
        shard=16 * _ROWS_PER_CHUNK,
        attributes={"units": "A"},
    )


def row_spec(count: int, meanings: dict[str, int]) -> ArraySpec:
    """One small integer a frame: `split` or `class_label`."""
    return ArraySpec(
        shape=(count,),
        dtype="uint8",
        dims=("frame",),
        chunk=_ROWS_PER_CHUNK,
        shard=16 * _ROWS_PER_CHUNK,
        attributes={"flag_values": list(meanings.values()), "flag_meanings": " ".join(meanings)},
    )


def group_document(attributes: dict[str, Any]) -> dict[str, Any]:
    """A group's `zarr.json`."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def document_bytes(document: dict[str, Any]) -> bytes:
    """The text of a `zarr.json`, the same bytes for the same content."""
    return json.dumps(document, indent=1, allow_nan=False).encode()


def check_name(name: str, where: object) -> str:
    """A recording's name, as it becomes a folder of the store.

    Raises:
        SourceError: no system, Zarr or text file would take the name.
    """
    reserved = not name.strip(".") or name == ROOT or name.startswith("__") or is_leaving(name)
    if reserved or not name.isprintable() or set(name) & set("/\\"):
        raise SourceError(
            f"{where}: expected a recording's name to be printable text without / or \\, "
            f"not only points, not {ROOT!r}, not what a system leaves in folders and without __ in "
            f"front, got {name!r}; rename the file"
        )
    return name


def parse_group(path: Place) -> dict[str, Any]:
    """Attributes of the group at `path`; StoreError when there is none."""
    document = _read_document(path / "zarr.json")
    if document.get("node_type") != "group" or not isinstance(document.get("attributes"), dict):
        raise StoreError(f"{path}: expected a Zarr v3 group, got node type {document.get('node_type')!r}")
    attributes: dict[str, Any] = document["attributes"]
    return attributes


def parse_array(path: Place) -> ArraySpec:
    """The spec of the array at `path`; StoreError unless it is one that `ArraySpec` writes."""
    document = _read_document(path / "zarr.json")
    try:
        inner = document["codecs"][0]["configuration"]
        blosc = inner["codecs"][1]["configuration"]
        spec = ArraySpec(
            shape=tuple(document["shape"]),
            dtype=document["data_type"],
            dims=tuple(document["dimension_names"]),
            chunk=inner["chunk_shape"][0],
            shard=document["chunk_grid"]["configuration"]["chunk_shape"][0],
            cname=blosc["cname"],
            clevel=blosc["clevel"],
            shuffle=blosc["shuffle"],
            attributes=document["attributes"],
        )
        same = spec.to_document() == document
    except (KeyError, IndexError, TypeError, ValueError):
        same = False
    if not same:
        raise StoreError(
            f"{path / 'zarr.json'}: expected an array that fmfbench wrote (schema {SCHEMA}), got another; "
            "run `fmfbench verify` on the store, or convert again"
        )
    return spec


def _read_document(path: Place) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path}: expected the metadata of a store, got no such file") from None
    except OSError as error:  # a file where a folder should be, or one that may not be read
        raise StoreError(
            f"{path}: expected the metadata of a store, got what cannot be read: {error.strerror or error}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: expected the metadata of a store, got no JSON ({error})") from None
    if not isinstance(document, dict) or document.get("zarr_format") != 3:
        raise StoreError(f"{path}: expected Zarr v3 metadata, got something else")
    return document


def _split_frames(frame_bytes: int, chunk_bytes: int) -> tuple[int, int]:
    chunk = max(1, min(250, chunk_bytes // max(1, frame_bytes)))
    return chunk, chunk * max(1, _SHARD_BYTES // max(1, chunk * frame_bytes))
