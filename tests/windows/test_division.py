"""Dividing a store: which frames are test, how long the guards are, and that no window reaches across them."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest_tree import awkward_recording, write_tree

import fmfbench
from fmfbench.errors import InputError, StoreError, WindowError
from fmfbench.windows.audit import audit, window_reach
from fmfbench.windows.division import Stretch, divide, guard_frames, reach_seconds, split_store
from fmfbench.windows.lines import timeline
from fmfbench.windows.protocol import WindowProtocol, get_protocol

NANO = WindowProtocol(name="nano", num_frames=3, stride=5, current_seconds=2.0)  # reaches back 3 s


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings with gaps and NaN currents, about 19, 12 and 1 s long, H != W."""
    folder = tmp_path_factory.mktemp("awkward")
    recordings = {
        "a": awkward_recording(1, 470),
        "b": awkward_recording(2, 300),
        "c": awkward_recording(3, 20),
    }
    return fmfbench.convert(write_tree(folder / "tree", recordings), folder / "s.zarr")


@pytest.fixture
def store(awkward: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(awkward, tmp_path / "s.zarr"))


def plain_guard(recording, test, protocol):
    """The definition, window by window: a frame is guard if a test window's nominal reach, frames or rows hold it,
    or if it is not test and its own window holds a test frame."""
    times, rows = recording.frame_time, recording.current_time
    reach = round(reach_seconds(protocol) * 1e9)
    held = np.zeros((len(times), len(times)), bool)  # [window, frame]
    for e, t in enumerate(times):
        held[e] = (times > t - reach) & (times <= t)
        for k in range(protocol.num_frames):
            held[e, max(e - k * protocol.stride, 0) : e + 1] |= k == protocol.num_frames - 1
        for k in range(protocol.num_current):
            before = np.flatnonzero(rows <= t - round(k / protocol.current_hz * 1e9))
            if len(before):
                frames = np.flatnonzero(times <= rows[before[-1]])
                held[e, (frames[-1] if len(frames) else 0) : e + 1] = True
    seen = held[test].any(axis=0)
    sees = held[:, test].any(axis=1)
    return ~test & (seen | sees)


