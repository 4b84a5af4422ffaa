"""`annotate` in the background: the draft becomes layers of the store, while the page shows how far it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from fmfbench.annotation.annotate import annotate
from fmfbench.annotation.keyframes import Keyframes
from fmfbench.errors import AnnotationError, BusyError, FmfbenchError
from fmfbench.studio.library import Library

__all__ = ["Applying", "Wish"]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What to write.

    Names of the layers (`refined` None: the boxes alone), whether they become the default, and the radius, as of
    `annotate`.
    """

    boxes: str
    refined: str | None
    margin: bool
    as_default: bool
    radius: str | None = None


class Applying:
    """At most one run of `annotate` at a time; `state` says where it stands."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"state": "idle"}
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> dict[str, Any]:
        """`state` idle, running, done or failed; frames `done` of `total`; layers `written`; or an `error`."""
        with self._lock:
            return dict(self._state)

    def start(self, keyframes: Keyframes, wish: Wish) -> None:
        """Begin.

        Raises:
            BusyError: a run has not ended yet.
            AnnotationError: nothing is labelled.
        """
        if not keyframes.recordings:
            raise AnnotationError("expected at least one labelled recording to apply, got none")
        counts = {name: r.num_frames for name, r in self._library.data.recordings.items()}
        layers = 1 + (wish.refined is not None) + wish.margin
        total = layers * sum(counts[name] for name in keyframes.recordings)
        with self._lock:
            if self._state["state"] == "running":
                raise BusyError("annotate is still running; wait until it has finished")
            self._state = {"state": "running", "done": 0, "total": total}
        self._thread = threading.Thread(target=self._run, args=(keyframes, wish), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the run has ended; a run that is killed instead resumes when it is asked for again."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, keyframes: Keyframes, wish: Wish) -> None:
        try:
            written = annotate(
                self._library.path,
                keyframes,
                boxes=wish.boxes,
                refined=wish.refined,
                radius=wish.radius,
                margin=wish.margin,
                as_default=wish.as_default,
                advance=self._advance,
            )
            end = {"state": "done", "written": written}
        except (FmfbenchError, OSError) as error:
            end = {"state": "failed", "error": str(error)}
        with self._lock:
            self._state = end

    def _advance(self, frames: int) -> None:
        with self._lock:
            self._state["done"] += frames
