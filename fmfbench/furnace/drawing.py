"""Drawing blocks of frames on several threads, handed over in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tqdm import tqdm

from fmfbench.furnace.render import Block, Furnace

__all__ = ["Drawing"]


class Drawing:
    """Threads that draw, and the bar that shows how far they are. Threads suffice: numpy computes without the lock."""

    def __init__(self, workers: int, *, total: int, progress: bool) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers)
        # disable=None: off when standard error is not a terminal
        self._bar = tqdm(total=total, unit="frame", desc="FMF-Sim", disable=None if progress else True)

    def blocks(self, furnace: Furnace, *, truth_frames: bool = False, count: bool = True) -> Iterator[Block]:
        """All blocks of a recording in order, drawn a few ahead."""
        waiting: deque[Future[Block]] = deque()
        for index in range(furnace.blocks):
            waiting.append(self._pool.submit(furnace.draw_block, index, truth_frames=truth_frames))
            if len(waiting) > 2 * self._workers:
                yield self._finish(waiting.popleft(), count)
        while waiting:
            yield self._finish(waiting.popleft(), count)

    def skip(self, frames: int) -> None:
        """Count frames that need no drawing."""
        self._bar.update(frames)

    def _finish(self, block: Future[Block], count: bool) -> Block:
        done = block.result()
        if count:
            self._bar.update(len(done.video))
        return done

    def __enter__(self) -> Drawing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._bar.close()
