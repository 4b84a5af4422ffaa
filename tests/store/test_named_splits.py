"""Named splits on disk: whole or not at all, known to verify, kept by layers, opened by zarr and xarray.

Also tests fmfbench.store: split_names.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import xarray
import zarr

import fmfbench
from fmfbench.annotation.annotate import annotate
from fmfbench.annotation.keyframes import Keyframe, Keyframes, Track
from fmfbench.conversion.verify import verify
from fmfbench.errors import StoreError
from fmfbench.store.digest import seal
from fmfbench.store.named_splits import split_provenance, write_split
from fmfbench.store.split_names import FINGERPRINTS_KEY
from fmfbench.windows.division import split_store
from fmfbench.windows.protocol import WindowProtocol

NANO = WindowProtocol(name="nano", num_frames=2, stride=2, current_seconds=0.1, current_hz=20, tolerance=0.02)
DRAWN = Keyframes(
    size=(32, 24),
    recordings={"run1": (Track(id=0, onset=3, offset=9, keyframes=(Keyframe(frame=4, box=(1, 2, 9, 12)),)),)},
)


def plain_fingerprint(data, split):
    """From the store's own arrays, as design and card say it: the split in the place of the source's."""
    total = hashlib.sha256()
    for name, recording in data.recordings.items():
        own = zarr.open_group(str(data.path), mode="r")[f"recordings/{name}"]
        total.update(f"{name}\0{recording.num_frames}\0{recording.height}\0{recording.width}\n".encode())
        total.update(own[split][:].tobytes() + own["class_label"][:].tobytes())
        if data.default_layer in recording.layers:
            masks = own[f"labels/{data.default_layer}"][:]
            total.update(np.packbits(masks.reshape(len(masks), -1), axis=1).tobytes())
    return total.hexdigest()


def test_fingerprints_are_those_of_the_plain_definition_and_follow_the_layers(store):
    before = fmfbench.open_dataset(store).fingerprint
    split_store(store, test=Fraction(1, 4), protocol=NANO, name="late")
    split_store(store, by_recording=["run1"], name="one")
    data = fmfbench.open_dataset(store)
    assert data.fingerprint == before == plain_fingerprint(data, "split")
    for name in ("late", "one"):
        assert data.fingerprint_of(name) == plain_fingerprint(data, f"splits/{name}")
    annotate(store, DRAWN, as_default=True)
    data = fmfbench.open_dataset(store)
    assert data.fingerprint == plain_fingerprint(data, "split") != before
    for name in ("late", "one"):
        assert data.fingerprint_of(name) == plain_fingerprint(data, f"splits/{name}")
    report = verify(store)
    assert report.ok, report.damage


def test_others_open_it_and_read_its_provenance(store):
    split_store(store, test=Fraction(1, 4), protocol=NANO)
    data = fmfbench.open_dataset(store)
    group = zarr.open_group(str(store), mode="r")["recordings/run2/splits/derived"]
    np.testing.assert_array_equal(group[:], data.with_split("derived").recordings["run2"].split)
    opened = xarray.open_zarr(str(store), group="recordings/run2/splits", consolidated=False)
    assert opened["derived"].dims == ("frame",)
    made = split_provenance(data, "run2", "derived")
    assert made["parameters"]["rule"] == "test"
    assert made["parameters"]["share"] == "1/4"
    assert made["parameters"]["protocol"]["name"] == "nano"
    assert sum(made["counts"].values()) == 37


def test_the_same_again_changes_nothing_and_another_is_refused(store):
    assert split_store(store, test=Fraction(1, 4), protocol=NANO).written
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    assert not split_store(store, test=Fraction(1, 4), protocol=NANO).written
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before
    with pytest.raises(StoreError, match="never overwritten: choose another name"):
        split_store(store, test=Fraction(1, 3), protocol=NANO)
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before
    assert split_store(store, test=Fraction(1, 4), protocol=NANO, as_default=True).default == "derived"


@pytest.mark.parametrize("change", ["value", "missing", "extra", "default", "fingerprint"])
def test_verify_knows_the_arrays(store, change):
    split_store(store, test=Fraction(1, 4), protocol=NANO)
    assert verify(store).ok
    root = store / "zarr.json"
    document = json.loads(root.read_text())
    folder = store / "recordings/run1/splits/derived"
    if change == "value":
        shard = next((folder / "c").iterdir())
        raw = bytearray(shard.read_bytes())
        raw[3] ^= 1
        shard.write_bytes(raw)
    elif change == "missing":
        shutil.rmtree(folder)
    elif change == "extra":
        shutil.copytree(folder, folder.with_name("other"))
    elif change == "default":
        document["attributes"]["fmfbench.default_split"] = "other"
    else:
        document["attributes"]["fmfbench.fingerprints"]["derived"] = "0" * 64
    root.write_text(json.dumps(document, indent=1))
    damage = [str(item) for item in verify(store).damage]
    assert damage
    named = {"value": "splits/derived", "missing": "splits/derived", "extra": "splits/other"}
    assert any(
        named.get(change, "default split" if change == "default" else "of split derived") in d for d in damage
    )


def test_values_that_are_no_split_are_never_written(store):
    data = fmfbench.open_dataset(store)
    good = {name: np.zeros(r.num_frames, np.uint8) for name, r in data.recordings.items()}
    for bad in (
        {"run1": good["run1"]},
        good | {"run1": good["run1"][:-1]},
        good | {"run1": good["run1"].astype(np.int64)},
        good | {"run1": good["run1"] + np.uint8(3)},
    ):
        with pytest.raises(StoreError, match="expected"):
            write_split(store, "x", bad, {})
    assert fmfbench.open_dataset(store).split_names == ("source",)


_DYING = """
import os, sys
from fmfbench.windows.division import split_store
store, step = sys.argv[1], int(sys.argv[2])
left = step
def hook(event, arguments):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "ctypes.dlsym") and (
        store in str(arguments) or event == "ctypes.dlsym"
    ):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(hook)
