"""Conversion: every sample file to its documented content, read back by plain zarr and by xarray.

Also tests fmfbench.conversion: recordings, work.
Also tests fmfbench.sources: v1.
"""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import hdf5storage
import numpy as np
import pytest
import scipy.io
import xarray
import zarr

import fmfbench
from fmfbench.conversion.convert import make_options
from fmfbench.errors import SourceError, StoreError
from fmfbench.sources.source import Options

DATA = Path(__file__).parents[1] / "data"
REFUSED = {
    "octave_hdf5_not_v73.h5",
    *(
        f"v1_octave_v7_{w}.mat"
        for w in ("wrong_name", "missing_label", "label_WHN", "double01_video", "in_struct")
    ),
}
FILES = sorted(p.name for p in DATA.iterdir() if p.suffix in (".mat", ".h5"))
BAD = sorted(n for n in FILES if n.startswith("bad_") or n in REFUSED)
GOOD = sorted(set(FILES) - set(BAD))


def documented(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Video, label, current and index of a sample file, from its README's formulae."""
    n = 1 if "_N1" in name else 0 if "_N0" in name or "empty" in name else 10
    t, r, c, k = np.ogrid[:n, :24, :32, :3]
    video = ((r + 3 * c + 17 * k + 5 * t) % 256).astype(np.uint8)
    t, r, c = np.ogrid[:n, :24, :32]
    label = ((r >= 5) & (r <= 11) & (c >= 8) & (c <= 19) & (t >= 3) & (t <= 7)).astype(np.uint8)
    current = 6000 + 500 * np.sin(np.arange(1, 4) * np.arange(n)[:, None] / 3)
    if "nan_current" in name:
        current[3, 1] = current[8, 2] = np.nan
    return video, label, current, (np.arange(n) >= 7).astype(np.uint8)


@pytest.mark.parametrize("name", GOOD)
def test_good_samples_have_their_documented_content(name: str, tmp_path: Path) -> None:
    store = fmfbench.convert(DATA / name, tmp_path / "out.zarr", workers=1)
    stem = name.removesuffix(".mat")
    group = zarr.open_group(store, mode="r")[f"recordings/{stem}"]
    frames = xarray.open_zarr(store, group=f"recordings/{stem}", consolidated=False)
    video, label, current, index = documented(name)
    v1 = name.startswith("v1")
    for read in (lambda a: group[a][:], lambda a: frames[a].values):
        np.testing.assert_array_equal(read("video"), video)
        np.testing.assert_allclose(read("current"), current if v1 else np.empty((0, 3)), atol=1e-3)
        np.testing.assert_array_equal(read("split"), index if v1 else np.full(len(video), 2))
    assert group["frame_time"][:].tolist() == [i * 40_000_000 for i in range(len(video))]
    assert frames["frame_time"].dtype == np.dtype("datetime64[ns]")
    assert frames["video"].dims == ("frame", "y", "x", "channel")
    assert group["current"].shape == (len(current) if v1 else 0, 3)
    if "no_label" in name:
        assert (group["class_label"][:] == 255).all()
        assert not list(group["labels"].arrays())
    else:
        np.testing.assert_array_equal(group["labels/source"][:], label)
        np.testing.assert_array_equal(group["class_label"][:], label.any(axis=(1, 2)))
    assert fmfbench.open_dataset(store).recordings[stem].time_origin == "start"


@pytest.mark.parametrize("name", BAD)
def test_bad_samples_are_refused_and_leave_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fmfbench.convert(DATA / name, tmp_path / "out.zarr")
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_v2_tree(tmp_path: Path) -> None:
    store = fmfbench.convert(DATA / "v2_tree", tmp_path / "tree.zarr")
    data = fmfbench.open_dataset(store)
    recording = data.recordings["SaveToAvi-demo"]
    video, label, _, _ = documented("v2")
    np.testing.assert_array_equal(recording.read_video(), video)
    np.testing.assert_array_equal(recording.read_masks(), label)
    assert recording.split.tolist() == [0] * 6 + [2, 2, 1, 1]
    start = int(np.datetime64("2023-05-10T21:33:25", "ns").astype(np.int64))
    assert (recording.frame_time - start).tolist() == [10**9 + 40_000_000 * k for k in range(20, 30)]
    assert (recording.current_time - start).tolist() == [500_000_000 * k for k in range(8)]
    np.testing.assert_allclose(
        recording.current[:2], [[6342.75, 8157.79, 6149.69], [6342.75, 8158.79, 6149.69]]
    )
    assert recording.time_origin == "clock"
    assert data.sample_ids("test").tolist() == [8, 9]
    same = fmfbench.convert(DATA / "v2_tree" / "pixel-level", tmp_path / "inner.zarr")
    assert fmfbench.open_dataset(same).fingerprint == data.fingerprint


def test_ids_and_labels_of_several_recordings(awkward_store: Path) -> None:
    data = fmfbench.open_dataset(awkward_store)
    assert list(data.recordings) == ["a.dotted", "b-long", "c-short"]
    assert data.num_samples == 330 + 700 + 20
    recording, frame = data.locate([0, 329, 330, 1029, 1030, 1049])
    assert recording.tolist() == [0, 0, 1, 1, 2, 2]
    assert frame.tolist() == [0, 329, 0, 699, 0, 19]
    parts = [data.sample_ids(s) for s in ("train", "test", "unused")]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), data.sample_ids("all"))
    for r in data.recordings.values():
        np.testing.assert_array_equal(r.class_label, r.read_masks().any(axis=(1, 2)))
        ids = np.arange(r.num_frames) + r.first_id
        np.testing.assert_array_equal(data.class_labels(ids), r.class_label)
    with pytest.raises(StoreError, match="sample ids 0 to 1049"):
        data.locate([1050])


