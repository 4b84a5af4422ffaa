"""Zip archives that may come from strangers: their directories are checked before a member is looked at.

Nothing is extracted; a member is read once, in blocks, and its checksum is compared at its end.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from fmfbench.errors import PredictionError

__all__ = ["ZIP_TROUBLE", "BoundedFile", "check_layout", "checked_members"]

_MAX_READ = 1 << 22
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_END_BYTES = 22
_DESCRIPTOR_BYTES = 24  # behind a member whose sizes were not known when its head was written
ZIP_TROUBLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    IndexError,
    OverflowError,
    struct.error,
)


class BoundedFile:
    """A file that refuses to be read in one large piece.

    Exists because zipfile reads a zip's whole directory at once, whatever length the file announces for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = path.open("rb")
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _MAX_READ + 1) if size >= 0 else _MAX_READ + 1)
        if len(data) > _MAX_READ:
            raise PredictionError(
                f"{self.path}: expected a few arrays, got a zip directory of more than {_MAX_READ} bytes"
            )
        return data

    def seekable(self) -> bool:
        return True


def checked_members(
    archive: zipfile.ZipFile, path: Path, most: int, suffix: str = ""
) -> dict[str, zipfile.ZipInfo]:
    """The members of an open archive by name, without `suffix`.

    Raises:
        PredictionError: more than `most` members, names that are paths or stand twice, encryption, or a compression
            other than stored and deflated.
    """
    infos = archive.infolist()
    if len(infos) > most:
        raise PredictionError(f"{path}: expected at most {most} arrays, got {len(infos)}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(suffix) if suffix else info.filename
        shown = ascii(info.orig_filename[:80])
        if set(info.orig_filename) & set("/\\:\0") or name in ("", ".", ".."):
            raise PredictionError(f"{path}: expected plain names of members, got the path {shown}")
        if name in members:
            raise PredictionError(f"{path}: expected each array once, got {shown} more often")
        if info.flag_bits & 0x41:
            raise PredictionError(f"{path}: expected plain members, got {shown} encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise PredictionError(
                f"{path}: expected members stored or deflated, got {shown} of zip method {info.compress_type}"
            )
        members[name] = info
    return members


def check_layout(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive that holds bytes which its directory does not tell of, or tells of otherwise.

    Members lie one behind the other from the first byte on, each under a head that agrees with the directory: so no
    second archive, and no other member, hides in the file.

    Raises:
        PredictionError: anything else.
    """
    end, slack = 0, 0
    with path.open("rb") as file:
        for info in sorted(archive.infolist(), key=lambda each: each.header_offset):
            shown = ascii(info.orig_filename[:80])
            if not end <= info.header_offset <= end + slack:
                raise PredictionError(
                    f"{path}: expected no bytes between members, got bytes of no member before {shown}"
                )
            file.seek(info.header_offset)
            head = _LOCAL.unpack(file.read(_LOCAL.size))
            name = file.read(head[9])
            told = (head[2], head[3], _dos_time(info), name)
            known = (info.flag_bits, info.compress_type, (head[5], head[4]), _raw_name(info))
            if head[0] != b"PK\x03\x04" or told != known:
                raise PredictionError(
                    f"{path}: expected the head of {shown} as the archive's directory tells it, got another"
                )
            if not info.flag_bits & 8 and head[6] != info.CRC:
                raise PredictionError(
                    f"{path}: expected the checksum of {shown} that the directory gives, got another in its head"
                )
            end = info.header_offset + _LOCAL.size + head[9] + head[10] + info.compress_size
            slack = _DESCRIPTOR_BYTES if info.flag_bits & 8 else 0
        file.seek(-_END_BYTES, 2)
        whole = file.read(4) == b"PK\x05\x06"
    if not 0 <= archive.start_dir - end <= slack:
        raise PredictionError(
            f"{path}: expected no bytes between members and directory, got bytes of no member"
        )
    if not whole and not archive.comment:
        raise PredictionError(f"{path}: expected no bytes behind the archive's end, got some")
    if archive.comment:
        raise PredictionError(f"{path}: expected no comment, got one of {len(archive.comment)} bytes")


def _dos_time(info: zipfile.ZipInfo) -> tuple[int, int]:
    year, month, day, hour, minute, second = info.date_time
    return (year - 1980) << 9 | month << 5 | day, hour << 11 | minute << 5 | second // 2


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
