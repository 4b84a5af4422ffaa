"""The expert system: its rules and their search, on random input."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from conftest_zoo_current import PHASE_ORDER, amperes

from fmfbench.errors import InputError
from fmfbench_models import FitData, create_model, load_checkpoint, save_checkpoint
from fmfbench_models.registry import parse_config
from fmfbench_models.zoo.expert import (
    ExpertConfig,
    Rules,
    arc_resistance,
    change_rate,
    deviations,
    exceedance,
    longest_run,
    margins,
    search,
    time_steps,
    tracking_error,
    youden_by_need,
)

SETPOINT = np.array([6000.0, 8000.0, 7000.0])
NEVER = (1e6, 2.0, 2.0)


def steady(length=120, size=1):
    return np.broadcast_to(SETPOINT, (size, length, 3)).copy()


def rules(amplitude=(0.15, 0.05, 0.15), duration=(30.0, 0.3, 0.5), **more):
    return Rules(amplitude=amplitude, duration=duration, **more)


def step(seconds, height=0.2, start=10):
    """A deviation of +20 % in all phases, for so many seconds."""
    current = steady()
    current[:, start : start + int(2 * seconds)] *= 1 + height
    return current


def decision(current, setpoint=SETPOINT, what=None):
    return (margins(current, setpoint, what or rules()) > 0).any(1)


def rule_of(index, **more):
    """The given rules with all but one never firing."""
    base = rules(**more)
    return replace(base, duration=tuple(d if i == index else NEVER[i] for i, d in enumerate(base.duration)))


def test_steady_current_is_normal():
    current = steady()
    for rule, deviation in enumerate(deviations(current, SETPOINT, 2, 2.0)):
        assert not deviation.any()
        assert exceedance(rule, deviation, 0.01, 1).tolist() == [0]
    assert not decision(current).any()


@pytest.mark.parametrize(
    ("needed_seconds", "fires"), [(30.0, True), (40.0, True), (40.1, False), (40.5, False), (39.9, True)]
)
def test_sustained_deviation_is_bounded_inclusively(needed_seconds, fires):
    what = rule_of(0, duration=(needed_seconds, 0.3, 0.5))
    assert decision(step(40.0), what=what).tolist() == [fires]
    assert (margins(step(40.0), SETPOINT, what)[0, 0] > 0) == fires


def test_deviation_must_exceed_its_threshold():
    what = rule_of(0)
    assert decision(step(40.0, height=0.151), what=what).all()
    assert not decision(step(40.0, height=0.149), what=what).any()
    assert decision(step(40.0, height=-0.2), what=what).all()


def test_deviation_must_last_in_one_piece():
    current = step(40.0)
    current[:, 50] = SETPOINT
    assert not decision(current, what=rule_of(0)).any()


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_rules_need_their_phases(phases):
    for deviating in range(4):
        current = steady()
        current[:, 10:90, :deviating] *= 1.2
        assert decision(current, what=rule_of(0, phases=phases)).tolist() == [deviating >= phases]


def test_fluctuation_counts_a_share():
    """A saw tooth of period 4 time_steps: |r| = 2 * 10 % per second at every instant it covers."""
    current = steady()
    covered = 61
    current[:, :covered] *= 1 + 0.1 * np.array([0, 0, 2, 2])[np.arange(covered) % 4][:, None]
    rate = np.abs(change_rate(current, SETPOINT, 2, 2.0))
    np.testing.assert_allclose(rate[0, : covered - 2], 0.2, rtol=1e-9)
    assert rate.shape == (1, 118, 3)
    share = (rate[0, :, 0] > 0.05).mean()
    for duration, fires in ((share, True), (share - 0.01, True), (share + 0.01, False)):
        assert decision(current, what=rule_of(1, duration=(30.0, duration, 0.5))).tolist() == [fires]


def test_resistance_shift_counts_a_share():
    current = steady()
    current[:, :30] /= 1.3  # rho = 1.3 for a quarter of the window
    current[:, 60:90] /= 1.3  # and for another
    for duration, fires in ((0.5, True), (0.49, True), (0.51, False)):
        assert decision(current, what=rule_of(2, duration=(30.0, 0.3, duration))).tolist() == [fires]


def test_resistance_times_current_is_the_set_point():
    current = amperes(2, 50).double().numpy()
    np.testing.assert_allclose(
        arc_resistance(current, SETPOINT) * current, SETPOINT + 0 * current, rtol=1e-14
    )


def test_features_by_hand():
    current = np.array([100.0, 110.0, 130.0, 90.0]).reshape(1, 4, 1) * np.ones(3)
    np.testing.assert_allclose(tracking_error(current, 100.0)[0, :, 0], [0, 0.1, 0.3, -0.1], atol=1e-12)
    # per second: differences over two time_steps, one second apart
    np.testing.assert_allclose(change_rate(current, 100.0, 2, 2.0)[0, :, 0], [0.3, -0.2], atol=1e-12)
    np.testing.assert_allclose(change_rate(current, 100.0, 1, 2.0)[0, :, 0], [0.2, 0.4, -0.8], atol=1e-12)


def test_longest_run_is_the_plain_one():
    flags = np.random.default_rng(0).random((40, 23, 3)) < 0.6
    flags[0], flags[1] = True, False
    for row, phase in np.ndindex(40, 3):
        pieces = "".join("x" if flag else " " for flag in flags[row, :, phase]).split()
        assert longest_run(flags)[row, phase] == max(map(len, pieces), default=0)


def test_scale_of_currents_does_not_matter():
    current = amperes(50, 120).double().numpy()
    plain = margins(current, SETPOINT, rules())
    assert len(np.unique(plain)) > 5
    for factor in (0.5, 4.0, 3.7):
        np.testing.assert_array_equal(margins(factor * current, factor * SETPOINT, rules()), plain)


def test_order_of_phases_does_not_matter():
    current = amperes(50, 120).double().numpy()
    plain = margins(current, SETPOINT, rules())
    np.testing.assert_array_equal(margins(current[..., PHASE_ORDER], SETPOINT[PHASE_ORDER], rules()), plain)


def test_what_lies_outside_the_window_does_not_matter():
    model = create_model("expert")
    current = amperes(3, 440)
    plain = model(current=current).logits
    for start in (0, 200, 310):  # the last instant before the window is 319
        changed = current.clone()
        changed[:, start : start + 10] *= 3
        assert torch.equal(model(current=changed).logits, plain)
    changed = current.clone()
    changed[:, 320:] *= 3
    assert not torch.equal(model(current=changed).logits, plain)


def test_short_currents_are_used_whole():
    model = create_model("expert")
    assert model(current=amperes(2, 40)).logits.shape == (2, 2)
    with pytest.raises(InputError, match="expected more than 2 samples of current, got 2"):
        model(current=amperes(2, 2))
    assert model(current=amperes(2, 3)).logits.shape == (2, 2)


def test_set_point_of_the_window():
    """A level that no training set has: a constant is normal by its own median, abnormal by another's."""
    current = torch.full((1, 440, 3), 3000.0)
    assert create_model("expert")(current=current).scores() > 0.5
    assert create_model("expert", setpoint="window")(current=current).scores() < 0.5


