"""Files and folders that appear whole or not at all, and names that change places in one step."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["exchange", "is_half_written", "replace_file", "replacing", "write_text"]

_HERE = -100  # AT_FDCWD: paths are as the process sees them
_EXCHANGE = 2  # RENAME_EXCHANGE (renameat2(2), Linux 3.15)
_STREAMS = ("/dev", "/dev/fd", "/proc/self/fd")
_HALF_WRITTEN = re.compile(r"\..+\.tmp")


@contextlib.contextmanager
def replacing(path: Path, *, under: Path | None = None) -> Iterator[Path]:
    """A name to write a file or folder under; when the block is left, it takes the place of `path`.

    Where the block raises, `path` is as it was and what was written is removed. Where the process dies, a file is left
    that `is_half_written` knows. Where `path` is a link, what it leads to is replaced; a device or a pipe is written
    directly.

    Args:
        under: another name, beside `path`, for what needs a certain ending, or is swept away by a later run.

    >>> from pathlib import Path
    >>> with replacing(Path("numbers.txt")) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> Path("numbers.txt").read_text()
    '1 2 3'
    """
    if _is_stream(path):
        yield path
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    # With the number of the process: two that write the same file do not write into each other's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp" if under is None else under.name)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)
        raise


def replace_file(
    path: Path,
    data: bytes | Iterable[bytes],
    see: Callable[[bytes], object] = lambda piece: None,
) -> None:
    """Write a file whole or not at all, given at once or in pieces, each of which `see` is shown."""
    with replacing(path) as temporary, open(temporary, "wb", buffering=0) as handle:
        for piece in [data] if isinstance(data, bytes) else data:
            see(piece)
            _write_all(handle, piece)


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a text file whole or not at all, in UTF-8, its lines ended as they are; `errors` as of `str.encode`."""
    replace_file(path, text.encode("utf-8", errors))


def is_half_written(name: str) -> bool:
    """Whether a file of this name is what a killed process has left of one that it was writing.

    >>> [name for name in (".run.json.4711.tmp", ".run.json.tmp", "run.tmp", ".notes") if is_half_written(name)]
    ['.run.json.4711.tmp', '.run.json.tmp']
    """
    return _HALF_WRITTEN.fullmatch(name) is not None


def exchange(first: Path, second: Path) -> bool:
    """Let what two names of one file system stand for change places; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an older C library
        return False
    done: int = rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE)
    return done == 0


def _is_stream(path: Path) -> bool:
    """Whether it is no file that could be replaced: /dev/stdout, even of a shell that leads it into a file."""
    return path.parent.as_posix() in _STREAMS or (path.exists() and not (path.is_file() or path.is_dir()))


def _write_all(handle: Any, piece: bytes) -> None:
    written = handle.write(piece)
    while written < len(piece):  # the disk is nearly full, or the piece very large
        written += handle.write(memoryview(piece)[written:])
