"""Shards: bytes to and from the files of an array, as Zarr's `sharding_indexed` codec lays them out.

A shard is its chunks end to end, each Blosc-compressed and followed by its crc32c, then an index of
(offset, length) pairs, little-endian uint64, and the index's crc32c. Written here directly, because one shard
encoded in one call costs a tenth of what the same bytes cost chunk by chunk through a generic pipeline;
`zarr.open` reads the same arrays (tests/test_shards.py compares the two on random shapes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, blosc
from numpy.typing import NDArray

from fmfbench.errors import DamageError
from fmfbench.schema import ArraySpec, parse_array

__all__ = ["ArrayReader", "encode_shard", "is_whole_shard", "shard_pieces"]

# One thread a call: shards are encoded side by side, and a pool of Blosc's own would not survive a fork.
blosc.use_threads = False

_SHUFFLES = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}
_MISSING = np.uint64(2**64 - 1)
_CRC = struct.Struct("<I")


def encode_shard(spec: ArraySpec, block: NDArray[Any]) -> bytes:
    """The file of one shard.

    Args:
        spec: the array.
        block: (n, ...) its entries, n at most `spec.shard`; the last chunk is padded with zeros.
    """
    return b"".join(shard_pieces(spec, block))


def shard_pieces(spec: ArraySpec, block: NDArray[Any]) -> Iterator[bytes]:
    """The file of one shard, chunk by chunk: a piece is hashed and written while it is in the cache."""
    codec = Blosc(cname=spec.cname, clevel=spec.clevel, shuffle=_SHUFFLES[spec.shuffle])
    index = np.full((spec.shard // spec.chunk, 2), _MISSING, dtype="<u8")
    offset = 0
    for k, first in enumerate(range(0, len(block), spec.chunk)):
        chunk = np.ascontiguousarray(block[first : first + spec.chunk], dtype=spec.numpy_dtype)
        if len(chunk) < spec.chunk:
            whole = np.zeros(spec.chunk_shape, spec.numpy_dtype)
            whole[: len(chunk)] = chunk
            chunk = whole
        data = codec.encode(chunk)
        yield data + _CRC.pack(google_crc32c.value(data))
        index[k] = offset, len(data) + 4
        offset += len(data) + 4
    table = index.tobytes()
    yield table + _CRC.pack(google_crc32c.value(table))


def is_whole_shard(spec: ArraySpec, data: bytes, count: int) -> bool:
    """Whether `data` is the complete file of a shard of `count` entries, every checksum right."""
    index = _parse_index(spec, data[-_index_bytes(spec) :])
    if index is None:
        return False
    chunks = -(-count // spec.chunk)
    expected = 0
    for offset, length in index[:chunks].tolist():
        piece = data[offset : offset + length]
        if offset != expected or len(piece) != length or not _holds(piece):
            return False
        expected += length
    return bool((index[chunks:] == _MISSING).all()) and expected + _index_bytes(spec) == len(data)


def _index_bytes(spec: ArraySpec) -> int:
    return 16 * (spec.shard // spec.chunk) + 4


def _parse_index(spec: ArraySpec, tail: bytes) -> NDArray[np.uint64] | None:
    if len(tail) != _index_bytes(spec) or not _holds(tail):
        return None
    return np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)


def _holds(data: bytes) -> bool:
    """Whether the crc32c in the last four bytes is that of the others."""
    return len(data) > 4 and _CRC.unpack(data[-4:])[0] == google_crc32c.value(data[:-4])


class ArrayReader:
    """Reads entries of one array of a store. Holds no open file, so it survives fork and pickling."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = parse_array(path)
        self._indices: dict[int, NDArray[np.uint64]] = {}

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Entries start..stop-1 as a new array in the machine's byte order."""
        stop = self.spec.length if stop is None else stop
        out = np.empty((max(0, stop - start), *self.spec.shape[1:]), self.spec.numpy_dtype.newbyteorder("="))
        chunk = self.spec.chunk
        position = start
        while position < stop:
            number = position // chunk
            first = number * chunk
            upto = min(stop, first + chunk)
            out[position - start : upto - start] = self.chunk(number)[position - first : upto - first]
            position = upto
        return out

    def chunk(self, number: int) -> NDArray[Any]:
        """One decoded chunk, padding included; DamageError when its checksum does not hold."""
        per_shard = self.spec.shard // self.spec.chunk
        shard, k = divmod(number, per_shard)
        offset, length = (int(v) for v in self._index(shard)[k])
        file = self.path / self.spec.shard_key(shard)
        data = self._read_bytes(file, lambda handle: _read_at(handle, offset, length))
        if len(data) != length or not _holds(data):
            raise self._damage(file, f"chunk {k} does not match its checksum")
        return np.frombuffer(Blosc().decode(data[:-4]), self.spec.numpy_dtype).reshape(self.spec.chunk_shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indices": {}}

    def _index(self, shard: int) -> NDArray[np.uint64]:
        index = self._indices.get(shard)
        if index is None:
            file = self.path / self.spec.shard_key(shard)
            tail = self._read_bytes(file, lambda handle: _read_tail(handle, _index_bytes(self.spec)))
            index = _parse_index(self.spec, tail)
            if index is None:
                raise self._damage(file, "the shard's index does not match its checksum")
            self._indices[shard] = index
        return index

    def _read_bytes(self, file: Path, how: Callable[[Any], bytes]) -> bytes:
        try:
            with open(file, "rb", buffering=0) as handle:
                return how(handle)
        except FileNotFoundError:
            raise self._damage(file, "the file is missing") from None

    @staticmethod
    def _damage(file: Path, what: str) -> DamageError:
        return DamageError(f"{file}: {what}; the store is damaged: run `fmfbench verify`, then convert again")


def _read_at(handle: Any, offset: int, length: int) -> bytes:
    handle.seek(offset)
    data: bytes = handle.read(length)
    return data


def _read_tail(handle: Any, length: int) -> bytes:
    size = handle.seek(0, 2)
    handle.seek(max(0, size - length))
    data: bytes = handle.read(length)
    return data
