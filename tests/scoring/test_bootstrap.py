import numpy as np
import pytest
from scipy.stats import beta, kurtosis, norm, t

from fmfbench.errors import InputError
from fmfbench.scoring.bootstrap import (
    Blocks,
    block_sums,
    block_weights,
    correlation_seconds,
    cut_blocks,
    difference_interval,
    frame_seconds,
    proportion_interval,
)

FRAME = 40_000_000


def make_blocks(lengths=(10_000, 15_000), seconds=10.0, correlation=0.0):
    recording = np.repeat(np.arange(len(lengths)), lengths)
    times = np.concatenate([np.arange(length) for length in lengths]) * FRAME
    return recording, times, cut_blocks(recording, times, correlation, seconds)


def test_blocks_are_equal_spans_of_time_within_recordings():
    recording, _, blocks = make_blocks()
    assert len(blocks) == 40 + 60
    assert blocks.degrees == 98
    assert np.bincount(blocks.of_sample).tolist() == [250] * 100
    assert (blocks.recording[blocks.of_sample] == recording).all()
    assert blocks.duration == pytest.approx(1000)
    assert (np.diff(blocks.of_sample) >= 0).all()


def test_a_gap_leaves_blocks_out_not_empty():
    times = np.concatenate([np.arange(250), np.arange(2250, 2500)]) * FRAME
    blocks = cut_blocks(np.zeros(500, int), times, 0.0, 10.0)
    assert np.bincount(blocks.of_sample).tolist() == [250, 250]
    assert len(blocks) == 2


@pytest.mark.parametrize(
    ("lengths", "correlation", "seconds"),
    [
        ((1000, 1500), 0.0, 5.0),
        ((10_000, 15_000), 0.0, 20.0),
        ((10_000, 15_000), 4.0, 24.0),
        ((10_000, 15_000), 1000.0, 1000 / 6),
        ((1000,) * 25, 0.0, 1000 / 150),
    ],
    ids=["floor", "fifty blocks", "six times", "six left", "six a recording"],
)
def test_block_length_follows_the_correlation(lengths, correlation, seconds):
    blocks = make_blocks(lengths, seconds=None, correlation=correlation)[2]
    assert blocks.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("tau", [0.4, 2.0, 5.0])
def test_correlation_time_of_an_autoregression(tau):
    from scipy.signal import lfilter

    rng = np.random.default_rng(0)
    keep = np.exp(-0.04 / tau)
    recording, times, _ = make_blocks((40_000, 40_000))
    series = np.concatenate([lfilter([1], [1, -keep], rng.normal(size=40_000)) for _ in range(2)])
    assert correlation_seconds(series, recording, frame_seconds(recording, times)) == pytest.approx(
        tau, rel=0.25
    )


def test_correlation_of_nothing():
    recording, times, _ = make_blocks((500, 500))
    assert correlation_seconds(np.zeros(1000), recording, frame_seconds(recording, times)) == 0.0
    noise = np.random.default_rng(0).normal(size=1000)
    assert correlation_seconds(noise, recording, frame_seconds(recording, times)) < 0.04
    assert correlation_seconds(np.ones(1), np.zeros(1, int), 0.04) == 0.0


def test_sums_and_weights():
    _, _, blocks = make_blocks()
    values = np.random.default_rng(0).integers(0, 9, (25_000, 3))
    plain = [values[blocks.of_sample == b].sum(axis=0) for b in range(len(blocks))]
    np.testing.assert_array_equal(block_sums(blocks, values), plain)
    weights = block_weights(blocks, 500, seed=4)
    np.testing.assert_allclose(weights[:, :40].sum(axis=1), 40)
    np.testing.assert_allclose(weights[:, 40:].sum(axis=1), 60)
    np.testing.assert_array_equal(weights, block_weights(blocks, 500, seed=4))
    assert (weights != block_weights(blocks, 500, seed=5)).any()


@pytest.mark.parametrize("count", [3, 40])
def test_the_spread_of_a_mean_is_the_textbook_one_however_few_blocks(count):
    _, _, blocks = make_blocks((250 * count,))
    sums = np.random.default_rng(1).normal(size=(len(blocks), 1))
    means = (block_weights(blocks, 40_000) @ sums)[:, 0] / count
    assert means.std() == pytest.approx(sums.std(ddof=1) / count**0.5, rel=0.03)


