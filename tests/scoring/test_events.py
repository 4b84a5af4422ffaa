import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from fmfbench.scoring.events import event_intervals, event_metrics, match_events, segments

FRAME = 40_000_000


def brute_spells(active, recording, time, join):
    """Frame by frame, as one would say it."""
    found = []
    for row in range(len(active)):
        if not active[row]:
            continue
        if (
            found
            and recording[found[-1][1]] == recording[row]
            and time[row] - time[found[-1][1]] < join * 1e9
        ):
            found[-1][1] = row
        else:
            found.append([row, row])
    return found


def random_case(seed, count=400):
    rng = np.random.default_rng(seed)
    recording = np.sort(rng.integers(0, 3, count))
    steps = np.where(rng.random(count) < 0.02, rng.integers(10, 60, count), 1) * FRAME
    label, decision = (
        (np.convolve(rng.normal(size=count), np.ones(15), "same") > 4).astype(int) for _ in "ab"
    )
    return label, decision, recording, np.cumsum(steps)


def test_neighbours_of_the_per_second_set_join():
    """Samples 0.96 to 1.04 s apart: a run of them is one event, two runs with a normal one between are two."""
    time = np.cumsum(np.random.default_rng(0).integers(24, 27, 60)) * FRAME
    label = np.zeros(60, int)
    label[10:20] = label[21:30] = 1
    found = match_events(label, label, np.zeros(60, int), time)
    assert found.events.tolist() == [[10, 19], [21, 29]]
    time[15:] += 2_000_000_000  # no samples for 3 s
    assert len(match_events(label, label, np.zeros(60, int), time).events) == 3


@pytest.mark.parametrize("seed", range(20))
def test_against_a_slow_definition(seed):
    label, decision, recording, time = random_case(seed)
    events = brute_spells(label, recording, time, 1.0)
    alarms = brute_spells(decision, recording, time, 2.0)
    found = match_events(label, decision, recording, time)
    assert found.events.tolist() == events
    assert found.alarms.tolist() == alarms

    def touch(event, alarm):
        return (
            recording[event[0]] == recording[alarm[0]]
            and time[alarm[0]] <= time[event[1]]
            and time[event[0]] <= time[alarm[1]]
        )

    delays = [
        min((max(time[a[0]] - time[e[0]], 0) / 1e9 for a in alarms if touch(e, a)), default=np.nan)
        for e in events
    ]
    np.testing.assert_allclose(found.delay, delays)
    false = [not any(touch(e, a) for e in events) for a in alarms]
    assert found.false_alarm.tolist() == false
    values, _ = event_metrics(found)
    hours = (label == 0).sum() * 0.04 / 3600
    assert values["normal_hours"] == pytest.approx(hours)
    assert values["false_alarms_per_hour"] == pytest.approx(sum(false) / hours)
    assert found.unit_false_alarms.sum() == sum(false)
    assert len(np.unique(found.unit_of_event)) == len(events)


@pytest.mark.parametrize(("normal_frames", "joined"), [(23, True), (24, False)])
def test_events_join_below_one_second(normal_frames, joined):
    label = np.array([1, *[0] * normal_frames, 1])
    time = np.arange(len(label)) * FRAME
    assert len(segments(label == 1, np.zeros(len(label), int), time, 1.0)) == (1 if joined else 2)


@pytest.mark.parametrize(("quiet_frames", "alarms"), [(48, 1), (49, 2)])
def test_alarms_are_held_for_two_seconds(quiet_frames, alarms):
    decision = np.array([1, *[0] * quiet_frames, 1])
    zero = np.zeros_like(decision)
    found = match_events(zero, decision, zero, np.arange(len(decision)) * FRAME)
    assert len(found.alarms) == alarms == found.false_alarm.sum()


def test_delay_and_recall_by_hand():
    label, decision = np.zeros(500, int), np.zeros(500, int)
    label[100:150] = label[300:350] = 1
    decision[110:120] = decision[400:410] = 1
    found = match_events(label, decision, np.zeros(500, int), np.arange(500) * FRAME)
    values, reasons = event_metrics(found)
    assert values["event_recall"] == 0.5
    assert values["delay_median_s"] == pytest.approx(0.4)
    assert (values["alarms"], values["false_alarms"]) == (2, 1)
    assert values["false_alarms_per_hour"] == pytest.approx(1 / (400 * 0.04 / 3600))
    assert not reasons


def test_nothing_to_detect_and_nothing_detected():
    zero, one = np.zeros(10, int), np.ones(10, int)
    time = np.arange(10) * FRAME
    values, reasons = event_metrics(match_events(zero, zero, zero, time))
    assert values["event_recall"] is None
    assert set(reasons) == {"event_recall", "delay_median_s", "delay_p95_s"}
    values, reasons = event_metrics(match_events(one, one, zero, time))
    assert values["event_recall"] == 1.0
    assert set(reasons) == {"false_alarms_per_hour"}
    empty = np.empty(0, int)
    values, reasons = event_metrics(match_events(empty, empty, empty, empty))
    assert len(reasons) == 4


def test_intervals_resample_whole_events():
    label, decision, recording, time = random_case(3, 4000)
    found = match_events(label, decision, recording, time)
    intervals = event_intervals(found, 500, seed=1)
    values, _ = event_metrics(found)
    for name, interval in intervals.items():
        assert interval["low"] <= values[name] <= interval["high"]
        assert interval["low"] < interval["high"]
    assert intervals == event_intervals(found, 500, seed=1)
    # the recall's spread is the binomial one
    recall, count = values["event_recall"], values["events"]
    half = 1.96 * np.sqrt(recall * (1 - recall) / count)
    interval = intervals["event_recall"]
    assert interval["high"] - interval["low"] == pytest.approx(2 * half, rel=0.25)


def test_few_events_have_no_interval():
    label, decision, recording, time = random_case(3, 60)
    assert event_intervals(match_events(label, decision, recording, time))["event_recall"]["low"] is None


@pytest.mark.parametrize("hit", [True, False])
def test_all_or_none_found_is_not_certainty(hit):
    label = np.tile(np.repeat([0, 1], 50), 8)
    decision = label if hit else np.zeros_like(label)
    time = np.arange(len(label)) * FRAME
    intervals = event_intervals(match_events(label, decision, np.zeros_like(label), time), 200)
    recall = intervals["event_recall"]
    low, high = binomtest(8 if hit else 0, 8).proportion_ci(method="exact")
    assert (recall["low"], recall["high"]) == pytest.approx((low, high))
    hours = (label == 0).sum() * 0.04 / 3600
    assert intervals["false_alarms_per_hour"]["high"] == pytest.approx(chi2.ppf(0.975, 2) / 2 / hours)
