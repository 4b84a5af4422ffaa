"""`fmfbench watch`: a trained model on a recording, or at a furnace as it runs."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from .options import LOCAL, parse_numbers


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
    help="Frames scored above it are abnormal.  [default: the calibrated one; 0.5 without]",
)
@click.option("--pace", is_flag=True, help="A file as fast as it was taken.  [default: as fast as it goes]")
@click.option("--engine", type=click.Choice(["torch", "onnx"]), default="torch", show_default=True)
@click.option("--headless", is_flag=True, help="For a service: no page.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the page listens on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Its port.  [default: a free one]")
@click.option("--no-browser", is_flag=True, help="Print the page's address, open nothing.")
def command(
    run: Path,
    video: str,
    current: str | None,
    out: Path | None,
    crop: str | None,
    size: str | None,
    offset: float | None,
    time_format: str | None,
    threshold: float | None,
    pace: bool,
    engine: str,
    headless: bool,
    host: str,
    port: int,
    no_browser: bool,
) -> None:
    """Judge every frame with the model of RUN as frames and current rows come, show it on a page, and keep a log.

    The page is served on this machine alone, to whoever has the address that is printed. When a file has been judged
    it stays for as long as somebody looks at it.

    RUN is a run folder, a checkpoint, or fmformer-nano: a small model that ships with fmfbench, trained on FMF-Sim, for
    a look at this page and never for a real furnace.

    On a file, the scores are those of `predict`. Live, it never lags: frames are left out where the model is slower
    than the camera, or dropped where too many come at once, and how many is said. A lost camera is waited for; currents
    that stop are said. Ctrl-C ends it, and nothing is lost.

    \b
    Example:
      fmfbench watch runs/fmformer --video run8.mp4 --current run8.csv --out log --pace
      meter | fmfbench watch runs/fmformer --video rtsp://camera/1 --current - --out log --headless
    """
    from fmfbench.errors import InputError
    from fmfbench.files.wording import counted
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
        crop=parse_numbers(crop, ",", 4, "--crop expects X,Y,W,H in pixels"),
        size=parse_numbers(size, "x", 2, "--size expects WxH in pixels"),
        offset=None if offset is None else Fraction(str(offset)),
        time_format=time_format,
    )
    page = None if headless else _page_of(host, port, open_browser=not no_browser)
    chosen = detector.calibration.threshold if threshold is None else threshold
    log = WatchLog(out, chosen, append=live)
    dropped = ""
    facts = {"model": detector.model.meta.name, "video": video, "current": current, "live": live}
    try:
        with _until_interrupted() as ended:
            if live:
                count = _live(detector, video, current, options, log, ended, page, facts)
                dropped = f", {counted(count, 'frame')} dropped"
            else:
                _file(detector, Path(video), current, options, log, pace, ended, page, facts)
    finally:
        log.close()
    where = "" if out is None else f"; {out / 'frames.jsonl'}, {out / 'alarms.csv'}"
    click.echo(
        f"{log.frames} frames judged, {log.abnormal} abnormal, {counted(log.alarms, 'alarm')}{dropped}{where}"
    )


Serve = Callable[[Any], AbstractContextManager[Any]]
_BROWSER_SECONDS = 10.0  # that a browser may take to show the page of a file that was judged sooner


def _page_of(host: str, port: int, *, open_browser: bool) -> Serve:
    """What shows a `Live` on a page; MissingDependencyError where the packages for that are missing."""
    from fmfbench.errors import MissingDependencyError
    from fmfbench.studio.serve import listen, require_packages, serving

    try:
        require_packages()
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{error}, or give --headless for no page") from None
    from fmfbench_models.inference.watch_page import make_watch_app

    @contextmanager
    def shown(live: Any) -> Iterator[Any]:
        with (
            listen(host, port) as bound,
            serving(make_watch_app(live), bound, host, "watch", click.echo, open_browser) as opened,
        ):
            yield opened

    return shown


def _file(
    detector: Any,
    video: Path,
    current: str | None,
    options: Any,
    log: Any,
    pace: bool,
    ended: Callable[[], bool],
    page: Serve | None,
    facts: dict[str, Any],
) -> None:
    from fmfbench.sources.video.reader import open_video_file
    from fmfbench_models.inference.watch import part_in_doubt, watch_file

    doubt = part_in_doubt(detector.model, options, open_video_file(video).frame_size)
    if doubt is not None:
        click.echo(f"watch: {doubt}", err=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        table = None if current is None else Path(current)
        if current == "-":
            table = Path(folder) / "standard-input.csv"
            with open(table, "wb") as handle:
                shutil.copyfileobj(sys.stdin.buffer, handle)
        if page is None:
            watch_file(detector, video, table, options, log, pace=pace, ended=ended)
            return
        from fmfbench_models.inference.watch_page import Live

        live = Live(log, facts)
        if doubt is not None:
            live.say(doubt)
        opened = stack.enter_context(page(live))
        watch_file(detector, video, table, options, log, pace=pace, show=live.show, ended=ended)
        log.finish()
        live.end()
        latest = time.monotonic() + (_BROWSER_SECONDS if opened.is_set() else 0)
        while not live.is_watched and time.monotonic() < latest and not ended():
            time.sleep(0.1)
        if live.is_watched:
            click.echo("watch: the video has ended; the page stays while it is open, Ctrl-C ends", err=True)
        while live.is_watched and not ended():
            time.sleep(0.2)


def _live(
    detector: Any,
    video: str,
    current: str | None,
    options: Any,
    log: Any,
    ended: Callable[[], bool],
    page: Serve | None,
    facts: dict[str, Any],
) -> int:
    """Watch a camera until it is asked to end; how many frames the camera dropped."""
    from fmfbench_models.inference.feeds import Camera, Rows, camera_frames, follow_file
    from fmfbench_models.inference.watch import part_in_doubt, watch_camera

    told: list[Callable[[str], object]] = [lambda text: click.echo(f"watch: {text}", err=True)]

    def say(text: str) -> None:
        for one in told:
            one(text)

    doubts: set[str] = set()  # told once, not each time that the camera comes back

    def sized(size: tuple[int, int]) -> None:
        doubt = part_in_doubt(detector.model, options, size)
        if doubt is not None and doubt not in doubts:
            doubts.add(doubt)
            say(doubt)

    camera = Camera(lambda: camera_frames(video, options, sized), say)
    rows = None
    with ExitStack() as stack:
        show: Callable[[Any], object] = lambda judged: None  # noqa: E731
        if page is not None:
            from fmfbench_models.inference.watch_page import Live

            live = Live(log, facts, camera)
            told.append(live.say)
            show = live.show
            stack.enter_context(page(live))
        if current is not None:
            stream = sys.stdin if current == "-" else follow_file(Path(current))
            rows = Rows(stream, say, follow=current != "-")
            rows.start()
            stack.callback(rows.stop)
        camera.start()
        stack.callback(camera.stop)
        watch_camera(detector, camera, rows, log, say=say, show=show, ended=ended)
    return camera.dropped


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
