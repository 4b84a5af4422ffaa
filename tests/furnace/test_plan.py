"""What is known before a pixel is drawn: random streams, times, splits, events.

Also tests fmfbench.furnace: episodes, events, timing.
"""

from __future__ import annotations

import numpy as np
import pytest

from fmfbench.errors import FailedError, InputError
from fmfbench.furnace.current import make_current
from fmfbench.furnace.events import (
    EVENT_SECONDS,
    TEST,
    TEST_PREVALENCE,
    TRAIN,
    TRAIN_PREVALENCE,
    UNUSED,
    plan_events,
)
from fmfbench.furnace.plan import PRESETS, Plan, make_plan, parse_preset
from fmfbench.furnace.streams import Stream, open_stream, red_noise
from fmfbench.furnace.timing import SECOND, make_timing

ALL_RECORDINGS = [(name, k) for name, preset in PRESETS.items() for k in range(len(preset.recordings))]
REAL = ((31826, 1298, 20826, 10000), (89937, 3598, 73437, 15000), (148158, 5993, 120658, 25000))


def plan_of(preset: str, k: int, seed: int = 0) -> Plan:
    return make_plan(PRESETS[preset], k, seed)


def test_stream_is_pinned() -> None:
    # written down once: must not change with numpy or with the machine
    assert Stream("pinned").raw(3).tolist() == [
        7536308623570232021,
        8522199971015639802,
        3594263839883956300,
    ]
    assert Stream("pinned").shuffled(6).tolist() == [2, 4, 0, 1, 5, 3]
    assert Stream("pinned").integer(0, 1000) == 10


@pytest.mark.parametrize("other", [(1, "a", "p", 0), (0, "b", "p", 0), (0, "a", "q", 0), (0, "a", "p", 1)])
def test_streams_of_other_keys_differ(other: tuple[int, str, str, int]) -> None:
    assert (open_stream(0, "a", "p", 0).raw(8) != open_stream(*other).raw(8)).all()


def test_normals_are_normal() -> None:
    values = open_stream(0, "a", "normals").normals(200_000)
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(1.0, abs=0.01)
    assert np.mean(np.abs(values) < 1.0) == pytest.approx(0.683, abs=0.01)


@pytest.mark.parametrize("steps", [1.5, 8.0, 40.0])
def test_red_noise_has_its_correlation(steps: float) -> None:
    values = red_noise(open_stream(0, "a", "red"), 300_000, steps)
    assert values.std() == pytest.approx(1.0, abs=0.05)
    for lag in (1, 3, 8):
        got = np.mean(values[lag:] * values[:-lag])
        assert got == pytest.approx(np.exp(-lag / steps), abs=0.05)


@pytest.mark.parametrize(("k", "real"), list(enumerate(REAL)))
def test_full_has_the_real_sizes(k: int, real: tuple[int, int, int, int]) -> None:
    plan = plan_of("full", k)
    frames, seconds, train, test = real
    assert (plan.height, plan.width, plan.frames) == (64, 64, frames)
    assert len(np.unique(plan.timing.frame_second)) == seconds
    counts = np.bincount(plan.split, minlength=3).tolist()
    assert counts == [train, test, frames - train - test]


@pytest.mark.parametrize(("preset", "k"), ALL_RECORDINGS)
def test_test_block_is_one_and_guarded(preset: str, k: int) -> None:
    split = plan_of(preset, k).split
    test = np.flatnonzero(split == TEST)
    assert test[-1] - test[0] + 1 == len(test)
    for neighbour in (test[0] - 1, test[-1] + 1):
        assert not 0 <= neighbour < len(split) or split[neighbour] == UNUSED


