"""Work done ahead by threads, its results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["cancel", "default_threads", "in_order"]

Key = TypeVar("Key")
Made = TypeVar("Made")

_AHEAD = 2  # results waiting or in the making, for each thread


def default_threads() -> int:
    """Threads for decoding: the cores this process may use, four at most."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(4, len(usable))


def in_order(make: Callable[[Key], Made], keys: Iterable[Key], threads: int) -> Iterator[Made]:
    """make(key) of every key, in order and a few ahead; without threads each when it is asked for.

    The threads end with the iteration, so that none is there when a process is forked later.
    """
    if not threads:
        yield from map(make, keys)
        return
    with ThreadPoolExecutor(threads, "fmfbench-windows") as pool:
        pending: deque[Future[Made]] = deque()
        try:
            for key in keys:
                pending.append(pool.submit(make, key))
                if len(pending) > _AHEAD * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            cancel(pending)


def cancel(pending: Iterable[Future[Made]]) -> None:
    for future in pending:
        future.cancel()
