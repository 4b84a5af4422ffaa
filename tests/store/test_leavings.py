"""What systems and other programs leave in a store: ignored everywhere, by one rule.

Also tests fmfbench.files: leavings.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest_run import call

import fmfbench
from fmfbench.annotation.annotate import annotate
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track
from fmfbench.conversion.summary import describe
from fmfbench.conversion.verify import verify
from fmfbench.errors import SourceError
from fmfbench.files.leavings import is_leaving
from fmfbench.store.digest import digest_of, file_names, store_digest
from fmfbench.store.merge import merge
from fmfbench.store.schema import DIGEST_KEY, FILES_KEY, check_name, document_bytes, group_document
from fmfbench.windows.division import split_store

DRAWN = Keyframes(
    size=(32, 24),
    recordings={"run1": (Track(id=0, onset=3, offset=9, keyframes=(Keyframe(frame=4, box=(1, 2, 9, 12)),)),)},
)
NAMES = (
    ".DS_Store",
    "._zarr.json",
    "Thumbs.db",
    "desktop.ini",
    ".directory",
    ".nfs0000000012",
    "._.DS_Store",
)


def litter(store: Path) -> None:
    """A leaving of each kind in every folder of the store, and folders with copies of what lies beside them."""
    for folder in [store, *(path for path in store.rglob("*") if path.is_dir())]:
        for name in NAMES:
            (folder / name).write_bytes(b"left")
        (folder / ".AppleDouble").mkdir()
        if (folder / "zarr.json").exists():
            shutil.copy(folder / "zarr.json", folder / ".AppleDouble")


def test_leavings_are_ignored_everywhere(store, tmp_path):
    clean = shutil.copytree(store, tmp_path / "clean.zarr")
    litter(store)
    report = verify(store)
    assert report.ok, report.damage
    assert report.files == verify(clean).files
    assert file_names(store) == file_names(clean)
    assert store_digest(store) == store_digest(clean)
    ours, theirs = (describe(fmfbench.open_dataset(path)) for path in (store, clean))
    assert {k: v for k, v in ours.items() if k != "store"} == {
        k: v for k, v in theirs.items() if k != "store"
    }
    data = fmfbench.open_dataset(store)
    assert data.recordings["run1"].layers == ("source",)
    assert len(data.windows("test", "short")) == len(fmfbench.open_dataset(clean).windows("test", "short"))
    merged = merge([store], tmp_path / "merged.zarr")
    assert not [
        name for name in fmfbench.open_dataset(merged).attributes[FILES_KEY] if is_leaving(Path(name).name)
    ]


def test_what_is_added_adopts_none(store):
    litter(store)
    annotate(store, DRAWN, as_default=True)
    litter(store)
    split_store(store, by_recording=["run1"])
    listed = fmfbench.open_dataset(store).attributes[FILES_KEY]
    assert not [name for name in listed if any(map(is_leaving, name.split("/")))]
    assert not [path for path in store.rglob("*") if is_leaving(path.name)]
    assert verify(store).ok


def test_a_damaged_root_is_told_without_them(store):
    litter(store)
    root = store / "zarr.json"
    root.write_text(root.read_text().replace('"fmfbench.schema": 1', '"fmfbench.schema": 1 '))
    assert [(item.where, item.check) for item in verify(store).damage] == [("zarr.json", "metadata")]


def test_leavings_that_an_earlier_version_listed_are_no_loss(store):
    """0.1.0 adopted what it met into the list of files; on another machine it is gone."""
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"][FILES_KEY] = {".DS_Store": "0" * 64, **document["attributes"][FILES_KEY]}
    document["attributes"][DIGEST_KEY] = ""
    blank = document_bytes(group_document(document["attributes"]))
    document["attributes"][DIGEST_KEY] = digest_of(document["attributes"][FILES_KEY], blank)
    (store / "zarr.json").write_bytes(document_bytes(group_document(document["attributes"])))
    assert verify(store).ok
    annotate(store, DRAWN)
    assert verify(store).ok


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("group", ["", "recordings", "recordings/run1"])
def test_consolidated_metadata_of_others_is_no_part_of_the_store(store, group):
    before = store_digest(store)
    zarr.consolidate_metadata(str(store), path=group or None)
    assert b"consolidated_metadata" in (store / group / "zarr.json").read_bytes()
    report = verify(store)
    assert report.ok, report.damage
    assert store_digest(store) == before
    said = "holds consolidated metadata that another program wrote; it is ignored"
    assert [item.message for item in report.remarks if item.message == said] == [said]
    annotate(store, DRAWN, as_default=True)
    assert verify(store).ok
    if not group:  # the root is written anew
        assert b"consolidated_metadata" not in (store / "zarr.json").read_bytes()
    np.testing.assert_array_equal(
        zarr.open_group(str(store), mode="r")["recordings/run1/labels/boxes"][:],
        fmfbench.open_dataset(store).recordings["run1"].read_masks(layer="boxes"),
    )


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_consolidated_metadata_hides_no_change(store):
    zarr.consolidate_metadata(str(store))
    root = store / "zarr.json"
    document = json.loads(root.read_text())
    document["attributes"]["fmfbench.name"] = "other"
    root.write_text(json.dumps(document))
    assert not verify(store).ok
    document["attributes"]["fmfbench.name"] = "runs"
    document["more"] = 1
    root.write_text(json.dumps(document))
    assert not verify(store).ok


def test_names_of_leavings_are_no_recordings():
    for name in NAMES:
        with pytest.raises(SourceError, match="expected a recording's name to be printable"):
            check_name(name, "here")
    assert not any(map(is_leaving, ("run1", "zarr.json", ".hidden", "DS_Store", "_run", "thumbs")))


def test_a_source_that_is_a_typing_error_is_exit_2(store):
    result = call("verify", store, "--source", store.parent / "typo", code=2)
    assert "DAMAGED" not in result.output
    assert "expected the source that" in result.output
