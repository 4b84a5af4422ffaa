"""The text of a table, whatever its encoding, as UTF-8 in blocks of whole lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fmfbench.errors import SourceError
from fmfbench.sources.kinds import identify

__all__ = ["TableText", "open_text", "separator_line"]

_BLOCK_BYTES = 1 << 22
_SEP_LINE = re.compile(r"^\s*\"?sep=(.)\"?\s*$", re.I)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# After UTF-8: what Chinese loggers write, which has a code for nearly any bytes, then Western Europe's.
_LEGACY = ("gb18030", "cp1252", "latin-1")


@dataclass(frozen=True)
class TableText:
    """Where the text of a table begins and ends in its file, and its encoding.

    Attributes:
        path: the file.
        encoding: as Python names it.
        start: byte after a byte order mark.
        end: byte after the last that is text: preallocated NULs and an end-of-file mark (0x1A) are left out.
    """

    path: Path
    encoding: str
    start: int
    end: int

    def blocks(self) -> Iterator[bytes]:
        """UTF-8 blocks of whole lines, line ends as LF.

        Raises:
            SourceError: bytes that are no text, or NULs amid the rows.
        """
        rest, line = b"", 1
        for piece in self._decoded():
            data = (rest + piece).replace(b"\r\n", b"\n")
            # A lone CR at the end may be half of a line end.
            held = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(held)].replace(b"\r", b"\n")
            cut = data.rfind(b"\n") + 1
            block, rest = data[:cut], data[cut:] + held
            if block:
                self._check(block, line)
                line += block.count(b"\n")
                yield block
        rest = rest.replace(b"\r", b"\n")
        if rest.strip():
            self._check(rest, line)
            yield rest if rest.endswith(b"\n") else rest + b"\n"

    def head(self, lines: int) -> list[str]:
        """The first lines, without their ends."""
        out: list[str] = []
        for block in self.blocks():
            out += block.decode("utf-8").split("\n")[:-1]
            if len(out) >= lines:
                break
        return out[:lines]

    def _decoded(self) -> Iterator[bytes]:
        utf8 = self.encoding == "utf-8"
        decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        with self.path.open("rb") as handle:
            handle.seek(self.start)
            left = self.end - self.start
            while left > 0:
                data = handle.read(min(_BLOCK_BYTES, left))
                if not data:
                    break
                left -= len(data)
                try:
                    yield data if utf8 else decoder.decode(data, final=left <= 0).encode()
                except UnicodeError as error:
                    raise SourceError(
                        f"{self.path}: expected a table as text, got bytes that are not {self.encoding} ({error})"
                    ) from None

    def _check(self, block: bytes, line: int) -> None:
        at = block.find(b"\0")
        if at >= 0:
            row = line + block.count(b"\n", 0, at)
            raise SourceError(
                f"{self.path}: expected a table as text, got NUL bytes in row {row}: a part that was never written; "
                "remove that row, or copy the table again"
            )


def open_text(path: Path) -> TableText:
    """Find a table's encoding and the end of its text.

    Raises:
        SourceError: the file cannot be read, or is empty.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(1 << 16)
    except OSError as error:
        raise SourceError(f"{path}: expected a table, got what cannot be read ({error.strerror})") from None
    kind = identify(path)
    if kind.name not in ("table", "text", "JSON", "empty file", "unknown"):
        raise SourceError(f"{path}: {kind.sentence('a table')}")
    start, encoding = 0, ""
    for mark, name in _BOMS:
        if head.startswith(mark):
            start, encoding = len(mark), name
            break
    encoding = encoding or _wide(head)
    end = _text_end(path, start, size, 2 if "16" in encoding else 4 if "32" in encoding else 1)
    if end <= start:
        raise SourceError(f"{path}: expected a table with rows, got an empty file")
    return TableText(path, encoding or _narrow(path, end), start, end)


def separator_line(line: str) -> str | None:
    """The separator that Excel's `sep=;` line names, if the line is one."""
    found = _SEP_LINE.match(line)
    return found[1] if found else None


def _wide(head: bytes) -> str:
    """UTF-16 without a mark: every other byte of plain text is NUL."""
    even, odd = head[0::2], head[1::2]
    body = len(head.rstrip(b"\0")) // 2
    if body and odd[:body].count(0) > 0.4 * body and even[:body].count(0) < 0.1 * body:
        return "utf-16-le"
    if body and even[:body].count(0) > 0.4 * body and odd[:body].count(0) < 0.1 * body:
        return "utf-16-be"
    return ""


def _narrow(path: Path, end: int) -> str:
    """The first of UTF-8 and the older encodings that has a character for every byte."""
    decoders = {name: codecs.getincrementaldecoder(name)("strict") for name in ("utf-8", *_LEGACY)}
    with path.open("rb") as handle:
        left = end
        while left > 0 and (data := handle.read(min(_BLOCK_BYTES, left))):
            left -= len(data)
            if data.isascii() and len(decoders) == 1 + len(_LEGACY) and left > 0:
                continue
            for name, decoder in list(decoders.items()):
                try:
                    decoder.decode(data, final=left <= 0)
                except UnicodeError:
                    del decoders[name]
    return next(iter(decoders))


def _text_end(path: Path, start: int, size: int, width: int) -> int:
    """The byte after the last character that is not NUL, 0x1A, a line end or a space; a tab may end a row's cell."""
    with path.open("rb") as handle:
        end = size
        while end > start:
            begin = max(start, end - _BLOCK_BYTES)
            handle.seek(begin)
            left = handle.read(end - begin).rstrip(b"\0\x1a\r\n ")
            if left:
                cut = begin + len(left)
                return min(size, cut + (-(cut - start)) % width)
            end = begin
    return start
