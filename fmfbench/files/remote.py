"""Files behind a URL, read through obstore (extra `[cloud]`): S3, Google, Azure, HTTP, and a memory of this process.

A `RemotePath` answers the few questions that a reader of stores asks of a path: join, read, read a range, list. Nothing
is opened until it is asked for, and then once in each process. The library's threads do not survive a fork: a forked
child of a process that has read from elsewhere refuses to; start workers by spawn or forkserver.

Credentials and endpoints come from the environment, as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and
AWS_ENDPOINT_URL (plain http is allowed where that endpoint, or the URL itself, says http).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fmfbench.errors import FailedError, InputError, MissingDependencyError
from fmfbench.files.disk_cache import disk_cache

__all__ = ["SCHEMES", "Place", "RemotePath", "parse_place", "read_ranges", "read_tail"]

SCHEMES = ("s3", "gs", "az", "http", "https", "memory")
_GAP = 1 << 16  # ranges this near each other are read as one
_LARGEST_RANGE = 1 << 26
_STREAM_BYTES = 8 << 20
_TRIES = 3  # of an answer that breaks off; errors before it are tried again by the library
_opened: dict[str, Any] = {}
_used_by: int | None = None  # the process that first read from elsewhere


@dataclass(frozen=True)
class RemotePath:
    """A file or folder behind a URL. Equal URLs are equal paths.

    version: of what is below (a store's digest), where that is known: then what is read may come from the disk cache.
    """

    url: str
    version: str = field(default="", compare=False)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url.rstrip('/')}/{name}", self.version)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def bucket(self) -> Any:
        """obstore's store of the bucket or host, opened once in each process."""
        return _store(self.url)

    @property
    def key(self) -> str:
        """Where this is in its bucket."""
        return _key(self.url)

    @property
    def stem(self) -> str:
        return self.name.rsplit(".", 1)[0] if "." in self.name[1:] else self.name

    @property
    def suffix(self) -> str:
        return self.name[len(self.stem) :]

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rstrip("/").rsplit("/", 1)[0], self.version)

    def exists(self) -> bool:
        """Whether a file of this name is there, or any file below it."""
        try:
            self._ask("head")
        except FileNotFoundError:
            return self.is_dir()
        return True

    def is_dir(self) -> bool:
        """Whether any file is below; over plain HTTP, which lists nothing, whether a `zarr.json` is."""
        if self._lists:
            return next(self._objects(), None) is not None
        try:
            (self / "zarr.json")._ask("head")
        except FileNotFoundError:
            return False
        return True

    def is_symlink(self) -> bool:
        return False

    def read_bytes(self) -> bytes:
        return self._kept("whole", {})

    def pieces(self) -> Iterator[bytes]:
        """The file from start to end, some MiB at a time."""
        size = int(self._ask("head")["size"])
        for start in range(0, size, _STREAM_BYTES):
            yield self.read_range(start, min(_STREAM_BYTES, size - start))

    def read_range(self, offset: int, length: int) -> bytes:
        """Bytes from `offset` on, fewer where the file ends before."""
        return self._kept(f"{offset}+{length}", {"range": (offset, offset + length)}) if length else b""

    def read_tail(self, length: int) -> bytes:
        return self._kept(f"-{length}", {"range": {"suffix": length}})

    def write_bytes(self, data: bytes) -> None:
        self._ask("put", data)

    def create_bytes(self, data: bytes) -> Any:
        """Write a file that must not be there yet; FileExistsError where it is, whoever was first. Gives its tag."""
        return self._ask("put", data, mode="create")

    def replace_bytes(self, data: bytes, tag: Any) -> Any:
        """Write a file that must still be the one of this tag, FileExistsError where it is not; gives its new tag."""
        known = {key: tag[key] for key in ("e_tag", "version") if tag.get(key) is not None}
        return self._ask("put", data, mode=known)

    def read_tagged(self) -> tuple[bytes, Any]:
        """The file, and its tag."""
        return self._ask("get", finish=lambda answer: (bytes(answer.bytes()), answer.meta))

    def unlink(self) -> None:
        """Remove the file; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._ask("delete")

    def sizes(self) -> dict[str, int]:
        """Bytes of every file below, by its path relative to this one.

        Raises:
            FailedError: the server does not list files.
        """
        if not self._lists:
            raise FailedError(f"{self}: plain HTTP does not list files; read it from a bucket or a copy")
        skip = len(_key(self.url)) + 1 if _key(self.url) else 0
        return {entry["path"][skip:]: int(entry["size"]) for entry in self._objects()}

    @property
    def _lists(self) -> bool:
        return not self.url.startswith(("http://", "https://"))

    def _objects(self) -> Iterator[Any]:
        import obstore

        prefix = f"{_key(self.url)}/" if _key(self.url) else None
        with _said(self.url):
            for entries in obstore.list(_store(self.url), prefix):
                yield from entries

    def _kept(self, part: str, options: dict[str, Any]) -> bytes:
        """Bytes that may be on this machine's disk already."""
        cache = disk_cache() if self.version else None
        if cache is None:
            return self._body(options)
        return cache.get(f"{self.url}\0{self.version}\0{part}", lambda: self._body(options))

    def _body(self, options: dict[str, Any]) -> bytes:
        """The bytes of an answer, which may break off after its first line: then asked for anew."""
        for left in reversed(range(_TRIES)):
            try:
                return bytes(self._ask("get", options=options, finish=lambda answer: answer.bytes()))
            except FailedError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _ask(
        self, what: str, *arguments: Any, finish: Callable[[Any], Any] = lambda answer: answer, **options: Any
    ) -> Any:
        store = _store(self.url)
        import obstore

        with _said(self.url):
            return finish(getattr(obstore, what)(store, _key(self.url), *arguments, **options))


