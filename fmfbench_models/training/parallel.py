"""One process or many: who am I, and what do we know together.

Set up by `torchrun` through the environment.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from fmfbench.errors import InputError
from fmfbench_models.parts.freed_memory import keep_freed_memory

__all__ = ["World", "check_device", "first_s_bytes", "gather_by_id", "joined", "sum_over_ranks"]


@dataclass(frozen=True)
class World:
    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


def check_device(device: str | None = None) -> str:
    """The device asked for, by default a GPU where there is one; InputError where it cannot be had."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        why = "this PyTorch is built for CPUs" if torch.version.cuda is None else "PyTorch sees none"
        raise InputError(
            f"device {device}: expected a GPU, got none ({why}); take cpu, or leave the device out"
        )
    return device


@contextmanager
def joined(device: str | None = None) -> Iterator[World]:
    """The processes that run this together; alone unless started by torchrun. nccl on GPUs, gloo on CPUs.

    On the CPU the process keeps freed memory from then on (`keep_freed_memory`).

    Several runs in one launch stand inside one `joined`, and share its group: torchrun's store still holds the
    addresses of a group that has ended, so a second one could wait for them for ever.
    """
    kind = check_device(device)
    if kind == "cpu":
        keep_freed_memory()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, torch.device(kind))
        return
    if dist.is_initialized():
        own = f"cuda:{torch.cuda.current_device()}" if kind == "cuda" else kind
        yield World(dist.get_rank(), dist.get_world_size(), torch.device(own))
        return
    if kind == "cuda":
        kind = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(kind)
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    # Only a run that went well is taken down together: one that failed must not wait for the others, which may be
    # waiting for it. Its exit closes the connections, and torchrun ends them.
    yield World(dist.get_rank(), size, torch.device(kind))
    # A wrapped model that lingers in a reference cycle keeps the group's threads alive past this, up to the
    # interpreter's end, where gloo's abort the process ("terminate called without an active exception").
    gc.collect()
    dist.destroy_process_group()


def first_s_bytes(world: World, data: bytes | None) -> bytes | None:
    """What the first process has, in every process: None where it has none."""
    if world.size == 1:
        return data
    length = torch.tensor([-1 if data is None else len(data)], device=world.device)
    dist.broadcast(length, 0)
    if int(length) < 0:
        return None
    sent = torch.empty(int(length), dtype=torch.uint8)
    if world.is_first and data:
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    sent = sent.to(world.device)
    if len(sent):
        dist.broadcast(sent, 0)
    return sent.cpu().numpy().tobytes()


def gather_by_id(world: World, ids: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """The rows of all processes, sorted by id; every process gets all of them. columns: (n,) or (n, k)."""
    if world.size > 1:
        ids, *columns = (_gathered(world, part) for part in (ids, *columns))  # type: ignore[assignment]
    order = torch.argsort(ids)
    return tuple(part[order] for part in (ids, *columns))


def _gathered(world: World, part: Tensor) -> Tensor:
    """Processes may hold different numbers of rows: pad to the longest, exchange, cut."""
    part = part.to(world.device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=world.device) for _ in range(world.size)]
    dist.all_gather(lengths, torch.tensor([len(part)], device=world.device))
    longest = max(int(length) for length in lengths)
    padded = part.new_zeros(longest, *part.shape[1:])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world.size)]
    dist.all_gather(parts, padded)
    return torch.cat([piece[: int(length)] for piece, length in zip(parts, lengths, strict=True)]).cpu()


def sum_over_ranks(world: World, value: Tensor) -> Tensor:
    """Exact for integers."""
    value = value.to(world.device)
    if world.size > 1:
        dist.all_reduce(value)
    return value.cpu()