def test_the_interval_is_korn_and_graubards():
    _, _, blocks = make_blocks(correlation=1.0)
    replicates = 0.9 + 0.02 * norm.ppf((np.arange(1000) + 0.5) / 1000)
    interval = proportion_interval(0.9, replicates, blocks)
    size = 0.9 * 0.1 / (replicates.var() / (1 - 0.1)) * (norm.ppf(0.975) / t.ppf(0.975, 98)) ** 2
    assert interval.low == pytest.approx(beta.ppf(0.025, 0.9 * size, 0.1 * size + 1))
    assert interval.high == pytest.approx(beta.ppf(0.975, 0.9 * size + 1, 0.1 * size))


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, True, False), (0.0, False, True)])
def test_nothing_wrong_is_not_certainty(value, low, high):
    _, _, blocks = make_blocks()
    interval = proportion_interval(value, np.full(100, value), blocks)
    size = 1000 / 32
    bound = 0.025 ** (1 / size)
    assert interval.low == pytest.approx(bound if low else 0.0)
    assert interval.high == pytest.approx(1 - bound if high else 1.0)


def test_never_narrower_than_single_frames_would_give():
    _, _, blocks = make_blocks()
    interval = proportion_interval(0.5, np.full(100, 0.5) + 1e-9 * np.arange(100), blocks)
    single = beta.ppf(0.025, 12_500, 12_501)
    assert interval.low <= single + 1e-12


def test_differences():
    _, _, blocks = make_blocks()
    replicates = 0.1 + 0.03 * norm.ppf((np.arange(1000) + 0.5) / 1000)
    interval = difference_interval(0.1, replicates, blocks)
    half = t.ppf(0.975, 98) * replicates.std()
    assert (interval.low, interval.high) == pytest.approx((0.1 - half, 0.1 + half))


def test_heavy_tails_of_few_blocks_cost_degrees_of_freedom():
    _, _, blocks = make_blocks()
    replicates = 0.1 + 0.03 * t.ppf((np.arange(1000) + 0.5) / 1000, 5)
    excess = kurtosis(replicates) - 2 * (24 / 1000) ** 0.5
    assert excess > 1
    degrees = 2 / (excess + 2 / 98)
    half = t.ppf(0.975, max(degrees, 2)) * replicates.std()
    interval = difference_interval(0.1, replicates, blocks)
    assert interval.high == pytest.approx(0.1 + half)


@pytest.mark.parametrize("function", [proportion_interval, difference_interval])
def test_too_little_to_say(function):
    few = Blocks(
        of_sample=np.array([0, 1]), recording=np.array([0, 0]), seconds=5.0, correlation=0.0, duration=10.0
    )
    assert function(0.5, np.array([0.4, 0.6]), few).as_dict()["reason"] == "only 2 blocks of 5.0 s"
    _, _, blocks = make_blocks()
    undefined = np.full(100, np.nan)
    undefined[:49] = 0.5
    assert function(0.5, undefined, blocks).reason == "undefined in most resamples"
    undefined[:51] = 0.5
    assert function(0.5, undefined, blocks).reason is None


def test_more_weights_than_memory_should_hold_are_refused():
    recording, time = np.zeros(3000, int), np.arange(3000) * 40_000_000
    blocks = cut_blocks(recording, time, 0.0, 0.01)
    assert len(blocks) == 3000
    assert block_weights(blocks, 20).shape == (20, 3000)
    with pytest.raises(InputError, match="got 10000 x 3000; ask for longer blocks"):
        block_weights(blocks, 10_000)


@pytest.mark.parametrize(("bearing", "degrees"), [(5, 4), (20, 19), (1000, 98), (None, 98)])
def test_no_more_degrees_than_blocks_that_bear_the_value(bearing, degrees):
    _, _, blocks = make_blocks()
    replicates = 0.9 + 0.02 * norm.ppf((np.arange(1000) + 0.5) / 1000)
    found = proportion_interval(0.9, replicates, blocks, bearing)
    size = 0.9 * 0.1 / replicates.var() * (norm.ppf(0.975) / t.ppf(0.975, degrees)) ** 2
    assert found.low == pytest.approx(beta.ppf(0.025, 0.9 * size, 0.1 * size + 1))


@pytest.mark.parametrize("bearing", [1, 4])
def test_too_few_episodes_have_no_interval(bearing):
    _, _, blocks = make_blocks()
    replicates = 0.9 + 0.02 * norm.ppf((np.arange(1000) + 0.5) / 1000)
    found = proportion_interval(0.9, replicates, blocks, bearing)
    assert found.low is None
    assert (
        found.reason
        == f"cannot be had: carried by {bearing} block{'s' * (bearing != 1)} of 10.0 s, expected at least 5"
    )