@pytest.mark.parametrize(("preset", "k"), ALL_RECORDINGS)
def test_times(preset: str, k: int) -> None:
    plan = plan_of(preset, k)
    timing = plan.timing
    assert (np.diff(timing.frame_time) > 0).all()
    assert (timing.frame_time // SECOND == timing.frame_second).all()
    stamped, rows = np.unique(timing.frame_second, return_counts=True)
    assert set(rows[1:-1].tolist()) <= {24, 25, 26}
    missing = sorted(set(range(int(stamped[-1]) + 1)) - set(stamped.tolist()))
    assert missing == sorted(timing.missing_seconds)
    assert len(missing) == PRESETS[preset].recordings[k].missing
    assert (np.unique(timing.current_second, return_counts=True)[1] == 2).all()
    assert set(stamped.tolist()) <= set(timing.current_second.tolist())
    assert timing.current_time[0] < timing.frame_time[0]


def test_full_uses_all_row_counts() -> None:
    _, rows = np.unique(plan_of("full", 1).timing.frame_second, return_counts=True)
    assert {24, 25, 26} <= set(rows[1:-1].tolist())


@pytest.mark.parametrize("preset", ["small", "full"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_balance(preset: str, seed: int) -> None:
    for k in range(len(PRESETS[preset].recordings)):
        plan = plan_of(preset, k, seed)
        label = plan.class_label
        assert label[plan.split == TRAIN].mean() == pytest.approx(TRAIN_PREVALENCE, abs=0.01)
        assert label[plan.split == TEST].mean() == pytest.approx(TEST_PREVALENCE, abs=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_events(seed: int) -> None:
    lengths = []
    for k in range(3):
        plan = plan_of("full", k, seed)
        before = -1
        for event in plan.events:
            assert before < event.onset <= event.apex <= event.offset < plan.frames
            before = event.offset
            lengths.append(event.frames / 25.0)
        inside = [e for e in plan.events if (plan.split[e.onset : e.offset + 1] == TEST).any()]
        assert len(inside) >= 3
    # ends are moved a little for the balance, so lengths leave their range a little
    assert min(lengths) > 0.4 * EVENT_SECONDS[0]
    assert max(lengths) < 1.5 * EVENT_SECONDS[1]
    assert 40.0 < float(np.mean(lengths)) < 90.0


def test_small_has_several_events_in_each_split() -> None:
    for value in (TRAIN, TEST):
        plans = [plan_of("small", k) for k in range(2)]
        count = sum((p.split[e.onset : e.offset + 1] == value).any() for p in plans for e in p.events)
        assert count >= 5


def test_frame_index_does_not_tell_the_label() -> None:
    from sklearn.metrics import roc_auc_score

    for k in range(3):
        plan = plan_of("full", k)
        test = plan.split == TEST
        value = roc_auc_score(plan.class_label[test], np.arange(plan.frames)[test])
        assert 0.35 < value < 0.65


def test_other_seed_is_another_furnace() -> None:
    assert plan_of("small", 0, 0).events != plan_of("small", 0, 1).events


@pytest.mark.parametrize(("name", "good"), [("tiny", True), ("huge", False), ("", False)])
def test_parse_preset(name: str, good: bool) -> None:
    if good:
        assert parse_preset(name).name == name
    else:
        with pytest.raises(InputError, match="expected one of tiny, small, full"):
            parse_preset(name)


def digest_of(*arrays: np.ndarray | list[tuple[int, int, int]]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for array in arrays:
        digest.update(
            repr(array).encode() if isinstance(array, list) else np.ascontiguousarray(array).tobytes()
        )
    return digest.hexdigest()[:16]


def test_times_splits_and_events_are_those_of_version_1_3() -> None:
    """Drawn from streams that no version since has touched."""
    parts = []
    for preset in ("tiny", "small"):
        for k in range(len(PRESETS[preset].recordings)):
            plan = plan_of(preset, k)
            parts += [plan.timing.frame_time, plan.timing.current_time, plan.split]
            parts.append([(e.onset, e.apex, e.offset) for e in plan.events])
    assert digest_of(*parts) == "1787400b8b8e6be5"


def test_version_2_1_is_what_it_was() -> None:
    """Changing the output changes `VERSION`; then, and only then, these figures are renewed."""
    from fmfbench.furnace import VERSION
    from fmfbench.furnace.render import Furnace

    furnaces = [Furnace(plan_of("tiny", k)) for k in range(3)]
    labels = [own.draw_labels(0, own.plan.frames) for own in furnaces]
    hot = [own.draw_hot(0, own.plan.frames) for own in furnaces]
    assert (VERSION, digest_of(*labels, *hot)) == ("2.1", "286e3138928b75fe")
    video = furnaces[0].draw_block(5).video.astype(np.float64)
    # the picture is the same within rounding on any machine
    np.testing.assert_allclose(video.mean(axis=(0, 1, 2)), [126.283, 78.550, 69.782], atol=0.05)
    # and so are the currents; means, as a rounded hundredth of one row may fall either way
    amperes = np.concatenate([make_current(plan_of("tiny", k)).amperes for k in range(3)])
    np.testing.assert_allclose(amperes.mean(axis=0), [10254.920, 10178.390, 10021.442], atol=0.05)
    steps = np.abs(np.diff(amperes, axis=0)).mean(axis=0)
    np.testing.assert_allclose(steps, [333.534, 399.980, 370.782], atol=0.05)


def test_weights_of_the_vote_are_pinned() -> None:
    """Whole numbers from an exponential: the nearest one must be the same on every machine."""
    from fmfbench.furnace.labelling import WEIGHTS

    assert (len(WEIGHTS), int(WEIGHTS[0]), int(WEIGHTS[-1])) == (256, 65536, 0)
    assert digest_of(WEIGHTS.astype("<i4")) == "c9353f368cda2c55"


SEEDS = range(2001)
A_TENTH = sorted(np.random.default_rng(16).choice(len(SEEDS), len(SEEDS) // 10, replace=False).tolist())


def check_promises(preset: str, seed: int) -> None:
    """Counts, splits, seconds, times and shares of every recording; nothing but the preset says what they are."""
    for k, size in enumerate(PRESETS[preset].recordings):
        plan = plan_of(preset, k, seed)
        where = f"{preset} {k}, seed {seed}"
        counts = np.bincount(plan.split, minlength=3).tolist()
        assert counts == [size.train, size.test, size.guard], where
        timing = plan.timing
        stamped, rows = np.unique(timing.frame_second, return_counts=True)
        assert (len(timing.frame_time), len(stamped)) == (size.frames, size.seconds), where
        assert set(rows[1:-1].tolist()) <= {24, 25, 26}, where
        assert 1 <= min(rows[0], rows[-1]) <= max(rows[0], rows[-1]) <= 25, where
        assert (np.diff(timing.frame_time) > 0).all(), where
        assert (timing.frame_time // SECOND == timing.frame_second).all(), where
        missing = sorted(set(range(int(stamped[-1]) + 1)) - set(stamped.tolist()))
        assert missing == sorted(timing.missing_seconds), where
        assert (stamped[0], len(missing)) == (0, size.missing), where
        assert len(timing.current_time) == 2 * (int(stamped[-1]) + 1 + size.lead_seconds), where
        for value, share in ((TRAIN, TRAIN_PREVALENCE), (TEST, TEST_PREVALENCE)):
            part = plan.class_label[plan.split == value]
            assert part.sum() == int(share * len(part)), where
        ends = [e for event in plan.events for e in (event.onset, event.offset)]
        assert ends == sorted(ends), where
        assert all(e.onset <= e.apex <= e.offset for e in plan.events), where
        assert 0 <= ends[0] <= ends[-1] < size.frames, where


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_seed_plans_a_seeded_tenth(preset: str) -> None:
    for seed in A_TENTH:
        check_promises(preset, seed)


@pytest.mark.long
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_seed_plans(preset: str) -> None:
    for seed in SEEDS:
        check_promises(preset, seed)


@pytest.mark.parametrize(
    ("frames", "seconds", "good"), [(26, 3, True), (76, 3, True), (25, 3, False), (77, 3, False)]
)
def test_as_many_frames_as_seconds_can_hold(frames: int, seconds: int, good: bool) -> None:
    for seed in range(20):
        stream = open_stream(seed, "a", "timing")
        if good:
            timing = make_timing(stream, frames, seconds, missing=0, lead_seconds=4)
            assert np.bincount(timing.frame_second).sum() == frames
        else:
            with pytest.raises(FailedError, match="expected 26 to 76 frames in 3 seconds"):
                make_timing(stream, frames, seconds, missing=0, lead_seconds=4)


def test_what_cannot_be_balanced_is_an_error() -> None:
    with pytest.raises(FailedError, match="got 6 frames at pace 1 that 1000 draws could not balance"):
        plan_events(open_stream(0, "a", "events"), np.zeros(6, dtype=np.uint8), 1.0)
