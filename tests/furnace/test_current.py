"""The arc current: amplitudes, spectrum, coupling, and the signature's place in time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

from fmfbench.furnace import current as parts
from fmfbench.furnace.current import Current, make_current, semi_molten
from fmfbench.furnace.plan import PRESETS, Plan, make_plan
from fmfbench.furnace.timing import SECOND


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(PRESETS["full"], 2, 0)


@pytest.fixture(scope="module")
def current(plan: Plan) -> Current:
    return make_current(plan)


def usual(current: Current) -> np.ndarray:
    """(M,) rows of no special stretch and without any signature."""
    return (current.stretch < 0) & (current.signature == 0.0)


def test_amplitudes_hold_the_quoted_rows(current: Current) -> None:
    amperes = current.amperes
    assert amperes.shape == (len(current.time), 3)
    assert np.isfinite(amperes).all()
    assert amperes.min() >= 0.0
    assert amperes.max() <= 16000.0
    assert np.mean(amperes == 16000.0) < 0.01  # the limit is seldom met
    np.testing.assert_array_equal(amperes, np.round(amperes, 2))  # the CSV loses nothing
    # two rows that the authors' code quotes, half a second apart
    low, high = (6343.75, 8157.79, 6149.69), (11369.2, 13860.0, 12341.4)
    assert amperes.min() < min(low) < max(high) < amperes.max()
    least = np.abs(np.diff(amperes, axis=0)).min(axis=1)
    assert (least > 5026.0).sum() > 3
    still = usual(current)[1:] & usual(current)[:-1]
    assert (least[still] > 5026.0).any()  # as it runs, too


def test_fluctuation_is_red(current: Current) -> None:
    frequency, power = welch(current.amperes[usual(current), 0], fs=2.0, nperseg=512)
    bands = [
        power[(frequency >= a) & (frequency < b)].mean() for a, b in ((0.005, 0.03), (0.1, 0.3), (0.7, 1.0))
    ]
    assert bands[0] > 2.0 * bands[1] > 4.0 * bands[2]


def test_swings_are_larger_downward(current: Current) -> None:
    own = current.amperes[usual(current)]
    off = own - np.median(own, axis=0)
    assert -np.quantile(off, 0.02) > 1.2 * np.quantile(off, 0.98)


def test_stretches_are_what_their_names_say() -> None:
    current = make_current(make_plan(PRESETS["full"], 2, 0, anomaly_free=True))
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    level = {name: np.median(fast[current.stretch == k]) for k, name in enumerate(parts.STRETCHES)}
    ordinary = np.median(fast[usual(current)])
    assert level["rough"] > 1.5 * ordinary
    assert level["flat"] < 0.15 * ordinary
    assert level["flat"] < level["calm"] < 0.6 * ordinary
    out = (current.amperes < 1000.0).all(axis=1)
    assert out[current.stretch == parts.STRETCHES.index("drop-outs")].mean() > 0.1
    runs = np.diff(np.flatnonzero(np.diff(np.r_[False, out, False].astype(int))))[::2] / 2.0
    assert 1.0 <= np.median(runs) <= 6.0
    flat = current.amperes[current.stretch == parts.STRETCHES.index("flat")]
    assert np.ptp(np.median(flat, axis=0)) > 100.0 or np.median(np.ptp(flat, axis=1)) > 300.0
    assert (current.stretch >= 0).mean() < 0.3


def test_stretches_know_nothing_of_events(plan: Plan, current: Current) -> None:
    twin = make_current(make_plan(PRESETS["full"], 2, 0, anomaly_free=True))
    np.testing.assert_array_equal(twin.stretch, current.stretch)


def test_phases_are_coupled_but_not_the_same(current: Current) -> None:
    fast = np.diff(current.amperes, axis=0)[usual(current)[1:]]
    fast = fast[np.abs(fast).min(axis=1) < 2000.0]  # jolts take all three
    between = np.corrcoef(fast.T)[np.triu_indices(3, 1)]
    assert (between > 0.25).all()
    assert (between < 0.85).all()


def test_signature_begins_before_onset_and_ends_after_offset(plan: Plan) -> None:
    seconds = np.arange(0.0, 6000.0, 0.1)
    melt = semi_molten(plan, seconds)
    level, drift, stir = melt.level, melt.shift, melt.stir
    frame_seconds = plan.timing.frame_time / SECOND
    leads = []
    for before, event, after in zip(plan.events, plan.events[1:], plan.events[2:], strict=False):
        onset, offset = frame_seconds[event.onset], frame_seconds[event.offset]
        quiet = frame_seconds[before.offset] + parts.FADE_SECONDS[1]
        gap = (seconds > quiet) & (seconds < onset)
        if gap.sum() < 10 * parts.LEAD_SECONDS[1]:
            continue
        leads.append(onset - seconds[gap & (level > 0.0)][0])
        assert level[np.searchsorted(seconds, onset)] == pytest.approx(parts.AT_ONSET, abs=0.02)
        if frame_seconds[after.onset] - offset > sum(b for _, b in (parts.LEAD_SECONDS, parts.FADE_SECONDS)):
            assert level[np.searchsorted(seconds, offset + parts.FADE_SECONDS[1] + 0.2)] == 0.0
    assert len(leads) > 8
    assert parts.LEAD_SECONDS[0] - 0.2 <= min(leads)
    assert max(leads) <= parts.LEAD_SECONDS[1] + 0.2
    assert max(leads) - min(leads) > 8.0  # no fixed delay to learn
    assert (drift[level == 0.0] == 0.0).all()
    assert (stir[level == 0.0] == 0.0).all()


@pytest.mark.parametrize(("signature", "signs"), [("mixed", {-1, 1}), ("rough", {1}), ("calm", {-1})])
def test_signature_shows_in_the_fluctuation_by_its_sign(signature: str, signs: set[int]) -> None:
    plan = make_plan(PRESETS["full"], 2, 0, signature=signature)
    current = make_current(plan)
    assert set(current.sign.tolist()) == signs
    if signature == "mixed":
        assert 0.25 < (current.sign > 0).mean() < 0.75
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    seconds, times = current.time / SECOND, plan.timing.frame_time / SECOND
    absent = np.median(fast[usual(current)])
    ratio: dict[int, list[float]] = {-1: [], 1: []}
    for sign, event in zip(current.sign.tolist(), plan.events, strict=True):
        own = (seconds > times[event.onset]) & (seconds < times[event.offset]) & (current.stretch < 0)
        if own.sum() > 40:
            ratio[sign].append(float(np.median(fast[own]) / absent))
    for sign in signs:
        assert len(ratio[sign]) > 5
        assert np.median(ratio[sign]) > 1.3 if sign > 0 else np.median(ratio[sign]) < 0.75


def test_sign_changes_the_sign_and_nothing_else(plan: Plan, current: Current) -> None:
    seconds = current.time / SECOND
    mixed = semi_molten(plan, seconds)
    rough, calm = (
        semi_molten(make_plan(PRESETS["full"], 2, 0, signature=name), seconds) for name in ("rough", "calm")
    )
    for own in (rough, calm):
        np.testing.assert_array_equal(own.level, mixed.level)
        np.testing.assert_array_equal(own.shift, mixed.shift)
    assert rough.stir.min() == 0.0 == calm.stir.max()
    agreed = np.where(mixed.stir > 0.0, rough.stir, calm.stir)
    apart = mixed.stir != 0.0
    assert np.mean(agreed[apart] == mixed.stir[apart]) > 0.97  # where two events do not overlap


@pytest.mark.parametrize("preset", ["small", "full"])
def test_signature_stirs_in_bursts_as_strong_as_feeding(preset: str) -> None:
    """In a stretch of some seconds the one cannot be told from the other; over a minute bursts are commoner."""
    plan = make_plan(PRESETS[preset], len(PRESETS[preset].recordings) - 1, 0, signature="rough")
    current = make_current(plan)
    seconds = current.time / SECOND
    stir = semi_molten(plan, seconds).stir
    as_usual = current.stretch < 0
    developed, absent = as_usual & (current.signature == 1.0), as_usual & (current.signature == 0.0)
    in_burst = developed & (stir > 0.8 * parts.STIR[0] * parts.BURST_SIZE[0])
    assert 0.3 < in_burst.sum() / developed.sum() < 0.9
    assert (stir[developed] < 0.4 * parts.STIR[1]).mean() > 0.05  # and between bursts it is quieter
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    fed = absent & (current.feeding > 0.9)
    assert 0.6 < np.median(fast[in_burst]) / np.median(fast[fed]) < 1.7
    assert fed.sum() / absent.sum() < 0.6 * in_burst.sum() / developed.sum()


def test_feeding_mimics_the_signature(current: Current) -> None:
    quiet = usual(current)
    fed, calm = quiet & (current.feeding > 0.9), quiet & (current.feeding == 0.0)
    assert fed.sum() > 50
    mean = current.amperes.mean(axis=1)
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    assert mean[fed].mean() < mean[calm].mean()
    assert np.median(fast[fed]) > 1.15 * np.median(fast[calm])


def test_twin_has_the_same_current_without_the_signature(plan: Plan, current: Current) -> None:
    twin = make_current(make_plan(PRESETS["full"], 2, 0, anomaly_free=True))
    assert (twin.signature == 0.0).all()
    np.testing.assert_array_equal(twin.feeding, current.feeding)
    alike = current.signature == 0.0
    np.testing.assert_array_equal(twin.amperes[alike], current.amperes[alike])
    assert (twin.amperes[~alike] != current.amperes[~alike]).mean() > 0.9


def test_current_alone_tells_something_but_not_all() -> None:
    """Boosting on how lively the last 10, 30 and 110 s were and how far the phases moved, over seeds 1 and 2."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    accuracies = []
    for seed in (1, 2):
        features, labels, splits = [], [], []
        for k in range(3):
            plan = make_plan(PRESETS["full"], k, seed)
            own = make_current(plan)
            frames = np.arange(0, plan.frames, 50)
            rows = np.searchsorted(own.time, plan.timing.frame_time[frames], side="right") - 1
            features.append(_features(own.amperes)[rows])
            labels.append(plan.class_label[frames])
            splits.append(plan.split[frames])
        x, y, split = (np.concatenate(part) for part in (features, labels, splits))
        model = HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=5, min_samples_leaf=60, random_state=0
        )
        model.fit(x[split == 0], y[split == 0])
        accuracies.append(float(np.mean(model.predict(x[split == 1]) == y[split == 1])))
    assert 0.66 < np.mean(accuracies) < 0.85


