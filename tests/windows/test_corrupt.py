import numpy as np
import pytest
from conftest_run import call

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.windows.corrupt import CORRUPTIONS, TIME_OFFSETS, Corruption, corrupt_batch, corruption

PER_WINDOW = [preset for preset in CORRUPTIONS if preset not in TIME_OFFSETS]
SHORT = {"num_frames": 8, "stride": 2, "current_seconds": 10.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for arguments in (
        ("simulate", folder / "sim", "--preset", "tiny"),
        ("convert", folder / "sim", folder / "s"),
    ):
        call(*arguments)
    return fmfbench.open_dataset(folder / "s")


@pytest.fixture
def windows(data):
    return data.windows("test", "short", **SHORT)


@pytest.mark.parametrize("preset", PER_WINDOW)
def test_a_sample_meets_the_same_trouble_in_any_batch(windows, preset):
    whole = corrupt_batch(windows.batch(np.arange(6)), preset)
    for row in (5, 0, 3):
        alone = corrupt_batch(windows.batch([row]), preset)
        for name, array in alone.items():
            np.testing.assert_array_equal(array[0], whole[name][row])
    plain = windows.batch(np.arange(6))
    changed = {name for name in plain if not np.array_equal(plain[name], whole[name])}
    assert changed
    assert changed <= {"video", "video_valid", "current", "current_valid"}
    assert np.isfinite(whole["current"]).all()


@pytest.mark.parametrize("preset", ["phase-dead", "mist", "glare", "frame-drop", "current-noise"])
def test_another_seed_is_another_trouble(windows, preset):
    one, two = (corrupt_batch(windows.batch(np.arange(12)), preset, seed) for seed in (0, 1))
    assert any(not np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("preset", PER_WINDOW)
def test_the_torch_transform_does_the_same(windows, preset):
    from fmfbench.torch import WindowDataset

    plain = corrupt_batch(windows.batch([2, 7]), preset, 3)
    tensors = WindowDataset(windows, Corruption(preset, 3)).batch([2, 7])
    for name, array in plain.items():
        found = tensors[name].numpy()
        np.testing.assert_array_equal(found.transpose(0, 2, 3, 4, 1) if name == "video" else found, array)


def test_what_each_preset_does(windows):
    plain = windows.batch(np.arange(40))

    def after(preset):
        return corrupt_batch(windows.batch(np.arange(40)), preset)

    missing = after("video-missing")
    assert not missing["video"].any()
    assert not missing["video_valid"].any()
    missing = after("current-missing")
    assert not missing["current"].any()
    assert not missing["current_valid"].any()
    dead = after("phase-dead")["current"]
    differs = (dead != plain["current"]).any(axis=1)
    assert (differs.sum(axis=1) == 1).all()
    assert set(np.argmax(differs, axis=1)) == {0, 1, 2}
    assert not dead[np.broadcast_to(differs[:, None], dead.shape)].any()
    assert after("mist")["video"].mean() > plain["video"].mean() + 20
    assert after("mist")["video"].std() < 0.7 * plain["video"].std()
    assert (after("glare")["video"] >= plain["video"]).all()
    noise = after("current-noise")["current"] - plain["current"]
    assert noise.std() == pytest.approx(0.1 * np.abs(plain["current"]).mean(), rel=0.1)


def test_dropped_frames_hold_the_nearest_left(windows):
    plain, dropped = windows.batch(np.arange(60)), corrupt_batch(windows.batch(np.arange(60)), "frame-drop")
    lost = plain["video_valid"] & ~dropped["video_valid"]
    assert lost.mean() == pytest.approx(0.4, abs=0.08)
    for row in range(60):
        left = np.flatnonzero(dropped["video_valid"][row])
        for place in range(8):
            if len(left):
                nearest = left[np.argmin(np.abs(left - place))]  # argmin takes the earlier of two
                expected = plain["video"][row, nearest]
            else:
                expected = 0 * plain["video"][row, place]
            np.testing.assert_array_equal(dropped["video"][row, place], expected)


@pytest.mark.parametrize(("preset", "seconds"), TIME_OFFSETS.items())
def test_a_time_offset_moves_the_current_rows(data, preset, seconds):
    moved, transform = corruption(data, preset)
    assert transform is None
    plain = data.windows("test", "short", **SHORT)
    late = moved.windows("test", "short", **SHORT)
    steps = 2 * seconds
    a, b = plain.batch([100])["current"][0], late.batch([100])["current"][0]
    if steps > 0:
        np.testing.assert_array_equal(b[steps:], a[:-steps])
    else:
        np.testing.assert_array_equal(b[:steps], a[-steps:])
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(plain.batch([100])["video"], late.batch([100])["video"])
    assert (
        data.recordings[next(iter(data.recordings))].current_time[0]
        != next(iter(moved.recordings.values())).current_time[0]
    )


def test_unknown_presets(data, windows):
    with pytest.raises(WindowError, match="one of video-missing"):
        corruption(data, "fog")
    with pytest.raises(WindowError, match="expected one of"):
        corrupt_batch(windows.batch([0]), "time-offset+1")
    assert corruption(data, "mist", 4) == (data, Corruption("mist", 4))