@pytest.mark.parametrize("seed", range(5))
def test_guards_are_those_of_the_plain_definition_and_no_window_reaches_across(awkward, seed):
    data = fmfbench.open_dataset(awkward)
    rng = np.random.default_rng(seed)
    protocol = get_protocol(
        NANO, stride=int(rng.integers(1, 9)), current_seconds=float(rng.choice([0.5, 2.0, 4.0]))
    )
    for recording in data.recordings.values():
        n = recording.num_frames
        test = np.zeros(n, bool)
        for _ in range(int(rng.integers(1, 3))):
            a = int(rng.integers(0, n))
            test[a : a + int(rng.integers(1, n // 2))] = True
        guard = guard_frames(timeline(recording), test, protocol)
        np.testing.assert_array_equal(guard, plain_guard(recording, test, protocol))
        divided = recording.divided("source")
        vars(divided)["split"] = np.where(test, 1, np.where(guard, 2, 0)).astype(np.uint8)
        for own in (0, 1):
            reach = window_reach(divided, own, protocol)
            assert not reach.video.any()
            assert not reach.current.any()


def test_the_last_share_with_guards_before_it(store):
    before = fmfbench.open_dataset(store)
    made = split_store(store, test=Fraction(1, 5), protocol=NANO, name="late")
    data = fmfbench.open_dataset(store)
    for name, recording in data.with_split("late").recordings.items():
        n = recording.num_frames
        test = np.flatnonzero(recording.split == 1)
        assert test.tolist() == list(range(n - n // 5, n))
        begins = recording.frame_time[test[0]]
        late = recording.frame_time[: test[0]] > begins - 3_000_000_000
        assert (recording.split[: test[0]][late] == 2).all()
        assert made.counts[name]["test"] == n // 5
    assert data.split_names == ("source", "late")
    assert data.split_name == "source"
    for name, recording in data.recordings.items():
        np.testing.assert_array_equal(recording.split, before.recordings[name].split)
    assert data.fingerprint == before.fingerprint == data.fingerprint_of("source:test")
    assert (
        data.fingerprint_of("late:val") == data.fingerprint_of("late") == made.fingerprint != data.fingerprint
    )


def test_windows_train_fit_and_strict_of_a_named_split(store):
    split_store(store, at=[Stretch(recording="a", start=Fraction(4), stop=Fraction(8))], protocol=NANO)
    data = fmfbench.open_dataset(store)
    view = data.with_split("derived")
    for part in ("train", "test", "unused"):
        ids = data.sample_ids(f"derived:{part}")
        np.testing.assert_array_equal(ids, view.sample_ids(part))
        windows = data.windows(f"derived:{part}", NANO)
        np.testing.assert_array_equal(windows.sample_ids, ids)
        assert windows.split == f"derived:{part}"
    assert sum(len(data.sample_ids(f"derived:{p}")) for p in ("train", "test", "unused")) == data.num_samples
    # foreign is what the named split calls foreign: its guards leave nothing out, the source's split would
    assert not len(data.windows("derived:test", NANO, context="strict").left_out)
    assert not len(data.windows("derived:train", NANO, context="strict").left_out)
    times = data.recordings["a"].frame_time
    seconds = (times - times[0]) / 1e9
    expected = np.flatnonzero((seconds >= 4) & (seconds < 8))
    np.testing.assert_array_equal(data.sample_ids("derived:test"), expected)
    assert [row["strict_left_out"] for row in audit(data, NANO, frames=False, split="derived").rows] == [
        []
    ] * 4
    left = data.sample_ids("derived:loro-val:b")
    np.testing.assert_array_equal(left, data.first_ids[1] + np.arange(300))


def test_whole_recordings_need_no_guard(store):
    made = split_store(store, by_recording=["b"])
    data = fmfbench.open_dataset(store)
    np.testing.assert_array_equal(data.sample_ids("derived:test"), 470 + np.arange(300))
    assert not len(data.sample_ids("derived:unused"))
    assert made.protocol is None


def test_the_default_is_what_parts_without_a_name_are_of(store):
    source = fmfbench.open_dataset(store)
    split_store(store, by_recording=["a"], name="x", as_default=True)
    data = fmfbench.open_dataset(store)
    assert data.split_name == "x"
    np.testing.assert_array_equal(data.sample_ids("test"), np.arange(470))
    np.testing.assert_array_equal(data.sample_ids("source:test"), source.sample_ids("test"))
    assert data.fingerprint == data.fingerprint_of("x") != source.fingerprint == data.fingerprint_of("source")
    assert (data.split_label("test"), data.split_label("source:val")) == ("x:test", "val")
    split_store(store, name="source", as_default=True)
    back = fmfbench.open_dataset(store)
    assert (back.split_name, back.fingerprint) == ("source", source.fingerprint)
    assert "fmfbench.default_split" not in back.attributes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"test": Fraction(1, 5)},
            "a 22.68 s, b .* s, c .* s; what would fit: --by-recording c",
        ),
        ({"test": Fraction(1, 1000)}, "none of test"),
        ({"by_recording": ["a", "b", "c"]}, "none of train"),
        ({"by_recording": ["a", "d"]}, "expected one of the store's recordings a, b, c, got 'd'"),
        ({"at": [Stretch(recording="d", start=Fraction(0), stop=None)]}, "recordings a, b, c, got 'd'"),
        ({"at": [Stretch(recording="a", start=Fraction(1), stop=Fraction(100))]}, "from 0 to .*, got 1-100"),
        ({"at": [Stretch(recording="a", start=Fraction(100), stop=None)]}, "that hold a frame"),
        ({}, "expected one of --test, --by-recording and --at"),
        ({"test": Fraction(1, 5), "by_recording": ["a"]}, "got test and by_recording"),
        ({"test": Fraction(1, 5), "protocol": "long"}, "protocol: expected one of|expected a protocol"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_the_store_alone(store, options, expected):
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    with pytest.raises(WindowError, match=expected):
        split_store(store, **options)
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in store.parent.iterdir()) == ["s.zarr"]


def test_what_the_message_says_would_fit_fits(store):
    with pytest.raises(WindowError, match=r"would fit: --test 30%, or --by-recording c") as error:
        split_store(store, test=Fraction(9, 10), protocol=get_protocol(NANO, current_seconds=12.0))
    assert "guards of 13 s" in str(error.value)
    split_store(store, test=Fraction(3, 10), protocol=get_protocol(NANO, current_seconds=12.0))


@pytest.mark.parametrize(
    "name", ["source", "test", "val", "loro-val", "a b", "", "-x", "x" * 65, "../x", "ü"]
)
def test_names_that_cannot_be(store, name):
    with pytest.raises(StoreError, match="name"):
        split_store(store, by_recording=["a"], name=name)


def test_unknown_and_partless_splits_are_named(store):
    split_store(store, by_recording=["a"])
    data = fmfbench.open_dataset(store)
    with pytest.raises(StoreError, match="expected a split of the store, got 'x'; it has source, derived"):
        data.windows("x:test")
    with pytest.raises(StoreError, match="as in derived:train or derived:test, got 'derived'"):
        data.sample_ids("derived")


def test_divide_without_a_protocol_has_no_unused_frame(awkward):
    data = fmfbench.open_dataset(awkward)
    test = {name: np.arange(r.num_frames) < 5 for name, r in data.recordings.items()}
    assert {int(x) for split in divide(data, test, None).values() for x in np.unique(split)} == {0, 1}


def test_a_store_elsewhere_is_refused_in_one_line():
    with pytest.raises(InputError, match="expected a path on this machine, got a URL"):
        split_store("s3://bucket/fmf.zarr", by_recording=["a"])