def _features(amperes: np.ndarray) -> np.ndarray:
    lively = np.log(np.abs(np.diff(amperes, axis=0, prepend=amperes[:1])) + 60.0).mean(axis=1, keepdims=True)
    over = [_trailing(np.concatenate([lively, amperes], axis=1), n) for n in (20, 60, 220)]
    short, middle, long = over
    moved = short[:, 1:] - long[:, 1:]
    apart = np.abs(moved.mean(axis=1, keepdims=True)), moved.std(axis=1, keepdims=True)
    return np.concatenate([short[:, :1], middle[:, :1], long[:, :1], *apart], axis=1)


def _trailing(values: np.ndarray, rows: int) -> np.ndarray:
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - rows)
    return (total[stop] - total[start]) / (stop - start)[:, None]


def test_a_recording_begins_like_any_other_moment() -> None:
    """What came before its first row is over: no step that all recordings share at their start."""
    first, any_row = [], []
    for seed in range(8):
        for k in range(2):
            amperes = make_current(make_plan(PRESETS["small"], k, seed, anomaly_free=True)).amperes
            first.append(np.abs(amperes[0] - np.median(amperes[:20], axis=0)).mean())
            any_row.append(np.median(np.abs(amperes[20:] - np.median(amperes[20:], axis=0))))
    assert np.median(first) < 3.0 * np.median(any_row)
