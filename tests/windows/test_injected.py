"""Windows in which outliers stand: each shows exactly what the file says."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.windows.injected import InjectedWindows
from fmfbench.windows.injection import make_outliers
from fmfbench.windows.protocol import get_protocol


@pytest.fixture(scope="module")
def data(awkward_store):
    return fmfbench.open_dataset(awkward_store)


def injected(data, context="full", protocol="short", **options):
    options = {"split": "all", "ratio": "1:1", "protocol": protocol, "apart": 2.0} | options
    outliers = make_outliers(data, **options)
    return InjectedWindows(data, outliers, get_protocol(protocol), context)


@pytest.mark.parametrize("context", ["full", "masked"])
def test_video_and_current_are_those_of_the_samples_named(data, context):
    windows = injected(data, context)
    made, plain = windows.outliers, data.windows("all", "short", context)
    rng = np.random.default_rng(0)
    for where in (np.arange(40), rng.permutation(len(windows))[:50], np.array([-1, 3, 3])):
        batch = windows.batch(where)
        video, current = plain.batch(made.video_id[where]), plain.batch(made.current_id[where])
        assert set(batch) == set(plain.batch([0]))
        assert not batch["mask"].any()
        assert not batch["mask_valid"].any()
        for name, source in (("video", video), ("current", current)):
            np.testing.assert_array_equal(batch[name], source[name])
            np.testing.assert_array_equal(batch[f"{name}_valid"], source[f"{name}_valid"])
        np.testing.assert_array_equal(batch["sample_id"], made.sample_id[where])
        np.testing.assert_array_equal(batch["class_label"], made.kind[where] > 0)


def test_one_recording_alone(data):
    windows = injected(data, split="test", kinds=["cross-modal"], apart=0.5)
    plain = data.windows("all", "short")
    batch = windows.batch(np.arange(len(windows)))
    np.testing.assert_array_equal(batch["current"], plain.batch(windows.outliers.current_id)["current"])


def test_transposed_protocols_transpose_what_is_shown(data):
    protocol = get_protocol("short", transposed=True)
    windows = injected(data, protocol=protocol)
    plain = data.windows("all", protocol)
    where = np.arange(30)
    batch = windows.batch(where)
    assert batch["video"].shape[2:] == (9, 6, 3)
    np.testing.assert_array_equal(batch["video"], plain.batch(windows.outliers.video_id[where])["video"])


def test_shuffled_content_keeps_its_values_and_loses_its_order(data):
    windows = injected(data, abnormal="shuffled")
    made, plain = windows.outliers, data.windows("all", "short")
    where = np.arange(len(windows))
    batch = windows.batch(where)
    video, current = plain.batch(made.video_id)["video"], plain.batch(made.current_id)["current"]
    assert made.video_shuffled.any()
    assert made.current_shuffled.any()
    for row in where:
        same = np.array_equal(batch["video"][row], video[row])
        assert same == (not made.video_shuffled[row])
        one, other = (x[row].reshape(len(x[row]), -1, 3) for x in (batch["video"], video))
        for frame in range(len(one)):  # whole pixels move, in all frames alike
            assert sorted(map(tuple, one[frame].tolist())) == sorted(map(tuple, other[frame].tolist()))
        if not made.current_shuffled[row]:
            np.testing.assert_array_equal(batch["current"][row], current[row])
        else:
            assert sorted(map(tuple, batch["current"][row].tolist())) == sorted(
                map(tuple, current[row].tolist())
            )
    changed = made.video_shuffled.astype(bool)
    moved = (batch["video"][changed] != video[changed]).any(axis=-1)
    assert np.mean(moved) > 0.8


def test_pixels_move_alike_in_all_frames(data):
    windows = injected(data, abnormal="shuffled")
    row = int(np.flatnonzero(windows.outliers.video_shuffled)[0])
    before = data.windows("all", "short").batch([windows.outliers.video_id[row]])["video"][0]
    after = windows[row]["video"]
    flat, shuffled = (x.reshape(len(x), -1, 3).transpose(1, 0, 2).reshape(54, -1) for x in (before, after))
    assert sorted(map(tuple, flat.tolist())) == sorted(map(tuple, shuffled.tolist()))


def test_any_batch_shows_a_sample_alike(data):
    windows = injected(data, abnormal="shuffled")
    whole = windows.batch(np.arange(24))
    for row in (23, 0, 11):
        for name, array in windows[row].items():
            np.testing.assert_array_equal(array, whole[name][row])
    again = pickle.loads(pickle.dumps(windows))
    for name, array in again.batch(np.arange(24)).items():
        np.testing.assert_array_equal(array, whole[name])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_torch_side_sees_the_same(data, workers):
    from fmfbench.torch import WindowDataset, make_loader

    windows = injected(data, abnormal="shuffled", every=9)
    plain = windows.batch(np.arange(len(windows)))
    batches = list(make_loader(WindowDataset(windows), batch_size=7, num_workers=workers))
    for name, array in plain.items():
        found = np.concatenate([batch[name].numpy() for batch in batches])
        np.testing.assert_array_equal(found.transpose(0, 2, 3, 4, 1) if name == "video" else found, array)


def test_outliers_of_other_data_are_refused(data):
    made = injected(data).outliers
    protocol = get_protocol("short")
    with pytest.raises(WindowError, match="expected outliers of these data"):
        InjectedWindows(data, replace(made, meta=dict(made.meta) | {"fingerprint": "0" * 64}), protocol)
    far = made.video_id.copy()
    far[0] = data.num_samples
    with pytest.raises(WindowError, match=f"expected outliers of its {data.num_samples} samples, got"):
        InjectedWindows(data, replace(made, video_id=far), protocol)
    far[0] = data.num_samples - 1
    assert len(InjectedWindows(data, replace(made, video_id=far), protocol)) == len(made)
