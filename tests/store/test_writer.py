"""What a kill, a full disk, a second writer or a strange name leaves of a store: nothing wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fmfbench.store.writer
from fmfbench.errors import BusyError, SourceError, StoreError
from fmfbench.files.atomic import exchange
from fmfbench.files.lock import target_lock
from fmfbench.store.digest import digest_of, file_names, file_sha256, seal, store_digest
from fmfbench.store.schema import check_name, row_spec
from fmfbench.store.shards import encode_shard
from fmfbench.store.writer import StoreWriter, is_store, open_writer, replace_file

TREE = Path(__file__).parents[1] / "data" / "v2_tree"
KILLER = Path(__file__).parents[1] / "kill_steps.py"
SPEC = row_spec(5, {"a": 0})
VALUES = np.array([0, 1, 0, 1, 1], np.uint8)


def write(target: Path, identity: str = "a", *, overwrite: bool = False) -> None:
    with open_writer(target, {"id": identity}, overwrite=overwrite) as writer:
        begin(writer)
        writer.finish({"fmfbench.schema": 1, "fmfbench.made": identity})


def begin(writer: StoreWriter) -> None:
    writer.write_group("recordings", {})
    writer.write_array("recordings/r", SPEC)
    if not writer.has_shard("recordings/r", SPEC, 0):
        writer.commit_shard("recordings/r", SPEC, 0, encode_shard(SPEC, VALUES))


def interrupt(target: Path, identity: str = "a", *, overwrite: bool = False) -> None:
    with open_writer(target, {"id": identity}, overwrite=overwrite) as writer:
        begin(writer)


def made_of(target: Path) -> str:
    return json.loads((target / "zarr.json").read_bytes())["attributes"]["fmfbench.made"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(
    ("mode", "stride", "first"), [("fresh", 17, 0), ("overwrite", 5, 99), ("two-steps", 2, 118)]
)
def test_killed_at_any_step_a_store_is_whole_or_absent_and_the_same_command_finishes(
    mode: str, stride: int, first: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(KILLER), str(TREE), str(tmp_path), mode, str(stride), str(first)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(deaths) > 4
    assert deaths[-1]["died"] == 0
    for death in deaths:
        assert death["whole"] is not False
        assert death["whole"] or mode != "overwrite"
        assert death["again"] == 0
        assert death["whole_again"] is True
        assert death["left"] == ["out.zarr"]


def test_an_interrupted_writer_goes_on_and_leaves_nothing_beside_the_store(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    interrupt(target)
    assert not target.exists()
    shard = tmp_path / "o.zarr.part" / "store" / "recordings" / "r" / SPEC.shard_key(0)
    before = shard.stat()
    (shard.parent / "9.tmp").write_bytes(b"half")
    write(target)
    after = (target / "recordings" / "r" / SPEC.shard_key(0)).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]
    assert not [name for name in file_names(target) if name.endswith(".tmp")]


def test_a_committed_shard_that_is_no_longer_whole_is_made_again(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    interrupt(target)
    shard = tmp_path / "o.zarr.part" / "store" / "recordings" / "r" / SPEC.shard_key(0)
    whole = shard.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"x", bytes([whole[0] ^ 1]) + whole[1:]):
        shard.write_bytes(damaged)
        with open_writer(target, {"id": "a"}) as writer:
            assert not writer.has_shard("recordings/r", SPEC, 0)
    write(target)
    assert (target / "recordings" / "r" / SPEC.shard_key(0)).read_bytes() == whole


def test_half_made_of_other_input_is_kept_unless_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    interrupt(target, "a")
    with pytest.raises(StoreError, match="half-made conversion of another source"):
        write(target, "b")
    write(target, "b", overwrite=True)
    assert made_of(target) == "b"


def test_a_finished_store_is_replaced_only_when_told_and_only_when_the_new_one_is_whole(
    tmp_path: Path,
) -> None:
    target = tmp_path / "o.zarr"
    write(target, "a")
    with pytest.raises(StoreError, match="exists"):
        write(target, "b")
    interrupt(target, "b", overwrite=True)
    assert made_of(target) == "a"
    with pytest.raises(StoreError, match="exists"):
        write(target, "b")
    write(target, "b", overwrite=True)
    assert made_of(target) == "b"
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]


def test_an_old_store_left_in_the_half_made_one_is_never_taken_for_it(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    write(target, "a")
    interrupt(target, "b", overwrite=True)
    half = tmp_path / "o.zarr.part" / "store"
    assert exchange(half, target) or pytest.skip("names cannot be exchanged here")
    (target / "zarr.json").write_text('{"attributes": {"fmfbench.digest": "renewed since"}}')
    with open_writer(target, {"id": "b"}, overwrite=True) as writer:
        assert not writer.has_shard("recordings/r", SPEC, 0)


def test_without_exchange_the_store_is_replaced_in_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fmfbench.store.writer, "exchange", lambda first, second: False)
    target = tmp_path / "o.zarr"
    write(target, "a")
    write(target, "b", overwrite=True)
    assert made_of(target) == "b"
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]


def test_exchange(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert not exchange(tmp_path / "a", tmp_path / "absent")
    if exchange(tmp_path / "a", tmp_path / "b"):
        assert (tmp_path / "a" / "b").exists()
        assert (tmp_path / "b" / "a").exists()


@pytest.mark.parametrize("make", ["folder", "file", "link"])
def test_what_is_not_ours_is_left_alone(make: str, tmp_path: Path) -> None:
    for name in ("o.zarr", "p.zarr.part"):
        path = tmp_path / name
        if make == "folder":
            path.mkdir()
            (path / "thesis.tex").write_text("years of work")
        elif make == "file":
            path.write_text("years of work")
        else:
            path.symlink_to(tmp_path / "elsewhere")
    for target in ("o.zarr", "p.zarr"):
        with pytest.raises(StoreError, match="choose another|the store itself, got a link"):
            write(tmp_path / target, overwrite=True)
    for name in ("o.zarr", "p.zarr.part"):
        path = tmp_path / name
        assert path.is_symlink() or "years" in (path / "thesis.tex" if make == "folder" else path).read_text()


@pytest.mark.parametrize("target", ["", ".", "..", "a/b/c.zarr", "nul\0.zarr"])
def test_targets_that_cannot_be(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError):
        fmfbench.convert(TREE, target)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    code = f"""
