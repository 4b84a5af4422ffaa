"""Verification: every kind of damage is found and named, alone and together, and nothing else is.

Also tests fmfbench.conversion: findings.
Also tests fmfbench.store: digest, fingerprint.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest_tree import TreeRecording, write_tree

import fmfbench
from fmfbench.conversion.findings import Report
from fmfbench.conversion.verify import _own_words, verify
from fmfbench.errors import SourceError, StoreError
from fmfbench.store.digest import file_names, seal
from fmfbench.store.named_splits import write_split
from fmfbench.store.schema import mask_spec, parse_array, parse_group
from fmfbench.store.shards import ArrayReader, encode_shard
from fmfbench.store.writer import write_document

RECORDING = "recordings/b-long"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings without any remark: even times, moving frames, finite currents; one without labels."""
    rng = np.random.default_rng(2)
    recordings = {}
    for name, frames, labelled in (("b-long", 75, True), ("a.short", 25, False)):
        label = np.zeros((frames, 6, 9), np.uint8)
        label[7:12, 1:4, 2:7] = 1
        seconds = np.arange(frames) // 25
        recordings[name] = TreeRecording(
            video=rng.integers(0, 256, (frames, 6, 9, 3), dtype=np.uint8),
            label=label if labelled else None,
            frame_seconds=seconds,
            current_seconds=np.repeat(np.unique(seconds), 2),
            current=rng.normal(9000, 10, (2 * len(np.unique(seconds)), 3)),
            train=[*range(6), 20],
            test=[8, 9, 10],
        )
    return write_tree(tmp_path_factory.mktemp("plain") / "pixel-level", recordings)


@pytest.fixture(scope="module")
def whole(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fmfbench.convert(tree, tmp_path_factory.mktemp("whole") / "o.zarr")


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "o.zarr"))


def named(report: Report) -> set[str]:
    return {finding.where for finding in report.damage}


def rewrite(store: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    """Change values of an array with all checksums and sums renewed: damage that only its meaning shows."""
    spec = parse_array(store / name)
    values = ArrayReader(store / name).read()
    change(values)
    (store / name / spec.shard_key(0)).write_bytes(encode_shard(spec, values))
    reseal(store)


def reseal(store: Path, **changes: object) -> None:
    attributes = {**parse_group(store), **{f"fmfbench.{key}": value for key, value in changes.items()}}
    (store / "zarr.json").write_bytes(seal(store, attributes))


def test_a_whole_store_has_nothing_to_report(whole: Path, tree: Path) -> None:
    report = verify(whole, tree)
    assert report.ok
    assert report.damage == report.remarks == ()
    assert (report.recordings, report.files) == (2, len(file_names(whole)))


def test_any_flipped_bit_is_found_and_its_file_named(store: Path) -> None:
    places = random.Random(1)
    for name in file_names(store):
        path = store / name
        data = path.read_bytes()
        size = len(data)
        some = {0, 1, size // 3, size // 2, size - 5, size - 1} | {places.randrange(size) for _ in range(2)}
        if name == "zarr.json":  # every part of it: names, values, its list of sums, its own digest
            some |= {places.randrange(size) for _ in range(60)}
        for place in sorted(p for p in some if 0 <= p < size):
            damaged = bytearray(data)
            damaged[place] ^= 1 << places.randrange(8)
            path.write_bytes(damaged)
            assert named(verify(store, workers=1)) == {name}, f"{name}, byte {place} of {size}"
        path.write_bytes(data)
    assert verify(store).ok


def test_any_absent_file_is_found_and_named(store: Path) -> None:
    for name in file_names(store):
        (store / name).rename(store.parent / "aside")
        report = verify(store)
        assert named(report) == {name}
        assert "absent" in report.damage[0].message
        (store.parent / "aside").rename(store / name)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        f"{RECORDING}/video/c/1/0/0/0",
        f"{RECORDING}/x/zarr.json",
        "recordings/new/zarr.json",
        ".hidden",
    ],
)
@pytest.mark.parametrize("root", [True, False])
def test_an_extra_file_is_found_and_named(name: str, root: bool, store: Path) -> None:
    (store / name).parent.mkdir(parents=True, exist_ok=True)
    (store / name).write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    if not root:
        (store / "zarr.json").unlink()
    found = named(verify(store))
    # Without the root's list a new recording is one whose other files are absent.
    assert name in found or (not root and any(f.startswith("recordings/new/") for f in found))
    assert not root or found == {name}


