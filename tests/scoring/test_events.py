import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from fmfbench.scoring.events import _units, match_events, segments
from fmfbench.scoring.figures import event_figures
from fmfbench.scoring.metrics import EVENT_METRICS

FRAME = 40_000_000


def figures(found, resamples=200, seed=0):
    return {figure.name: figure for figure in event_figures(found, resamples, seed)}


def values_of(found):
    return {name: figure.value for name, figure in figures(found, 20).items()}


def brute_segments(active, recording, time, join):
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


def brute_stretches(events, recording, time):
    """Lists of rows of normal time: between events, cut at gaps of 2 s, 2 s left out beside an event."""
    inside = {row for first, last in events for row in range(first, last + 1)}
    runs, run = [], []
    for row in range(len(time)):
        linked = row > 0 and recording[row] == recording[row - 1] and time[row] - time[row - 1] < 2e9
        if row in inside or not linked:
            runs += [run] if run else []
            run = []
        if row not in inside:
            run.append(row)
    runs += [run] if run else []
    kept = []
    for run in runs:
        before, after = run[0] - 1, run[-1] + 1
        starts = (
            before in inside and recording[before] == recording[run[0]] and time[run[0]] - time[before] < 2e9
        )
        ends = (
            after in inside and recording[after] == recording[run[-1]] and time[after] - time[run[-1]] < 2e9
        )
        kept.append([
            row
            for row in run
            if not (starts and time[row] - time[run[0]] < 2e9) and not (ends and time[run[-1]] - time[row] < 2e9)
        ])  # fmt: skip
    return kept


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


