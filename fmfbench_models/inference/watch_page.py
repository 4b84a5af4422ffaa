"""The page of `fmfbench watch`: what the model says of each frame, shown as it says it."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fmfbench.clock import NS
from fmfbench.scoring.events import ALARM_HOLD_SECONDS
from fmfbench.studio.bundle import pack
from fmfbench.studio.page import page_routes
from fmfbench_models.inference.feeds import Camera
from fmfbench_models.inference.watch import Judged
from fmfbench_models.inference.watch_log import WatchLog

__all__ = ["Live", "make_watch_app"]

_KEPT = 100_000  # frames and rows that a page opened later still sees: over an hour at 25 a second
_MOST_AT_ONCE = 20_000
_WATCHED_SECONDS = 10.0


class Live:
    """What watching has come to, for any number of pages. Methods may be called from any thread.

    Args:
        log: of the same frames; whose alarms are shown.
        facts: joins what every answer says: names of model and video, for example.
        camera: asked whether it is lost and how many frames it dropped; None for a file.
    """

    def __init__(self, log: WatchLog, facts: dict[str, Any], camera: Camera | None = None) -> None:
        self._log, self._facts, self._camera = log, dict(facts), camera
        self._lock = threading.Lock()
        self._frames: deque[tuple[int, float, bool, bool]] = deque(maxlen=_KEPT)  # ns, score, abnormal, stale
        self._rows: deque[tuple[int, list[float]]] = deque(maxlen=_KEPT)
        self._frames_seen = self._rows_seen = 0
        self._remarks: deque[tuple[float, str]] = deque(maxlen=200)
        self._newest: Judged | None = None
        self._came_at = time.monotonic()
        self._asked_at: float | None = None
        self._ended = False

    def show(self, judged: Judged) -> None:
        """A frame that was judged."""
        found = judged.found
        with self._lock:
            self._newest = judged
            self._frames.append((found.time, found.score, judged.abnormal, judged.stale))
            self._rows.extend(judged.rows)
            self._frames_seen += 1
            self._rows_seen += len(judged.rows)
            self._came_at = time.monotonic()

    def say(self, text: str) -> None:
        """What a person has to know."""
        with self._lock:
            self._remarks.append((time.time(), text))

    def end(self) -> None:
        """No frame comes any more."""
        with self._lock:
            self._ended = True

    @property
    def is_watched(self) -> bool:
        """Whether a page has asked within the last seconds."""
        return self._asked_at is not None and time.monotonic() - self._asked_at < _WATCHED_SECONDS

    def since(self, frames: int, rows: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What has come since a page had so many frames and rows: facts as JSON, and arrays.

        Arrays: of the frames `seconds` (n,) float64 since the first of all that are kept, `score` (n,) float32,
        `abnormal` and `stale` (n,) uint8; of the rows `current_seconds` (m,) and `current` (m,3) A; of the newest frame
        `image` (H,W,3) and, of a dense model, `mask` (H,W) uint8 of 0 and 1.
        """
        with self._lock:
            self._asked_at = time.monotonic()
            begins = self._frames_seen - len(self._frames)
            first = max(frames, begins) if frames <= self._frames_seen else begins
            new = _slice(self._frames, first - begins)
            rows_begin = self._rows_seen - len(self._rows)
            first_row = max(rows, rows_begin) if rows <= self._rows_seen else rows_begin
            new_rows = _slice(self._rows, first_row - rows_begin)
            newest = self._newest
            start = self._frames[0][0] if self._frames else 0
            facts = {
                **self._facts,
                "threshold": self._log.threshold,
                "hold_seconds": ALARM_HOLD_SECONDS,
                "first": first,
                "frames": first + len(new),
                "first_row": first_row,
                "rows": first_row + len(new_rows),
                "more": first + len(new) < self._frames_seen,
                "judged": self._log.frames,
                "abnormal": self._log.abnormal,
                "alarms": self._log.alarms,
                "alarm": _alarm(self._log.alarm),
                "past": [_alarm(alarm) for alarm in list(self._log.past)[-50:]],
                "remarks": [[at, text] for at, text in self._remarks],
                "ended": self._ended,
                "quiet_seconds": time.monotonic() - self._came_at,
                "lost_seconds": self._lost_seconds(),
                "dropped": None if self._camera is None else self._camera.dropped,
            }
        arrays: dict[str, NDArray[Any]] = {
            "seconds": np.array([f[0] - start for f in new], np.float64) / NS,
            "score": np.array([f[1] for f in new], np.float32),
            "abnormal": np.array([f[2] for f in new], np.uint8),
            "stale": np.array([f[3] for f in new], np.uint8),
            "current_seconds": np.array([r[0] - start for r in new_rows], np.float64) / NS,
            "current": np.array([r[1] for r in new_rows], np.float32).reshape(-1, 3),
        }
        facts["start_ns"] = str(start)
        facts["newest"] = None
        if newest is not None:
            found = newest.found
            facts["newest"] = {
                "frame": newest.frame,
                "time_ns": str(found.time),
                "score": found.score,
                "abnormal": newest.abnormal,
                "stale": newest.stale,
                "video_valid": [int(found.video_valid.sum()), len(found.video_valid)],
                "current_valid": [int(found.current_valid.sum()), len(found.current_valid)],
            }
            facts["size"] = {"height": newest.image.shape[0], "width": newest.image.shape[1]}
            arrays["image"] = newest.image
            if found.mask is not None:
                arrays["mask"] = found.mask.astype(np.uint8)
        return facts, arrays

    def _lost_seconds(self) -> float | None:
        lost = None if self._camera is None or self._ended else self._camera.lost_at
        return None if lost is None else time.monotonic() - lost


def make_watch_app(live: Live) -> Starlette:
    """The page and what it asks for; who may ask is `fmfbench.studio.guard`'s to say."""

    def since(request: Request) -> Response:
        counts = [request.query_params.get(key, "0") for key in ("frames", "rows")]
        if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in counts):
            return JSONResponse({"error": "expected frames and rows as whole numbers of at least 0"}, 400)
        frames, rows = map(int, counts)
        return Response(pack(*live.since(frames, rows)), media_type="application/octet-stream")

    return Starlette(routes=[Route("/api/live", since), *page_routes("watch.html")])


def _slice(kept: deque[Any], start: int) -> list[Any]:
    """Entries from `start` on, at most so many. A deque is read from its nearer end."""
    return list(islice(reversed(kept), max(0, len(kept) - start)))[::-1][:_MOST_AT_ONCE]


def _alarm(alarm: tuple[int, int, float] | None) -> dict[str, Any] | None:
    if alarm is None:
        return None
    return {"start_ns": str(alarm[0]), "end_ns": str(alarm[1]), "peak": alarm[2]}
