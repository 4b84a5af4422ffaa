"""A folder is taken where it is new, empty, or marked by an earlier call of ours."""

import json
import os
from pathlib import Path

import pytest

from fmfbench.errors import InputError
from fmfbench.files.claims import is_free, make_folder, read_mark, sweep


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", ".run.json.tmp", ".state.safetensors.4711.tmp"])
def test_a_folder_with_what_systems_and_killed_processes_leave_is_free(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert is_free(folder)
    folder.mkdir()
    assert is_free(folder)
    (folder / name).touch()
    assert is_free(folder)
    assert read_mark(folder, "run.json", "a run to resume") is None
    (folder / "thesis.tex").touch()
    assert not is_free(folder)
    with pytest.raises(
        InputError, match="expected a new or empty folder, or a run to resume, got other files"
    ):
        read_mark(folder, "run.json", "a run to resume")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_not_free(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if kind == "file":
        path.touch()
    elif os.name == "posix":
        path.symlink_to(tmp_path / "nowhere")
    else:
        pytest.skip("links need a right there")
    assert not is_free(path)
    with pytest.raises(InputError, match="or one of an earlier call, got a file"):
        read_mark(path, "mark.json", "one of an earlier call")


def test_a_mark_is_read_whatever_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "mark.json").write_text(json.dumps({"seed": 3}))
    (tmp_path / "other").touch()
    assert read_mark(tmp_path, "mark.json", "one of ours") == {"seed": 3}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe{}"])
def test_a_mark_that_cannot_be_read_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mark.json").write_bytes(content)
    with pytest.raises(InputError, match="expected the JSON object that marks a folder of ours") as caught:
        read_mark(tmp_path, "mark.json", "one of ours")
    assert "\n" not in str(caught.value)


def test_only_half_written_files_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".folder.tmp").mkdir()
    for name in (".a.json.tmp", ".a.json.7.tmp", "a.tmp", ".a", "a.json"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".folder.tmp", "a.tmp", ".a", "a.json"}


def test_folders_are_made_with_those_above_them_and_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", "the results")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "b" / "c"):
        with pytest.raises(
            InputError, match="expected a folder for the results, got .*file, which is there and is no"
        ):
            make_folder(path, "the results")
