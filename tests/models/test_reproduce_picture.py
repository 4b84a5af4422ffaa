"""Fig. 6 as a picture: what it shows of whole, partial and failed work."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from fmfbench_models.reproduce.experiment import load_experiment
from fmfbench_models.reproduce.picture import draw_lengths, draw_metric, footnotes, sorted_rows

METRICS = ("accuracy", "f1", "fdr", "mdr", "miou")


def row(name, of, seconds, status="done", value=0.8, dense=True, errors=()):
    def cell(metric):
        known = status == "done" and (dense or metric != "miou")
        return (
            {"value": value, "low": value - 0.05, "high": value + 0.1}
            if known
            else dict.fromkeys(("value", "low", "high"))
        )

    return {
        "name": name,
        "label": f"{of} {seconds:g} s",
        "status": status,
        "length": {"of": of, "seconds": seconds},
        "metrics": {metric: cell(metric) for metric in METRICS},
        "errors": dict(enumerate(errors)),
    }


def document(rows, simulated=True):
    return {
        "title": "Fig. 6, FmFormer on windows of other lengths: full size, store furnace",
        "notice": "SIMULATED DATA",
        "data": {"simulated": simulated, "test_samples": 50},
        "sample_set": "every frame",
        "rows": rows,
        "reference": load_experiment("fig6").reference,
        "trained_lengths": {"video": 1.44, "current": 220.0},
    }


PARTIAL = [
    row("c", "video", 3.04),
    row("a", "video", 0.16, value=0.6),
    row("b", "video", 1.44, "failed", errors=["CUDA out of memory", "CUDA out of memory"]),
    row("d", "video", 0.8, value=0.7),
    row("e", "current", 20.0, "to do"),
    row("f", "current", 220.0, "failed", errors=["CUDA out of memory"]),
]


def test_a_failed_length_is_a_gap_and_intervals_are_bands():
    axes = Figure().subplots()
    draw_metric(axes, sorted_rows(PARTIAL, "video"), "accuracy")
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [0.16, 0.8, 1.44, 3.04])
    np.testing.assert_array_equal(line.get_ydata(), [0.6, 0.7, math.nan, 0.8])
    band = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.55, 0.9))
    assert 1.44 not in band[:, 0]


def test_what_failed_and_what_is_not_made_is_named_once():
    found = document(PARTIAL)
    notes = footnotes(found, {of: sorted_rows(PARTIAL, of) for of in ("video", "current")})
    assert notes[0] == "SIMULATED DATA"
    assert "FAILED: video 1.44 s, current 220 s: CUDA out of memory" in notes
    assert "Not made: current 20 s." in notes
    assert any("Table II" in note and note.endswith("on the real recordings.") for note in notes)
    real = footnotes(document(PARTIAL[:1], simulated=False), {"video": PARTIAL[:1], "current": []})
    assert not any("SIMULATED" in note or "FAILED" in note or "Not made" in note for note in real)


@pytest.mark.parametrize(
    ("rows", "panels"),
    [
        (PARTIAL, 3),
        ([row("a", "video", 1.0, dense=False), row("b", "current", 20.0, dense=False)], 2),
        ([row("a", "video", 1.0, "to do"), row("b", "current", 20.0, "to do")], 2),
    ],
)
def test_a_picture_is_drawn_of_whatever_there_is(rows, panels, monkeypatch):
    seen = []
    real = Figure.subplots

    def counted(self, lines, columns, **keywords):
        seen.append((lines, columns))
        return real(self, lines, columns, **keywords)

    monkeypatch.setattr(Figure, "subplots", counted)
    contents = draw_lengths(document(rows))
    assert seen == [(panels, 2)]
    image = imread(io.BytesIO(contents), format="png")
    assert image.shape[0] > 400
    assert image.shape[1] > 1000
    assert contents == draw_lengths(document(rows))  # nothing of the hour in it


def test_the_papers_figures_of_the_chosen_lengths_are_table_twos():
    reference = dict(load_experiment("fig6").reference)
    (own,) = [row for row in load_experiment("table2").rows if row.name == "fmformer"]
    assert {name: reference[name] for name in reference if name in METRICS} == {
        name: value for name, value in own.paper.items() if name != "f1"
    }
    assert load_experiment("fig6").is_figure
    assert not any(load_experiment(f"table{i}").is_figure for i in (2, 3, 4, 5))
