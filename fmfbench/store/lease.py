"""Who writes to a URL: an object beside the store, taken and renewed by conditional writes, that runs out by itself.

What a lock of the operating system is to a folder. Its holder writes when it will have run out, and renews it in time;
one that was killed is followed at once on the same machine, and elsewhere when the lease has run out (the clocks of the
machines must agree to within a minute). It also says what its holder was writing, so that the next one can resume.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fmfbench.errors import BusyError, FailedError
from fmfbench.files.remote import RemotePath

__all__ = ["Lease", "leased"]

LEASE_SECONDS = 180.0
_CLOCKS_APART = 60.0


class Lease:
    """A lease that this process holds.

    Attributes:
        notes: what the holder says of its work; those of the one before, until `write` says otherwise.
    """

    def __init__(self, path: RemotePath) -> None:
        self.path = path
        self.notes: dict[str, Any] = {}
        self._sign = secrets.token_hex(8)
        self._tag: Any = None
        self._until = 0.0

    def take(self) -> None:
        """Make the lease, or follow a holder that is gone; BusyError where another one holds it."""
        with contextlib.suppress(FileExistsError):
            self._tag = self.path.create_bytes(self._text())
            self._check_honoured()
            return
        try:
            text, tag = self.path.read_tagged()
            found = json.loads(text)
            if found["sign"] == self._sign:  # made, but the answer was lost and the request sent again
                self._tag = tag
                self._check_honoured()
                return
            self.notes = dict(found["notes"])
            gone = _is_gone(found)
        except FileNotFoundError:  # given back meanwhile
            raise BusyError(f"{self.path}: another process has just written there; try again") from None
        except (ValueError, KeyError, TypeError):
            raise FailedError(
                f"{self.path}: expected a lease of fmfbench, got something else; remove it if nobody writes there"
            ) from None
        if not gone:
            raise BusyError(
                f"{self.path}: expected nobody to be writing there, got a process of {found['host']}; wait until it "
                f"has finished, or until {time.strftime('%H:%M:%S', time.localtime(found['until'] + _CLOCKS_APART))}"
            )
        self._replace(tag)

    def write(self, **notes: Any) -> None:
        """Say something else of the work, and renew."""
        self.notes = notes
        self._replace(self._tag)

    def renew(self, *, now: bool = False) -> None:
        """Renew a lease of which half has passed; BusyError where another process has followed."""
        if now or self._until - time.time() < LEASE_SECONDS / 2:
            self._replace(self._tag)

    def give_back(self, *, done: bool) -> None:
        """Remove the lease; after an error, let it run out now, with its notes."""
        if done:
            self.path.unlink()
            return
        self.path.replace_bytes(self._text(until=0.0), self._tag)

    def _replace(self, tag: Any) -> None:
        text = self._text()
        try:
            self._tag = self.path.replace_bytes(text, tag)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                found, own = self.path.read_tagged()
                if found == text:  # written, but the answer was lost and the request sent again
                    self._tag = own
                    return
            raise BusyError(
                f"{self.path}: another process has begun to write there; try again later"
            ) from None

    def _check_honoured(self) -> None:
        """FailedError where the server creates what is there already: nothing would keep two writers apart."""
        try:
            self.path.create_bytes(self._text())
        except FileExistsError:
            return
        self.path.unlink()
        raise FailedError(
            f"{self.path}: expected a server that refuses to create what is there already (If-None-Match), got one "
            "that does not; write the store on a disk and copy it there"
        )

    def _text(self, until: float | None = None) -> bytes:
        self._until = time.time() + LEASE_SECONDS if until is None else until
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "sign": self._sign}
        return json.dumps({**holder, "until": self._until, "notes": self.notes}).encode()


@contextmanager
def leased(path: RemotePath) -> Iterator[Lease]:
    """A lease at `path` for the while.

    Raises:
        BusyError: another process holds it.
        FailedError: the server has no conditional writes.
    """
    lease = Lease(path)
    lease.take()
    try:
        yield lease
    except BaseException:
        with contextlib.suppress(Exception):
            lease.give_back(done=False)
        raise
    lease.give_back(done=True)


def _is_gone(found: dict[str, Any]) -> bool:
    """Whether a lease has run out, or was held by a process of this machine that is no more."""
    if found["until"] == 0.0 or found["until"] + _CLOCKS_APART < time.time():
        return True
    return found["host"] == socket.gethostname() and not _runs(int(found["pid"]))


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there a signal of 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
