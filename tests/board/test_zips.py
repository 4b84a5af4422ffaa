"""Archives whose bytes are not all accounted for are refused; those of ordinary writers are not.

Also tests fmfbench.files: zips.
"""

from __future__ import annotations

import io
import zipfile

import pytest

from fmfbench.errors import PredictionError
from fmfbench.files.zips import check_layout, checked_members


class Stream(io.RawIOBase):
    """A sink that cannot seek: the writer then puts sizes behind each member."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def plain(target, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("a.txt", b"some text " * 50)
        archive.writestr("ä.txt", b"more")


def layout(path):
    with zipfile.ZipFile(path) as archive:
        checked_members(archive, path, 4)
        check_layout(archive, path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
def test_ordinary_archives_pass(tmp_path, method, streamed):
    path = tmp_path / "x.zip"
    target = Stream() if streamed else io.BytesIO()
    plain(target, method)
    path.write_bytes(bytes(target.data) if streamed else target.getvalue())
    layout(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"#!shell\n" + data, "bytes of no member"),
        (lambda data: data + b"tail", "behind the archive's end"),
        (lambda data: data.replace(b"a.txt", b"b.txt", 1), "directory tells it, got another"),
        (
            lambda data: data[:14] + bytes([data[14] ^ 1]) + data[15:],
            "checksum of .* got another in its head",
        ),
        (lambda data: data[:10] + bytes([data[10] ^ 1]) + data[11:], "directory tells it, got another"),
    ],
)
def test_bytes_that_no_one_tells_of_are_refused(tmp_path, change, words):
    target = io.BytesIO()
    plain(target)
    path = tmp_path / "x.zip"
    path.write_bytes(change(target.getvalue()))
    with pytest.raises(PredictionError, match=words):
        layout(path)


def test_comments_and_gaps_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"x")
        archive.comment = b"hello"
    with pytest.raises(PredictionError, match="comment"):
        layout(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"x")
        archive.writestr("b.txt", b"y")
        del archive.NameToInfo["a.txt"], archive.filelist[0]  # its bytes stay, the directory forgets them
    with pytest.raises(PredictionError, match="bytes of no member"):
        layout(path)
