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


def test_amplitudes_are_the_data_sets(current: Current) -> None:
    amperes = current.amperes
    assert amperes.shape == (len(current.time), 3)
    assert np.isfinite(amperes).all()
    assert amperes.min() >= 5000.0
    assert amperes.max() <= 14000.0
    assert np.mean((amperes == 5000.0) | (amperes == 14000.0)) < 0.01  # the limits are seldom met
    np.testing.assert_array_equal(amperes, np.round(amperes, 2))  # the CSV loses nothing


def test_fluctuation_is_red(current: Current) -> None:
    frequency, power = welch(current.amperes[:, 0], fs=2.0, nperseg=512)
    bands = [
        power[(frequency >= a) & (frequency < b)].mean() for a, b in ((0.005, 0.03), (0.1, 0.3), (0.7, 1.0))
    ]
    assert bands[0] > 5.0 * bands[1] > 5.0 * bands[2]


def test_phases_are_coupled_but_not_the_same(current: Current) -> None:
    fast = np.diff(current.amperes, axis=0)
    between = np.corrcoef(fast.T)[np.triu_indices(3, 1)]
    assert (between > 0.25).all()
    assert (between < 0.85).all()


def test_signature_begins_before_onset_and_ends_after_offset(plan: Plan) -> None:
    seconds = np.arange(0.0, 6000.0, 0.1)
    level, drift, stir = semi_molten(plan, seconds)
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


def test_signature_shows_in_mean_and_fluctuation(plan: Plan, current: Current) -> None:
    developed, absent = current.signature > 0.9, current.signature == 0.0
    assert developed.mean() > 0.2
    assert absent.mean() > 0.1
    mean = current.amperes.mean(axis=1)
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    assert mean[developed].mean() < mean[absent].mean()
    ratio = fast[developed].mean() / fast[absent].mean()
    assert 1.15 < ratio < 2.2


@pytest.mark.parametrize("preset", ["small", "full"])
def test_signature_stirs_in_bursts_as_strong_as_feeding(preset: str) -> None:
    """In a stretch of some seconds the one cannot be told from the other; over a minute bursts are commoner."""
    plan = make_plan(PRESETS[preset], len(PRESETS[preset].recordings) - 1, 0)
    current = make_current(plan)
    seconds = current.time / SECOND
    _, _, stir = semi_molten(plan, seconds)
    developed, absent = current.signature == 1.0, current.signature == 0.0
    lively = parts.STIR[0] * parts.BURST_SIZE[0] * 0.9
    in_burst = developed & (stir > lively)
    assert 0.3 < in_burst.sum() / developed.sum() < 0.8
    assert (stir[developed] < 0.15 * parts.STIR[1]).mean() > 0.1  # and between bursts it is nearly quiet
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    fed = absent & (current.feeding > 0.9)
    assert 0.7 < fast[in_burst].mean() / fast[fed].mean() < 1.4
    assert fed.sum() / absent.sum() < 0.6 * in_burst.sum() / developed.sum()


def test_feeding_mimics_the_signature(current: Current) -> None:
    quiet = current.signature == 0.0
    fed, calm = quiet & (current.feeding > 0.9), quiet & (current.feeding == 0.0)
    assert fed.sum() > 50
    mean = current.amperes.mean(axis=1)
    fast = np.abs(np.diff(current.amperes, axis=0, prepend=current.amperes[:1])).mean(axis=1)
    assert mean[fed].mean() < mean[calm].mean()
    assert fast[fed].mean() > 1.15 * fast[calm].mean()


def test_twin_has_the_same_current_without_the_signature(plan: Plan, current: Current) -> None:
    twin = make_current(make_plan(PRESETS["full"], 2, 0, anomaly_free=True))
    assert (twin.signature == 0.0).all()
    np.testing.assert_array_equal(twin.feeding, current.feeding)
    alike = current.signature == 0.0
    np.testing.assert_array_equal(twin.amperes[alike], current.amperes[alike])
    assert (twin.amperes[~alike] != current.amperes[~alike]).mean() > 0.9


def test_current_alone_tells_something_but_not_all() -> None:
    """A line through four features of the last 80 s, fitted on train and judged on test."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels, splits = [], [], []
    for k in range(3):
        plan = make_plan(PRESETS["full"], k, 0)
        own = make_current(plan)
        frames = np.arange(0, plan.frames, 50)
        rows = np.searchsorted(own.time, plan.timing.frame_time[frames], side="right")
        features.append([_features(own.amperes[max(0, r - 160) : r]) for r in rows])
        labels.append(plan.class_label[frames])
        splits.append(plan.split[frames])
    x, y, split = (np.concatenate(part) for part in (features, labels, splits))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[split == 0], y[split == 0])
    accuracy = float(np.mean(model.predict(x[split == 1]) == y[split == 1]))
    assert 0.62 < accuracy < 0.85


def _features(amperes: np.ndarray) -> list[float]:
    last = amperes[-20:]
    steps = np.abs(np.diff(amperes, axis=0)) if len(amperes) > 1 else np.zeros((1, 3))
    return [
        float(last.mean() - amperes.mean()),
        float(last.mean()),
        float(np.log(steps[-40:].mean() + 1.0)),
        float(np.log(steps[-40:].mean() + 1.0) - np.log(steps.mean() + 1.0)),
    ]
