"""MAT files of any version, behind one interface.

    with open_mat("run1.mat") as mat:
        video = mat.variables["video"]  # MATLAB's (H, W, C, N)
        for frames in video.iter_frames(3):  # upright (n, H, W, C)
            ...

What a file is, is told by its bytes (version field, HDF5's signature), never by its name or header text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from fmfbench.errors import SourceError
from fmfbench.sources.kinds import identify
from fmfbench.sources.matlab.chunks import ThreadTeam
from fmfbench.sources.matlab.file_bytes import FileBytes
from fmfbench.sources.matlab.v5 import read_v5_variables
from fmfbench.sources.matlab.variable import MatVariable, dims_text

__all__ = ["MatFile", "MatVariable", "open_mat"]

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512
SAVE_AGAIN = "save it in MATLAB with '-v7.3' or '-v7'"


class MatFile:
    """An open MAT file: a context manager.

    Attributes:
        path: of the file.
        version: "v6", "v7" (at least one variable is compressed) or "v7.3".
        variables: by name, in the file's order; those that are not real numbers are listed too.
    """

    def __init__(
        self, path: Path, version: str, variables: Mapping[str, MatVariable], close: Callable[[], None]
    ) -> None:
        self.path = path
        self.version = version
        self.variables = MappingProxyType(dict(variables))
        self._close = close

    def __enter__(self) -> MatFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all reading; temporary files go."""
        self._close()

    def describe(self) -> str:
        """What is in the file, on one line: "video 24x32x3x10 uint8, s 1x1 struct"."""
        shown = [f"{v.name!r:.80} {dims_text(v.shape)} {v.matlab_class}" for v in self.variables.values()]
        more = [f"and {len(shown) - 10} more"] if len(shown) > 10 else []
        return ", ".join(shown[:10] + more)


def open_mat(
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scratch: str | os.PathLike[str] | None = None,
    filled: Collection[str] = (),
) -> MatFile:
    """Opens a MAT file, v6, v7 or v7.3, and lists its variables; values are read when asked for.

    Args:
        path: the file.
        workers: threads that read and inflate (default: the processor cores, at most 8); 1 starts none.
        scratch: folder for temporary files, used for v7.3 chunks as long as the recording (default: TMPDIR).
        filled: variables whose parts that were never written read as HDF5's fill value (`MatVariable.unwritten` tells
            of them); of others they are refused.

    Raises:
        SourceError: not a MAT file, big-endian, cut off, or damaged; one line.
    """
    place = Path(path)
    try:
        file = FileBytes.open(place)
    except OSError as error:
        raise SourceError(f"{place}: cannot be opened: {error.strerror or error}") from error
    team = ThreadTeam(workers or min(8, _cores()))
    closers: list[Callable[[], None]] = [file.close, team.close]

    def close() -> None:
        while closers:
            closers.pop()()

    try:
        version, variables = _read_variables(
            place, file, team, Path(scratch) if scratch else None, closers, filled
        )
        if not variables:
            raise SourceError(f"{place}: holds no variables, only a {version} header; {SAVE_AGAIN}")
    except OSError as error:
        close()
        raise SourceError(f"{place}: cannot be read: {error.strerror or error}") from error
    except BaseException:
        close()
        raise
    return MatFile(place, version, variables, close)


def _read_variables(
    path: Path,
    file: FileBytes,
    team: ThreadTeam,
    scratch: Path | None,
    closers: list[Callable[[], None]],
    filled: Collection[str],
) -> tuple[str, dict[str, MatVariable]]:
    if _is_v73(path, file):
        from fmfbench.sources.matlab.v73 import open_v73, read_v73_variables

        hdf = open_v73(path)
        closers.append(hdf.close)
        variables, storages = read_v73_variables(path, hdf, file, team, scratch, filled)
        closers.extend(storage.close for storage in storages)
        return "v7.3", variables
    return read_v5_variables(path, file, team.workers)


def _is_v73(path: Path, file: FileBytes) -> bool:
    """v7.3, or else v6/v7; anything else is a SourceError that says what it is."""
    if not file.size:
        raise SourceError(f"{path}: the file is empty (0 bytes); copy it again")
    head = file.read_at(0, USER_BLOCK + len(HDF5_SIGNATURE))
    version, endian = head[124:126], head[126:128]
    at_front, after_block = head.startswith(HDF5_SIGNATURE), head[USER_BLOCK:] == HDF5_SIGNATURE
    if endian == b"MI" and version[:1] in (b"\1", b"\2") and not at_front:
        raise SourceError(
            f"{path}: a big-endian MAT file; load it in MATLAB on this kind of machine and {SAVE_AGAIN}"
        )
    if at_front or after_block:
        return True
    if endian == b"IM" and version == b"\0\1":
        return False
    if endian == b"IM" and version == b"\0\2":
        if file.size <= USER_BLOCK:
            raise SourceError(
                f"{path}: only the header of a v7.3 file ({file.size} bytes), no data; copy it again"
            )
        raise SourceError(
            f"{path}: has a v7.3 header but no HDF5 data at byte 512; the file is damaged, copy it again"
        )
    kind = identify(path)
    if kind.problem:
        raise SourceError(f"{path}: {kind.sentence('a MAT file')}")
    raise SourceError(f"{path}: expected a MAT file, got {_what_else(head, file.size)}; {SAVE_AGAIN}")


def _what_else(head: bytes, size: int) -> str:
    readable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    if readable > 0.95 * len(head):
        return "a text file"
    kind, rows, columns, imaginary, name = (
        int.from_bytes(head[i : i + 4], "little") for i in range(0, 20, 4)
    )
    if kind < 5000 and kind % 10 < 3 and rows and columns and imaginary < 2 and 1 < name < 65:
        return "perhaps a MAT file of version 4, which is not read"
    if size < 128:
        return f"{size} bytes, shorter than a MAT header"
    return f"other bytes (version and byte order fields are {head[124:128]!r})"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