Place = Path | RemotePath


def parse_place(text: str | os.PathLike[str] | RemotePath) -> Place:
    """A path of this machine, or a URL.

    Raises:
        InputError: a URL of a kind that cannot be read.

    Example:
        >>> parse_place("s3://bucket/fmf.zarr").name
        'fmf.zarr'
        >>> parse_place("file:///data/fmf.zarr").as_posix()
        '/data/fmf.zarr'
    """
    if isinstance(text, RemotePath):
        return text
    said = os.fspath(text)
    scheme, colon, rest = said.partition("://")
    if not colon or not scheme.isalnum():
        return Path(said)
    if scheme == "file":
        return Path(unquote(rest.removeprefix("localhost")))
    if scheme not in SCHEMES:
        raise InputError(
            f"{said}: expected a path or a URL of {', '.join(SCHEMES)} or file, got {scheme}://; give one of these"
        )
    if not urlsplit(said).netloc:
        raise InputError(f"{said}: expected a bucket or a host after {scheme}://, got none")
    return RemotePath(said.rstrip("/"))


def read_ranges(path: Place, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """(offset, length) ranges of a file in the order asked for; one past the end comes short.

    Over a network, ranges that follow each other closely are read as one.
    """
    if isinstance(path, Path):
        with open(path, "rb", buffering=0) as handle:
            for offset, length in ranges:
                handle.seek(offset)
                yield handle.read(length)
        return
    for run in _runs(ranges):
        start = run[0][0]
        data = path.read_range(start, max(offset + length for offset, length in run) - start)
        for offset, length in run:
            yield data[offset - start : offset - start + length]


def read_tail(path: Place, length: int) -> bytes:
    """The last bytes of a file."""
    if isinstance(path, RemotePath):
        return path.read_tail(length)
    with open(path, "rb", buffering=0) as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - length))
        return handle.read(length)


def _runs(ranges: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Ranges in order, cut where the next one is not close behind."""
    runs: list[list[tuple[int, int]]] = []
    for offset, length in ranges:
        if runs:
            start, end = runs[-1][0][0], sum(runs[-1][-1])
            if 0 <= offset - end <= _GAP and offset + length - start <= _LARGEST_RANGE:
                runs[-1].append((offset, length))
                continue
        runs.append([(offset, length)])
    return runs


def _key(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _store(url: str) -> Any:
    """obstore's store of a URL's bucket or host, opened once in each process."""
    global _used_by  # noqa: PLW0603 - what a fork inherits is a fact of the process
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}"
    if _used_by not in (None, os.getpid()):
        raise FailedError(
            f"{url}: expected a process of its own to read from elsewhere, got one forked from a process that reads; "
            "start workers by spawn or forkserver"
        )
    if root not in _opened:
        try:
            from obstore.store import MemoryStore, from_url
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{url}: the package obstore, which reads it, is not installed; pip install 'fmfbench[cloud]'"
            ) from error
        plain = parts.scheme == "http" or os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        _used_by = os.getpid()
        if parts.scheme == "memory":
            _opened[root] = MemoryStore()
        else:
            _opened[root] = from_url(
                root,
                client_options={"allow_http": plain, "timeout": "30s", "connect_timeout": "10s"},
                retry_config={"max_retries": 6, "retry_timeout": timedelta(seconds=60)},
            )
    return _opened[root]


class _said:
    """Errors of the library in one line; FileNotFoundError stays what it is."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, FileNotFoundError | FailedError):
            return
        if type(error).__name__ in ("AlreadyExistsError", "PreconditionError"):
            raise FileExistsError(self.url) from None
        if type(error).__module__.partition(".")[0] in ("obstore", "builtins") and isinstance(
            error, Exception
        ):
            reason = " ".join(str(error).split("\n\nDebug source", 1)[0].split())[:300]
            raise FailedError(f"{self.url}: could not be reached or read: {reason}; try again") from error
