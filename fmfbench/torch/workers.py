"""What keeps worker processes from working, said in one line."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from fmfbench.errors import FailedError, FmfbenchError, WindowError

__all__ = ["check_shared_memory", "check_started_by_main", "explained"]

_SHARED_MEMORY = Path("/dev/shm")
_AHEAD = 2  # batches that torch lets each worker make ahead
_MAIN = 'put the loop of the script under `if __name__ == "__main__":`, name start_method="fork", or take num_workers=0'


def check_started_by_main() -> None:
    """WindowError in a worker that runs its parent's script again, and so would start workers of its own."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise WindowError(
            f"expected worker processes to be started by the main script, got a worker that reads it again; {_MAIN}"
        )


def check_shared_memory(batch_bytes: int, workers: int) -> None:
    """WindowError where the system's shared memory cannot hold the batches that are under way at once.

    Without it a worker is killed in the middle of a pass, by a signal that says nothing of memory.
    """
    if not _SHARED_MEMORY.is_dir():  # other systems keep it elsewhere
        return
    found = os.statvfs(_SHARED_MEMORY)
    free, needed = found.f_bavail * found.f_frsize, batch_bytes * (_AHEAD * workers + 1)
    if free < needed:
        raise WindowError(
            f"{_SHARED_MEMORY}: expected {needed / 1e6:.0f} MB of shared memory for the batches of {workers} worker "
            f"processes, got {free / 1e6:.0f} MB; take fewer workers or smaller batches, windows of cache='memory' or "
            "shuffle='block' (threads, which need none), or more of it (docker run --shm-size)"
        )


def explained(error: Exception, method: str, *, started: bool) -> Exception:
    """What to raise in the place of an error of torch's worker processes."""
    if isinstance(error, FmfbenchError):  # torch puts the worker's whole traceback into the message
        lines = str(error).strip().splitlines()
        said = lines[-1].partition(f"{type(error).__name__}: ")[2] if len(lines) > 1 else ""
        return type(error)(said) if said else error
    text = " ".join(str(part) for part in (error, error.__cause__, error.__context__) if part is not None)
    if "Too many open files" in text or "ancdata" in text or "Errno 24" in text:
        return FailedError(
            "expected room for the files that batches of worker processes take, got the system's limit; raise it "
            "(ulimit -n 4096), keep fewer batches, or take cache='memory' or shuffle='block', which need none"
        )
    if "Bus error" in text or "shared memory" in text:
        return FailedError(
            "expected shared memory for the batches of worker processes, got too little; take fewer workers or smaller "
            "batches, cache='memory' or shuffle='block', or more of it (docker run --shm-size)"
        )
    if method != "fork" and not started and "exited unexpectedly" in text:
        return FailedError(f"expected worker processes of start method {method} to start, got none; {_MAIN}")
    return error
