"""What is written appears whole or not at all."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fmfbench.files.atomic import is_half_written, replace_file, replacing, write_text

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices of POSIX systems")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert is_half_written(temporary.name)
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_what_was_there_and_nothing_beside_it(
    error: type[BaseException], folder: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "half").touch()
            else:
                temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_an_error_before_anything_is_written_is_the_one_that_is_seen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too early"), replacing(tmp_path / "a"):
        raise ValueError("too early")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        pass  # nothing was written: that is no success
    assert names(tmp_path) == []


def test_a_folder_takes_an_empty_ones_place_and_never_a_full_ones(tmp_path: Path) -> None:
    for full in (False, True):
        path = tmp_path / f"folder{full}"
        path.mkdir()
        if full:
            (path / "theirs").touch()
            with pytest.raises(OSError), replacing(path) as temporary:
                temporary.mkdir()
            assert names(path) == ["theirs"]
        else:
            with replacing(path) as temporary:
                temporary.mkdir()
                (temporary / "ours").touch()
            assert names(path) == ["ours"]
    assert names(tmp_path) == ["folderFalse", "folderTrue"]


def test_another_name_to_write_under(tmp_path: Path) -> None:
    under = tmp_path / ".a.tmp.avi"
    with replacing(tmp_path / "a.avi", under=under) as temporary:
        assert temporary == under
        temporary.touch()
    assert names(tmp_path) == ["a.avi"]


def test_pieces_are_seen_in_order_and_written_whole(tmp_path: Path) -> None:
    seen: list[bytes] = []
    replace_file(tmp_path / "a", iter([b"one", b"", b"two"]), seen.append)
    assert seen == [b"one", b"", b"two"]
    assert (tmp_path / "a").read_bytes() == b"onetwo"


def test_text_keeps_its_line_ends_and_says_what_utf_8_cannot_hold(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one\ntwo\r\n\u00e9")
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\r\n\xc3\xa9"
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "\ud800")
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\r\n\xc3\xa9"
    write_text(tmp_path / "a", "\ud800!", errors="replace")
    assert (tmp_path / "a").read_bytes() == b"?!"


@POSIX
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@POSIX
def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "a")
    for text in ("one", "two"):  # first it leads nowhere
        write_text(link, text)
        assert (tmp_path / "elsewhere" / "a").read_text() == text
    with replacing(link, under=tmp_path / ".link.tmp.avi") as temporary:  # beside what is replaced
        assert temporary == tmp_path / "elsewhere" / ".link.tmp.avi"
        temporary.write_text("three")
    assert (tmp_path / "elsewhere" / "a").read_text() == "three"
    assert link.is_symlink()
    assert names(tmp_path / "elsewhere") == ["a"]
    assert names(tmp_path) == ["elsewhere", "link"]


@POSIX
def test_devices_are_written_and_never_replaced(tmp_path: Path) -> None:
    before = os.stat("/dev/null")
    write_text(Path("/dev/null"), "gone")
    assert os.path.samestat(os.stat("/dev/null"), before)
    code = "from pathlib import Path; from fmfbench.files.atomic import write_text\n"
    code += "write_text(Path('/dev/stdout'), 'seen')"
    with open(tmp_path / "out", "wb") as out:  # the shell's `> out`
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "seen"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("name", "half"),
    [
        (".a.npz.17.tmp", True),
        (".run.json.tmp", True),
        (".a.17.tmp.avi", False),
        ("a.tmp", False),
        (".tmp", False),
        (".hidden", False),
        (".a.tmp.", False),
        ("._a.tmp~", False),
    ],
)
def test_what_a_killed_process_leaves_is_known_by_its_name(name: str, half: bool) -> None:
    assert is_half_written(name) == half


def test_a_killed_writer_leaves_the_old_file_and_one_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    code = f"""
import os
from pathlib import Path
from fmfbench.files.atomic import replacing
with replacing(Path({str(path)!r})) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert path.read_text() == "old"
    left = [name for name in names(tmp_path) if name != "a"]
    assert len(left) == 1
    assert is_half_written(left[0])