def test_bytes_do_not_depend_on_workers(awkward_tree: Path, awkward_store: Path, tmp_path: Path) -> None:
    other = fmfbench.convert(awkward_tree, tmp_path / "awkward.zarr", workers=1)
    for path in sorted(awkward_store.rglob("*")):
        if path.is_file() and path.name != "zarr.json":
            assert path.read_bytes() == (other / path.relative_to(awkward_store)).read_bytes()
    assert fmfbench.open_dataset(other).fingerprint == fmfbench.open_dataset(awkward_store).fingerprint
    kinds = {p.name for p in other.rglob("*") if p.is_file()} - {"zarr.json"}
    assert all(name.isdigit() for name in kinds)


def test_class_level_labels_of_another_writer(tmp_path: Path) -> None:
    video = np.random.default_rng(0).integers(0, 256, (7, 5, 3, 40), dtype=np.uint8)
    label = (np.arange(40) % 7 > 3).astype(float)[None]
    scipy.io.savemat(tmp_path / "run.mat", {
        "video": video, "current": np.ones((3, 40)), "label": label * 255, "train_test_index": np.zeros((40, 1)),
    }, do_compression=True)  # fmt: skip
    hdf5storage.writes({"data": video, "label": label}, filename=str(tmp_path / "two.mat"),
                       options=hdf5storage.Options(matlab_compatible=True))  # fmt: skip
    for name in ("run", "two"):
        data = fmfbench.open_dataset(fmfbench.convert(tmp_path / f"{name}.mat", tmp_path / f"{name}.zarr"))
        recording = data.recordings[name]
        np.testing.assert_array_equal(recording.read_video(), video.transpose(3, 0, 1, 2))
        np.testing.assert_array_equal(recording.class_label, label[0])
        assert recording.layers == ()
        assert data.default_layer is None
        assert not data.windows("all", protocol="short").batch([0])["mask_valid"].any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "got 2.0 in frame 2"),
        ([0, 1, 255], "both 1 and 255"),
        ([0, 0.3, 1], "got 0.3 in frame 1"),
        ([0, np.nan, 1], "got nan in frame 1"),
        ([0, -1, 1], "got -1.0 in frame 1"),
    ],
)
def test_labels_other_than_two_values_are_refused(labels: list[float], message: str, tmp_path: Path) -> None:
    label = np.zeros((4, 6, 3))
    label[2, 5] = labels
    scipy.io.savemat(tmp_path / "run.mat", {
        "video": np.zeros((4, 6, 3, 3), np.uint8), "current": np.ones((3, 3)), "label": label,
        "train_test_index": np.zeros((1, 3)),
    })  # fmt: skip
    with pytest.raises(SourceError, match=message):
        fmfbench.convert(tmp_path / "run.mat", tmp_path / "out.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["run.mat"]


def test_names_can_be_mapped(tmp_path: Path) -> None:
    store = fmfbench.convert(
        DATA / "v1_octave_v7_wrong_name.mat", tmp_path / "o.zarr", names={"video": "Video"}
    )
    data = fmfbench.open_dataset(store)
    np.testing.assert_array_equal(data.recordings["v1_octave_v7_wrong_name"].read_video(), documented("")[0])
    assert data.attributes["fmfbench.options"] == {"map": {"video": "Video"}}


def test_fps_sets_the_times_of_v1(tmp_path: Path) -> None:
    store = fmfbench.convert(DATA / "v1_octave_v7.mat", tmp_path / "o.zarr", fps=50)
    recording = fmfbench.open_dataset(store).recordings["v1_octave_v7"]
    assert (
        recording.frame_time[:3].tolist()
        == recording.current_time[:3].tolist()
        == [0, 20_000_000, 40_000_000]
    )
    with pytest.raises(SourceError, match="above 0 and at most 10000, got 0"):
        fmfbench.convert(DATA / "v1_octave_v7.mat", tmp_path / "p.zarr", fps=0)


def test_a_finished_store_is_not_overwritten_unasked(tmp_path: Path) -> None:
    source, target = tmp_path / "run.mat", tmp_path / "o.zarr"
    shutil.copy(DATA / "v1_octave_v7.mat", source)
    fmfbench.convert(source, target)
    before = (target / "zarr.json").read_bytes()
    with pytest.raises(StoreError, match="--overwrite"):
        fmfbench.convert(source, target)
    assert (target / "zarr.json").read_bytes() == before
    shutil.copy(DATA / "v1_octave_v7_N1.mat", source)
    fmfbench.convert(source, target, overwrite=True)
    assert fmfbench.open_dataset(target).num_samples == 1
    (tmp_path / "mine").mkdir()
    with pytest.raises(StoreError, match="a store of fmfbench, got something else"):
        fmfbench.convert(source, tmp_path / "mine", overwrite=True)
    with pytest.raises(StoreError, match="does not exist"):
        fmfbench.convert(source, tmp_path / "no" / "o.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "o.zarr", "run.mat"]


def test_nothing_asked_for_is_nothing_recorded() -> None:
    """Defaults of `convert`, of the options it makes, and of the options themselves are the same."""
    plain = make_options(workers=1)
    assert plain == Options()
    assert plain.to_dict() == {}
    asked = {name: p.default for name, p in inspect.signature(fmfbench.convert).parameters.items()}
    made = {name: p.default for name, p in inspect.signature(make_options).parameters.items()}
    assert {name: asked[name] for name in made} == made


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("current_hz", (0.001, 10_000), (0, -1, 10_001)),
        ("fps", (0.001, 10_000), (0, -25, 10_001)),
        ("offset", (-999_999_999, 999_999_999), (-1e9, 1e9)),
        ("decimal", (".", ",", None), (";", "", "..")),
        ("workers", (1, 64), (0, -1)),
    ],
)
def test_options_are_taken_up_to_their_bounds(option: str, good: tuple[object], bad: tuple[object]) -> None:
    for value in good:
        make_options(**{option: value})
    for value in bad:
        with pytest.raises(SourceError, match="expected"):
            make_options(**{option: value})