def test_youden_by_need_is_the_plain_one():
    rng = np.random.default_rng(1)
    counts, labels, fired = rng.integers(0, 9, 60), rng.random(60) < 0.4, rng.random(60) < 0.2
    got = youden_by_need(counts, labels, fired, 8)
    for need in range(10):
        said = fired | (counts >= need)
        assert got[need] == pytest.approx(said[labels].mean() - said[~labels].mean())


def planted(rule, size=60, length=120, seed=0):
    """Normal windows with small noise; abnormal ones break one rule and no other."""
    rng = np.random.default_rng(seed)
    current = steady(length, size) * (1 + 0.01 * rng.standard_normal((size, length, 3)))
    labels = np.arange(size) % 2 == 1
    instant = np.arange(length)
    shape = {
        0: np.where((instant >= 20) & (instant < 100), 1.15, 1.0),
        1: np.where(instant % 4 < 2, 1.04, 0.96),
        2: np.where(instant % 20 < 8, 0.8, 1.0),
    }[rule]
    current[labels] *= shape[:, None]
    return current, labels


@pytest.mark.parametrize("rule", [0, 1, 2])
def test_search_finds_a_planted_rule(rule):
    current, labels = planted(rule)
    found = search(current, labels, SETPOINT, ExpertConfig())
    fresh, truth = planted(rule, seed=1)
    np.testing.assert_array_equal(decision(fresh, what=found), truth)


