"""Shards: bytes to and from the files of an array, as Zarr's `sharding_indexed` codec lays them out.

A shard is its chunks end to end, each Blosc-compressed and followed by its crc32c, then an index of
(offset, length) pairs, little-endian uint64, and the index's crc32c. Written here directly, because one shard
encoded in one call costs a tenth of what the same bytes cost chunk by chunk through a generic pipeline;
`zarr.open` reads the same arrays (tests/test_shards.py compares the two on random shapes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, blosc
from numpy.typing import NDArray

from fmfbench.errors import DamageError
from fmfbench.files.remote import Place, read_ranges, read_tail
from fmfbench.store.schema import ArraySpec, parse_array

__all__ = [
    "ArrayReader",
    "decode_shard",
    "encode_shard",
    "is_whole_shard",
    "shard_pieces",
    "shard_problems",
]

# One thread a call: shards are encoded side by side, and a pool of Blosc's own would not survive a fork.
blosc.use_threads = False

_SHUFFLES = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}
_MISSING = np.uint64(2**64 - 1)
_LARGEST = 1 << 62
_WHOLE = 0x48674BC7  # crc32c of anything that its own crc32c follows


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
        yield data + _checksum(data)
        index[k] = offset, len(data) + 4
        offset += len(data) + 4
    table = index.tobytes()
    yield table + _checksum(table)


def is_whole_shard(spec: ArraySpec, data: bytes, count: int) -> bool:
    """Whether `data` is the complete file of a shard of `count` entries, every checksum right."""
    return not shard_problems(spec, data, count)


def shard_problems(spec: ArraySpec, data: bytes, count: int) -> list[str]:
    """What is wrong with the file of a shard of `count` entries, chunk by chunk; empty when it is whole."""
    index = _parse_index(spec, data[-_index_bytes(spec) :])
    if index is None:
        return ["its index does not match its checksum"]
    chunks = -(-count // spec.chunk)
    problems, expected = [], 0
    for k, (offset, length) in enumerate(index[:chunks].tolist()):
        piece = data[offset : offset + length]
        if offset != expected or len(piece) != length or not _holds(piece):
            problems.append(f"chunk {k} does not match its checksum")
        expected = offset + length
    if (index[chunks:] != _MISSING).any():
        problems.append(f"it holds more than {chunks} chunks")
    elif expected + _index_bytes(spec) != len(data):
        problems.append(f"expected {expected + _index_bytes(spec)} bytes, it has {len(data)}")
    return problems


def decode_shard(spec: ArraySpec, data: bytes, count: int) -> NDArray[Any]:
    """The `count` entries of a whole shard, in the machine's byte order. Raises ValueError where it cannot be."""
    index = _parse_index(spec, data[-_index_bytes(spec) :])
    if index is None:
        raise ValueError("its index does not match its checksum")
    out = np.empty((count, *spec.shape[1:]), spec.numpy_dtype)
    for k, first in enumerate(range(0, count, spec.chunk)):
        offset, length = index[k].tolist()
        _decode_chunk(spec, memoryview(data)[offset : offset + length - 4], out[first : first + spec.chunk])
    return out.astype(spec.numpy_dtype.newbyteorder("="), copy=False)


def _decode_chunk(spec: ArraySpec, data: bytes | memoryview, out: NDArray[Any]) -> None:
    """A chunk without its checksum into `out`, which may be shorter than a chunk. Raises ValueError."""
    expected = math.prod(spec.chunk_shape) * spec.numpy_dtype.itemsize
    announced = int.from_bytes(data[4:8], "little")  # Blosc's header: bytes before compression
    if announced != expected:
        raise ValueError(f"cannot be decoded (expected {expected} bytes, got {announced})")
    try:
        if out.shape == spec.chunk_shape:
            blosc.decompress(data, out)
            return
        whole = np.empty(spec.chunk_shape, spec.numpy_dtype)
        blosc.decompress(data, whole)
    except RuntimeError as error:
        raise ValueError(f"cannot be decoded ({error})") from None
    out[...] = whole[: len(out)]


def _index_bytes(spec: ArraySpec) -> int:
    return 16 * (spec.shard // spec.chunk) + 4


def _parse_index(spec: ArraySpec, tail: bytes) -> NDArray[np.uint64] | None:
    if len(tail) != _index_bytes(spec) or not _holds(tail):
        return None
    return np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)


def _holds(data: bytes) -> bool:
    """Whether the crc32c in the last four bytes is that of the others.

    Then, and only then, the crc32c of all of them is one constant, whatever they are: so nothing is copied.
    """
    return len(data) > 4 and google_crc32c.value(data) == _WHOLE


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(4, "little")