import sys
from fmfbench.files.lock import target_lock
from pathlib import Path
with target_lock(Path({str(target)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another process is writing"):
            write(target)
        holder.kill()
        holder.communicate()
    write(target)  # the lock died with its holder, although its file is still there
    with target_lock(target), pytest.raises(BusyError), target_lock(target):
        pass


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("run 7.b", True), ("Öfen-Ü", True), ("a" * 200, True), ("..a", True), ("_a", True), ("炉", True),
        ("", False), (".", False), ("..", False), ("...", False), ("zarr.json", False), ("__a", False),
        ("a/b", False), ("a\\b", False), ("a\nb", False), ("a\0", False), ("\udc80", False),
    ],
)  # fmt: skip
def test_names_of_recordings(name: str, good: bool) -> None:
    if good:
        assert check_name(name, "here") == name
    else:
        with pytest.raises(SourceError, match="rename the file"):
            check_name(name, "here")


def test_a_file_named_two_points_cannot_leave_the_store(tmp_path: Path) -> None:
    source = tmp_path / "...mat"
    source.write_bytes((TREE.parent / "v2_matio_v73_plain.mat").read_bytes())
    with pytest.raises(SourceError, match="rename the file"):
        fmfbench.convert(source, tmp_path / "o.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["...mat"]


def test_names_in_any_script_go_through(tmp_path: Path) -> None:
    source = tmp_path / "炉 Öfen #1.a.mat"
    source.write_bytes((TREE.parent / "v2_matio_v73_plain.mat").read_bytes())
    store = fmfbench.convert(source, tmp_path / "o p.zarr")
    assert list(fmfbench.open_dataset(store).recordings) == ["炉 Öfen #1.a"]


def test_the_digest_covers_names_contents_and_every_byte_of_the_root(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    write(target)
    root = (target / "zarr.json").read_bytes()
    attributes = json.loads(root)["attributes"]
    sums = attributes["fmfbench.files"]
    assert sums == {name: file_sha256(target / name) for name in file_names(target) if name != "zarr.json"}
    assert store_digest(target) == attributes["fmfbench.digest"] == digest_of(sums, root)
    assert seal(target, attributes) == root
    assert digest_of(sums, root + b" ") != attributes["fmfbench.digest"]
    assert digest_of({**sums, "extra": "0"}, root) != attributes["fmfbench.digest"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f"
    replace_file(path, b"old")

    def pieces():
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        replace_file(path, pieces())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_is_store_knows_a_damaged_one(tmp_path: Path) -> None:
    store = fmfbench.convert(TREE, tmp_path / "o.zarr")
    assert is_store(store)
    (store / "zarr.json").unlink()
    assert is_store(store)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert not is_store(tmp_path / "plain")
    assert not is_store(tmp_path / "absent")


def test_a_store_without_its_list_of_files_is_refused(awkward_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "unlisted.zarr"
    shutil.copytree(awkward_store, store)
    root = json.loads((store / "zarr.json").read_text())
    del root["attributes"]["fmfbench.files"]
    (store / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreError, match=r"expected fmfbench\.files, .* convert again"):
        fmfbench.open_dataset(store).sample_ids("all")


def test_a_recording_that_is_gone_does_not_shift_the_others_ids(awkward_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(awkward_store, tmp_path / "o.zarr"))
    (store / "recordings" / "b-long" / "zarr.json").unlink()
    with pytest.raises(StoreError, match="b-long"):
        fmfbench.open_dataset(store).sample_ids("test")
