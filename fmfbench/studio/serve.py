"""The studio as a process: a socket, an address with its token, and an end that loses nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmfbench.errors import FailedError, MissingDependencyError
from fmfbench.files.lock import target_lock

if TYPE_CHECKING:
    from fmfbench.studio.judging import Judge

__all__ = ["address_of", "listen", "require_packages", "run_server", "serve_studio", "serving"]

_SAVE_EVERY_SECONDS = 0.5


def require_packages() -> None:
    """MissingDependencyError unless the packages of the extra `studio` are installed."""
    try:
        import starlette
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"expected the package {error.name}, got none; pip install 'fmfbench[studio]'"
        ) from error
    del starlette


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. FailedError where the address cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as undo:
            bound = undo.enter_context(socket.socket(family, kind))
            if sys.platform != "win32":  # there it would let two servers share a port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(64)
            undo.pop_all()
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise FailedError(f"{host}:{port}: cannot listen there: {why}; choose another --port") from error
    return bound


def address_of(host: str, port: int, token: str) -> str:
    """The address to open."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/?token={token}"


def run_server(
    app: Any, bound: socket.socket, host: str, name: str, tell: Callable[[str], object], open_browser: bool
) -> None:
    """Serve an application behind the guard until interrupted (SIGINT or SIGTERM).

    Args:
        app: ASGI.
        bound: what `listen` gave.
        host: the host that was asked for.
        name: stands before the address in the line that is told.
        tell: called once with `NAME: ADDRESS`, when requests are taken.
        open_browser: open the address.
    """
    server, address = _server(app, bound, host)
    with contextlib.suppress(KeyboardInterrupt), _ending_softly():
        tell(f"{name}: {address}")
        if open_browser:
            _open(address)
        server.run(sockets=[bound])


@contextlib.contextmanager
def serving(
    app: Any, bound: socket.socket, host: str, name: str, tell: Callable[[str], object], open_browser: bool
) -> Iterator[threading.Event]:
    """Serve beside the body of a `with`, and stop when it ends.

    Arguments as of `run_server`; the event is set once a browser has taken the address.
    """
    server, address = _server(app, bound, host)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    tell(f"{name}: {address}")
    opened = threading.Event()
    if open_browser:
        _open(address, opened)
    try:
        yield opened
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _server(app: Any, bound: socket.socket, host: str) -> tuple[Any, str]:
    """A server of the application behind the guard, and its address."""
    import uvicorn

    from fmfbench.studio.guard import Guard, new_token

    port, token = bound.getsockname()[1], new_token()
    config = uvicorn.Config(
        Guard(app, token=token, host=host, port=port),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config), address_of(host, port, token)


def _open(address: str, opened: threading.Event | None = None) -> None:
    def work() -> None:
        if webbrowser.open(address) and opened is not None:
            opened.set()

    threading.Thread(target=work, daemon=True).start()


@contextlib.contextmanager
def _ending_softly() -> Iterator[None]:
    """Let SIGTERM end as SIGINT does.

    The server hands a signal on when it has shut down, and the default would then end the process before anything is
    saved.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: there are no signals to handle
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def serve_studio(
    store: Path,
    *,
    predictions: Sequence[Path] = (),
    judges: Sequence[Judge] = (),
    keyframes: Path | None = None,
    truth: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    read_only: bool = False,
    open_browser: bool = True,
    tell: Callable[[str], object] = print,
) -> None:
    """Serve the studio of a store until interrupted.

    Args:
        store: a finished store.
        predictions: prediction files to show.
        judges: models that judge the recording that is shown, while it is.
        keyframes: where labels are kept; by default `NAME.keyframes.json` beside the store.
        truth: FMF-Sim's folder of hidden states.
        host, port: where to listen; port 0 takes a free one.
        read_only: nothing can be changed.
        open_browser: open the page.
        tell: called with `studio: ADDRESS` when the page can be opened.

    Raises:
        InputError: a store, prediction file or keyframes that cannot be shown.
        BusyError: another studio holds the same keyframes.
        FailedError: the address is taken.
        MissingDependencyError: the extra `studio` is not installed.
    """
    require_packages()
    from fmfbench.studio.api import make_app
    from fmfbench.studio.apply import Applying
    from fmfbench.studio.draft import Draft
    from fmfbench.studio.library import Library, frame_of, read_visibility
    from fmfbench.studio.live_refine import warm_up

    library = Library(store, predictions, judges=judges)
    if truth is not None:
        library.visibility = read_visibility(truth, library.data)
    path = keyframes if keyframes is not None else store.absolute().with_name(f"{store.stem}.keyframes.json")
    with contextlib.nullcontext() if read_only else target_lock(path):
        draft = Draft(path, frame_of(library.data), read_only=read_only)
        applying = Applying(library)
        with listen(host, port) as bound, _saving(draft):
            threading.Thread(target=warm_up, daemon=True).start()
            run_server(make_app(library, draft, applying), bound, host, "studio", tell, open_browser)
        for run in library.runs:
            run.stop()
        applying.wait()


@contextlib.contextmanager
def _saving(draft: Any) -> Iterator[None]:
    """Bring the file up to date twice a second, and at the end."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(_SAVE_EVERY_SECONDS):
            if not draft.read_only:
                with contextlib.suppress(OSError, FailedError):  # a full disk: the next round tries again
                    draft.save()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        draft.close()
