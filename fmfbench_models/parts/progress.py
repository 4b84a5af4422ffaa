"""How far a long job has come: a bar on a terminal, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

__all__ = ["Progress"]

LINE_SECONDS = 30.0


class Progress:
    """Counts `total` units of work on stderr, from `initial`.

    A terminal shows a bar; a file or a pipe gets a line every `line_seconds`, as

        fmformer: 1200 of 4000 steps (30 %), epoch 2, loss 0.4121, 0:05:00 gone, 0:11:40 left

    hidden: say nothing at all.

    Example:
        >>> with Progress(3, "step", "example", hidden=True) as bar:
        ...     for _ in range(3):
        ...         bar.update()
    """

    def __init__(
        self,
        total: int,
        unit: str,
        what: str,
        *,
        initial: int = 0,
        hidden: bool = False,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        self.total, self.unit, self.what, self.done = total, unit, what, initial
        self._initial, self._line_seconds = initial, line_seconds
        self._lines = not hidden and not sys.stderr.isatty()
        self._bar: Any = tqdm(
            total=total, initial=initial, unit=unit, desc=what, disable=hidden or self._lines
        )
        self._began = self._said = time.monotonic()
        self._facts: dict[str, object] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def tell(self, **facts: object) -> None:
        """What stands beside the count from now on."""
        self._facts = facts
        if not self._lines:
            self._bar.set_postfix(facts, refresh=False)

    def update(self, count: int = 1) -> None:
        """So many units more are done."""
        self.done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._lines and now - self._said >= self._line_seconds:
            self._said = now
            print(self._line(now - self._began), file=sys.stderr, flush=True)

    def _line(self, gone: float) -> str:
        left = gone * (self.total - self.done) / max(self.done - self._initial, 1)
        facts = "".join(f", {name} {value}" for name, value in self._facts.items())
        share = 100 * self.done / max(self.total, 1)
        times = f"{tqdm.format_interval(gone)} gone, {tqdm.format_interval(left)} left"
        return f"{self.what}: {self.done} of {self.total} {self.unit}s ({share:.0f} %){facts}, {times}"
