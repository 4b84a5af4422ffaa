"""What was read from elsewhere, kept on a local disk within a bound, for any number of processes at once.

An entry is one file: a checksum, then the bytes. It is written under another name and renamed, so that nobody sees half
of one; an entry whose checksum does not hold is no entry. Reading one makes it the last used; what was not used for
longest goes first. Names are hashes of where the bytes came from and of the digest of their store, so that a store that
was replaced is never read from what is left of the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fmfbench.errors import InputError

__all__ = ["FOLDER_VARIABLE", "SIZE_VARIABLE", "DiskCache", "disk_cache", "parse_size"]

FOLDER_VARIABLE = "FMFBENCH_DISK_CACHE"
SIZE_VARIABLE = "FMFBENCH_DISK_CACHE_SIZE"
DEFAULT_SIZE = "20GB"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SUM_BYTES = 16
_LOOKS = 32  # of the bound is written before the folder is looked at again
_opened: dict[tuple[str, str], DiskCache] = {}


class DiskCache:
    """Bytes by key in a folder that takes at most about `limit` bytes.

    Each process looks at the folder before it begins and whenever it has written a 32nd of the bound, and then leaves
    seven eighths of it; so up to four processes that write at once stay within the bound.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._written = limit  # since the last look

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What is kept of `key`; where nothing is, what `make` gives, which is then kept."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            kept = path.read_bytes()
            if _sum(kept[_SUM_BYTES:]) == kept[:_SUM_BYTES]:
                os.utime(path)
                return kept[_SUM_BYTES:]
        data = make()
        # A disk that is full, or a folder that is gone, is no reason not to go on reading.
        with contextlib.suppress(OSError):
            self._put(path, data)
        return data

    def _put(self, path: Path, data: bytes) -> None:
        if _LOOKS * len(data) > self.limit:
            return
        self._written += len(data) + _SUM_BYTES
        if _LOOKS * self._written > self.limit:
            self._written = len(data) + _SUM_BYTES
            self._make_room()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(_sum(data))
                handle.write(data)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_room(self) -> None:
        """Remove what was not used for longest, down to seven eighths of the bound."""
        entries = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda entry: entry[0]):
            if 8 * total <= 7 * self.limit:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / name[2:]


def disk_cache() -> DiskCache | None:
    """The cache that the environment names, None where it names none.

    Raises:
        InputError: a size that is none, or a folder that cannot be written to.
    """
    folder, size = os.environ.get(FOLDER_VARIABLE, ""), os.environ.get(SIZE_VARIABLE, DEFAULT_SIZE)
    if not folder:
        return None
    if (folder, size) not in _opened:
        limit = parse_size(size)
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: expected a folder for the disk cache, got {error.strerror or error}; give another"
            ) from None
        _opened[folder, size] = DiskCache(Path(folder), limit)
    return _opened[folder, size]


def parse_size(text: str) -> int:
    """Bytes.

    Raises:
        InputError: no size, or one below 1 MB.

    Example:
        >>> parse_size("1.5GB"), parse_size("200 MB"), parse_size("5000000")
        (1500000000, 200000000, 5000000)
    """
    digits = text.strip().upper()
    number = digits.rstrip("KMGTB").strip()
    unit = digits[len(number) :].strip()
    with contextlib.suppress(ValueError, KeyError, OverflowError):
        size = int(float(number) * _UNITS[unit])
        if size >= 10**6:
            return size
    raise InputError(f"{text}: expected a size of at least 1 MB, as in 500MB or 20GB, got {text!r}; give one")


def _sum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SUM_BYTES).digest()