split_store(store, by_recording=["run1"], as_default=True)
print(step - left)
"""


@pytest.fixture(scope="module")
def steps(labelled_store, tmp_path_factory):
    """How often writing a split touches the file system."""
    store = shutil.copytree(labelled_store, tmp_path_factory.mktemp("steps") / "runs.zarr")
    script = [sys.executable, "-c", _DYING, str(store), "1000000"]
    return int(subprocess.run(script, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="the audit hook kills as kill -9 does")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995])
def test_killed_at_any_step_the_store_is_whole_and_the_same_command_ends_well(store, steps, share):
    before = fmfbench.open_dataset(store).fingerprint
    script = [sys.executable, "-c", _DYING, str(store), str(int(steps * share))]
    assert subprocess.run(script, check=False).returncode == 9
    assert verify(store).ok
    data = fmfbench.open_dataset(store)
    assert data.fingerprint_of("source") == before
    split_store(store, by_recording=["run1"], as_default=True)
    data = fmfbench.open_dataset(store)
    assert data.split_name == "derived"
    assert verify(store).ok
    assert sorted(p.name for p in store.parent.iterdir() if not p.name.endswith(".lock")) == ["runs.zarr"]


@pytest.mark.parametrize(
    ("listed", "said"),
    [({"source", "one"}, None), ({"source"}, "a split that the root does not list"),
     ({"source", "one", "gone"}, "is absent, though the root lists it")],
)  # fmt: skip
def test_splits_that_the_root_does_not_tell_of_are_damage(store, listed, said):
    split_store(store, by_recording=["run1"], name="one")
    attributes = json.loads((store / "zarr.json").read_bytes())["attributes"]
    prints = attributes[FINGERPRINTS_KEY]
    attributes[FINGERPRINTS_KEY] = {name: prints.get(name, "0" * 64) for name in listed}
    (store / "zarr.json").write_bytes(seal(store, attributes))
    damage = [str(entry) for entry in verify(store).damage]
    assert any(said in entry for entry in damage) if said else not damage
