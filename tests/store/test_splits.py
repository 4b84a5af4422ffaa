import numpy as np
import pytest

from fmfbench.errors import WindowError
from fmfbench.store.splits import GUARD_SECONDS, derived_rows, per_second_rows
from fmfbench.windows.plan import Timeline, plan_current, plan_video
from fmfbench.windows.protocol import PROTOCOLS

FRAME = 40_000_000
NAMES = ("a", "b", "c")


def frames():
    """Recording a has train on both sides of test, b train first, c too little train for a guard."""
    splits = [
        np.repeat([0, 2, 1, 2, 0], [9000, 500, 2000, 500, 9000]),
        np.repeat([0, 2, 1], [15_000, 500, 2000]),
        np.repeat([0, 1], [3000, 500]),
    ]
    recording = np.repeat([0, 1, 2], [len(s) for s in splits])
    times = np.concatenate([np.arange(len(s)) * FRAME for s in splits])
    return recording, times, np.concatenate(splits).astype(np.uint8)


def test_val_is_the_last_fifth_and_fit_keeps_its_distance():
    recording, times, split = frames()
    val, fit = (derived_rows(name, recording, times, split, NAMES) for name in ("val", "fit"))
    for index, count in ((0, 3600), (1, 3000), (2, 0)):
        own = recording == index
        train = np.flatnonzero(own & (split == 0))
        assert np.flatnonzero(val & own).tolist() == train[len(train) - count :].tolist()
        if count:
            first = times[train[-count]]
            expected = [row for row in train if times[row] <= first - GUARD_SECONDS * 1e9]
            assert np.flatnonzero(fit & own).tolist() == expected
        else:
            assert (fit & own).sum() == 3000
    assert not (val & fit).any()
    assert (split[val | fit] == 0).all()


@pytest.mark.parametrize("protocol", ["paper", "short", "official"])
def test_no_window_of_val_holds_anything_of_fit(protocol):
    recording, times, split = frames()
    val, fit = (derived_rows(name, recording, times, split, NAMES) for name in ("val", "fit"))
    for index in (0, 1):
        own = recording == index
        judged = np.where(val[own], 1, np.where(fit[own], 0, 2)).astype(np.uint8)
        rows = np.arange(0, times[own][-1], 500_000_000)
        line = Timeline("x", times[own], judged, rows, np.ones(len(rows), bool))
        ends = np.flatnonzero(val[own])[::40]
        for plan in (plan_video, plan_current):
            assert not plan(line, ends, PROTOCOLS[protocol], False).foreign.any()


def test_leave_one_recording_out():
    recording, times, split = frames()
    for name in NAMES:
        val = derived_rows(f"loro-val:{name}", recording, times, split, NAMES)
        fit = derived_rows(f"loro-fit:{name}", recording, times, split, NAMES)
        assert np.array_equal(val | fit, split == 0)
        assert set(recording[val]) == {NAMES.index(name)}
        assert NAMES.index(name) not in set(recording[fit])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dev", "one of train.*got 'dev'"),
        ("loro-val:z", "one of a, b, c"),
        ("loro-fit", "one of a, b, c"),
        ("", "one of train.*got ''"),
    ],
)
def test_no_such_split(name, words):
    with pytest.raises(WindowError, match=words):
        derived_rows(name, *frames(), NAMES)


def test_too_little_train_time():
    recording, times, split = frames()
    own = recording == 2
    with pytest.raises(WindowError, match="guard of 221 s"):
        derived_rows("val", recording[own] * 0, times[own], split[own], ("c",))


def test_per_second_is_the_last_of_each_second():
    rng = np.random.default_rng(0)
    recording = np.repeat([0, 1], [200, 150])
    times = np.concatenate(
        [np.sort(rng.integers(0, 12_000_000_000, 200)), np.sort(rng.integers(0, 7e9, 150))]
    )
    last = {}
    for row, (r, t) in enumerate(zip(recording.tolist(), times.tolist(), strict=True)):
        last[r, t // 1_000_000_000] = row
    assert np.flatnonzero(per_second_rows(recording, times)).tolist() == sorted(last.values())
    assert len(per_second_rows(recording[:0], times[:0])) == 0


def test_folds_cover_train_once_and_keep_their_distance():
    recording, times, split = frames()
    counted = np.zeros(len(split), int)
    for which in range(1, 5):
        val = derived_rows(f"kfold-val:{which}/4", recording, times, split, NAMES, 30.0)
        fit = derived_rows(f"kfold-fit:{which}/4", recording, times, split, NAMES, 30.0)
        counted += val
        assert not (val & fit).any()
        for index in range(3):
            train = np.flatnonzero((recording == index) & (split == 0))
            own = np.array_split(train, 4)[which - 1]  # the counts here are multiples of four
            assert np.flatnonzero(val & (recording == index)).tolist() == own.tolist()
            gap = 30 * 10**9
            far = [r for r in train if times[r] <= times[own[0]] - gap or times[r] >= times[own[-1]] + gap]
            assert np.flatnonzero(fit & (recording == index)).tolist() == sorted(set(far) - set(own))
    assert np.array_equal(counted, split == 0)


def test_a_fold_without_a_number_is_one_of_five():
    recording, times, split = frames()
    for part in ("val", "fit"):
        short, long = (
            derived_rows(f"kfold-{part}:{n}", recording, times, split, NAMES) for n in ("2", "2/5")
        )
        assert np.array_equal(short, long)
        assert short.any()


@pytest.mark.parametrize(
    "fold", ["0", "6", "", "x", "1/1", "0/3", "4/3", "-1/3", "1/2/3", "1/1001", "²", "1.5"]
)
def test_what_is_no_fold(fold):
    with pytest.raises(WindowError, match="which fold of how many, from 1/5 to 5/5"):
        derived_rows(f"kfold-val:{fold}", *frames(), NAMES)


def test_a_fold_whose_guard_leaves_nothing():
    recording, times, split = frames()
    with pytest.raises(WindowError, match="a guard of 2000 s around a fold"):
        derived_rows("kfold-fit:3", recording, times, split, NAMES, 2000.0)
    assert (
        derived_rows("kfold-val:3", recording, times, split, NAMES, 2000.0).sum()
        == 9000 * 2 // 5 + 3000 + 600
    )
