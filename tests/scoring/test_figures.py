"""Figures with their intervals, or the reason why there is none."""

from itertools import cycle

import numpy as np
import pytest
from scipy.stats import beta

from fmfbench.scoring.bootstrap import cut_blocks
from fmfbench.scoring.events import match_events
from fmfbench.scoring.figures import count_figures, event_figures
from fmfbench.scoring.metrics import COUNT_METRICS

VALUES = dict(zip(COUNT_METRICS, cycle((0.5, 0.25, 0.75)), strict=False)) | {COUNT_METRICS[-1]: None}


def blocks():
    """Twenty blocks of ten seconds, one recording."""
    return cut_blocks(np.zeros(5000, int), np.arange(5000) * 40_000_000, 0.0, 10.0)


def replicates(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0.5, 0.05, 400) for name in COUNT_METRICS}


def test_figures_of_counts_have_intervals_where_they_were_asked_for():
    found = count_figures(VALUES, {COUNT_METRICS[-1]: "no masks"}, replicates(), blocks())
    assert [figure.name for figure in found] == list(COUNT_METRICS)
    for figure in found[:-1]:
        assert figure.low is not None
        assert figure.low < figure.value < figure.high or figure.value in (0.25, 0.75)
        assert figure.reason is None
    assert (found[-1].value, found[-1].low, found[-1].reason) == (None, None, "no masks")


@pytest.mark.parametrize(("with_replicates", "with_blocks"), [(False, False), (True, False), (False, True)])
def test_without_resamples_there_is_a_reason_in_the_place_of_an_interval(with_replicates, with_blocks):
    found = count_figures(
        VALUES, {}, replicates() if with_replicates else None, blocks() if with_blocks else None
    )
    assert all(f.low is None and f.reason == "no intervals were asked for" for f in found[:-1])
    assert (found[-1].value, found[-1].reason) == (None, "undefined")


def test_blocks_that_do_not_bear_on_a_metric_do_not_count_for_it():
    bearing = dict.fromkeys(COUNT_METRICS, 20) | {"fdr": 1}
    found = {f.name: f for f in count_figures(VALUES, {}, replicates(), blocks(), bearing)}
    assert found["fdr"].low is None
    assert found["fdr"].reason
    assert found["mdr"].low is not None


def events(decision):
    """Eight events of four seconds, twenty seconds apart, judged by `decision` (N,)."""
    label = (np.arange(8 * 600) % 600 >= 500).astype(np.int64)
    return match_events(label, decision, np.zeros(len(label), int), np.arange(len(label)) * 40_000_000)


@pytest.mark.parametrize("always", [False, True])
def test_where_resampling_cannot_vary_the_exact_bound_stands(always):
    """A detector that never or always speaks: Clopper and Pearson's one-sided bound of so many trials."""
    found = events(np.full(4800, int(always), np.uint8))
    figures = {figure.name: figure for figure in event_figures(found, resamples=50)}
    for name, trials in (
        ("event_recall", 8),
        ("alarm_time_normal", int((found.unit_normal_hours > 0).sum())),
    ):
        bound = beta.ppf(0.025, trials, 1)  # of `trials` successes in as many
        figure = figures[name]
        assert (figure.value, figure.low, figure.high) == (
            (1.0, pytest.approx(bound), 1.0) if always else (0.0, 0.0, pytest.approx(1 - bound))
        )