def test_an_edited_value_in_metadata_is_found_and_named(store: Path) -> None:
    for name in [n for n in file_names(store) if n.endswith("zarr.json")]:
        text = (store / name).read_text()
        document = json.loads(text)
        document["attributes"]["note"] = "edited"
        for edited in (json.dumps(document), text + "\n", text.replace(" ", "", 1), "{}", "", "[]", "null"):
            (store / name).write_text(edited)
            assert named(verify(store)) == {name}, edited[:40]
        (store / name).write_text(text)


def test_all_damage_is_found_at_once(store: Path, tree: Path) -> None:
    (store / "recordings" / "a.short" / "zarr.json").unlink()
    (store / "extra").touch()
    shard = store / RECORDING / "video" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[30] ^= 4
    shard.write_bytes(data)
    (store / RECORDING / "labels" / "source" / "c" / "0" / "0" / "0").unlink()
    expected = {
        "recordings/a.short/zarr.json", "extra", f"{RECORDING}/video/c/0/0/0/0",
        f"{RECORDING}/labels/source/c/0/0/0",
    }  # fmt: skip
    assert named(verify(store, tree)) == expected
    (store / "zarr.json").write_text("{")  # and with no list to go by
    assert named(verify(store, tree)) == expected | {"zarr.json"}


def test_a_damaged_chunk_is_named_with_its_entries(store: Path) -> None:
    shard = store / RECORDING / "class_label" / "c" / "0"
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    [finding] = verify(store).damage
    assert finding.message == "chunk 0 does not match its checksum (entries 0 to 74)"


def set_at(*place: object, value: object) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[place] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        ("frame_time", lambda t: t.__setitem__(5, t[4]), "time"),
        ("current_time", lambda t: t.__setitem__(2, 0), "time"),
        ("split", set_at(3, value=7), "labels"),
        ("split", set_at(3, value=2), "split"),
        ("class_label", set_at(3, value=9), "labels"),
        ("class_label", set_at(8, value=0), "labels"),
        ("class_label", set_at(8, value=0), "fingerprint"),
        ("labels/source", set_at(8, 2, 3, value=255), "labels"),
        ("labels/source", set_at(8, 2, 3, value=0), "fingerprint"),
        ("current", set_at(1, 1, value=np.inf), "current"),
    ],
)
def test_values_that_cannot_be_are_damage(name: str, change: Callable, check: str, store: Path) -> None:
    rewrite(store, f"{RECORDING}/{name}", change)
    report = verify(store)
    assert check in {f.check for f in report.damage}
    assert all(f.check != "checksum" for f in report.damage)


@pytest.mark.parametrize(
    ("key", "value", "check"),
    [("schema", 2, "schema"), ("name", None, "schema"), ("fingerprint", "0" * 64, "fingerprint")],
)
def test_a_root_that_is_sealed_but_wrong_is_damage(key: str, value: object, check: str, store: Path) -> None:
    reseal(store, **{key: value})
    assert [(f.where, f.check) for f in verify(store).damage] == [("zarr.json", check)]


def test_arrays_that_do_not_go_together_are_damage(store: Path) -> None:
    folder = store / RECORDING / "labels" / "other"
    spec = mask_spec(75, 9, 6, {})  # its axes exchanged
    (folder / spec.shard_key(0)).parent.mkdir(parents=True)
    write_document(folder / "zarr.json", spec.to_document())
    (folder / spec.shard_key(0)).write_bytes(encode_shard(spec, np.zeros(spec.shape, np.uint8)))
    reseal(store)
    assert [(f.where, f.check) for f in verify(store).damage] == [
        (f"{RECORDING}/labels/other/zarr.json", "schema")
    ]


@pytest.mark.parametrize("part", ["split", "class_label", "splits/mine", "video"])
def test_without_all_that_the_fingerprint_covers_it_is_not_judged(part: str, store: Path) -> None:
    """The one damage is said, and what else is wrong with the masks, but not that the fingerprint differs."""
    rows = {"b-long": np.arange(75) % 3, "a.short": np.arange(25) % 3}
    write_split(store, "mine", {name: row.astype(np.uint8) for name, row in rows.items()}, {})
    rewrite(store, f"{RECORDING}/labels/source", set_at(8, 2, 3, value=255))
    if part == "video":
        (store / RECORDING / part / "zarr.json").write_text("[]")
    else:
        (shard,) = (path for path in (store / RECORDING / part / "c").rglob("*") if path.is_file())
        shard.write_bytes(shard.read_bytes()[:-1])
    report = verify(store)
    named = {
        (f.where.removeprefix(f"{RECORDING}/").split("/c/")[0].removesuffix("/zarr.json"), f.check)
        for f in report.damage
    }
    assert ("labels/source", "labels") in named
    assert part in {where for where, _ in named}
    assert "fingerprint" not in {check for _, check in named}


