"""One prediction file from several processes: each judges a run of whole batches, the first one collects.

Shares are cut at multiples of the batch size, so that every batch is the one that a single process would see: what a
matrix product gives may depend, in its last bits, on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from fmfbench_models.training.parallel import World

__all__ = ["collect", "share_of"]

_BLOCK_BYTES = 1 << 26


def share_of(count: int, batch_size: int, rank: int, size: int) -> slice:
    """Which of `count` windows, in order, a process judges: whole batches, as evenly as they go; may be empty.

    Example:
        >>> [share_of(10, 4, rank, 2) for rank in range(2)]
        [slice(0, 8, None), slice(8, 10, None)]
    """
    batches = -(-count // batch_size)
    first = -(-batches * rank // size) * batch_size
    last = -(-batches * (rank + 1) // size) * batch_size
    return slice(min(first, count), min(last, count))


def collect(
    world: World, arrays: Mapping[str, Any], shares: list[slice], scratch: Path
) -> dict[str, Any] | None:
    """Bring the arrays of all processes together in the first one, in order; None in the others.

    Args:
        world: of the processes.
        arrays: of this process: numpy arrays (n, ...) of its own share, and `mask_shape`, which all share.
        shares: of every process.
        scratch: a folder of this process, for arrays that shall not be in memory whole.
    """
    if not world.is_first:
        for name in _names(arrays):
            _send(world, np.ascontiguousarray(arrays[name]))
        return None
    count = shares[-1].stop
    whole = dict(arrays)
    for name in _names(arrays):
        own: NDArray[Any] = arrays[name]
        shape = (count, *own.shape[1:])
        out = np.lib.format.open_memmap(scratch / f"all-{name}.npy", "w+", own.dtype, shape)
        out[shares[0]] = own
        whole[name] = out
    for rank in range(1, world.size):
        if shares[rank].start < shares[rank].stop:
            for name in _names(arrays):
                _receive(world, rank, whole[name][shares[rank]])
    return whole


def _names(arrays: Mapping[str, Any]) -> list[str]:
    return sorted(name for name, value in arrays.items() if isinstance(value, np.ndarray))


def _blocks(array: NDArray[Any]) -> list[slice]:
    step = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    return [slice(start, start + step) for start in range(0, len(array), step)]


def _send(world: World, array: NDArray[Any]) -> None:
    for rows in _blocks(array):
        piece = torch.frombuffer(bytearray(array[rows].tobytes()), dtype=torch.uint8)
        dist.send(piece.to(world.device), dst=0)


def _receive(world: World, rank: int, out: NDArray[Any]) -> None:
    for rows in _blocks(out):
        piece = torch.empty(out[rows].nbytes, dtype=torch.uint8, device=world.device)
        dist.recv(piece, src=rank)
        out[rows] = np.frombuffer(piece.cpu().numpy().tobytes(), out.dtype).reshape(out[rows].shape)
