"""`fmfbench watch`: a trained model on a recording, or at a furnace as it runs."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from .options import LOCAL


@click.command("watch", short_help="A trained model on a video and its currents, live or not.")
@click.argument("run", type=LOCAL)
@click.option(
    "--video", required=True, metavar="FILE|URL|N", help="A file, a stream's URL, or a camera's number."
)
@click.option(
    "--current",
    metavar="FILE|-",
    help="Table of the currents; - reads standard input. Live, rows as they arrive.",
)
@click.option("-o", "--out", type=LOCAL, metavar="DIR", help="Folder for frames.jsonl and alarms.csv.")
@click.option("--crop", metavar="X,Y,W,H", help="Part of the video to keep.  [default: as in training]")
@click.option("--size", metavar="WxH", help="Size to shrink it to.  [default: as in training]")
@click.option("--offset", type=float, metavar="S", help="Seconds added to a file's times against its table.")
@click.option("--time-format", metavar="FORMAT", help="Of a file's table, as for `convert`.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Frames scored above it are abnormal.",
)
@click.option("--pace", is_flag=True, help="A file as fast as it was taken.  [default: as fast as it goes]")
@click.option("--engine", type=click.Choice(["torch", "onnx"]), default="torch", show_default=True)
@click.option("--headless", is_flag=True, help="For a service; taken, and so far the only way to run.")
def command(
    run: Path,
    video: str,
    current: str | None,
    out: Path | None,
    crop: str | None,
    size: str | None,
    offset: float | None,
    time_format: str | None,
    threshold: float,
    pace: bool,
    engine: str,
    headless: bool,
) -> None:
    """Judge every frame with the model of RUN as frames and current rows come, and keep a log.

    On a file, the scores are those of `predict`. Live, it never lags: frames are left out where the model is slower
    than the camera, and that is said. A lost camera is waited for; currents that stop are said. Ctrl-C ends it, and
    nothing is lost.

    \b
    Example:
      fmfbench watch runs/fmformer --video run8.mp4 --current run8.csv --out log --headless
      meter | fmfbench watch runs/fmformer --video rtsp://camera/1 --current - --out log --headless
    """
    from fmfbench.errors import InputError
    from fmfbench_models.detector import Detector
    from fmfbench_models.inference.watch import options_of
    from fmfbench_models.inference.watch_log import WatchLog

    live = "://" in video or video.isdecimal()
    if not live and not Path(video).is_file():
        raise InputError(f"{video}: expected a video file, a URL or a camera's number, got nothing there")
    if current not in (None, "-") and not Path(str(current)).is_file():
        raise InputError(f"{current}: expected a table of currents, got no such file; - reads standard input")
    detector = Detector(run, engine=engine)  # type: ignore[arg-type]
    if current is None and detector.model.modality != "visual":
        raise InputError(
            f"{detector.model.meta.name}: expected --current, got none; the model judges by the currents too"
        )
    options = options_of(
        detector.model,
        crop=_numbers(crop, ",", 4, "--crop expects X,Y,W,H in pixels"),
        size=_numbers(size, "x", 2, "--size expects WxH in pixels"),
        offset=None if offset is None else Fraction(str(offset)),
        time_format=time_format,
    )
    log = WatchLog(out, threshold, append=live)
    try:
        with _until_interrupted() as ended:
            if live:
                _live(detector, video, current, options, log, ended)
            else:
                _file(detector, Path(video), current, options, log, pace, ended)
    finally:
        log.close()
    where = "" if out is None else f"; {out / 'frames.jsonl'}, {out / 'alarms.csv'}"
    click.echo(f"{log.frames} frames judged, {log.abnormal} abnormal, {log.alarms} alarms{where}")


def _file(
    detector: Any,
    video: Path,
    current: str | None,
    options: Any,
    log: Any,
    pace: bool,
    ended: Callable[[], bool],
) -> None:
    from fmfbench_models.inference.watch import watch_file

    with tempfile.TemporaryDirectory() as folder:
        table = None if current is None else Path(current)
        if current == "-":
            table = Path(folder) / "standard-input.csv"
            with open(table, "wb") as handle:
                shutil.copyfileobj(sys.stdin.buffer, handle)
        watch_file(detector, video, table, options, log, pace=pace, ended=ended)


def _live(
    detector: Any, video: str, current: str | None, options: Any, log: Any, ended: Callable[[], bool]
) -> None:
    from fmfbench_models.inference.feeds import Camera, Rows, camera_frames, follow_file
    from fmfbench_models.inference.watch import watch_camera

    def say(text: str) -> None:
        click.echo(f"watch: {text}", err=True)

    camera = Camera(lambda: camera_frames(video, options), say)
    rows = None
    if current is not None:
        stream = sys.stdin if current == "-" else follow_file(Path(current))
        rows = Rows(stream, say, follow=current != "-")
        rows.start()
    camera.start()
    try:
        watch_camera(detector, camera, rows, log, say=say, ended=ended)
    finally:
        camera.stop()
        if rows is not None:
            rows.stop()


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """A question whether SIGINT or SIGTERM has come; a second one ends at once."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers(text: str | None, separator: str, count: int, expected: str) -> tuple[int, ...] | None:
    from fmfbench.errors import InputError

    if text is None:
        return None
    parts = text.lower().split(separator)
    if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"{expected}, got {text!r}")
    return tuple(int(part) for part in parts)