def test_search_joins_two_rules():
    """Normal windows deviate for 20 time_steps and at every second of the others: a share of .58. Abnormal ones
    do so for 60 on end (a share of .5), or for three of every four: no rule alone tells both. All
    begin and end alike, which is all that R2 sees with this step."""
    instant = np.arange(120)
    shapes = [(instant < 20) | (instant % 2 == 0), instant < 60, instant % 4 < 3]
    current = steady(120, 60) * (1 + 0.01 * np.random.default_rng(0).standard_normal((60, 120, 3)))
    kind = np.arange(60) % 3
    current *= 1 + 0.2 * np.stack(shapes)[kind][..., None]
    truth = kind > 0
    alone = []
    for rule, deviation in enumerate(deviations(current, SETPOINT, 119, 2.0)):
        for amplitude in np.quantile(deviation, np.linspace(0, 1, 41)):
            counts = exceedance(rule, deviation, amplitude, 2)
            alone.append(youden_by_need(counts, truth, np.zeros(60, bool), deviation.shape[1]).max())
    said = decision(current, what=search(current, truth, SETPOINT, ExpertConfig(rate_step=119)))
    together = said[truth].mean() - said[~truth].mean()
    assert together > 0.9
    assert max(alone) < 0.8


def fit_data(current, labels, sizes=(13, 47)):
    parts = zip(
        torch.tensor(current).split(sizes), torch.tensor(labels).to(torch.uint8).split(sizes), strict=True
    )
    return FitData(train=[{"current": part, "class_label": label} for part, label in parts])


def test_fitted_model_separates_and_survives_a_file(tmp_path):
    model = create_model("expert")
    model.fit(fit_data(*planted(0)))
    fresh, truth = planted(0, seed=1)
    scores = model(current=torch.tensor(fresh)).scores()
    np.testing.assert_array_equal(scores.numpy() > 0.5, truth)
    np.testing.assert_allclose(model.setpoint.numpy(), SETPOINT, rtol=0.01)
    facts = json.loads(json.dumps(asdict(model.rules)))
    assert parse_config(Rules, facts, what="rules") == model.rules
    save_checkpoint(tmp_path / "expert.safetensors", model)
    assert b"pickle" not in (tmp_path / "expert.safetensors").read_bytes()
    loaded = load_checkpoint(tmp_path / "expert.safetensors")
    assert loaded.rules == model.rules
    assert torch.equal(loaded(current=torch.tensor(fresh)).scores(), scores)


def test_fit_reads_repeated_and_unlabelled_windows_once():
    current, labels = planted(0)
    plain, other = create_model("expert"), create_model("expert")
    plain.fit(fit_data(current, labels))
    repeated = np.repeat(current, 3, axis=0)
    codes = np.repeat(labels.astype(np.uint8), 3)
    junk = np.full((20, *current.shape[1:]), 1e5)
    everything = np.concatenate([repeated, junk])
    unlabelled = np.concatenate([codes, np.full(20, 255, np.uint8)])
    batch = {"current": torch.tensor(everything), "class_label": torch.tensor(unlabelled)}
    other.fit(FitData(train=[batch]))
    assert other.rules == plain.rules
    assert torch.equal(other.setpoint, plain.setpoint)


def test_fit_takes_no_more_windows_than_allowed():
    current, labels = planted(0, size=61)
    model = create_model("expert", max_windows=10)
    model.fit(fit_data(current, labels, sizes=(61,)))
    assert (model(current=torch.tensor(current)).scores().numpy() > 0.5).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(60), "expected normal and abnormal training samples, got 60 normal ones only"),
        (np.ones(60), "expected normal and abnormal training samples, got 60 abnormal ones only"),
        (np.full(60, 255), "expected labelled training samples, got none"),
    ],
)
def test_fit_refuses_what_it_cannot_learn_from(labels, message):
    with pytest.raises(InputError, match=f"expert: {message}"):
        create_model("expert").fit(fit_data(planted(0)[0], labels))


def test_fit_refuses_a_dead_furnace():
    with pytest.raises(InputError, match="expert: expected normal training currents above 0 A"):
        create_model("expert").fit(
            fit_data(0 * planted(0)[0] + np.arange(60)[:, None, None] % 2, np.arange(60) % 2)
        )


@pytest.mark.parametrize(
    "config",
    [{"window": 2}, {"rate_step": 0}, {"phases": 4}, {"phases": 0}, {"current_hz": 0.0}, {"max_windows": 1}],
)
def test_senseless_expert_is_refused(config):
    with pytest.raises(InputError, match="expert: expected"):
        create_model("expert", **config)


@pytest.mark.parametrize(
    ("rule", "duration", "width", "count"),
    [(0, 40.0, 120, 80), (0, 40.1, 120, 81), (1, 0.3, 118, 36), (2, 0.5, 120, 60)],
)
def test_instants_round_up(rule, duration, width, count):
    assert time_steps(rule, duration, width, 2.0) == count
    assert time_steps(rule, float(np.float32(duration)), width, 2.0) == count
