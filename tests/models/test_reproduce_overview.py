"""Pictures of all rows and of all curves: what is drawn is what the documents say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fmfbench_models.reproduce import overview
from fmfbench_models.reproduce.overview import draw_curves, draw_rows


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, whose axes tell what is on them."""
    figures = []
    real = overview.png

    def keeps(figure):
        figures.append(figure)
        return real(figure)

    monkeypatch.setattr(overview, "png", keeps)
    return figures


def cell(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def row(name, inputs, accuracy, miou=None, *, seeds=(), status="done"):
    per_seed = {str(k): {"metrics": {"accuracy": a, "miou": m}} for k, (a, m) in enumerate(seeds)}
    metrics = {"accuracy": accuracy, "miou": cell(None) if miou is None else miou}
    return {"name": name, "label": name.title(), "inputs": inputs, "status": status, "metrics": metrics,
            "per_seed": per_seed}  # fmt: skip


def document(rows, worlds=None):
    floor = {
        "always abnormal": {"accuracy": 0.53, "miou": None},
        "always normal": {"accuracy": 0.47, "miou": 0.497},
        "last-second persistence": {"accuracy": 0.98, "miou": 0.91},
    }
    return {"title": "Table II", "notice": "SIMULATED DATA", "rows": rows, "worlds": worlds, "floor": floor}


def test_rows_stand_by_accuracy_with_their_intervals_seeds_and_lost_sensors(drawn):
    rows = [
        row(
            "video", "visual", cell(0.8, 0.7, 0.9), cell(0.7, 0.65, 0.75), seeds=[(0.82, 0.71), (0.78, 0.69)]
        ),
        row("phases", "current", cell(0.6)),
        row("waiting", "both", cell(None), status="to do"),
        row("fused", "both", cell(0.9, 0.85, 0.95), cell(0.72)),
    ]
    left = {"metrics": {"accuracy": cell(0.55), "miou": cell(None)}}
    worlds = {
        "rows": [{"name": "fused", "worlds": {"video-missing": left, "current-missing": {"metrics": {}}}}]
    }
    image = cv2.imdecode(np.frombuffer(draw_rows(document(rows, worlds)), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] != image.shape[1]
    (figure,) = drawn
    accuracy, miou = figure.axes
    assert [text.get_text() for text in accuracy.get_yticklabels()] == ["Phases", "Video", "Fused"]
    points = {
        (line.get_marker(), round(float(x), 3), int(y))
        for line in accuracy.lines
        if line.get_marker() != "None"
        for x, y in line.get_xydata()
    }
    assert points == {
        ("o", 0.6, 0),
        ("o", 0.8, 1),
        (".", 0.82, 1),
        (".", 0.78, 1),
        ("o", 0.9, 2),
        ("v", 0.55, 2),
    }
    bars = {tuple(line.get_xdata()) for line in accuracy.lines if line.get_marker() == "None"}
    assert bars == {(0.7, 0.9), (0.85, 0.95), (0.53, 0.53)}  # the last is the best without a model
    assert {round(float(line.get_xdata()[0]), 3) for line in miou.lines if line.get_marker() == "o"} == {
        0.7,
        0.72,
    }
    assert "SIMULATED DATA" in figure.get_suptitle()


def test_nothing_made_is_no_picture():
    assert draw_rows(document([row("waiting", "both", cell(None), status="to do")])) is None
    assert draw_curves([]) is None


@pytest.mark.parametrize("count", [1, 5, 6, 7, 13])
def test_every_curve_has_a_panel(count, drawn):
    losses = [[float(value) for value in np.random.default_rng(k).random(1 + 3 * k)] for k in range(count)]
    curves = [
        {
            "training": f"model-{k}",
            "losses": own,
            "flattened": [None, True, False][k % 3],
            "last_quarter": share,
        }
        for k, (own, share) in enumerate(zip(losses, [None, 0.04, 0.3] * count, strict=False))
    ]
    assert cv2.imdecode(np.frombuffer(draw_curves(curves), np.uint8), cv2.IMREAD_COLOR) is not None
    shown = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert [axes.lines[0].get_ydata().tolist() for axes in shown] == losses
    assert [axes.get_title().split("\n")[0] for axes in shown] == [f"model-{k}" for k in range(count)]
    assert "last quarter 4 %" in shown[1].get_title() if count > 1 else "quarter" not in shown[0].get_title()
