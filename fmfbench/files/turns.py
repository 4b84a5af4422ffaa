"""Turns at a piece of work in a folder that several machines see: who has one holds a small file and keeps it fresh.

A turn is a file made by exclusive creation, which also network file systems do in one step. While it is held a thread
touches it every few seconds; a file that nobody has touched for `STALE` seconds, or for `QUIET` seconds if its process
on this machine is gone, is taken over. Locks of the operating system (`files.lock`) are surer, but of one machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fmfbench.errors import BusyError

__all__ = ["STALE", "live_turns", "turn"]

BEAT = 15.0  # seconds between touches
QUIET = 45.0  # seconds without one after which a turn is dead if no process of its number runs on its machine
STALE = 300.0  # seconds without one after which a turn is dead in any case


@dataclass(frozen=True)
class _Holder:
    token: str
    host: str
    process: int


@contextlib.contextmanager
def turn(path: Path, *, beat: float = BEAT, stale: float = STALE) -> Iterator[None]:
    """Hold the turn `path` while the block runs.

    Args:
        path: a file that exists while it is held; its folder is made.
        beat: seconds between touches.
        stale: seconds without a touch after which a turn is taken over.

    Raises:
        BusyError: another process has it.

    Example:
        >>> from pathlib import Path
        >>> with turn(Path("turns/vit-seed0")):
        ...     Path("turns/vit-seed0").exists()
        True
        >>> Path("turns/vit-seed0").exists()
        False
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = _Holder(uuid.uuid4().hex, socket.gethostname(), os.getpid())
    if not _create(path, own):
        _take_over(path, own, stale)
    ended = threading.Event()
    thread = threading.Thread(target=_keep_fresh, args=(path, own, ended, beat), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if _read(path) == own:
            path.unlink(missing_ok=True)


def live_turns(folder: Path, *, stale: float = STALE) -> list[str]:
    """Names of the turns in a folder that some process holds."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(path.name for path in files if not _is_dead(path, _read(path), stale))


def _create(path: Path, own: _Holder) -> bool:
    """Whether the file was not there and is now ours."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(_text(own))
    return True


def _take_over(path: Path, own: _Holder, stale: float) -> None:
    """Put our turn in the place of a dead one; BusyError where it is alive, or another is quicker."""
    holder = _read(path)
    if not _is_dead(path, holder, stale):
        raise BusyError(f"{path}: another process has this turn; wait until it has finished")
    # Exactly one process can make this file, named after the dead turn: that one alone replaces it. One that was killed
    # before it had done so has left a turn too, a dead one.
    grave = path.with_name(f".{path.name}.{holder.token if holder else 'unreadable'}.over")
    if not _create(grave, own):
        _take_over(grave, own, stale)
    try:
        if _read(path) != holder:  # it was replaced, or given back, between our looks
            raise BusyError(f"{path}: another process has taken this turn")
        temporary = path.with_name(f".{path.name}.{own.token}")
        temporary.write_text(_text(own), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        grave.unlink(missing_ok=True)


def _keep_fresh(path: Path, own: _Holder, ended: threading.Event, beat: float) -> None:
    while not ended.wait(beat):
        with contextlib.suppress(OSError):
            if _read(path) != own:  # taken over, as this machine stood still for too long
                return
            os.utime(path)


def _is_dead(path: Path, holder: _Holder | None, stale: float) -> bool:
    try:
        age = _now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return True
    if age > stale:
        return True
    # A name and a number alone may be those of another machine, or of another process by now.
    here = holder is not None and holder.host == socket.gethostname()
    return here and age > min(QUIET, stale) and holder is not None and not _is_running(holder.process)


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    probe = folder / f".now.{uuid.uuid4().hex}"
    try:
        with probe.open("xb") as stream:  # whose handle stays when another process clears the folder
            return os.fstat(stream.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there a signal of 0 would end it
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)  # type: ignore[attr-defined]
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)  # type: ignore[attr-defined]
        return bool(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _text(holder: _Holder) -> str:
    return json.dumps({"token": holder.token, "host": holder.host, "process": holder.process}) + "\n"


def _read(path: Path) -> _Holder | None:
    """Who holds a turn; None where nobody does, or the file is just being made."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return _Holder(str(found["token"]), str(found["host"]), int(found["process"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