class ArrayReader:
    """Reads entries of one array of a store. Holds no open file, so it survives fork and pickling."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.spec = parse_array(path)
        self._indices: dict[int, NDArray[np.uint64]] = {}
        self._files: dict[int, Place] = {}

    def read(self, start: int | None = None, stop: int | None = None) -> NDArray[Any]:
        """Entries [start:stop] as a new array in the machine's byte order, sliced as numpy does.

        Raises:
            TypeError: a bound that is no whole number.
            DamageError: stored bytes that do not match their checksum.
        """
        start, stop, _ = slice(start, stop).indices(self.spec.length)
        out = np.empty((max(0, stop - start), *self.spec.shape[1:]), self.spec.numpy_dtype)
        for shard in range(start // self.spec.shard, -(-stop // self.spec.shard) if stop > start else 0):
            low = shard * self.spec.shard
            first, last = max(start, low), min(stop, low + self.spec.shard)
            self._read_shard(shard, first - low, last - low, out[first - start : last - start])
        return out.astype(self.spec.numpy_dtype.newbyteorder("="), copy=False)

    def chunk(self, number: int) -> NDArray[Any]:
        """One decoded chunk, padding included; DamageError when its checksum does not hold."""
        shard, k = divmod(number, self.spec.shard // self.spec.chunk)
        out = np.empty(self.spec.chunk_shape, self.spec.numpy_dtype)
        file, (offset, length) = self._file(shard), self._index(shard)[k].tolist()
        with self._damage_if_missing(file):
            (data,) = read_ranges(file, [_within(offset, length)])
        self._decode(file, k, length, data, out)
        return out if out.dtype.isnative else out.astype(out.dtype.newbyteorder("="))

    def chunks(self, numbers: Sequence[int]) -> list[NDArray[Any]]:
        """Chunks of one shard, those that lie close together read with one request."""
        per_shard = self.spec.shard // self.spec.chunk
        file, index = self._file(numbers[0] // per_shard), self._index(numbers[0] // per_shard)
        ranges = [_within(*index[number % per_shard].tolist()) for number in numbers]
        out = []
        with self._damage_if_missing(file):
            for number, (_, length), data in zip(numbers, ranges, read_ranges(file, ranges), strict=True):
                chunk = np.empty(self.spec.chunk_shape, self.spec.numpy_dtype)
                self._decode(file, number % per_shard, length, data, chunk)
                native = chunk.dtype.newbyteorder("=")
                out.append(chunk.astype(native, copy=False))
        return out

    def _decode(self, file: Place, k: int, length: int, data: bytes, out: NDArray[Any]) -> None:
        """What was read of chunk k of a shard's file into `out`, a whole chunk."""
        if len(data) != length or not _holds(data):
            raise self._damage(file, f"chunk {k} does not match its checksum")
        try:
            _decode_chunk(self.spec, memoryview(data)[:-4], out)
        except ValueError as error:
            raise self._damage(file, f"chunk {k} {error}") from None

    def _file(self, shard: int) -> Place:
        file = self._files.get(shard)
        if file is None:
            file = self._files[shard] = self.path / self.spec.shard_key(shard)
        return file

    def _read_shard(self, shard: int, first: int, last: int, out: NDArray[Any]) -> None:
        """Entries first..last-1 of a shard, each of its chunks read, checked and decoded once."""
        index, size = self._index(shard), self.spec.chunk
        file = self._file(shard)
        chunks = range(first // size, -(-last // size))
        ranges = [_within(*index[k].tolist()) for k in chunks]
        with self._damage_if_missing(file):
            for k, (_, length), data in zip(chunks, ranges, read_ranges(file, ranges), strict=True):
                a, b = max(first, k * size), min(last, (k + 1) * size)
                target = out[a - first : b - first]
                whole = target if len(target) == size else np.empty(self.spec.chunk_shape, out.dtype)
                self._decode(file, k, length, data, whole)
                if whole is not target:
                    target[...] = whole[a - k * size : b - k * size]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indices": {}, "_files": {}}

    def _index(self, shard: int) -> NDArray[np.uint64]:
        index = self._indices.get(shard)
        if index is None:
            file = self._file(shard)
            with self._damage_if_missing(file):
                index = _parse_index(self.spec, read_tail(file, _index_bytes(self.spec)))
            if index is None:
                raise self._damage(file, "the shard's index does not match its checksum")
            self._indices[shard] = index
        return index

    @contextmanager
    def _damage_if_missing(self, file: Place) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise self._damage(file, "the file is missing") from None

    @staticmethod
    def _damage(file: Place, what: str) -> DamageError:
        return DamageError(f"{file}: {what}; the store is damaged: run `fmfbench verify`, then convert again")


def _within(offset: int, length: int) -> tuple[int, int]:
    """A range that can be asked for; an index says 2^64 - 1 of a chunk that was left out."""
    return (offset, length) if max(offset, length) <= _LARGEST else (0, 0)
