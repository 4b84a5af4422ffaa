"""What a file is, by its bytes: the words that `convert` refuses with and `doctor` explains with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KINDS", "FileKind", "identify"]

KINDS = (
    "MAT file v7.3", "MAT file v6 or v7", "MAT file v4", "MAT file, big-endian", "HDF5 file", "Octave HDF5 file",
    "video", "table", "Excel workbook", "old Excel workbook", "JSON", "text", "Git LFS pointer", "web page",
    "empty file", "zip archive", "gzip archive", "7z archive", "rar archive", "tar archive", "bzip2 archive",
    "xz archive", "PDF", "picture", "sound", "NumPy file", "Parquet file", "unfinished download", "macOS side file",
    "link to nowhere", "folder", "store", "unknown",
)  # fmt: skip
"""Every value of `is` in `doctor --json`."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 4096
_ARCHIVES = {
    "zip archive": "unzip it and give the folder",
    "gzip archive": "unpack it with `gunzip`, or `tar xzf` where it holds a folder",
    "7z archive": "unpack it and give the folder",
    "rar archive": "unpack it and give the folder",
    "tar archive": "unpack it with `tar xf` and give the folder",
    "bzip2 archive": "unpack it with `bunzip2`",
    "xz archive": "unpack it with `unxz`",
}
_MAGIC = (
    (b"\x1f\x8b", "gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!", "rar archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\x00", "xz archive"),
    (b"%PDF", "PDF"),
    (b"\x89PNG", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
    (b"BM", "picture"),
    (b"\x93NUMPY", "NumPy file"),
    (b"PAR1", "Parquet file"),
    (b"fLaC", "sound"),
    (b"ID3", "sound"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel workbook"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),
    (b"\x00\x00\x01\xba", "video"),
    (b"\x00\x00\x01\xb3", "video"),
    (b"FLV\x01", "video"),
)


@dataclass(frozen=True)
class FileKind:
    """What a file is.

    Attributes:
        name: one of `KINDS`.
        problem: why it cannot be what it is taken for, for people; "" where nothing is known against it.
        remedy: what to do.
    """

    name: str
    problem: str = ""
    remedy: str = ""

    def sentence(self, expected: str) -> str:
        """ "expected ..., got ...; ...", to follow a path."""
        return f"expected {expected}, got {self.problem or 'a ' + self.name}" + (
            f"; {self.remedy}" if self.remedy else ""
        )


def identify(path: Path) -> FileKind:  # noqa: PLR0911 - one kind a return
    """What lies at a path; nothing is read but the first bytes, and all of a small text."""
    if path.is_dir():
        store = (path / "zarr.json").is_file()
        return FileKind("store" if store else "folder")
    if path.is_symlink() and not path.exists():
        return FileKind(
            "link to nowhere", f"a link to {path.readlink()}, which is not there", "copy the file itself"
        )
    size = path.stat().st_size
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    if path.name.startswith("._") or head.startswith(b"\x00\x05\x16\x07"):
        return FileKind("macOS side file", "a side file that macOS leaves", "remove it")
    if path.suffix.lower() in (".crdownload", ".part", ".partial", ".download", ".tmp"):
        return FileKind("unfinished download", "a download that was not finished", "download the file again")
    if not size:
        return FileKind("empty file", "an empty file (0 bytes)", "copy or download it again")
    if size > _HEAD // 8 and not head.strip(b"\0"):
        return FileKind("unknown", f"{min(size, _HEAD)} bytes of zeros", "copy or download it again")
    return _by_magic(path, head, size) or _by_text(path, head) or FileKind("unknown")


def _by_magic(path: Path, head: bytes, size: int) -> FileKind | None:  # noqa: PLR0911 - one kind a return
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    if head.startswith(_HDF5) or head[512:520] == _HDF5:
        return FileKind(
            "MAT file v7.3" if head[124:128] in (b"\0\2IM",) or head[512:520] == _HDF5 else "HDF5 file"
        )
    if (
        head[126:128] in (b"IM", b"MI")
        and size >= 128
        and head[124:126] in (b"\0\1", b"\0\2", b"\1\0", b"\2\0")
    ):
        if head[126:128] == b"MI":
            return FileKind(
                "MAT file, big-endian", "a big-endian MAT file", "load it in MATLAB here and save it again"
            )
        return FileKind("MAT file v6 or v7" if head[124:126] == b"\0\1" else "MAT file v7.3")
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return FileKind("video")
    if head[:4] == b"RIFF":
        return (
            FileKind("video")
            if head[8:12] == b"AVI "
            else FileKind("sound", "a sound file", "give the video")
        )
    if head[:1] == b"G" and head[188:189] == b"G" and head[376:377] in (b"G", b""):
        return FileKind("video")
    if head[257:262] == b"ustar":
        return _archive("tar archive")
    for magic, name in _MAGIC:
        if head.startswith(magic):
            if name in _ARCHIVES:
                return _archive(name)
            return _other(name)
    return None


def _archive(name: str) -> FileKind:
    return FileKind(name, f"a {name}", _ARCHIVES[name])


def _other(name: str) -> FileKind:
    remedies = {
        "PDF": "give the data file itself",
        "picture": "give the video, or join pictures with `ffmpeg -i %06d.png NEW.mkv`",
        "NumPy file": "save the arrays in MATLAB's form with scipy.io.savemat",
        "Parquet file": "save the table as CSV",
        "old Excel workbook": "save it as .xlsx or as CSV",
        "sound": "give the video",
    }
    return FileKind(name, f"a {name}" if name in remedies else "", remedies.get(name, ""))


def _zip(path: Path) -> FileKind:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return FileKind("zip archive", "a zip archive that is damaged or cut off", "download it again")
    if any(name.startswith("xl/") for name in names):
        return FileKind("Excel workbook")
    if names and all(name.endswith(".npy") for name in names):
        return _other("NumPy file")
    return _archive("zip archive")


def _by_text(path: Path, head: bytes) -> FileKind | None:  # noqa: PLR0911 - one kind a return
    text = _decoded(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n")[:400]
    if start.startswith("version https://git-lfs.github.com/spec"):
        told = re.search(r"size (\d+)", start)
        return FileKind(
            "Git LFS pointer",
            "a Git LFS pointer" + (f" that stands for {int(told[1])} bytes" if told else ""),
            "get the file itself with `git lfs pull`, or from the dataset's download page",
        )
    if re.match(r"<!doctype html|<html|<head|<\?xml[^>]*>\s*<!doctype html|<script|<body", start, re.I):
        return FileKind(
            "web page",
            "a web page (HTML)",
            "open it in a browser to see what it says (a log-in, a warning, a quota), and download the file itself",
        )
    if start.startswith(("{", "[")):
        try:
            json.loads(path.read_bytes() if path.stat().st_size < 1 << 24 else b"")
            return FileKind("JSON")
        except (ValueError, RecursionError):
            return FileKind("text")
    if "# Created by Octave" in start and path.suffix.lower() == ".mat":
        return FileKind("text", "Octave's text format", "save it in Octave with `save -v7`")
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    marks = max((sum(sign in line for line in lines) for sign in ",;\t|"), default=0)
    if lines and (marks >= 0.5 * len(lines) or path.suffix.lower() in (".csv", ".tsv")):
        return FileKind("table")
    return FileKind("text")


def _decoded(head: bytes) -> str | None:
    """The text of the first bytes, or None where they are no text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head[: len(head) // 2 * 2].decode("utf-16", "replace")
    if head[1::2].count(0) > 0.4 * len(head):
        return head.decode("utf-16-le", "replace")
    body = head.rstrip(b"\0\x1a")
    odd = sum(byte < 9 or 13 < byte < 32 for byte in body)
    if odd > 0.02 * max(1, len(body)):
        return None
    for encoding in ("utf-8", "gb18030"):
        for cut in range(4):
            try:
                return body[: len(body) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
    readable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in body)
    return body.decode("latin-1") if readable > 0.9 * len(body) else None
