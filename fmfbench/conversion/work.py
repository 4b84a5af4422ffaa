"""The threads of one conversion."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

__all__ = ["Work"]

_MOST_LANES = 8  # each holds a shard


class Work:
    """Threads of one conversion: those that encode, and two that hash beside them."""

    def __init__(self, workers: int) -> None:
        self.lanes = min(workers, _MOST_LANES)
        self.stopped = threading.Event()
        self._encoders = ThreadPoolExecutor(self.lanes, "fmfbench-encode")
        self._hashers = ThreadPoolExecutor(1, "fmfbench-hash")
        self._accounts = ThreadPoolExecutor(1, "fmfbench-fingerprint")

    def encode(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._encoders.submit(task, *arguments)

    def shards(self) -> Encoding:
        return Encoding(self)

    def aside(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """One after the other, beside the encoding: hashes of source files."""
        return self._hashers.submit(task, *arguments)

    def in_order(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """One after the other, in the order given: what the fingerprint is made of."""
        return self._accounts.submit(task, *arguments)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            self.stopped.set()
        for pool in (self._encoders, self._hashers, self._accounts):
            pool.shutdown(cancel_futures=error is not None)


class Encoding:
    """Shards of one array that are being encoded: few at a time, which bounds the memory that a conversion takes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pending: set[Future[Any]] = set()

    def wait_for_room(self) -> None:
        if len(self._pending) > self._work.lanes:
            done, self._pending = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()

    def add(self, task: Callable[..., Any], *arguments: Any) -> None:
        self._pending.add(self._work.encode(task, *arguments))

    def finish(self) -> None:
        for future in self._pending:
            future.result()
