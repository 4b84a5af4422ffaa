"""A threshold chosen by alarms is bounded in number and in time."""

from __future__ import annotations

import numpy as np
import pytest
from conftest_scores import labels_of
from sklearn.metrics import f1_score

from fmfbench.errors import InputError
from fmfbench.scoring.events import match_events
from fmfbench.scoring.figures import event_figures
from fmfbench.scoring.threshold import (
    Rule,
    alarm_threshold,
    f1_threshold,
    fdr_threshold,
    parse_rule,
)

FRAME = 40_000_000


def case(seed, count=30_000):
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=count), np.ones(200) / 14, "same")
    label = np.zeros(count)
    label[5000:7000] = label[20_000:21_000] = 1
    return labels_of(label), 1 / (1 + np.exp(-(smooth + 2 * label - 1)))


def figures_at(labels, score, threshold):
    found = match_events(
        labels.class_label, (score > threshold).astype(int), labels.recording, labels.frame_time
    )
    return {figure.name: figure.value for figure in event_figures(found, 20)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rate", "share"), [(10.0, 0.5), (200.0, 0.01), (0.0, 1.0)])
def test_both_bounds_hold_and_the_next_lower_one_breaks_one(seed, rate, share):
    labels, score = case(seed)
    chosen = alarm_threshold(labels, score, alarms_per_hour=rate, alarm_time=share)
    found = figures_at(labels, score, chosen)
    assert found["false_alarms_per_hour"] <= rate
    assert found["alarm_time_normal"] <= share
    values = np.unique(score)
    candidates = values[np.linspace(0, len(values) - 1, 1024).astype(int)]
    lower = candidates[candidates < chosen][-1]
    beyond = figures_at(labels, score, lower)
    assert beyond["false_alarms_per_hour"] > rate or beyond["alarm_time_normal"] > share


def test_an_alarm_that_never_stops_is_within_no_bound_of_time():
    labels, _ = case(0)
    score = np.full(len(labels), 0.9)
    assert alarm_threshold(labels, score, alarms_per_hour=1e9, alarm_time=0.5) == 0.9
    assert figures_at(labels, score, 0.5)["alarm_time_normal"] == 1.0


def test_bounds_and_data_that_cannot_be():
    labels, score = case(0)
    with pytest.raises(InputError, match="0 or more"):
        alarm_threshold(labels, score, alarms_per_hour=-1)
    with pytest.raises(
        InputError, match=r"normal time between events .* got none; take another rule \(f1, fdr\)"
    ):
        alarm_threshold(labels_of(np.ones(100)), np.linspace(0, 1, 100))


def coarse(seed, count=400):
    """Scores with many ties, and labels."""
    rng = np.random.default_rng(seed)
    label = (rng.random(count) < 0.3).astype(np.int64)
    score = (rng.normal(0.4 + 0.2 * label, 0.2).clip(0, 1) * 40).round() / 40
    return label, score.astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_of_largest_f1_is_that_of_trying_all(seed):
    label, score = coarse(seed)
    tried = {t: f1_score(label, score > t) for t in [0.0, *np.unique(score).tolist()]}
    chosen = f1_threshold(label, score)
    assert tried[chosen] == max(tried.values())
    assert chosen == max(t for t, value in tried.items() if value == tried[chosen])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [0.0, 0.05, 0.3, 0.99])
def test_the_threshold_of_a_bounded_fdr_is_the_lowest_that_keeps_it(seed, limit):
    label, score = coarse(seed)
    normal = score[label == 0]
    chosen = fdr_threshold(label, score, limit)
    assert (normal > chosen).mean() <= limit
    lower = np.unique(normal)[np.unique(normal) < chosen]
    assert not len(lower) or (normal > lower[-1]).mean() > limit


@pytest.mark.parametrize("rule", ["f1", "fdr:0.05", "alarms:20"])
@pytest.mark.parametrize("seed", range(3))
def test_a_rule_parts_the_samples_as_its_function_does_and_float32_holds_it(rule, seed):
    labels, score = case(seed, 8000)
    score = score.astype(np.float32)
    plain = {
        "f1": lambda: f1_threshold(labels.class_label, score),
        "fdr:0.05": lambda: fdr_threshold(labels.class_label, score, 0.05),
        "alarms:20": lambda: alarm_threshold(labels, score, alarms_per_hour=20),
    }[rule]()
    chosen = parse_rule(rule).threshold(labels, score)
    assert np.array_equal(score > chosen, score > plain)
    assert float(np.float32(chosen)) == chosen
    assert chosen > plain


def test_neighbouring_floats_and_the_highest_score_are_parted_too():
    score = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    labels = labels_of(np.array([0, 1]))
    assert (score > Rule("f1").threshold(labels, score)).tolist() == [False, True]
    assert Rule("fdr", 0.0).threshold(labels_of(np.array([0, 0])), np.array([0.2, 0.6])) == pytest.approx(0.8)
    assert Rule("fixed").threshold(labels, score) == 0.5


@pytest.mark.parametrize("text", ["f1", "fdr:0.05", "fdr:0", "alarms:1", "alarms:0.5", "fixed"])
def test_rules_are_read_as_they_are_written(text):
    assert str(parse_rule(text)) == text


@pytest.mark.parametrize("text", ["", "F2", "fdr", "fdr:", "fdr:x", "fdr:1", "fdr:-0.1", "fdr:nan", "alarms",
                                  "alarms:-1", "alarms:inf", "f1:0.5", "fixed:0.4"])  # fmt: skip
def test_other_rules_are_refused(text):
    with pytest.raises(InputError, match="rule: .*expected"):
        parse_rule(text)


def test_rules_that_need_a_class_refuse_without_it():
    with pytest.raises(InputError, match="f1: expected abnormal"):
        f1_threshold(np.zeros(3, int), np.zeros(3))
    with pytest.raises(InputError, match="fdr: expected normal"):
        fdr_threshold(np.ones(3, int), np.zeros(3))