def test_remarks_on_what_was_recorded(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    video = rng.integers(0, 256, (60, 6, 9, 3), dtype=np.uint8)
    video[11:15] = video[10]
    video[31] = video[30]
    video[50:53] = video[3:6]
    seconds = np.r_[np.arange(50) // 25, np.full(10, 5)]
    current = rng.normal(9000, 10, (12, 3))
    current[4, 1] = np.nan
    tree = write_tree(
        tmp_path / "pixel-level",
        {
            "r": TreeRecording(
                video=video, label=None, frame_seconds=seconds, current_seconds=np.repeat(np.arange(6), 2),
                current=current,
            )
        },
    )  # fmt: skip
    report = verify(fmfbench.convert(tree, tmp_path / "o.zarr"), tree)
    assert report.ok
    assert [(f.check, f.message) for f in report.remarks] == [
        ("current", "1 current rows with NaN, the first row 4"),
        ("frames", "3 frames repeat an earlier one (frame 50 is frame 3 again)"),
        (
            "frames",
            "5 frames are the same as the one before, in 2 runs (longest: 4 after frame 10)",
        ),
        (
            "gaps",
            "1 gap of more than a second between frames (longest 3.04 s; the first after frame 49)",
        ),
    ]


@pytest.mark.parametrize(
    ("variable", "place", "where"),
    [
        ("data", (40, 1, 5, 3), f"{RECORDING}/video"),
        ("label", (40, 8, 5), f"{RECORDING}/labels/source"),
    ],
)
def test_a_difference_from_the_source_is_damage(
    variable: str, place: tuple[int, ...], where: str, whole: Path, tree: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tree, tmp_path / "pixel-level"))
    with h5py.File(copy / "videos" / "b-long.mat", "r+") as file:
        file[variable][place] ^= 1
    [finding] = verify(whole, copy).damage
    assert (finding.where, finding.check) == (where, "source")
    assert finding.message == "1 frames are not the source's, the first is frame 40"


def test_differences_of_tables_and_recordings_from_the_source(
    whole: Path, tree: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tree, tmp_path / "pixel-level"))
    table = copy / "currents" / "b-long.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows[:3], rows[3].rsplit(",", 1)[0] + ",1", *rows[4:]]))
    (copy / "train.json").write_text(json.dumps({"b-long.mat": [0, 1]}))
    (copy / "videos" / "a.short.mat").rename(copy / "videos" / "c.mat")
    for folder in ("currents", "timestamps"):
        (copy / folder / "a.short.csv").rename(copy / folder / "c.csv")
    test = json.loads((copy / "test.json").read_text())
    (copy / "test.json").write_text(json.dumps({"b-long.mat": test["b-long.mat"]}))
    assert named(verify(whole, copy)) == {
        f"{RECORDING}/current", f"{RECORDING}/split", "recordings/a.short", "recordings/c",
    }  # fmt: skip


def test_a_source_that_is_none_says_nothing_of_the_store(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mat").write_text("no recording")
    for name in ("absent", "empty", "text.mat"):
        with pytest.raises(SourceError, match="expected the source that .* was converted from"):
            verify(whole, tmp_path / name)


def test_what_never_was_a_store_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for name, said in (("folder", "never was"), ("file", "never was"), ("absent", "no such store")):
        with pytest.raises(StoreError, match=said):
            verify(tmp_path / name)


def test_samples_verify_against_their_sources(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "data"
    for name in (
        "v1_octave_v7_nan_current.mat",
        "v2_hdf5storage_v73_empty.mat",
        "v2_matio_py_v73_N1.mat",
        "v2_tree",
    ):
        assert verify(fmfbench.convert(data / name, tmp_path / f"{name}.zarr"), data / name).ok


def test_a_finding_says_what_is_wrong_in_the_whole_words_of_the_error(tmp_path):
    store = tmp_path / "s.zarr"
    assert (
        _own_words(StoreError(f"{store}: expected a group: got a file"), store)
        == "expected a group: got a file"
    )
    assert _own_words(StoreError("expected a: b"), store) == "expected a: b"


def test_there_is_no_bar_unless_it_is_asked_for(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert verify(whole).ok
    assert capfd.readouterr() == ("", "")