@pytest.mark.parametrize("count", [400, 3000])
@pytest.mark.parametrize("seed", range(20))
def test_against_a_slow_definition(seed, count):
    label, decision, recording, time = random_case(seed, count)
    events = brute_segments(label, recording, time, 1.0)
    found = match_events(label, decision, recording, time)
    assert found.events.tolist() == events
    assert found.alarms.tolist() == brute_segments(decision, recording, time, 2.0)
    delays = [
        next(((time[row] - time[a]) / 1e9 for row in range(a, b + 1) if decision[row]), np.nan)
        for a, b in events
    ]
    np.testing.assert_allclose(found.delay, delays)
    stretches = brute_stretches(events, recording, time)
    false = normal = alarm = 0
    for rows in stretches:
        normal += len(rows)
        alarm += sum(decision[row] for row in rows)
        on = np.zeros(len(time), int)
        on[[row for row in rows if decision[row]]] = 1
        for a, b in brute_segments(on, recording, time, 2.0):
            false += 1 + int((time[b] - time[a]) / 1e9 // 10)
    assert found.false_counts.sum() == false == found.unit_false_alarms.sum()
    assert found.unit_normal_hours.sum() == pytest.approx(normal * 0.04 / 3600)
    values = values_of(found)
    if normal:
        assert values["false_alarms_per_hour"] == pytest.approx(false / (normal * 0.04 / 3600))
        assert values["alarm_time_normal"] == pytest.approx(alarm / normal)
    else:
        assert values["false_alarms_per_hour"] is values["alarm_time_normal"] is None
    detected = [d for d in delays if not np.isnan(d)]
    if events:
        assert values["event_recall"] == pytest.approx(len(detected) / len(events))
    if detected:
        assert values["delay_median_s"] == pytest.approx(np.median(detected))
        assert values["delay_p95_s"] == pytest.approx(np.quantile(detected, 0.95))
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
    assert len(found.alarms) == alarms == found.false_counts.sum()


def two_events():
    """100 s at 25 frames a second: events at 20 to 29.96 s and 60 to 69.96 s.

    Normal stretches without the 2 s beside events: 0 to 17.96 s, 32 to 57.96 s, 72 to 99.96 s; 450, 650 and 700
    frames, 72 s in all.
    """
    label = np.zeros(2500, int)
    label[500:750] = label[1500:1750] = 1
    return label, np.zeros(2500, int), np.arange(2500) * FRAME


def detector(kind, label):
    decision = np.zeros_like(label)
    match kind:
        case "always on":
            decision[:] = 1
        case "never on":
            pass
        case "perfect":
            decision[:] = label
        case "late":  # 4 s late, and 1.6 s too long, which is within the hold time
            decision[600:790] = decision[1600:1790] = 1
        case "noisy":  # one frame in every 2.04 s
            decision[::51] = 1
        case "early":  # begins 6 s before each onset, so 4 s of it lie in a normal stretch
            decision[350:750] = decision[1350:1750] = 1
    return decision


# kind: events detected, median delay, false alarms, share of normal time
BY_HAND = {
    # alarms of 17.96, 25.96 and 27.96 s inside the stretches count 2, 3 and 3
    "always on": (2, 0.0, 2 + 3 + 3, 1.0),
    "never on": (0, None, 0, 0.0),
    "perfect": (2, 0.0, 0, 0.0),
    "late": (2, 4.0, 0, 0.0),
    # frames 0, 51, ...: 9 below 450; 816 to 1428 are 13; 1836 to 2499 are 14. First after 500: 510 (0.4 s), after
    # 1500: 1530 (1.2 s)
    "noisy": (2, 0.8, 9 + 13 + 14, 36 / 1800),
    # 350 to 449 and 1350 to 1449, 3.96 s each
    "early": (2, 0.0, 2, 200 / 1800),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_detectors_counted_by_hand(kind):
    label, zero, time = two_events()
    detected, delay, false, share = BY_HAND[kind]
    found = match_events(label, detector(kind, label), zero, time)
    assert int(np.isfinite(found.delay).sum()) == detected
    assert int(found.false_counts.sum()) == false
    assert found.unit_normal_hours.sum() == pytest.approx(72 / 3600)
    values = values_of(found)
    assert values["event_recall"] == detected / 2
    assert values["delay_median_s"] == (None if delay is None else pytest.approx(delay))
    assert values["false_alarms_per_hour"] == pytest.approx(false / 0.02)
    assert values["alarm_time_normal"] == pytest.approx(share)


def test_an_alarm_that_never_stops_is_no_longer_perfect():
    label, zero, time = two_events()
    on = figures(match_events(label, np.ones_like(label), zero, time))
    assert on["event_recall"].value == 1.0
    assert on["alarm_time_normal"].value == 1.0
    assert on["false_alarms_per_hour"].value == pytest.approx(400)


@pytest.mark.parametrize(("frames", "count"), [(250, 1), (251, 2), (500, 2), (501, 3)])
def test_a_long_alarm_counts_again_every_ten_seconds(frames, count):
    decision = np.zeros(1000, int)
    decision[100 : 100 + frames] = 1
    zero = np.zeros_like(decision)
    assert match_events(zero, decision, zero, np.arange(1000) * FRAME).false_counts.tolist() == [count]


@pytest.mark.parametrize(("gap", "touching"), [(1_920_000_000, True), (1_960_000_000, False)])
def test_a_stretch_after_a_gap_does_not_touch_the_event_before(gap, touching):
    label = np.zeros(200, int)
    label[:50] = 1
    time = np.arange(200) * FRAME
    time[50:] += gap
    found = match_events(label, np.zeros_like(label), np.zeros_like(label), time)
    kept = 150 - 50 * touching
    assert found.unit_normal_hours.sum() == pytest.approx(kept * 0.04 / 3600)


def test_a_short_stretch_between_events_is_no_normal_time():
    label = np.ones(300, int)
    label[100:199] = 0  # 3.96 s, all within 2 s of an event
    zero = np.zeros_like(label)
    found = match_events(label, np.ones_like(label), zero, np.arange(300) * FRAME)
    assert len(found.events) == 2
    assert not found.unit_normal_hours.any()
    values = values_of(found)
    assert values["alarm_time_normal"] is None
    assert values["false_alarms_per_hour"] is None


def test_nothing_to_detect_and_nothing_detected():
    zero, one = np.zeros(10, int), np.ones(10, int)
    time = np.arange(10) * FRAME
    undefined = {n for n, f in figures(match_events(zero, zero, zero, time)).items() if f.value is None}
    assert undefined == {"event_recall", "delay_median_s", "delay_p95_s"}
    found = figures(match_events(one, one, zero, time))
    assert found["event_recall"].value == 1.0
    assert {n for n, f in found.items() if f.value is None} == {"false_alarms_per_hour", "alarm_time_normal"}
    assert all(f.reason for f in found.values() if f.value is None)
    empty = np.empty(0, int)
    found = figures(match_events(empty, empty, empty, empty))
    assert all(figure.value is None for figure in found.values())
    assert tuple(found) == EVENT_METRICS


def test_intervals_without_blocks_resample_whole_events():
    label, decision, recording, time = random_case(3, 4000)
    found = match_events(label, decision, recording, time)
    first = figures(found, 500, seed=1)
    assert first == figures(found, 500, seed=1)
    for name, figure in first.items():
        if name != "delay_p95_s":
            assert figure.low <= figure.value <= figure.high, name
            assert figure.low < figure.high
    # the recall's spread is the binomial one
    recall, count = first["event_recall"].value, len(found.events)
    half = 1.96 * np.sqrt(recall * (1 - recall) / count)
    width = first["event_recall"].high - first["event_recall"].low
    assert width == pytest.approx(2 * half, rel=0.25)


@pytest.mark.parametrize(("count", "level"), [(72, 0.95), (400, 0.95), (72, 0.5), (2000, 0.95)])
def test_the_late_delay_has_the_interval_of_its_order_statistics(count, level):
    """In at least 95 of 100 samples, whatever the distribution, two order statistics hold the quantile."""
    from fmfbench.scoring.figures import order_interval

    rng = np.random.default_rng(count)
    held = 0
    for _ in range(600):
        interval = order_interval(rng.exponential(size=count), level)
        held += interval.low <= -np.log(1 - level) <= interval.high
    assert held / 600 > 0.935
    few = order_interval(rng.exponential(size=71), 0.95)
    assert (few.low, few.high) == (None, None)
    assert "71 detected events, expected at least 72" in few.reason


def test_rates_are_counted_by_block_of_time():
    from fmfbench.scoring.bootstrap import block_weights, cut_blocks

    label, decision, recording, time = random_case(3, 4000)
    found = match_events(label, decision, recording, time)
    blocks = cut_blocks(recording, time, 0.2)
    weights = block_weights(blocks, 500)
    known = {f.name: f for f in event_figures(found, 500, 0, blocks, weights)}
    plain = figures(found, 500)
    for name, figure in known.items():
        assert figure.value == plain[name].value
        assert name == "delay_p95_s" or figure.low <= figure.value <= figure.high, name
    # by hand: what is in each block, drawn by the same weights
    hours = np.array([found.normal[blocks.of_sample == b].sum() for b in range(len(blocks))]) * 0.04 / 3600
    alarms = np.zeros(len(blocks))
    for (start, _), count in zip(found.false_spans, found.false_counts, strict=True):
        alarms[blocks.of_sample[start]] += count
    assert alarms.sum() / hours.sum() == pytest.approx(known["false_alarms_per_hour"].value)
    drawn = (weights @ alarms) / (weights @ hours)
    spread = drawn.std() / np.sqrt(1 - min(blocks.correlation / blocks.seconds, 0.5))
    figure = known["false_alarms_per_hour"]
    assert 1.9 < (figure.high - figure.low) / 2 / spread < 3.2  # a t quantile of few blocks


def test_few_events_have_no_interval():
    label, decision, recording, time = random_case(3, 60)
    figure = figures(match_events(label, decision, recording, time))["event_recall"]
    assert figure.low is None
    assert figure.value is None or "expected at least 5" in figure.reason


@pytest.mark.parametrize("hit", [True, False])
def test_all_or_none_found_is_not_certainty(hit):
    label = np.tile(np.repeat([0, 1], 250), 8)
    decision = label if hit else np.zeros_like(label)
    time = np.arange(len(label)) * FRAME
    found = figures(match_events(label, decision, np.zeros_like(label), time))
    low, high = binomtest(8 if hit else 0, 8).proportion_ci(method="exact")
    assert (found["event_recall"].low, found["event_recall"].high) == pytest.approx((low, high))
    hours = (200 + 7 * 150) * 0.04 / 3600  # 2 s beside each event left out
    assert found["false_alarms_per_hour"].high == pytest.approx(chi2.ppf(0.975, 2) / 2 / hours)
    assert found["alarm_time_normal"].low == 0.0
    assert found["alarm_time_normal"].high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_units_count_from_0_and_end_with_their_events():
    recording = np.array([0] * 6 + [1] * 5)
    events = np.array([[1, 2], [4, 4], [7, 8]])
    assert _units(events, recording).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
