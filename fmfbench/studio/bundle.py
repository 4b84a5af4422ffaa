"""JSON and arrays in one answer: what the page reads at once when a recording is opened.

    uint32 little-endian: bytes of the head | head, JSON | padding to 8 bytes | arrays, each padded to 8 bytes

The head's `arrays` name each array with its type, shape and offset behind the head's padding. All numbers are
little-endian, and every array lies at a multiple of 8 bytes, so that the page makes views instead of copies.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "unpack"]

_ALIGN = 8


def pack(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """One answer of `facts`, which JSON can hold, and `arrays` of uint8, int32, float32 or float64."""
    table, pieces, offset = {}, [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        table[name] = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": offset}
        pieces += [data.tobytes(), bytes(-data.nbytes % _ALIGN)]
        offset += data.nbytes + -data.nbytes % _ALIGN
    head = json.dumps({**facts, "arrays": table}, allow_nan=False).encode()
    return b"".join((struct.pack("<I", len(head)), head, bytes(-(4 + len(head)) % _ALIGN), *pieces))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The inverse of `pack`; what the page does in JavaScript."""
    (length,) = struct.unpack_from("<I", data)
    facts = json.loads(data[4 : 4 + length])
    start = 4 + length + -(4 + length) % _ALIGN
    arrays = {}
    for name, entry in facts.pop("arrays").items():
        count = int(np.prod(entry["shape"], dtype=np.int64))
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        flat = np.frombuffer(data, dtype, count, start + entry["offset"])
        arrays[name] = flat.reshape(entry["shape"])
    return facts, arrays
