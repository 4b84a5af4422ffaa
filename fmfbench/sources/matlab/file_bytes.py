"""Positioned reads and writes on one open file, from any number of threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO

__all__ = ["FileBytes"]


class FileBytes:
    """A file read by (offset, size). Threads may share it; `close` ends it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._positioned = hasattr(os, "pread") and hasattr(os, "pwrite")
        self.size = os.fstat(file.fileno()).st_size  # bytes at the time of opening

    @classmethod
    def open(cls, path: Path) -> FileBytes:
        """Opens `path` for reading. Raises OSError."""
        return cls(path.open("rb", buffering=0))

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer only where the file ends. Raises OSError."""
        if offset < 0 or size <= 0 or offset >= 1 << 62:
            return b""
        first = self._read(offset, size)
        if len(first) == size or not first:
            return first
        parts, have = [first], len(first)
        while have < size and (part := self._read(offset + have, size - have)):
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def _read(self, offset: int, size: int) -> bytes:
        if self._positioned:
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Writes all of `data` at `offset`. Raises OSError."""
        view = memoryview(data).cast("B")
        while len(view):
            if self._positioned:
                done = os.pwrite(self._file.fileno(), view, offset)
            else:
                with self._lock:
                    self._file.seek(offset)
                    done = self._file.write(view)
            view, offset = view[done:], offset + done

    def close(self) -> None:
        self._file.close()
