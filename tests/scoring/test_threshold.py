"""A threshold chosen by alarms is bounded in number and in time."""

from __future__ import annotations

import numpy as np
import pytest

from fmfbench.errors import InputError
from fmfbench.exchange.labels import Labels
from fmfbench.scoring.events import match_events
from fmfbench.scoring.figures import event_figures
from fmfbench.scoring.threshold import alarm_threshold

FRAME = 40_000_000


def labels_of(label):
    count = len(label)
    return Labels(
        sample_id=np.arange(count),
        recording=np.zeros(count, np.int64),
        frame=np.arange(count),
        frame_time=np.arange(count) * FRAME,
        split=np.ones(count, np.uint8),
        class_label=label.astype(np.uint8),
        mask_bits=None,
        mask_shape=(2, 3),
        recordings=("a",),
        fingerprint="x",
    )


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
    with pytest.raises(InputError, match="normal time"):
        alarm_threshold(labels_of(np.ones(100)), np.linspace(0, 1, 100))