def test_none_at_all_has_the_one_sided_bound():
    _, _, blocks = make_blocks()
    assert proportion_interval(1.0, np.ones(100), blocks, 0) == proportion_interval(1.0, np.ones(100), blocks)


def test_no_samples_have_no_blocks():
    blocks = cut_blocks(np.empty(0, int), np.empty(0, int), 0.0, 10.0)
    assert len(blocks) == 0
    assert block_sums(blocks, np.zeros((0, 3), int)).shape == (0, 3)


def test_the_last_sample_is_in_the_last_block():
    for length in (7, 249, 250, 251, 1000):
        _, _, blocks = make_blocks((length,), seconds=0.28)
        assert len(blocks) == max(1, round(length * 0.04 / 0.28))
        assert blocks.of_sample[-1] == len(blocks) - 1


@pytest.mark.parametrize(
    ("spans", "correlation", "seconds", "apart", "count"),
    [
        ((400, 600, 1000), 4.0, None, True, 50),  # many blocks a recording
        ((400, 600, 1000), 60.0, None, False, 6),  # two: not kept apart
        ((200,) * 10, 3.0, None, True, 60),
        ((200,) * 10, 16.0, None, False, 10),  # each is a block
        ((200,) * 5, 16.0, None, False, 10),  # fewer than six recordings are cut
        ((200,) * 10, 16.0, 96.0, True, 20),  # as asked for
        ((600,), 60.0, None, True, 6),  # one recording has nobody to be kept apart from
    ],
)
def test_short_recordings_are_not_kept_apart(spans, correlation, seconds, apart, count):
    recording = np.repeat(np.arange(len(spans)), spans)
    time = np.concatenate([np.arange(n) for n in spans]) * 1_000_000_000
    blocks = cut_blocks(recording, time, correlation, seconds)
    assert len(blocks) == count
    groups = len(np.unique(blocks.recording))
    assert groups == (len(spans) if apart else 1)
    assert blocks.degrees == count - groups
    assert (np.diff(blocks.of_sample) >= 0).all()
    for block in range(len(blocks)):  # none across recordings
        assert len(np.unique(recording[blocks.of_sample == block])) == 1


def test_a_rate_has_the_gamma_interval_of_as_many_happenings_as_its_spread_leaves():
    from scipy.stats import chi2

    from fmfbench.scoring.bootstrap import rate_interval

    rng = np.random.default_rng(0)
    time = np.arange(20_000) * 1_000_000_000
    blocks = cut_blocks(np.zeros(20_000, int), time, 0.0, 100.0)
    held = 0
    for k in range(300):
        happened = rng.poisson(1.5, len(blocks))
        weights = block_weights(blocks, 200, k)
        interval = rate_interval(happened.sum(), 20_000 / 3600, weights @ happened / (20_000 / 3600), blocks,
                                 int((happened > 0).sum()))  # fmt: skip
        held += interval.low <= 1.5 * 36 <= interval.high
    assert 0.92 < held / 300 <= 0.99
    none = rate_interval(0, 2.0, np.zeros(200), blocks, 0)
    assert (none.low, none.high) == (0.0, pytest.approx(chi2.ppf(0.975, 2) / 2 / 2.0))
    few = rate_interval(4, 2.0, rng.random(200), blocks, 4)
    assert few.low is None
    assert "carried by 4 blocks" in few.reason


@pytest.mark.parametrize(("name", "column"), [("f1", 3), ("mdr", 3), ("fdr", 0)])
def test_what_was_right_in_few_blocks_of_a_class_promises_nothing(name, column):
    """A class that four blocks hold, judged without an error: no one-sided bound of the whole time."""
    from fmfbench.scoring.metrics import bearing_blocks

    sums = np.zeros((20, 8), int)
    sums[:, 3 - column] = 100  # all of the other class, right
    assert bearing_blocks(sums)["accuracy"] == 0
    for blocks in (0, 1, 4):
        sums[:blocks, column] = 50
        assert bearing_blocks(sums)[name] == 1
    sums[:5, column] = 50
    assert bearing_blocks(sums)[name] == 0


def test_a_mean_of_which_one_half_never_varies_has_no_interval():
    _, _, blocks = make_blocks((2000, 3000), seconds=10.0)
    drawn = np.random.default_rng(0).normal(0.4, 0.01, 200)
    assert proportion_interval(0.4, drawn, blocks, 0).low is None  # mIoU without a hit
    assert proportion_interval(0.4, drawn, blocks, 8).low is not None
