"""A trained model at a furnace: frames and currents as they come, a score for each, alarms, and a log."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import InputError
from fmfbench.files.wording import counted
from fmfbench.sources.source import Options
from fmfbench_models.detector import Detection, Detector
from fmfbench_models.inference.feeds import Camera, Moment, Row, Rows, file_moments
from fmfbench_models.inference.watch_log import WatchLog
from fmfbench_models.interface import Model

__all__ = ["Judged", "options_of", "part_in_doubt", "watch_camera", "watch_file"]

_SAY_EVERY_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A frame that was judged, for whoever shows it, and the current rows (ns, A) since the one before."""

    frame: int
    image: NDArray[np.uint8]
    found: Detection
    abnormal: bool
    alarm: bool
    stale: bool
    rows: list[Row]


Show = Callable[[Judged], object]
Say = Callable[[str], object]


def options_of(model: Model, **given: Any) -> Options:
    """How frames and currents are read: as in the store that the model was trained on, where nothing else is given.

    Args:
        model: a trained one.
        given: fields of `Options`; None leaves what the store says.

    Raises:
        InputError: the size of a frame is not known.
    """
    data = model.meta.provenance.get("data", {})
    kept = data.get("options", {}) if isinstance(data, dict) else {}
    options = Options(
        names={k: v for k, v in kept.get("map", {}).items() if k not in ("video", "data", "label")},
        time_format=kept.get("time_format"),
        crop=tuple(kept["crop"]) if kept.get("crop") else None,
        offset=Fraction(kept.get("offset", 0)),
        current_hz=Fraction(kept["current_hz"]) if kept.get("current_hz") else None,
        decimal=kept.get("decimal"),
    )
    sizes = data.get("frame_size", []) if isinstance(data, dict) else []
    if kept.get("size"):
        options = replace(options, size=tuple(kept["size"]))
    elif len(sizes) == 1:
        options = replace(options, size=tuple(sizes[0]))
    options = replace(options, **{name: value for name, value in given.items() if value is not None})
    if options.size is None:
        raise InputError(
            f"{model.meta.name}: expected the size of the frames it was trained on, got a run that does not tell it; "
            "give --size WxH"
        )
    return options


def part_in_doubt(model: Model, options: Options, size: tuple[int, int]) -> str | None:
    """What to tell where a picture is shrunk whole to training frames that may have shown a part of theirs.

    Files of the official form hold small frames and not how they were cut; a crop or size of the training store's
    conversion, or a crop in `options`, leaves no doubt.

    Args:
        model: a trained one.
        options: of `options_of`.
        size: width, height of the picture.
    """
    data = model.meta.provenance.get("data", {})
    kept = data.get("options", {}) if isinstance(data, dict) else {}
    if options.crop or options.size in (None, size) or kept.get("crop") or kept.get("size"):
        return None
    small = "x".join(map(str, options.size))
    return (
        f"the whole picture of {size[0]}x{size[1]} is shrunk to {small}, and {model.meta.name} does not say what part "
        f"of one its training frames of {small} showed; give --crop X,Y,W,H if the furnace shell is a part of it"
    )


def watch_file(
    detector: Detector,
    video: Path,
    table: Path | None,
    options: Options,
    log: WatchLog,
    *,
    pace: bool = False,
    show: Show = lambda judged: None,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Judge every frame of a recording; the scores are those of `predict` on the store that `convert` makes of it.

    Args:
        detector: not fed before.
        video, table, options: as in `file_moments`.
        log: closed by the caller.
        pace: as fast as the frames were taken; otherwise as fast as it goes.
        show: called with each judged frame.
        ended: asked before each frame; True stops.
    """
    whole = detector.protocol.alignment == "official"
    begun: tuple[float, int] | None = None
    for moment in file_moments(video, table, options, whole_seconds=whole):
        if ended():
            return
        if pace:
            begun = begun or (time.monotonic(), moment.time)
            time.sleep(max(0.0, begun[0] + (moment.time - begun[1]) / NS - time.monotonic()))
        for stamp, row in moment.rows:
            detector.current(stamp, row)
        _judge(detector, moment, log, show)


def watch_camera(
    detector: Detector,
    camera: Camera,
    rows: Rows | None,
    log: WatchLog,
    *,
    say: Say,
    show: Show = lambda judged: None,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Judge what a camera shows, never lagging behind it.

    Frames that have newer ones behind them are kept for their windows but not judged, and how many that are is said; so
    is how many the camera had to drop, which no window has.

    A current that is older than the protocol's tolerance is said when it begins and when it is over, and stands in
    the log as `current_stale`; the windows are then padded as everywhere.
    """
    tolerance = detector.protocol.tolerance_ns
    newest: int | None = None
    stale = False
    arrived = judged = dropped = 0
    since: list[Row] = []
    told = time.monotonic()
    while not ended():
        if camera.problem is not None:
            raise camera.problem
        try:
            number, stamp, image = camera.arrived.get(timeout=0.2)
        except queue.Empty:
            continue
        for row_time, row in rows.take() if rows is not None else []:
            detector.current(row_time, row)
            since.append((row_time, row))
            newest = row_time
        arrived += 1
        if rows is not None:
            now_stale = newest is None or stamp - newest > tolerance
            if now_stale != stale:
                say(_stale_text(now_stale, newest, stamp))
                stale = now_stale
        if not camera.arrived.empty():
            detector.keep(stamp, image)
        else:
            judged += 1
            moment, since = Moment(frame=number, time=stamp, image=image, rows=since), []
            _judge(detector, moment, log, show, stale=stale)
        if time.monotonic() - told >= _SAY_EVERY_SECONDS:
            if arrived > 1.2 * judged:
                say(
                    f"judging one frame in {arrived / max(judged, 1):.1f}: the model is slower than the camera"
                )
            if camera.dropped > dropped:
                say(
                    f"{counted(camera.dropped - dropped, 'frame')} dropped, too many at once: no window has them"
                )
                dropped = camera.dropped
            told, arrived, judged = time.monotonic(), 0, 0


def _stale_text(stale: bool, newest: int | None, stamp: int) -> str:
    if not stale:
        return "currents arrive again"
    age = "none has arrived yet" if newest is None else f"the last is {(stamp - newest) / NS:.1f} s old"
    return f"no current: {age}; windows are padded"


def _judge(detector: Detector, moment: Moment, log: WatchLog, show: Show, *, stale: bool = False) -> None:
    found = detector.frame(moment.time, moment.image)
    more = {"current_stale": True} if stale else {}
    abnormal = log.add(moment.frame, moment.time, found.score, **more)
    show(
        Judged(
            frame=moment.frame,
            image=moment.image,
            found=found,
            abnormal=abnormal,
            alarm=log.sounding,
            stale=stale,
            rows=moment.rows,
        )
    )
