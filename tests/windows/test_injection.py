"""Outliers drawn into a split, and the file that holds them.

Also tests fmfbench.exchange: outliers.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

import fmfbench
from fmfbench.errors import PredictionError, WindowError
from fmfbench.exchange.outliers import KINDS, Outliers, read_outliers, write_outliers
from fmfbench.windows.injection import _far_partners, make_outliers, parse_ratio

ARRAYS = [item.name for item in fields(Outliers) if item.name != "meta"]


@pytest.fixture(scope="module")
def data(awkward_store):
    return fmfbench.open_dataset(awkward_store)


def drawn(data, **options):
    return make_outliers(data, **({"split": "all", "protocol": "short"} | options))


def rows(outliers, kind):
    return outliers.kind == 1 + KINDS.index(kind)


# --- what is drawn


@pytest.mark.parametrize("ratio", ["19:1", "4:1", "1:1", "1:4"])
def test_kinds_share_what_the_ratio_asks_for(data, ratio):
    outliers = drawn(data, ratio=ratio)
    ids = data.sample_ids("all")
    assert np.array_equal(outliers.sample_id, ids[data.class_labels(ids) == 0])
    normal, outlying = parse_ratio(ratio)
    counts = outliers.counts()
    assert sum(counts.values()) == len(outliers)
    assert len(outliers) - counts["normal"] == round(len(outliers) * outlying / (normal + outlying))
    assert max(counts[kind] for kind in KINDS) - min(counts[kind] for kind in KINDS) <= 1


def test_each_kind_shows_what_its_name_says(data):
    outliers = drawn(data, ratio="1:1")
    own, video, current = outliers.sample_id, outliers.video_id, outliers.current_id
    abnormal_video, abnormal_current = data.class_labels(video) == 1, data.class_labels(current) == 1
    normal = outliers.kind == 0
    assert np.array_equal(video[normal], own[normal])
    assert np.array_equal(current[normal], own[normal])
    attribute = rows(outliers, "attribute")
    assert (abnormal_video & abnormal_current)[attribute].all()
    cross = rows(outliers, "cross-modal")
    assert not (abnormal_video | abnormal_current)[cross].any()
    assert np.array_equal(video[cross], own[cross])
    assert (current != own)[cross].all()
    mixed = rows(outliers, "mixed")
    assert (abnormal_video ^ abnormal_current)[mixed].all()
    assert np.array_equal((video == own)[mixed], ~abnormal_video[mixed])
    assert np.array_equal((current == own)[mixed], ~abnormal_current[mixed])
    assert 0.3 < abnormal_video[mixed].mean() < 0.7
    assert not outliers.video_shuffled.any()
    assert not outliers.current_shuffled.any()


def test_cross_modal_currents_come_from_far_away(data):
    times = np.concatenate([record.frame_time for record in data.recordings.values()])
    for apart in (None, 3.0):  # short spans 20 s
        outliers = drawn(data, ratio="1:1", kinds=["cross-modal"], apart=apart)
        cross = rows(outliers, "cross-modal")
        one, _ = data.locate(outliers.sample_id[cross])
        other, _ = data.locate(outliers.current_id[cross])
        distance = np.abs(times[outliers.sample_id[cross]] - times[outliers.current_id[cross]])
        least = 20e9 if apart is None else 3e9
        assert (distance[one == other] >= least).all()
        assert outliers.meta["apart_seconds"] == least / 1e9
    assert (one == other).any()


def test_far_partners_equal_brute_force():
    recording = np.repeat([0, 2, 3], [12, 7, 1])
    time = np.concatenate([np.arange(12) * 3, 100 + np.arange(7) * 5, [0]])
    every = np.arange(20)
    for apart in (0, 3, 7, 40):
        allowed = [
            {j for j in every if j != i and (recording[i] != recording[j] or abs(time[i] - time[j]) >= apart)}
            for i in every
        ]
        seen = [set() for _ in every]
        for seed in range(300):
            partner = _far_partners(np.random.default_rng(seed), every, recording, time, apart)
            for i in every:
                seen[i].add(int(partner[i]))
        assert seen == allowed


def test_no_far_partner_is_said():
    found = _far_partners(np.random.default_rng(0), np.arange(3), np.zeros(3, int), np.array([0, 4, 10]), 10)
    assert found.tolist() == [2, -1, 0]


def test_shuffled_needs_no_labels(data):
    outliers = drawn(data, ratio="1:1", abnormal="shuffled")
    attribute, mixed = rows(outliers, "attribute"), rows(outliers, "mixed")
    assert (outliers.video_shuffled & outliers.current_shuffled)[attribute].all()
    assert (outliers.video_shuffled ^ outliers.current_shuffled)[mixed].all()
    rest = ~(attribute | mixed)
    assert not (outliers.video_shuffled | outliers.current_shuffled)[rest].any()
    assert np.array_equal(outliers.video_id, outliers.sample_id)
    cross = rows(outliers, "cross-modal")
    assert np.array_equal((outliers.current_id != outliers.sample_id), cross)


def test_kinds_may_be_chosen(data):
    outliers = drawn(data, kinds=["mixed", "attribute"])
    assert outliers.counts()["cross-modal"] == 0
    assert outliers.meta["kinds"] == ["attribute", "mixed"]
    assert min(outliers.counts()[kind] for kind in ("attribute", "mixed")) > 0


def test_every_and_split_choose_the_samples(data):
    outliers = drawn(data, split="train", every=3, ratio="1:1")
    ids = data.windows("train", "short", every=3).sample_ids
    assert np.array_equal(outliers.sample_id, ids[data.class_labels(ids) == 0])
    assert np.isin(outliers.video_id, ids).all()
    assert np.isin(outliers.current_id, ids).all()


def test_a_seed_decides(data, tmp_path):
    one, same, other = drawn(data, seed=4), drawn(data, seed=4), drawn(data, seed=5)
    paths = [write_outliers(tmp_path / f"{i}.npz", made) for i, made in enumerate((one, same, other))]
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second
    assert first != third
    assert not np.array_equal(one.kind, other.kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": "4"}, "ratio of normal to outlying samples such as 19:1 or 1:4, got '4'"),
        ({"ratio": "0:1"}, "got '0:1'"),
        ({"ratio": "1:-1"}, "got '1:-1'"),
        ({"kinds": ["mixd"]}, "expected kinds of attribute, cross-modal, mixed, got mixd"),
        ({"kinds": []}, "got none"),
        ({"abnormal": "noise"}, "expected abnormal as labels or shuffled, got 'noise'"),
        ({"seed": -1}, "seed of 0 or more, got -1"),
        ({"apart": -1.0}, "apart as seconds of 0 or more, got -1"),
        ({"apart": float("nan")}, "got nan"),
        ({"ratio": "100000:1"}, "an outlier of each of 3 kinds"),
        ({"ratio": "1:100000"}, "expected normal samples and an outlier"),
        ({"protocol": "long"}, "protocol: expected one of .*, got 'long'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(data, options, message):
    with pytest.raises(WindowError, match=message):
        drawn(data, **options)


def test_the_least_that_can_be_drawn(data):
    count = len(drawn(data))
    assert drawn(data, ratio=f"{count - 3}:3").counts()["mixed"] == 1
    assert drawn(data, ratio=f"1:{count - 1}").counts()["normal"] == 1


@pytest.fixture(scope="module")
def unlabelled(awkward_store, tmp_path_factory):
    """The same store as one without labels, and as one that is all normal, would read."""

    def relabelled(value):
        data = fmfbench.open_dataset(awkward_store)
        for record in data.recordings.values():
            record.__dict__["class_label"] = np.full(record.num_frames, value, np.uint8)
        return data

    return relabelled


def test_a_store_without_labels(unlabelled):
    with pytest.raises(WindowError, match="expected normal samples in split all.*--abnormal shuffled"):
        drawn(unlabelled(255))
    outliers = drawn(unlabelled(255), abnormal="shuffled")
    assert len(outliers) == unlabelled(255).num_samples


def test_a_store_without_abnormal_samples(unlabelled):
    with pytest.raises(
        WindowError, match="expected samples labelled abnormal in split all.*cross-modal alone"
    ):
        drawn(unlabelled(0))
    assert drawn(unlabelled(0), kinds=["cross-modal"]).counts()["cross-modal"] > 0


def test_seconds_apart_that_no_sample_reaches(data):
    def one_recording(seconds):
        only = fmfbench.open_dataset(data.path)
        (first, *_) = only.recordings
        only.__dict__["recordings"] = {first: only.recordings[first]}
        return drawn(only, kinds=["cross-modal"], apart=seconds)

    assert len(one_recording(1.0))
    with pytest.raises(WindowError, match="lies 999 s or more from sample .* ask for fewer seconds apart"):
        one_recording(999.0)


def test_frames_of_several_sizes_are_refused(data, monkeypatch):
    kind = type(data.recordings["c-short"])
    monkeypatch.setattr(kind, "height", property(lambda record: 12 if record.name == "c-short" else 6))
    with pytest.raises(WindowError, match="expected recordings of one frame size, got 6 x 9, 12 x 9"):
        drawn(data)


# --- the file


def test_a_file_gives_back_what_was_written(data, tmp_path):
    outliers = drawn(data, ratio="1:1", seed=9)
    found = read_outliers(write_outliers(tmp_path / "o.npz", outliers))
    for name in ARRAYS:
        assert getattr(found, name).dtype == getattr(outliers, name).dtype
        np.testing.assert_array_equal(getattr(found, name), getattr(outliers, name))
    assert found.meta == json.loads(json.dumps(dict(outliers.meta)))
    assert (found.seed, found.fingerprint) == (9, data.fingerprint)
    with np.load(tmp_path / "o.npz", allow_pickle=False) as plain:
        assert set(plain) == {*ARRAYS, "meta"}


def saved(path, outliers, **changed):
    arrays = {name: getattr(outliers, name) for name in ARRAYS}
    arrays["meta"] = np.array(json.dumps(dict(outliers.meta)))
    arrays |= changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_what_is_no_outlier_file_is_refused(data, tmp_path):
    good = drawn(data)
    path = tmp_path / "o.npz"
    assert len(read_outliers(saved(path, good))) == len(good)
    meta = dict(good.meta)
    wrong = {
        "got none called kind": {"kind": None},
        "got none called meta": {"meta": None},
        "kind: expected shape": {"kind": good.kind.astype(np.int64)},
        "expected arrays of one length": {"kind": good.kind[:-1]},
        "expected sample_id and recording to rise": {"sample_id": good.sample_id[::-1].copy()},
        "frame_time: expected it to rise": {"frame_time": np.zeros_like(good.frame_time)},
        "expected kinds of 0 to 3": {"kind": np.full_like(good.kind, 4)},
        "flags of 0 and 1, got kind .* and flag 2": {"video_shuffled": np.full_like(good.kind, 2)},
        "expected sample ids of 0 or more": {"current_id": good.current_id - 100_000},
        "expected samples of kind 0": {"video_id": np.where(good.kind == 0, 0, good.video_id)},
        "and no others, to be shown": {"kind": np.maximum(good.kind, 1)},
        "expected the meta of outlier schema": {"meta": np.array(json.dumps(meta | {"schema": 2}))},
        "of outlier schema 1, got another": {"meta": np.array(json.dumps(meta | {"seed": -1}))},
        "meta: expected JSON text": {"meta": np.zeros(3)},
        "pickled objects": {"kind": good.kind.astype(object)},
    }
    for message, changed in wrong.items():
        with pytest.raises(PredictionError, match=message) as error:
            read_outliers(saved(path, good, **changed))
        assert str(error.value).startswith(str(path))
        assert "fmfbench outliers make" in str(error.value)
    empty = {name: getattr(good, name)[:0] for name in ARRAYS}
    with pytest.raises(PredictionError, match="of one length above 0"):
        read_outliers(saved(path, good, **empty))
    with pytest.raises(PredictionError, match="got nothing"):
        read_outliers(tmp_path / "none.npz")


def test_a_file_needs_its_folder(data, tmp_path):
    with pytest.raises(PredictionError, match="existing folder"):
        write_outliers(tmp_path / "no" / "o.npz", drawn(data))
    assert replace(drawn(data), meta={"seed": 3}).seed == 3
